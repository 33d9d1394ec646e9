//! One layer of the encoder.

use ferrite_kernels::{Activations, Arithmetic, Matrix, Segments};
use ferrite_layers::{
    Activation, AttentionBackwardScratch, AttentionCache, FeedForward, FeedForwardCache,
    FeedForwardScratch, FeedForwardTape, InputGradient, LayerNorm, LinearScratch, Mask,
    SelfAttention,
};

use super::parameters::{EncoderLayerGradients, EncoderLayerOf};
use crate::assembly::{Assembly, update_attention, update_feed_forward, update_norm};
use crate::parameters::Shared;
use crate::residual::{ResidualScratch, SubLayerDropout, add_and_norm, add_and_norm_backward};

/// The post-norm encoder layer (Attention Is All You Need, section 3.1, figure 1 on the left), which
/// is also BERT's: each sub-layer's output is added to its input, and the sum is normalised.
#[derive(Debug)]
pub struct EncoderLayer {
    /// The first sub-layer.
    pub attention: SelfAttention,
    /// Normalises its sum.
    pub attention_norm: LayerNorm,
    /// The second sub-layer.
    pub feed_forward: FeedForward,
    /// Normalises its sum.
    pub feed_forward_norm: LayerNorm,
}

/// What a pass through an encoder layer writes. One serves all layers of a pass.
#[derive(Clone, Debug, Default)]
pub struct EncoderLayerCache {
    /// Of the first sub-layer.
    pub attention: AttentionCache,
    /// Of the second sub-layer.
    pub feed_forward: FeedForwardCache,
    /// What is between the two, (n, d_model).
    pub attended: Activations,
    /// What a sub-layer gives that is added to its input without a norm, (n, d_model).
    pub(crate) output: Matrix<f32>,
}

/// What the backward pass of an encoder layer needs of the forward pass: one for each layer. All is
/// (n, d_model).
#[derive(Clone, Debug, Default)]
pub struct EncoderLayerTape {
    /// What the first sub-layer reads: x, or its norm.
    pub attention_input: Activations,
    /// Of the first sub-layer.
    pub attention: AttentionCache,
    /// What the first norm reads: the sum, or x.
    pub attention_sum: Matrix<f32>,
    /// What the second sub-layer reads.
    pub feed_forward_input: Activations,
    /// Of the second sub-layer.
    pub feed_forward: FeedForwardTape,
    /// What the second norm reads.
    pub feed_forward_sum: Matrix<f32>,
}

/// The dropout of an encoder layer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EncoderLayerDropouts {
    /// Of the first sub-layer.
    pub attention: SubLayerDropout,
    /// Of the second sub-layer.
    pub feed_forward: SubLayerDropout,
}

/// The memory that backward passes work in: one for all layers, of encoder and decoder.
#[derive(Debug, Default)]
pub struct LayerScratch {
    /// Of linear layers.
    pub linear: LinearScratch,
    pub(crate) attention: AttentionBackwardScratch,
    pub(crate) feed_forward: FeedForwardScratch,
    pub(crate) residual: ResidualScratch,
    /// The gradient of what a sub-layer reads.
    pub(crate) d_input: Matrix<f32>,
}

impl EncoderLayer {
    pub(crate) fn new(
        of: EncoderLayerOf<Shared<'_>>,
        heads: usize,
        activation: Activation,
        assembly: &Assembly,
    ) -> EncoderLayer {
        EncoderLayer {
            attention: assembly.self_attention(of.attention, heads, Mask::Full),
            attention_norm: assembly.norm(of.attention_norm),
            feed_forward: assembly.feed_forward(of.feed_forward, activation),
            feed_forward_norm: assembly.norm(of.feed_forward_norm),
        }
    }

    pub(crate) fn update(&mut self, of: EncoderLayerOf<Shared<'_>>) {
        update_attention(&mut self.attention, of.attention);
        update_norm(&mut self.attention_norm, of.attention_norm);
        update_feed_forward(&mut self.feed_forward, of.feed_forward);
        update_norm(&mut self.feed_forward_norm, of.feed_forward_norm);
    }

