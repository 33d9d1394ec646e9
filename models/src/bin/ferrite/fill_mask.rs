//! `ferrite fill-mask`: words for the gaps in texts.

use std::num::NonZero;

use clap::Args;
use ferrite_models::FillMask;
use ferrite_models::tasks::{Blank, Candidate};
use rayon::prelude::*;
use serde::Serialize;

use crate::console::Console;
use crate::input::Input;
use crate::lines::Text;
use crate::model::{WORDS, resolve_model};
use crate::options::{Format, InputOptions, OnTruncate};
use crate::outcome::{Failure, Outcome};
use crate::stream::{Answer, Stream, Verb};

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

    /// What to write: tokens and their probabilities, or {"masks": [{"offsets": [start, end],
    /// "candidates": [{"token": ..., "id": ..., "probability": ...}, ...]}, ...]}
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Format::Text)]
    format: Format,

    /// How many candidates there are for each mask, the likeliest first
    #[arg(long, value_name = "N", default_value = "5")]
    top: NonZero<usize>,
}

pub(crate) fn run(options: Options, console: &Console) -> Result<Outcome, Failure> {
    let folder = resolve_model(&options.model, console)?;
    let model = FillMask::from_pretrained(folder).map_err(Failure::model(&options.model))?;
    let limit = model.bert().config().max_position_embeddings;
    let input = Input::open(options.input, console)?;
    let (format, top) = (options.format, options.top.get());
    let mut fill = Fill { model, format, top, texts: Vec::new() };
    // Nothing is cut: what is left out might be the mask.
    let stream = Stream { console, on_truncate: OnTruncate::Error, limit };
    stream.run(&mut fill, &input)
}

/// Texts to lines with their candidates.
struct Fill {
    model: FillMask,
    format: Format,
    top: usize,
    texts: Vec<Text>,
}

impl Verb for Fill {
    fn push(&mut self, _line: u64, text: Text) -> Result<(), String> {
        self.texts.push(text);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.texts.len() >= 64
    }

    fn run(&mut self) -> Result<Vec<Result<Answer, String>>, Failure> {
        let answers = self.texts.par_iter().map(|Text { text, pair }| {
            let blanks = self.model.fill(text, pair.as_deref(), self.top);
            let output = line(self.format, &blanks.map_err(|error| error.to_string())?);
            Ok(Answer { output, ..Answer::default() })
        });
        let answers = answers.collect();
        self.texts.clear();
        Ok(answers)
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
    fn new(blank: &Blank) -> Gap<'_> {
        let words = blank.candidates.iter();
        let candidates = words
            .map(|word| Word { token: &word.token, id: word.id, probability: word.probability })
            .collect();
        Gap { offsets: blank.offsets, candidates }
    }
}

/// The candidates for the masks of a text as a line.
fn line(format: Format, blanks: &[Blank]) -> Vec<u8> {
    let mut out = match format {
        Format::Text => {
            let word =
                |word: &Candidate| format!("{} {:.4}", word.token, f64::from(word.probability));
            let words =
                |blank: &Blank| blank.candidates.iter().map(word).collect::<Vec<_>>().join(", ");
            blanks.iter().map(words).collect::<Vec<_>>().join(" | ").into_bytes()
        }
        Format::Jsonl => {
            let masks = blanks.iter().map(Gap::new).collect();
            serde_json::to_vec(&Masks { masks }).expect("lists of numbers and strings")
        }
    };
    out.push(b'\n');
    out
}
