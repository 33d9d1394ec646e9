//! `ferrite embed`: texts to vectors.

use clap::Args;
use ferrite_models::SentenceEncoder;
use ferrite_models::bert::Workspace;
use ferrite_models::tasks::SentenceBatch;
use rayon::prelude::*;

use crate::console::Console;
use crate::input::Input;
use crate::lines::Text;
use crate::model::{SENTENCES, check_pair, resolve_model, warn};
use crate::options::{ArithmeticOptions, Format, InputOptions, OnTruncate, write_numbers};
use crate::outcome::{Failure, Outcome};
use crate::similarity::Similarities;
use crate::stream::{Answer, Answers, BATCH_TOKENS, NOT_NUMBERS, Stream, Verb};

/// Turn texts into vectors
///
/// Writes a line for each line of the input, in the same order. What a text's vector is does not
/// depend on the other texts or on the number of threads, to the last bit. A text that is rejected
/// (see the exit codes) is named on stderr; in its place there is an empty line, or with
/// --format jsonl {"error": ..., "line": ...}.
#[derive(Args)]
#[command(after_help = after_help!(
    r#"ferrite embed --similarity "A cat sits on the mat." "A kitten rests on a rug.""#
    "ferrite embed --format jsonl --input texts.txt > vectors.jsonl"
))]
pub(crate) struct Options {
    #[command(flatten)]
    input: InputOptions,

    /// A folder, or the name of a model on the hub
    #[arg(long, value_name = "DIR|NAME", default_value = SENTENCES)]
    model: String,

    #[command(flatten)]
    arithmetic: ArithmeticOptions,

    /// What to write: the numbers, with spaces between, or {"embedding": [...]}
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Format::Text)]
    format: Format,

    /// Write, in place of the vectors, how similar each text is to each: the cosines of their angles
    #[arg(long)]
    similarity: bool,

    /// What to do with texts of more tokens than the model takes
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = OnTruncate::Warn)]
    on_truncate: OnTruncate,
}

pub(crate) fn run(options: Options, console: &Console) -> Result<Outcome, Failure> {
    let folder = resolve_model(&options.model, console)?;
    let encoder = SentenceEncoder::from_pretrained_at(options.arithmetic.arithmetic(), folder)
        .map_err(Failure::model(&options.model))?;
    warn(encoder.tokenizer(), console);
    let stream = Stream { console, on_truncate: options.on_truncate, limit: encoder.max_length() };
    let input = Input::open(options.input, console)?;
    let mut embed = Embed {
        encoder,
        batch: SentenceBatch::default(),
        tokens: Vec::new(),
        workspace: Workspace::default(),
        format: options.format,
    };
    if !options.similarity {
        return stream.run(&mut embed, &input);
    }
    let mut similarities = Similarities::new(embed, options.format);
    let outcome = stream.run(&mut similarities, &input)?;
    similarities.write()?;
    Ok(outcome)
}

/// For each text of a batch its vector, and all of its answer but the output.
pub(crate) type Vectors = Vec<Result<(Vec<f32>, Answer), String>>;

/// Texts to vectors, and vectors to lines.
pub(crate) struct Embed {
    encoder: SentenceEncoder,
    batch: SentenceBatch,
    /// The tokens of each text of the batch.
    tokens: Vec<usize>,
    workspace: Workspace,
    format: Format,
}

impl Embed {
    /// The vectors of the batch, which is empty afterwards.
    pub(crate) fn vectors(&mut self) -> Result<Vectors, Failure> {
        // Every text was checked when it was pushed; what may still fail is the model's fault.
        let vectors = self
            .encoder
            .embed_batch(&self.batch, &mut self.workspace)
            .map_err(|error| Failure::Model(error.to_string()))?;
        let answer = |row: usize| {
            let vector = vectors.row(row).to_vec();
            if !vector.iter().all(|number| number.is_finite()) {
                return Err(NOT_NUMBERS.to_owned());
            }
            let (truncated, unknown) = (self.batch.truncated()[row], self.batch.unknown()[row]);
            let tokens = self.tokens[row];
            Ok((vector, Answer { output: Vec::new(), tokens, truncated, unknown }))
        };
        let answers = (0..self.batch.len()).map(answer).collect();
        self.batch.clear();
        self.tokens.clear();
        Ok(answers)
    }
}

impl Verb for Embed {
    fn push(&mut self, _line: u64, Text { text, pair }: Text) -> Result<(), String> {
        check_pair(self.encoder.bert(), pair.as_deref())?;
        let before = self.batch.tokens();
        self.encoder
            .push(&text, pair.as_deref(), &mut self.batch)
            .map_err(|error| error.to_string())?;
        self.tokens.push(self.batch.tokens() - before);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.batch.tokens() >= BATCH_TOKENS
    }

    fn run(&mut self) -> Result<Answers, Failure> {
        let format = self.format;
        let write = |(vector, answer): (Vec<f32>, Answer)| Answer {
            output: line(format, &vector),
            ..answer
        };
        Ok(self.vectors()?.into_par_iter().map(|result| result.map(write)).collect())
    }

    fn rejection(&mut self, line: u64, reason: &str) -> Vec<u8> {
        self.format.rejection(line, reason)
    }
}

/// A vector as a line.
fn line(format: Format, vector: &[f32]) -> Vec<u8> {
    let mut out = Vec::new();
    match format {
        Format::Text => write_numbers(vector, b" ", &mut out),
        Format::Jsonl => {
            out.extend_from_slice(b"{\"embedding\":[");
            write_numbers(vector, b",", &mut out);
            out.extend_from_slice(b"]}");
        }
    }
    out.push(b'\n');
    out
}
