//! A vocabulary that was made, and the files it is saved as.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::TrainerOptions;
use super::count::MAX_CHARS;
use super::merge::PREFIX;
use crate::added::AddedToken;
use crate::error::Error;
use crate::normalize::Dialect;
use crate::tokenizer::{Tokenizer, VocabOptions};

/// The files that [`Trained::save`] writes, in the order in which they come into their places:
/// before the vocabulary what says how to read it, and last the file that readers take if it is
/// there. Wherever that is cut off, [`Tokenizer::from_pretrained`] reads the old tokenizer, none, or
/// the new one.
pub const FILES: [&str; 3] = ["tokenizer_config.json", "vocab.txt", "tokenizer.json"];

/// The longest input of a BERT as published.
const MAX_LENGTH: u32 = 512;

/// Why training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The vocabulary has the size asked for.
    Size,
    /// No pair that is left occurs `min_frequency` times.
    Rare,
    /// Each word of the corpus is one token.
    Whole,
}

/// What training has seen and done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Words, each as often as it occurs.
    pub words: u64,
    /// Distinct words.
    pub distinct_words: usize,
    /// Words that lost their count to the bound on memory, each as often as it did: see
    /// [`TrainerOptions::max_words`].
    pub dropped_words: u64,
    /// Occurrences of words of more than 100 characters, not in `words`.
    pub long_words: u64,
    /// Distinct characters in the words.
    pub characters: usize,
    /// How many of them are kept.
    pub alphabet: usize,
    /// Distinct words with other characters, from which nothing was learnt.
    pub left_out_words: u64,
    /// How often they occur.
    pub left_out_occurrences: u64,
    /// Merges. Now and then one makes a token that is there already.
    pub merges: usize,
}

/// The result of training.
#[derive(Clone, Debug)]
pub struct Trained {
    options: TrainerOptions,
    tokens: Vec<String>,
    stop: Stop,
    summary: Summary,
}

impl Trained {
    pub(super) fn new(
        options: TrainerOptions,
        tokens: Vec<String>,
        stop: Stop,
        summary: Summary,
    ) -> Self {
        Self { options, tokens, stop, summary }
    }

    /// The tokens, in the order of their ids.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// Why there are not more.
    pub fn stop(&self) -> Stop {
        self.stop
    }

    /// What was seen and done.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// A tokenizer with this vocabulary: the one that the saved files are read as.
    ///
    /// # Errors
    ///
    /// A vocabulary of 2 GiB.
    pub fn tokenizer(&self) -> Result<Tokenizer, Error> {
        let options = VocabOptions {
            dialect: Dialect::HfFast,
            lowercase: self.options.lowercase,
            strip_accents: self.options.strip_accents,
            split_cjk: self.options.split_cjk,
            added_tokens: self.specials().map(AddedToken::special).collect(),
            ..VocabOptions::default()
        };
        Tokenizer::from_vocab(self.tokens.iter().cloned(), options)
    }

    fn specials(&self) -> impl Iterator<Item = &str> {
        self.options.special_tokens.iter().map(String::as_str)
    }

