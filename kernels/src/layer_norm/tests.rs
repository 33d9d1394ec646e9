use proptest::prelude::*;

use super::*;
use crate::reference::{self, widen};
use crate::testing::{Edge, Guarded, Random, Tolerance, U, for_each_level, lengths};

/// Checks `layer_norm` of one row, its operands guarded at `edge`, that `add_layer_norm` of two
/// summands has the bits of the addition followed by it, and that `layer_norm_in_place` has them.
fn check_row(
    level: Level,
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
    edge: Edge,
    tolerance: &mut Tolerance,
) {
    let n = x.len();
    let operand = |x: &[f32]| Guarded::copy(x, edge);
    let (input, gamma, beta) = (operand(x), operand(gamma), operand(beta));
    let mut out = Guarded::nan(n, edge);
    layer_norm(level, Mat::from_row(&input), &gamma, &beta, eps, MatMut::new(&mut out, 1, n, n));

    let exact = reference::layer_norm(&widen(x), &widen(&gamma), &widen(&beta), eps.into());
    let mean = widen(x).iter().sum::<f64>() / n as f64;
    let variance = widen(x).iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
    let ratio = mean.abs() / (variance + f64::from(eps)).sqrt();
    let scale = exact.iter().chain(&widen(&beta)).fold(1.0, |max: f64, y| max.max(y.abs()));
    for i in 0..n {
        let limit = 16.0 * U * (1.0 + ratio) * scale;
        tolerance.check(out[i], exact[i], limit, || {
            format!("element {i} of {n}, mean/sd {ratio:.1e}, largest {scale:.1e}")
        });
    }

    let mut random = Random::new(n as u64);
    let residual = operand(&random.vector(n, -2.0, 2.0));
    let mut fused = operand(x);
    let view = MatMut::new(&mut fused, 1, n, n);
    add_layer_norm(level, view, Mat::from_row(&residual), &gamma, &beta, eps);
    let sum: Vec<f32> = x.iter().zip(&residual[..]).map(|(x, r)| x + r).collect();
    layer_norm(level, Mat::from_row(&sum), &gamma, &beta, eps, MatMut::new(&mut out, 1, n, n));
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&fused), bits(&out), "{level}: add_layer_norm of {n}");
    let mut in_place = operand(&sum);
    layer_norm_in_place(level, MatMut::new(&mut in_place, 1, n, n), &gamma, &beta, eps);
    assert_eq!(bits(&in_place), bits(&out), "{level}: layer_norm_in_place of {n}");
}

#[test]
fn rows_of_every_length_keep_the_bound() {
    for_each_level(|level| {
        let mut random = Random::new(1);
        let mut tolerance = Tolerance::new(format!("layer_norm {level}"));
        for n in lengths() {
            for mean in [0.0, 3.0, -100.0, 1e6] {
                let x = random.vector(n, mean - 1.8, mean + 1.8);
                let gamma = random.vector(n, -2.0, 2.0);
                let beta = random.vector(n, -1.0, 1.0);
                for edge in Edge::BOTH {
                    check_row(level, &x, &gamma, &beta, 1e-12, edge, &mut tolerance);
                }
            }
        }
        tolerance.finish();
    });
}

/// What the formula E[x^2] - E[x]^2 cannot do.
#[test]
fn a_mean_of_a_million_deviations_keeps_the_scaled_bound() {
    for_each_level(|level| {
        let mut tolerance = Tolerance::new(format!("layer_norm {level}"));
        for n in [64, 384, 768, 1024] {
            // Integers around 2^20, where f32 still counts sixteenths: the input is exact.
            let noise = Random::new(2).integers(n, 2);
            let x: Vec<f32> = noise.iter().map(|noise| 1_048_576.0 + noise).collect();
            let (one, zero) = (vec![1.0; n], vec![0.0; n]);
            check_row(level, &x, &one, &zero, 1e-12, Edge::End, &mut tolerance);
        }
        tolerance.finish();
    });
}

