//! `config.json`: the sizes and switches of a BERT.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::Deserializer;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::config::{self, HIDDEN_ACTS, HiddenAct, invalid, null_is_default, of_family};
use crate::error::Error;
use crate::files;

/// The configuration of a BERT, by the field names of `config.json`.
///
/// The default is BERT-base, uncased (110 million parameters). A field that is absent from a file
/// has its default; a key that is not a field is kept in [`extra`](BertConfig::extra) and written
/// back.
///
/// ```
/// use ferrite_models::bert::{BertConfig, HiddenAct};
///
/// let config = BertConfig::from_json_str(r#"{"hidden_size": 128, "num_attention_heads": 2}"#)?;
/// assert_eq!(config.head_size(), 64);
/// assert_eq!(config.hidden_act, HiddenAct::Gelu);
/// # Ok::<(), ferrite_models::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct BertConfig {
    /// The model's family: always `"bert"`. Files from before 2019 have none.
    pub model_type: String,
    /// The classes that the weights were saved from, such as `"BertForMaskedLM"`.
    #[serde(deserialize_with = "null_is_default")]
    pub architectures: Vec<String>,

    /// V: rows of the token embedding table. Some checkpoints pad it beyond the vocabulary.
    pub vocab_size: usize,
    /// H: the width of every position's vector.
    pub hidden_size: usize,
    /// L: encoder layers.
    pub num_hidden_layers: usize,
    /// A: attention heads of a layer, each H / A wide.
    pub num_attention_heads: usize,
    /// The width of the feed-forward network's inner layer; 4 H in the paper.
    pub intermediate_size: usize,
    /// The activation between the two layers of the feed-forward network.
    pub hidden_act: HiddenAct,
    /// Rows of the position embedding table: the longest sequence.
    pub max_position_embeddings: usize,
    /// Rows of the segment embedding table.
    pub type_vocab_size: usize,
    /// The epsilon that LayerNorm adds to the variance.
    pub layer_norm_eps: f32,
    /// How positions are encoded; only `"absolute"` is supported.
    #[serde(deserialize_with = "null_is_absolute")]
    pub position_embedding_type: String,
    /// The token that other implementations pad with; nothing is padded here.
    #[serde(deserialize_with = "null_is_default")]
    pub pad_token_id: u32,

    /// Dropout after embeddings and sublayers, in training.
    pub hidden_dropout_prob: f32,
    /// Dropout of attention probabilities, in training.
    pub attention_probs_dropout_prob: f32,
    /// Dropout before a classifier, in training; if absent, `hidden_dropout_prob`.
    pub classifier_dropout: Option<f32>,
    /// The standard deviation of fresh weights.
    pub initializer_range: f32,

    /// Whether this is the decoder of a sequence-to-sequence model; not supported.
    pub is_decoder: bool,
    /// Whether layers also attend to an encoder's output; not supported.
    pub add_cross_attention: bool,
    /// Whether the masked-word head's matrix is the token embedding table.
    pub tie_word_embeddings: bool,

    /// The classes of a classifier, by number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id2label: Option<BTreeMap<u32, String>>,
    /// The numbers of the classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label2id: Option<BTreeMap<String, u32>>,
    /// What a classifier's outputs mean; if absent, the number of labels and their type say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem_type: Option<ProblemType>,

    /// The keys that are none of the above, as their JSON text. Only [`BertConfig::from_file`] and
    /// [`BertConfig::from_json_str`] fill it; a plain `Deserialize` leaves it empty.
    #[serde(flatten, skip_deserializing)]
    pub extra: BTreeMap<String, Box<RawValue>>,
}

impl Default for BertConfig {
    fn default() -> BertConfig {
        BertConfig {
            model_type: MODEL_TYPE.to_owned(),
            architectures: Vec::new(),
            vocab_size: 30522,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: HiddenAct::Gelu,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            position_embedding_type: ABSOLUTE.to_owned(),
            pad_token_id: 0,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            classifier_dropout: None,
            initializer_range: 0.02,
            is_decoder: false,
            add_cross_attention: false,
            tie_word_embeddings: true,
            id2label: None,
            label2id: None,
            problem_type: None,
            extra: BTreeMap::new(),
        }
    }
}

