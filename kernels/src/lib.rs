//! SIMD kernels for Transformer inference and training on the CPU.

mod activation;
mod attention;
mod elementwise;
mod embedding;
mod layer_norm;
mod level;
mod math;
mod matrix;
mod parallel;
mod peak;
mod pool;
mod rows;
mod simd;
mod softmax;

pub mod gemm;
#[cfg(any(test, feature = "testing"))]
pub mod reference;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use activation::Activation;
pub use attention::{Attention, AttentionScratch, Mask};
pub use elementwise::{add, l2_normalize, scale, sum_of_squares};
pub use embedding::{Lookup, embedding_sum, gather};
pub use gemm::{Epilogue, PackedMatrix, matmul};
pub use layer_norm::{add_layer_norm, layer_norm, layer_norm_in_place};
pub use level::{LEVEL_VARIABLE, Level, UnknownLevel};
pub use matrix::{Element, InvalidSegments, Mat, MatMut, Matrix, Segments};
pub use parallel::share_rows;
pub use peak::fma_peak;
pub use pool::{max_rows, mean_rows};
pub use softmax::{log_softmax, softmax};
