//! `modules.json` and the files it leads to: what happens around the encoder.
//!
//! ```text
//! modules.json                        [{"path": "1_Pooling", "type": "....models.Pooling"}, ...]
//! sentence_bert_config.json           {"max_seq_length": 256, "do_lower_case": false}
//! tokenizer_config.json               {"model_max_length": 256}, where the former is silent
//! 1_Pooling/config.json               {"pooling_mode_mean_tokens": true, ...}
//! config_sentence_transformers.json   {"prompts": {"query": "..."}, "default_prompt_name": null}
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ferrite_tokenizer::{EncodeOptions, Tokenizer, Truncation};
use serde::Deserialize;

use crate::bert::BertConfig;
use crate::error::Error;
use crate::files;

/// How the vectors of a text's tokens become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Pooling {
    /// The first token's.
    Cls,
    /// The largest of each dimension.
    Max,
    /// The mean.
    Mean,
    /// The sum, divided by the square root of the number of tokens.
    MeanSqrtLen,
}

/// What a folder says about making sentence embeddings.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SentenceModules {
    /// The folder of the encoder and its tokenizer, often the one that was asked for.
    pub transformer: PathBuf,
    /// The longest sequence, special tokens included. If absent, as long as the encoder allows.
    pub max_seq_length: Option<usize>,
    /// Whether texts are lowercased before they are tokenized, whatever the tokenizer does.
    pub do_lower_case: bool,
    /// The poolings whose results follow one another in the embedding, in this order: at least one.
    pub pooling: Vec<Pooling>,
    /// Whether embeddings are scaled to length 1.
    pub normalize: bool,
    /// What is put before each text unless the user asks for something else.
    pub default_prompt: Option<String>,
    /// The file and the field that `max_seq_length` is from.
    limit_source: Option<(PathBuf, &'static str)>,
}

const MODULES: &str = "modules.json";

/// What these files were called for each family, the common name first.
const TRANSFORMER_CONFIGS: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

#[derive(Deserialize)]
struct Module {
    path: String,
    r#type: String,
}

#[derive(Default, Deserialize)]
struct TransformerConfig {
    max_seq_length: Option<usize>,
    do_lower_case: Option<bool>,
}

/// The length is a float, since a tokenizer without limit has 10^30.
#[derive(Deserialize)]
struct TokenizerConfig {
    model_max_length: Option<f64>,
}

#[derive(Default, Deserialize)]
struct Prompts {
    prompts: Option<BTreeMap<String, String>>,
    default_prompt_name: Option<String>,
}

/// A mode may be named, or switched on; a name goes first.
#[derive(Deserialize)]
struct PoolingConfig {
    pooling_mode: Option<Names>,
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default = "on")]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
    #[serde(default)]
    pooling_mode_weightedmean_tokens: bool,
    #[serde(default)]
    pooling_mode_lasttoken: bool,
}

fn on() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Several(Vec<String>),
}

impl SentenceModules {
    /// Reads what `folder` says. Without a `modules.json` it is a plain model, which
    /// sentence-transformers gives the mean of all tokens, not normalised.
    ///
    /// # Errors
    /// If a file cannot be read, a path walks out of the folder ([`Error::UnsafePath`]), or a
    /// module is not supported or not in its place ([`Error::Unsupported`]).
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<SentenceModules, Error> {
        let folder = folder.as_ref();
        let mut result = SentenceModules {
            transformer: folder.to_owned(),
            max_seq_length: None,
            do_lower_case: false,
            pooling: vec![Pooling::Mean],
            normalize: false,
            default_prompt: default_prompt(folder)?,
            limit_source: None,
        };
        let list = folder.join(MODULES);
        if list.exists() {
            result.read_modules(folder, &list)?;
        }
        let configs = TRANSFORMER_CONFIGS.map(|name| result.transformer.join(name));
        if let Some(path) = configs.iter().find(|path| path.exists()) {
            let config: TransformerConfig = files::read_json(path)?;
            if config.max_seq_length == Some(0) {
                return Err(Error::InvalidValue {
                    path: path.clone(),
                    field: "max_seq_length",
                    expected: "at least 1".to_owned(),
                    found: "0".to_owned(),
                });
            }
            result.max_seq_length = config.max_seq_length;
            result.limit_source = Some((path.clone(), "max_seq_length"));
            result.do_lower_case = config.do_lower_case.unwrap_or(false);
        }
        if result.max_seq_length.is_none() {
            let path = result.transformer.join("tokenizer_config.json");
            result.max_seq_length = tokenizer_limit(&path)?;
            result.limit_source = Some((path, "model_max_length"));
        }
        Ok(result)
    }

