//! `ferrite pretrain`: raw text to a BERT.
//!
//! ```text
//! options     what the user says -> what the run is
//! text        the corpus, and its tokenizer
//! memory      what the run takes of it
//! progress    how far it is, and what comes out
//! ```

mod memory;
mod options;
mod progress;
mod text;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ferrite_models::data::DataError;
use ferrite_models::train::store::StoreError;
use ferrite_models::train::{Evaluation, PretrainingRun, RunError, RunFolder};

use crate::console::Console;
use crate::outcome::{Failure, Outcome};
use crate::stream::write_out;

use memory::tell_memory;
pub(crate) use options::Options;
use progress::{Pace, line, report};
use text::{open_corpus, tokenizer};

pub(crate) fn run(options: &Options, console: &Console) -> Result<Outcome, Failure> {
    options.check()?;
    let config = options.model()?;
    let stop = stop_on_interrupt()?;
    // Before anything costly, and before a file of a run that is there could be replaced.
    let begin = if options.resume { RunFolder::begun } else { RunFolder::fresh };
    let folder = begin(&options.out).map_err(failure)?;
    let corpus = Arc::new(open_corpus(options, console)?);
    let tokenizer = Arc::new(tokenizer(options, config.max_position_embeddings, console)?);
    let run_options = options.run_options(config, &tokenizer);
    tell_memory(options, &run_options, &corpus, console)?;
    let mut run = PretrainingRun::begin(folder, run_options, corpus, tokenizer).map_err(failure)?;
    for damaged in run.damaged() {
        console.note(format!("a checkpoint is damaged, and the one before is taken: {damaged}"));
    }
    if options.resume {
        console.note(format!("going on after step {} of {}", run.steps(), run.total()));
    }
    match train(&mut run, options, console, &stop)? {
        Some(evaluation) => {
            run.export().map_err(failure)?;
            console.note(format!(
                "the model is in {0}; to let it guess: ferrite fill-mask --model {0} \"... [MASK] \
                 ...\"",
                options.out.display()
            ));
            write_out(report(&evaluation, options.format).as_bytes())?;
            Ok(Outcome::Done)
        }
        None => {
            console.note(format!(
                "stopped after step {} of {}, which is saved; the same command with --resume goes \
                 on",
                run.steps(),
                run.total()
            ));
            Ok(Outcome::Interrupted)
        }
    }
}

/// The steps that are left; the last evaluation, or nothing if the user stopped it.
fn train(
    run: &mut PretrainingRun,
    options: &Options,
    console: &Console,
    stop: &AtomicBool,
) -> Result<Option<Evaluation>, Failure> {
    let total = run.total();
    let every = |given: Option<u64>| given.unwrap_or(total / 20).max(1);
    let (evaluate_every, save_every) = (every(options.evaluate_every), every(options.save_every));
    let progress = console.download(Some(total));
    let mut pace = Pace::new();
    let mut evaluation = None;
    while run.steps() < total {
        if stop.load(Ordering::Relaxed) {
            run.save().map_err(failure)?;
            return Ok(None);
        }
        let record = match run.step() {
            Ok(record) => record,
            Err(error) => return Err(save_and_fail(run, error)),
        };
        pace.add(&record);
        pace.show(&progress, &record, evaluation.as_ref());
        let is_last = record.step == total;
        if is_last || record.step % evaluate_every == 0 {
            let now = match run.evaluate() {
                Ok(now) => now,
                Err(error) => return Err(save_and_fail(run, error)),
            };
            progress.aside(|| console.note(line(&record, &now, total, &pace)));
            evaluation = Some(now);
        }
        if is_last || record.step % save_every == 0 {
            run.save().map_err(failure)?;
        }
    }
    if let Some(evaluation) = evaluation {
        return Ok(Some(evaluation));
    }
    // A run that was complete when it was resumed; its picture may not be there yet.
    run.save().map_err(failure)?;
    run.evaluate().map(Some).map_err(failure)
}

/// An error of a step or of an evaluation. What was learnt is whole if only its text is not there any
/// more, and is saved before that is told.
fn save_and_fail(run: &mut PretrainingRun, error: RunError) -> Failure {
    if matches!(error, RunError::Data(_))
        && let Err(unsaved) = run.save()
    {
        return Failure::Other(format!("{error}; and what was learnt is not saved: {unsaved}"));
    }
    failure(error)
}

/// A flag that Ctrl-C raises; a second Ctrl-C ends the program at once.
fn stop_on_interrupt() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = stop.clone();
    ctrlc::set_handler(move || {
        if raised.swap(true, Ordering::Relaxed) {
            std::process::exit(Outcome::Interrupted as i32);
        }
    })
    .map_err(|error| Failure::Other(format!("Ctrl-C cannot be watched for: {error}")))?;
    Ok(stop)
}

/// An error of the run, and what can be done about it.
fn failure(error: RunError) -> Failure {
    let advice = match &error {
        RunError::AlreadyThere { .. } => "\n--resume goes on with it; or take another --out.",
        RunError::ModelThere { .. } => "\nTake another --out.",
        RunError::OtherRecipe { setting, .. } if setting == "level" => {
            "\nFERRITE_LEVEL caps the level, if the machine has the one that it was begun with."
        }
        RunError::Data(DataError::OtherData { .. }) => {
            "\nGive the texts and the vocabulary that it was begun with."
        }
        RunError::Data(DataError::NoDocuments { .. } | DataError::NoInstances { .. }) => {
            "\nGive files with text."
        }
        RunError::Store(StoreError::NoneWhole { .. }) => "\nTake another --out to begin anew.",
        RunError::Data(DataError::EmptyPart { .. }) => {
            "\nA larger --held-out helps, or more documents: blank lines, or files, end them."
        }
        RunError::NothingToResume { .. } => "\nWithout --resume a new run begins.",
        RunError::OtherRecipe { .. } => "\nGive the options that it was begun with.",
        RunError::Diverged { .. } => "\nA lower --rate or a longer --warmup helps, in a new run.",
        _ => "",
    };
    Failure::Other(format!("{error}{advice}"))
}
