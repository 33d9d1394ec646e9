//! `ferrite pretrain`: raw text to a BERT.
//!
//! ```text
//! options     what the user says -> what the run is
//! told        what is said of masked words and next sentences
//! ```

mod options;
mod told;

use std::fs::File;
use std::sync::Arc;

use ferrite_models::data::{Corpus, CorpusOptions, DocumentRule, SentenceRule};
use ferrite_models::tokenizer::{TrainerOptions, WordPieceTrainer};
use ferrite_models::train::{LargestBatch, Memory, PretrainingRun, RunOptions};

use crate::console::Console;
use crate::outcome::{Failure, Outcome};
use crate::stream::counted;
use crate::training::{Vocabulary, failure, follow, stop_on_interrupt, tell_memory};

use options::Documents;
pub(crate) use options::Options;

pub(crate) fn run(options: &Options, console: &Console) -> Result<Outcome, Failure> {
    options.check()?;
    let course = &options.course;
    let config = options.model()?;
    let stop = stop_on_interrupt()?;
    let folder = course.folder()?;
    let corpus = Arc::new(open_corpus(options, console)?);
    let vocabulary = Vocabulary {
        options: &options.vocabulary,
        settings: TrainerOptions { lowercase: !options.cased, ..TrainerOptions::default() },
        positions: config.max_position_embeddings,
    };
    let feed = |trainer: &mut WordPieceTrainer| feed(trainer, options);
    let tokenizer = Arc::new(vocabulary.tokenizer(course, console, feed)?);
    let run = options.run_options(config, &tokenizer);
    check_memory(options, &run, &corpus, console)?;
    let mut run = PretrainingRun::begin(folder, run, corpus, tokenizer).map_err(failure)?;
    follow(&mut run, course, console, &stop)
}

/// The text, read once.
pub(super) fn open_corpus(options: &Options, console: &Console) -> Result<Corpus, Failure> {
    let rules = CorpusOptions {
        sentences: if options.lines { SentenceRule::Lines } else { SentenceRule::Split },
        documents: match options.documents {
            Documents::BlankLines => DocumentRule::BlankLines,
            Documents::Files => DocumentRule::Files,
        },
        ..CorpusOptions::default()
    };
    let corpus = Corpus::open(&options.files, rules).map_err(failure)?;
    let report = corpus.report();
    let mut text = format!(
        "{} in {}, {:.1} MB",
        counted(report.documents, "document"),
        counted(report.files, "file"),
        report.bytes as f64 / 1e6
    );
    if report.invalid_utf8 > 0 {
        text += &format!("; {} not in UTF-8", counted(report.invalid_utf8, "place"));
    }
    console.note(text);
    Ok(corpus)
}

/// Counts the words of all files.
fn feed(trainer: &mut WordPieceTrainer, options: &Options) -> Result<(), Failure> {
    for path in &options.files {
        let file = File::open(path).map_err(Failure::file(path))?;
        // As the corpus reads it, which has told of what is not UTF-8.
        trainer.feed_lossy(&path.display().to_string(), file).map_err(Failure::other)?;
    }
    Ok(())
}

fn check_memory(
    options: &Options,
    run: &RunOptions,
    corpus: &Corpus,
    console: &Console,
) -> Result<(), Failure> {
    let tokens = options.batch * options.max_length;
    let masked = options.batch * run.data.masking.max_predictions;
    let memory =
        Memory::of_pretraining(&run.config, run.arithmetic, LargestBatch { tokens, masked })
            .with_data(run.data.memory(corpus));
    let less = "a smaller --batch, with --accumulate, or a shorter --max-length";
    tell_memory(&memory, tokens, run.arithmetic, less, console)
}
