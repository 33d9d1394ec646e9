//! Multi-head attention.

mod cross;
mod step;

pub use cross::{CrossAttention, CrossAttentionCache, CrossAttentionGradients};

use ferrite_kernels::{
    Activations, Arithmetic, Attention, AttentionScratch, Dropout, Left, Mask, Mat, MatMut, Matrix,
    Segments,
};

use crate::{InputGradient, Linear, LinearGradients, LinearScratch};

/// Multi-head attention whose queries, keys and values all come from x (Attention Is All You Need,
/// section 3.2.2):
///
/// ```text
/// head_i = softmax(Q_i K_iᵀ / √d_k) V_i      Q = x W_Q + b_Q, K = x W_K + b_K, V = x W_V + b_V
/// y      = Concat(head_1 ... head_h) W_O + b_O
/// ```
#[derive(Debug)]
pub struct SelfAttention {
    /// Q, K and V in one product: d_model to 3 d_model.
    pub qkv: Linear,
    /// d_model to d_model.
    pub output: Linear,
    /// The number of heads h.
    pub heads: usize,
    /// Which keys a query sees.
    pub mask: Mask,
}

/// What a pass through [`SelfAttention`] writes.
#[derive(Clone, Debug, Default)]
pub struct AttentionCache {
    /// Q, K and V side by side, (n, 3 d_model).
    pub qkv: Matrix<f32>,
    /// Concat(head_1 ... head_h), (n, d_model).
    pub context: Activations,
    scratch: AttentionScratch,
}

/// The gradients of a [`SelfAttention`]'s parameters, to which a backward pass adds.
#[derive(Debug)]
pub struct AttentionGradients<'a> {
    /// Those of Q, K and V.
    pub qkv: LinearGradients<'a>,
    /// Those of the output.
    pub output: LinearGradients<'a>,
}

/// The memory that the backward passes of attention work in: one for all of them.
#[derive(Debug, Default)]
pub struct AttentionBackwardScratch {
    d_context: Matrix<f32>,
    /// Of Q, K and V, or of K and V where Q is elsewhere.
    d_qkv: Matrix<f32>,
    d_q: Matrix<f32>,
    heads: AttentionScratch,
}

impl AttentionCache {
    /// Exchanges the memory that a pass works in for that of backward passes, before the pass and
    /// after it: so the caches of all layers, which training keeps, do without memory of their own.
    pub fn exchange_scratch(&mut self, with: &mut AttentionBackwardScratch) {
        std::mem::swap(&mut self.scratch, &mut with.heads);
    }
}

impl SelfAttention {
    /// `y = MultiHead(x, x, x)`; x and y: (n, d_model), y overwritten. A sequence attends to
    /// itself alone.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn forward<'a>(
        &self,
        x: impl Into<Left<'a>>,
        sequences: &Segments,
        cache: &mut AttentionCache,
        y: MatMut<'_>,
    ) {
        self.forward_dropped(x, sequences, None, cache, y);
    }

    /// The same with dropout of the weights, in training: the cache is then what
    /// [`SelfAttention::backward`] needs.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn forward_dropped<'a>(
        &self,
        x: impl Into<Left<'a>>,
        sequences: &Segments,
        dropout: Option<Dropout>,
        cache: &mut AttentionCache,
        y: MatMut<'_>,
    ) {
        let AttentionCache { qkv, context, scratch } = cache;
        qkv.resize(y.rows(), self.qkv.d_out());
        self.qkv.forward(x, qkv.view_mut());
        context.resize(self.output.arithmetic(), y.rows(), self.output.d_in());
        let arithmetic = self.qkv.arithmetic();
        self.heads_of(qkv, sequences, dropout).run(arithmetic, scratch, context.values_mut());
        context.convert();
        self.output.forward(&*context, y);
    }

    /// The attention maps of the pass that `cache` is from: for each sequence a matrix of shape
    /// (h * length, length), the heads one below the other; row i of a head says how much query i
    /// takes of each value.
    ///
    /// # Panics
    /// If the pass was not one of this layer with these sequences.
    #[track_caller]
    pub fn maps(&self, sequences: &Segments, cache: &mut AttentionCache) -> Vec<Matrix<f32>> {
        let AttentionCache { qkv, scratch, .. } = cache;
        maps(self.heads_of(qkv, sequences, None), self.qkv.arithmetic(), scratch)
    }

    /// The gradients, where dy is that of `y = MultiHead(x, x, x)`, x, sequences and dropout those
    /// of the forward pass, and `cache` what it left. x and dy: (n, d_model).
    ///
    /// # Panics
    /// If the shapes do not fit, or the layers are not trainable.
    #[track_caller]
    pub fn backward(
        &self,
        x: Mat<'_>,
        sequences: &Segments,
        dropout: Option<Dropout>,
        cache: &AttentionCache,
        dy: Mat<'_>,
        dx: InputGradient<'_>,
        gradients: AttentionGradients<'_>,
        (scratch, linear): (&mut AttentionBackwardScratch, &mut LinearScratch),
    ) {
        let AttentionBackwardScratch { d_context, d_qkv, heads, .. } = scratch;
        let AttentionCache { qkv, context, .. } = cache;
        d_context.resize(x.rows(), self.output.d_in());
        let d = InputGradient::Set(d_context.view_mut());
        self.output.backward(context.values(), dy, d, gradients.output, linear);
        d_qkv.resize(x.rows(), self.qkv.d_out());
        let (dq, rest) = d_qkv.view_mut().split_cols(self.output.d_in());
        let (dk, dv) = rest.split_cols(self.output.d_in());
        let attention = self.heads_of(qkv, sequences, dropout);
        attention.backward(self.qkv.arithmetic(), heads, d_context.view(), (dq, dk, dv));
        self.qkv.backward(x, d_qkv.view(), dx, gradients.qkv, linear);
    }

    #[track_caller]
    fn heads_of<'a>(
        &self,
        qkv: &'a Matrix<f32>,
        sequences: &'a Segments,
        dropout: Option<Dropout>,
    ) -> Attention<'a> {
        let d_model = self.output.d_in();
        assert_eq!(qkv.cols(), 3 * d_model, "columns of Q, K and V side by side");
        let part = |i: usize| qkv.view().col_range(i * d_model..(i + 1) * d_model);
        Attention {
            q: part(0),
            k: part(1),
            v: part(2),
            heads: self.heads,
            queries: sequences,
            keys: sequences,
            mask: self.mask,
            dropout,
        }
    }
}

/// For each sequence the maps of all heads, one below the other.
#[track_caller]
fn maps(
    attention: Attention<'_>,
    arithmetic: Arithmetic,
    scratch: &mut AttentionScratch,
) -> Vec<Matrix<f32>> {
    let mut all = Vec::with_capacity(attention.queries.len());
    let lengths = attention.queries.iter().zip(attention.keys.iter());
    for (sequence, (queries, keys)) in lengths.enumerate() {
        let mut maps = Matrix::zeros(attention.heads * queries.len(), keys.len());
        for head in 0..attention.heads {
            let rows = head * queries.len()..(head + 1) * queries.len();
            let out = maps.view_mut().row_range(rows);
            attention.map(arithmetic, sequence, head, scratch, out);
        }
        all.push(maps);
    }
    all
}

#[cfg(test)]
mod tests;
