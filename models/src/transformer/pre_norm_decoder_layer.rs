//! One layer of a decoder that normalises first.

use ferrite_kernels::{Activations, Arithmetic, Matrix, Segments};
use ferrite_layers::{
    Activation, CrossAttention, FeedForward, FeedForwardCache, InputGradient, LayerNorm, Mask,
    SelfAttention,
};

use super::decoder_layer::{DecoderLayerCache, DecoderLayerDropouts, DecoderLayerTape, Memory};
use super::encoder_layer::LayerScratch;
use super::parameters::{DecoderLayerGradients, DecoderLayerOf};
use super::past::{LayerPast, Visible};
use crate::assembly::{
    Assembly, update_attention, update_cross_attention, update_feed_forward, update_norm,
};
use crate::parameters::Shared;
use crate::residual::{drop_and_add, norm_of, norm_of_backward, output_gradient};

/// The pre-norm decoder layer: what a sub-layer reads is normalised, what it gives is added. What
/// leaves the last layer is not normalised: that is left to a norm after it.
#[derive(Debug)]
pub struct PreNormDecoderLayer {
    /// The first sub-layer, masked.
    pub self_attention: SelfAttention,
    /// Normalises its input.
    pub self_attention_norm: LayerNorm,
    /// The second sub-layer: to the encoder's output, which is read as it is.
    pub cross_attention: CrossAttention,
    /// Normalises its input.
    pub cross_attention_norm: LayerNorm,
    /// The third sub-layer.
    pub feed_forward: FeedForward,
    /// Normalises its input.
    pub feed_forward_norm: LayerNorm,
}

