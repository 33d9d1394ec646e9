//! Runs of translation: from pairs of sentences to a Transformer.

use std::path::Path;
use std::sync::Arc;

use ferrite_kernels::{Arithmetic, CrossEntropy};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::export::export_transformer;
use super::log::null_is_nan;
use super::{
    Average, Run, RunError, RunFolder, Step, Task, Trainer, TrainerOptions, initialize_transformer,
    recipe, task,
};
use crate::data::{
    DataError, DroppedPair, EncodedPairs, PairBatchOptions, PairBatches, PairPosition, SpecialIds,
};
use crate::error::Error;
use crate::parameters::Parameters;
use crate::transformer::{Transformer, TransformerConfig, Workspace};

/// What a run of translation is made of.
#[derive(Clone, Debug)]
pub struct TranslationOptions {
    /// How products are computed, in f32 or bf16.
    pub arithmetic: Arithmetic,
    /// The model.
    pub config: TransformerConfig,
    /// How it is trained; the schedule's `total` is the number of steps.
    pub trainer: TrainerOptions,
    /// How batches are made; the tokens around the text are the model's:
    /// `SpecialIds::from(&config)`.
    pub data: PairBatchOptions,
    /// Batches to a step, whose gradients are added.
    pub accumulate: usize,
    /// Batches of the held-out pairs that an evaluation takes, at most.
    pub evaluation_batches: usize,
    /// The parameters whose mean is the result; the last ones if there is none.
    pub average: Option<Average>,
}

impl From<&TransformerConfig> for SpecialIds {
    /// The end of a sentence behind source and target, and the token that the decoder begins with.
    fn from(config: &TransformerConfig) -> SpecialIds {
        SpecialIds {
            source_end: config.eos_token_id,
            target_start: config.decoder_start_token_id,
            target_end: config.eos_token_id,
        }
    }
}

impl TranslationOptions {
    /// Refuses what no batch or no evaluation can be made with, but for what the batches refuse.
    fn check(&self) -> Result<(), RunError> {
        task::check(&self.trainer, self.accumulate, self.evaluation_batches)?;
        let PairBatchOptions { max_source_tokens, max_target_tokens, special, .. } = self.data;
        let longest = max_source_tokens.max(max_target_tokens);
        // A special token comes on top.
        if longest >= self.config.max_position_embeddings {
            return Err(RunError::from(DataError::InvalidOption {
                option: "max_source_tokens and max_target_tokens",
                expected: "less than max_position_embeddings",
                found: longest.to_string(),
            }));
        }
        if special != SpecialIds::from(&self.config) {
            return Err(RunError::from(DataError::InvalidOption {
                option: "special",
                expected: "the tokens of the model's configuration",
                found: format!("{special:?}"),
            }));
        }
        Ok(())
    }
}

/// Means over target tokens, the end of each sentence among them. What is infinite or not a number is
/// `null` in the log, and read as NaN.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TranslationScores {
    /// The loss that is trained on, with label smoothing, in nats: over all target tokens. That of a
    /// perfect model is not zero.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// The negative logarithm of the probability of the right token, in nats.
    #[serde(deserialize_with = "null_is_nan")]
    pub nll: f64,
    /// The part of the tokens that the model finds, given those before.
    #[serde(deserialize_with = "null_is_nan")]
    pub accuracy: f64,
}

impl From<CrossEntropy> for TranslationScores {
    fn from(loss: CrossEntropy) -> TranslationScores {
        let (nll, accuracy) = (loss.plain_mean(), loss.accuracy());
        TranslationScores { loss: loss.mean(), nll, accuracy }
    }
}

/// The task of translation: the next token of the target, given the source and those before
/// (teacher forcing).
#[derive(Debug)]
pub struct Translation {
    options: TranslationOptions,
    batches: PairBatches,
    held_out: PairBatches,
    /// Where the held-out pairs begin.
    first: PairPosition,
    workspace: Workspace,
}

