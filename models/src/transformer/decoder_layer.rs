//! One layer of the decoder.

use ferrite_kernels::{Activations, Arithmetic, Matrix, Segments};
use ferrite_layers::{
    Activation, AttentionCache, CrossAttention, CrossAttentionCache, FeedForward, FeedForwardCache,
    FeedForwardTape, InputGradient, LayerNorm, Mask, SelfAttention,
};

use super::encoder_layer::LayerScratch;
use super::parameters::{DecoderLayerGradients, DecoderLayerOf};
use super::past::{LayerPast, Visible};
use crate::assembly::{
    Assembly, update_attention, update_cross_attention, update_feed_forward, update_norm,
};
use crate::parameters::Shared;
use crate::residual::{SubLayerDropout, add_and_norm, add_and_norm_backward};

/// The post-norm decoder layer (Attention Is All You Need, section 3.1, figure 1 on the right): each
/// sub-layer's output is added to its input, and the sum is normalised. A position attends to itself
/// and those before it, and to all of the encoder's output.
#[derive(Debug)]
pub struct DecoderLayer {
    /// The first sub-layer, masked.
    pub self_attention: SelfAttention,
    /// Normalises its sum.
    pub self_attention_norm: LayerNorm,
    /// The second sub-layer: to the encoder's output.
    pub cross_attention: CrossAttention,
    /// Normalises its sum.
    pub cross_attention_norm: LayerNorm,
    /// The third sub-layer.
    pub feed_forward: FeedForward,
    /// Normalises its sum.
    pub feed_forward_norm: LayerNorm,
}

/// What the decoder attends to: the output of the encoder's last layer.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'a> {
    /// (m, d_model).
    pub hidden: &'a Activations,
    /// Of the sentences it is of: one for each sequence of the decoder.
    pub sequences: &'a Segments,
}

/// What a pass through a decoder layer writes. One serves all layers of a pass.
#[derive(Clone, Debug, Default)]
pub struct DecoderLayerCache {
    /// Of the first sub-layer.
    pub self_attention: AttentionCache,
    /// Of the second sub-layer.
    pub cross_attention: CrossAttentionCache,
    /// Keys and values of the memory, (m, 2 d_model).
    pub kv: Matrix<f32>,
    /// Of the third sub-layer.
    pub feed_forward: FeedForwardCache,
    /// What is between the first and the second, (n, d_model).
    pub attended: Activations,
    /// What is between the second and the third, (n, d_model).
    pub informed: Activations,
    /// What a sub-layer gives that is added to its input without a norm, (n, d_model).
    pub(crate) output: Matrix<f32>,
}

/// What the backward pass of a decoder layer needs of the forward pass: one for each layer. What a
/// sub-layer reads, and what its norm reads, is as in [`EncoderLayerTape`](super::EncoderLayerTape).
#[derive(Clone, Debug, Default)]
pub struct DecoderLayerTape {
    pub(crate) self_attention_input: Activations,
    pub(crate) self_attention: AttentionCache,
    pub(crate) self_attention_sum: Matrix<f32>,
    pub(crate) cross_attention_input: Activations,
    pub(crate) kv: Matrix<f32>,
    pub(crate) cross_attention: CrossAttentionCache,
    pub(crate) cross_attention_sum: Matrix<f32>,
    pub(crate) feed_forward_input: Activations,
    pub(crate) feed_forward: FeedForwardTape,
    pub(crate) feed_forward_sum: Matrix<f32>,
}

/// The dropout of a decoder layer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DecoderLayerDropouts {
    /// Of the first sub-layer.
    pub self_attention: SubLayerDropout,
    /// Of the second sub-layer.
    pub cross_attention: SubLayerDropout,
    /// Of the third sub-layer.
    pub feed_forward: SubLayerDropout,
}

impl DecoderLayer {
    pub(crate) fn new(
        of: DecoderLayerOf<Shared<'_>>,
        heads: usize,
        activation: Activation,
        assembly: &Assembly,
    ) -> DecoderLayer {
        DecoderLayer {
            self_attention: assembly.self_attention(of.self_attention, heads, Mask::Causal),
            self_attention_norm: assembly.norm(of.self_attention_norm),
            cross_attention: assembly.cross_attention(of.cross_attention, heads),
            cross_attention_norm: assembly.norm(of.cross_attention_norm),
            feed_forward: assembly.feed_forward(of.feed_forward, activation),
            feed_forward_norm: assembly.norm(of.feed_forward_norm),
        }
    }

