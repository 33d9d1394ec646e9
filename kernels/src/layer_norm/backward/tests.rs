use proptest::prelude::*;

use super::*;
use crate::reference::{self, widen};
use crate::testing::{
    Edge, Guarded, Random, Tolerance, U, for_each_level, lengths, same_on_any_threads,
};

/// Checks the gradients of `rows` rows, all operands guarded at `edge`.
fn check(
    level: Level,
    rows: usize,
    x: &[f32],
    gamma: &[f32],
    eps: f32,
    dy: &[f32],
    edge: Edge,
    tolerances: &mut [Tolerance; 2],
) {
    let n = gamma.len();
    let operand = |x: &[f32]| Guarded::copy(x, edge);
    let (x, gamma, dy) = (operand(x), operand(gamma), operand(dy));
    let mut dx = Guarded::nan(rows * n, edge);
    let (mut d_gamma, mut d_beta) = (operand(&vec![0.5; n]), operand(&vec![-0.25; n]));
    layer_norm_backward(
        level,
        Mat::new(&x, rows, n, n),
        &gamma,
        eps,
        Mat::new(&dy, rows, n, n),
        MatMut::new(&mut dx, rows, n, n),
        &mut d_gamma,
        &mut d_beta,
    );

    let (mut sums, mut limits) = (vec![[0.5, -0.25]; n], vec![[0.0; 2]; n]);
    let additions = 64.0 + rows as f64 / 64.0 + 1.0;
    for row in 0..rows {
        let of_row = row * n..(row + 1) * n;
        let (wide, wide_dy) = (widen(&x[of_row.clone()]), widen(&dy[of_row.clone()]));
        let mean = wide.iter().sum::<f64>() / n as f64;
        let variance = wide.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
        let sd = (variance + f64::from(eps)).sqrt();
        let r = 1.0 + mean.abs() / sd;
        let exact = reference::layer_norm_backward(&wide, &widen(&gamma), eps.into(), &wide_dy);
        let largest =
            |x: &mut dyn Iterator<Item = f64>| x.fold(0.0, |max: f64, x| max.max(x.abs()));
        let max_g = largest(&mut (0..n).map(|i| wide_dy[i] * f64::from(gamma[i])));
        let max_z = largest(&mut wide.iter().map(|x| (x - mean) / sd));
        let limit = 4.0 * U * r * max_g * (1.0 + max_z * max_z) / sd;
        for i in 0..n {
            tolerances[0].check(dx[row * n + i], exact.dx[i], limit, || {
                format!("row {row} of {rows}, element {i} of {n}, mean/sd {:.1e}", r - 1.0)
            });
            sums[i][0] += exact.d_gamma[i];
            sums[i][1] += exact.d_beta[i];
            let z = (wide[i] - mean) / sd;
            limits[i][0] +=
                U * wide_dy[i].abs() * (additions * z.abs() + 8.0 * r * (1.0 + z.abs()));
            limits[i][1] += U * wide_dy[i].abs() * additions;
        }
    }
    for i in 0..n {
        let input = || format!("{rows} rows, column {i} of {n}");
        tolerances[1].check(d_gamma[i], sums[i][0], limits[i][0] + additions * U, input);
        tolerances[1].check(d_beta[i], sums[i][1], limits[i][1] + additions * U, input);
    }
}

fn tolerances(level: Level) -> [Tolerance; 2] {
    ["dx", "d_gamma and d_beta"].map(|what| Tolerance::new(format!("{what} {level}")))
}

#[test]
fn rows_of_every_length_keep_the_bounds() {
    for_each_level(|level| {
        let mut random = Random::new(1);
        let mut tolerances = tolerances(level);
        for n in lengths().into_iter().filter(|&n| n < 3000) {
            for (rows, mean) in [(1, 0.0), (2, -3.0), (3, 1e5)] {
                let x = random.vector(rows * n, mean - 1.8, mean + 1.8);
                let (gamma, dy) = (random.vector(n, -2.0, 2.0), random.vector(rows * n, -1.0, 1.0));
                for edge in Edge::BOTH {
                    check(level, rows, &x, &gamma, 1e-12, &dy, edge, &mut tolerances);
                }
            }
        }
        for rows in [0, 63, 64, 65, 128, 200] {
            let x = random.vector(rows * 37, -1.0, 3.0);
            let (gamma, dy) = (random.vector(37, -2.0, 2.0), random.vector(rows * 37, -1.0, 1.0));
            check(level, rows, &x, &gamma, 1e-5, &dy, Edge::End, &mut tolerances);
        }
        for tolerance in tolerances {
            tolerance.finish();
        }
    });
}

