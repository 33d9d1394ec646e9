//! The decoder: a stack of layers.

use ferrite_kernels::{Activations, Matrix, Segments};
use ferrite_layers::{Activation, CrossAttention, FeedForwardCache, LayerNorm};

use super::decoder_layer::{DecoderLayer, DecoderLayerCache, DecoderLayerTape, Memory};
use super::encoder_layer::LayerScratch;
use super::parameters::DecoderLayerOf;
use super::past::{LayerPast, Past, Visible};
use super::pre_norm_decoder_layer::PreNormDecoderLayer;
use super::{Dropouts, TransformerConfig};
use crate::assembly::{Assembly, update_norm};
use crate::parameters::{Exclusive, NormOf, Shared};
use crate::residual::{final_norm, final_norm_backward};

/// The decoder (Attention Is All You Need, section 3.1): N layers, each of which sees the tokens so
/// far and all of the encoder's output.
#[derive(Debug)]
pub struct Decoder {
    /// The layers, from the first to the last.
    pub layers: Vec<DecoderBlock>,
    /// After the last layer: pre-norm layers need it, the paper's have none.
    pub norm: Option<LayerNorm>,
}

/// A layer of either kind.
#[derive(Debug)]
pub enum DecoderBlock {
    /// The paper's.
    PostNorm(DecoderLayer),
    /// Normalises first.
    PreNorm(PreNormDecoderLayer),
}

impl DecoderBlock {
    /// The sub-layer that reads the encoder's output.
    pub fn cross_attention(&self) -> &CrossAttention {
        match self {
            DecoderBlock::PostNorm(layer) => &layer.cross_attention,
            DecoderBlock::PreNorm(layer) => &layer.cross_attention,
        }
    }

    fn forward(
        &self,
        x: &mut Activations,
        sequences: &Segments,
        memory: Memory<'_>,
        cache: &mut DecoderLayerCache,
    ) {
        match self {
            DecoderBlock::PostNorm(layer) => layer.forward(x, sequences, memory, cache),
            DecoderBlock::PreNorm(layer) => layer.forward(x, sequences, memory, cache),
        }
    }
}

/// What the backward pass of the decoder needs of the forward pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct DecoderTape {
    layers: Vec<DecoderLayerTape>,
    /// What the last norm normalises.
    sum: Matrix<f32>,
}

impl Decoder {
    pub(crate) fn new(
        layers: Vec<DecoderLayerOf<Shared<'_>>>,
        norm: Option<NormOf<Shared<'_>>>,
        config: &TransformerConfig,
        activation: Activation,
        assembly: &Assembly,
    ) -> Decoder {
        let heads = config.decoder_attention_heads;
        let layer = |of| match config.normalize_before {
            false => DecoderBlock::PostNorm(DecoderLayer::new(of, heads, activation, assembly)),
            true => {
                DecoderBlock::PreNorm(PreNormDecoderLayer::new(of, heads, activation, assembly))
            }
        };
        let layers = layers.into_iter().map(layer).collect();
        Decoder { layers, norm: norm.map(|of| assembly.norm(of)) }
    }

    pub(crate) fn update(
        &mut self,
        layers: Vec<DecoderLayerOf<Shared<'_>>>,
        norm: Option<NormOf<Shared<'_>>>,
    ) {
        for (layer, of) in self.layers.iter_mut().zip(layers) {
            match layer {
                DecoderBlock::PostNorm(layer) => layer.update(of),
                DecoderBlock::PreNorm(layer) => layer.update(of),
            }
        }
        if let (Some(norm), Some(of)) = (&mut self.norm, norm) {
            update_norm(norm, of);
        }
    }

    /// x: (n, d_model), the embedded tokens, in place: it becomes what the generator reads, ready for
    /// products.
    pub fn forward(
        &self,
        x: &mut Activations,
        sequences: &Segments,
        memory: Memory<'_>,
        cache: &mut DecoderLayerCache,
    ) {
        for layer in &self.layers {
            layer.forward(x, sequences, memory, cache);
        }
        final_norm(self.norm.as_ref(), &mut cache.output, x);
    }

