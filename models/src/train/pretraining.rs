//! Runs of pre-training: from text to a BERT.

use std::path::Path;
use std::sync::Arc;

use ferrite_kernels::Arithmetic;
use ferrite_tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::export::export;
use super::log::null_is_nan;
use super::{
    Run, RunError, RunFolder, Step, Task, Trainer, TrainerOptions, initialize, recipe, task,
};
use crate::bert::{
    Bert, BertConfig, Parameters, Part, PretrainingLoss, PretrainingTargets, Workspace,
};
use crate::data::{
    BatchSize, Corpus, DataError, Masking, Position, PretrainingBatches, PretrainingOptions,
};
use crate::error::Error;

/// What a run of pre-training is made of.
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
        self.config.check_pretraining(Path::new("config.json"))?;
        task::check(&self.trainer, self.accumulate, self.evaluation_batches)?;
        let positions = self.config.max_position_embeddings;
        let length = self.data.instances.max_seq_length;
        if length > positions {
            return Err(RunError::from(DataError::InvalidOption {
                option: "max_seq_length",
                expected: "at most max_position_embeddings",
                found: length.to_string(),
            }));
        }
        Ok(())
    }

    /// All settings, but for the text and the vocabulary: those show in the position of the data.
    fn recipe(&self) -> Value {
        let RunOptions { arithmetic, config, trainer, data, accumulate, .. } = self;
        let mut settings = recipe::common(*arithmetic, config, trainer, *accumulate);
        let batch = match data.batch {
            BatchSize::Sequences(sequences) => json!({"sequences": sequences}),
            BatchSize::Tokens(tokens) => json!({"tokens": tokens}),
        };
        let data = json!({
            "seed": data.seed,
            "held_out": data.held_out,
            "shard_documents": data.shard_documents,
            "shard_bytes": data.shard_bytes,
            "pairs": {
                "max_seq_length": data.instances.max_seq_length,
                "short_seq_prob": data.instances.short_seq_prob,
            },
            "words": {
                "probability": data.masking.probability,
                "max_predictions": data.masking.max_predictions,
                "whole_words": data.masking.whole_words,
                "static": match data.masking.masking {
                    Masking::Dynamic => None,
                    Masking::Static { duplicates } => Some(duplicates),
                },
            },
        });
        settings.extend([("batch".to_owned(), batch), ("data".to_owned(), data)]);
        Value::Object(settings)
    }
}

/// Means over masked words, and over pairs of sentences. What is infinite or not a number is `null` in
/// the log, and read as NaN.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// The loss of a masked word, in nats.
    #[serde(deserialize_with = "null_is_nan")]
    pub masked_loss: f64,
    /// The part of the masked words that the model finds.
    #[serde(deserialize_with = "null_is_nan")]
    pub masked_accuracy: f64,
    /// The loss of a pair, in nats.
    #[serde(deserialize_with = "null_is_nan")]
    pub next_loss: f64,
    /// The part of the pairs that the model tells.
    #[serde(deserialize_with = "null_is_nan")]
    pub next_accuracy: f64,
}

impl From<PretrainingLoss> for Scores {
    fn from(loss: PretrainingLoss) -> Scores {
        Scores {
            masked_loss: loss.masked.mean(),
            masked_accuracy: loss.masked.accuracy(),
            next_loss: loss.next_sentence.mean(),
            next_accuracy: loss.next_sentence.accuracy(),
        }
    }
}

/// The task of pre-training a BERT: masked words and next sentences.
#[derive(Debug)]
pub struct Pretraining {
    options: RunOptions,
    corpus: Arc<Corpus>,
    tokenizer: Arc<Tokenizer>,
    batches: PretrainingBatches,
    workspace: Workspace,
}

