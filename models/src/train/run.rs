//! A run of pre-training: from text to a model, that can stop at any moment and go on.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ferrite_kernels::{Arithmetic, elementwise};
use ferrite_tokenizer::Tokenizer;
use serde_json::{Value, json};

use super::export::{export, replace_file};
use super::folder::{CHART, CHECKPOINTS, LOG, sweep};
use super::log::Log;
use super::recipe::{difference, recipe};
use super::store::{self, StoreError, Stored};
use super::trainer::PASSES;
use super::{
    Evaluation, Optimizer, RunError, RunFolder, Scores, StepRecord, Trainer, TrainerOptions,
    initialize,
};
use crate::bert::{BertConfig, Parameters, Part, PretrainingLoss, PretrainingTargets, Workspace};
use crate::data::{Corpus, DataError, Position, PretrainingBatches, PretrainingOptions};

/// Steps in a row without a finite gradient, after which no more is to be hoped for.
const PATIENCE: u64 = 100;

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// How products are computed, in f32 or bf16.
    pub arithmetic: Arithmetic,
    /// The model.
    pub config: BertConfig,
    /// How it is trained; the schedule's `total` is the number of steps.
    pub trainer: TrainerOptions,
    /// What it reads.
    pub data: PretrainingOptions,
    /// Batches to a step, whose gradients are added.
    pub accumulate: usize,
    /// Batches of the held-out documents that an evaluation takes, at most.
    pub evaluation_batches: usize,
}

impl RunOptions {
    /// Refuses what no batch or no evaluation can be made with, but for what the data refuse.
    fn check(&self) -> Result<(), RunError> {
        self.config.check_training("config.json".as_ref())?;
        self.trainer.check()?;
        let positions = self.config.max_position_embeddings;
        let length = self.data.instances.max_seq_length;
        let above_zero = "a number above 0";
        for (option, expected, found, is_right) in [
            (
                "accumulate",
                "a number from 1 to 2^20",
                self.accumulate,
                (1..=PASSES).contains(&self.accumulate),
            ),
            (
                "evaluation_batches",
                above_zero,
                self.evaluation_batches,
                self.evaluation_batches > 0,
            ),
            ("max_seq_length", "at most max_position_embeddings", length, length <= positions),
        ] {
            if !is_right {
                let found = found.to_string();
                return Err(DataError::InvalidOption { option, expected, found }.into());
            }
        }
        Ok(())
    }
}

/// A run of pre-training in a folder: checkpoints in `checkpoints/`, every step and evaluation in
/// `log.jsonl`, their curves in `loss.svg`, and in the end the model for `transformers`.
///
/// With the same options, texts and level the parameters after a number of steps are the same to
/// the last bit, whatever the number of threads, and however often the run was stopped or killed in
/// between.
#[derive(Debug)]
pub struct PretrainingRun {
    folder: PathBuf,
    options: RunOptions,
    corpus: Arc<Corpus>,
    tokenizer: Arc<Tokenizer>,
    trainer: Trainer,
    batches: PretrainingBatches,
    log: Log,
    workspace: Workspace,
    damaged: Vec<StoreError>,
    /// Steps one after the other that were skipped.
    skipped_in_a_row: u64,
    _lock: Option<File>,
}

impl PretrainingRun {
    /// Begins a run in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// Those of [`RunFolder::fresh`] and of [`PretrainingRun::begin`].
    pub fn start(
        folder: &Path,
        options: RunOptions,
        corpus: Arc<Corpus>,
        tokenizer: Arc<Tokenizer>,
    ) -> Result<PretrainingRun, RunError> {
        PretrainingRun::begin(RunFolder::fresh(folder)?, options, corpus, tokenizer)
    }