    /// A past without prefixes for these sentences: keys and values of the memory, once for all steps.
    pub fn begin(&self, memory: &Activations, past: &mut Past) {
        past.layers.resize_with(self.layers.len(), LayerPast::default);
        for (layer, past) in self.layers.iter().zip(&mut past.layers) {
            past.prefixes.resize(0, 2 * memory.cols());
            layer.cross_attention().keys_and_values(memory, &mut past.memory);
        }
    }

    /// [`Decoder::forward`] at the last position of each of n prefixes; x: (n, d_model), in place. To
    /// the past that [`Decoder::begin`] has begun, n rows are added, one for each of the positions.
    pub fn step(
        &self,
        x: &mut Activations,
        visible: Visible<'_>,
        past: &mut Past,
        cache: &mut DecoderLayerCache,
    ) {
        for (layer, past) in self.layers.iter().zip(&mut past.layers) {
            match layer {
                DecoderBlock::PostNorm(layer) => layer.step(x, visible, past, cache),
                DecoderBlock::PreNorm(layer) => layer.step(x, visible, past, cache),
            }
        }
        final_norm(self.norm.as_ref(), &mut cache.output, x);
    }

    /// How much of each place of the memory each position takes in layer `layer`: for each sequence a
    /// matrix of shape (h * its length, the length of its memory), the heads one below the other. x as
    /// for [`Decoder::forward`]; it becomes what leaves that layer.
    ///
    /// # Panics
    /// If there is no such layer.
    #[track_caller]
    pub fn cross_attention_maps(
        &self,
        layer: usize,
        x: &mut Activations,
        sequences: &Segments,
        memory: Memory<'_>,
        cache: &mut DecoderLayerCache,
    ) -> Vec<Matrix<f32>> {
        for before in &self.layers[..=layer] {
            before.forward(x, sequences, memory, cache);
        }
        let (kv, cache) = (cache.kv.view(), &mut cache.cross_attention);
        self.layers[layer].cross_attention().maps(sequences, kv, memory.sequences, cache)
    }

    /// The same with dropout, keeping what [`Decoder::backward`] will need.
    pub(crate) fn forward_taped(
        &self,
        x: &mut Activations,
        sequences: &Segments,
        memory: Memory<'_>,
        dropouts: &Dropouts,
        tape: &mut DecoderTape,
        cache: &mut FeedForwardCache,
        scratch: &mut LayerScratch,
    ) {
        tape.layers.resize_with(self.layers.len(), DecoderLayerTape::default);
        for (index, (layer, tape)) in self.layers.iter().zip(&mut tape.layers).enumerate() {
            let drop = &dropouts.decoder_layer(index);
            match layer {
                DecoderBlock::PostNorm(layer) => {
                    layer.forward_taped(x, sequences, memory, drop, tape, cache, scratch);
                }
                DecoderBlock::PreNorm(layer) => {
                    layer.forward_taped(x, sequences, memory, drop, tape, cache, scratch);
                }
            }
        }
        final_norm(self.norm.as_ref(), &mut tape.sum, x);
    }

    /// The gradients: `d` is that of what the generator read, and becomes that of the embedded
    /// tokens; `d_memory` becomes that of the memory.
    pub(crate) fn backward(
        &self,
        sequences: &Segments,
        memory: Memory<'_>,
        dropouts: &Dropouts,
        tape: &mut DecoderTape,
        (d, d_memory): (&mut Matrix<f32>, &mut Matrix<f32>),
        (layers, norm): (Vec<DecoderLayerOf<Exclusive<'_>>>, Option<NormOf<Exclusive<'_>>>),
        scratch: &mut LayerScratch,
    ) {
        let (rows, cols) = memory.hidden.shape();
        d_memory.resize(rows, cols);
        d_memory.fill(0.0);
        let norm = norm.map(Into::into);
        final_norm_backward(self.norm.as_ref(), &tape.sum, d, norm, &mut scratch.residual);
        let layers = self.layers.iter().zip(&mut tape.layers).zip(layers).enumerate();
        for (index, ((layer, tape), of)) in layers.rev() {
            let (drop, d, of) =
                (&dropouts.decoder_layer(index), (&mut *d, &mut *d_memory), of.into());
            match layer {
                DecoderBlock::PostNorm(layer) => {
                    layer.backward(sequences, memory, drop, tape, d, of, scratch);
                }
                DecoderBlock::PreNorm(layer) => {
                    layer.backward(sequences, memory, drop, tape, d, of, scratch);
                }
            }
        }
    }
}