    /// Writes [`FILES`] into a folder, which is made if it is not there: what `transformers`, the
    /// `tokenizers` crate and [`Tokenizer::from_pretrained`] read. They replace files of their names
    /// once all of them are safe on the disk, each in one step, in the order of [`FILES`].
    ///
    /// # Errors
    ///
    /// [`Error::Io`], with the file. If one cannot be written, those that were there stay.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), Error> {
        let folder = folder.as_ref();
        fs::create_dir_all(folder).map_err(|source| Error::Io { path: folder.into(), source })?;
        let lines: String = self.tokens.iter().flat_map(|token| [token, "\n"]).collect();
        let texts = [self.config_json(), lines, self.tokenizer_json()];
        let files = FILES.map(|name| (folder.join(name), folder.join(format!("{name}.partial"))));
        replace(folder, &files, &texts).inspect_err(|_| {
            // What is left of them is of no use; that it cannot be removed is not the error to tell.
            files.iter().for_each(|(_, partial)| drop(fs::remove_file(partial)));
        })
    }

    /// The text of `tokenizer.json`.
    fn tokenizer_json(&self) -> String {
        let id = |token: &str| self.tokens.iter().position(|t| t == token);
        let added: Vec<_> = self
            .specials()
            .map(|token| {
                json!({
                    "id": id(token), "content": token, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": true,
                })
            })
            .collect();
        let special =
            |token: &str, segment: u8| json!({"SpecialToken": {"id": token, "type_id": segment}});
        let sequence =
            |name: &str, segment: u8| json!({"Sequence": {"id": name, "type_id": segment}});
        let entry = |token: &str| json!({"id": token, "ids": [id(token)], "tokens": [token]});
        let first = [special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0)];
        let second = [sequence("B", 1), special("[SEP]", 1)];
        let file = TokenizerJson {
            version: "1.0",
            truncation: (),
            padding: (),
            added_tokens: added,
            normalizer: json!({
                "type": "BertNormalizer",
                "clean_text": true,
                "handle_chinese_chars": self.options.split_cjk,
                "strip_accents": self.options.strip_accents,
                "lowercase": self.options.lowercase,
            }),
            pre_tokenizer: json!({"type": "BertPreTokenizer"}),
            post_processor: json!({
                "type": "TemplateProcessing",
                "single": first,
                "pair": first.iter().chain(&second).collect::<Vec<_>>(),
                "special_tokens": {"[CLS]": entry("[CLS]"), "[SEP]": entry("[SEP]")},
            }),
            decoder: json!({"type": "WordPiece", "prefix": PREFIX, "cleanup": true}),
            model: Model {
                kind: "WordPiece",
                unk_token: "[UNK]",
                continuing_subword_prefix: PREFIX,
                max_input_chars_per_word: MAX_CHARS,
                vocab: ById(&self.tokens),
            },
        };
        serde_json::to_string_pretty(&file).expect("strings and numbers")
    }

    /// The text of `tokenizer_config.json`.
    fn config_json(&self) -> String {
        let config = json!({
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": self.options.lowercase,
            "strip_accents": self.options.strip_accents,
            "tokenize_chinese_chars": self.options.split_cjk,
            "model_max_length": MAX_LENGTH,
            "clean_up_tokenization_spaces": true,
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "mask_token": "[MASK]",
        });
        serde_json::to_string_pretty(&config).expect("strings and numbers")
    }
}

/// Writes all texts aside, and then puts them in their places.
fn replace(folder: &Path, files: &[(PathBuf, PathBuf)], texts: &[String]) -> Result<(), Error> {
    let refused = |path: &Path| {
        let path = path.to_owned();
        |source| Error::Io { path, source }
    };
    for ((path, partial), text) in files.iter().zip(texts) {
        let write = || {
            let mut file = File::create(partial)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().map_err(refused(path))?;
    }
    for (path, partial) in files {
        // The next name is not to arrive on the disk before this one has.
        fs::rename(partial, path).and_then(|()| sync_names(folder)).map_err(refused(path))?;
    }
    Ok(())
}

/// Waits until the names in a folder have arrived on the disk.
fn sync_names(folder: &Path) -> io::Result<()> {
    // Elsewhere a folder cannot be opened, and its names need no such care.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// `tokenizer.json`, its keys in the order in which the `tokenizers` crate writes them.
#[derive(Serialize)]
struct TokenizerJson<'a> {
    version: &'static str,
    truncation: (),
    padding: (),
    added_tokens: Vec<Value>,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: Model<'a>,
}

#[derive(Serialize)]
struct Model<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    unk_token: &'static str,
    continuing_subword_prefix: &'static str,
    max_input_chars_per_word: usize,
    vocab: ById<'a>,
}

/// An object of tokens and ids, by id.
struct ById<'a>(&'a [String]);

impl Serialize for ById<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().zip(0u32..))
    }
}