impl Translation {
    fn new(
        options: TranslationOptions,
        pairs: Arc<EncodedPairs>,
        held_out: Arc<EncodedPairs>,
    ) -> Result<Translation, RunError> {
        options.check()?;
        let batches = PairBatches::new(pairs, options.data)?;
        let held_out = PairBatches::new(held_out, options.data)?;
        let first = held_out.position();
        Ok(Translation { options, batches, held_out, first, workspace: Workspace::default() })
    }
}

impl Task for Translation {
    type Model = Transformer;
    type Scores = TranslationScores;
    type Position = PairPosition;

    const TITLE: &'static str = "Translation";
    const UNIT: &'static str = "loss of a target token, nats";

    fn loss(scores: &TranslationScores) -> f64 {
        scores.nll
    }

    fn trainer_options(&self) -> TrainerOptions {
        self.options.trainer
    }

    fn average(&self) -> Option<Average> {
        self.options.average
    }

    /// What the pairs are shows in the position, but for those that are held out.
    fn recipe(&self) -> Value {
        let TranslationOptions { arithmetic, config, trainer, data, accumulate, .. } =
            &self.options;
        let mut settings = recipe::common(*arithmetic, config, trainer, *accumulate);
        let more = [
            ("label_smoothing", json!(trainer.label_smoothing)),
            ("average", json!(self.options.average)),
            ("held_out", json!(self.held_out.fingerprint())),
            (
                "data",
                json!({
                    "seed": data.seed,
                    "tokens": data.tokens,
                    "max_source_tokens": data.max_source_tokens,
                    "max_target_tokens": data.max_target_tokens,
                    "window": data.window,
                }),
            ),
        ];
        settings.extend(more.map(|(name, value)| (name.to_owned(), value)));
        Value::Object(settings)
    }

    fn zeros(&self) -> Parameters {
        self.options.config.zeros()
    }

    fn initialize(&self) -> Parameters {
        initialize_transformer(&self.options.config, self.options.trainer.seed)
    }

    fn model(&self, parameters: &Parameters) -> Result<Transformer, Error> {
        Transformer::trainable(self.options.arithmetic, self.options.config.clone(), parameters)
    }

    fn position(&self) -> PairPosition {
        self.batches.position()
    }

    fn epoch(&self) -> u64 {
        self.batches.position().epoch
    }

    fn seek(&mut self, position: PairPosition) -> Result<(), DataError> {
        self.batches.seek(position)
    }

    fn step(
        &mut self,
        trainer: &mut Trainer<Transformer>,
    ) -> Result<(Step<TranslationScores>, u64), RunError> {
        let position = self.batches.position();
        let batches: Vec<_> = self.batches.by_ref().take(self.options.accumulate).collect();
        let step = match trainer.translate_step(&batches) {
            Ok(step) => step,
            Err(error) => {
                self.batches.seek(position)?;
                return Err(error.into());
            }
        };
        let tokens = batches
            .iter()
            .map(|batch| (batch.source_ids.len() + batch.target_output_ids.len()) as u64)
            .sum();
        Ok((step.map(TranslationScores::from), tokens))
    }

    fn evaluate(&mut self, model: &Transformer) -> Result<TranslationScores, RunError> {
        self.held_out.seek(self.first)?;
        let smoothing = self.options.trainer.label_smoothing;
        let mut loss = CrossEntropy::default();
        for _ in 0..self.options.evaluation_batches {
            if self.held_out.position().epoch > self.first.epoch {
                break;
            }
            let batch = self.held_out.next().expect("there is no last one");
            loss += model.loss(&batch, smoothing, &mut self.workspace)?;
        }
        Ok(TranslationScores::from(loss))
    }

    fn export(&self, folder: &Path, parameters: &Parameters) -> Result<(), RunError> {
        export_transformer(folder, &self.options.config, parameters)
    }
}

