//! SIMD kernels for Transformer inference and training on the CPU.

mod activation;
mod embedding;
mod layer_norm;
mod level;
mod math;
mod matrix;
mod pool;
mod rows;
mod simd;
mod softmax;

pub mod elementwise;
pub mod gemm;
#[cfg(any(test, feature = "testing"))]
pub mod reference;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use activation::Activation;
pub use embedding::{Lookup, embedding_sum, gather};
pub use layer_norm::{add_layer_norm, layer_norm};
pub use level::{LEVEL_VARIABLE, Level, UnknownLevel};
pub use matrix::{Element, InvalidSegments, Mat, MatMut, Matrix, Segments};
pub use pool::{max_rows, mean_rows};
pub use softmax::{log_softmax, softmax};
