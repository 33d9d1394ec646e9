//! What a run teaches.

use std::fmt::Debug;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::trainer::PASSES;
use super::{Average, RunError, Step, Trained, Trainer, TrainerOptions};
use crate::data::DataError;
use crate::error::Error;
use crate::parameters::Parameters;

/// What differs from one kind of [`Run`](super::Run) to another: a model, the data that it learns
/// from, what a step and an evaluation do with them, and what is left in the end.
///
/// Whatever a task does has to follow from its options, its data and its position alone, to the last
/// bit: so a run that is resumed ends as if it had never stopped.
pub trait Task: Debug {
    /// What is trained.
    type Model: Trained + Debug;
    /// Losses and accuracies, of a step or of what is held out.
    type Scores: Copy + Debug + PartialEq + Serialize + DeserializeOwned;
    /// A place in the data.
    type Position: Copy + Debug + Serialize + DeserializeOwned;

    /// What stands above the curves.
    const TITLE: &'static str;
    /// What the curves are of: [`Task::loss`].
    const UNIT: &'static str;

    /// The loss that curves show, in nats; its exponential is the perplexity.
    fn loss(scores: &Self::Scores) -> f64;

    /// How it is trained; the schedule's `total` is the number of steps.
    fn trainer_options(&self) -> TrainerOptions;

    /// The parameters whose mean is the result, if it is not the last ones.
    fn average(&self) -> Option<Average> {
        None
    }

    /// All that decides about the results and does not show in a position. A run goes on only if it
    /// is what it was.
    fn recipe(&self) -> Value;

    /// Parameters of the model's shape, all zero.
    fn zeros(&self) -> Parameters;

    /// The parameters that a new run begins with.
    fn initialize(&self) -> Parameters;

    /// The model with these parameters, to be trained.
    ///
    /// # Errors
    /// If its configuration is none.
    fn model(&self, parameters: &Parameters) -> Result<Self::Model, Error>;

    /// Where the next step's data begin.
    fn position(&self) -> Self::Position;

    /// The epoch that the next step's data begin in, from 0.
    fn epoch(&self) -> u64;

    /// Goes to a position.
    ///
    /// # Errors
    /// If the position is of other data.
    fn seek(&mut self, position: Self::Position) -> Result<(), DataError>;

    /// A step on the next data, and their tokens.
    ///
    /// # Errors
    /// If there are no data any more, and then all is as before the step.
    fn step(
        &mut self,
        trainer: &mut Trainer<Self::Model>,
    ) -> Result<(Step<Self::Scores>, u64), RunError>;

    /// What a model makes of the data that are held out, always the same ones.
    ///
    /// # Errors
    /// If there are no data any more.
    fn evaluate(&mut self, model: &Self::Model) -> Result<Self::Scores, RunError>;

    /// Writes a model with these parameters into a folder.
    ///
    /// # Errors
    /// [`RunError::Io`], with the file.
    fn export(&self, folder: &Path, parameters: &Parameters) -> Result<(), RunError>;
}

/// Refuses what no step or no evaluation of any task can be made with.
pub(super) fn check(
    trainer: &TrainerOptions,
    accumulate: usize,
    evaluation_batches: usize,
) -> Result<(), RunError> {
    trainer.check()?;
    for (option, expected, found, most) in [
        ("accumulate", "a number from 1 to 2^20", accumulate, PASSES),
        ("evaluation_batches", "a number above 0", evaluation_batches, usize::MAX),
    ] {
        if !(1..=most).contains(&found) {
            let found = found.to_string();
            return Err(DataError::InvalidOption { option, expected, found }.into());
        }
    }
    Ok(())
}