impl Pretraining {
    /// A batch of the held-out documents is made, so that what keeps the first evaluation from being
    /// done shows now.
    fn new(
        options: RunOptions,
        corpus: Arc<Corpus>,
        tokenizer: Arc<Tokenizer>,
    ) -> Result<Pretraining, RunError> {
        options.check()?;
        let (words, rows) = (tokenizer.vocab_size(), options.config.vocab_size);
        if words > rows {
            return Err(Error::VocabularyTooLarge { words, rows }.into());
        }
        let batches = PretrainingBatches::new(corpus.clone(), tokenizer.clone(), options.data)?;
        let workspace = Workspace::default();
        let task = Pretraining { options, corpus, tokenizer, batches, workspace };
        task.held_out()?.next().transpose()?;
        Ok(task)
    }

    fn held_out(&self) -> Result<PretrainingBatches, DataError> {
        let (corpus, tokenizer) = (self.corpus.clone(), self.tokenizer.clone());
        PretrainingBatches::held_out(corpus, tokenizer, self.options.data)
    }
}

impl Task for Pretraining {
    type Model = Bert;
    type Scores = Scores;
    type Position = Position;

    const TITLE: &'static str = "Pre-training";
    const UNIT: &'static str = "loss of a masked word, nats";

    fn loss(scores: &Scores) -> f64 {
        scores.masked_loss
    }

    fn trainer_options(&self) -> TrainerOptions {
        self.options.trainer
    }

    fn recipe(&self) -> Value {
        self.options.recipe()
    }

    fn zeros(&self) -> Parameters {
        Parameters::zeros(&self.options.config, &Part::PRETRAINING)
    }

    fn initialize(&self) -> Parameters {
        initialize(&self.options.config, &Part::PRETRAINING, self.options.trainer.seed)
    }

    fn model(&self, parameters: &Parameters) -> Result<Bert, Error> {
        let (arithmetic, config) = (self.options.arithmetic, self.options.config.clone());
        Bert::trainable(arithmetic, config, &Part::PRETRAINING, parameters)
    }

    fn position(&self) -> Position {
        self.batches.position()
    }

    fn epoch(&self) -> u64 {
        self.batches.position().epoch
    }

    fn seek(&mut self, position: Position) -> Result<(), DataError> {
        self.batches.seek(position)
    }

    fn step(&mut self, trainer: &mut Trainer) -> Result<(Step<Scores>, u64), RunError> {
        let position = Task::position(self);
        let made: Result<Vec<_>, _> = self.batches.by_ref().take(self.options.accumulate).collect();
        let batches = match made {
            Ok(batches) => batches,
            Err(error) => {
                self.batches.seek(position)?;
                return Err(error.into());
            }
        };
        let step = trainer.pretrain_step(&batches)?;
        let tokens = batches.iter().map(|batch| batch.batch.tokens() as u64).sum();
        Ok((step.map(Scores::from), tokens))
    }

    fn evaluate(&mut self, bert: &Bert) -> Result<Scores, RunError> {
        let mut loss = PretrainingLoss::default();
        for batch in self.held_out()?.take(self.options.evaluation_batches) {
            let batch = batch?;
            let targets = PretrainingTargets::from(&batch);
            loss += bert.pretraining_loss(&batch.batch, targets, &mut self.workspace)?;
        }
        Ok(Scores::from(loss))
    }

    fn export(&self, folder: &Path, parameters: &Parameters) -> Result<(), RunError> {
        export(folder, &self.options.config, parameters)
    }
}

/// A run of pre-training, from texts to a BERT that `transformers` opens.
pub type PretrainingRun = Run<Pretraining>;

impl Run<Pretraining> {
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
    /// vocabulary, are not those that the run was begun with; [`Error::VocabularyTooLarge`] if the
    /// vocabulary has more words than the model; and whatever keeps the model, the data or the files
    /// from being made.
    pub fn begin(
        folder: RunFolder,
        options: RunOptions,
        corpus: Arc<Corpus>,
        tokenizer: Arc<Tokenizer>,
    ) -> Result<PretrainingRun, RunError> {
        Run::of(folder, Pretraining::new(options, corpus, tokenizer)?)
    }
}
