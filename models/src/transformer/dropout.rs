//! Where a Transformer drops out in training.

use ferrite_kernels::Dropout;

use super::{DecoderLayerDropouts, EncoderLayerDropouts, TransformerConfig};
use crate::residual::SubLayerDropout;

/// The dropout of one pass (Attention Is All You Need, section 5.4): of the sums of embeddings and
/// positions, and of what each sub-layer gives, before it is added. Dropout inside sub-layers came
/// later. What is dropped is a function of seed, step and place alone: a backward pass draws the
/// same again.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dropouts {
    /// Of embeddings and what sub-layers give.
    pub residual: f32,
    /// Of the weights of attention.
    pub attention: f32,
    /// Of what the activation gives.
    pub activation: f32,
    /// The seed of the run.
    pub seed: u64,
    /// The number of the pass.
    pub step: u64,
}

/// A half of the model.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    Encoder,
    Decoder,
}

/// The places of a layer, and one for what is before all layers.
const PLACES: u64 = 8;

impl Dropouts {
    /// None: for evaluation, and to compare gradients.
    pub const NONE: Dropouts =
        Dropouts { residual: 0.0, attention: 0.0, activation: 0.0, seed: 0, step: 0 };

    /// The rates of a configuration.
    pub fn new(config: &TransformerConfig, seed: u64, step: u64) -> Dropouts {
        let TransformerConfig { dropout, attention_dropout, activation_dropout, .. } = *config;
        Dropouts {
            residual: dropout,
            attention: attention_dropout,
            activation: activation_dropout,
            seed,
            step,
        }
    }

    /// Of embeddings.
    pub(crate) fn embeddings(&self, side: Side) -> Option<Dropout> {
        self.at(side, 0, self.residual)
    }

    /// Of a layer of the encoder.
    pub(crate) fn encoder_layer(&self, layer: usize) -> EncoderLayerDropouts {
        let sub_layer = |index, inside| self.sub_layer(Side::Encoder, layer, index, inside);
        EncoderLayerDropouts {
            attention: sub_layer(0, self.attention),
            feed_forward: sub_layer(1, self.activation),
        }
    }

    /// Of a layer of the decoder.
    pub(crate) fn decoder_layer(&self, layer: usize) -> DecoderLayerDropouts {
        let sub_layer = |index, inside| self.sub_layer(Side::Decoder, layer, index, inside);
        DecoderLayerDropouts {
            self_attention: sub_layer(0, self.attention),
            cross_attention: sub_layer(1, self.attention),
            feed_forward: sub_layer(2, self.activation),
        }
    }

    fn sub_layer(&self, side: Side, layer: usize, index: u64, inside: f32) -> SubLayerDropout {
        let first = PLACES * (layer as u64 + 1) + 2 * index;
        SubLayerDropout {
            inside: self.at(side, first, inside),
            output: self.at(side, first + 1, self.residual),
        }
    }

    fn at(&self, side: Side, place: u64, rate: f32) -> Option<Dropout> {
        let place = 2 * place + u64::from(matches!(side, Side::Decoder));
        (rate > 0.0).then_some(Dropout { rate, seed: self.seed, step: self.step, place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_places_are_the_same() {
        let drop =
            Dropouts { residual: 0.1, attention: 0.1, activation: 0.1, ..Dropouts::default() };
        let mut places = vec![drop.embeddings(Side::Encoder), drop.embeddings(Side::Decoder)];
        for layer in 0..5 {
            let EncoderLayerDropouts { attention, feed_forward } = drop.encoder_layer(layer);
            let decoder = drop.decoder_layer(layer);
            let sub_layers = [
                attention,
                feed_forward,
                decoder.self_attention,
                decoder.cross_attention,
                decoder.feed_forward,
            ];
            places.extend(sub_layers.iter().flat_map(|one| [one.inside, one.output]));
        }
        let count = places.len();
        let mut places: Vec<_> = places.into_iter().map(|one| one.unwrap().place).collect();
        places.sort();
        places.dedup();
        assert_eq!((places.len(), count), (52, 52));
        assert_eq!(Dropouts::NONE.decoder_layer(3), DecoderLayerDropouts::default());
    }
}
