//! Steps of training.

use ferrite_kernels::{Arithmetic, CrossEntropy};
use rayon::prelude::*;

use super::optimizer::{Optimizer, OptimizerOptions};
use super::schedule::{Schedule, ScheduleShape};
use super::trained::Trained;
use crate::bert::{
    Batch, Bert, BertConfig, Part, PretrainingLoss, PretrainingTargets, PretrainingWeights,
};
use crate::data::{PairBatch, PretrainingBatch};
use crate::error::Error;
use crate::parameters::Parameters;
use crate::transformer::{Pairs, Sentences, Transformer, TranslationWeights};

/// How a [`Trainer`] trains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainerOptions {
    /// What becomes of gradients.
    pub optimizer: OptimizerOptions,
    /// The rate of each step.
    pub schedule: Schedule,
    /// What is dropped out follows from it.
    pub seed: u64,
    /// The label smoothing of translation; no other task has any.
    pub label_smoothing: f32,
}

impl TrainerOptions {
    /// AdamW with bias correction; a rate that rises to `peak` in the first tenth of `steps` and
    /// falls to zero; seed 0.
    pub fn new(peak: f32, steps: u64) -> TrainerOptions {
        TrainerOptions {
            optimizer: OptimizerOptions::CORRECTED,
            schedule: Schedule {
                peak,
                warmup: steps / 10,
                total: steps,
                shape: ScheduleShape::Linear,
            },
            seed: 0,
            label_smoothing: 0.0,
        }
    }

    /// Those of Attention Is All You Need, section 5: Adam, a rate that rises for `warmup` of the
    /// `steps` and falls with the inverse square root, a label smoothing of 0.1; seed 0.
    pub fn transformer(d_model: usize, warmup: u64, steps: u64) -> TrainerOptions {
        TrainerOptions {
            optimizer: OptimizerOptions::TRANSFORMER,
            schedule: Schedule::transformer(d_model, warmup, steps),
            seed: 0,
            label_smoothing: 0.1,
        }
    }
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step<L> {
    /// The losses, over all batches of the step, before it.
    pub loss: L,
    /// The learning rate.
    pub rate: f32,
    /// The norm of all gradients.
    pub norm: f64,
    /// Whether it was skipped, because a gradient is infinite or not a number.
    pub skipped: bool,
}

impl<L> Step<L> {
    /// The same step, its losses told in another way.
    pub(super) fn map<S>(self, scores: impl FnOnce(L) -> S) -> Step<S> {
        let Step { loss, rate, norm, skipped } = self;
        Step { loss: scores(loss), rate, norm, skipped }
    }
}

/// A model that is trained, and all that belongs to its training: a [`Bert`] or a [`Transformer`].
///
/// For one level and precision the parameters after a number of steps depend, to the last bit, on
/// those before, the options and the batches alone.
#[derive(Debug)]
pub struct Trainer<M: Trained = Bert> {
    model: M,
    parameters: Parameters,
    gradients: Parameters,
    optimizer: Optimizer,
    options: TrainerOptions,
    tape: M::Tape,
    step: u64,
}

/// Batches of one step that have dropout of their own.
const PASSES: u64 = 1 << 20;

impl<M: Trained> Trainer<M> {
    /// Training of a model that was made of these parameters, to be trained.
    pub fn of(model: M, parameters: Parameters, options: TrainerOptions) -> Trainer<M> {
        let optimizer = Optimizer::new(options.optimizer, &parameters);
        Trainer::at(0, model, parameters, optimizer, options)
    }

    /// The same of a training that has come to `step`, with the optimizer that it had then.
    pub(super) fn at(
        step: u64,
        model: M,
        parameters: Parameters,
        optimizer: Optimizer,
        options: TrainerOptions,
    ) -> Trainer<M> {
        let (gradients, tape) = (parameters.zeros_like(), M::Tape::default());
        Trainer { model, parameters, gradients, optimizer, options, tape, step }
    }

    /// The model as it is now. It serves inference, too.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The parameters as they are now.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The gradients of the last step.
    pub fn gradients(&self) -> &Parameters {
        &self.gradients
    }

