//! The Transformer against what PyTorch computes, forward, backward and trained, and its promises
//! about bits; see `oracle/README.md`.

use std::path::PathBuf;

use ferrite_kernels::testing::{Random, all_arithmetics};
use ferrite_models::Error;
use ferrite_models::bert::{HiddenAct, Parameters};
use ferrite_models::checkpoint::{Checkpoint, Names};
use ferrite_models::kernels::{Arithmetic, Level, Matrix, Precision};
use ferrite_models::train::{Trainer, TrainerOptions, export_transformer, initialize_transformer};
use ferrite_models::transformer::{
    Dropouts, PairBatch, Sentences, Tape, TorchNames, Transformer, TransformerConfig,
    TranslationWeights, Workspace,
};
use safetensors::SafeTensors;

const MODELS: [&str; 3] = ["paper", "pre-norm", "torch"];
const PAIRS: usize = 6;
const NAMES: TorchNames<'static> = TorchNames {
    transformer: "transformer.",
    source: "source",
    target: "target",
    generator: "generator",
    generator_bias: "bias",
};

fn folder(model: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/transformer").join(model)
}

/// A model of the oracle, and what PyTorch makes of it.
struct Oracle {
    config: TransformerConfig,
    parameters: Parameters,
    bytes: Vec<u8>,
}

impl Oracle {
    fn load(model: &str) -> Oracle {
        let folder = folder(model);
        let config = TransformerConfig::from_file(folder.join("config.json")).unwrap();
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let names = Names::new(&checkpoint);
        let parameters = if model == "torch" {
            config.read_torch(&names, &NAMES).unwrap()
        } else {
            let mut parameters = config.zeros();
            parameters.read_all(&names).unwrap();
            parameters
        };
        let bytes = std::fs::read(folder.join("expected.safetensors")).unwrap();
        Oracle { config, parameters, bytes }
    }

    fn data(&self, name: &str) -> Vec<u8> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}")).data().to_vec()
    }

    fn f64s(&self, name: &str) -> Vec<f64> {
        let number = |b: &[u8]| f64::from_le_bytes(b.try_into().unwrap());
        self.data(name).chunks_exact(8).map(number).collect()
    }

    fn f32s(&self, name: &str) -> Vec<f64> {
        let number = |b: &[u8]| f64::from(f32::from_le_bytes(b.try_into().unwrap()));
        self.data(name).chunks_exact(4).map(number).collect()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        let number = |b: &[u8]| i64::from_le_bytes(b.try_into().unwrap()) as u32;
        self.data(name).chunks_exact(8).map(number).collect()
    }

    fn batch(&self, pairs: impl IntoIterator<Item = usize>) -> PairBatch {
        let mut batch = PairBatch::default();
        for n in pairs {
            let (source, target) =
                (self.ids(&format!("source.{n}")), self.ids(&format!("target.{n}")));
            batch.push(&source, &target, self.config.decoder_start_token_id);
        }
        batch
    }

    fn smoothing(&self) -> f32 {
        self.f64s("label_smoothing")[0] as f32
    }

    fn weights(&self, tokens: usize) -> TranslationWeights {
        TranslationWeights { label_smoothing: self.smoothing(), token: 1.0 / tokens as f32 }
    }

    fn trainable(&self, arithmetic: Arithmetic) -> Transformer {
        Transformer::trainable(arithmetic, self.config.clone(), &self.parameters).unwrap()
    }
}

fn trained() -> impl Iterator<Item = Arithmetic> {
    all_arithmetics().into_iter().filter(|one| one.precision() != Precision::Int8)
}

fn is_f32(arithmetic: Arithmetic) -> bool {
    arithmetic.precision() == Precision::F32
}

#[track_caller]
fn assert_near(about: &str, found: &[f32], expected: &[f64], limit: f64) {
    assert_eq!(found.len(), expected.len(), "{about}");
    let errors = found.iter().zip(expected).map(|(&x, e)| (f64::from(x) - e).abs());
    let worst = errors
        .fold(0.0, |worst: f64, error| if error > worst || error.is_nan() { error } else { worst });
    println!("{about}: largest error {worst:.1e}");
    assert!(worst <= limit, "{about}: {worst:e}");
}

