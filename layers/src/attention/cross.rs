//! Attention to a memory.

use ferrite_kernels::{
    Activations, Attention, AttentionScratch, Dropout, Left, Mask, Mat, MatMut, Matrix, Segments,
};

use super::{AttentionBackwardScratch, maps};
use crate::{InputGradient, Linear, LinearGradients, LinearScratch};

/// Multi-head attention whose queries come from x and whose keys and values come from a memory:
/// in the decoder, the output of the last encoder layer (Attention Is All You Need, section 3.2.3).
#[derive(Debug)]
pub struct CrossAttention {
    /// d_model to d_model.
    pub q: Linear,
    /// K and V in one product: d_model to 2 d_model.
    pub kv: Linear,
    /// d_model to d_model.
    pub output: Linear,
    /// The number of heads h.
    pub heads: usize,
}

/// What a pass through [`CrossAttention`] writes.
#[derive(Clone, Debug, Default)]
pub struct CrossAttentionCache {
    /// Q, (n, d_model).
    pub q: Matrix<f32>,
    /// Concat(head_1 ... head_h), (n, d_model).
    pub context: Activations,
    pub(super) scratch: AttentionScratch,
}

/// The gradients of a [`CrossAttention`]'s parameters, to which a backward pass adds.
#[derive(Debug)]
pub struct CrossAttentionGradients<'a> {
    /// Those of Q.
    pub q: LinearGradients<'a>,
    /// Those of K and V.
    pub kv: LinearGradients<'a>,
    /// Those of the output.
    pub output: LinearGradients<'a>,
}

impl CrossAttentionCache {
    /// As [`AttentionCache::exchange_scratch`](super::AttentionCache::exchange_scratch).
    pub fn exchange_scratch(&mut self, with: &mut AttentionBackwardScratch) {
        std::mem::swap(&mut self.scratch, &mut with.heads);
    }
}

impl CrossAttention {
    /// Keys and values of a memory of shape (m, d_model), side by side: (m, 2 d_model). They serve
    /// every step of decoding.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn keys_and_values<'a>(&self, memory: impl Into<Left<'a>>, kv: &mut Matrix<f32>) {
        let memory = memory.into();
        kv.resize(memory.rows(), self.kv.d_out());
        self.kv.forward(memory, kv.view_mut());
    }

    /// `y = MultiHead(x, memory, memory)`; x and y: (n, d_model), y overwritten. `kv` is what
    /// [`CrossAttention::keys_and_values`] made of the memory, whose sequences are `memories`: one
    /// for each of `sequences`, of any length. Without a memory, the heads of a query are zeros.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn forward<'a>(
        &self,
        x: impl Into<Left<'a>>,
        sequences: &Segments,
        kv: Mat<'_>,
        memories: &Segments,
        cache: &mut CrossAttentionCache,
        y: MatMut<'_>,
    ) {
        self.forward_dropped(x, sequences, kv, memories, None, cache, y);
    }

    /// The same with dropout of the weights, in training: the cache is then what
    /// [`CrossAttention::backward`] needs.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn forward_dropped<'a>(
        &self,
        x: impl Into<Left<'a>>,
        sequences: &Segments,
        kv: Mat<'_>,
        memories: &Segments,
        dropout: Option<Dropout>,
        cache: &mut CrossAttentionCache,
        y: MatMut<'_>,
    ) {
        let CrossAttentionCache { q, context, scratch } = cache;
        q.resize(y.rows(), self.q.d_out());
        self.q.forward(x, q.view_mut());
        context.resize(self.output.arithmetic(), y.rows(), self.output.d_in());
        let attention = self.heads_of(q, sequences, kv, memories, dropout);
        attention.run(self.q.arithmetic(), scratch, context.values_mut());
        context.convert();
        self.output.forward(&*context, y);
    }

    /// The attention maps of the pass that `cache` is from: for each sequence a matrix of shape
    /// (h * its length, the length of its memory), the heads one below the other.
    ///
    /// # Panics
    /// If the pass was not one of this layer with these operands.
    #[track_caller]
    pub fn maps(
        &self,
        sequences: &Segments,
        kv: Mat<'_>,
        memories: &Segments,
        cache: &mut CrossAttentionCache,
    ) -> Vec<Matrix<f32>> {
        let CrossAttentionCache { q, scratch, .. } = cache;
        maps(self.heads_of(q, sequences, kv, memories, None), self.q.arithmetic(), scratch)
    }

    /// The gradients, where dy is that of `y = MultiHead(x, memory, memory)`; all other operands are
    /// those of the forward pass, and `cache` is what it left. x and dy: (n, d_model), memory: (m,
    /// d_model). Where several layers attend to one memory, each adds to its gradient.
    ///
    /// # Panics
    /// If the shapes do not fit, or the layers are not trainable.
    #[track_caller]
    pub fn backward(
        &self,
        (x, sequences): (Mat<'_>, &Segments),
        (memory, kv, memories): (Mat<'_>, Mat<'_>, &Segments),
        dropout: Option<Dropout>,
        cache: &CrossAttentionCache,
        dy: Mat<'_>,
        (dx, d_memory): (InputGradient<'_>, InputGradient<'_>),
        gradients: CrossAttentionGradients<'_>,
        (scratch, linear): (&mut AttentionBackwardScratch, &mut LinearScratch),
    ) {
        let AttentionBackwardScratch { d_context, d_qkv: d_kv, d_q, heads } = scratch;
        let CrossAttentionCache { q, context, .. } = cache;
        d_context.resize(x.rows(), self.output.d_in());
        let d = InputGradient::Set(d_context.view_mut());
        self.output.backward(context.values(), dy, d, gradients.output, linear);
        d_q.resize(x.rows(), self.q.d_out());
        d_kv.resize(memory.rows(), self.kv.d_out());
        let (dk, dv) = d_kv.view_mut().split_cols(self.output.d_in());
        let attention = self.heads_of(q, sequences, kv, memories, dropout);
        let d_heads = (d_q.view_mut(), dk, dv);
        attention.backward(self.q.arithmetic(), heads, d_context.view(), d_heads);
        self.q.backward(x, d_q.view(), dx, gradients.q, linear);
        self.kv.backward(memory, d_kv.view(), d_memory, gradients.kv, linear);
    }

    #[track_caller]
    fn heads_of<'a>(
        &self,
        q: &'a Matrix<f32>,
        sequences: &'a Segments,
        kv: Mat<'a>,
        memories: &'a Segments,
        dropout: Option<Dropout>,
    ) -> Attention<'a> {
        let d_model = self.output.d_in();
        assert_eq!(kv.cols(), 2 * d_model, "columns of K and V side by side");
        Attention {
            q: q.view(),
            k: kv.col_range(0..d_model),
            v: kv.col_range(d_model..2 * d_model),
            heads: self.heads,
            queries: sequences,
            keys: memories,
            mask: Mask::Full,
            dropout,
        }
    }
}
