//! The linear layer.

use ferrite_kernels::reference::{matmul, transpose};
use ferrite_kernels::{Arithmetic, Matrix};

use super::{narrow, narrow_matrix};

/// y = x Wᵀ + b.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// W, (d_out, d_in).
    pub weight: Matrix<f64>,
    /// b, d_out elements.
    pub bias: Vec<f64>,
}

impl Linear {
    /// y, (n, d_out), for x of shape (n, d_in).
    pub fn forward(&self, x: &Matrix<f64>) -> Matrix<f64> {
        let mut y = matmul(x, &transpose(&self.weight));
        for row in 0..y.rows() {
            for col in 0..y.cols() {
                y.row_mut(row)[col] += self.bias[col];
            }
        }
        y
    }

    /// The layer with these parameters.
    pub fn to_layer(&self, arithmetic: impl Into<Arithmetic>) -> crate::Linear {
        crate::Linear::new(arithmetic, narrow_matrix(&self.weight).view(), &narrow(&self.bias))
    }

    /// The layers side by side, as one.
    pub fn side_by_side(arithmetic: impl Into<Arithmetic>, parts: &[&Linear]) -> crate::Linear {
        let parts: Vec<_> =
            parts.iter().map(|part| (narrow_matrix(&part.weight), narrow(&part.bias))).collect();
        let parts: Vec<_> = parts.iter().map(|(w, b)| (w.view(), b.as_slice())).collect();
        crate::Linear::side_by_side(arithmetic, &parts)
    }
}
