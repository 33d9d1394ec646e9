//! A run of training: from data to a model, that can stop at any moment and go on.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ferrite_kernels::elementwise;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::average::Snapshots;
use super::export::replace_file;
use super::folder::{CHART, CHECKPOINTS, Hold, LOG, sweep};
use super::log::Log;
use super::recipe::difference;
use super::store::{self, StoreError, Stored};
use super::{Evaluation, Optimizer, RunError, RunFolder, StepRecord, Task, Trained, Trainer};
use crate::parameters::Parameters;

/// Steps in a row without a finite gradient, after which no more is to be hoped for.
const PATIENCE: u64 = 100;

/// A run of training in a folder: checkpoints in `checkpoints/`, every step and evaluation in
/// `log.jsonl`, their curves in `loss.svg`, and in the end the model.
///
/// With the same options, data and level the parameters after a number of steps are the same to the
/// last bit, whatever the number of threads, and however often the run was stopped or killed in
/// between.
///
/// What is learnt is the task: see [`PretrainingRun`](super::PretrainingRun) and
/// [`TranslationRun`](super::TranslationRun).
#[derive(Debug)]
pub struct Run<T: Task> {
    folder: PathBuf,
    pub(super) task: T,
    trainer: Trainer<T::Model>,
    log: Log,
    /// The parameters to take the mean of, if that is asked for.
    snapshots: Option<Snapshots>,
    damaged: Vec<StoreError>,
    /// Steps one after the other that were skipped.
    skipped_in_a_row: u64,
    _hold: Hold,
}

impl<T: Task> Run<T> {
    /// Begins a run of a task that stands at the beginning of its data, or goes on with one,
    /// whichever the folder is for.
    ///
    /// # Errors
    /// [`RunError::OtherRecipe`] if the task, or [`DataError::OtherData`] if its data, are not those
    /// that the run was begun with; and whatever keeps the model or the files from being made.
    ///
    /// [`DataError::OtherData`]: crate::data::DataError::OtherData
    pub fn of(folder: RunFolder, mut task: T) -> Result<Run<T>, RunError> {
        let RunFolder { path: folder, stored, hold: _hold } = folder;
        let options = task.trainer_options();
        let snapshots = task
            .average()
            .map(|average| Snapshots::new(&folder, average, options.schedule.total))
            .transpose()?;
        let (parameters, optimizer, step, skipped_in_a_row) = match &stored {
            Some(stored) => {
                let state = State::of(stored)?;
                state.check_recipe(&folder, &task.recipe())?;
                task.seek(state.position)?;
                let zeros = task.zeros();
                let mut optimizer = Optimizer::new(options.optimizer, &zeros);
                read(stored, "m", &mut optimizer.m)?;
                read(stored, "v", &mut optimizer.v)?;
                (optimizer.updates, optimizer.skipped) = (state.updates, state.skipped);
                let mut parameters = zeros;
                read(stored, "model", &mut parameters)?;
                (parameters, optimizer, stored.step, state.skipped_in_a_row)
            }
            None => {
                let parameters = task.initialize();
                let optimizer = Optimizer::new(options.optimizer, &parameters);
                (parameters, optimizer, 0, 0)
            }
        };
        let model = task.model(&parameters)?;
        let trainer = Trainer::at(step, model, parameters, optimizer, options);
        sweep(&folder);
        if let (Some(snapshots), None) = (&snapshots, &stored) {
            snapshots.clear()?;
        }
        let log = Log::open(&folder.join(LOG), stored.as_ref().map(|stored| stored.step))?;
        let damaged = stored.map(|stored| stored.skipped).unwrap_or_default();
        Ok(Run { folder, task, trainer, log, snapshots, damaged, skipped_in_a_row, _hold })
    }

    /// What is wrong with the checkpoints that are newer than the one that the run goes on from.
    pub fn damaged(&self) -> &[StoreError] {
        &self.damaged
    }

    /// The steps that are done.
    pub fn steps(&self) -> u64 {
        self.trainer.steps()
    }

    /// The steps of the whole run.
    pub fn total(&self) -> u64 {
        self.trainer.options().schedule.total
    }

    /// The trainer, with the model as it is now.
    pub fn trainer(&self) -> &Trainer<T::Model> {
        &self.trainer
    }

    /// The epoch that the next batch is of, from 0.
    pub fn epoch(&self) -> u64 {
        self.task.epoch()
    }

    /// One step, written to the log.
    ///
    /// # Errors
    /// If the data cannot be read any more, and then all is as before the step;
    /// [`RunError::Diverged`] if a hundred steps in a row had infinite gradients; [`RunError::Io`] or
    /// [`RunError::Store`] if the log, or the parameters for a mean, cannot be written, and then the
    /// run has to go on from its last checkpoint.
    pub fn step(&mut self) -> Result<StepRecord<T::Scores>, RunError> {
        let start = Instant::now();
        let (step, tokens) = self.task.step(&mut self.trainer)?;
        let record = StepRecord {
            step: self.trainer.steps(),
            scores: step.loss,
            rate: step.rate,
            norm: step.norm.is_finite().then_some(step.norm),
            skipped: step.skipped,
            tokens,
            seconds: start.elapsed().as_secs_f64(),
        };
        self.log.write(&record)?;
        if let Some(snapshots) = &self.snapshots {
            snapshots.save(self.trainer.steps(), self.trainer.parameters())?;
        }
        self.skipped_in_a_row = if step.skipped { self.skipped_in_a_row + 1 } else { 0 };
        if self.skipped_in_a_row >= PATIENCE { Err(self.diverged()) } else { Ok(record) }
    }