    pub(crate) fn update(&mut self, of: DecoderLayerOf<Shared<'_>>) {
        update_attention(&mut self.self_attention, of.self_attention);
        update_norm(&mut self.self_attention_norm, of.self_attention_norm);
        update_cross_attention(&mut self.cross_attention, of.cross_attention);
        update_norm(&mut self.cross_attention_norm, of.cross_attention_norm);
        update_feed_forward(&mut self.feed_forward, of.feed_forward);
        update_norm(&mut self.feed_forward_norm, of.feed_forward_norm);
    }

    /// ```text
    /// a = LayerNorm(x + MaskedAttention(x))
    /// b = LayerNorm(a + Attention(a, memory))
    /// x = LayerNorm(b + FeedForward(b))
    /// ```
    /// x: (n, d_model), in place.
    pub fn forward(
        &self,
        x: &mut Activations,
        sequences: &Segments,
        memory: Memory<'_>,
        cache: &mut DecoderLayerCache,
    ) {
        let DecoderLayerCache { self_attention, cross_attention, kv, feed_forward, .. } = cache;
        let (a, b) = (&mut cache.attended, &mut cache.informed);
        a.resize(self.arithmetic(), x.rows(), x.cols());
        b.resize(self.arithmetic(), x.rows(), x.cols());
        self.cross_attention.keys_and_values(memory.hidden, kv);
        let (kv, memories) = (kv.view(), memory.sequences);

        self.self_attention.forward(&*x, sequences, self_attention, a.values_mut());
        self.self_attention_norm.forward_sum(x.values(), a);
        let out = b.values_mut();
        self.cross_attention.forward(&*a, sequences, kv, memories, cross_attention, out);
        self.cross_attention_norm.forward_sum(a.values(), b);
        self.feed_forward.forward(&*b, feed_forward, x.values_mut());
        self.feed_forward_norm.forward_sum(b.values(), x);
    }

    /// The same at the last position of each of n prefixes, whose positions before are in `past`:
    /// x, (n, d_model), in place.
    pub fn step(
        &self,
        x: &mut Activations,
        visible: Visible<'_>,
        past: &mut LayerPast,
        cache: &mut DecoderLayerCache,
    ) {
        let DecoderLayerCache { self_attention, cross_attention, feed_forward, .. } = cache;
        let (a, b) = (&mut cache.attended, &mut cache.informed);
        a.resize(self.arithmetic(), x.rows(), x.cols());
        b.resize(self.arithmetic(), x.rows(), x.cols());
        let (prefixes, kv) = (&mut past.prefixes, &past.memory);

        self.self_attention.step(&*x, prefixes, visible.prefixes, self_attention, a.values_mut());
        self.self_attention_norm.forward_sum(x.values(), a);
        self.cross_attention.step(&*a, kv, visible.memories, cross_attention, b.values_mut());
        self.cross_attention_norm.forward_sum(a.values(), b);
        self.feed_forward.forward(&*b, feed_forward, x.values_mut());
        self.feed_forward_norm.forward_sum(b.values(), x);
    }

