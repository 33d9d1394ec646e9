//! The tensors of a BERT within its [`Parameters`].

use ferrite_layers::BertEmbeddingsGradients;

use super::{BertConfig, Part};
use crate::checkpoint::Names;
use crate::error::Error;
use crate::parameters::{
    AttentionOf, Cut, Exclusive, FeedForwardOf, LinearOf, List, NormOf, Parameters, Shared, Tensor,
};
use crate::transformer::EncoderLayerOf;

impl Tensor {
    /// The name that `transformers` gives a tensor of BERT in a model with a head.
    pub fn stored_name(&self) -> String {
        let of_head = ["cls.", "classifier."].iter().any(|head| self.name.starts_with(head));
        if of_head { self.name.clone() } else { format!("bert.{}", self.name) }
    }
}

impl Parameters {
    /// Zeros for a BERT with these parts.
    pub fn zeros(config: &BertConfig, parts: &[Part]) -> Parameters {
        Parameters::of(list(config, parts))
    }

    /// How many parameters such a BERT has.
    pub fn count_of(config: &BertConfig, parts: &[Part]) -> usize {
        list(config, parts).tensors().iter().map(|tensor| tensor.range.len()).sum()
    }

    /// Reads all tensors of a BERT's checkpoint. Those of heads that it does not have stay as they
    /// are; their names are returned.
    ///
    /// # Errors
    /// The first fault of any tensor; of a head of which a part is missing, too.
    pub fn read(&mut self, names: &Names<'_>) -> Result<Vec<String>, Error> {
        let heads = ["pooler.", "cls.", "classifier."];
        self.read_but(names, |name| heads.iter().any(|head| name.starts_with(head)))
    }

    /// The parameters part by part.
    ///
    /// # Panics
    /// If they are not those of such a BERT.
    #[track_caller]
    pub(crate) fn shared(&self, config: &BertConfig, parts: &[Part]) -> BertOf<Shared<'_>> {
        BertOf::cut(config, parts, &mut self.cut(list(config, parts)))
    }

    /// The parameters part by part, to be written.
    ///
    /// # Panics
    /// If they are not those of such a BERT.
    #[track_caller]
    pub(crate) fn exclusive(
        &mut self,
        config: &BertConfig,
        parts: &[Part],
    ) -> BertOf<Exclusive<'_>> {
        BertOf::cut(config, parts, &mut self.cut_mut(list(config, parts)))
    }
}

/// The tensors of a BERT with these parts.
fn list(config: &BertConfig, parts: &[Part]) -> List {
    let mut list = List::default();
    BertOf::cut(config, parts, &mut list);
    list
}

/// The three tables, and the norm of their sum.
pub(crate) struct EmbeddingsOf<C: Cut> {
    pub(crate) token: C::Matrix,
    pub(crate) position: C::Matrix,
    pub(crate) segment: C::Matrix,
    pub(crate) norm: NormOf<C>,
}

/// The masked-LM head, without its matrix where that is the table of tokens.
pub(crate) struct MaskedLmOf<C: Cut> {
    pub(crate) transform: LinearOf<C>,
    pub(crate) norm: NormOf<C>,
    pub(crate) bias: C::Vector,
    pub(crate) decoder: Option<C::Matrix>,
}

/// A whole model.
pub(crate) struct BertOf<C: Cut> {
    pub(crate) embeddings: EmbeddingsOf<C>,
    pub(crate) blocks: Vec<EncoderLayerOf<C>>,
    pub(crate) pooler: Option<LinearOf<C>>,
    pub(crate) masked_lm: Option<MaskedLmOf<C>>,
    pub(crate) next_sentence: Option<LinearOf<C>>,
    pub(crate) classifier: Option<LinearOf<C>>,
}

impl<C: Cut> BertOf<C> {
    /// Cuts all tensors of a model with these parts.
    fn cut(config: &BertConfig, parts: &[Part], c: &mut C) -> BertOf<C> {
        let has = |part| parts.contains(&part);
        let d_model = config.hidden_size;
        let embeddings = EmbeddingsOf {
            token: c.matrix("embeddings.word_embeddings.weight", (config.vocab_size, d_model)),
            position: c.matrix(
                "embeddings.position_embeddings.weight",
                (config.max_position_embeddings, d_model),
            ),
            segment: c.matrix(
                "embeddings.token_type_embeddings.weight",
                (config.type_vocab_size, d_model),
            ),
            norm: NormOf::cut("embeddings.LayerNorm", d_model, c),
        };
        let blocks = (0..config.num_hidden_layers).map(|layer| block(config, layer, c));
        BertOf {
            embeddings,
            blocks: blocks.collect(),
            pooler: has(Part::Pooler).then(|| LinearOf::cut("pooler.dense", d_model, d_model, c)),
            masked_lm: has(Part::MaskedLm).then(|| MaskedLmOf::cut(config, c)),
            next_sentence: has(Part::NextSentence)
                .then(|| LinearOf::cut("cls.seq_relationship", 2, d_model, c)),
            classifier: has(Part::Classifier)
                .then(|| LinearOf::cut("classifier", config.num_labels(), d_model, c)),
        }
    }
}

