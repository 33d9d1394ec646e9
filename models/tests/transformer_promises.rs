//! What the Transformer promises about bits, folders, errors, and learning.

mod transformer_common;

use ferrite_kernels::testing::{Random, all_arithmetics};
use ferrite_models::Error;
use ferrite_models::kernels::{Arithmetic, Level, Matrix, Precision};
use ferrite_models::train::{Trainer, TrainerOptions, export_transformer, initialize_transformer};
use ferrite_models::transformer::{
    Batch, Dropouts, Tape, TorchNames, Transformer, TransformerConfig, Workspace,
};
use transformer_common::{
    MODELS, NAMES, Oracle, PAIRS, dropping, folder, logits, options, trainer,
};

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

/// The pairs many times over, so that threads have something to share.
fn many(oracle: &Oracle) -> Batch {
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
    let mut batch = Batch::default();
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
    let nothing = Batch::default();
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
    let run = |batches: &[Batch]| {
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
    let mut batch = Batch::default();
    batch.push(&[37], &[2], 1);
    let source = batch.pairs().source;
    let error = trainer.model().encode(source, &mut Workspace::default()).unwrap_err();
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
        let mut batch = Batch::default();
        for _ in 0..pairs {
            let length = 2 + random.below(5);
            let mut source: Vec<u32> = (0..length).map(|_| 3 + random.below(10) as u32).collect();
            let mut target: Vec<u32> = source.iter().rev().copied().collect();
            [&mut source, &mut target].into_iter().for_each(|ids| ids.push(2));
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
