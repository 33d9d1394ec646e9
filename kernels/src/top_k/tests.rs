use proptest::prelude::*;

use super::*;
use crate::reference;
use crate::testing::{Edge, Guarded, Random, Tolerance, U, for_each_level, lengths};

/// All that count, sorted: the definition.
fn naive(x: &[f32], k: usize) -> Vec<(u32, f32)> {
    let mut all: Vec<(u32, f32)> = (0..).zip(x.iter().copied()).collect();
    all.retain(|(_, value)| !value.is_nan() && *value != f32::NEG_INFINITY);
    all.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
    all.truncate(k);
    all
}

fn found(level: Level, x: &[f32], k: usize) -> Vec<(u32, f32)> {
    let mut out = vec![Ranked { index: 7, value: f32::NAN }];
    top_k(level, x, k, &mut out);
    out.iter().map(|one| (one.index, one.value)).collect()
}

#[test]
fn the_largest_are_those_of_a_sort() {
    for_each_level(|level| {
        let mut random = Random::new(1);
        for n in lengths() {
            for edge in Edge::BOTH {
                let x = Guarded::copy(&random.vector(n, -9.0, 9.0), edge);
                for k in [0, 1, 2, 8, 63, 64, 65, 200] {
                    assert_eq!(found(level, &x, k), naive(&x, k), "{level} {k} of {n}");
                }
            }
        }
        // Ascending, so that each element is one of the largest so far; and all the same.
        let ascending: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        for x in [&ascending[..], &[3.0; 1000]] {
            for k in [1, 10, 64, 65, 999, 1000, 1001] {
                assert_eq!(found(level, x, k), naive(x, k), "{level} {k}");
            }
        }
    });
}

#[test]
fn the_logarithm_keeps_its_bound() {
    for_each_level(|level| {
        let mut random = Random::new(2);
        let mut tolerance = Tolerance::new(format!("log-sum-exp {level}"));
        for n in lengths().into_iter().skip(1) {
            for range in [1.0, 30.0, 1000.0] {
                let x = Guarded::copy(&random.vector(n, -range, range), Edge::End);
                let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum: f64 = x.iter().map(|&x| (f64::from(x) - f64::from(max)).exp()).sum();
                let exact = f64::from(max) + sum.ln();
                let limit = 4.0 * U * (1.0 + f64::from(max.abs()));
                let y = log_sum_exp(level, &x);
                // In f64, so that the rounding to f32 of the comparison does not count.
                tolerance.check((y - exact) as f32, 0.0, limit, || format!("{n} in {range}"));
            }
        }
        tolerance.finish();
        let minus = f32::NEG_INFINITY;
        assert_eq!(log_sum_exp(level, &[]), f64::NEG_INFINITY);
        assert_eq!(log_sum_exp(level, &[minus; 40]), f64::NEG_INFINITY);
        assert_eq!(log_sum_exp(level, &[minus, 2.5, minus]), 2.5);
        for bad in [f32::NAN, f32::INFINITY] {
            for n in [1, 7, 16, 130] {
                for others in [0.0, minus] {
                    let mut x = vec![others; n];
                    x[n / 2] = bad;
                    assert!(log_sum_exp(level, &x).is_nan(), "{level} {bad} among {others}");
                }
            }
        }
    });
}

/// Log-probabilities are those of the reference.
#[test]
fn a_logit_less_the_logarithm_is_its_log_softmax() {
    let x = Random::new(3).vector(500, -8.0, 8.0);
    let exact = reference::log_softmax(&reference::widen(&x));
    for_each_level(|level| {
        let log = log_sum_exp(level, &x);
        for (&x, exact) in x.iter().zip(&exact) {
            assert!((f64::from(x) - log - exact).abs() < 1e-6);
        }
    });
}

proptest! {
    #[test]
    fn any_row_is_ranked(
        x in prop::collection::vec(
            prop_oneof![
                6 => (-5i8..5).prop_map(f32::from),
                1 => Just(-0.0f32),
                1 => Just(f32::NEG_INFINITY),
                1 => Just(f32::NAN),
                1 => Just(f32::INFINITY),
            ],
            0..400,
        ),
        k in 0usize..90,
    ) {
        for level in Level::available() {
            prop_assert_eq!(found(level, &x, k), naive(&x, k));
        }
    }
}
