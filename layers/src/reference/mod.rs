//! The executable specification: every layer naive, in f64, each short enough to be obviously
//! right; behind the feature `testing`.
//!
//! Parameters are plain `Matrix<f64>` and `Vec<f64>`, so that a test can move any one of them and
//! take central differences. `to_layer` is the way to the layer that is tested: it rounds the
//! parameters to f32, without loss if they were f32 before.
//!
//! One attention serves both layers: [`MultiHeadAttention`] of x and x, or of x and a memory.

mod attention;
mod embedding;
mod feed_forward;
mod layer_norm;
mod linear;
mod positional;

pub use attention::MultiHeadAttention;
pub use embedding::{BertEmbeddings, TransformerEmbeddings};
pub use feed_forward::{FeedForward, activate};
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use positional::sinusoidal;

use ferrite_kernels::Matrix;

/// The numbers of `x`, rounded to f32.
pub fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&x| x as f32).collect()
}

/// The matrix `x`, rounded to f32.
pub fn narrow_matrix(x: &Matrix<f64>) -> Matrix<f32> {
    Matrix::from_fn(x.rows(), x.cols(), |row, col| x.row(row)[col] as f32)
}

/// x + y.
///
/// # Panics
/// If the shapes differ.
pub fn sum(x: &Matrix<f64>, y: &Matrix<f64>) -> Matrix<f64> {
    assert_eq!(x.shape(), y.shape(), "shapes of the summands");
    Matrix::from_fn(x.rows(), x.cols(), |row, col| x.row(row)[col] + y.row(row)[col])
}
