//! Training: of masked words and next sentences, and then of the task.

use ferrite_models::Error;
use ferrite_models::bert::{
    Batch, Bert, BertConfig, Parameters, Part, PretrainingLoss, PretrainingTargets, Workspace,
};
use ferrite_models::data::{PretrainingBatch, Purpose, Random};
use ferrite_models::kernels::{Arithmetic, log_softmax};
use ferrite_models::tokenizer::{self, EncodeOptions, Tokenizer};
use ferrite_models::train::{
    Trainer, TrainerOptions, carry_over, initialize, sinusoidal_positions,
};

use super::recipe;
use super::task::Example;

/// How models are trained.
#[derive(Clone, Copy, Debug)]
pub(super) struct School {
    pub(super) arithmetic: Arithmetic,
    pub(super) seed: u64,
    /// Steps of pre-training, and the most steps of fine-tuning.
    pub(super) steps: u64,
}

/// The losses after some steps, in nats: of a masked word, and of a pair of sentences.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) step: u64,
    /// Over the steps since the last point.
    pub(super) training: [f64; 2],
    pub(super) held_out: [f64; 2],
}

fn means(loss: &PretrainingLoss) -> [f64; 2] {
    [loss.masked.mean(), loss.next_sentence.mean()]
}

impl School {
    /// The trainer of a model that has learnt nothing.
    pub(super) fn beginner(&self, config: BertConfig) -> Result<Trainer, Error> {
        let mut parameters = initialize(&config, &Part::PRETRAINING, self.seed);
        sinusoidal_positions(&mut parameters, recipe::POSITIONS);
        let options = TrainerOptions::new(recipe::PEAK, self.steps);
        Trainer::new(self.arithmetic, config, &Part::PRETRAINING, parameters, options)
    }

    /// Pre-trains. `held_out` are the batches that are never trained on; `notify` gets the number
    /// of steps that are done, after each, and now and then where the losses are.
    ///
    /// # Errors
    /// If there is no batch; as [`Trainer::pretrain_step`].
    pub(super) fn pretrain<E: From<Error>>(
        &self,
        trainer: &mut Trainer,
        batches: &mut impl Iterator<Item = Result<PretrainingBatch, E>>,
        held_out: &[PretrainingBatch],
        mut notify: impl FnMut(u64, Option<&Point>),
    ) -> Result<Vec<Point>, E> {
        let interval = (self.steps / recipe::MEASUREMENTS).max(1);
        let mut points = Vec::new();
        let mut since = PretrainingLoss::default();
        for batch in batches.by_ref().take(self.steps as usize) {
            since += trainer.pretrain_step(&[batch?])?.loss;
            let step = trainer.steps();
            if step.is_multiple_of(interval) || step == self.steps {
                let held_out = means(&measure(trainer.bert(), held_out)?);
                let point = Point { step, training: means(&std::mem::take(&mut since)), held_out };
                points.push(point);
                notify(step, Some(&point));
            } else {
                notify(step, None);
            }
        }
        Ok(points)
    }

    /// Trains all parameters of a classifier on the task, from those of `pretrained` as far as it
    /// has them, else from nothing.
    ///
    /// # Errors
    /// As [`Trainer::classify_step`].
    pub(super) fn fine_tune(
        &self,
        config: BertConfig,
        pretrained: Option<&Parameters>,
        examples: &[Encoded],
        mut notify: impl FnMut(u64),
    ) -> Result<Trainer, Error> {
        let mut fresh = initialize(&config, &Part::CLASSIFICATION, self.seed);
        sinusoidal_positions(&mut fresh, recipe::POSITIONS);
        let parameters = match pretrained {
            Some(pretrained) => carry_over(pretrained, fresh),
            None => fresh,
        };
        let steps = recipe::TASK_STEPS.min(self.steps);
        let options = TrainerOptions::new(recipe::TASK_PEAK, steps);
        let parts = &Part::CLASSIFICATION;
        let mut trainer = Trainer::new(self.arithmetic, config, parts, parameters, options)?;
        let mut order: Vec<usize> = (0..examples.len()).collect();
        let mut next = order.len();
        for step in 0..steps {
            if next + recipe::TASK_BATCH > order.len() {
                Random::new(self.seed, Purpose::Order, u64::MAX, step).shuffle(&mut order);
                next = 0;
            }
            let chosen = &order[next..(next + recipe::TASK_BATCH).min(order.len())];
            next += recipe::TASK_BATCH;
            trainer.classify_step(&[together(chosen.iter().map(|&index| &examples[index]))])?;
            notify(step + 1);
        }
        Ok(trainer)
    }
}

