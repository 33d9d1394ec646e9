//! Training against what PyTorch computes, and its promises about bits; see `oracle/README.md`.

use std::path::PathBuf;

use ferrite_kernels::testing::all_arithmetics;
use ferrite_models::bert::{
    Batch, Bert, BertConfig, Dropouts, Parameters, Part, PretrainingTargets, PretrainingWeights,
    Tape, Workspace,
};
use ferrite_models::checkpoint::{Checkpoint, Names};
use ferrite_models::data::PretrainingBatch;
use ferrite_models::kernels::{Arithmetic, Level, Precision};
use ferrite_models::train::{
    Optimizer, OptimizerOptions, Schedule, ScheduleShape, Trainer, TrainerOptions,
};
use safetensors::SafeTensors;

const SEQUENCES: usize = 11;
const LABELS: u32 = 3;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/a-pretraining")
}

/// The numbers of `training.safetensors`.
struct Dump {
    bytes: Vec<u8>,
}

impl Dump {
    fn load() -> Dump {
        let path = folder().join("training.safetensors");
        Dump { bytes: std::fs::read(path).expect("the dumps are in the repository") }
    }

    fn data(&self, name: &str) -> Vec<u8> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}")).data().to_vec()
    }

    fn f64s(&self, name: &str) -> Vec<f64> {
        let number = |b: &[u8]| f64::from_le_bytes(b.try_into().unwrap());
        self.data(name).chunks_exact(8).map(number).collect()
    }

    fn f32s(&self, name: &str) -> Vec<f32> {
        let number = |b: &[u8]| f32::from_le_bytes(b.try_into().unwrap());
        self.data(name).chunks_exact(4).map(number).collect()
    }

    fn integers(&self, name: &str) -> Vec<i64> {
        let number = |b: &[u8]| i64::from_le_bytes(b.try_into().unwrap());
        self.data(name).chunks_exact(8).map(number).collect()
    }

    /// Some of the sequences as a batch.
    fn batch(&self, sequences: impl IntoIterator<Item = usize>) -> PretrainingBatch {
        let mut batch = PretrainingBatch::default();
        for n in sequences {
            let row = batch.batch.tokens();
            let ids: Vec<u32> =
                self.integers(&format!("ids.{n}")).iter().map(|&id| id as u32).collect();
            let types: Vec<u8> =
                self.integers(&format!("type_ids.{n}")).iter().map(|&id| id as u8).collect();
            for (place, &label) in self.integers(&format!("labels.{n}")).iter().enumerate() {
                if label >= 0 {
                    batch.positions.push((row + place) as u32);
                    batch.targets.push(label as u32);
                }
            }
            batch.next_sentence.push(self.integers(&format!("next.{n}"))[0] as u32);
            batch.batch.push(&ids, Some(&types));
        }
        batch
    }

    fn labels(&self) -> Vec<u32> {
        (0..SEQUENCES as u32).map(|n| n % LABELS).collect()
    }
}

fn config(labels: u32) -> BertConfig {
    let mut config = BertConfig::from_file(folder().join("config.json")).unwrap();
    config.id2label = Some((0..labels).map(|id| (id, format!("label {id}"))).collect());
    config
}

fn parameters(config: &BertConfig, parts: &[Part]) -> Parameters {
    let checkpoint = Checkpoint::open(folder()).unwrap();
    let mut parameters = Parameters::zeros(config, parts);
    parameters.read(&Names::new(&checkpoint)).unwrap();
    parameters
}

/// The parameters of the classifier, whose head is not in the checkpoint.
fn classifier_parameters(config: &BertConfig, dump: &Dump) -> Parameters {
    let mut parameters = parameters(config, &Part::CLASSIFICATION);
    for tensor in parameters.tensors().to_vec() {
        if tensor.name.starts_with("classifier.") {
            let values = &mut parameters.values_mut()[tensor.range.clone()];
            values.copy_from_slice(&dump.f32s(&tensor.name));
        }
    }
    parameters
}

