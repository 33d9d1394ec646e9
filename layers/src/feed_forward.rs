//! The position-wise feed-forward network.

use ferrite_kernels::{Activation, Activations, Left, MatMut, threads};

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
    /// f(x W₁ᵀ + b₁) of the last strip of rows, (rows, d_ff).
    pub hidden: Activations,
}

/// The rows that each thread takes through both products before the next: their hidden activations,
/// the widest of all, stay in its second-level cache.
const STRIP: usize = 128;

impl FeedForward {
    /// `y = FFN(x)`; x and y: (n, d_model), y overwritten.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn forward<'a>(
        &self,
        x: impl Into<Left<'a>>,
        cache: &mut FeedForwardCache,
        mut y: MatMut<'_>,
    ) {
        let (x, hidden) = (x.into(), &mut cache.hidden);
        assert_eq!(x.rows(), y.rows(), "rows of x and of y");
        let strip = STRIP * threads();
        for first in (0..y.rows()).step_by(strip) {
            let rows = first..y.rows().min(first + strip);
            hidden.resize(self.outer.arithmetic(), rows.len(), self.inner.d_out());
            self.inner.forward_activated_into(x.row_range(rows.clone()), self.activation, hidden);
            self.outer.forward(&*hidden, y.reborrow().row_range(rows));
        }
    }
}

#[cfg(test)]
mod tests;