    /// Goes on with the run in a folder, from its newest checkpoint that is whole.
    ///
    /// # Errors
    /// Those of [`RunFolder::begun`] and of [`PretrainingRun::begin`].
    pub fn resume(
        folder: &Path,
        options: RunOptions,
        corpus: Arc<Corpus>,
        tokenizer: Arc<Tokenizer>,
    ) -> Result<PretrainingRun, RunError> {
        PretrainingRun::begin(RunFolder::begun(folder)?, options, corpus, tokenizer)
    }

    /// Begins a run, or goes on with one, whichever the folder is for. A batch of the held-out
    /// documents is made, so that what keeps the first evaluation from being done shows now.
    ///
    /// # Errors
    /// [`RunError::OtherRecipe`] if the options, or [`DataError::OtherData`] if the texts or the
    /// vocabulary, are not those that the run was begun with; and whatever keeps the model, the
    /// data or the files from being made.
    pub fn begin(
        folder: RunFolder,
        options: RunOptions,
        corpus: Arc<Corpus>,
        tokenizer: Arc<Tokenizer>,
    ) -> Result<PretrainingRun, RunError> {
        options.check()?;
        let RunFolder { path: folder, stored, lock: _lock } = folder;
        let RunOptions { arithmetic, config, trainer, data, .. } = options.clone();
        let state = stored.as_ref().map(State::of).transpose()?;
        if let Some(state) = &state {
            state.check_recipe(&folder, &recipe(&options))?;
        }
        let mut batches = PretrainingBatches::new(corpus.clone(), tokenizer.clone(), data)?;
        if let Some(state) = &state {
            batches.seek(state.position)?;
        }
        PretrainingBatches::held_out(corpus.clone(), tokenizer.clone(), data)?
            .next()
            .transpose()?;
        let skipped_in_a_row = state.as_ref().map_or(0, |state| state.skipped_in_a_row);
        let (parameters, optimizer, step) = match (&stored, state) {
            (Some(stored), Some(state)) => {
                let zeros = Parameters::zeros(&config, &Part::PRETRAINING);
                let mut optimizer = Optimizer::new(trainer.optimizer, &zeros);
                read(stored, "m", &mut optimizer.m)?;
                read(stored, "v", &mut optimizer.v)?;
                (optimizer.updates, optimizer.skipped) = (state.updates, state.skipped);
                let mut parameters = zeros;
                read(stored, "model", &mut parameters)?;
                (parameters, optimizer, stored.step)
            }
            _ => {
                let parameters = initialize(&config, &Part::PRETRAINING, trainer.seed);
                let optimizer = Optimizer::new(trainer.optimizer, &parameters);
                (parameters, optimizer, 0)
            }
        };
        let parts = &Part::PRETRAINING;
        let trainer =
            Trainer::with(arithmetic, config, parts, parameters, optimizer, step, trainer)?;
        sweep(&folder);
        let log = Log::open(&folder.join(LOG), step)?;
        Ok(PretrainingRun {
            folder,
            options,
            corpus,
            tokenizer,
            trainer,
            batches,
            log,
            workspace: Workspace::default(),
            damaged: stored.map(|stored| stored.skipped).unwrap_or_default(),
            skipped_in_a_row,
            _lock,
        })
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
        self.options.trainer.schedule.total
    }

    /// The trainer, with the model as it is now.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// The epoch that the next batch is of, from 0.
    pub fn epoch(&self) -> u64 {
        self.position().epoch
    }

    fn position(&self) -> Position {
        self.batches.position()
    }

