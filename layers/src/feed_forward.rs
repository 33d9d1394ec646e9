//! The position-wise feed-forward network.

use ferrite_kernels::{Activation, Mat, MatMut, Matrix};

use crate::Linear;

/// `FFN(x) = f(x W₁ᵀ + b₁) W₂ᵀ + b₂`, the same at every position (Attention Is All You Need, section
/// 3.3, with f = ReLU; BERT takes GELU).
#[derive(Debug)]
pub struct FeedForward {
    /// d_model to d_ff.
    pub inner: Linear,
    /// d_ff to d_model.
    pub outer: Linear,
    /// The activation between them.
    pub activation: Activation,
}

/// What a pass through [`FeedForward`] writes.
#[derive(Clone, Debug, Default)]
pub struct FeedForwardCache {
    /// f(x W₁ᵀ + b₁), of shape (n, d_ff).
    pub hidden: Matrix<f32>,
}

impl FeedForward {
    /// `y = FFN(x)`; x and y: (n, d_model), y overwritten.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn forward(&self, x: Mat<'_>, cache: &mut FeedForwardCache, y: MatMut<'_>) {
        cache.hidden.resize(x.rows(), self.inner.d_out());
        self.inner.forward_activated(x, self.activation, cache.hidden.view_mut());
        self.outer.forward(cache.hidden.view(), y);
    }
}

#[cfg(test)]
mod tests;
