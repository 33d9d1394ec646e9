//! `ferrite tokenize`: texts to tokens.

use std::path::Path;

use clap::Args;
use ferrite_models::sentence::SentenceModules;
use ferrite_models::tokenizer::{EncodeOptions, Encoding, Scratch, Tokenizer};
use rayon::prelude::*;
use serde::Serialize;

use crate::console::Console;
use crate::input::Input;
use crate::lines::Text;
use crate::model::{SENTENCES, resolve_model, warn};
use crate::options::{Format, InputOptions, OnTruncate, json_line};
use crate::outcome::{Failure, Outcome};
use crate::stream::{Answer, Answers, Stream, Verb};

/// Bytes of text that are shared out between the threads at once.
const BATCH_BYTES: usize = 1 << 20;

/// Turn texts into the tokens that a model reads
///
/// Writes a line for each line of the input, in the same order; nothing is cut. Offsets are bytes of
/// the text as it was given, (0, 0) for tokens that are not in it. For a pair, the tokens of both
/// texts follow one another, and --format jsonl has "type_ids" that tell which is which.
/// A text that is rejected (see the exit codes) is named on stderr; in its place there is an empty
/// line, or with --format jsonl {"error": ..., "line": ...}.
#[derive(Args)]
#[command(after_help = after_help!(
    r#"ferrite tokenize "Ferrite: iron oxide." --format jsonl"#
))]
pub(crate) struct Options {
    #[command(flatten)]
    input: InputOptions,

    /// A folder, or the name of a model on the hub
    #[arg(long, value_name = "DIR|NAME", default_value = SENTENCES)]
    model: String,

    /// What to write: the tokens, or {"ids": [...], "tokens": [...], "offsets": [[start, end], ...]}
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Format::Text)]
    format: Format,

    /// Leave out what the model puts around a text, such as [CLS] and [SEP]
    #[arg(long)]
    no_special_tokens: bool,
}

pub(crate) fn run(options: Options, console: &Console) -> Result<Outcome, Failure> {
    let folder = resolve_model(&options.model, console)?;
    let tokenizer = open(&folder).map_err(Failure::model(&options.model))?;
    warn(&tokenizer, console);
    let input = Input::open(options.input, console)?;
    let encode = EncodeOptions {
        add_special_tokens: !options.no_special_tokens,
        ..EncodeOptions::default()
    };
    let mut tokenize =
        Tokenize { tokenizer, encode, format: options.format, texts: Vec::new(), bytes: 0 };
    // Nothing is cut.
    let stream = Stream { console, on_truncate: OnTruncate::Keep, limit: usize::MAX };
    stream.run(&mut tokenize, &input)
}

/// The tokenizer of a folder, which sentence-transformers may have put into one inside.
pub(crate) fn open(folder: &Path) -> Result<Tokenizer, ferrite_models::Error> {
    let inner = SentenceModules::from_folder(folder).map(|modules| modules.transformer);
    // Modules that cannot be used are no reason not to tokenize.
    Ok(Tokenizer::from_pretrained(inner.as_deref().unwrap_or(folder))?)
}

/// Texts to lines with their tokens.
struct Tokenize {
    tokenizer: Tokenizer,
    encode: EncodeOptions,
    format: Format,
    texts: Vec<Text>,
    bytes: usize,
}

impl Verb for Tokenize {
    fn push(&mut self, _line: u64, text: Text) -> Result<(), String> {
        self.bytes += text.text.len() + text.pair.as_ref().map_or(0, String::len);
        self.texts.push(text);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES
    }

    fn run(&mut self) -> Result<Answers, Failure> {
        let memory = || (Encoding::default(), Scratch::new());
        let answers = self.texts.par_iter().map_init(memory, |(encoding, scratch), text| {
            let Text { text, pair } = text;
            self.tokenizer
                .encode_into(text, pair.as_deref(), &self.encode, encoding, scratch)
                .map_err(|error| error.to_string())?;
            let output = self.line(encoding, pair.is_some());
            let (tokens, unknown) = (encoding.len(), encoding.unknown);
            Ok(Answer { output, tokens, truncated: 0, unknown })
        });
        let answers = answers.collect();
        self.texts.clear();
        self.bytes = 0;
        Ok(answers)
    }

    fn rejection(&mut self, line: u64, reason: &str) -> Vec<u8> {
        self.format.rejection(line, reason)
    }
}

/// A line of `--format jsonl`.
#[derive(Serialize)]
struct Tokens<'a> {
    ids: &'a [u32],
    tokens: &'a [&'a str],
    offsets: &'a [(usize, usize)],
    #[serde(skip_serializing_if = "Option::is_none")]
    type_ids: Option<&'a [u8]>,
}

impl Tokenize {
    fn line(&self, encoding: &Encoding, is_pair: bool) -> Vec<u8> {
        let token = |&id: &u32| self.tokenizer.id_to_token(id).unwrap_or_default();
        let tokens: Vec<&str> = encoding.ids.iter().map(token).collect();
        match self.format {
            Format::Text => (tokens.join(" ") + "\n").into_bytes(),
            Format::Jsonl => json_line(&Tokens {
                ids: &encoding.ids,
                tokens: &tokens,
                offsets: &encoding.offsets,
                type_ids: is_pair.then_some(&encoding.type_ids),
            }),
        }
    }
}
