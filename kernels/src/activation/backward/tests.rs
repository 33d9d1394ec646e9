use proptest::prelude::*;

use super::*;
use crate::activation::tests::ALL;
use crate::reference;
use crate::testing::{
    Edge, Guarded, Random, Tolerance, for_each_level, lengths, same_on_any_threads, ulp,
};

/// The exact derivative and the largest error allowed.
fn exact(activation: Activation, x: f32) -> (f64, f64) {
    let x = f64::from(x);
    let slope = match activation {
        Activation::Gelu => reference::gelu_derivative(x),
        Activation::GeluTanh => reference::gelu_tanh_derivative(x),
        Activation::Relu if x.is_nan() => x,
        Activation::Relu => return (if x > 0.0 { 1.0 } else { 0.0 }, 0.0),
        Activation::Tanh => reference::tanh_derivative(x),
    };
    (slope, f64::max(4.0 * ulp(slope), 4e-7))
}

fn check(activation: Activation, level: Level, x: &[f32], tolerance: &mut Tolerance) {
    let (mut u, mut dh, mut h) = (x.to_vec(), vec![1.0; x.len()], x.to_vec());
    let n = x.len();
    let view = MatMut::new(&mut dh, 1, n, n);
    activation.backward(level, MatMut::new(&mut u, 1, n, n), view);
    activation.apply(level, &mut h);
    for i in 0..n {
        let (slope, limit) = exact(activation, x[i]);
        tolerance.check(dh[i], slope, limit, || format!("x = {:e}", x[i]));
        let same = u[i].to_bits() == h[i].to_bits() || u[i].is_nan() && h[i].is_nan();
        assert!(same, "{level} {activation:?} {:e}: {:e} is not {:e}", x[i], u[i], h[i]);
    }
}

#[test]
fn derivatives_keep_their_bounds_on_a_sample_of_all_floats() {
    let sample: Vec<f32> = (0..=u32::MAX).step_by(2027).map(f32::from_bits).collect();
    let dense: Vec<f32> = (-600_000..600_000).map(|i| i as f32 * 2e-4 / 8.0).collect();
    for_each_level(|level| {
        for activation in ALL {
            let mut tolerance = Tolerance::new(format!("{activation:?}' {level}"));
            check(activation, level, &sample, &mut tolerance);
            check(activation, level, &dense, &mut tolerance);
            tolerance.finish();
        }
    });
}

#[test]
fn limits_and_zero_are_exact() {
    const INF: f32 = f32::INFINITY;
    for_each_level(|level| {
        for activation in ALL {
            let tanh = activation == Activation::Tanh;
            let zero = match activation {
                Activation::Relu => 0.0,
                Activation::Tanh => 1.0,
                _ => 0.5,
            };
            let right = if tanh { 0.0 } else { 1.0 };
            for (x, expected) in [
                (0.0, zero),
                (-0.0, zero),
                (INF, right),
                (-INF, 0.0),
                (1e30, right),
                (-1e30, 0.0),
                (100.0, right),
                (-100.0, 0.0),
            ] {
                let (mut u, mut dh) = ([x; 19], [2.0; 19]);
                let view = MatMut::new(&mut dh, 1, 19, 19);
                activation.backward(level, MatMut::new(&mut u, 1, 19, 19), view);
                assert_eq!(dh, [2.0 * expected; 19], "{level} {activation:?}' at {x}");
            }
        }
    });
}

#[test]
fn rows_of_every_length_are_mapped_whole_and_alone() {
    for_each_level(|level| {
        let mut random = Random::new(1);
        for activation in ALL {
            let mut tolerance = Tolerance::new(format!("{activation:?}' {level}"));
            for n in lengths().into_iter().filter(|&n| n < 1100) {
                let x = random.vector(n, -6.0, 6.0);
                check(activation, level, &x, &mut tolerance);
                let mut expected = x.clone();
                activation.apply(level, &mut expected);
                for edge in Edge::BOTH {
                    let mut u = Guarded::copy(&x, edge);
                    let mut dh = Guarded::copy(&vec![-3.0; n], edge);
                    let view = MatMut::new(&mut dh, 1, n, n);
                    activation.backward(level, MatMut::new(&mut u, 1, n, n), view);
                    assert_eq!(u[..], expected, "{level} {activation:?} {n}");
                    for i in 0..n {
                        let (slope, limit) = exact(activation, x[i]);
                        let (product, limit) = (-3.0 * slope, 3.1 * limit);
                        tolerance.check(dh[i], product, limit, || format!("x = {}", x[i]));
                    }
                }
            }
            tolerance.finish();
        }
    });
}

#[test]
fn threads_and_gaps_change_no_bit() {
    let x = Random::new(2).vector(700 * 140, -4.0, 4.0);
    for_each_level(|level| {
        for activation in ALL {
            let (u, dh) = same_on_any_threads(|| {
                let (mut u, mut dh) = (x.clone(), vec![7.0; 700 * 150]);
                let view = MatMut::new(&mut dh, 700, 130, 150);
                activation.backward(level, MatMut::new(&mut u, 700, 130, 140), view);
                (u, dh)
            });
            for row in 0..700 {
                let gap = row * 140 + 130..(row + 1) * 140;
                assert_eq!(u[gap.clone()], x[gap], "{level} {activation:?} row {row}");
                assert_eq!(dh[row * 150 + 130..][..20], [7.0; 20], "{level} {activation:?}");
            }
        }
    });
}

#[test]
#[should_panic(expected = "shapes of u and of dh")]
fn gradients_of_another_shape_are_refused() {
    let (mut u, mut dh) = ([0.0; 6], [0.0; 6]);
    let dh = MatMut::new(&mut dh, 3, 2, 2);
    Activation::Relu.backward(Level::current(), MatMut::new(&mut u, 2, 3, 3), dh);
}

proptest! {
    #[test]
    fn any_slice_keeps_the_bounds(x in proptest::collection::vec(-100f32..100.0, 0..200)) {
        for level in Level::available() {
            for activation in ALL {
                let mut tolerance = Tolerance::new(format!("{activation:?}' {level}"));
                check(activation, level, &x, &mut tolerance);
                prop_assert!(tolerance.finish() <= 1.0);
            }
        }
    }
}