/// A run of translation, from pairs of sentences to a Transformer that
/// [`Transformer::from_pretrained_at`] opens.
///
/// ```
/// use std::sync::Arc;
///
/// use ferrite_models::data::{EncodedPairs, PairBatchOptions, SpecialIds};
/// use ferrite_models::kernels::Level;
/// use ferrite_models::train::{TrainerOptions, TranslationOptions, TranslationRun};
/// use ferrite_models::transformer::{Transformer, TransformerConfig};
///
/// // Sentences of three words, to be said backwards.
/// let mut pairs = EncodedPairs::default();
/// for word in 0..20 {
///     let [a, b, c] = [10 + word, 10 + (word * 3) % 20, 10 + (word * 7) % 20];
///     pairs.push(&[a, b, c], &[c, b, a], u64::from(word) + 1);
/// }
/// let (training, held_out) = pairs.split(0.2, 1)?;
/// let mut config = TransformerConfig::tiny(30);
/// (config.d_model, config.encoder_ffn_dim, config.decoder_ffn_dim) = (32, 64, 64);
/// let options = TranslationOptions {
///     arithmetic: Level::current().into(),
///     trainer: TrainerOptions::transformer(32, 10, 20),
///     data: PairBatchOptions { tokens: 500, ..PairBatchOptions::new(SpecialIds::from(&config)) },
///     config,
///     accumulate: 1,
///     evaluation_batches: 10,
///     average: None,
/// };
/// let folder = tempfile::tempdir()?;
/// let pairs = (Arc::new(training), Arc::new(held_out));
/// let mut run = TranslationRun::start(folder.path(), options, pairs.0, pairs.1)?;
/// let before = run.evaluate()?.perplexity;
/// while run.steps() < run.total() {
///     run.step()?;
/// }
/// assert!(run.evaluate()?.perplexity < before);
/// run.save()?;
/// run.export()?;
/// Transformer::from_pretrained_at(Level::current(), folder.path())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type TranslationRun = Run<Translation>;

impl Run<Translation> {
    /// Begins a run in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// Those of [`RunFolder::fresh`] and of [`TranslationRun::begin`].
    pub fn start(
        folder: &Path,
        options: TranslationOptions,
        pairs: Arc<EncodedPairs>,
        held_out: Arc<EncodedPairs>,
    ) -> Result<TranslationRun, RunError> {
        TranslationRun::begin(RunFolder::fresh(folder)?, options, pairs, held_out)
    }

    /// Goes on with the run in a folder, from its newest checkpoint that is whole.
    ///
    /// # Errors
    /// Those of [`RunFolder::begun`] and of [`TranslationRun::begin`].
    pub fn resume(
        folder: &Path,
        options: TranslationOptions,
        pairs: Arc<EncodedPairs>,
        held_out: Arc<EncodedPairs>,
    ) -> Result<TranslationRun, RunError> {
        TranslationRun::begin(RunFolder::begun(folder)?, options, pairs, held_out)
    }

    /// Begins a run, or goes on with one, whichever the folder is for: training on `pairs`,
    /// evaluating on `held_out`.
    ///
    /// # Errors
    /// [`RunError::OtherRecipe`] if the options or the held-out pairs, or [`DataError::OtherData`] if
    /// the pairs, are not those that the run was begun with; [`DataError::NoPairs`] if no pair has
    /// sides of lengths that can be in a batch; and whatever keeps the model or the files from being
    /// made.
    pub fn begin(
        folder: RunFolder,
        options: TranslationOptions,
        pairs: Arc<EncodedPairs>,
        held_out: Arc<EncodedPairs>,
    ) -> Result<TranslationRun, RunError> {
        Run::of(folder, Translation::new(options, pairs, held_out)?)
    }

    /// The pairs of training that are in no batch, since a side has no token or too many.
    pub fn dropped(&self) -> &[DroppedPair] {
        self.task.batches.dropped()
    }

    /// The pairs that are held out and in no batch.
    pub fn held_out_dropped(&self) -> &[DroppedPair] {
        self.task.held_out.dropped()
    }
}