/// Each tensor's error, its norm beside that of the gradient.
fn assert_gradients(about: &str, gradients: &Parameters, dump: &Dump, prefix: &str, limit: f64) {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let mut worst = (0.0, String::new());
    for tensor in gradients.tensors() {
        let expected = dump.f64s(&format!("{prefix}.{}", tensor.name));
        let found = gradients.tensor(tensor);
        assert_eq!(found.len(), expected.len(), "{}", tensor.name);
        let error = norm(&mut found.iter().zip(&expected).map(|(&x, e)| f64::from(x) - e));
        let size = norm(&mut expected.iter().copied());
        // The key's bias has no gradient but rounding: softmax does not see it.
        if size < 1e-12 {
            assert!(
                error < limit.min(1e-3),
                "{about} {}: {error:e} where there is no gradient",
                tensor.name
            );
            continue;
        }
        let relative = error / size;
        if relative > worst.0 || relative.is_nan() {
            worst = (relative, tensor.name.clone());
        }
    }
    println!("{about}: largest relative error of a gradient {:.1e}, {}", worst.0, worst.1);
    assert!(worst.0 <= limit, "{about}: {worst:?}");
}

/// How far gradients may be off, as a part of themselves.
fn limit(arithmetic: Arithmetic) -> f64 {
    if arithmetic.precision() == Precision::F32 { 1e-4 } else { 0.05 }
}

fn trained() -> impl Iterator<Item = Arithmetic> {
    all_arithmetics().into_iter().filter(|one| one.precision() != Precision::Int8)
}

#[test]
fn losses_and_gradients_of_pretraining_are_those_of_pytorch() {
    let (dump, config) = (Dump::load(), config(2));
    let batch = dump.batch(0..SEQUENCES);
    let parameters = parameters(&config, &Part::PRETRAINING);
    let weights = PretrainingWeights {
        masked: 1.0 / batch.targets.len() as f32,
        next_sentence: 1.0 / SEQUENCES as f32,
    };
    for arithmetic in trained() {
        let bert = Bert::trainable(arithmetic, config.clone(), &Part::PRETRAINING, &parameters);
        let bert = bert.unwrap();
        let mut gradients = parameters.zeros_like();
        let targets = PretrainingTargets::from(&batch);
        let mut tape = Tape::default();
        // Twice: what is on the tape from before must not be seen.
        for _ in 0..2 {
            gradients.values_mut().fill(0.0);
            let loss = bert
                .pretraining_gradients(
                    &batch.batch,
                    targets,
                    weights,
                    &Dropouts::NONE,
                    &mut tape,
                    &mut gradients,
                )
                .unwrap();
            let limit = if arithmetic.precision() == Precision::F32 { 1e-5 } else { 0.02 };
            let masked = loss.masked.mean() / dump.f64s("loss.masked")[0] - 1.0;
            let next = loss.next_sentence.mean() / dump.f64s("loss.next")[0] - 1.0;
            assert!(masked.abs() < limit && next.abs() < limit, "{arithmetic} {masked} {next}");
        }
        assert_gradients(&arithmetic.to_string(), &gradients, &dump, "gradient", limit(arithmetic));
        // What evaluation says, by the passes of inference.
        let mut workspace = Workspace::default();
        let loss = bert.pretraining_loss(&batch.batch, targets, &mut workspace).unwrap();
        let masked = loss.masked.mean() / dump.f64s("loss.masked")[0] - 1.0;
        assert!(masked.abs() < 0.02, "{arithmetic} {masked}");
    }
}

#[test]
fn losses_and_gradients_of_a_classifier_are_those_of_pytorch() {
    let (dump, config) = (Dump::load(), config(LABELS));
    let (batch, labels) = (unmasked(&dump), dump.labels());
    let parameters = classifier_parameters(&config, &dump);
    for arithmetic in trained() {
        let bert = Bert::trainable(arithmetic, config.clone(), &Part::CLASSIFICATION, &parameters);
        let mut gradients = parameters.zeros_like();
        let (none, mut tape) = (Dropouts::NONE, Tape::default());
        let weight = 1.0 / SEQUENCES as f32;
        let loss = bert
            .unwrap()
            .classification_gradients(&batch, &labels, weight, &none, &mut tape, &mut gradients)
            .unwrap();
        let error = loss.mean() / dump.f64s("classifier.loss")[0] - 1.0;
        let of_loss = if arithmetic.precision() == Precision::F32 { 1e-5 } else { 0.02 };
        assert!(error.abs() < of_loss, "{arithmetic} {error}");
        let about = format!("classifier {arithmetic}");
        assert_gradients(&about, &gradients, &dump, "classifier.gradient", limit(arithmetic));
    }
}

/// The sequences of the dump as the classifier gets them: masks included, they are in the ids.
fn unmasked(dump: &Dump) -> Batch {
    dump.batch(0..SEQUENCES).batch
}

