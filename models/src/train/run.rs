//! A run of pre-training: from text to a model, that can stop at any moment and go on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ferrite_kernels::Arithmetic;
use ferrite_tokenizer::Tokenizer;
use serde_json::{Value, json};

use super::export::{export, is_finite, replace};
use super::log::Log;
use super::store::{self, Stored, TensorView};
use super::{
    Evaluation, Optimizer, RunError, Scores, StepRecord, Trainer, TrainerOptions, initialize,
};
use crate::bert::{BertConfig, Parameters, Part, PretrainingLoss, PretrainingTargets, Workspace};
use crate::data::{Corpus, Position, PretrainingBatches, PretrainingOptions};

const CHECKPOINTS: &str = "checkpoints";
const LOG: &str = "log.jsonl";
const CHART: &str = "loss.svg";

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
    /// What decides about the results, but for the text: a run that goes on must have the same.
    fn recipe(&self) -> Value {
        let TrainerOptions { optimizer, schedule, seed } = self.trainer;
        json!({
            "level": self.arithmetic.level().name(),
            "precision": self.arithmetic.precision().name(),
            "config": serde_json::to_value(&self.config).expect("strings and numbers"),
            "optimizer": format!("{optimizer:?}"),
            "schedule": schedule,
            "seed": seed,
            "batch": format!("{:?}", self.data.batch),
            "accumulate": self.accumulate,
        })
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
}

impl PretrainingRun {
    /// Begins a run in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// [`RunError::AlreadyThere`] if it has one; and whatever keeps the model, the data or the files
    /// from being made.
    pub fn start(
        folder: &Path,
        options: RunOptions,
        corpus: Arc<Corpus>,
        tokenizer: Arc<Tokenizer>,
    ) -> Result<PretrainingRun, RunError> {
        if let Some(stored) = store::latest(&folder.join(CHECKPOINTS))? {
            return Err(RunError::AlreadyThere { folder: folder.to_owned(), step: stored.step });
        }
        PretrainingRun::new(folder, options, corpus, tokenizer, None)
    }

    /// Goes on with the run in a folder, from its newest checkpoint that is whole.
    ///
    /// # Errors
    /// [`RunError::NothingToResume`]; [`RunError::OtherRecipe`] if the options, or
    /// [`crate::data::DataError`] if the texts or the vocabulary, are not those that it was begun
    /// with.
    pub fn resume(
        folder: &Path,
        options: RunOptions,
        corpus: Arc<Corpus>,
        tokenizer: Arc<Tokenizer>,
    ) -> Result<PretrainingRun, RunError> {
        let stored = store::latest(&folder.join(CHECKPOINTS))?
            .ok_or_else(|| RunError::NothingToResume { folder: folder.to_owned() })?;
        PretrainingRun::new(folder, options, corpus, tokenizer, Some(stored))
    }