impl PreNormDecoderLayer {
    pub(crate) fn new(
        of: DecoderLayerOf<Shared<'_>>,
        heads: usize,
        activation: Activation,
        assembly: &Assembly,
    ) -> PreNormDecoderLayer {
        PreNormDecoderLayer {
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
    /// x = x + MaskedAttention(LayerNorm(x))
    /// x = x + Attention(LayerNorm(x), memory)
    /// x = x + FeedForward(LayerNorm(x))
    /// ```
    /// x: (n, d_model), in place; its floats alone are read and written.
    pub fn forward(
        &self,
        x: &mut Activations,
        sequences: &Segments,
        memory: Memory<'_>,
        cache: &mut DecoderLayerCache,
    ) {
        let DecoderLayerCache { self_attention, cross_attention, kv, feed_forward, .. } = cache;
        let (h, y, level) = (&mut cache.attended, &mut cache.output, self.arithmetic().level());
        h.resize(self.arithmetic(), x.rows(), x.cols());
        y.resize(x.rows(), x.cols());
        self.cross_attention.keys_and_values(memory.hidden, kv);
        let (kv, memories) = (kv.view(), memory.sequences);

        self.self_attention_norm.forward_from(x.values(), h);
        self.self_attention.forward(&*h, sequences, self_attention, y.view_mut());
        drop_and_add(level, None, y.view(), x.values_mut());
        self.cross_attention_norm.forward_from(x.values(), h);
        let out = y.view_mut();
        self.cross_attention.forward(&*h, sequences, kv, memories, cross_attention, out);
        drop_and_add(level, None, y.view(), x.values_mut());
        self.feed_forward_norm.forward_from(x.values(), h);
        self.feed_forward.forward(&*h, feed_forward, y.view_mut());
        drop_and_add(level, None, y.view(), x.values_mut());
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
        let (h, y, level) = (&mut cache.attended, &mut cache.output, self.arithmetic().level());
        h.resize(self.arithmetic(), x.rows(), x.cols());
        y.resize(x.rows(), x.cols());
        let (prefixes, kv) = (&mut past.prefixes, &past.memory);

        self.self_attention_norm.forward_from(x.values(), h);
        self.self_attention.step(&*h, prefixes, visible.prefixes, self_attention, y.view_mut());
        drop_and_add(level, None, y.view(), x.values_mut());
        self.cross_attention_norm.forward_from(x.values(), h);
        self.cross_attention.step(&*h, kv, visible.memories, cross_attention, y.view_mut());
        drop_and_add(level, None, y.view(), x.values_mut());
        self.feed_forward_norm.forward_from(x.values(), h);
        self.feed_forward.forward(&*h, feed_forward, y.view_mut());
        drop_and_add(level, None, y.view(), x.values_mut());
    }

    /// The same with dropout of each sub-layer's output, keeping what
    /// [`PreNormDecoderLayer::backward`] will need.
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
        let (arithmetic, level) = (self.arithmetic(), self.arithmetic().level());

        let (h, from) = (&mut tape.self_attention_input, &mut tape.self_attention_sum);
        let (drop, inner) = (dropouts.self_attention, &mut tape.self_attention);
        norm_of(arithmetic, x.values(), from, &self.self_attention_norm, h);
        inner.exchange_scratch(&mut scratch.attention);
        self.self_attention.forward_dropped(&*h, sequences, drop.inside, inner, x.values_mut());
        inner.exchange_scratch(&mut scratch.attention);
        drop_and_add(level, drop.output, from.view(), x.values_mut());

        let (h, from) = (&mut tape.cross_attention_input, &mut tape.cross_attention_sum);
        let (drop, inner) = (dropouts.cross_attention, &mut tape.cross_attention);
        norm_of(arithmetic, x.values(), from, &self.cross_attention_norm, h);
        self.cross_attention.keys_and_values(memory.hidden, &mut tape.kv);
        inner.exchange_scratch(&mut scratch.attention);
        self.cross_attention.forward_dropped(
            &*h,
            sequences,
            tape.kv.view(),
            memory.sequences,
            drop.inside,
            inner,
            x.values_mut(),
        );
        inner.exchange_scratch(&mut scratch.attention);
        drop_and_add(level, drop.output, from.view(), x.values_mut());

        let (h, from) = (&mut tape.feed_forward_input, &mut tape.feed_forward_sum);
        let (drop, inner) = (dropouts.feed_forward, &mut tape.feed_forward);
        norm_of(arithmetic, x.values(), from, &self.feed_forward_norm, h);
        self.feed_forward.forward_taped(&*h, drop.inside, cache, inner, x.values_mut());
        drop_and_add(level, drop.output, from.view(), x.values_mut());
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
        let LayerScratch { linear, attention, feed_forward, residual, d_input } = scratch;
        d_input.resize(d.rows(), d.cols());

        let drop = dropouts.feed_forward;
        let dy = output_gradient(level, drop.output, d, residual);
        self.feed_forward.backward(
            tape.feed_forward_input.values(),
            drop.inside,
            &mut tape.feed_forward,
            dy,
            InputGradient::Set(d_input.view_mut()),
            gradients.feed_forward,
            (feed_forward, linear),
        );
        let (from, norm) = (&tape.feed_forward_sum, &self.feed_forward_norm);
        norm_of_backward(level, from, norm, d_input, d, gradients.feed_forward_norm, residual);

        let drop = dropouts.cross_attention;
        let dy = output_gradient(level, drop.output, d, residual);
        let set = InputGradient::Set(d_input.view_mut());
        self.cross_attention.backward(
            (tape.cross_attention_input.values(), sequences),
            (memory.hidden.values(), tape.kv.view(), memory.sequences),
            drop.inside,
            &tape.cross_attention,
            dy,
            (set, InputGradient::Add(d_memory.view_mut())),
            gradients.cross_attention,
            (attention, linear),
        );
        let (from, norm) = (&tape.cross_attention_sum, &self.cross_attention_norm);
        norm_of_backward(level, from, norm, d_input, d, gradients.cross_attention_norm, residual);

        let drop = dropouts.self_attention;
        let dy = output_gradient(level, drop.output, d, residual);
        self.self_attention.backward(
            tape.self_attention_input.values(),
            sequences,
            drop.inside,
            &tape.self_attention,
            dy,
            InputGradient::Set(d_input.view_mut()),
            gradients.self_attention,
            (attention, linear),
        );
        let (from, norm) = (&tape.self_attention_sum, &self.self_attention_norm);
        norm_of_backward(level, from, norm, d_input, d, gradients.self_attention_norm, residual);
    }

    /// How its first product is computed.
    pub fn arithmetic(&self) -> Arithmetic {
        self.self_attention.qkv.arithmetic()
    }
}
