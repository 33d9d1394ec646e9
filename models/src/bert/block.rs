//! One layer of the encoder.

use ferrite_kernels::{Activations, Arithmetic, Segments};
use ferrite_layers::{AttentionCache, FeedForward, FeedForwardCache, LayerNorm, SelfAttention};

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

    /// How its first product is computed: what x has to be ready for.
    pub fn arithmetic(&self) -> Arithmetic {
        self.attention.qkv.arithmetic()
    }

    /// The columns of x.
    pub fn d_model(&self) -> usize {
        self.attention.output.d_out()
    }
}
