//! The position-wise feed-forward network.

use ferrite_kernels::{Activation, Activations, Left, MatMut};

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
    pub hidden: Activations,
}

impl FeedForward {
    /// `y = FFN(x)`; x and y: (n, d_model), y overwritten.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn forward<'a>(&self, x: impl Into<Left<'a>>, cache: &mut FeedForwardCache, y: MatMut<'_>) {
        let hidden = &mut cache.hidden;
        hidden.resize(self.outer.arithmetic(), y.rows(), self.inner.d_out());
        self.inner.forward_activated_into(x, self.activation, hidden);
        self.outer.forward(&*hidden, y);
    }
}

#[cfg(test)]
mod tests;
