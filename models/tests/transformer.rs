//! The Transformer against what PyTorch computes, forward, backward and trained; see
//! `oracle/README.md`.

mod transformer_common;

use ferrite_kernels::testing::all_arithmetics;
use ferrite_models::bert::{HiddenAct, Parameters};
use ferrite_models::kernels::{Arithmetic, Level, Precision};
use ferrite_models::transformer::{Dropouts, Tape, Transformer, Workspace};
use transformer_common::{MODELS, Oracle, PAIRS, dropping, options, trainer};

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
            let memory = transformer.encode(batch.pairs().source, &mut workspace).unwrap();
            let memory = memory.clone().into_values();
            assert_near(&format!("{about} memory"), memory.as_slice(), &all("memory"), limit);
            let logits = transformer.forward(&batch, &mut workspace).unwrap();
            let logits: Vec<f32> =
                (0..logits.rows()).flat_map(|row| logits.row(row)).copied().collect();
            assert_near(&format!("{about} logits"), &logits, &all("logits"), limit);
        }
    }
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
        let weights = oracle.weights(batch.pairs().outputs.len());
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
        let weights = oracle.weights(batch.pairs().outputs.len());
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
