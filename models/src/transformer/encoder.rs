//! The encoder: a stack of layers.

use ferrite_kernels::{Activations, Matrix, Segments};
use ferrite_layers::{FeedForwardCache, LayerNorm};

use super::encoder_layer::{EncoderLayer, EncoderLayerCache, EncoderLayerTape, LayerScratch};
use super::parameters::EncoderLayerOf;
use super::pre_norm_encoder_layer::PreNormEncoderLayer;
use super::{Dropouts, TransformerConfig};
use crate::assembly::{Assembly, update_norm};
use crate::parameters::{Exclusive, NormOf, Shared};
use crate::residual::{final_norm, final_norm_backward};

/// The encoder (Attention Is All You Need, section 3.1): N layers, each of which sees all of a
/// sentence.
#[derive(Debug)]
pub struct Encoder {
    /// The layers, from the first to the last.
    pub layers: Vec<EncoderBlock>,
    /// After the last layer: pre-norm layers need it, the paper's have none.
    pub norm: Option<LayerNorm>,
}

/// A layer of either kind.
#[derive(Debug)]
pub enum EncoderBlock {
    /// The paper's.
    PostNorm(EncoderLayer),
    /// Normalises first.
    PreNorm(PreNormEncoderLayer),
}

/// What the backward pass of the encoder needs of the forward pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct EncoderTape {
    layers: Vec<EncoderLayerTape>,
    /// What the last norm normalises.
    sum: Matrix<f32>,
}

impl Encoder {
    pub(crate) fn new(
        layers: Vec<EncoderLayerOf<Shared<'_>>>,
        norm: Option<NormOf<Shared<'_>>>,
        config: &TransformerConfig,
        activation: ferrite_layers::Activation,
        assembly: &Assembly,
    ) -> Encoder {
        let heads = config.encoder_attention_heads;
        let layer = |of| match config.normalize_before {
            false => EncoderBlock::PostNorm(EncoderLayer::new(of, heads, activation, assembly)),
            true => {
                EncoderBlock::PreNorm(PreNormEncoderLayer::new(of, heads, activation, assembly))
            }
        };
        let layers = layers.into_iter().map(layer).collect();
        Encoder { layers, norm: norm.map(|of| assembly.norm(of)) }
    }

    pub(crate) fn update(
        &mut self,
        layers: Vec<EncoderLayerOf<Shared<'_>>>,
        norm: Option<NormOf<Shared<'_>>>,
    ) {
        for (layer, of) in self.layers.iter_mut().zip(layers) {
            match layer {
                EncoderBlock::PostNorm(layer) => layer.update(of),
                EncoderBlock::PreNorm(layer) => layer.update(of),
            }
        }
        if let (Some(norm), Some(of)) = (&mut self.norm, norm) {
            update_norm(norm, of);
        }
    }

    /// x: (m, d_model), the embedded sentences, in place: it becomes the memory of the decoder, ready
    /// for products.
    pub fn forward(
        &self,
        x: &mut Activations,
        sequences: &Segments,
        cache: &mut EncoderLayerCache,
    ) {
        for layer in &self.layers {
            match layer {
                EncoderBlock::PostNorm(layer) => layer.forward(x, sequences, cache),
                EncoderBlock::PreNorm(layer) => layer.forward(x, sequences, cache),
            }
        }
        final_norm(self.norm.as_ref(), &mut cache.output, x);
    }

    /// The same with dropout, keeping what [`Encoder::backward`] will need.
    pub(crate) fn forward_taped(
        &self,
        x: &mut Activations,
        sequences: &Segments,
        dropouts: &Dropouts,
        tape: &mut EncoderTape,
        cache: &mut FeedForwardCache,
        scratch: &mut LayerScratch,
    ) {
        tape.layers.resize_with(self.layers.len(), EncoderLayerTape::default);
        for (index, (layer, tape)) in self.layers.iter().zip(&mut tape.layers).enumerate() {
            let drop = dropouts.encoder_layer(index);
            match layer {
                EncoderBlock::PostNorm(one) => {
                    one.forward_taped(x, sequences, &drop, tape, cache, scratch)
                }
                EncoderBlock::PreNorm(one) => {
                    one.forward_taped(x, sequences, &drop, tape, cache, scratch)
                }
            }
        }
        final_norm(self.norm.as_ref(), &mut tape.sum, x);
    }

    /// The gradients: `d` is that of the memory, and becomes that of the embedded sentences.
    pub(crate) fn backward(
        &self,
        sequences: &Segments,
        dropouts: &Dropouts,
        tape: &mut EncoderTape,
        d: &mut Matrix<f32>,
        (layers, norm): (Vec<EncoderLayerOf<Exclusive<'_>>>, Option<NormOf<Exclusive<'_>>>),
        scratch: &mut LayerScratch,
    ) {
        let norm = norm.map(Into::into);
        final_norm_backward(self.norm.as_ref(), &tape.sum, d, norm, &mut scratch.residual);
        let layers = self.layers.iter().zip(&mut tape.layers).zip(layers).enumerate();
        for (index, ((layer, tape), of)) in layers.rev() {
            let drop = dropouts.encoder_layer(index);
            let of = of.into();
            match layer {
                EncoderBlock::PostNorm(one) => one.backward(sequences, &drop, tape, d, of, scratch),
                EncoderBlock::PreNorm(one) => one.backward(sequences, &drop, tape, d, of, scratch),
            }
        }
    }
}
