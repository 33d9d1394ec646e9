//! One layer of the encoder.

use ferrite_kernels::{
    Activations, Arithmetic, Dropout, Mat, Matrix, Segments, elementwise, share_rows,
};
use ferrite_layers::{
    AttentionBackwardScratch, AttentionCache, FeedForward, FeedForwardCache, FeedForwardScratch,
    FeedForwardTape, InputGradient, LayerNorm, LinearScratch, SelfAttention,
};

use super::BlockGradients;
use super::dropout::{Dropouts, Place};
use super::training::copy_to;

/// A post-norm Transformer encoder layer (Attention Is All You Need, section 3.1; BERT, section 3):
/// each sub-layer's output is added to its input, and the sum is normalised.
#[derive(Debug)]
pub struct Block {
    /// The first sub-layer.
    pub attention: SelfAttention,
    /// Normalises its sum.
    pub attention_norm: LayerNorm,
    /// The second sub-layer.
    pub feed_forward: FeedForward,
    /// Normalises its sum.
    pub output_norm: LayerNorm,
}

/// What a pass through [`Block`] writes. One serves all layers of a pass.
#[derive(Clone, Debug, Default)]
pub struct BlockCache {
    /// Of the first sub-layer.
    pub attention: AttentionCache,
    /// Of the second sub-layer.
    pub feed_forward: FeedForwardCache,
    /// The normalised sum of the first sub-layer, (n, d_model).
    pub attended: Activations,
}

/// What [`Block::backward`] needs of the forward pass: one for each layer.
#[derive(Clone, Debug, Default)]
pub struct BlockTape {
    /// x, (n, d_model).
    pub x: Activations,
    /// Of the first sub-layer.
    pub attention: AttentionCache,
    /// x + Attention(x), (n, d_model).
    pub attention_sum: Matrix<f32>,
    /// a, its norm.
    pub attended: Activations,
    /// Of the second sub-layer.
    pub feed_forward: FeedForwardTape,
    /// a + FeedForward(a), (n, d_model).
    pub output_sum: Matrix<f32>,
}

/// The memory that backward passes work in: one for all layers.
#[derive(Debug, Default)]
pub struct BlockScratch {
    /// Of linear layers.
    pub linear: LinearScratch,
    attention: AttentionBackwardScratch,
    feed_forward: FeedForwardScratch,
    d_sum: Matrix<f32>,
    d_dropped: Matrix<f32>,
}

impl Block {
    /// ```text
    /// a = LayerNorm(x + Attention(x))
    /// x = LayerNorm(a + FeedForward(a))
    /// ```
    /// x: (n, d_model), in place.
    pub fn forward(&self, x: &mut Activations, sequences: &Segments, cache: &mut BlockCache) {
        let BlockCache { attention, feed_forward, attended: a } = cache;
        a.resize(self.feed_forward.inner.arithmetic(), x.rows(), x.cols());
        self.attention.forward(&*x, sequences, attention, a.values_mut());
        self.attention_norm.forward_sum(x.values(), a);
        self.feed_forward.forward(&*a, feed_forward, x.values_mut());
        self.output_norm.forward_sum(a.values(), x);
    }

    /// The same with dropout D, keeping what [`Block::backward`] will need; `tape.x` is the input:
    ///
    /// ```text
    /// a = LayerNorm(x + D(Attention(x)))
    /// y = LayerNorm(a + D(FeedForward(a)))
    /// ```
    pub fn forward_taped(
        &self,
        layer: usize,
        sequences: &Segments,
        dropouts: &Dropouts,
        tape: &mut BlockTape,
        cache: &mut FeedForwardCache,
        scratch: &mut BlockScratch,
        y: &mut Activations,
    ) {
        let BlockTape { x, attention, attention_sum, attended: a, feed_forward, output_sum } = tape;
        let (n, d_model) = x.shape();
        attention_sum.resize(n, d_model);
        let weights = dropouts.at(Place::AttentionWeights(layer));
        let sum = attention_sum.view_mut();
        attention.exchange_scratch(&mut scratch.attention);
        self.attention.forward_dropped(&*x, sequences, weights, attention, sum);
        attention.exchange_scratch(&mut scratch.attention);
        self.drop_and_add(dropouts.at(Place::AttentionOutput(layer)), x.values(), attention_sum);
        a.resize(self.feed_forward.inner.arithmetic(), n, d_model);
        self.attention_norm.forward_from(attention_sum.view(), a);
        output_sum.resize(n, d_model);
        self.feed_forward.forward_taped(&*a, cache, feed_forward, output_sum.view_mut());
        self.drop_and_add(dropouts.at(Place::FeedForwardOutput(layer)), a.values(), output_sum);
        y.resize(self.arithmetic(), n, d_model);
        self.output_norm.forward_from(output_sum.view(), y);
    }

