use super::*;
use crate::reference::{self, widen};
use crate::testing::{
    Edge, Guarded, Random, Tolerance, U, for_each_level, lengths, same_on_any_threads,
};

#[test]
fn sums_and_products_equal_scalar_arithmetic() {
    for_each_level(|level| {
        let mut random = Random::new(1);
        for n in lengths() {
            let (x, y) = (random.vector(n, -2.0, 2.0), random.vector(n, -2.0, 2.0));
            for edge in Edge::BOTH {
                let mut sum = Guarded::copy(&x, edge);
                add(level, &mut sum, &Guarded::copy(&y, edge));
                let mut product = Guarded::copy(&x, edge);
                scale(level, &mut product, 0.3);
                for i in 0..n {
                    assert_eq!((sum[i], product[i]), (x[i] + y[i], x[i] * 0.3), "{level} {n} {i}");
                }
            }
        }
    });
}

#[test]
fn sums_of_squares_keep_the_bound_and_integers_are_exact() {
    for_each_level(|level| {
        let mut random = Random::new(2);
        for n in lengths() {
            let x = Guarded::copy(&random.vector(n, 0.0, 3.0), Edge::End);
            let exact: f64 = widen(&x).iter().map(|x| x * x).sum();
            let limit = ((n.max(1) as f64).log2().ceil() + 16.0) * U * exact;
            let error = (sum_of_squares(level, &x) - exact).abs();
            assert!(error <= limit, "{level} {n}: {error:e} of {limit:e}");

            let x = Guarded::copy(&random.integers(n, 9), Edge::Start);
            let exact: f64 = widen(&x).iter().map(|x| x * x).sum();
            assert_eq!(sum_of_squares(level, &x), exact, "{level} {n}");
        }
        assert_eq!(sum_of_squares(level, &[1e17; 4096]), 4096.0 * f64::from(1e17f32 * 1e17));
    });
}

#[test]
fn shared_sums_of_squares_keep_the_bound_and_their_bits() {
    let mut random = Random::new(4);
    for n in [0, 1, 1000, 65_535, 65_536, 65_537, 700_001] {
        let (x, integers) = (random.vector(n, 0.0, 3.0), random.integers(n, 9));
        let exact = |x: &[f32]| widen(x).iter().map(|x| x * x).sum::<f64>();
        for_each_level(|level| {
            let sum =
                f64::from_bits(same_on_any_threads(|| sum_of_squares_shared(level, &x).to_bits()));
            let limit = ((n.max(1) as f64).log2().ceil() + 16.0) * U * exact(&x);
            assert!((sum - exact(&x)).abs() <= limit, "{level} {n}: {sum}");
            assert_eq!(sum_of_squares_shared(level, &integers), exact(&integers), "{level} {n}");
        });
    }
}

#[test]
fn what_is_not_finite_is_seen_wherever_it_is() {
    for_each_level(|level| {
        let mut x = vec![1.0; 140_000];
        for at in [0, 7, 65_535, 65_536, 139_999] {
            for (bad, nan) in [(f32::NAN, true), (f32::INFINITY, false), (-1e20, false)] {
                x[at] = bad;
                let sum = sum_of_squares_shared(level, &x);
                assert!(
                    if nan { sum.is_nan() } else { sum == f64::INFINITY },
                    "{level} {at} {bad}"
                );
            }
            x[at] = 1.0;
        }
        assert_eq!(sum_of_squares_shared(level, &x), 140_000.0, "{level}");
    });
}

#[test]
fn rows_get_length_one() {
    for_each_level(|level| {
        let mut random = Random::new(3);
        let mut tolerance = Tolerance::new(format!("l2_normalize {level}"));
        for n in lengths() {
            for size in [1e-16, 1.0, 1e17] {
                let x = random.vector(n, -size, size);
                let mut y = Guarded::copy(&x, Edge::End);
                l2_normalize(level, MatMut::new(&mut y, 1, n, n), 1e-30);
                let exact = reference::l2_normalize(&widen(&x), 1e-30);
                for i in 0..n {
                    tolerance.check(y[i], exact[i], 16.0 * U * exact[i].abs(), || format!("{n}"));
                }
            }
        }
        tolerance.finish();
        let mut x = [3.0, 4.0, 0.0, 0.0];
        l2_normalize(level, MatMut::new(&mut x, 2, 2, 2), 1e-12);
        assert_eq!(x, [0.6, 0.8, 0.0, 0.0], "{level}");
        let mut x = [1e-13, 0.0];
        l2_normalize(level, MatMut::new(&mut x, 1, 2, 2), 1e-12);
        assert!((x[0] - 0.1).abs() < 1e-7, "{level}: eps is the least divisor, {x:?}");
    });
}

#[test]
fn functions_of_a_slice_touch_all_of_it() {
    for_each_level(|level| {
        for n in lengths() {
            for (f, at_zero) in [(exp as fn(Level, &mut [f32]), 1.0), (tanh, 0.0), (erf, 0.0)] {
                let mut x = Guarded::copy(&vec![0.0; n], Edge::End);
                f(level, &mut x);
                assert!(x.iter().all(|&x| x == at_zero), "{level} {n}");
            }
        }
    });
}

#[test]
#[should_panic(expected = "lengths of the summands")]
fn summands_of_different_length_are_refused() {
    add(Level::current(), &mut [0.0; 3], &[0.0; 2]);
}
