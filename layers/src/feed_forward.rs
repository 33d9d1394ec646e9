//! The position-wise feed-forward network.

use ferrite_kernels::{Activation, Activations, Dropout, Left, Mat, MatMut, Matrix, threads};

use crate::{InputGradient, Linear, LinearGradients, LinearScratch};

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

/// What [`FeedForward::backward`] needs of the forward pass.
#[derive(Clone, Debug, Default)]
pub struct FeedForwardTape {
    /// x W₁ᵀ + b₁, (n, d_ff).
    pub inner: Matrix<f32>,
}

/// The gradients of a [`FeedForward`]'s parameters, to which a backward pass adds.
#[derive(Debug)]
pub struct FeedForwardGradients<'a> {
    /// Those of the inner layer.
    pub inner: LinearGradients<'a>,
    /// Those of the outer layer.
    pub outer: LinearGradients<'a>,
}

/// The memory that the backward passes of feed-forward networks work in: one for all of them.
#[derive(Debug, Default)]
pub struct FeedForwardScratch {
    d_hidden: Matrix<f32>,
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

    /// Makes room in `cache` for what a forward pass over this many rows writes to it.
    pub fn reserve(&self, rows: usize, cache: &mut FeedForwardCache) {
        let strip = rows.min(STRIP * threads());
        cache.hidden.resize(self.outer.arithmetic(), strip, self.inner.d_out());
    }

    /// The same with dropout of what the activation gives, keeping on `tape` what
    /// [`FeedForward::backward`] will need.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn forward_taped<'a>(
        &self,
        x: impl Into<Left<'a>>,
        dropout: Option<Dropout>,
        cache: &mut FeedForwardCache,
        tape: &mut FeedForwardTape,
        mut y: MatMut<'_>,
    ) {
        let (x, hidden, level) = (x.into(), &mut cache.hidden, self.inner.arithmetic().level());
        assert_eq!(x.rows(), y.rows(), "rows of x and of y");
        tape.inner.resize(x.rows(), self.inner.d_out());
        let strip = STRIP * threads();
        for start in (0..y.rows()).step_by(strip) {
            let rows = start..y.rows().min(start + strip);
            let mut inner = tape.inner.view_mut().row_range(rows.clone());
            self.inner.forward(x.row_range(rows.clone()), inner.reborrow());
            hidden.resize(self.outer.arithmetic(), rows.len(), self.inner.d_out());
            let inner = inner.as_mat();
            hidden.write_rows(|first, mut hidden| {
                for row in 0..hidden.rows() {
                    hidden.row_mut(row).copy_from_slice(inner.row(first + row));
                }
                self.activation.apply_rows(level, hidden.reborrow());
                if let Some(dropout) = dropout {
                    dropout.apply_from(level, start + first, hidden);
                }
            });
            self.outer.forward(&*hidden, y.reborrow().row_range(rows));
        }
    }

    /// The gradients, where dy is that of `y = FFN(x)`, x and dropout the same as in the forward pass;
    /// the tape is used up. x and dy: (n, d_model).
    ///
    /// # Panics
    /// If the shapes do not fit, the tape is not that of x, or the layers are not trainable.
    #[track_caller]
    pub fn backward(
        &self,
        x: Mat<'_>,
        dropout: Option<Dropout>,
        tape: &mut FeedForwardTape,
        dy: Mat<'_>,
        dx: InputGradient<'_>,
        gradients: FeedForwardGradients<'_>,
        (scratch, linear): (&mut FeedForwardScratch, &mut LinearScratch),
    ) {
        let FeedForwardScratch { d_hidden } = scratch;
        let hidden = &mut tape.inner;
        assert_eq!(hidden.shape(), (x.rows(), self.inner.d_out()), "shape of the tape");
        d_hidden.resize(x.rows(), self.outer.d_in());
        // First dh, then, as f makes h of what is on the tape, dh f'.
        self.outer.backward_input(dy, InputGradient::Set(d_hidden.view_mut()), linear);
        let level = self.inner.arithmetic().level();
        self.activation.backward(level, hidden.view_mut(), d_hidden.view_mut());
        if let Some(dropout) = dropout {
            // What falls or is scaled has the same factor in both, and factors commute.
            dropout.apply(level, hidden.view_mut());
            dropout.apply(level, d_hidden.view_mut());
        }
        self.outer.backward_parameters(hidden.view(), dy, gradients.outer, linear);
        self.inner.backward(x, d_hidden.view(), dx, gradients.inner, linear);
    }
}

#[cfg(test)]
mod tests;