/// One layer of the encoder.
fn block<C: Cut>(config: &BertConfig, layer: usize, c: &mut C) -> EncoderLayerOf<C> {
    let (d_model, d_ff) = (config.hidden_size, config.intermediate_size);
    let name = |part: &str| format!("encoder.layer.{layer}.{part}");
    let qkv = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
    EncoderLayerOf {
        attention: AttentionOf {
            qkv: LinearOf::cut_side_by_side(&qkv, d_model, d_model, c),
            output: LinearOf::cut(&name("attention.output.dense"), d_model, d_model, c),
        },
        attention_norm: NormOf::cut(&name("attention.output.LayerNorm"), d_model, c),
        feed_forward: FeedForwardOf {
            inner: LinearOf::cut(&name("intermediate.dense"), d_ff, d_model, c),
            outer: LinearOf::cut(&name("output.dense"), d_model, d_ff, c),
        },
        feed_forward_norm: NormOf::cut(&name("output.LayerNorm"), d_model, c),
    }
}

impl<C: Cut> MaskedLmOf<C> {
    fn cut(config: &BertConfig, c: &mut C) -> MaskedLmOf<C> {
        let (d_model, words) = (config.hidden_size, config.vocab_size);
        MaskedLmOf {
            transform: LinearOf::cut("cls.predictions.transform.dense", d_model, d_model, c),
            norm: NormOf::cut("cls.predictions.transform.LayerNorm", d_model, c),
            bias: c.vector("cls.predictions.bias", words),
            decoder: (!config.tie_word_embeddings)
                .then(|| c.matrix("cls.predictions.decoder.weight", (words, d_model))),
        }
    }
}

impl<'a> From<EmbeddingsOf<Exclusive<'a>>> for BertEmbeddingsGradients<'a> {
    fn from(of: EmbeddingsOf<Exclusive<'a>>) -> Self {
        let EmbeddingsOf { token, position, segment, norm } = of;
        BertEmbeddingsGradients { token, segment, position, norm: norm.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(tied: bool) -> BertConfig {
        BertConfig {
            vocab_size: 11,
            hidden_size: 6,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            intermediate_size: 10,
            max_position_embeddings: 7,
            tie_word_embeddings: tied,
            ..BertConfig::default()
        }
    }

    #[test]
    fn the_tensors_are_those_of_the_parts() {
        for tied in [true, false] {
            let config = config(tied);
            let parameters = Parameters::zeros(&config, &Part::ALL);
            let mut found: Vec<_> =
                parameters.tensors().iter().map(|t| (t.name.clone(), t.shape.clone())).collect();
            let mut expected: Vec<_> = Part::ALL
                .iter()
                .flat_map(|&part| config.tensors(part))
                .map(|wanted| (wanted.name, wanted.shape))
                .collect();
            found.sort();
            expected.sort();
            assert_eq!(found, expected);
        }
    }

    /// Parameters of other parts, or of a model whose sizes only add up to the same, are not cut.
    #[test]
    fn parameters_of_another_model_are_not_cut() {
        let config = config(true);
        let wider = BertConfig { intermediate_size: 12, ..config.clone() };
        let swapped = BertConfig { vocab_size: 7, max_position_embeddings: 11, ..config.clone() };
        for (other, parts) in [
            (&config, &Part::ALL[..]),
            (&config, &Part::PRETRAINING[..3]),
            (&wider, &Part::PRETRAINING),
            (&swapped, &Part::PRETRAINING),
        ] {
            let mut other = Parameters::zeros(other, parts);
            let cut = std::panic::catch_unwind(|| {
                let _ = other.shared(&config, &Part::PRETRAINING);
            });
            assert!(cut.is_err(), "{parts:?}");
            let cut_mut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let _ = other.exclusive(&config, &Part::PRETRAINING);
            }));
            assert!(cut_mut.is_err(), "{parts:?}");
        }
    }

    #[test]
    fn what_is_cut_is_what_is_listed() {
        let config = config(true);
        let mut parameters = Parameters::zeros(&config, &Part::ALL);
        let mut all = parameters.exclusive(&config, &Part::ALL);
        all.blocks[1].attention.qkv.weight.row_mut(6).fill(1.0);
        all.blocks[1].feed_forward.outer.bias.fill(2.0);
        all.classifier.as_mut().unwrap().weight.row_mut(1).fill(3.0);
        all.masked_lm.as_mut().unwrap().bias[10] = 4.0;
        let tensor = |name: &str| parameters.get(name).unwrap();
        assert_eq!(tensor("encoder.layer.1.attention.self.key.weight")[..6], [1.0; 6]);
        assert_eq!(tensor("encoder.layer.1.output.dense.bias"), [2.0; 6]);
        assert_eq!(tensor("classifier.weight")[6..], [3.0; 6]);
        assert_eq!(tensor("cls.predictions.bias")[10], 4.0);
        let written = parameters.values().iter().filter(|&&x| x != 0.0).count();
        assert_eq!(written, 6 + 6 + 6 + 1);
        let of_tensors: usize = parameters.tensors().iter().map(|t| t.range.len()).sum();
        assert_eq!(parameters.count(), of_tensors);
    }
}
