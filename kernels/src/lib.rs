//! SIMD kernels for Transformer inference and training on the CPU.

mod level;
mod matrix;
mod simd;

pub mod gemm;

pub use level::{LEVEL_VARIABLE, Level, UnknownLevel};
pub use matrix::{Element, InvalidSegments, Mat, MatMut, Matrix, Segments};