const MODEL_TYPE: &str = "bert";
const ABSOLUTE: &str = "absolute";

/// What a classifier's outputs mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProblemType {
    /// Numbers; mean squared error.
    Regression,
    /// One class of several; cross entropy.
    SingleLabelClassification,
    /// Any of the classes; binary cross entropy.
    MultiLabelClassification,
}

impl BertConfig {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// If it cannot be read or is not JSON of this form; [`Error::WrongModelType`] if it is another
    /// family's; [`Error::Unsupported`] and [`Error::InvalidValue`] as they say.
    pub fn from_file(path: impl AsRef<Path>) -> Result<BertConfig, Error> {
        let path = path.as_ref();
        BertConfig::from_json_slice(path, &files::read(path, files::CONFIG_LIMIT)?)
    }

    /// The same from text. Errors call it `config.json`.
    ///
    /// # Errors
    /// Those of [`BertConfig::from_file`].
    pub fn from_json_str(json: &str) -> Result<BertConfig, Error> {
        BertConfig::from_json_slice(Path::new("config.json"), json.as_bytes())
    }

    fn from_json_slice(path: &Path, json: &[u8]) -> Result<BertConfig, Error> {
        of_family(path, json, &[MODEL_TYPE])?;
        let not_json = |source| Error::Json { path: path.to_owned(), source };
        let mut config: BertConfig = serde_json::from_slice(json).map_err(not_json)?;
        config.extra = config::extra(path, json, &FIELDS)?;
        config.check(path)?;
        Ok(config)
    }

    /// The width of one attention head, H / A.
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// The number of a classifier's outputs: that of the labels, or two if there are none.
    pub fn num_labels(&self) -> usize {
        self.id2label.as_ref().map_or(2, BTreeMap::len)
    }

    /// Refuses what cannot be a BERT, or is not one that this crate can run.
    fn check(&self, path: &Path) -> Result<(), Error> {
        // Far above any model's size, and low enough that no product of two overflows. Whether the
        // weights have these sizes is seen when they are looked up, before memory is taken.
        for (field, value, limit) in [
            ("vocab_size", self.vocab_size, 1 << 28),
            ("hidden_size", self.hidden_size, 1 << 20),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 10),
            ("num_attention_heads", self.num_attention_heads, 1 << 20),
            ("intermediate_size", self.intermediate_size, 1 << 22),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 24),
            ("type_vocab_size", self.type_vocab_size, 1 << 16),
        ] {
            if value == 0 || value > limit {
                return invalid(path, field, format_args!("1 to {limit}"), value);
            }
        }
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        if hidden % heads != 0 {
            let expected = format_args!("a multiple of the {heads} attention heads");
            return invalid(path, "hidden_size", expected, hidden);
        }
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps >= 0.0) {
            return invalid(path, "layer_norm_eps", "a number from 0", self.layer_norm_eps);
        }
        if !(self.initializer_range.is_finite() && self.initializer_range >= 0.0) {
            return invalid(path, "initializer_range", "a number from 0", self.initializer_range);
        }
        for (field, value) in [
            ("hidden_dropout_prob", Some(self.hidden_dropout_prob)),
            ("attention_probs_dropout_prob", Some(self.attention_probs_dropout_prob)),
            ("classifier_dropout", self.classifier_dropout),
        ] {
            if let Some(value) = value.filter(|value| !(0.0..=1.0).contains(value)) {
                return invalid(path, field, "a probability", value);
            }
        }

        let refuse = |field, found: String, supported| {
            Err(Error::Unsupported { path: path.to_owned(), field, found, supported })
        };
        if let HiddenAct::Other(name) = &self.hidden_act {
            return refuse("hidden_act", name.clone(), HIDDEN_ACTS);
        }
        if self.position_embedding_type != ABSOLUTE {
            let found = self.position_embedding_type.clone();
            return refuse("position_embedding_type", found, ABSOLUTE);
        }
        if self.is_decoder {
            return refuse("is_decoder", "true".to_owned(), "false");
        }
        if self.add_cross_attention {
            return refuse("add_cross_attention", "true".to_owned(), "false");
        }
        Ok(())
    }
}

