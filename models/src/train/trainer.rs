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

impl TrainerOptions {
    /// Refuses what nothing is learnt with, or becomes no number.
    pub(super) fn check(&self) -> Result<(), Error> {
        let OptimizerOptions { adamw, max_norm } = self.optimizer;
        let (peak, smoothing) = (self.schedule.peak, self.label_smoothing);
        let mean = "a number from 0 to below 1";
        let is_mean = |beta: f32| (0.0..1.0).contains(&beta);
        let is_above_zero = |x: f32| x.is_finite() && x > 0.0;
        let is_from_zero = |x: f32| x.is_finite() && x >= 0.0;
        for (option, expected, found, is_right) in [
            ("beta1", mean, adamw.beta1, is_mean(adamw.beta1)),
            ("beta2", mean, adamw.beta2, is_mean(adamw.beta2)),
            ("epsilon", "a number above 0", adamw.epsilon, is_above_zero(adamw.epsilon)),
            (
                "weight_decay",
                "a number from 0",
                adamw.weight_decay,
                is_from_zero(adamw.weight_decay),
            ),
            ("max_norm", "a number above 0, or infinity", max_norm, max_norm > 0.0),
            ("peak", "a number from 0", peak, is_from_zero(peak)),
            (
                "label_smoothing",
                "a number from 0 to 1",
                smoothing,
                (0.0..=1.0).contains(&smoothing),
            ),
        ] {
            if !is_right {
                return Err(Error::InvalidOption {
                    option,
                    expected: expected.to_owned(),
                    found: found.to_string(),
                });
            }
        }
        Ok(())
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

/// The most batches of a step: each has dropout of its own.
pub(super) const PASSES: usize = 1 << 20;

impl<M: Trained> Trainer<M> {
    /// Training of a model that was made of these parameters, to be trained.
    ///
    /// # Panics
    /// If the options are such that nothing can be learnt with them: a mean's share or a label
    /// smoothing out of its range, an ε that is not above zero, or what is no number. If the parameters
    /// are another model's, at the first step.
    #[track_caller]
    pub fn of(model: M, parameters: Parameters, options: TrainerOptions) -> Trainer<M> {
        options.check().unwrap_or_else(|error| panic!("{error}"));
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
        assert!(batches.len() <= PASSES, "{} batches, where a step has 2^20", batches.len());
        self.gradients.values_mut().par_chunks_mut(1 << 18).for_each(|part| part.fill(0.0));
        let mut loss = L::default();
        for (index, batch) in batches.iter().enumerate() {
            let pass_number = self.step * PASSES as u64 + index as u64;
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
    /// As [`Bert::trainable`]; [`Error::InvalidOption`] for options of which [`Trainer::of`] says that
    /// nothing can be learnt with them.
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
        options.check()?;
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
    /// If there is no batch or more than 2^20, a batch's targets do not fit it, or the model lacks a part.
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
    /// If there is no batch or more than 2^20.
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

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use ferrite_kernels::Level;

    use super::*;
    use crate::train::{initialize, initialize_transformer};
    use crate::transformer::TransformerConfig;

    fn config() -> BertConfig {
        BertConfig {
            vocab_size: 20,
            hidden_size: 8,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            intermediate_size: 16,
            max_position_embeddings: 8,
            ..BertConfig::default()
        }
    }

    fn trainer(config: BertConfig, options: TrainerOptions) -> Result<Trainer, Error> {
        let parameters = initialize(&config, &Part::ALL, 1);
        Trainer::new(Level::current(), config, &Part::ALL, parameters, options)
    }

    #[test]
    fn options_that_nothing_is_learnt_with_are_errors() {
        let options = TrainerOptions::new(1e-3, 10);
        trainer(config(), options).unwrap();
        let (nan, infinity) = (f32::NAN, f32::INFINITY);
        type Set = fn(&mut TrainerOptions, f32);
        let settings: [(&str, &[f32], Set); 7] = [
            ("beta1", &[-0.1, 1.0, nan], |of, x| of.optimizer.adamw.beta1 = x),
            ("beta2", &[-0.1, 1.0, nan], |of, x| of.optimizer.adamw.beta2 = x),
            ("epsilon", &[0.0, -1e-8, nan, infinity], |of, x| of.optimizer.adamw.epsilon = x),
            ("weight_decay", &[-0.1, nan, infinity], |of, x| of.optimizer.adamw.weight_decay = x),
            ("max_norm", &[0.0, -1.0, nan], |of, x| of.optimizer.max_norm = x),
            ("peak", &[-1.0, nan, infinity], |of, x| of.schedule.peak = x),
            ("label_smoothing", &[-0.1, 1.1, nan], |of, x| of.label_smoothing = x),
        ];
        let transformer = TransformerConfig::tiny(20);
        let parameters = initialize_transformer(&transformer, 1);
        for (name, values, set) in settings {
            for &value in values {
                let mut other = options;
                set(&mut other, value);
                let error = trainer(config(), other).unwrap_err();
                let Error::InvalidOption { option, .. } = error else { panic!("{name}: {error}") };
                assert_eq!(option, name);
                let model =
                    Transformer::trainable(Level::current(), transformer.clone(), &parameters);
                let (model, parameters) = (model.unwrap(), parameters.clone());
                let made = catch_unwind(move || Trainer::of(model, parameters, other).steps());
                assert!(made.is_err(), "{name} {value}");
            }
        }
    }

    #[test]
    fn models_that_cannot_be_trained_are_errors() {
        let nan = f32::NAN;
        type Set = fn(&mut BertConfig, f32);
        let settings: [(&str, &[f32], Set); 5] = [
            ("hidden_dropout_prob", &[1.0, nan, -0.1], |of, x| of.hidden_dropout_prob = x),
            ("attention_probs_dropout_prob", &[1.0, nan, -0.1], |of, x| {
                of.attention_probs_dropout_prob = x;
            }),
            ("classifier_dropout", &[1.0, nan, -0.1], |of, x| of.classifier_dropout = Some(x)),
            ("layer_norm_eps", &[0.0, -1e-12, nan, f32::INFINITY], |of, x| of.layer_norm_eps = x),
            ("initializer_range", &[-0.02, nan, f32::INFINITY], |of, x| of.initializer_range = x),
        ];
        for (name, values, set) in settings {
            for &value in values {
                let mut other = config();
                set(&mut other, value);
                let error = trainer(other, TrainerOptions::new(1e-3, 10)).unwrap_err();
                let Error::InvalidValue { field, .. } = error else { panic!("{name}: {error}") };
                assert_eq!(field, name, "{value}");
            }
        }
        let config = TransformerConfig { layer_norm_eps: 0.0, ..TransformerConfig::tiny(20) };
        let parameters = initialize_transformer(&config, 1);
        let error = Transformer::trainable(Level::current(), config, &parameters).unwrap_err();
        assert!(matches!(error, Error::InvalidValue { field: "layer_norm_eps", .. }), "{error}");
    }

    #[test]
    #[should_panic(expected = "1048577 batches, where a step has 2^20")]
    fn more_batches_than_have_dropout_of_their_own_are_refused() {
        let mut trainer = trainer(config(), TrainerOptions::new(1e-3, 10)).unwrap();
        let _ = trainer.step(&[(); PASSES + 1], |_, (), _, _, _, (): &mut ()| Ok(()));
    }
}