    /// The optimizer and its means.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// How it trains.
    pub fn options(&self) -> &TrainerOptions {
        &self.options
    }

    /// The steps that were taken, those that were skipped included.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Goes on where a training stopped: after `step` steps, with what it had then.
    ///
    /// # Panics
    /// If they are of another model.
    #[track_caller]
    pub fn restore(&mut self, step: u64, parameters: Parameters, optimizer: Optimizer) {
        assert_eq!(parameters.tensors(), self.parameters.tensors(), "tensors of the model");
        assert_eq!(optimizer.m.tensors(), self.parameters.tensors(), "tensors of the optimizer");
        self.parameters = parameters;
        self.optimizer = optimizer;
        self.step = step;
        self.model.update(&self.parameters);
    }

    /// What `work` makes of the model when it has these parameters in place of its own.
    pub(super) fn with_parameters<T>(
        &mut self,
        parameters: &Parameters,
        work: impl FnOnce(&M) -> T,
    ) -> T {
        self.model.update(parameters);
        let result = work(&self.model);
        self.model.update(&self.parameters);
        result
    }

    /// A step with the gradients that `pass` adds for each batch.
    #[track_caller]
    fn step<B, L: Default>(
        &mut self,
        batches: &[B],
        mut pass: impl FnMut(
            &M,
            &B,
            &M::Dropouts,
            &mut M::Tape,
            &mut Parameters,
            &mut L,
        ) -> Result<(), Error>,
    ) -> Result<Step<L>, Error> {
        assert!(!batches.is_empty(), "a step of training takes a batch at least");
        self.gradients.values_mut().par_chunks_mut(1 << 18).for_each(|part| part.fill(0.0));
        let mut loss = L::default();
        for (index, batch) in batches.iter().enumerate() {
            let pass_number = self.step * PASSES + index as u64;
            let dropouts = self.model.dropouts(self.options.seed, pass_number);
            let (tape, gradients) = (&mut self.tape, &mut self.gradients);
            pass(&self.model, batch, &dropouts, tape, gradients, &mut loss)?;
        }
        let rate = self.options.schedule.at(self.step);
        let level = self.model.level();
        let update = self.optimizer.update(level, rate, &mut self.parameters, &self.gradients);
        if !update.skipped {
            self.model.update(&self.parameters);
        }
        self.step += 1;
        Ok(Step { loss, rate, norm: update.norm, skipped: update.skipped })
    }
}

impl Trainer<Bert> {
    /// Training of a BERT with these parts from these parameters on. Products are computed in
    /// `arithmetic`, in f32 or bf16; parameters, their gradients and means are f32 in any case.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for an activation that there is not.
    ///
    /// # Panics
    /// If the parameters are those of another model.
    pub fn new(
        arithmetic: impl Into<Arithmetic>,
        config: BertConfig,
        parts: &[Part],
        parameters: Parameters,
        options: TrainerOptions,
    ) -> Result<Trainer, Error> {
        let bert = Bert::trainable(arithmetic, config, parts, &parameters)?;
        Ok(Trainer::of(bert, parameters, options))
    }

    /// The model as it is now. It serves inference, too.
    pub fn bert(&self) -> &Bert {
        &self.model
    }

    /// A step of pre-training (BERT, section 3.1): the loss is the mean over all masked words of
    /// the batches plus the mean over all their pairs of sentences.
    ///
    /// # Errors
    /// If an id or a length of a batch is out of range. Then nothing has changed.
    ///
    /// # Panics
    /// If there is no batch, a batch's targets do not fit it, or the model lacks a part.
    pub fn pretrain_step(
        &mut self,
        batches: &[PretrainingBatch],
    ) -> Result<Step<PretrainingLoss>, Error> {
        let words: usize = batches.iter().map(|batch| batch.targets.len()).sum();
        let pairs: usize = batches.iter().map(|batch| batch.batch.len()).sum();
        let share = |number: usize| 1.0 / number.max(1) as f32;
        let weights = PretrainingWeights { masked: share(words), next_sentence: share(pairs) };
        self.step(batches, |bert, batch, dropouts, tape, gradients, loss: &mut PretrainingLoss| {
            *loss += bert.pretraining_gradients(
                &batch.batch,
                PretrainingTargets::from(batch),
                weights,
                dropouts,
                tape,
                gradients,
            )?;
            Ok(())
        })
    }

