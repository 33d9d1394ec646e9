//! `ferrite fill-mask`: words for the gaps in texts.

use std::num::NonZero;

use clap::Args;
use ferrite_models::bert::Workspace;
use ferrite_models::tasks::{Blank, Candidate, MaskBatch};
use ferrite_models::{Error, FillMask};
use serde::Serialize;

use crate::console::Console;
use crate::input::Input;
use crate::lines::Text;
use crate::model::{WORDS, check_pair, resolve_model, warn};
use crate::options::{ArithmeticOptions, Format, InputOptions, OnTruncate, json_line};
use crate::outcome::{Failure, Outcome};
use crate::stream::{Answer, Answers, BATCH_TOKENS, NOT_NUMBERS, Stream, Verb, too_long};

/// Candidates that are held at once, so that a large `--top` does not take all memory.
const BATCH_CANDIDATES: usize = 1 << 18;

/// Guess the words that are masked in texts
///
/// A gap is written as the model's mask token, [MASK] for most. Writes a line for each line of the
/// input, in the same order. Several masks of a text are guessed each for itself; with --format text
/// they are separated by " | ". A text that is rejected, such as one without a mask or with more
/// tokens than the model takes, is named on stderr; in its place there is an empty line, or with
/// --format jsonl {"error": ..., "line": ...}.
#[derive(Args)]
#[command(after_help = after_help!(
    r#"ferrite fill-mask "Paris is the [MASK] of France.""#
))]
pub(crate) struct Options {
    #[command(flatten)]
    input: InputOptions,

    /// A folder, or the name of a model on the hub
    #[arg(long, value_name = "DIR|NAME", default_value = WORDS)]
    model: String,

    #[command(flatten)]
    arithmetic: ArithmeticOptions,

    /// What to write: tokens and their probabilities, or {"masks": [{"offsets": [start, end],
    /// "candidates": [{"token": ..., "id": ..., "probability": ...}, ...]}, ...]}; masks of a pair have
    /// "sequence" as well, 0 or 1
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Format::Text)]
    format: Format,

    /// How many candidates there are for each mask, the likeliest first
    #[arg(long, value_name = "N", default_value = "5")]
    top: NonZero<usize>,
}

pub(crate) fn run(options: Options, console: &Console) -> Result<Outcome, Failure> {
    let folder = resolve_model(&options.model, console)?;
    let model = FillMask::from_pretrained_at(options.arithmetic.arithmetic(), folder)
        .map_err(Failure::model(&options.model))?;
    warn(model.tokenizer(), console);
    let limit = model.bert().config().max_position_embeddings;
    let input = Input::open(options.input, console)?;
    let (format, top) = (options.format, options.top.get());
    let (batch, workspace) = (MaskBatch::default(), Workspace::default());
    let mut fill = Fill { model, format, top, batch, texts: Vec::new(), workspace };
    // Nothing is cut: what is left out might be the mask.
    let stream = Stream { console, on_truncate: OnTruncate::Error, limit };
    stream.run(&mut fill, &input)
}

/// Texts to lines with their candidates.
struct Fill {
    model: FillMask,
    format: Format,
    top: usize,
    batch: MaskBatch,
    /// Of each text of the batch: its tokens, and whether it is a pair.
    texts: Vec<(usize, bool)>,
    workspace: Workspace,
}

impl Verb for Fill {
    fn push(&mut self, _line: u64, Text { text, pair }: Text) -> Result<(), String> {
        check_pair(self.model.bert(), pair.as_deref())?;
        let before = self.batch.tokens();
        self.model.push(&text, pair.as_deref(), &mut self.batch).map_err(|error| match error {
            Error::TooLong { tokens, limit, .. } => too_long(tokens, limit),
            error => error.to_string(),
        })?;
        self.texts.push((self.batch.tokens() - before, pair.is_some()));
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.batch.tokens() >= BATCH_TOKENS
            || self.batch.masks().saturating_mul(self.top) >= BATCH_CANDIDATES
    }

    fn run(&mut self) -> Result<Answers, Failure> {
        // Every text was checked when it was pushed; what may still fail is the model's fault.
        let filled = self
            .model
            .fill_batch(&self.batch, self.top, &mut self.workspace)
            .map_err(|error| Failure::Model(error.to_string()))?;
        self.batch.clear();
        let format = self.format;
        let answer = |(blanks, (tokens, is_pair)): (Vec<Blank>, (usize, bool))| {
            let words = blanks.iter().flat_map(|blank| &blank.candidates);
            if words.into_iter().any(|word| !word.probability.is_finite()) {
                return Err(NOT_NUMBERS.to_owned());
            }
            let output = line(format, &blanks, is_pair);
            Ok(Answer { output, tokens, ..Answer::default() })
        };
        Ok(filled.into_iter().zip(self.texts.drain(..)).map(answer).collect())
    }

    fn rejection(&mut self, line: u64, reason: &str) -> Vec<u8> {
        self.format.rejection(line, reason)
    }
}

/// A line of `--format jsonl`.
#[derive(Serialize)]
struct Masks<'a> {
    masks: Vec<Gap<'a>>,
}

#[derive(Serialize)]
struct Gap<'a> {
    /// Which text of a pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u8>,
    offsets: (usize, usize),
    candidates: Vec<Word<'a>>,
}

#[derive(Serialize)]
struct Word<'a> {
    token: &'a str,
    id: u32,
    probability: f32,
}

impl Gap<'_> {
    fn new(blank: &Blank, is_pair: bool) -> Gap<'_> {
        let words = blank.candidates.iter();
        let candidates = words
            .map(|word| Word { token: &word.token, id: word.id, probability: word.probability })
            .collect();
        let sequence = is_pair.then_some(blank.sequence);
        Gap { sequence, offsets: blank.offsets, candidates }
    }
}

/// The candidates for the masks of a text as a line.
fn line(format: Format, blanks: &[Blank], is_pair: bool) -> Vec<u8> {
    match format {
        Format::Text => {
            let word = |word: &Candidate| format!("{} {:.4}", word.token, word.probability);
            let words =
                |blank: &Blank| blank.candidates.iter().map(word).collect::<Vec<_>>().join(", ");
            (blanks.iter().map(words).collect::<Vec<_>>().join(" | ") + "\n").into_bytes()
        }
        Format::Jsonl => {
            let masks = blanks.iter().map(|blank| Gap::new(blank, is_pair)).collect();
            json_line(&Masks { masks })
        }
    }
}
