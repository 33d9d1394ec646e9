//! `tokenizer.json`, and the small JSON files beside a `vocab.txt`.
//!
//! Unknown keys are ignored everywhere. A component that is not BERT's is
//! refused by its name, since ignoring it would give other ids.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::added::AddedToken;
use crate::decode::Decoder;
use crate::error::Error;
use crate::normalize::{Dialect, Rules};
use crate::template::{Slot, Template};
use crate::truncate::{Direction, Strategy, Truncation};

/// The file's top level. The parts are read one by one, by type.
#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow, default)]
    version: Option<&'a RawValue>,
    #[serde(borrow, default)]
    truncation: Option<&'a RawValue>,
    #[serde(borrow, default)]
    added_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    normalizer: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pre_tokenizer: Option<&'a RawValue>,
    #[serde(borrow, default)]
    post_processor: Option<&'a RawValue>,
    #[serde(borrow, default)]
    decoder: Option<&'a RawValue>,
    #[serde(borrow)]
    model: &'a RawValue,
}

/// What the file says.
pub(crate) struct Parsed {
    pub(crate) rules: Rules,
    pub(crate) model: Model,
    pub(crate) added: Vec<AddedWithId>,
    pub(crate) single: Template,
    pub(crate) pair: Template,
    pub(crate) decoder: Decoder,
    pub(crate) truncation: Option<Truncation>,
}

/// The model part.
#[derive(Deserialize)]
pub(crate) struct Model {
    #[serde(default = "default_unknown")]
    pub(crate) unk_token: String,
    #[serde(default = "default_prefix")]
    pub(crate) continuing_subword_prefix: String,
    #[serde(default = "default_max_chars")]
    pub(crate) max_input_chars_per_word: usize,
    pub(crate) vocab: VocabMap,
}

fn default_unknown() -> String {
    "[UNK]".into()
}

fn default_prefix() -> String {
    "##".into()
}

fn default_max_chars() -> usize {
    100
}

/// A JSON object of tokens and ids, doubled ones kept.
pub(crate) struct VocabMap(pub(crate) Vec<(String, u32)>);

impl<'de> Deserialize<'de> for VocabMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = VocabMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tokens and ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<VocabMap, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(VocabMap(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// An entry of `added_tokens`.
#[derive(Deserialize)]
pub(crate) struct AddedWithId {
    pub(crate) id: u32,
    pub(crate) content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    normalized: Option<bool>,
    #[serde(default)]
    special: bool,
}

impl AddedWithId {
    pub(crate) fn token(&self) -> AddedToken {
        AddedToken {
            content: self.content.clone(),
            single_word: self.single_word,
            lstrip: self.lstrip,
            rstrip: self.rstrip,
            normalized: self.normalized.unwrap_or(!self.special),
            special: self.special,
        }
    }
}

/// The `type` of a component, and the parts of a `Sequence`.
#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(rename = "type", default)]
    name: Option<String>,
    #[serde(borrow, default, alias = "pretokenizers", alias = "processors", alias = "decoders")]
    normalizers: Option<Vec<&'a RawValue>>,
    /// Of a BPE model, which older files do not name.
    #[serde(borrow, default)]
    merges: Option<&'a RawValue>,
}

/// Reads parts of one file, naming it in errors.
struct Reader<'f> {
    file: &'f str,
}

impl Reader<'_> {
    fn read<'a, T: Deserialize<'a>>(&self, part: &'static str, text: &'a str) -> Result<T, Error> {
        serde_json::from_str(text).map_err(|source| Error::Json {
            file: self.file.into(),
            part,
            source,
        })
    }

    fn unsupported(&self, part: &'static str, found: String, supported: &'static str) -> Error {
        Error::Unsupported { file: self.file.into(), part, found, supported }
    }

    fn inconsistent(&self, part: &'static str, reason: String) -> Error {
        Error::Inconsistent { file: self.file.into(), part, reason }
    }

    /// The type of a component, a `Sequence` of one unwrapped; `None` for null.
    fn kind<'a>(
        &self,
        part: &'static str,
        value: Option<&'a RawValue>,
    ) -> Result<Option<(String, &'a str)>, Error> {
        let Some(value) = value.map(RawValue::get).filter(|text| *text != "null") else {
            return Ok(None);
        };
        let kind: Kind<'a> = self.read(part, value)?;
        match (kind.name, kind.normalizers.as_deref()) {
            (None, _) if kind.merges.is_some() => Ok(Some(("BPE".into(), value))),
            (Some(name), Some([only])) if name == "Sequence" => {
                let inner: Kind<'a> = self.read(part, only.get())?;
                Ok(Some((inner.name.unwrap_or_default(), only.get())))
            }
            (name, _) => Ok(Some((name.unwrap_or_default(), value))),
        }
    }
}