    /// A step of fine-tuning a classifier of sequences, with all parameters (BERT, section 4.1):
    /// the loss is the mean over all sequences of the batches, each with a class for each of its
    /// sequences.
    ///
    /// # Errors
    /// As [`Trainer::pretrain_step`].
    ///
    /// # Panics
    /// As there.
    pub fn classify_step(
        &mut self,
        batches: &[(Batch, Vec<u32>)],
    ) -> Result<Step<CrossEntropy>, Error> {
        let sequences: usize = batches.iter().map(|(batch, _)| batch.len()).sum();
        let weight = 1.0 / sequences.max(1) as f32;
        self.step(batches, |bert, batch, dropouts, tape, gradients, loss: &mut CrossEntropy| {
            let (batch, labels) = batch;
            *loss +=
                bert.classification_gradients(batch, labels, weight, dropouts, tape, gradients)?;
            Ok(())
        })
    }
}

impl Trainer<Transformer> {
    /// A step of translation (Attention Is All You Need, section 5): the loss is the mean over all
    /// target tokens of the batches.
    ///
    /// ```
    /// use ferrite_models::kernels::Level;
    /// use ferrite_models::train::{Trainer, TrainerOptions, initialize_transformer};
    /// use ferrite_models::transformer::{Batch, Transformer, TransformerConfig};
    ///
    /// let config = TransformerConfig::tiny(30);
    /// let parameters = initialize_transformer(&config, 1);
    /// let transformer = Transformer::trainable(Level::current(), config, &parameters)?;
    /// let options = TrainerOptions::transformer(128, 40, 20);
    /// let mut trainer = Trainer::of(transformer, parameters, options);
    /// let mut batch = Batch::default();
    /// batch.push(&[11, 12, 13, 2], &[13, 12, 11, 2], 1);
    /// let mut losses = Vec::new();
    /// for _ in 0..20 {
    ///     losses.push(trainer.translate_step(std::slice::from_ref(&batch))?.loss.mean());
    /// }
    /// assert!(losses[19] < losses[0]);
    /// # Ok::<(), ferrite_models::Error>(())
    /// ```
    ///
    /// # Errors
    /// If an id or a length of a batch is out of range. Then nothing has changed.
    ///
    /// # Panics
    /// If there is no batch.
    pub fn translate_step<B>(&mut self, batches: &[B]) -> Result<Step<CrossEntropy>, Error>
    where
        for<'a> Pairs<'a>: From<&'a B>,
    {
        let tokens: usize = batches.iter().map(|batch| Pairs::from(batch).outputs.len()).sum();
        let label_smoothing = self.options.label_smoothing;
        let weights = TranslationWeights { label_smoothing, token: 1.0 / tokens.max(1) as f32 };
        self.step(batches, |model, batch, dropouts, tape, gradients, loss: &mut CrossEntropy| {
            *loss += model.gradients(batch, weights, dropouts, tape, gradients)?;
            Ok(())
        })
    }
}

impl<'a> From<&'a PretrainingBatch> for PretrainingTargets<'a> {
    fn from(batch: &'a PretrainingBatch) -> PretrainingTargets<'a> {
        PretrainingTargets {
            positions: &batch.positions,
            words: &batch.targets,
            next_sentence: &batch.next_sentence,
        }
    }
}

impl<'a> From<&'a PairBatch> for Pairs<'a> {
    fn from(batch: &'a PairBatch) -> Pairs<'a> {
        Pairs {
            source: Sentences { ids: &batch.source_ids, sequences: &batch.sources },
            inputs: Sentences { ids: &batch.target_input_ids, sequences: &batch.targets },
            outputs: &batch.target_output_ids,
        }
    }
}