#[test]
fn large_and_small_rows_stay_finite() {
    for_each_level(|level| {
        let mut tolerance = Tolerance::new(format!("layer_norm {level}"));
        for scale in [1e17, 1e10, 1e-4, 1e-20, 1e-40] {
            let x: Vec<f32> = Random::new(3).vector(4096, -scale, scale);
            let (one, zero) = (vec![1.0; 4096], vec![0.0; 4096]);
            check_row(level, &x, &one, &zero, 1e-12, Edge::End, &mut tolerance);
        }
        tolerance.finish();
    });
}

#[test]
fn balanced_integers_are_normalised_exactly() {
    for_each_level(|level| {
        for n in [2, 4, 16, 64, 768] {
            // Mean 10, variance 9: every intermediate number is an integer.
            let x: Vec<f32> = (0..n).map(|i| if i % 2 == 0 { 13.0 } else { 7.0 }).collect();
            let (gamma, beta) = (vec![3.0; n], vec![0.5; n]);
            let mut y = vec![f32::NAN; n];
            layer_norm(level, Mat::from_row(&x), &gamma, &beta, 0.0, MatMut::new(&mut y, 1, n, n));
            let third = 1.0f32 / 3.0;
            let up = 3.0f32.mul_add(3.0 * third, 0.5);
            assert!(
                y.iter().enumerate().all(|(i, &y)| y == if i % 2 == 0 { up } else { 1.0 - up })
            );
        }
    });
}

#[test]
fn eps_stands_under_the_root_and_a_constant_row_gives_beta() {
    for_each_level(|level| {
        let mut y = [f32::NAN; 2];
        let out = MatMut::new(&mut y, 1, 2, 2);
        // Variance 9 and eps 16: the divisor is 5, not 3 + 4 and not 3 + 16.
        layer_norm(level, Mat::from_row(&[3.0, -3.0]), &[5.0; 2], &[0.0; 2], 16.0, out);
        assert_eq!(y, [3.0, -3.0], "{level}");

        let (x, beta) = ([7.25; 40], [1.5; 40]);
        let mut y = [f32::NAN; 40];
        let out = MatMut::new(&mut y, 1, 40, 40);
        layer_norm(level, Mat::from_row(&x), &[2.0; 40], &beta, 1e-12, out);
        assert_eq!(y, beta, "{level}");
    });
}

#[test]
fn nan_spoils_its_row_and_no_other() {
    for_each_level(|level| {
        for at in 0..50 {
            let mut x: Vec<f32> = Random::new(5).vector(150, -1.0, 1.0);
            x[50 + at] = f32::NAN;
            let mut y = vec![0.0; 150];
            let (one, zero) = ([1.0; 50], [0.0; 50]);
            let out = MatMut::new(&mut y, 3, 50, 50);
            layer_norm(level, Mat::new(&x, 3, 50, 50), &one, &zero, 1e-12, out);
            for (i, y) in y.iter().enumerate() {
                assert_eq!(y.is_nan(), (50..100).contains(&i), "{level} {at}: element {i}");
            }
        }
    });
}

#[test]
#[should_panic(expected = "rows of 3 elements with 2 of gamma and 3 of beta")]
fn parameters_of_another_length_are_refused() {
    let mut y = [0.0; 3];
    let out = MatMut::new(&mut y, 1, 3, 3);
    layer_norm(Level::current(), Mat::from_row(&[0.0; 3]), &[0.0; 2], &[0.0; 3], 1e-12, out);
}

proptest! {
    #[test]
    fn any_row_keeps_the_bound(
        rows in proptest::collection::vec((-1f32..1.0, -3f32..3.0, -3f32..3.0), 1..300),
        mean in -1000f32..1000.0,
        scale in 0.01f32..100.0,
    ) {
        let x: Vec<f32> = rows.iter().map(|row| mean + scale * row.0).collect();
        let gamma: Vec<f32> = rows.iter().map(|row| row.1).collect();
        let beta: Vec<f32> = rows.iter().map(|row| row.2).collect();
        for level in Level::available() {
            let mut tolerance = Tolerance::new(format!("layer_norm {level}"));
            check_row(level, &x, &gamma, &beta, 1e-5, Edge::End, &mut tolerance);
            prop_assert!(tolerance.finish() <= 1.0);
        }
    }
}