#[test]
fn logits_are_those_of_pytorch() {
    for model in MODELS {
        let oracle = Oracle::load(model);
        let batch = oracle.batch(0..PAIRS);
        let all = |name: &str| -> Vec<f64> {
            (0..PAIRS).flat_map(|n| oracle.f64s(&format!("{name}.{n}"))).collect()
        };
        let mut workspace = Workspace::default();
        for arithmetic in all_arithmetics() {
            let about = format!("{model} {arithmetic}");
            let limit = match arithmetic.precision() {
                Precision::F32 => 1e-5,
                Precision::Bf16 => 0.1,
                _ => 0.4,
            };
            let transformer =
                Transformer::new(arithmetic, oracle.config.clone(), &oracle.parameters).unwrap();
            let memory = transformer.encode(batch.source(), &mut workspace).unwrap();
            let memory = memory.clone().into_values();
            assert_near(&format!("{about} memory"), memory.as_slice(), &all("memory"), limit);
            let logits = transformer.forward(&batch, &mut workspace).unwrap();
            let logits: Vec<f32> =
                (0..logits.rows()).flat_map(|row| logits.row(row)).copied().collect();
            assert_near(&format!("{about} logits"), &logits, &all("logits"), limit);
        }
    }
}

#[test]
fn a_folder_is_the_model() {
    let (level, mut workspace) = (Level::current(), Workspace::default());
    for model in MODELS {
        let oracle = Oracle::load(model);
        let batch = oracle.batch(0..PAIRS);
        let of_folder = if model == "torch" {
            Transformer::from_torch(level, oracle.config.clone(), folder(model), &NAMES).unwrap()
        } else {
            Transformer::from_pretrained_at(level, folder(model)).unwrap()
        };
        let expected = logits(&oracle.trainable(level.into()), &batch, &mut workspace);
        assert_eq!(logits(&of_folder, &batch, &mut workspace), expected);
    }
}

fn logits(transformer: &Transformer, batch: &PairBatch, workspace: &mut Workspace) -> Matrix<f32> {
    let logits = transformer.forward(batch, workspace).unwrap();
    Matrix::from_fn(logits.rows(), logits.cols(), |row, col| logits.row(row)[col])
}