    fn new(
        folder: &Path,
        options: RunOptions,
        corpus: Arc<Corpus>,
        tokenizer: Arc<Tokenizer>,
        stored: Option<Stored>,
    ) -> Result<PretrainingRun, RunError> {
        std::fs::create_dir_all(folder).map_err(RunError::io(folder))?;
        let RunOptions { arithmetic, config, trainer, data, .. } = options.clone();
        let mut batches = PretrainingBatches::new(corpus.clone(), tokenizer.clone(), data)?;
        let (parameters, restored) = match &stored {
            None => (initialize(&config, &Part::PRETRAINING, trainer.seed), None),
            Some(stored) => {
                let saved = State::of(stored)?;
                saved.check_recipe(folder, &options.recipe())?;
                batches.seek(saved.position)?;
                let zeros = Parameters::zeros(&config, &Part::PRETRAINING);
                let read = |group| read(stored, group, zeros.clone());
                let mut optimizer = Optimizer::new(trainer.optimizer, &zeros);
                (optimizer.m, optimizer.v) = (read("m")?, read("v")?);
                (optimizer.updates, optimizer.skipped) = (saved.updates, saved.skipped);
                (read("model")?, Some((stored.step, optimizer)))
            }
        };
        let mut trainer =
            Trainer::new(arithmetic, config, &Part::PRETRAINING, parameters.clone(), trainer)?;
        if let Some((step, optimizer)) = restored {
            trainer.restore(step, parameters, optimizer);
        }
        let log = Log::open(&folder.join(LOG), trainer.steps())?;
        let (folder, workspace) = (folder.to_owned(), Workspace::default());
        Ok(PretrainingRun { folder, options, corpus, tokenizer, trainer, batches, log, workspace })
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
    /// If the texts cannot be read any more, or the log cannot be written.
    pub fn step(&mut self) -> Result<StepRecord, RunError> {
        let start = Instant::now();
        let count = self.options.accumulate.max(1);
        let batches: Vec<_> = self.batches.by_ref().take(count).collect::<Result<_, _>>()?;
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
        Ok(record)
    }

    /// What the model makes of the held-out documents, written to the log; always of the same
    /// masks.
    ///
    /// # Errors
    /// As [`PretrainingRun::step`].
    pub fn evaluate(&mut self) -> Result<Evaluation, RunError> {
        let (corpus, tokenizer) = (self.corpus.clone(), self.tokenizer.clone());
        let batches = PretrainingBatches::held_out(corpus, tokenizer, self.options.data)?;
        let mut loss = PretrainingLoss::default();
        for batch in batches.take(self.options.evaluation_batches) {
            let batch = batch?;
            let (bert, targets) = (self.trainer.bert(), PretrainingTargets::from(&batch));
            let of = bert.pretraining_loss(&batch.batch, targets, &mut self.workspace)?;
            loss.masked += of.masked;
            loss.next_sentence += of.next_sentence;
        }
        let held_out = Scores::from(loss);
        let perplexity = held_out.masked_loss.exp();
        let evaluation = Evaluation { step: self.trainer.steps(), held_out, perplexity };
        self.log.write(&evaluation)?;
        Ok(evaluation)
    }

    /// Saves all that is needed to go on, and draws the curves. The last two checkpoints are kept.
    ///
    /// # Errors
    /// [`RunError::Store`], and then the checkpoints before are what they were;
    /// [`RunError::Diverged`], and nothing is written.
    pub fn save(&mut self) -> Result<PathBuf, RunError> {
        let (trainer, optimizer) = (&self.trainer, self.trainer.optimizer());
        if !is_finite(trainer.parameters()) {
            let (skipped, steps) = (optimizer.skipped, trainer.steps());
            return Err(RunError::Diverged { skipped, steps });
        }
        let groups = [("model", trainer.parameters()), ("m", &optimizer.m), ("v", &optimizer.v)];
        let groups = groups.map(|(name, of)| (name, views(of)));
        let state = json!({
            "position": self.position(),
            "updates": optimizer.updates,
            "skipped": optimizer.skipped,
            "recipe": self.options.recipe(),
        });
        let root = self.folder.join(CHECKPOINTS);
        let saved = store::save(&root, trainer.steps(), &groups, &state)?;
        let svg = self.log.chart("Pre-training")?.to_svg();
        replace(&self.folder.join(CHART), |file| std::io::Write::write_all(file, svg.as_bytes()))?;
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
        Ok(State { position, updates, skipped, recipe: stored.state["recipe"].clone() })
    }

    /// Names the first setting that is not what it was.
    fn check_recipe(&self, folder: &Path, now: &Value) -> Result<(), RunError> {
        let names = now.as_object().expect("a recipe is an object").keys();
        for name in names {
            let (saved, now) = (&self.recipe[name], &now[name]);
            if saved != now {
                return Err(RunError::OtherRecipe {
                    folder: folder.to_owned(),
                    setting: name.clone(),
                    saved: saved.to_string(),
                    now: now.to_string(),
                });
            }
        }
        Ok(())
    }
}

fn views(of: &Parameters) -> Vec<TensorView<'_>> {
    let tensors = of.tensors().iter();
    tensors
        .map(|tensor| TensorView {
            name: &tensor.name,
            shape: &tensor.shape,
            data: of.tensor(tensor),
        })
        .collect()
}

fn read(stored: &Stored, group: &str, mut into: Parameters) -> Result<Parameters, RunError> {
    for tensor in into.tensors().to_vec() {
        let values = &mut into.values_mut()[tensor.range.clone()];
        stored.read(group, &tensor.name, &tensor.shape, values)?;
    }
    Ok(into)
}
