//! The course of a run: step after step, and what is said and saved in between.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ferrite_models::train::{Evaluation, Run, RunError, Task};

use super::failure;
use super::options::CourseOptions;
use super::pace::Pace;
use crate::console::Console;
use crate::options::{Format, json_line};
use crate::outcome::{Failure, Outcome};
use crate::stream::{counted, write_out};

/// A task whose scores can be told.
pub(crate) trait Told: Task {
    /// What the model makes of what is held out, in a few words.
    fn in_a_line(evaluation: &Evaluation<Self::Scores>) -> String;

    /// The same as lines of a table.
    fn in_full(evaluation: &Evaluation<Self::Scores>) -> String;

    /// What can be done with the model of a folder.
    fn advice(folder: &Path) -> String;
}

/// Goes through the steps that are left, and writes the model and its last evaluation.
pub(crate) fn follow<T: Told>(
    run: &mut Run<T>,
    course: &CourseOptions,
    console: &Console,
    stop: &AtomicBool,
) -> Result<Outcome, Failure> {
    for damaged in run.damaged() {
        console.note(format!("a checkpoint is damaged, and the one before is taken: {damaged}"));
    }
    if course.resume {
        console.note(format!("going on after step {} of {}", run.steps(), run.total()));
    }
    let Some(evaluation) = train(run, course, console, stop)? else {
        console.note(format!(
            "stopped after step {} of {}, which is saved; the same command with --resume goes on",
            run.steps(),
            run.total()
        ));
        return Ok(Outcome::Interrupted);
    };
    run.export().map_err(failure)?;
    console.note(T::advice(&course.out));
    write_out(&match course.format {
        Format::Text => T::in_full(&evaluation).into_bytes(),
        Format::Jsonl => json_line(&evaluation),
    })?;
    Ok(Outcome::Done)
}

/// The steps that are left; the last evaluation, or nothing if the user stopped it.
fn train<T: Told>(
    run: &mut Run<T>,
    course: &CourseOptions,
    console: &Console,
    stop: &AtomicBool,
) -> Result<Option<Evaluation<T::Scores>>, Failure> {
    let total = run.total();
    let (evaluate_every, save_every) = (course.evaluate_every(), course.save_every());
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
        pace.show::<T>(&progress, &record, evaluation.as_ref());
        let is_last = record.step == total;
        if is_last || record.step % evaluate_every == 0 {
            let now = match run.evaluate() {
                Ok(now) => now,
                Err(error) => return Err(save_and_fail(run, error)),
            };
            progress.aside(|| console.note(pace.line::<T>(&record, &now, total)));
            evaluation = Some(now);
        }
        if is_last || record.step % save_every == 0 {
            run.save().map_err(failure)?;
        }
    }
    let evaluation = match evaluation {
        Some(evaluation) => evaluation,
        // A run that was complete when it was resumed; its picture may not be there yet.
        None => {
            run.save().map_err(failure)?;
            run.evaluate().map_err(failure)?
        }
    };
    let average = run.evaluate_average().map_err(failure)?;
    if let Some(of) = &average {
        let steps = counted(of.averaged.unwrap_or_default(), "step");
        console.note(format!("the mean of its parameters of {steps}: {}", T::in_a_line(of)));
    }
    Ok(Some(average.unwrap_or(evaluation)))
}

/// An error of a step or of an evaluation. What was learnt is whole if only its data are not there any
/// more, and is saved before that is told.
fn save_and_fail<T: Task>(run: &mut Run<T>, error: RunError) -> Failure {
    if matches!(error, RunError::Data(_))
        && let Err(unsaved) = run.save()
    {
        return Failure::Other(format!("{error}; and what was learnt is not saved: {unsaved}"));
    }
    failure(error)
}

/// A flag that Ctrl-C raises; a second Ctrl-C ends the program at once.
pub(crate) fn stop_on_interrupt() -> Result<Arc<AtomicBool>, Failure> {
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