/// Each tensor's error, its norm beside that of the gradient.
#[track_caller]
fn assert_gradients(about: &str, gradients: &Parameters, oracle: &Oracle, limit: f64) {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let mut worst = (0.0, String::new());
    for tensor in gradients.tensors() {
        let expected = oracle.f32s(&format!("gradient.{}", tensor.name));
        let found = gradients.tensor(tensor);
        assert_eq!(found.len(), expected.len(), "{}", tensor.name);
        let error = norm(&mut found.iter().zip(&expected).map(|(&x, e)| f64::from(x) - e));
        let size = norm(&mut expected.iter().copied());
        // The key's bias has no gradient but rounding: softmax does not see it.
        if size < 1e-12 {
            let name = &tensor.name;
            assert!(
                error < limit.min(1e-3),
                "{about} {name}: {error:e} where there is no gradient"
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

#[test]
fn losses_and_gradients_are_those_of_pytorch() {
    for model in MODELS {
        let oracle = Oracle::load(model);
        let batch = oracle.batch(0..PAIRS);
        let weights = oracle.weights(batch.outputs().len());
        let expected = oracle.f64s("loss")[0];
        let mut tape = Tape::default();
        for arithmetic in trained() {
            let about = format!("{model} {arithmetic}");
            let of_loss = if is_f32(arithmetic) { 1e-5 } else { 0.02 };
            let transformer = oracle.trainable(arithmetic);
            let mut gradients = oracle.parameters.zeros_like();
            // Twice: what is on the tape from before must not be seen.
            for _ in 0..2 {
                gradients.values_mut().fill(0.0);
                let none = &Dropouts::NONE;
                let loss = transformer.gradients(&batch, weights, none, &mut tape, &mut gradients);
                let loss = loss.unwrap().mean() / expected - 1.0;
                assert!(loss.abs() < of_loss, "{about} {loss}");
            }
            // In bf16 some numbers near zero change their sign before a ReLU, and with it their
            // whole gradient; GELU has no such step.
            let limit =
                match (is_f32(arithmetic), oracle.config.activation_function == HiddenAct::Relu) {
                    (true, _) => 1e-4,
                    (false, false) => 0.03,
                    (false, true) => 0.25,
                };
            assert_gradients(&about, &gradients, &oracle, limit);
            // What evaluation says, by the passes of inference.
            let smoothing = weights.label_smoothing;
            let loss = transformer.loss(&batch, smoothing, &mut Workspace::default()).unwrap();
            assert!((loss.mean() / expected - 1.0).abs() < of_loss, "{about} {loss:?}");
        }
    }
}

/// The paper's options, as the oracle has them.
fn options(oracle: &Oracle) -> TrainerOptions {
    let label_smoothing = oracle.smoothing();
    TrainerOptions { label_smoothing, ..TrainerOptions::transformer(32, 100, 20) }
}

fn trainer(
    oracle: &Oracle,
    arithmetic: Arithmetic,
    options: TrainerOptions,
) -> Trainer<Transformer> {
    Trainer::of(oracle.trainable(arithmetic), oracle.parameters.clone(), options)
}

#[test]
fn twenty_losses_are_those_of_pytorch() {
    for model in MODELS {
        let mut oracle = Oracle::load(model);
        oracle.config.dropout = 0.0;
        let (batch, expected) = ([oracle.batch(0..PAIRS)], oracle.f64s("losses"));
        for arithmetic in Arithmetic::available() {
            if arithmetic.precision() == Precision::Int8 {
                continue;
            }
            let mut trainer = trainer(&oracle, arithmetic, options(&oracle));
            let mut worst = 0.0f64;
            for (step, expected) in expected.iter().enumerate() {
                let loss = trainer.translate_step(&batch).unwrap().loss.mean();
                let error = (loss / expected - 1.0).abs();
                assert!(!error.is_nan(), "{model} {arithmetic} {step}");
                worst = worst.max(error);
            }
            println!("{model} {arithmetic}: largest relative error of twenty losses {worst:.1e}");
            let limit = if is_f32(arithmetic) { 1e-4 } else { 0.05 };
            assert!(worst < limit, "{model} {arithmetic}: {worst:e}");
            assert!(expected[19] < 0.7 * expected[0], "nothing was learnt");
        }
    }
}

/// Rates of all three kinds.
fn dropping(config: &mut TransformerConfig) {
    (config.dropout, config.attention_dropout, config.activation_dropout) = (0.3, 0.2, 0.25);
}

/// The pairs many times over, so that threads have something to share.
fn many(oracle: &Oracle) -> PairBatch {
    oracle.batch((0..40 * PAIRS).map(|n| n * 7 % PAIRS))
}

#[test]
fn bits_do_not_depend_on_threads() {
    for model in MODELS {
        let mut oracle = Oracle::load(model);
        dropping(&mut oracle.config);
        let batches = [many(&oracle), oracle.batch(0..PAIRS)];
        for precision in [Precision::F32, Precision::Bf16] {
            let arithmetic = Arithmetic::new(Level::current(), precision);
            let run = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let mut trainer = trainer(&oracle, arithmetic, options(&oracle));
                    let losses = [(); 3].map(|()| trainer.translate_step(&batches).unwrap().loss);
                    let logits = logits(trainer.model(), &batches[0], &mut Workspace::default());
                    (losses, trainer.parameters().clone(), logits)
                })
            };
            let expected = run(1);
            for threads in [2, 3] {
                assert!(run(threads) == expected, "{model} {precision} {threads} threads");
            }
        }
    }
}

#[test]
fn bits_of_a_pair_depend_on_that_pair_alone() {
    for model in MODELS {
        let oracle = Oracle::load(model);
        let mut workspace = Workspace::default();
        for arithmetic in all_arithmetics() {
            let transformer =
                Transformer::new(arithmetic, oracle.config.clone(), &oracle.parameters).unwrap();
            let alone: Vec<Matrix<f32>> = (0..PAIRS)
                .map(|n| logits(&transformer, &oracle.batch([n]), &mut workspace))
                .collect();
            for order in [&[0, 1, 2, 3, 4, 5][..], &[5, 2, 0], &[4, 4, 1, 3], &[1, 0, 5, 3, 2, 4]] {
                let all =
                    logits(&transformer, &oracle.batch(order.iter().copied()), &mut workspace);
                let expected: Vec<f32> =
                    order.iter().flat_map(|&n| alone[n].as_slice()).copied().collect();
                assert!(all.as_slice() == expected, "{model} {arithmetic} {order:?}");
            }
        }
    }
}

/// Sentences without a token are in nobody's way.
#[test]
fn empty_sentences_change_nothing() {
    let oracle = Oracle::load("paper");
    let transformer = oracle.trainable(Level::current().into());
    let mut batch = PairBatch::default();
    batch.push(&[], &[], 1);
    let (source, target) = (oracle.ids("source.0"), oracle.ids("target.0"));
    batch.push(&source, &target, 1);
    batch.push(&source, &[], 1);
    let mut workspace = Workspace::default();
    let expected = logits(&transformer, &oracle.batch([0]), &mut workspace);
    assert_eq!(logits(&transformer, &batch, &mut workspace), expected);
    // A target whose source is empty is told by the decoder alone.
    batch.push(&[], &target, 1);
    let all = logits(&transformer, &batch, &mut workspace);
    assert!(all.as_slice().iter().all(|x| x.is_finite()));
    let (weights, none) = (oracle.weights(8), Dropouts::NONE);
    let mut gradients = oracle.parameters.zeros_like();
    transformer.gradients(&batch, weights, &none, &mut Tape::default(), &mut gradients).unwrap();
    assert!(gradients.values().iter().all(|x| x.is_finite()));
    let nothing = PairBatch::default();
    let loss =
        transformer.gradients(&nothing, weights, &none, &mut Tape::default(), &mut gradients);
    assert_eq!(loss.unwrap().counted, 0);
}

/// A step counts tokens, not batches: cut otherwise, its gradient is the same but for rounding.
/// (Dropout is drawn by place in a batch, so there is none here.)
#[test]
fn gradients_count_tokens_not_batches() {
    let mut oracle = Oracle::load("paper");
    oracle.config.dropout = 0.0;
    let run = |batches: &[PairBatch]| {
        let mut trainer = trainer(&oracle, Level::current().into(), options(&oracle));
        let step = trainer.translate_step(batches).unwrap();
        (step.loss.mean(), trainer.gradients().clone())
    };
    let whole = run(&[oracle.batch(0..PAIRS)]);
    let parts = run(&[oracle.batch([5]), oracle.batch([1, 0, 3]), oracle.batch([2, 4])]);
    assert!((whole.0 / parts.0 - 1.0).abs() < 1e-6);
    let largest = whole.1.values().iter().fold(0.0f32, |m, x| m.max(x.abs()));
    for (x, y) in whole.1.values().iter().zip(parts.1.values()) {
        assert!((x - y).abs() <= 1e-5 * largest, "{x} {y}");
    }
}

/// With dropout everywhere, the largest elements of each tensor's gradient say how the loss changes
/// when the parameter does: whatever is dropped on the way there is dropped on the way back. (Sums over
/// many elements would not show it: what is dropped has the same expectation.)
#[test]
fn gradients_are_those_of_the_loss_with_dropout() {
    for model in MODELS {
        let mut oracle = Oracle::load(model);
        dropping(&mut oracle.config);
        // Differences want a loss without corners.
        oracle.config.activation_function = HiddenAct::Gelu;
        let batch = oracle.batch(0..PAIRS);
        let weights = oracle.weights(batch.outputs().len());
        let dropouts = Dropouts::new(&oracle.config, 3, 4);
        let mut transformer = oracle.trainable(Level::current().into());
        let (mut tape, mut gradients) = (Tape::default(), oracle.parameters.zeros_like());
        transformer.gradients(&batch, weights, &dropouts, &mut tape, &mut gradients).unwrap();
        let (mut unused, mut moved) = (gradients.zeros_like(), oracle.parameters.clone());
        let mut checked = 0;
        for tensor in gradients.tensors() {
            let size = |index: usize| gradients.values()[index].abs();
            let mut largest: Vec<usize> = tensor.range.clone().collect();
            largest.sort_by(|&a, &b| size(b).total_cmp(&size(a)));
            for index in largest.into_iter().take(3).filter(|&index| size(index) > 0.02) {
                let mut loss_at = |step: f32| {
                    moved.values_mut()[index] += step;
                    transformer.update(&moved);
                    moved.values_mut()[index] = oracle.parameters.values()[index];
                    let (tape, unused) = (&mut tape, &mut unused);
                    let loss = transformer.gradients(&batch, weights, &dropouts, tape, unused);
                    loss.unwrap().mean()
                };
                let slope = (loss_at(0.004) - loss_at(-0.004)) / 0.008;
                let relative = slope / f64::from(gradients.values()[index]) - 1.0;
                let place = index - tensor.range.start;
                assert!(relative.abs() < 0.03, "{model} {} {place}: {relative}", tensor.name);
                checked += 1;
            }
        }
        assert!(checked > gradients.tensors().len(), "{model}: only {checked} numbers");
    }
}

#[test]
fn dropout_is_drawn_anew_for_each_step_and_follows_the_seed() {
    let mut oracle = Oracle::load("paper");
    dropping(&mut oracle.config);
    let run = |seed: u64| {
        let mut options = TrainerOptions { seed, ..options(&oracle) };
        // A rate of zero: the parameters stay, so that losses differ by dropout alone.
        options.schedule.peak = 0.0;
        let mut trainer = trainer(&oracle, Level::current().into(), options);
        let batches = [oracle.batch(0..PAIRS)];
        [(); 3].map(|()| trainer.translate_step(&batches).unwrap().loss.loss)
    };
    let losses = run(1);
    assert!(losses[0] != losses[1] && losses[1] != losses[2]);
    assert_eq!(losses, run(1));
    assert_ne!(losses, run(2));
}

#[test]
fn a_restored_trainer_goes_on_with_the_same_bits() {
    let mut oracle = Oracle::load("pre-norm");
    dropping(&mut oracle.config);
    let batches = [oracle.batch(0..PAIRS)];
    let mut straight = trainer(&oracle, Level::current().into(), options(&oracle));
    (0..3).for_each(|_| assert!(!straight.translate_step(&batches).unwrap().skipped));
    let mut resumed = trainer(&oracle, Level::current().into(), options(&oracle));
    let (parameters, optimizer) = (straight.parameters().clone(), straight.optimizer().clone());
    resumed.restore(straight.steps(), parameters, optimizer);
    for _ in 0..3 {
        let steps = [&mut straight, &mut resumed].map(|one| one.translate_step(&batches).unwrap());
        assert_eq!(steps[0], steps[1]);
    }
    assert!(straight.parameters() == resumed.parameters());
}

#[test]
fn what_is_out_of_range_is_an_error_and_changes_nothing() {
    let oracle = Oracle::load("pre-norm");
    let mut trainer = trainer(&oracle, Level::current().into(), options(&oracle));
    let before = trainer.parameters().clone();
    // 37 tokens of the source's language, 41 of the target's, 16 places.
    let long = [3; 17];
    for (source, target, start, expected) in [
        (&[36, 37][..], &[40][..], 1, "sequence 1, position 1: source token id 37 is not below 37"),
        (&[36], &[4, 41], 1, "sequence 1, position 1: target token id 41 is not below 41"),
        (&[36], &[4], 50, "sequence 1, position 0: target token id 50 is not below 41"),
        (&long, &[4], 1, "sequence 1 has 17 tokens, the model has 16 positions"),
        (&[36], &long, 1, "sequence 1 has 17 tokens, the model has 16 positions"),
    ] {
        let mut batch = oracle.batch([0]);
        batch.push(source, target, start);
        let error = trainer.translate_step(&[batch]).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let source = Sentences::from_ids([&[37][..]]);
    let error = trainer.model().encode(&source, &mut Workspace::default()).unwrap_err();
    assert!(matches!(error, Error::IdOutOfRange { .. }), "{error}");
    assert!(*trainer.parameters() == before && trainer.steps() == 0);
}

#[test]
fn what_is_wrong_with_a_folder_is_named() {
    let level = Level::current();
    let pretrained = |model| Transformer::from_pretrained_at(level, folder(model)).map(|_| ());
    // The names are PyTorch's.
    let error = pretrained("torch").unwrap_err().to_string();
    assert!(error.contains("model.encoder.embed_tokens.weight"), "{error}");
    let error = Transformer::from_pretrained_at(level, folder("../a-pretraining")).unwrap_err();
    assert!(matches!(error, Error::WrongModelType { .. }), "{error}");

    let config = Oracle::load("torch").config;
    let mut wrong = config.clone();
    wrong.d_model = 64;
    let error = Transformer::from_torch(level, wrong, folder("torch"), &NAMES).unwrap_err();
    assert!(matches!(error, Error::WrongShape { .. }), "{error}");
    let names = TorchNames { source: "src", ..NAMES };
    let error =
        Transformer::from_torch(level, config.clone(), folder("torch"), &names).unwrap_err();
    assert!(error.to_string().contains("\"src\""), "{error}");
    let mut broken = config;
    broken.decoder_attention_heads = 5;
    let error = Transformer::from_torch(level, broken, folder("torch"), &NAMES).unwrap_err();
    assert!(matches!(error, Error::InvalidValue { .. }), "{error}");
}

#[test]
fn what_is_exported_is_loaded() {
    for model in MODELS {
        let mut oracle = Oracle::load(model);
        oracle.config.dropout = 0.0;
        let mut trainer = trainer(&oracle, Level::current().into(), options(&oracle));
        let batch = oracle.batch(0..PAIRS);
        trainer.translate_step(std::slice::from_ref(&batch)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        export_transformer(folder.path(), &oracle.config, trainer.parameters()).unwrap();
        let loaded = Transformer::from_pretrained_at(Level::current(), folder.path()).unwrap();
        let mut workspace = Workspace::default();
        let expected = logits(trainer.model(), &batch, &mut workspace);
        assert_eq!(logits(&loaded, &batch, &mut workspace), expected);
    }
}

/// Sizes that the weights do not have are seen before memory is taken for them.
#[test]
fn sizes_of_the_configuration_are_not_believed() {
    let weights = std::fs::read(folder("paper").join("model.safetensors")).unwrap();
    for (field, size) in
        [("vocab_size", 1 << 28), ("encoder_layers", 1000), ("decoder_ffn_dim", 1 << 22)]
    {
        let folder = tempfile::tempdir().unwrap();
        let json =
            format!(r#"{{"d_model": 32, "max_position_embeddings": 16, "{field}": {size}}}"#);
        std::fs::write(folder.path().join("config.json"), json).unwrap();
        std::fs::write(folder.path().join("model.safetensors"), &weights).unwrap();
        let error = Transformer::from_pretrained_at(Level::current(), folder.path()).unwrap_err();
        let named = matches!(error, Error::WrongShape { .. } | Error::MissingTensor { .. });
        assert!(named, "{field}: {error}");
    }
}

/// Lines of letters, and the same backwards: a task that needs the positions, the mask, and attention
/// to the source.
#[test]
fn a_small_model_learns_to_turn_sentences_round() {
    let mut config = TransformerConfig::tiny(13);
    (config.d_model, config.encoder_ffn_dim, config.decoder_ffn_dim) = (64, 128, 128);
    config.dropout = 0.0;
    let mut random = Random::new(1);
    let mut batch = |pairs: usize| {
        let mut batch = PairBatch::default();
        for _ in 0..pairs {
            let length = 2 + random.below(5);
            let mut source: Vec<u32> = (0..length).map(|_| 3 + random.below(10) as u32).collect();
            let mut target: Vec<u32> = source.iter().rev().copied().collect();
            [&mut source, &mut target].map(|ids| ids.push(2));
            batch.push(&source, &target, 1);
        }
        batch
    };
    let parameters = initialize_transformer(&config, 1);
    let transformer = Transformer::trainable(Level::current(), config, &parameters).unwrap();
    let options = TrainerOptions::transformer(64, 200, 1000);
    let mut trainer = Trainer::of(transformer, parameters, options);
    for _ in 0..1000 {
        trainer.translate_step(&[batch(32)]).unwrap();
    }
    let loss = trainer.model().loss(&batch(200), 0.0, &mut Workspace::default()).unwrap();
    println!("{} of {} tokens right, loss {:.4}", loss.correct, loss.counted, loss.mean());
    assert!(loss.accuracy() > 0.98, "{loss:?}");
}
