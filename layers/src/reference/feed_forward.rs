//! The position-wise feed-forward network.

use ferrite_kernels::reference::{gelu, gelu_tanh};
use ferrite_kernels::{Activation, Arithmetic, Matrix};

use super::Linear;

/// f(x).
///
/// # Panics
/// If there is no reference for `f` yet.
pub fn activate(f: Activation, x: f64) -> f64 {
    match f {
        Activation::Gelu => gelu(x),
        Activation::GeluTanh => gelu_tanh(x),
        Activation::Relu => x.max(0.0),
        Activation::Tanh => x.tanh(),
        other => panic!("no reference for {other:?}"),
    }
}

/// f(x W₁ᵀ + b₁) W₂ᵀ + b₂.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedForward {
    /// W₁ and b₁: d_model to d_ff.
    pub inner: Linear,
    /// W₂ and b₂: d_ff to d_model.
    pub outer: Linear,
    /// f.
    pub activation: Activation,
}

impl FeedForward {
    /// y, of the shape of x, (n, d_model).
    pub fn forward(&self, x: &Matrix<f64>) -> Matrix<f64> {
        self.forward_dropped(x, |_, _| 1.0)
    }

    /// The same, where each hidden number is multiplied by a factor (its row, its column).
    pub fn forward_dropped(
        &self,
        x: &Matrix<f64>,
        factor: impl Fn(usize, usize) -> f64,
    ) -> Matrix<f64> {
        let inner = self.inner.forward(x);
        let hidden = Matrix::from_fn(inner.rows(), inner.cols(), |row, col| {
            factor(row, col) * activate(self.activation, inner.row(row)[col])
        });
        self.outer.forward(&hidden)
    }

    /// The layer with these parameters.
    pub fn to_layer(&self, arithmetic: impl Into<Arithmetic>) -> crate::FeedForward {
        let arithmetic = arithmetic.into();
        crate::FeedForward {
            inner: self.inner.to_layer(arithmetic),
            outer: self.outer.to_layer(arithmetic),
            activation: self.activation,
        }
    }
}