    /// The same with dropout of each sub-layer's output, keeping what [`DecoderLayer::backward`] will
    /// need.
    pub fn forward_taped(
        &self,
        x: &mut Activations,
        sequences: &Segments,
        memory: Memory<'_>,
        dropouts: &DecoderLayerDropouts,
        tape: &mut DecoderLayerTape,
        cache: &mut FeedForwardCache,
        scratch: &mut LayerScratch,
    ) {
        let (arithmetic, (n, d_model)) = (self.arithmetic(), x.shape());

        // The input stays on the tape; what was there becomes the output.
        let (input, sum, drop) =
            (&mut tape.self_attention_input, &mut tape.self_attention_sum, dropouts.self_attention);
        std::mem::swap(x, input);
        sum.resize(n, d_model);
        let (inner, out) = (&mut tape.self_attention, sum.view_mut());
        inner.exchange_scratch(&mut scratch.attention);
        self.self_attention.forward_dropped(&*input, sequences, drop.inside, inner, out);
        inner.exchange_scratch(&mut scratch.attention);
        let (norm, a) = (&self.self_attention_norm, &mut tape.cross_attention_input);
        add_and_norm(arithmetic, drop.output, input.values(), sum, norm, a);

        let (sum, drop) = (&mut tape.cross_attention_sum, dropouts.cross_attention);
        let inner = &mut tape.cross_attention;
        self.cross_attention.keys_and_values(memory.hidden, &mut tape.kv);
        sum.resize(n, d_model);
        inner.exchange_scratch(&mut scratch.attention);
        self.cross_attention.forward_dropped(
            &*a,
            sequences,
            tape.kv.view(),
            memory.sequences,
            drop.inside,
            inner,
            sum.view_mut(),
        );
        inner.exchange_scratch(&mut scratch.attention);
        let (norm, b) = (&self.cross_attention_norm, &mut tape.feed_forward_input);
        add_and_norm(arithmetic, drop.output, a.values(), sum, norm, b);

        let (sum, drop) = (&mut tape.feed_forward_sum, dropouts.feed_forward);
        sum.resize(n, d_model);
        let (inner, out) = (&mut tape.feed_forward, sum.view_mut());
        self.feed_forward.forward_taped(&*b, drop.inside, cache, inner, out);
        add_and_norm(arithmetic, drop.output, b.values(), sum, &self.feed_forward_norm, x);
    }

    /// The gradients: `d` is that of the output, and becomes that of x, (n, d_model); to `d_memory`
    /// that of the memory is added, (m, d_model). The tape is used up.
    pub fn backward(
        &self,
        sequences: &Segments,
        memory: Memory<'_>,
        dropouts: &DecoderLayerDropouts,
        tape: &mut DecoderLayerTape,
        (d, d_memory): (&mut Matrix<f32>, &mut Matrix<f32>),
        gradients: DecoderLayerGradients<'_>,
        scratch: &mut LayerScratch,
    ) {
        let level = self.arithmetic().level();
        let LayerScratch { linear, attention, feed_forward, residual, .. } = scratch;

        // Each sum's gradient goes on to its summand as it is, and through the sub-layer.
        let (drop, of) = (dropouts.feed_forward, gradients.feed_forward_norm);
        let (sum, norm) = (&tape.feed_forward_sum, &self.feed_forward_norm);
        let dy = add_and_norm_backward(level, drop.output, sum, norm, d, of, residual);
        self.feed_forward.backward(
            tape.feed_forward_input.values(),
            drop.inside,
            &mut tape.feed_forward,
            dy,
            InputGradient::Add(d.view_mut()),
            gradients.feed_forward,
            (feed_forward, linear),
        );

        let (drop, of) = (dropouts.cross_attention, gradients.cross_attention_norm);
        let (sum, norm) = (&tape.cross_attention_sum, &self.cross_attention_norm);
        let dy = add_and_norm_backward(level, drop.output, sum, norm, d, of, residual);
        let d_inputs = (InputGradient::Add(d.view_mut()), InputGradient::Add(d_memory.view_mut()));
        self.cross_attention.backward(
            (tape.cross_attention_input.values(), sequences),
            (memory.hidden.values(), tape.kv.view(), memory.sequences),
            drop.inside,
            &tape.cross_attention,
            dy,
            d_inputs,
            gradients.cross_attention,
            (attention, linear),
        );

        let (drop, of) = (dropouts.self_attention, gradients.self_attention_norm);
        let (sum, norm) = (&tape.self_attention_sum, &self.self_attention_norm);
        let dy = add_and_norm_backward(level, drop.output, sum, norm, d, of, residual);
        self.self_attention.backward(
            tape.self_attention_input.values(),
            sequences,
            drop.inside,
            &tape.self_attention,
            dy,
            InputGradient::Add(d.view_mut()),
            gradients.self_attention,
            (attention, linear),
        );
    }

    /// How its first product is computed: what x has to be ready for.
    pub fn arithmetic(&self) -> Arithmetic {
        self.self_attention.qkv.arithmetic()
    }
}
