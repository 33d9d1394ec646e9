use super::*;
use crate::reference;
use crate::testing::{
    Edge, Guarded, Random, Tolerance, U, for_each_level, lengths, same_on_any_threads,
};

const TORCH: AdamW =
    AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01, bias_correction: true };
const BERT: AdamW = AdamW { epsilon: 1e-6, bias_correction: false, ..TORCH };

/// The constants of the reference.
fn exactly(optimizer: AdamW, lr: f32, decays: bool) -> reference::AdamW {
    reference::AdamW {
        lr: lr.into(),
        beta1: optimizer.beta1.into(),
        beta2: optimizer.beta2.into(),
        epsilon: optimizer.epsilon.into(),
        weight_decay: if decays { optimizer.weight_decay.into() } else { 0.0 },
        bias_correction: optimizer.bias_correction,
    }
}

#[test]
fn steps_of_any_length_keep_the_bounds() {
    for_each_level(|level| {
        let mut random = Random::new(1);
        let mut tolerances =
            ["p", "m", "v"].map(|what| Tolerance::new(format!("AdamW: {what} {level}")));
        for n in lengths().into_iter().filter(|&n| n < 2000) {
            for (optimizer, decays) in [(TORCH, true), (TORCH, false), (BERT, true), (BERT, false)]
            {
                for (step, edge) in [1, 2, 10, 100_000].into_iter().zip(Edge::BOTH.repeat(2)) {
                    let (lr, grad_scale) = (0.02, 0.3);
                    let before = [(-1.0, 1.0), (-0.1, 0.1), (0.0, 0.01)]
                        .map(|(low, high)| random.vector(n, low, high));
                    let gradients = Guarded::copy(&random.vector(n, -1.0, 1.0), edge);
                    let [mut p, mut m, mut v] = before.each_ref().map(|x| Guarded::copy(x, edge));
                    optimizer.update(
                        level, lr, step, grad_scale, &mut p, &gradients, &mut m, &mut v, decays,
                    );
                    for i in 0..n {
                        let constants = exactly(optimizer, lr, decays);
                        let [p0, m0, v0] = before.each_ref().map(|x| f64::from(x[i]));
                        let g = f64::from(gradients[i]) * f64::from(grad_scale);
                        let exact = reference::adamw(constants, step, (p0, m0, v0), g);
                        // The length of a step whose two terms do not cancel.
                        let t = step as f64;
                        let correction = |beta: f64| match optimizer.bias_correction {
                            true => 1.0 - beta.powf(t),
                            false => 1.0,
                        };
                        let magnitude =
                            constants.beta1 * m0.abs() + (1.0 - constants.beta1) * g.abs();
                        let root = (exact.2 / correction(constants.beta2)).sqrt();
                        let length = constants.lr * magnitude
                            / correction(constants.beta1)
                            / (root + constants.epsilon);
                        let limits = [
                            2.0 * U * p0.abs() + 16.0 * U * length,
                            4.0 * U * magnitude,
                            6.0 * U * exact.2,
                        ];
                        let found = [p[i], m[i], v[i]];
                        for (which, exact) in [exact.0, exact.1, exact.2].into_iter().enumerate() {
                            let input = || format!("{optimizer:?} step {step}, {i} of {n}");
                            tolerances[which].check(found[which], exact, limits[which], input);
                        }
                    }
                }
            }
        }
        for tolerance in tolerances {
            tolerance.finish();
        }
    });
}

/// Twelve steps with decay of one parameter that begins at 1, worked out in f64 with lr 0.1 as
/// PyTorch's documentation of `AdamW` and the `optimization.py` of BERT write the formulas.
#[test]
fn a_dozen_steps_follow_the_published_formulas() {
    let gradients = [0.5, -0.25, 1.0, -2.0, 0.125, 0.75, -0.5, 3.0, 0.0, -1.0, 0.25, 1.5];
    let torch = [
        0.899000002,
        0.871467299,
        0.804784672,
        0.827633750,
        0.843813663,
        0.840757751,
        0.848257686,
        0.813833296,
        0.783212723,
        0.768746093,
        0.752737260,
        0.722297834,
    ];
    let bert = [
        0.682792233,
        0.568933478,
        0.242592808,
        0.371063694,
        0.469286415,
        0.455419431,
        0.507050163,
        0.292372099,
        0.099229366,
        0.009807121,
        -0.090160532,
        -0.285066550,
    ];
    for_each_level(|level| {
        for (optimizer, expected) in [(TORCH, torch), (BERT, bert)] {
            let (mut p, mut m, mut v) = ([1.0f32; 3], [0.0; 3], [0.0; 3]);
            for (t, (g, expected)) in gradients.into_iter().zip(expected).enumerate() {
                // Halves of doubled gradients: the scale is applied to both means.
                let (step, g) = (t as u64 + 1, [2.0 * g; 3]);
                optimizer.update(level, 0.1, step, 0.5, &mut p, &g, &mut m, &mut v, true);
                for p in p {
                    let error = (f64::from(p) - expected).abs();
                    assert!(error < 2e-5, "{level} {optimizer:?} step {step}: {p} {expected}");
                }
            }
        }
    });
}

#[test]
fn zeros_stay_and_decay_alone_shrinks() {
    for_each_level(|level| {
        for optimizer in [TORCH, BERT] {
            let (mut p, mut m, mut v) = ([2.0, 0.0, -4.0], [0.0; 3], [0.0; 3]);
            let zero = [0.0; 3];
            optimizer.update(level, 0.5, 1, 1.0, &mut p, &zero, &mut m, &mut v, false);
            assert_eq!((p, m, v), ([2.0, 0.0, -4.0], zero, zero), "{level}");
            let optimizer = AdamW { weight_decay: 0.25, ..optimizer };
            optimizer.update(level, 0.5, 2, 1.0, &mut p, &zero, &mut m, &mut v, true);
            assert_eq!(p, [1.75, 0.0, -3.5], "{level}");
        }
    });
}

#[test]
fn threads_change_no_bit() {
    let mut random = Random::new(2);
    let n = 300_001;
    let [p, g, m] = [0; 3].map(|_| random.vector(n, -1.0, 1.0));
    let v = random.vector(n, 0.0, 1.0);
    for_each_level(|level| {
        let found = same_on_any_threads(|| {
            let (mut p, mut m, mut v) = (p.clone(), m.clone(), v.clone());
            TORCH.update(level, 0.1, 7, 0.5, &mut p, &g, &mut m, &mut v, true);
            (p, m, v)
        });
        for i in [0, 1023, 1024, 150_001, n - 1] {
            let (mut p, mut m, mut v) = ([p[i]], [m[i]], [v[i]]);
            TORCH.update(level, 0.1, 7, 0.5, &mut p, &g[i..=i], &mut m, &mut v, true);
            assert_eq!((p[0], m[0], v[0]), (found.0[i], found.1[i], found.2[i]), "{level} {i}");
        }
    });
}

#[test]
#[should_panic(expected = "2 parameters with 3 gradients, 2 of m, 2 of v")]
fn operands_of_different_length_are_refused() {
    let (mut p, mut m, mut v) = ([0.0; 2], [0.0; 2], [0.0; 2]);
    TORCH.update(Level::current(), 0.1, 1, 1.0, &mut p, &[0.0; 3], &mut m, &mut v, true);
}

#[test]
#[should_panic(expected = "counted from 1")]
fn there_is_no_step_0() {
    TORCH.update(Level::current(), 0.1, 0, 1.0, &mut [], &[], &mut [], &mut [], true);
}