    /// The longest sequence that folder and encoder allow.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] if that has no room for the special tokens of a text.
    pub fn max_length(&self, config: &BertConfig, tokenizer: &Tokenizer) -> Result<usize, Error> {
        let positions = config.max_position_embeddings;
        let limit = self.max_seq_length.map_or(positions, |limit| limit.min(positions));
        let truncation = Some(Truncation::new(limit));
        let options = EncodeOptions { truncation, ..EncodeOptions::default() };
        let Err(error) = tokenizer.encode("", None, &options) else { return Ok(limit) };
        let ferrite_tokenizer::Error::MaxLengthTooSmall { specials, .. } = error else {
            return Err(error.into());
        };
        let own = self.limit_source.clone().filter(|_| self.max_seq_length == Some(limit));
        let (path, field) = own
            .unwrap_or_else(|| (self.transformer.join("config.json"), "max_position_embeddings"));
        let expected = format!("room for the {specials} special tokens of a text");
        Err(Error::InvalidValue { path, field, expected, found: limit.to_string() })
    }

    /// Follows the list: the encoder, then the pooling, then perhaps the normalisation.
    fn read_modules(&mut self, folder: &Path, list: &Path) -> Result<(), Error> {
        let modules: Vec<Module> = files::read_json(list)?;
        let mut kinds = Vec::new();
        for module in &modules {
            let path = files::plain_path(folder, &module.path, list)?;
            // The package has been reorganised several times; the class kept its name.
            let kind = module.r#type.rsplit('.').next().unwrap_or_default();
            kinds.push(kind);
            match (kinds.len(), kind) {
                (1, "Transformer") => self.transformer = path,
                (2, "Pooling") => self.pooling = read_pooling(&path.join("config.json"))?,
                (3.., "Normalize") => self.normalize = true,
                _ => return Err(unsupported_modules(list, &kinds)),
            }
        }
        if kinds.len() < 2 { Err(unsupported_modules(list, &kinds)) } else { Ok(()) }
    }
}

fn unsupported_modules(list: &Path, kinds: &[&str]) -> Error {
    Error::Unsupported {
        path: list.to_owned(),
        field: "type",
        found: kinds.join(", "),
        supported: "Transformer, Pooling, and optionally Normalize, in this order",
    }
}

/// The switched-on modes, in the order in which sentence-transformers joins their results.
fn read_pooling(path: &Path) -> Result<Vec<Pooling>, Error> {
    let config: PoolingConfig = files::read_json(path)?;
    let unsupported = |found: &str| Error::Unsupported {
        path: path.to_owned(),
        field: "pooling_mode",
        found: found.to_owned(),
        supported: "cls, max, mean, mean_sqrt_len_tokens",
    };
    let names = match config.pooling_mode {
        Some(Names::One(name)) => vec![name],
        Some(Names::Several(names)) => names,
        None => [
            ("cls", config.pooling_mode_cls_token),
            ("max", config.pooling_mode_max_tokens),
            ("mean", config.pooling_mode_mean_tokens),
            ("mean_sqrt_len_tokens", config.pooling_mode_mean_sqrt_len_tokens),
            ("weightedmean", config.pooling_mode_weightedmean_tokens),
            ("lasttoken", config.pooling_mode_lasttoken),
        ]
        .into_iter()
        .filter(|&(_, is_on)| is_on)
        .map(|(name, _)| name.to_owned())
        .collect(),
    };
    let mut modes = Vec::new();
    for name in &names {
        modes.push(match &*name.to_lowercase() {
            "cls" => Pooling::Cls,
            "max" => Pooling::Max,
            "mean" => Pooling::Mean,
            "mean_sqrt_len_tokens" => Pooling::MeanSqrtLen,
            _ => return Err(unsupported(name)),
        });
    }
    if modes.is_empty() {
        return Err(unsupported("none"));
    }
    modes.sort();
    modes.dedup();
    Ok(modes)
}