/// The dump's rates: a warm-up of five steps that begins with a fifth of the peak.
fn rates() -> Vec<f32> {
    let rate = |step: usize| match step + 1 {
        done @ ..5 => done as f64 / 5.0,
        _ => (20 - step) as f64 / 16.0,
    };
    (0..20).map(|step| (1e-3 * rate(step).min(1.0)) as f32).collect()
}

#[track_caller]
fn assert_losses(about: &str, losses: &[f64], expected: &[f64], limit: f64) {
    assert_eq!(losses.len(), expected.len());
    let errors = losses.iter().zip(expected).map(|(x, e)| (x / e - 1.0).abs());
    let worst = errors.fold(0.0, f64::max);
    println!("{about}: largest relative error of twenty losses {worst:.1e}");
    assert!(worst < limit, "{about}: {losses:?} for {expected:?}");
    assert!(expected[19] < expected[0], "nothing was learnt");
}

/// What a step takes: one batch at a rate.
fn train_at(
    trainer: &mut Optimizer,
    bert: &mut Bert,
    parameters: &mut Parameters,
    rate: f32,
    pass: impl FnOnce(&Bert, &mut Parameters) -> f64,
) -> f64 {
    let mut gradients = parameters.zeros_like();
    let loss = pass(bert, &mut gradients);
    assert!(!trainer.update(bert.level(), rate, parameters, &gradients).skipped);
    bert.update(parameters);
    loss
}

#[test]
fn twenty_losses_are_those_of_pytorch() {
    let dump = Dump::load();
    for arithmetic in Arithmetic::available() {
        let precision = arithmetic.precision();
        if precision == Precision::Int8 {
            continue;
        }
        let limit = if precision == Precision::F32 { 1e-4 } else { 0.03 };

        let (config_2, batch) = (config(2), dump.batch(0..SEQUENCES));
        let mut of = parameters(&config_2, &Part::PRETRAINING);
        let mut bert = Bert::trainable(arithmetic, config_2, &Part::PRETRAINING, &of).unwrap();
        let mut optimizer = Optimizer::new(OptimizerOptions::CORRECTED, &of);
        let mut tape = Tape::default();
        let weights = PretrainingWeights {
            masked: 1.0 / batch.targets.len() as f32,
            next_sentence: 1.0 / SEQUENCES as f32,
        };
        let losses: Vec<f64> = rates()
            .into_iter()
            .map(|rate| {
                train_at(&mut optimizer, &mut bert, &mut of, rate, |bert, gradients| {
                    let (targets, none) = (PretrainingTargets::from(&batch), Dropouts::NONE);
                    let loss = bert
                        .pretraining_gradients(
                            &batch.batch,
                            targets,
                            weights,
                            &none,
                            &mut tape,
                            gradients,
                        )
                        .unwrap();
                    loss.masked.mean() + loss.next_sentence.mean()
                })
            })
            .collect();
        assert_losses(&arithmetic.to_string(), &losses, &dump.f64s("losses"), limit);

        let (config_3, batch, labels) = (config(LABELS), unmasked(&dump), dump.labels());
        let mut of = classifier_parameters(&config_3, &dump);
        let mut bert = Bert::trainable(arithmetic, config_3, &Part::CLASSIFICATION, &of).unwrap();
        let mut optimizer = Optimizer::new(OptimizerOptions::CORRECTED, &of);
        let losses: Vec<f64> = rates()
            .into_iter()
            .map(|rate| {
                train_at(&mut optimizer, &mut bert, &mut of, rate, |bert, gradients| {
                    let (none, weight) = (Dropouts::NONE, 1.0 / SEQUENCES as f32);
                    bert.classification_gradients(
                        &batch, &labels, weight, &none, &mut tape, gradients,
                    )
                    .unwrap()
                    .mean()
                })
            })
            .collect();
        let about = format!("classifier {arithmetic}");
        assert_losses(&about, &losses, &dump.f64s("classifier.losses"), limit);
    }
}

fn options() -> TrainerOptions {
    let shape = ScheduleShape::Linear;
    TrainerOptions {
        schedule: Schedule { peak: 1e-3, warmup: 1, total: 10, shape },
        seed: 5,
        ..TrainerOptions::new(1e-3, 10)
    }
}

fn trainer(arithmetic: Arithmetic) -> Trainer {
    let config = config(2);
    assert!(config.hidden_dropout_prob > 0.0 && config.attention_probs_dropout_prob > 0.0);
    let of = parameters(&config, &Part::PRETRAINING);
    Trainer::new(arithmetic, config, &Part::PRETRAINING, of, options()).unwrap()
}

