//! `ferrite translate train`: pairs of sentences to a Transformer.
//!
//! ```text
//! options     what the user says -> what the run is
//! told        what is said of target tokens
//! ```

mod options;
mod told;

use std::sync::Arc;

use ferrite_models::data::EncodedPairs;
use ferrite_models::tokenizer::{Tokenizer, TrainerOptions, WordPieceTrainer};
use ferrite_models::train::{Memory, TranslationOptions, TranslationRun};

use super::pairs::{Encoder, Rejections, count_words};
use crate::console::Console;
use crate::outcome::{Failure, Outcome};
use crate::training::{Vocabulary, failure, follow, stop_on_interrupt, tell_memory};

use options::HeldOut;
pub(crate) use options::Options;

/// Where all lines are listed that are not trained on.
const REJECTED: &str = "rejected.txt";

pub(crate) fn run(options: &Options, console: &Console) -> Result<Outcome, Failure> {
    options.check()?;
    let course = &options.course;
    let config = options.model()?;
    let stop = stop_on_interrupt()?;
    let folder = course.folder()?;
    let vocabulary = Vocabulary {
        options: &options.vocabulary,
        settings: TrainerOptions {
            lowercase: options.lowercase,
            strip_accents: Some(false),
            ..TrainerOptions::default()
        },
        positions: config.max_position_embeddings,
    };
    let feed = |trainer: &mut WordPieceTrainer| count_words(&options.pairs.files(), trainer);
    let tokenizer = vocabulary.tokenizer(course, console, feed)?;
    let run = options.run_options(config, &tokenizer)?;
    let (pairs, held_out) = read(options, &tokenizer, console)?;
    let texts = pairs.bytes() + held_out.bytes();
    check_memory(&run, texts, console)?;
    let mut run =
        TranslationRun::begin(folder, run, Arc::new(pairs), Arc::new(held_out)).map_err(failure)?;
    follow(&mut run, course, console, &stop)
}

/// The pairs to train on, and those to evaluate on.
fn read(
    options: &Options,
    tokenizer: &Tokenizer,
    console: &Console,
) -> Result<(EncodedPairs, EncodedPairs), Failure> {
    let mut rejections = Rejections::new(console, Some(options.course.out.join(REJECTED)));
    let encoder = Encoder { tokenizer, longest: (options.max_length, "--max-length") };
    let pairs = encoder.pairs(&options.pairs.files(), &mut rejections)?;
    let (pairs, held_out) = match options.held_out() {
        HeldOut::Part(part) => pairs.split(part, options.course.seed).map_err(failure)?,
        HeldOut::Files(files) => (pairs, encoder.pairs(&files, &mut rejections)?),
    };
    rejections.end()?;
    console.note(format!("{} pairs to train on, {} held out", pairs.len(), held_out.len()));
    Ok((pairs, held_out))
}

fn check_memory(run: &TranslationOptions, texts: u64, console: &Console) -> Result<(), Failure> {
    let memory = Memory::of_translation(run).with_data(texts);
    let less = "smaller --batch-tokens, with --accumulate, or a shorter --max-length";
    tell_memory(&memory, run.data.tokens, run.arithmetic, less, console)
}