/// The losses of all these batches.
pub(super) fn measure(bert: &Bert, batches: &[PretrainingBatch]) -> Result<PretrainingLoss, Error> {
    let mut workspace = Workspace::default();
    let mut sum = PretrainingLoss::default();
    for batch in batches {
        let targets = PretrainingTargets::from(batch);
        sum += bert.pretraining_loss(&batch.batch, targets, &mut workspace)?;
    }
    Ok(sum)
}

/// An example as token ids.
#[derive(Clone, Debug)]
pub(super) struct Encoded {
    ids: Vec<u32>,
    type_ids: Vec<u8>,
    label: u32,
}

impl Encoded {
    /// The label's number.
    pub(super) fn label(&self) -> u32 {
        self.label
    }
}

/// Examples as token ids.
///
/// # Errors
/// As [`Tokenizer::encode`].
pub(super) fn encode(
    tokenizer: &Tokenizer,
    examples: &[Example],
) -> Result<Vec<Encoded>, tokenizer::Error> {
    let encode = |example: &Example| {
        let pair = Some(example.statement.as_str());
        let encoding = tokenizer.encode(&example.told, pair, &EncodeOptions::default())?;
        let (ids, type_ids) = (encoding.ids, encoding.type_ids);
        Ok(Encoded { ids, type_ids, label: example.label as u32 })
    };
    examples.iter().map(encode).collect()
}

fn together<'a>(examples: impl Iterator<Item = &'a Encoded>) -> (Batch, Vec<u32>) {
    let (mut batch, mut labels) = (Batch::default(), Vec::new());
    for example in examples {
        batch.push(&example.ids, Some(&example.type_ids));
        labels.push(example.label);
    }
    (batch, labels)
}

/// The part of the examples that a classifier answers right.
///
/// # Errors
/// As [`Bert::encode`].
///
/// # Panics
/// If the model is no classifier, or there is no example.
pub(super) fn accuracy(bert: &Bert, examples: &[Encoded]) -> Result<f64, Error> {
    let head = bert.classifier().expect("a classifier");
    let mut workspace = Workspace::default();
    let mut right = 0;
    for some in examples.chunks(64) {
        let (batch, labels) = together(some.iter());
        let hidden = bert.encode(&batch, &mut workspace)?;
        let scores = head.forward(bert.pool(&batch, hidden).expect("a pooler").view());
        for (row, &label) in labels.iter().enumerate() {
            right += usize::from(is_answer(scores.row(row), label as usize));
        }
    }
    Ok(right as f64 / examples.len() as f64)
}

/// Whether the label has a larger score than any other: a tie is no answer, and what is no number
/// neither.
fn is_answer(scores: &[f32], label: usize) -> bool {
    (0..scores.len()).all(|other| other == label || scores[label] > scores[other])
        && !scores[label].is_nan()
}

/// The likeliest tokens for the first `[MASK]` of a text, and their probabilities, the best first.
///
/// # Errors
/// If the text cannot be encoded, or is too long.
///
/// # Panics
/// If there is no mask in the text, or the model cannot guess words.
pub(super) fn guess(
    bert: &Bert,
    tokenizer: &Tokenizer,
    text: &str,
    top: usize,
) -> Result<Vec<(String, f32)>, Error> {
    let encoding = tokenizer.encode(text, None, &EncodeOptions::default())?;
    let mask = tokenizer.mask_id();
    let row = encoding.ids.iter().position(|&id| Some(id) == mask).expect("a mask");
    let batch = Batch::from_ids([&encoding.ids[..]]);
    let mut workspace = Workspace::default();
    let hidden = bert.encode(&batch, &mut workspace)?;
    let head = bert.masked_lm().expect("a masked-LM head");
    let mut scores = head.forward(hidden.row_range(row..row + 1));
    log_softmax(bert.level(), scores.view_mut());
    let mut ids: Vec<u32> = (0..scores.cols() as u32).collect();
    let score = |id: u32| scores.row(0)[id as usize];
    ids.sort_by(|&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
    let word =
        |&id: &u32| (tokenizer.id_to_token(id).unwrap_or_default().to_owned(), score(id).exp());
    Ok(ids.iter().take(top).map(word).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_largest_score_is_an_answer() {
        assert!(is_answer(&[1.0, 3.0, 2.0], 1) && is_answer(&[f32::NEG_INFINITY, -5.0], 1));
        assert!(!is_answer(&[1.0, 3.0, 2.0], 2));
        assert!(!is_answer(&[2.0, 2.0], 0) && !is_answer(&[2.0, 2.0], 1));
        for label in 0..3 {
            assert!(!is_answer(&[f32::NAN; 3], label), "{label}");
            assert!(!is_answer(&[1.0, f32::NAN, 2.0], label), "{label}");
        }
    }
}