impl BertConfig {
    /// Refuses what cannot be pre-trained; `path` is where it is from.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] and [`Error::Unsupported`], with the first field that is wrong.
    pub fn check_pretraining(&self, path: &Path) -> Result<(), Error> {
        self.check_training(path)?;
        match self.type_vocab_size {
            one @ 0..2 => {
                invalid(path, "type_vocab_size", "at least 2, for pairs of segments", one)
            }
            _ => Ok(()),
        }
    }

    /// Refuses what can run and cannot be trained, too: where all is dropped nothing is learnt, and
    /// rows of one number have no gradient without ε.
    pub(crate) fn check_training(&self, path: &Path) -> Result<(), Error> {
        self.check(path)?;
        for (field, value) in [
            ("hidden_dropout_prob", self.hidden_dropout_prob),
            ("attention_probs_dropout_prob", self.attention_probs_dropout_prob),
            ("classifier_dropout", self.classifier_dropout.unwrap_or(0.0)),
        ] {
            if value == 1.0 {
                return invalid(path, field, "a number from 0 to below 1", value);
            }
        }
        if self.layer_norm_eps == 0.0 {
            return invalid(path, "layer_norm_eps", "a number above 0", self.layer_norm_eps);
        }
        Ok(())
    }
}

/// Of old versions that knew no other.
fn null_is_absolute<'de, D: Deserializer<'de>>(json: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(json)?.unwrap_or_else(|| ABSOLUTE.to_owned()))
}

/// The names of the fields (a test compares them with what is written).
const FIELDS: [&str; 23] = [
    "model_type",
    "architectures",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "max_position_embeddings",
    "type_vocab_size",
    "layer_norm_eps",
    "position_embedding_type",
    "pad_token_id",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "initializer_range",
    "is_decoder",
    "add_cross_attention",
    "tie_word_embeddings",
    "id2label",
    "label2id",
    "problem_type",
];

#[cfg(test)]
mod tests {
    use serde::de::IgnoredAny;

    use super::*;

    fn refused(json: &str) -> Error {
        BertConfig::from_json_str(json).expect_err(json)
    }

    #[test]
    fn an_empty_file_is_bert_base() {
        let config = BertConfig::from_json_str("{}").unwrap();
        let sizes = (config.hidden_size, config.num_hidden_layers, config.num_attention_heads);
        assert_eq!(
            (config.vocab_size, sizes, config.intermediate_size),
            (30522, (768, 12, 12), 3072)
        );
        assert_eq!((config.layer_norm_eps, config.pad_token_id), (1e-12, 0));
        assert_eq!(config.num_labels(), 2);
    }

