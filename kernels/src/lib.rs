//! SIMD kernels for Transformer inference and training on the CPU.

mod layer_norm;
mod level;
mod math;
mod matrix;
mod rows;
mod simd;
mod softmax;

pub mod gemm;
#[cfg(any(test, feature = "testing"))]
pub mod reference;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use layer_norm::{add_layer_norm, layer_norm};
pub use level::{LEVEL_VARIABLE, Level, UnknownLevel};
pub use matrix::{Element, InvalidSegments, Mat, MatMut, Matrix, Segments};
pub use softmax::{log_softmax, softmax};