    /// ```text
    /// a = LayerNorm(x + Attention(x))
    /// x = LayerNorm(a + FeedForward(a))
    /// ```
    /// x: (n, d_model), in place.
    pub fn forward(
        &self,
        x: &mut Activations,
        sequences: &Segments,
        cache: &mut EncoderLayerCache,
    ) {
        let EncoderLayerCache { attention, feed_forward, attended: a, .. } = cache;
        a.resize(self.arithmetic(), x.rows(), x.cols());
        self.attention.forward(&*x, sequences, attention, a.values_mut());
        self.attention_norm.forward_sum(x.values(), a);
        self.feed_forward.forward(&*a, feed_forward, x.values_mut());
        self.feed_forward_norm.forward_sum(a.values(), x);
    }

    /// Makes room in `cache` for what [`EncoderLayer::forward`] writes to it with these sequences.
    pub(crate) fn reserve(&self, sequences: &Segments, cache: &mut EncoderLayerCache) {
        let (rows, d_model) = (sequences.total(), self.attention.output.d_out());
        cache.attended.resize(self.arithmetic(), rows, d_model);
        self.attention.reserve(sequences, &mut cache.attention);
        self.feed_forward.reserve(rows, &mut cache.feed_forward);
    }

    /// The same with dropout D, keeping what [`EncoderLayer::backward`] will need:
    ///
    /// ```text
    /// a = LayerNorm(x + D(Attention(x)))
    /// x = LayerNorm(a + D(FeedForward(a)))
    /// ```
    pub fn forward_taped(
        &self,
        x: &mut Activations,
        sequences: &Segments,
        dropouts: &EncoderLayerDropouts,
        tape: &mut EncoderLayerTape,
        cache: &mut FeedForwardCache,
        scratch: &mut LayerScratch,
    ) {
        let EncoderLayerTape { attention_input: input, attention, attention_sum, .. } = tape;
        let &EncoderLayerDropouts { attention: drop, feed_forward: drop_ff } = dropouts;
        let (n, d_model) = x.shape();
        // The input stays on the tape; what was there becomes the output.
        std::mem::swap(x, input);
        attention_sum.resize(n, d_model);
        let sum = attention_sum.view_mut();
        attention.exchange_scratch(&mut scratch.attention);
        self.attention.forward_dropped(&*input, sequences, drop.inside, attention, sum);
        attention.exchange_scratch(&mut scratch.attention);
        let (norm, a) = (&self.attention_norm, &mut tape.feed_forward_input);
        add_and_norm(self.arithmetic(), drop.output, input.values(), attention_sum, norm, a);
        let EncoderLayerTape { feed_forward, feed_forward_sum, .. } = tape;
        feed_forward_sum.resize(n, d_model);
        let sum = feed_forward_sum.view_mut();
        self.feed_forward.forward_taped(&*a, drop_ff.inside, cache, feed_forward, sum);
        let norm = &self.feed_forward_norm;
        add_and_norm(self.arithmetic(), drop_ff.output, a.values(), feed_forward_sum, norm, x);
    }

    /// The gradients: `d` is that of the output, and becomes that of x, (n, d_model). The tape is
    /// used up.
    pub fn backward(
        &self,
        sequences: &Segments,
        dropouts: &EncoderLayerDropouts,
        tape: &mut EncoderLayerTape,
        d: &mut Matrix<f32>,
        gradients: EncoderLayerGradients<'_>,
        scratch: &mut LayerScratch,
    ) {
        let level = self.arithmetic().level();
        let LayerScratch { linear, attention, feed_forward, residual, .. } = scratch;
        let &EncoderLayerDropouts { attention: drop, feed_forward: drop_ff } = dropouts;

        // Each sum's gradient goes on to its summand as it is, and through the sub-layer.
        let (sum, norm) = (&tape.feed_forward_sum, &self.feed_forward_norm);
        let of = gradients.feed_forward_norm;
        let dy = add_and_norm_backward(level, drop_ff.output, sum, norm, d, of, residual);
        self.feed_forward.backward(
            tape.feed_forward_input.values(),
            drop_ff.inside,
            &mut tape.feed_forward,
            dy,
            InputGradient::Add(d.view_mut()),
            gradients.feed_forward,
            (feed_forward, linear),
        );

        let (sum, norm, of) = (&tape.attention_sum, &self.attention_norm, gradients.attention_norm);
        let dy = add_and_norm_backward(level, drop.output, sum, norm, d, of, residual);
        self.attention.backward(
            tape.attention_input.values(),
            sequences,
            drop.inside,
            &tape.attention,
            dy,
            InputGradient::Add(d.view_mut()),
            gradients.attention,
            (attention, linear),
        );
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