    #[test]
    fn nulls_and_other_spellings_are_understood() {
        let config = BertConfig::from_json_str(
            r#"{"pad_token_id": null, "architectures": null, "position_embedding_type": null,
                "classifier_dropout": null, "problem_type": null, "hidden_act": "gelu_pytorch_tanh",
                "id2label": {"0": "no", "1": "yes", "10": "perhaps"}, "label2id": {"no": 0}}"#,
        )
        .unwrap();
        assert_eq!((config.hidden_act.clone(), config.num_labels()), (HiddenAct::GeluTanh, 3));
        assert_eq!(config.id2label.as_ref().unwrap()[&10], "perhaps");
    }

    #[test]
    fn unknown_keys_come_out_as_they_went_in() {
        let json = r#"{"hidden_size":384,"gradient_checkpointing":false,"_name":"a\"b",
            "task_specific_params":{"x":[1.50,null,{"y":1e400}]},"transformers_version":"4.8.2"}"#;
        let config = BertConfig::from_json_str(json).unwrap();
        assert_eq!(config.extra.len(), 4);
        let written = serde_json::to_string_pretty(&config).unwrap();
        let again = BertConfig::from_json_str(&written).unwrap();
        assert_eq!(again.hidden_size, 384);
        let texts = |config: &BertConfig| -> Vec<(String, String)> {
            config.extra.iter().map(|(key, raw)| (key.clone(), raw.get().to_owned())).collect()
        };
        assert_eq!(texts(&again), texts(&config));
        assert_eq!(again.extra["task_specific_params"].get(), r#"{"x":[1.50,null,{"y":1e400}]}"#);
    }

    #[test]
    fn the_list_of_fields_is_complete() {
        let config = BertConfig {
            id2label: Some(BTreeMap::new()),
            label2id: Some(BTreeMap::new()),
            problem_type: Some(ProblemType::Regression),
            ..BertConfig::default()
        };
        let written = serde_json::to_string(&config).unwrap();
        let keys: BTreeMap<String, IgnoredAny> = serde_json::from_str(&written).unwrap();
        let mut fields = FIELDS;
        fields.sort();
        assert_eq!(keys.into_keys().collect::<Vec<_>>(), fields);
    }

    #[test]
    fn another_family_is_refused_by_its_name() {
        for family in ["roberta", "distilbert", "xlm-roberta", "mpnet", "gpt2", ""] {
            // The other fields need not make sense here.
            let error = refused(&format!(r#"{{"model_type": "{family}", "hidden_size": "x"}}"#));
            let Error::WrongModelType { found, .. } = error else { panic!("{error}") };
            assert_eq!(found, family);
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_by_its_name() {
        for (name, value) in [
            ("hidden_act", r#""quick_gelu""#),
            ("hidden_act", r#""silu""#),
            ("hidden_act", r#""swish""#),
            ("position_embedding_type", r#""relative_key""#),
            ("position_embedding_type", r#""relative_key_query""#),
            ("is_decoder", "true"),
            ("add_cross_attention", "true"),
        ] {
            let error = refused(&format!(r#"{{"{name}": {value}}}"#));
            let Error::Unsupported { field, found, .. } = error else { panic!("{error}") };
            assert_eq!((field, &*found), (name, value.trim_matches('"')));
        }
    }

    #[test]
    fn sizes_that_no_model_has_are_refused() {
        for (name, value) in [
            ("hidden_size", "0"),
            ("hidden_size", "100"),
            ("hidden_size", "18446744073709551615"),
            ("num_attention_heads", "0"),
            ("num_attention_heads", "769"),
            ("num_hidden_layers", "1000000000000"),
            ("vocab_size", "9223372036854775807"),
            ("type_vocab_size", "0"),
            ("layer_norm_eps", "-1"),
            ("hidden_dropout_prob", "1.5"),
            ("initializer_range", "-0.02"),
        ] {
            let error = refused(&format!(r#"{{"{name}": {value}}}"#));
            assert!(matches!(error, Error::InvalidValue { .. }), "{name} {value}: {error}");
        }
        // Beyond all numbers of its type: the parser itself refuses it.
        let error = refused(r#"{"layer_norm_eps": 1e300}"#);
        assert!(matches!(error, Error::Json { .. }), "{error}");
    }

    #[test]
    fn what_is_not_json_of_this_form_is_named_by_line() {
        let deep = format!(r#"{{"x": {}"#, "[".repeat(1_000_000));
        for json in [
            "",
            "[]",
            "{",
            "{\"hidden_size\": -1}",
            "{\"hidden_size\": 1.5}",
            "{} {}",
            "\u{feff}{}",
            &deep,
        ] {
            let error = refused(json);
            assert!(matches!(error, Error::Json { .. }), "{error}");
            assert!(error.to_string().starts_with("config.json: "), "{error}");
        }
    }
}
