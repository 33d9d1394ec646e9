//! Each function against f64, over the whole range of f32.

use super::*;
use crate::Level;
use crate::reference;
use crate::rows::map_row;
use crate::simd::dispatch;
use crate::testing::{Tolerance, for_each_level, max_ulps};

/// A function in both worlds, with its bound in ULP.
struct Case {
    name: &'static str,
    run: fn(Level, &mut [f32]),
    exact: fn(f64) -> f64,
    ulps: f64,
    /// At the portable level, which rounds a multiply-add twice.
    portable_ulps: f64,
}

macro_rules! run {
    ($f:ident) => {
        |level, x| {
            dispatch!(level, s => map_row(
                s,
                x,
                #[inline(always)]
                |x| $f(s, x),
            ))
        }
    };
}

const CASES: [Case; 3] = [
    Case { name: "exp", run: run!(exp), exact: f64::exp, ulps: 1.0, portable_ulps: 1.25 },
    Case { name: "tanh", run: run!(tanh), exact: f64::tanh, ulps: 3.0, portable_ulps: 3.0 },
    Case { name: "erf", run: run!(erf), exact: reference::erf, ulps: 2.0, portable_ulps: 2.0 },
];

/// Checks the floats whose bits are `start`, `start + step` and so on.
fn check(case: &Case, level: Level, bits: impl Iterator<Item = u32>) -> f64 {
    let x: Vec<f32> = bits.map(f32::from_bits).collect();
    let mut y = x.clone();
    (case.run)(level, &mut y);
    let name = format!("{} {level}", case.name);
    let ulps = if level.name() == "portable" { case.portable_ulps } else { case.ulps };
    max_ulps(&name, ulps, x.into_iter().zip(y), case.exact)
}

#[test]
fn functions_keep_their_bounds_on_a_sample_of_all_floats() {
    for_each_level(|level| {
        for case in &CASES {
            check(case, level, (0..=u32::MAX).step_by(1009));
        }
    });
}

/// Where results change quickly: around the switches, the limits and the roundings to integers.
#[test]
fn functions_keep_their_bounds_around_their_seams() {
    let mut bits = Vec::new();
    let edges = [0.9, 3.9, 9.01, 10.0, 12.0 / 1.414, 16.6, 87.33, 88.722_84, 89.0, 103.97, 104.0];
    let halves = (-151..=129).map(|n| (f64::from(n) + 0.5) * std::f64::consts::LN_2);
    for x in edges.into_iter().chain(halves) {
        let center = (x as f32).to_bits();
        bits.extend((center - 300..center + 300).flat_map(|bits| [bits, bits ^ 1 << 31]));
    }
    bits.extend((0..2000).flat_map(|bits| [bits, bits | 1 << 31]));
    for_each_level(|level| {
        for case in &CASES {
            check(case, level, bits.iter().copied());
        }
    });
}

#[test]
#[ignore = "all 2^32 floats at every level: minutes each"]
fn functions_keep_their_bounds_on_every_float() {
    for_each_level(|level| {
        for case in &CASES {
            let blocks = (0..1u64 << 32).step_by(1 << 22);
            let worst = blocks.map(|start| {
                check(case, level, (start..start + (1 << 22)).map(|bits| bits as u32))
            });
            let worst = worst.fold(0.0, f64::max);
            println!("EVERY FLOAT: {} {level}: {worst:.3} ULP at worst", case.name);
        }
    });
}

#[test]
fn special_values_are_exact() {
    const INF: f32 = f32::INFINITY;
    let cases: [(usize, f32, f32); 18] = [
        (0, 0.0, 1.0),
        (0, -0.0, 1.0),
        (0, INF, INF),
        (0, -INF, 0.0),
        (0, 88.722_84, INF),
        (0, -104.0, 0.0),
        (0, 1e-45, 1.0),
        (0, 3e38, INF),
        (0, -3e38, 0.0),
        (1, 0.0, 0.0),
        (1, -0.0, -0.0),
        (1, INF, 1.0),
        (1, -INF, -1.0),
        (1, 1e-45, 1e-45),
        (2, 0.0, 0.0),
        (2, -0.0, -0.0),
        (2, INF, 1.0),
        (2, -INF, -1.0),
    ];
    for_each_level(|level| {
        for (function, x, expected) in cases {
            let case = &CASES[function];
            let mut y = [x; 16];
            (case.run)(level, &mut y);
            assert_eq!(y.map(f32::to_bits), [expected.to_bits(); 16], "{level} {} {x}", case.name);
        }
        for case in &CASES {
            let mut y = [f32::NAN, 1.0, -f32::NAN];
            (case.run)(level, &mut y);
            assert!(y[0].is_nan() && !y[1].is_nan() && y[2].is_nan(), "{level} {}", case.name);
        }
    });
}

#[test]
fn the_normal_distribution_function_keeps_its_relative_error() {
    for_each_level(|level| {
        let x: Vec<f32> = (0..=120_000).map(|i| i as f32 * -1e-4).collect();
        let mut y = x.clone();
        dispatch!(level, s => map_row(
            s,
            &mut y,
            #[inline(always)]
            |b| normal_cdf_lower(s, b),
        ));
        let mut near = Tolerance::new(format!("normal_cdf_lower {level}, relative to -1"));
        let mut middle = Tolerance::new(format!("normal_cdf_lower {level}, relative to -3"));
        let mut tail = Tolerance::new(format!("normal_cdf_lower {level}, relative to -6.5"));
        let mut absolute = Tolerance::new(format!("normal_cdf_lower {level}, absolute"));
        for (&x, &y) in x.iter().zip(&y) {
            let exact = reference::normal_cdf(f64::from(x));
            let input = || format!("b = {x}");
            absolute.check(y, exact, 1e-7, input);
            match x {
                -1.0..=0.0 => near.check(y, exact, 3e-7 * exact, input),
                -3.0..-1.0 => middle.check(y, exact, 2e-6 * exact, input),
                -6.5..-3.0 => tail.check(y, exact, 1e-4 * exact, input),
                _ => assert!(y >= 0.0, "{level} {x}: {y}"),
            }
        }
        for tolerance in [near, middle, tail, absolute] {
            tolerance.finish();
        }
        assert!(y[0] == 0.5 && y[120_000] == 0.0);
    });
}

#[test]
fn both_forms_of_a_polynomial_are_the_polynomial() {
    for_each_level(|level| {
        dispatch!(level, s => {
            let x = s.splat(3.0);
            let mut out = [0.0; 16];
            polynomial(s, x, [5.0, 7.0, 11.0, 13.0]).store_prefix(&mut out);
            assert_eq!(out[0], 5.0 + 21.0 + 99.0 + 351.0, "{level}");
            polynomial_in_halves(s, x, [5.0, 7.0, 11.0, 13.0]).store_prefix(&mut out);
            assert_eq!(out[0], 5.0 + 21.0 + 99.0 + 351.0, "{level}");
            polynomial_in_halves(s, x, [5.0, 7.0, 11.0]).store_prefix(&mut out);
            assert_eq!(out[0], 5.0 + 21.0 + 99.0, "{level}");
        });
    });
}
