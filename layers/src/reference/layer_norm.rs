//! Layer normalisation.

use ferrite_kernels::{Level, Matrix, reference};

use super::narrow;

/// γ (x - mean) / √(variance + ε) + β, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNorm {
    /// γ, d_model elements.
    pub gamma: Vec<f64>,
    /// β, d_model elements.
    pub beta: Vec<f64>,
    /// ε.
    pub epsilon: f64,
}

impl LayerNorm {
    /// y, of the shape of x, (n, d_model). "Add & Norm" is this of [`super::sum`].
    pub fn forward(&self, x: &Matrix<f64>) -> Matrix<f64> {
        let mut y = Matrix::zeros(x.rows(), x.cols());
        for row in 0..x.rows() {
            let normed = reference::layer_norm(x.row(row), &self.gamma, &self.beta, self.epsilon);
            y.row_mut(row).copy_from_slice(&normed);
        }
        y
    }

    /// The layer with these parameters.
    pub fn to_layer(&self, level: Level) -> crate::LayerNorm {
        crate::LayerNorm::new(level, narrow(&self.gamma), narrow(&self.beta), self.epsilon as f32)
    }
}