/// The longest sequence for the tokenizer, if it has a limit. Recent versions of
/// sentence-transformers write it nowhere else.
fn tokenizer_limit(path: &Path) -> Result<Option<usize>, Error> {
    if !path.exists() {
        return Ok(None);
    }
    let config: TokenizerConfig = files::read_json(path)?;
    let limit = config.model_max_length.filter(|limit| (1.0..1e9).contains(limit));
    Ok(limit.map(|limit| limit as usize))
}

/// The prompt that `config_sentence_transformers.json` makes the default.
fn default_prompt(folder: &Path) -> Result<Option<String>, Error> {
    let path = folder.join("config_sentence_transformers.json");
    if !path.exists() {
        return Ok(None);
    }
    let config: Prompts = files::read_json(&path)?;
    let Some(name) = config.default_prompt_name else { return Ok(None) };
    match config.prompts.unwrap_or_default().remove(&name) {
        Some(prompt) => Ok(Some(prompt).filter(|prompt| !prompt.is_empty())),
        None => Err(Error::InvalidValue {
            path,
            field: "default_prompt_name",
            expected: "one of prompts".to_owned(),
            found: format!("{name:?}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        folder
    }

    fn modules(list: &[(&str, &str)]) -> String {
        let entry = |(path, kind): &(&str, &str)| {
            format!(r#"{{"idx": 0, "name": "x", "path": "{path}", "type": "{kind}"}}"#)
        };
        format!("[{}]", list.iter().map(entry).collect::<Vec<_>>().join(","))
    }

    const TRANSFORMER: (&str, &str) = ("", "sentence_transformers.models.Transformer");
    const POOLING: (&str, &str) = ("1_Pooling", "sentence_transformers.models.Pooling");
    const NORMALIZE: (&str, &str) = ("2_Normalize", "sentence_transformers.models.Normalize");

    fn read_with_pooling(pooling: &str) -> Result<SentenceModules, Error> {
        let list = modules(&[TRANSFORMER, POOLING]);
        let folder = folder(&[(MODULES, &list), ("1_Pooling/config.json", pooling)]);
        SentenceModules::from_folder(folder.path())
    }

    #[test]
    fn a_plain_model_gets_the_mean() {
        let folder = folder(&[]);
        let read = SentenceModules::from_folder(folder.path()).unwrap();
        assert_eq!((read.pooling, read.normalize), (vec![Pooling::Mean], false));
        assert_eq!((read.max_seq_length, read.default_prompt), (None, None));
        assert_eq!(read.transformer, folder.path());
    }

    #[test]
    fn modules_are_followed() {
        let transformer = ("0_Transformer", "sentence_transformers.base.models.Transformer");
        let list = modules(&[transformer, POOLING, NORMALIZE]);
        let folder = folder(&[
            (MODULES, &list),
            ("0_Transformer/sentence_distilbert_config.json", r#"{"max_seq_length": 128}"#),
            (
                "1_Pooling/config.json",
                r#"{"pooling_mode_cls_token": true, "word_embedding_dimension": 4,
                "pooling_mode_mean_tokens": false, "include_prompt": true}"#,
            ),
            (
                "config_sentence_transformers.json",
                r#"{"prompts": {"query": "query: "}, "default_prompt_name": "query"}"#,
            ),
        ]);
        let expected = SentenceModules {
            transformer: folder.path().join("0_Transformer"),
            max_seq_length: Some(128),
            do_lower_case: false,
            pooling: vec![Pooling::Cls],
            normalize: true,
            default_prompt: Some("query: ".to_owned()),
            limit_source: Some((
                folder.path().join("0_Transformer/sentence_distilbert_config.json"),
                "max_seq_length",
            )),
        };
        assert_eq!(SentenceModules::from_folder(folder.path()).unwrap(), expected);
    }

    #[test]
    fn the_tokenizer_limits_where_nothing_else_does() {
        let tokenizer = |limit| ("tokenizer_config.json", limit);
        let read = |files: &[(&str, &str)]| {
            SentenceModules::from_folder(folder(files).path()).unwrap().max_seq_length
        };
        let limited = tokenizer(r#"{"model_max_length": 16, "added_tokens_decoder": {}}"#);
        assert_eq!(read(&[limited]), Some(16));
        let silent = ("sentence_bert_config.json", r#"{"transformer_task": "feature-extraction"}"#);
        assert_eq!(read(&[limited, silent]), Some(16));
        let own = ("sentence_bert_config.json", r#"{"max_seq_length": 32}"#);
        assert_eq!(read(&[limited, own]), Some(32));
        let endless = r#"{"model_max_length": 1000000000000000019884624838656}"#;
        for none in [endless, "{}", r#"{"model_max_length": null}"#, r#"{"model_max_length": -1}"#]
        {
            assert_eq!(read(&[tokenizer(none)]), None, "{none}");
        }
    }

    #[test]
    fn poolings_are_joined_in_their_order() {
        let all = r#"{"pooling_mode_mean_sqrt_len_tokens": true, "pooling_mode_mean_tokens": true,
            "pooling_mode_max_tokens": true, "pooling_mode_cls_token": true}"#;
        let order = [Pooling::Cls, Pooling::Max, Pooling::Mean, Pooling::MeanSqrtLen];
        assert_eq!(read_with_pooling(all).unwrap().pooling, order);
        // The mean is on unless it is switched off.
        assert_eq!(read_with_pooling("{}").unwrap().pooling, [Pooling::Mean]);
        assert_eq!(read_with_pooling(r#"{"pooling_mode": "CLS"}"#).unwrap().pooling, order[..1]);
        let two = r#"{"pooling_mode": ["mean", "cls"]}"#;
        assert_eq!(read_with_pooling(two).unwrap().pooling, [Pooling::Cls, Pooling::Mean]);
    }

    #[test]
    fn unsupported_poolings_are_named() {
        for (config, name) in [
            (r#"{"pooling_mode_weightedmean_tokens": true}"#, "weightedmean"),
            (r#"{"pooling_mode_lasttoken": true}"#, "lasttoken"),
            (r#"{"pooling_mode": "splade"}"#, "splade"),
            (r#"{"pooling_mode_mean_tokens": false}"#, "none"),
        ] {
            let error = read_with_pooling(config).unwrap_err();
            let Error::Unsupported { found, .. } = error else { panic!("{error}") };
            assert_eq!(found, name);
        }
    }

    #[test]
    fn unsupported_modules_are_named() {
        let dense = ("2_Dense", "sentence_transformers.models.Dense");
        for (list, found_modules) in [
            (vec![TRANSFORMER, POOLING, dense], "Transformer, Pooling, Dense"),
            (vec![POOLING, TRANSFORMER], "Pooling"),
            (vec![TRANSFORMER, POOLING, POOLING], "Transformer, Pooling, Pooling"),
            (vec![TRANSFORMER], "Transformer"),
            (vec![], ""),
        ] {
            let folder = folder(&[(MODULES, &modules(&list)), ("1_Pooling/config.json", "{}")]);
            let error = SentenceModules::from_folder(folder.path()).unwrap_err();
            let Error::Unsupported { found, .. } = error else { panic!("{error}") };
            assert_eq!(found, found_modules);
        }
    }

    #[test]
    fn paths_that_walk_out_are_refused() {
        for path in ["../1_Pooling", "/1_Pooling", "a/../../b"] {
            let list = modules(&[TRANSFORMER, (path, POOLING.1)]);
            let folder = folder(&[(MODULES, &list)]);
            let error = SentenceModules::from_folder(folder.path()).unwrap_err();
            assert!(matches!(error, Error::UnsafePath { .. }), "{error}");
        }
    }

    #[test]
    fn values_without_sense_are_refused() {
        let prompt = ("config_sentence_transformers.json", r#"{"default_prompt_name": "query"}"#);
        let length = ("sentence_bert_config.json", r#"{"max_seq_length": 0}"#);
        for file in [prompt, length] {
            let error = SentenceModules::from_folder(folder(&[file]).path()).unwrap_err();
            assert!(matches!(error, Error::InvalidValue { .. }), "{error}");
        }
    }
}
