//! What every training is told about its course.

use std::path::PathBuf;

use clap::Args;
use ferrite_models::train::RunFolder;

use super::failure;
use crate::options::{Format, TrainingArithmeticOptions};
use crate::outcome::Failure;

/// The most batches of a step.
const MOST_BATCHES: usize = 1 << 20;

/// Where a training is, how long it goes on, and what is said and saved on the way.
#[derive(Args)]
pub(crate) struct CourseOptions {
    /// The folder to write to; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// Go on with the run in --out, given the same options as it was begun with
    #[arg(long)]
    pub(crate) resume: bool,

    /// Steps of the whole run
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) steps: u64,

    /// Batches of a step, one after the other in the same memory
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) accumulate: usize,

    /// Steps in which the rate rises [default: a tenth of all]
    #[arg(long, value_name = "N")]
    warmup: Option<u64>,

    /// Steps from one evaluation to the next [default: a twentieth of all]
    #[arg(long, value_name = "N")]
    evaluate_every: Option<u64>,

    /// Batches of an evaluation, at most
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) evaluation_batches: usize,

    /// Steps from one checkpoint to the next [default: a twentieth of all]
    #[arg(long, value_name = "N")]
    save_every: Option<u64>,

    /// Whatever is random follows from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,

    #[command(flatten)]
    pub(crate) arithmetic: TrainingArithmeticOptions,

    /// In what form the last evaluation is written to stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

impl CourseOptions {
    /// Refuses what can be told to be wrong before anything is read.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        check_counts([
            ("--steps", self.steps),
            ("--accumulate", self.accumulate as u64),
            ("--evaluation-batches", self.evaluation_batches as u64),
            ("--evaluate-every", self.evaluate_every.unwrap_or(1)),
            ("--save-every", self.save_every.unwrap_or(1)),
        ])?;
        match self.accumulate {
            0..=MOST_BATCHES => Ok(()),
            more => Err(Failure::Usage(format!("--accumulate {more}: above 2^20"))),
        }
    }

    /// The folder of the run, looked at before anything costly is done and before a file of a run that
    /// is there could be replaced.
    pub(crate) fn folder(&self) -> Result<RunFolder, Failure> {
        let begin = if self.resume { RunFolder::begun } else { RunFolder::fresh };
        begin(&self.out).map_err(failure)
    }

    pub(crate) fn warmup(&self) -> u64 {
        self.warmup.unwrap_or(self.steps / 10)
    }

    pub(super) fn evaluate_every(&self) -> u64 {
        self.evaluate_every.unwrap_or(self.steps / 20).max(1)
    }

    pub(super) fn save_every(&self) -> u64 {
        self.save_every.unwrap_or(self.steps / 20).max(1)
    }
}

/// Refuses options that count something and are zero.
pub(crate) fn check_counts<'a>(
    options: impl IntoIterator<Item = (&'a str, u64)>,
) -> Result<(), Failure> {
    match options.into_iter().find(|&(_, value)| value == 0) {
        Some((option, _)) => Err(Failure::Usage(format!("{option} begins at 1"))),
        None => Ok(()),
    }
}

/// Refuses a learning rate that is none.
pub(crate) fn check_rate(rate: Option<f32>) -> Result<(), Failure> {
    match rate.filter(|rate| !(rate.is_finite() && *rate > 0.0)) {
        Some(rate) => Err(Failure::Usage(format!("--rate {rate}: not a number above 0"))),
        None => Ok(()),
    }
}

/// Refuses a part of what is held out that leaves nothing, or nothing to hold out.
pub(crate) fn check_part(option: &str, part: f64) -> Result<(), Failure> {
    match part > 0.0 && part < 1.0 {
        true => Ok(()),
        false => Err(Failure::Usage(format!("{option} {part}: not between 0 and 1"))),
    }
}