#[test]
fn parameters_do_not_depend_on_threads() {
    let dump = Dump::load();
    let batches = [dump.batch(0..6), dump.batch(6..SEQUENCES)];
    for precision in [Precision::F32, Precision::Bf16] {
        let arithmetic = Arithmetic::new(Level::current(), precision);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut trainer = trainer(arithmetic);
                (0..4).for_each(|_| assert!(!trainer.pretrain_step(&batches).unwrap().skipped));
                trainer.parameters().clone()
            })
        };
        let expected = run(1);
        for threads in [2, 3, 5] {
            assert!(run(threads) == expected, "{precision} {threads} threads");
        }
    }
}

#[test]
fn a_restored_trainer_goes_on_with_the_same_bits() {
    let dump = Dump::load();
    let batches = [dump.batch(0..SEQUENCES)];
    let mut straight = trainer(Level::current().into());
    (0..3).for_each(|_| assert!(!straight.pretrain_step(&batches).unwrap().skipped));
    let mut resumed = trainer(Level::current().into());
    let (parameters, optimizer) = (straight.parameters().clone(), straight.optimizer().clone());
    resumed.restore(straight.steps(), parameters, optimizer);
    for _ in 0..3 {
        let steps = [&mut straight, &mut resumed].map(|one| one.pretrain_step(&batches).unwrap());
        assert_eq!(steps[0], steps[1]);
    }
    assert!(straight.parameters() == resumed.parameters());
}

/// A step counts words and pairs, not batches: cut otherwise, its gradient is the same but for
/// rounding. (Dropout is drawn by place in a batch, so there is none here.)
#[test]
fn gradients_count_words_not_batches() {
    let dump = Dump::load();
    let run = |batches: &[PretrainingBatch]| {
        let mut config = config(2);
        (config.hidden_dropout_prob, config.attention_probs_dropout_prob) = (0.0, 0.0);
        let of = parameters(&config, &Part::PRETRAINING);
        let parts = &Part::PRETRAINING;
        let mut trainer = Trainer::new(Level::current(), config, parts, of, options()).unwrap();
        let step = trainer.pretrain_step(batches).unwrap();
        (step.loss.masked.mean(), step.norm, trainer.gradients().clone())
    };
    let whole = run(&[dump.batch(0..SEQUENCES)]);
    let parts = run(&[dump.batch(0..1), dump.batch(1..7), dump.batch(7..SEQUENCES)]);
    assert!((whole.0 / parts.0 - 1.0).abs() < 1e-6 && (whole.1 / parts.1 - 1.0).abs() < 1e-5);
    let largest = whole.2.values().iter().fold(0.0f32, |m, x| m.max(x.abs()));
    for (x, y) in whole.2.values().iter().zip(parts.2.values()) {
        assert!((x - y).abs() <= 1e-5 * largest, "{x} {y}");
    }
}

#[test]
fn dropout_is_drawn_anew_for_each_step_and_follows_the_seed() {
    let dump = Dump::load();
    let run = |seed: u64| {
        let config = config(2);
        let of = parameters(&config, &Part::PRETRAINING);
        let mut options = options();
        // A rate of zero: the parameters stay, so that losses differ by dropout alone.
        options.schedule.peak = 0.0;
        options.seed = seed;
        let parts = &Part::PRETRAINING;
        let mut trainer = Trainer::new(Level::current(), config, parts, of, options).unwrap();
        let batches = [dump.batch(0..SEQUENCES)];
        [(); 3].map(|()| trainer.pretrain_step(&batches).unwrap().loss.masked.loss)
    };
    let losses = run(1);
    assert!(losses[0] != losses[1] && losses[1] != losses[2]);
    assert_eq!(losses, run(1));
    assert_ne!(losses, run(2));
}

#[test]
fn what_is_out_of_range_is_an_error_and_changes_nothing() {
    let mut trainer = trainer(Level::current().into());
    let before = trainer.parameters().clone();
    let mut batch = Dump::load().batch(0..1);
    batch.batch.push(&[2, 100_000, 3], None);
    batch.next_sentence.push(0);
    let error = trainer.pretrain_step(&[batch]).unwrap_err();
    assert!(error.to_string().contains("100000"), "{error}");
    assert!(*trainer.parameters() == before && trainer.steps() == 0);
}