/// Reads the text of a `tokenizer.json`.
pub(crate) fn parse(file: &str, text: &str) -> Result<Parsed, Error> {
    let reader = Reader { file };
    let top: File<'_> = reader.read("the file", text)?;
    if let Some(version) = top.version.map(RawValue::get)
        && !matches!(version, "\"1.0\"" | "null")
    {
        return Err(reader.unsupported("version", version.into(), "\"1.0\""));
    }
    let added: Option<Vec<AddedWithId>> = match top.added_tokens {
        Some(value) => reader.read("added_tokens", value.get())?,
        None => None,
    };
    let (single, pair) = templates(&reader, top.post_processor)?;
    let model = match reader.kind("model", Some(top.model))? {
        Some((name, text)) if matches!(name.as_str(), "" | "WordPiece") => {
            reader.read("model", text)?
        }
        Some((name, _)) => return Err(reader.unsupported("model", name, "WordPiece")),
        None => return Err(reader.unsupported("model", "null".into(), "WordPiece")),
    };
    match reader.kind("pre_tokenizer", top.pre_tokenizer)? {
        Some((name, _)) if name == "BertPreTokenizer" => {}
        other => {
            let found = other.map_or("null".into(), |(name, _)| name);
            return Err(reader.unsupported("pre_tokenizer", found, "BertPreTokenizer"));
        }
    }
    Ok(Parsed {
        rules: rules(&reader, top.normalizer)?,
        model,
        added: added.unwrap_or_default(),
        single,
        pair,
        decoder: decoder(&reader, top.decoder)?,
        truncation: truncation(&reader, top.truncation)?,
    })
}

fn rules(reader: &Reader<'_>, value: Option<&RawValue>) -> Result<Rules, Error> {
    #[derive(Deserialize)]
    struct Bert {
        #[serde(default = "yes")]
        clean_text: bool,
        #[serde(default = "yes")]
        handle_chinese_chars: bool,
        #[serde(default)]
        strip_accents: Option<bool>,
        #[serde(default = "yes")]
        lowercase: bool,
    }
    fn yes() -> bool {
        true
    }
    let bert = match reader.kind("normalizer", value)? {
        None => Bert {
            clean_text: false,
            handle_chinese_chars: false,
            strip_accents: None,
            lowercase: false,
        },
        Some((name, text)) if name == "BertNormalizer" => reader.read("normalizer", text)?,
        Some((name, _)) => {
            return Err(reader.unsupported("normalizer", name, "BertNormalizer or null"));
        }
    };
    Ok(Rules {
        dialect: Dialect::HfFast,
        clean_text: bert.clean_text,
        split_cjk: bert.handle_chinese_chars,
        strip_accents: bert.strip_accents.unwrap_or(bert.lowercase),
        lowercase: bert.lowercase,
    })
}

fn decoder(reader: &Reader<'_>, value: Option<&RawValue>) -> Result<Decoder, Error> {
    #[derive(Deserialize)]
    struct WordPiece {
        #[serde(default = "default_prefix")]
        prefix: String,
        #[serde(default = "yes")]
        cleanup: bool,
    }
    fn yes() -> bool {
        true
    }
    match reader.kind("decoder", value)? {
        None => Ok(Decoder::Spaces),
        Some((name, text)) if name == "WordPiece" => {
            let WordPiece { prefix, cleanup } = reader.read("decoder", text)?;
            Ok(Decoder::WordPiece { prefix, cleanup })
        }
        Some((name, _)) => Err(reader.unsupported("decoder", name, "WordPiece or null")),
    }
}

fn truncation(reader: &Reader<'_>, value: Option<&RawValue>) -> Result<Option<Truncation>, Error> {
    #[derive(Deserialize)]
    #[serde(remote = "Strategy")]
    enum StrategyName {
        LongestFirst,
        OnlyFirst,
        OnlySecond,
    }
    #[derive(Deserialize)]
    #[serde(remote = "Direction")]
    enum DirectionName {
        Right,
        Left,
    }
    #[derive(Deserialize)]
    struct Params {
        max_length: usize,
        #[serde(default, with = "StrategyName")]
        strategy: Strategy,
        #[serde(default, with = "DirectionName")]
        direction: Direction,
        #[serde(default)]
        stride: usize,
    }
    let params: Option<Params> = match value {
        Some(value) => reader.read("truncation", value.get())?,
        None => None,
    };
    Ok(params.map(|Params { max_length, strategy, direction, stride }| Truncation {
        max_length,
        strategy,
        direction,
        stride,
    }))
}

