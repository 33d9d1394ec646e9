//! Every lane operation at every level against scalar f32 (or f64 where it rounds once).

use super::{F32s, Simd};
use crate::Level;

/// Numbers that expose wrong lanes, wrong signs and wrong rounding.
fn samples(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 37 + 11) % 101) as f32 * 0.37 - 17.0).collect()
}

type Unary = fn(f32) -> f32;
type Binary = fn(f32, f32) -> f32;

fn map1<S: Simd>(s: S, x: &[f32], f: impl Fn(S::F32) -> S::F32) -> Vec<f32> {
    let mut out = vec![f32::NAN; S::LANES];
    f(s.load(x)).store_prefix(&mut out);
    out
}

#[test]
fn loads_and_stores_touch_their_lanes_only() {
    for level in Level::available() {
        dispatch!(level, s => {
            let x = samples(40);
            for n in 0..=40 {
                let mut out = vec![-1.0; 40];
                s.load_or(&x[..n], 7.5).store_prefix(&mut out);
                let lanes = lanes_of(s);
                for i in 0..40 {
                    let expected = if i >= lanes { -1.0 } else if i < n { x[i] } else { 7.5 };
                    assert_eq!(out[i], expected, "{level} load_or {n} lane {i}");
                }
                let mut out = [-1.0; 40];
                s.load(&x).store_prefix(&mut out[..n]);
                for i in 0..40 {
                    let expected = if i < n.min(lanes) { x[i] } else { -1.0 };
                    assert_eq!(out[i], expected, "{level} store_prefix {n} lane {i}");
                }
            }
        });
    }
}

fn lanes_of<S: Simd>(_: S) -> usize {
    S::LANES
}

fn fused<S: Simd>(_: S) -> bool {
    S::FUSED
}

#[test]
fn arithmetic_equals_scalar_arithmetic() {
    for level in Level::available() {
        dispatch!(level, s => {
            let (x, y, z) = (samples(16), samples(33)[17..].to_vec(), samples(50)[34..].to_vec());
            let (vy, vz) = (s.load(&y), s.load(&z));
            let cases: [(&str, Vec<f32>, Binary); 7] = [
                ("add", map1(s, &x, |v| v + vy), |a, b| a + b),
                ("sub", map1(s, &x, |v| v - vy), |a, b| a - b),
                ("mul", map1(s, &x, |v| v * vy), |a, b| a * b),
                ("div", map1(s, &x, |v| v / vy), |a, b| a / b),
                ("min", map1(s, &x, |v| v.min(vy)), f32::min),
                ("max", map1(s, &x, |v| v.max(vy)), f32::max),
                ("copysign", map1(s, &x, |v| v.copysign(vy)), f32::copysign),
            ];
            for (name, out, f) in cases {
                for i in 0..out.len() {
                    assert_eq!(out[i], f(x[i], y[i]), "{level} {name} lane {i}");
                }
            }
            let unary: [(&str, Vec<f32>, Unary); 4] = [
                ("neg", map1(s, &x, |v| -v), |a| -a),
                ("abs", map1(s, &x, |v| v.abs()), f32::abs),
                ("sqrt", map1(s, &x, |v| v.abs().sqrt()), |a| a.abs().sqrt()),
                ("round", map1(s, &x, |v| v.round()), f32::round_ties_even),
            ];
            for (name, out, f) in unary {
                for i in 0..out.len() {
                    assert_eq!(out[i].to_bits(), f(x[i]).to_bits(), "{level} {name} lane {i}");
                }
            }
            let out = map1(s, &x, |v| v.mul_add(vy, vz));
            for i in 0..out.len() {
                let once = x[i].mul_add(y[i], z[i]);
                let expected = if fused(s) { once } else { x[i] * y[i] + z[i] };
                assert_eq!(out[i], expected, "{level} mul_add lane {i}");
            }
            let out = map1(s, &x, |v| F32s::select(v.lt(vy), v, vz));
            for i in 0..out.len() {
                assert_eq!(out[i], if x[i] < y[i] { x[i] } else { z[i] }, "{level} select {i}");
            }
        });
    }
}

