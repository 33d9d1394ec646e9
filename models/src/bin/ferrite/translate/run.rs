//! `ferrite translate run`: texts to texts.

use std::num::NonZero;

use clap::{Args, ValueEnum};
use ferrite_models::Error;
use ferrite_models::tasks::{Source, Translated, Translator};
use ferrite_models::transformer::{
    DecodeOptions, DecodeWorkspace, LengthPenalty, MaxLength, Search,
};
use serde::Serialize;

use crate::console::Console;
use crate::input::Input;
use crate::lines::Text;
use crate::model::{resolve_model, warn};
use crate::options::{ArithmeticOptions, Format, InputOptions, OnTruncate, json_line};
use crate::outcome::{Failure, Outcome};
use crate::stream::{Answer, Answers, BATCH_TOKENS, Stream, Verb, too_long};

/// Hypotheses that are decoded at once.
const BATCH: usize = 128;

/// Translate texts
///
/// Writes a line for each line of the input, in the same order; with --n-best N, N lines. A text's
/// translation does not depend on the other texts or on the number of threads. A text that is
/// rejected, such as one with more tokens than the model takes, is named on stderr; in its place
/// there is an empty line, or with --format jsonl {"error": ..., "line": ...}.
#[derive(Args)]
#[command(after_help = after_help!(
    r#"ferrite translate run --model numbers "The train leaves at half past three.""#
    "ferrite translate run --model numbers --beam 8 --n-best 3 --format jsonl < english.txt"
))]
pub(crate) struct Options {
    #[command(flatten)]
    input: InputOptions,

    /// A folder, as `ferrite translate train` and `quickstart` write it
    #[arg(long, value_name = "DIR")]
    model: String,

    #[command(flatten)]
    arithmetic: ArithmeticOptions,

    #[command(flatten)]
    search: SearchOptions,

    /// What to write: translations, or {"translations": [{"text": ..., "score": ..., ...}, ...]}
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// How translations are searched.
#[derive(Args)]
pub(crate) struct SearchOptions {
    /// How many hypotheses a beam search goes on with; 1 is greedy search
    #[arg(long, value_name = "K", default_value = "4", conflicts_with = "sample")]
    beam: NonZero<usize>,

    /// What scores of long and short translations are made comparable with
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Penalty::Gnmt)]
    #[arg(conflicts_with = "sample")]
    length_penalty: Penalty,

    /// The exponent of the length penalty
    #[arg(long, value_name = "A", default_value_t = 0.6, conflicts_with = "sample")]
    alpha: f32,

    /// Draw the tokens at random in place of a search
    #[arg(long)]
    sample: bool,

    /// Below 1, what is drawn is likelier
    #[arg(long, value_name = "T", default_value_t = 1.0, requires = "sample")]
    temperature: f32,

    /// Draw among the K likeliest tokens only
    #[arg(long, value_name = "K", requires = "sample")]
    top_k: Option<usize>,

    /// Draw among the likeliest tokens that have this probability together
    #[arg(long, value_name = "P", default_value_t = 1.0, requires = "sample")]
    top_p: f32,

    /// Other draws for another seed
    #[arg(long, value_name = "N", default_value_t = 1, requires = "sample")]
    seed: u64,

    /// How many translations of each text are wanted, the best first
    #[arg(long, value_name = "N", default_value = "1")]
    n_best: NonZero<usize>,

    /// The most tokens of a translation beyond those of its source
    #[arg(long, value_name = "N", default_value_t = 50)]
    max_more: usize,
}

/// The names of length penalties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Penalty {
    /// ((5 + n) / 6)^A for n tokens, as in Attention Is All You Need
    Gnmt,
    /// n^A, as in most other programs
    Plain,
    /// None
    None,
}

impl SearchOptions {
    /// The options of the library. Refuses those that make no sense.
    pub(crate) fn options(&self) -> Result<DecodeOptions, Failure> {
        let search = match (self.sample, self.beam.get()) {
            (true, _) => Search::Sample {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                seed: self.seed,
            },
            (false, 1) => Search::Greedy,
            (false, width) => {
                let length_penalty = match self.length_penalty {
                    Penalty::Gnmt => LengthPenalty::Gnmt(self.alpha),
                    Penalty::Plain => LengthPenalty::Plain(self.alpha),
                    Penalty::None => LengthPenalty::None,
                };
                Search::Beam { width, length_penalty }
            }
        };
        let options = DecodeOptions {
            search,
            max_length: MaxLength { per_token: 1.0, plus: self.max_more },
            n_best: self.n_best.get(),
            batch: BATCH,
            ..DecodeOptions::default()
        };
        options.check().map(|()| options).map_err(|error| Failure::Usage(in_flags(error)))
    }
}

