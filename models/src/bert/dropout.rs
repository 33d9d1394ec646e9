//! Where a BERT drops out in training.

use ferrite_kernels::Dropout;

use super::BertConfig;
use crate::residual::SubLayerDropout;
use crate::transformer::EncoderLayerDropouts;

/// The dropout of one pass: after the embeddings, after each sub-layer before its sum, on the
/// weights of attention, and before a classifier (BERT, appendix A.2). What is dropped is a
/// function of seed, step and place alone: a backward pass draws the same again.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dropouts {
    /// Of what layers hand on.
    pub hidden: f32,
    /// Of the weights of attention.
    pub attention: f32,
    /// Before a classifier.
    pub classifier: f32,
    /// The seed of the run.
    pub seed: u64,
    /// The number of the pass.
    pub step: u64,
}

/// A place in the model.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Embeddings,
    AttentionWeights(usize),
    AttentionOutput(usize),
    FeedForwardOutput(usize),
    Classifier,
}

impl Dropouts {
    /// None: for evaluation, and to compare gradients.
    pub const NONE: Dropouts =
        Dropouts { hidden: 0.0, attention: 0.0, classifier: 0.0, seed: 0, step: 0 };

    /// The rates of a configuration.
    pub fn new(config: &BertConfig, seed: u64, step: u64) -> Dropouts {
        let hidden = config.hidden_dropout_prob;
        Dropouts {
            hidden,
            attention: config.attention_probs_dropout_prob,
            classifier: config.classifier_dropout.unwrap_or(hidden),
            seed,
            step,
        }
    }

    /// The dropout of a layer. (BERT has none inside its feed-forward network.)
    pub(crate) fn layer(&self, layer: usize) -> EncoderLayerDropouts {
        EncoderLayerDropouts {
            attention: SubLayerDropout {
                inside: self.at(Place::AttentionWeights(layer)),
                output: self.at(Place::AttentionOutput(layer)),
            },
            feed_forward: SubLayerDropout {
                inside: None,
                output: self.at(Place::FeedForwardOutput(layer)),
            },
        }
    }

    /// The dropout of a place, if there is any.
    pub(crate) fn at(&self, place: Place) -> Option<Dropout> {
        let (rate, place) = match place {
            Place::Embeddings => (self.hidden, 0),
            Place::Classifier => (self.classifier, 1),
            Place::AttentionWeights(layer) => (self.attention, 4 * layer as u64 + 4),
            Place::AttentionOutput(layer) => (self.hidden, 4 * layer as u64 + 5),
            Place::FeedForwardOutput(layer) => (self.hidden, 4 * layer as u64 + 6),
        };
        (rate > 0.0).then_some(Dropout { rate, seed: self.seed, step: self.step, place })
    }
}
