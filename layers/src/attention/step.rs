//! Attention in a step of decoding: one position of each of several hypotheses.

use ferrite_kernels::{Left, MatMut, Matrix, StepAttention, VisibleRows};

use super::{AttentionCache, CrossAttention, CrossAttentionCache, SelfAttention};

impl SelfAttention {
    /// [`SelfAttention::forward`] with a causal mask at the last position of each of n prefixes: the
    /// keys and values of the positions before are in `past`, (rows, 2 d_model), side by side, to
    /// which those of the n positions are added, in their order. `visible` has the rows of each
    /// prefix, the new one included. x and y: (n, d_model), y overwritten.
    ///
    /// A prefix's result depends on that prefix alone, to the last bit. Heads are in f32 in any
    /// arithmetic, as keys and values are kept; but for the rounding of heads in bf16, the result is
    /// that of a pass over the whole prefix.
    ///
    /// # Panics
    /// If the shapes do not fit, or a row is not there.
    #[track_caller]
    pub fn step<'a>(
        &self,
        x: impl Into<Left<'a>>,
        past: &mut Matrix<f32>,
        visible: &VisibleRows,
        cache: &mut AttentionCache,
        y: MatMut<'_>,
    ) {
        let AttentionCache { qkv, context, scratch } = cache;
        let (n, d_model, before) = (y.rows(), self.output.d_in(), past.rows());
        assert_eq!(past.cols(), 2 * d_model, "columns of K and V side by side");
        qkv.resize(n, self.qkv.d_out());
        self.qkv.forward(x, qkv.view_mut());
        past.resize_rows(before + n);
        for row in 0..n {
            past.row_mut(before + row).copy_from_slice(&qkv.row(row)[d_model..]);
        }
        let q = qkv.view().col_range(0..d_model);
        let (k, v) =
            (past.view().col_range(0..d_model), past.view().col_range(d_model..2 * d_model));
        context.resize(self.output.arithmetic(), n, d_model);
        let heads = StepAttention { q, k, v, heads: self.heads, visible };
        heads.run(self.qkv.arithmetic().level(), scratch, context.values_mut());
        context.convert();
        self.output.forward(&*context, y);
    }
}

impl CrossAttention {
    /// [`CrossAttention::forward`] at one position of each of n hypotheses. `kv` is what
    /// [`CrossAttention::keys_and_values`] made of the memory, of which `visible` has the rows that
    /// each hypothesis sees. x and y: (n, d_model), y overwritten. As for [`SelfAttention::step`],
    /// heads are in f32.
    ///
    /// # Panics
    /// If the shapes do not fit, or a row is not there.
    #[track_caller]
    pub fn step<'a>(
        &self,
        x: impl Into<Left<'a>>,
        kv: &Matrix<f32>,
        visible: &VisibleRows,
        cache: &mut CrossAttentionCache,
        y: MatMut<'_>,
    ) {
        let CrossAttentionCache { q, context, scratch } = cache;
        let (n, d_model) = (y.rows(), self.output.d_in());
        assert_eq!(kv.cols(), 2 * d_model, "columns of K and V side by side");
        q.resize(n, self.q.d_out());
        self.q.forward(x, q.view_mut());
        let (k, v) = (kv.view().col_range(0..d_model), kv.view().col_range(d_model..2 * d_model));
        context.resize(self.output.arithmetic(), n, d_model);
        let heads = StepAttention { q: q.view(), k, v, heads: self.heads, visible };
        heads.run(self.q.arithmetic().level(), scratch, context.values_mut());
        context.convert();
        self.output.forward(&*context, y);
    }
}