/// What is wrong with an option, under the name that it has here.
fn in_flags(error: Error) -> String {
    let Error::InvalidOption { option, expected, found } = error else { return error.to_string() };
    let flag = match option {
        "width" => "--beam",
        "length_penalty" => "--alpha",
        other => &format!("--{}", other.replace('_', "-")),
    };
    format!("{flag} {found}: {expected} expected")
}

pub(crate) fn run(options: Options, console: &Console) -> Result<Outcome, Failure> {
    let search = options.search.options()?;
    let folder = resolve_model(&options.model, console)?;
    let translator = Translator::from_pretrained_at(options.arithmetic.arithmetic(), folder)
        .map_err(Failure::model(&options.model))?;
    warn(translator.tokenizer(), console);
    let limit = translator.transformer().config().max_position_embeddings;
    let input = Input::open(options.input, console)?;
    let mut translate = Translate {
        translator,
        search,
        format: options.format,
        sources: Vec::new(),
        tokens: 0,
        workspace: DecodeWorkspace::default(),
    };
    let stream = Stream { console, on_truncate: OnTruncate::Error, limit };
    stream.run(&mut translate, &input)
}

/// Texts to lines with their translations.
struct Translate {
    translator: Translator,
    search: DecodeOptions,
    format: Format,
    sources: Vec<Source>,
    /// Of all sources.
    tokens: usize,
    workspace: DecodeWorkspace,
}

impl Verb for Translate {
    fn push(&mut self, _line: u64, Text { text, pair }: Text) -> Result<(), String> {
        if pair.is_some() {
            return Err("a pair, and one text is translated at a time".to_owned());
        }
        let source = self.translator.encode(&text).map_err(|error| match error {
            Error::TooLong { tokens, limit, .. } => too_long(tokens, limit),
            error => error.to_string(),
        })?;
        self.tokens += source.ids.len();
        self.sources.push(source);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.tokens >= BATCH_TOKENS
    }

    fn run(&mut self) -> Result<Answers, Failure> {
        let found = self
            .translator
            .translate(&self.sources, &self.search, &mut self.workspace)
            .map_err(|error| Failure::Model(error.to_string()))?;
        self.tokens = 0;
        let (format, n_best) = (self.format, self.search.n_best);
        let answer = |(found, source): (Vec<Translated>, Source)| {
            let (tokens, unknown) = (source.ids.len(), source.unknown);
            Ok(Answer { output: lines(format, n_best, &found), tokens, unknown, truncated: 0 })
        };
        Ok(found.into_iter().zip(self.sources.drain(..)).map(answer).collect())
    }

    fn rejection(&mut self, line: u64, reason: &str) -> Vec<u8> {
        let rejection = self.format.rejection(line, reason);
        match self.format {
            // So that every text has as many lines.
            Format::Text => rejection.repeat(self.search.n_best),
            Format::Jsonl => rejection,
        }
    }
}

/// A line of `--format jsonl`.
#[derive(Serialize)]
struct Line<'a> {
    translations: Vec<Found<'a>>,
}

#[derive(Serialize)]
struct Found<'a> {
    text: &'a str,
    /// What translations are ranked by.
    score: f64,
    log_probability: f64,
    /// Whether it ends, and was not cut off.
    is_finished: bool,
    tokens: &'a [u32],
}

/// What is written for a text.
fn lines(format: Format, n_best: usize, found: &[Translated]) -> Vec<u8> {
    match format {
        Format::Text => {
            // A beam may have found fewer; so that every text has as many lines, the rest is empty.
            let line = |index: usize| found.get(index).map_or("", |one| &*one.text);
            (0..n_best).flat_map(|index| [line(index).as_bytes(), b"\n"].concat()).collect()
        }
        Format::Jsonl => {
            let translations = found.iter().map(|Translated { text, hypothesis }| Found {
                text,
                score: hypothesis.score,
                log_probability: hypothesis.log_probability,
                is_finished: hypothesis.is_finished,
                tokens: &hypothesis.tokens,
            });
            let line = Line { translations: translations.collect() };
            json_line(&line)
        }
    }
}
