//! The executable specification: every kernel naive, scalar and in f64, each short enough to be
//! obviously right; behind the feature `testing`.
//!
//! Numbers are f64 throughout, so that the layers above can take central differences of them.
#![forbid(unsafe_code)]

mod activation;
mod adamw;
mod attention;
mod column_sums;
mod cross_entropy;
mod erf;
mod layer_norm;
mod matmul;
mod pool;
mod softmax;

pub use activation::{
    gelu, gelu_derivative, gelu_tanh, gelu_tanh_derivative, normal_cdf, tanh_derivative,
};
pub use adamw::{AdamW, adamw};
pub use attention::{attention, attention_backward};
pub use column_sums::column_sums;
pub use cross_entropy::{cross_entropy, cross_entropy_gradient};
pub use erf::{erf, erfc};
pub use layer_norm::{LayerNormGradient, layer_norm, layer_norm_backward};
pub use matmul::{matmul, transpose};
pub use pool::{l2_normalize, max_rows, mean_rows};
pub use softmax::{log_softmax, softmax};

use crate::{Mat, Matrix};

/// The numbers of `x` in f64, exactly.
pub fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// The matrix `x` in f64, exactly.
pub fn widen_matrix(x: Mat<'_>) -> Matrix<f64> {
    Matrix::from_fn(x.rows(), x.cols(), |row, col| f64::from(x.row(row)[col]))
}