    fn diverged(&self) -> RunError {
        let (skipped, steps) = (self.trainer.optimizer().skipped, self.trainer.steps());
        RunError::Diverged { skipped, steps }
    }

    /// What the model makes of the data that are held out, written to the log, once for a step;
    /// always of the same ones.
    ///
    /// # Errors
    /// If the data cannot be read any more, or the log cannot be written.
    pub fn evaluate(&mut self) -> Result<Evaluation<T::Scores>, RunError> {
        let held_out = self.task.evaluate(self.trainer.model())?;
        self.evaluated(held_out, None)
    }

    /// The same of the model with the mean of the parameters: see [`Average`](super::Average).
    /// Nothing if the run takes no mean, or has not come to the first parameters of one.
    ///
    /// # Errors
    /// As [`Run::evaluate`], and [`RunError::Store`] if the parameters cannot be read.
    pub fn evaluate_average(&mut self) -> Result<Option<Evaluation<T::Scores>>, RunError> {
        let Some((parameters, averaged)) = self.mean()? else { return Ok(None) };
        let (task, trainer) = (&mut self.task, &mut self.trainer);
        let held_out = trainer.with_parameters(&parameters, |model| task.evaluate(model))?;
        self.evaluated(held_out, Some(averaged)).map(Some)
    }

    fn evaluated(
        &mut self,
        held_out: T::Scores,
        averaged: Option<u64>,
    ) -> Result<Evaluation<T::Scores>, RunError> {
        let perplexity = T::loss(&held_out).exp();
        let evaluation = Evaluation { step: self.trainer.steps(), averaged, held_out, perplexity };
        self.log.write_evaluation(&evaluation)?;
        Ok(evaluation)
    }

    /// The mean of the parameters, and of how many it is.
    fn mean(&self) -> Result<Option<(Parameters, u64)>, RunError> {
        let Some(snapshots) = &self.snapshots else { return Ok(None) };
        Ok(snapshots.mean(self.trainer.steps(), self.trainer.parameters())?)
    }

    /// Saves all that is needed to go on, and draws the curves. The last two checkpoints are kept.
    ///
    /// # Errors
    /// [`RunError::Store`], and then the checkpoints before are what they were; [`RunError::Io`] if
    /// the log or the curves cannot be written, in the second case after the checkpoint is safe;
    /// [`RunError::Diverged`], and nothing is written.
    pub fn save(&mut self) -> Result<PathBuf, RunError> {
        let (trainer, optimizer) = (&self.trainer, self.trainer.optimizer());
        let (level, values) = (trainer.model().level(), trainer.parameters().values());
        if !elementwise::sum_of_squares_shared(level, values).is_finite() {
            return Err(self.diverged());
        }
        let groups = [("model", trainer.parameters()), ("m", &optimizer.m), ("v", &optimizer.v)];
        let groups = groups.map(|(name, of)| (name, store::views(of)));
        let state = json!({
            "position": self.task.position(),
            "updates": optimizer.updates,
            "skipped": optimizer.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "recipe": self.task.recipe(),
        });
        // The steps before a checkpoint are not written again.
        self.log.sync()?;
        let root = self.folder.join(CHECKPOINTS);
        let saved = store::save(&root, trainer.steps(), &groups, &state)?;
        if let Some(snapshots) = &self.snapshots {
            snapshots.prune(&saved)?;
        }
        let svg = self.log.chart::<T>()?.to_svg();
        replace_file(&self.folder.join(CHART), |file| file.write_all(svg.as_bytes()))?;
        Ok(saved)
    }

    /// Writes the model as it is now, or with the mean of the parameters if the run takes one: see
    /// [`export`](super::export) and [`export_transformer`](super::export_transformer).
    ///
    /// # Errors
    /// [`RunError::Io`], with the file; [`RunError::Store`] if parameters for the mean cannot be
    /// read.
    pub fn export(&self) -> Result<(), RunError> {
        match self.mean()? {
            Some((parameters, _)) => self.task.export(&self.folder, &parameters),
            None => self.task.export(&self.folder, self.trainer.parameters()),
        }
    }
}

/// What of a run is saved besides tensors.
struct State<P> {
    position: P,
    updates: u64,
    skipped: u64,
    skipped_in_a_row: u64,
    recipe: Value,
}

impl<P: DeserializeOwned> State<P> {
    fn of(stored: &Stored) -> Result<State<P>, RunError> {
        let invalid =
            |reason: String| RunError::InvalidState { folder: stored.folder.clone(), reason };
        let number = |name: &str| {
            stored.state[name].as_u64().ok_or_else(|| invalid(format!("no number {name}")))
        };
        let position = serde_json::from_value(stored.state["position"].clone())
            .map_err(|error| invalid(error.to_string()))?;
        let (updates, skipped) = (number("updates")?, number("skipped")?);
        let (skipped_in_a_row, recipe) =
            (number("skipped_in_a_row")?, stored.state["recipe"].clone());
        Ok(State { position, updates, skipped, skipped_in_a_row, recipe })
    }

    /// Names the first setting that is not what it was.
    fn check_recipe(&self, folder: &Path, now: &Value) -> Result<(), RunError> {
        match difference(&self.recipe, now) {
            None => Ok(()),
            Some((setting, saved, now)) => {
                Err(RunError::OtherRecipe { folder: folder.to_owned(), setting, saved, now })
            }
        }
    }
}

fn read(stored: &Stored, group: &str, into: &mut Parameters) -> Result<(), RunError> {
    for tensor in into.tensors().to_vec() {
        let values = &mut into.values_mut()[tensor.range.clone()];
        stored.read(group, &tensor.name, &tensor.shape, values)?;
    }
    Ok(())
}
