//! The tensors of a BERT: canonical names and shapes.

use super::BertConfig;
use crate::checkpoint::{LoadReport, Names, Wanted};

/// A part of a BERT that a checkpoint has as a whole or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Part {
    /// Embeddings and encoder layers: always there.
    Encoder,
    /// tanh(W h_CLS + b). Absent where the model was trained without next sentences, as for
    /// masked words, token classes, questions.
    Pooler,
    /// The masked-word head: dense, activation, LayerNorm, and a bias over the vocabulary. Its
    /// matrix is the token embedding table.
    MaskedLm,
    /// The next-sentence head, on top of the pooler.
    NextSentence,
    /// A classifier of sequences, on top of the pooler.
    Classifier,
}

impl Part {
    /// All parts.
    pub const ALL: [Part; 5] =
        [Part::Encoder, Part::Pooler, Part::MaskedLm, Part::NextSentence, Part::Classifier];

    /// What pre-training needs.
    pub const PRETRAINING: [Part; 4] =
        [Part::Encoder, Part::Pooler, Part::MaskedLm, Part::NextSentence];

    /// What the classification of sequences needs.
    pub const CLASSIFICATION: [Part; 3] = [Part::Encoder, Part::Pooler, Part::Classifier];
}

impl BertConfig {
    /// The tensors of a part.
    pub fn tensors(&self, part: Part) -> Vec<Wanted> {
        let (v, h, i) = (self.vocab_size, self.hidden_size, self.intermediate_size);
        let mut list = List(Vec::new());
        match part {
            Part::Encoder => {
                let (p, t) = (self.max_position_embeddings, self.type_vocab_size);
                list.add("embeddings.word_embeddings.weight", &[v, h]);
                list.add("embeddings.position_embeddings.weight", &[p, h]);
                list.add("embeddings.token_type_embeddings.weight", &[t, h]);
                list.layer_norm("embeddings.LayerNorm", h);
                for layer in 0..self.num_hidden_layers {
                    let name = |block: &str| format!("encoder.layer.{layer}.{block}");
                    list.linear(&name("attention.self.query"), h, h);
                    list.linear(&name("attention.self.key"), h, h);
                    list.linear(&name("attention.self.value"), h, h);
                    list.linear(&name("attention.output.dense"), h, h);
                    list.layer_norm(&name("attention.output.LayerNorm"), h);
                    list.linear(&name("intermediate.dense"), i, h);
                    list.linear(&name("output.dense"), h, i);
                    list.layer_norm(&name("output.LayerNorm"), h);
                }
            }
            Part::Pooler => list.linear("pooler.dense", h, h),
            Part::MaskedLm => {
                list.linear("cls.predictions.transform.dense", h, h);
                list.layer_norm("cls.predictions.transform.LayerNorm", h);
                list.add("cls.predictions.bias", &[v]);
                if !self.tie_word_embeddings {
                    list.add("cls.predictions.decoder.weight", &[v, h]);
                }
            }
            Part::NextSentence => list.linear("cls.seq_relationship", 2, h),
            Part::Classifier => list.linear("classifier", self.num_labels(), h),
        }
        list.0
    }

    /// The parts that a checkpoint has, the encoder in any case; of the others at least one tensor
    /// is there.
    pub fn parts(&self, names: &Names<'_>) -> Vec<Part> {
        let is_there = |part: &Part| {
            // Many heads are called classifier; this one has a row for each label.
            if *part == Part::Classifier {
                let shape = [self.num_labels(), self.hidden_size];
                return names.contains("classifier.bias")
                    && names.find("classifier.weight", &shape).is_ok();
            }
            *part == Part::Encoder
                || self.tensors(*part).iter().any(|wanted| names.contains(&wanted.name))
        };
        Part::ALL.into_iter().filter(is_there).collect()
    }

    /// Matches the tensors of these parts with a checkpoint's.
    pub fn report(&self, names: &Names<'_>, parts: &[Part]) -> LoadReport {
        let wanted: Vec<Wanted> = parts.iter().flat_map(|&part| self.tensors(part)).collect();
        LoadReport::new(names, &wanted)
    }
}

struct List(Vec<Wanted>);

impl List {
    fn add(&mut self, name: &str, shape: &[usize]) {
        self.0.push(Wanted { name: name.to_owned(), shape: shape.to_owned() });
    }

    /// A weight of shape (outputs, inputs), and a bias.
    fn linear(&mut self, name: &str, outputs: usize, inputs: usize) {
        self.add(&format!("{name}.weight"), &[outputs, inputs]);
        self.add(&format!("{name}.bias"), &[outputs]);
    }

    fn layer_norm(&mut self, name: &str, width: usize) {
        self.add(&format!("{name}.weight"), &[width]);
        self.add(&format!("{name}.bias"), &[width]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bert_base_has_its_well_known_size() {
        let config = BertConfig::default();
        let parameters = |part| -> usize {
            config.tensors(part).iter().map(|wanted| wanted.shape.iter().product::<usize>()).sum()
        };
        // 109,482,240 with the pooler is what `transformers` counts for BertModel.
        assert_eq!(parameters(Part::Encoder) + parameters(Part::Pooler), 109_482_240);
        // BertForPreTraining: 110,106,428.
        let heads = parameters(Part::MaskedLm) + parameters(Part::NextSentence);
        assert_eq!(109_482_240 + heads, 110_106_428);
    }
}