/// Whoever adds a constant to a row, or scales it, changes nothing: the gradient has no such part.
#[test]
fn the_gradient_is_orthogonal_to_ones_and_to_the_row() {
    for_each_level(|level| {
        let mut random = Random::new(2);
        let (x, dy) = (random.vector(768, -1.0, 1.0), random.vector(768, -1.0, 1.0));
        let gamma = random.vector(768, 0.5, 1.5);
        let mut dx = vec![f32::NAN; 768];
        let (mut d_gamma, mut d_beta) = (vec![0.0; 768], vec![0.0; 768]);
        layer_norm_backward(
            level,
            Mat::from_row(&x),
            &gamma,
            1e-12,
            Mat::from_row(&dy),
            MatMut::new(&mut dx, 1, 768, 768),
            &mut d_gamma,
            &mut d_beta,
        );
        let sum: f64 = dx.iter().map(|&dx| f64::from(dx)).sum();
        let dot: f64 = dx.iter().zip(&x).map(|(&dx, &x)| f64::from(dx) * f64::from(x)).sum();
        assert!(sum.abs() < 1e-4 && dot.abs() < 1e-4, "{level}: {sum:e} {dot:e}");
        assert_eq!(d_beta, dy, "{level}");
    });
}

#[test]
fn threads_and_gaps_change_no_bit() {
    let mut random = Random::new(3);
    let (rows, n, stride) = (700, 130, 144);
    let (x, dy) =
        (random.vector(rows * stride, -1.0, 1.0), random.vector(rows * stride, -1.0, 1.0));
    let gamma = random.vector(n, -2.0, 2.0);
    for_each_level(|level| {
        let run = |first: usize, end: usize| {
            let mut dx = vec![7.0; (end - first) * stride];
            let (mut d_gamma, mut d_beta) = (vec![0.5; n], vec![1.5; n]);
            layer_norm_backward(
                level,
                Mat::new(&x, rows, n, stride).row_range(first..end),
                &gamma,
                1e-12,
                Mat::new(&dy, rows, n, stride).row_range(first..end),
                MatMut::new(&mut dx, end - first, n, stride),
                &mut d_gamma,
                &mut d_beta,
            );
            (dx, d_gamma, d_beta)
        };
        let (dx, _, _) = same_on_any_threads(|| run(0, rows));
        assert!(dx.iter().enumerate().all(|(i, &dx)| (dx == 7.0) == (i % stride >= n)), "{level}");
        for row in [0, 63, 64, 699] {
            let alone = run(row, row + 1).0;
            assert_eq!(dx[row * stride..(row + 1) * stride], alone, "{level} row {row}");
        }
    });
}

#[test]
#[should_panic(expected = "rows of 3 elements with 3 of gamma, 2 of d_gamma, 3 of d_beta")]
fn sums_of_another_length_are_refused() {
    let (x, mut dx) = ([0.0; 3], [0.0; 3]);
    let (row, dx) = (Mat::from_row(&x), MatMut::new(&mut dx, 1, 3, 3));
    layer_norm_backward(Level::current(), row, &x, 1.0, row, dx, &mut [0.0; 2], &mut [0.0; 3]);
}

proptest! {
    #[test]
    fn any_row_keeps_the_bounds(
        rows in proptest::collection::vec((-1f32..1.0, -3f32..3.0, -3f32..3.0), 1..300),
        mean in -1000f32..1000.0,
        scale in 0.01f32..100.0,
    ) {
        let x: Vec<f32> = rows.iter().map(|row| mean + scale * row.0).collect();
        let gamma: Vec<f32> = rows.iter().map(|row| row.1).collect();
        let dy: Vec<f32> = rows.iter().map(|row| row.2).collect();
        for level in Level::available() {
            let mut tolerances = tolerances(level);
            check(level, 1, &x, &gamma, 1e-5, &dy, Edge::End, &mut tolerances);
            for tolerance in tolerances {
                tolerance.finish();
            }
        }
    }
}