#[test]
fn integer_operations_work_on_all_bits() {
    for level in Level::available() {
        dispatch!(level, s => {
            let numbers = |start: u32| -> Vec<u32> {
                (0..16).map(|i| (start + i).wrapping_mul(0x9E37_79B9) ^ start >> 3).collect()
            };
            let floats = |x: &[u32]| x.iter().map(|&x| f32::from_bits(x)).collect::<Vec<_>>();
            let (x, y) = (numbers(1), numbers(99));
            let (fx, vy) = (floats(&x), s.load(&floats(&y)));
            type Integer = fn(u32, u32) -> u32;
            let cases: [(&str, Vec<f32>, Integer); 7] = [
                ("add_int", map1(s, &fx, |v| v.add_int(vy)), u32::wrapping_add),
                ("sub_int", map1(s, &fx, |v| v.sub_int(vy)), u32::wrapping_sub),
                ("mul_int", map1(s, &fx, |v| v.mul_int(vy)), u32::wrapping_mul),
                ("xor_int", map1(s, &fx, |v| v.xor_int(vy)), |a, b| a ^ b),
                ("shift by 0", map1(s, &fx, |v| v.shift_right_int(0)), |a, _| a),
                ("shift by 8", map1(s, &fx, |v| v.shift_right_int(8)), |a, _| a >> 8),
                ("shift by 31", map1(s, &fx, |v| v.shift_right_int(31)), |a, _| a >> 31),
            ];
            for (name, out, f) in cases {
                for i in 0..out.len() {
                    assert_eq!(out[i].to_bits(), f(x[i], y[i]), "{level} {name} lane {i}");
                }
            }
            let out = map1(s, &fx, |v| v.int_to_float());
            for i in 0..out.len() {
                assert_eq!(out[i], x[i] as i32 as f32, "{level} int_to_float lane {i}");
            }
        });
    }
}

/// Kernels rely on the order of the operands where one is NaN.
#[test]
fn min_and_max_give_the_other_operand_where_one_is_nan() {
    for level in Level::available() {
        dispatch!(level, s => {
            let (nan, one) = ([f32::NAN; 16], [1.0; 16]);
            let (vnan, vone) = (s.load(&nan), s.load(&one));
            for (name, out) in [
                ("min", map1(s, &nan, |v| v.min(vone))),
                ("max", map1(s, &nan, |v| v.max(vone))),
            ] {
                assert!(out.iter().all(|&x| x == 1.0), "{level} {name}: {out:?}");
            }
            for (name, out) in [
                ("min", map1(s, &one, |v| v.min(vnan))),
                ("max", map1(s, &one, |v| v.max(vnan))),
            ] {
                assert!(out.iter().all(|x| x.is_nan()), "{level} {name}: {out:?}");
            }
        });
    }
}

#[test]
fn round_breaks_ties_to_even() {
    for level in Level::available() {
        dispatch!(level, s => {
            for x in [-2.5f32, -1.5, -0.5, 0.5, 1.5, 2.5, 126.5, -125.5] {
                assert_eq!(map1(s, &[x; 16], |v| v.round())[0], x.round_ties_even(), "{level} {x}");
            }
        });
    }
}

#[test]
fn scale2_rounds_once_down_to_denormals_and_up_to_infinity() {
    for level in Level::available() {
        dispatch!(level, s => {
            for n in -252..=254 {
                for x in [0.5f32, 0.75, 1.0, 1.234_567_9, 1.999_999_9, 3.3] {
                    let out = map1(s, &[x; 16], |v| v.scale2(s.splat(n as f32)));
                    let expected = (f64::from(x) * 2f64.powi(n)) as f32;
                    assert_eq!(out[0], expected, "{level} {x} * 2^{n}");
                }
            }
            assert!(map1(s, &[f32::NAN; 16], |v| v.scale2(s.splat(3.0)))[0].is_nan());
        });
    }
}

#[test]
fn reductions_take_every_lane_once() {
    for level in Level::available() {
        dispatch!(level, s => {
            let lanes = lanes_of(s);
            // Powers of two: the sum names its terms.
            let x: Vec<f32> = (0..lanes).map(|i| (1u32 << i) as f32).collect();
            assert_eq!(s.load(&x).reduce_sum(), ((1u32 << lanes) - 1) as f32, "{level}");
            for largest in 0..lanes {
                let mut x = vec![-3.0; lanes];
                x[largest] = -1.5;
                assert_eq!(s.load(&x).reduce_max(), -1.5, "{level} lane {largest}");
            }
        });
    }
}
