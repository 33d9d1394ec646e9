//! One layer of an encoder that normalises first.

use ferrite_kernels::{Activations, Arithmetic, Matrix, Segments};
use ferrite_layers::{
    Activation, FeedForward, FeedForwardCache, InputGradient, LayerNorm, Mask, SelfAttention,
};

use super::encoder_layer::{
    EncoderLayerCache, EncoderLayerDropouts, EncoderLayerTape, LayerScratch,
};
use super::parameters::{EncoderLayerGradients, EncoderLayerOf};
use crate::assembly::{Assembly, update_attention, update_feed_forward, update_norm};
use crate::parameters::Shared;
use crate::residual::{drop_and_add, norm_of, norm_of_backward, output_gradient};

/// The pre-norm encoder layer, as tensor2tensor has it since its second version: what a sub-layer
/// reads is normalised, what it gives is added. What leaves the last layer is not normalised: that
/// is left to a norm after it.
#[derive(Debug)]
pub struct PreNormEncoderLayer {
    /// The first sub-layer.
    pub attention: SelfAttention,
    /// Normalises its input.
    pub attention_norm: LayerNorm,
    /// The second sub-layer.
    pub feed_forward: FeedForward,
    /// Normalises its input.
    pub feed_forward_norm: LayerNorm,
}

impl PreNormEncoderLayer {
    pub(crate) fn new(
        of: EncoderLayerOf<Shared<'_>>,
        heads: usize,
        activation: Activation,
        assembly: &Assembly,
    ) -> PreNormEncoderLayer {
        PreNormEncoderLayer {
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
    /// x = x + Attention(LayerNorm(x))
    /// x = x + FeedForward(LayerNorm(x))
    /// ```
    /// x: (n, d_model), in place; its floats alone are read and written.
    pub fn forward(
        &self,
        x: &mut Activations,
        sequences: &Segments,
        cache: &mut EncoderLayerCache,
    ) {
        let EncoderLayerCache { attention, feed_forward, attended: h, output: y } = cache;
        let level = self.arithmetic().level();
        y.resize(x.rows(), x.cols());
        h.resize(self.arithmetic(), x.rows(), x.cols());
        self.attention_norm.forward_from(x.values(), h);
        self.attention.forward(&*h, sequences, attention, y.view_mut());
        drop_and_add(level, None, y.view(), x.values_mut());
        self.feed_forward_norm.forward_from(x.values(), h);
        self.feed_forward.forward(&*h, feed_forward, y.view_mut());
        drop_and_add(level, None, y.view(), x.values_mut());
    }

    /// The same with dropout D, keeping what [`PreNormEncoderLayer::backward`] will need:
    ///
    /// ```text
    /// x = x + D(Attention(LayerNorm(x)))
    /// x = x + D(FeedForward(LayerNorm(x)))
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
        let arithmetic = self.arithmetic();
        let &EncoderLayerDropouts { attention: drop, feed_forward: drop_ff } = dropouts;
        let EncoderLayerTape { attention_input: h, attention, attention_sum: from, .. } = tape;
        norm_of(arithmetic, x.values(), from, &self.attention_norm, h);
        attention.exchange_scratch(&mut scratch.attention);
        self.attention.forward_dropped(&*h, sequences, drop.inside, attention, x.values_mut());
        attention.exchange_scratch(&mut scratch.attention);
        drop_and_add(arithmetic.level(), drop.output, from.view(), x.values_mut());

        let EncoderLayerTape {
            feed_forward_input: h, feed_forward, feed_forward_sum: from, ..
        } = tape;
        norm_of(arithmetic, x.values(), from, &self.feed_forward_norm, h);
        self.feed_forward.forward_taped(&*h, drop_ff.inside, cache, feed_forward, x.values_mut());
        drop_and_add(arithmetic.level(), drop_ff.output, from.view(), x.values_mut());
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
        let LayerScratch { linear, attention, feed_forward, residual, d_input } = scratch;
        let &EncoderLayerDropouts { attention: drop, feed_forward: drop_ff } = dropouts;
        d_input.resize(d.rows(), d.cols());

        let dy = output_gradient(level, drop_ff.output, d, residual);
        self.feed_forward.backward(
            tape.feed_forward_input.values(),
            drop_ff.inside,
            &mut tape.feed_forward,
            dy,
            InputGradient::Set(d_input.view_mut()),
            gradients.feed_forward,
            (feed_forward, linear),
        );
        let (from, norm) = (&tape.feed_forward_sum, &self.feed_forward_norm);
        norm_of_backward(level, from, norm, d_input, d, gradients.feed_forward_norm, residual);

        let dy = output_gradient(level, drop.output, d, residual);
        self.attention.backward(
            tape.attention_input.values(),
            sequences,
            drop.inside,
            &tape.attention,
            dy,
            InputGradient::Set(d_input.view_mut()),
            gradients.attention,
            (attention, linear),
        );
        let (from, norm) = (&tape.attention_sum, &self.attention_norm);
        norm_of_backward(level, from, norm, d_input, d, gradients.attention_norm, residual);
    }

    /// How its first product is computed.
    pub fn arithmetic(&self) -> Arithmetic {
        self.attention.qkv.arithmetic()
    }
}