    /// One step, written to the log.
    ///
    /// # Errors
    /// If the texts cannot be read any more, and then all is as before the step;
    /// [`RunError::Diverged`] if a hundred steps in a row had infinite gradients; [`RunError::Io`]
    /// if the log cannot be written, and then the run has to go on from its last checkpoint.
    pub fn step(&mut self) -> Result<StepRecord, RunError> {
        let start = Instant::now();
        let position = self.position();
        let made: Result<Vec<_>, _> = self.batches.by_ref().take(self.options.accumulate).collect();
        let batches = match made {
            Ok(batches) => batches,
            Err(error) => {
                self.batches.seek(position)?;
                return Err(error.into());
            }
        };
        let step = self.trainer.pretrain_step(&batches)?;
        let tokens = batches.iter().map(|batch| batch.batch.tokens() as u64).sum();
        let record = StepRecord {
            step: self.trainer.steps(),
            scores: Scores::from(step.loss),
            rate: step.rate,
            norm: step.norm.is_finite().then_some(step.norm),
            skipped: step.skipped,
            tokens,
            seconds: start.elapsed().as_secs_f64(),
        };
        self.log.write(&record)?;
        self.skipped_in_a_row = if step.skipped { self.skipped_in_a_row + 1 } else { 0 };
        if self.skipped_in_a_row >= PATIENCE { Err(self.diverged()) } else { Ok(record) }
    }

    fn diverged(&self) -> RunError {
        let (skipped, steps) = (self.trainer.optimizer().skipped, self.trainer.steps());
        RunError::Diverged { skipped, steps }
    }

    /// What the model makes of the held-out documents, written to the log, once for a step; always
    /// of the same masks.
    ///
    /// # Errors
    /// If the texts cannot be read any more, or the log cannot be written.
    pub fn evaluate(&mut self) -> Result<Evaluation, RunError> {
        let (corpus, tokenizer) = (self.corpus.clone(), self.tokenizer.clone());
        let batches = PretrainingBatches::held_out(corpus, tokenizer, self.options.data)?;
        let mut loss = PretrainingLoss::default();
        for batch in batches.take(self.options.evaluation_batches) {
            let batch = batch?;
            let (bert, targets) = (self.trainer.bert(), PretrainingTargets::from(&batch));
            loss += bert.pretraining_loss(&batch.batch, targets, &mut self.workspace)?;
        }
        let held_out = Scores::from(loss);
        let perplexity = held_out.masked_loss.exp();
        let evaluation = Evaluation { step: self.trainer.steps(), held_out, perplexity };
        self.log.write_evaluation(&evaluation)?;
        Ok(evaluation)
    }

    /// Saves all that is needed to go on, and draws the curves. The last two checkpoints are kept.
    ///
    /// # Errors
    /// [`RunError::Store`], and then the checkpoints before are what they were; [`RunError::Io`] if
    /// the log or the curves cannot be written, in the second case after the checkpoint is safe;
    /// [`RunError::Diverged`], and nothing is written.
    pub fn save(&mut self) -> Result<PathBuf, RunError> {
        let (trainer, optimizer) = (&self.trainer, self.trainer.optimizer());
        let (level, values) = (trainer.bert().level(), trainer.parameters().values());
        if !elementwise::sum_of_squares_shared(level, values).is_finite() {
            return Err(self.diverged());
        }
        let groups = [("model", trainer.parameters()), ("m", &optimizer.m), ("v", &optimizer.v)];
        let groups = groups.map(|(name, of)| (name, store::views(of)));
        let state = json!({
            "position": self.position(),
            "updates": optimizer.updates,
            "skipped": optimizer.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "recipe": recipe(&self.options),
        });
        // The steps before a checkpoint are not written again.
        self.log.sync()?;
        let root = self.folder.join(CHECKPOINTS);
        let saved = store::save(&root, trainer.steps(), &groups, &state)?;
        let svg = self.log.chart("Pre-training")?.to_svg();
        replace_file(&self.folder.join(CHART), |file| {
            std::io::Write::write_all(file, svg.as_bytes())
        })?;
        Ok(saved)
    }

    /// Writes the model as it is now: see [`export`].
    ///
    /// # Errors
    /// [`RunError::Io`], with the file.
    pub fn export(&self) -> Result<(), RunError> {
        export(&self.folder, &self.options.config, self.trainer.parameters())
    }
}

/// What of a run is saved besides tensors.
struct State {
    position: Position,
    updates: u64,
    skipped: u64,
    skipped_in_a_row: u64,
    recipe: Value,
}

impl State {
    fn of(stored: &Stored) -> Result<State, RunError> {
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