/// The templates for one sequence and for a pair.
fn templates(reader: &Reader<'_>, value: Option<&RawValue>) -> Result<(Template, Template), Error> {
    const PART: &str = "post_processor";
    #[derive(Deserialize)]
    struct Bert {
        sep: (String, u32),
        cls: (String, u32),
    }
    match reader.kind(PART, value)? {
        None => Ok((Template::bert(None, false), Template::bert(None, true))),
        Some((name, text)) if name == "BertProcessing" => {
            let Bert { sep, cls } = reader.read(PART, text)?;
            let specials = Some((cls.1, sep.1));
            Ok((Template::bert(specials, false), Template::bert(specials, true)))
        }
        Some((name, text)) if name == "TemplateProcessing" => {
            let processing: Processing = reader.read(PART, text)?;
            let template = |pieces: &[TemplatePiece], sequences| {
                processing.template(pieces, sequences).map_err(|e| reader.inconsistent(PART, e))
            };
            Ok((template(&processing.single, 1)?, template(&processing.pair, 2)?))
        }
        Some((name, _)) => {
            let supported = "TemplateProcessing, BertProcessing or null";
            Err(reader.unsupported(PART, name, supported))
        }
    }
}

/// The most special tokens in a template. A file can ask for many with few bytes, by naming a long
/// list of ids often.
const MAX_SPECIALS: usize = 1024;

#[derive(Deserialize)]
struct Processing {
    single: Vec<TemplatePiece>,
    pair: Vec<TemplatePiece>,
    #[serde(default)]
    special_tokens: HashMap<String, SpecialToken>,
}

#[derive(Deserialize)]
struct SpecialToken {
    ids: Vec<u32>,
}

#[derive(Deserialize)]
enum TemplatePiece {
    Sequence { id: SequenceName, type_id: u32 },
    SpecialToken { id: String, type_id: u32 },
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
enum SequenceName {
    A,
    B,
}

impl Processing {
    fn template(&self, pieces: &[TemplatePiece], sequences: usize) -> Result<Template, String> {
        let specials: usize = pieces
            .iter()
            .map(|piece| match piece {
                TemplatePiece::SpecialToken { id, .. } => {
                    self.special_tokens.get(id).map_or(0, |token| token.ids.len())
                }
                TemplatePiece::Sequence { .. } => 0,
            })
            .sum();
        if specials > MAX_SPECIALS {
            return Err(format!("{specials} special tokens, at most {MAX_SPECIALS} are possible"));
        }
        let narrow = |type_id: u32| {
            u8::try_from(type_id).map_err(|_| format!("type id {type_id}, at most 255 is possible"))
        };
        let slots = pieces
            .iter()
            .map(|piece| match piece {
                TemplatePiece::Sequence { id, type_id } => {
                    Ok(Slot::Sequence { which: *id as u8, type_id: narrow(*type_id)? })
                }
                TemplatePiece::SpecialToken { id, type_id } => {
                    let token = self.special_tokens.get(id);
                    let token = token.ok_or_else(|| format!("{id} is not in special_tokens"))?;
                    Ok(Slot::Special { ids: token.ids.clone(), type_id: narrow(*type_id)? })
                }
            })
            .collect::<Result<Vec<_>, String>>()?;
        for which in 0..2 {
            let count = slots
                .iter()
                .filter(|slot| matches!(slot, Slot::Sequence { which: w, .. } if *w == which))
                .count();
            let expected = usize::from(usize::from(which) < sequences);
            if count != expected {
                let name = if which == 0 { "A" } else { "B" };
                let which = if sequences == 1 { "single" } else { "pair" };
                return Err(format!("{which}: sequence {name} {count} times, not {expected}"));
            }
        }
        Ok(Template { slots })
    }
}

/// What is used of `tokenizer_config.json`; the tokens can also be in
/// `special_tokens_map.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    pub(crate) do_lower_case: Option<bool>,
    pub(crate) tokenize_chinese_chars: Option<bool>,
    pub(crate) strip_accents: Option<bool>,
    pub(crate) never_split: Option<Vec<String>>,
    pub(crate) clean_up_tokenization_spaces: Option<bool>,
    pub(crate) unk_token: Option<TokenName>,
    pub(crate) cls_token: Option<TokenName>,
    pub(crate) sep_token: Option<TokenName>,
    pub(crate) pad_token: Option<TokenName>,
    pub(crate) mask_token: Option<TokenName>,
}

/// A token by itself or as an object with flags.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum TokenName {
    Plain(String),
    Object { content: String },
}

impl TokenName {
    pub(crate) fn content(&self) -> &str {
        match self {
            Self::Plain(content) | Self::Object { content } => content,
        }
    }
}

/// Reads one of the small files.
pub(crate) fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Error> {
    Reader { file }.read("the file", text)
}

/// Tokens and ids of `added_tokens.json`.
pub(crate) type AddedMap = BTreeMap<String, u32>;
