use proptest::prelude::*;

use super::*;
use crate::reference;
use crate::rows::map_row;
use crate::testing::{Edge, Guarded, Random, Tolerance, for_each_level, lengths, ulp};

pub(super) const ALL: [Activation; 4] =
    [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Tanh];

/// The exact result and the largest error allowed.
fn exact(activation: Activation, x: f32) -> (f64, f64) {
    let x = f64::from(x);
    match activation {
        Activation::Gelu => {
            let y = reference::gelu(x);
            (y, f64::max(4.0 * ulp(y), 1e-7))
        }
        Activation::GeluTanh => {
            let y = reference::gelu_tanh(x);
            (y, f64::max(4.0 * ulp(y), 1e-7))
        }
        Activation::Relu => (if x < 0.0 { 0.0 } else { x }, 0.0),
        Activation::Tanh => (x.tanh(), 3.0 * ulp(x.tanh())),
    }
}

fn check(activation: Activation, level: Level, x: &[f32], tolerance: &mut Tolerance) {
    let mut y = x.to_vec();
    activation.apply(level, &mut y);
    for (&x, &y) in x.iter().zip(&y) {
        let (exact, limit) = exact(activation, x);
        tolerance.check(y, exact, limit, || format!("x = {x:e}"));
    }
}

#[test]
fn functions_keep_their_bounds_on_a_sample_of_all_floats() {
    let sample: Vec<f32> = (0..=u32::MAX).step_by(1013).map(f32::from_bits).collect();
    let dense: Vec<f32> = (-1_200_000..1_200_000).map(|i| i as f32 * 1e-4).collect();
    for_each_level(|level| {
        for activation in ALL {
            let mut tolerance = Tolerance::new(format!("{activation:?} {level}"));
            check(activation, level, &sample, &mut tolerance);
            check(activation, level, &dense, &mut tolerance);
            tolerance.finish();
        }
    });
}

#[test]
#[ignore = "all 2^32 floats at every level: minutes each"]
fn functions_keep_their_bounds_on_every_float() {
    for_each_level(|level| {
        for activation in [Activation::Gelu, Activation::GeluTanh] {
            let mut tolerance = Tolerance::new(format!("EVERY FLOAT: {activation:?} {level}"));
            for start in (0..1u64 << 32).step_by(1 << 22) {
                let bits = start..start + (1 << 22);
                let x: Vec<f32> = bits.map(|bits| f32::from_bits(bits as u32)).collect();
                check(activation, level, &x, &mut tolerance);
            }
            tolerance.finish();
        }
    });
}

#[test]
fn special_values_are_exact() {
    const INF: f32 = f32::INFINITY;
    for_each_level(|level| {
        for activation in ALL {
            let tanh = activation == Activation::Tanh;
            let cases = [
                (0.0, 0.0),
                (-0.0, -0.0),
                (INF, if tanh { 1.0 } else { INF }),
                (-INF, if tanh { -1.0 } else { -0.0 }),
                (100.0, if tanh { 1.0 } else { 100.0 }),
                (-100.0, if tanh { -1.0 } else { -0.0 }),
                (1e30, if tanh { 1.0 } else { 1e30 }),
                (-1e30, if tanh { -1.0 } else { -0.0 }),
            ];
            for (x, expected) in cases {
                let mut y = [x; 19];
                activation.apply(level, &mut y);
                for y in y {
                    assert_eq!(y, expected, "{level} {activation:?} {x}");
                    if x == 0.0 {
                        let (got, expected) = (y.is_sign_negative(), expected.is_sign_negative());
                        assert_eq!(got, expected, "{level} {activation:?}: sign for {x}");
                    }
                }
            }
            let mut y = [1.0, f32::NAN, 2.0, -f32::NAN];
            activation.apply(level, &mut y);
            assert_eq!(y.map(f32::is_nan), [false, true, false, true], "{level} {activation:?}");
        }
    });
}

/// What 1 + erf cannot do: the tail keeps digits of its own where one ULP of 1 is 6e-8.
#[test]
fn the_tail_of_gelu_is_relatively_accurate() {
    for_each_level(|level| {
        let x: Vec<f32> = (0..=6000).map(|i| -6.0 + i as f32 * 1e-3).collect();
        let mut y = x.clone();
        Activation::Gelu.apply(level, &mut y);
        let mut tolerance = Tolerance::new(format!("tail of GELU {level}"));
        for (&x, &y) in x.iter().zip(&y) {
            let exact = reference::gelu(f64::from(x));
            tolerance.check(y, exact, 1e-4 * exact.abs(), || format!("x = {x}"));
        }
        tolerance.finish();
    });
}

#[test]
fn rows_of_every_length_are_mapped_whole_and_alone() {
    for_each_level(|level| {
        let mut random = Random::new(1);
        for activation in ALL {
            let mut tolerance = Tolerance::new(format!("{activation:?} {level}"));
            for n in lengths() {
                let x = random.vector(n, -6.0, 6.0);
                let mut expected = x.clone();
                activation.apply(level, &mut expected);
                check(activation, level, &x, &mut tolerance);
                for edge in Edge::BOTH {
                    let mut y = Guarded::copy(&x, edge);
                    activation.apply_rows(level, MatMut::new(&mut y, 1, n, n));
                    assert_eq!(y[..], expected, "{level} {activation:?} {n}");
                }
            }
            tolerance.finish();
        }
    });
}

#[test]
fn a_vector_at_a_time_gives_the_same_bits() {
    for_each_level(|level| {
        let x = Random::new(2).vector(16, -4.0, 4.0);
        for activation in ALL {
            let mut expected = x.clone();
            activation.apply(level, &mut expected);
            let mut y = x.clone();
            dispatch!(level, s => map_row(
                s,
                &mut y,
                #[inline(always)]
                |x| activation.apply_vector(s, x),
            ));
            assert_eq!(y, expected, "{level} {activation:?}");
        }
    });
}

#[test]
fn gaps_between_rows_stay() {
    for_each_level(|level| {
        let mut x = vec![-1.0; 3 * 20];
        Activation::Relu.apply_rows(level, MatMut::new(&mut x, 3, 17, 20));
        for (i, &x) in x.iter().enumerate() {
            assert_eq!(x, if i % 20 < 17 || i >= 60 { 0.0 } else { -1.0 }, "{level} {i}");
        }
    });
}

proptest! {
    #[test]
    fn any_slice_keeps_the_bounds(x in proptest::collection::vec(-100f32..100.0, 0..200)) {
        for level in Level::available() {
            for activation in ALL {
                let mut tolerance = Tolerance::new(format!("{activation:?} {level}"));
                check(activation, level, &x, &mut tolerance);
                prop_assert!(tolerance.finish() <= 1.0);
            }
        }
    }
}