    /// The gradients: `d` is that of y, and becomes that of x, (n, d_model). The tape is used up.
    pub fn backward(
        &self,
        layer: usize,
        sequences: &Segments,
        dropouts: &Dropouts,
        tape: &mut BlockTape,
        d: &mut Matrix<f32>,
        gradients: BlockGradients<'_>,
        scratch: &mut BlockScratch,
    ) {
        let BlockTape { x, attention, attention_sum, attended: a, feed_forward, output_sum } = tape;
        let BlockScratch { linear, attention: heads, feed_forward: hidden, d_sum, d_dropped } =
            scratch;
        d_sum.resize(d.rows(), d.cols());
        let BlockGradients { attention_norm, output_norm, .. } = gradients;
        // The sum's gradient goes on to a as it is, and through the sub-layer.
        self.output_norm.backward(output_sum.view(), d.view(), d_sum.view_mut(), output_norm);
        let dropout = dropouts.at(Place::FeedForwardOutput(layer));
        let dy = self.dropped(dropout, d_sum, d_dropped);
        // dy may be d_sum itself, which da is added to: the copy is d, which is not needed any more.
        copy_to(d_sum.view(), d);
        let da = InputGradient::Add(d.view_mut());
        let parts = (hidden, &mut *linear);
        self.feed_forward.backward(a.values(), feed_forward, dy, da, gradients.feed_forward, parts);
        self.attention_norm.backward(
            attention_sum.view(),
            d.view(),
            d_sum.view_mut(),
            attention_norm,
        );
        let dy = self.dropped(dropouts.at(Place::AttentionOutput(layer)), d_sum, d_dropped);
        copy_to(d_sum.view(), d);
        let dx = InputGradient::Add(d.view_mut());
        let weights = dropouts.at(Place::AttentionWeights(layer));
        let (x, parts) = (x.values(), (heads, linear));
        self.attention.backward(
            x,
            sequences,
            weights,
            attention,
            dy,
            dx,
            gradients.attention,
            parts,
        );
    }

    /// `y = x + D(y)`.
    fn drop_and_add(&self, dropout: Option<Dropout>, x: Mat<'_>, y: &mut Matrix<f32>) {
        let level = self.arithmetic().level();
        if let Some(dropout) = dropout {
            dropout.apply(level, y.view_mut());
        }
        share_rows(y.view_mut(), |first, mut y| {
            (0..y.rows())
                .for_each(|row| elementwise::add(level, y.row_mut(row), x.row(first + row)));
        });
    }

    /// D(d), in `dropped` if anything is dropped.
    fn dropped<'a>(
        &self,
        dropout: Option<Dropout>,
        d: &'a Matrix<f32>,
        dropped: &'a mut Matrix<f32>,
    ) -> Mat<'a> {
        let Some(dropout) = dropout else { return d.view() };
        dropped.resize(d.rows(), d.cols());
        copy_to(d.view(), dropped);
        dropout.apply(self.arithmetic().level(), dropped.view_mut());
        dropped.view()
    }

    /// How its first product is computed: what x has to be ready for.
    pub fn arithmetic(&self) -> Arithmetic {
        self.attention.qkv.arithmetic()
    }

    /// The columns of x.
    pub fn d_model(&self) -> usize {
        self.attention.output.d_out()
    }
}
