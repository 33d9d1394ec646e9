//! `exp`, `tanh`, `erf` and the normal distribution function, on vectors.
//!
//! The constants are fitted by `scripts/fit_polynomials.py`: weighted minimax polynomials whose
//! coefficients are rounded to f32 one by one, each fit repairing the roundings before it. The
//! bounds in the documentation count units in the last place (ULP) of the exact result and hold
//! for every f32; ignored tests check all 2^32 of them at every level.

mod erf;
mod exp;
mod tanh;

pub(crate) use erf::{erf, normal_cdf_lower};
pub(crate) use exp::exp;
pub(crate) use tanh::tanh;

use crate::simd::{F32s, Simd};

/// `c[0] + x (c[1] + x (c[2] + ...))`, innermost first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::F32, c: [f32; N]) -> S::F32 {
    let mut sum = s.splat(c[N - 1]);
    for k in (0..N - 1).rev() {
        sum = sum.mul_add(x, s.splat(c[k]));
    }
    sum
}

/// The same polynomial as two, of even and of odd powers, that are evaluated side by side.
#[inline(always)]
fn polynomial_in_halves<S: Simd, const N: usize>(s: S, x: S::F32, c: [f32; N]) -> S::F32 {
    let square = x * x;
    let mut halves = [s.splat(c[N - 2]), s.splat(c[N - 1])];
    for k in (0..N - 2).rev() {
        let half = &mut halves[(k + N) % 2];
        *half = half.mul_add(square, s.splat(c[k]));
    }
    if N.is_multiple_of(2) {
        halves[1].mul_add(x, halves[0])
    } else {
        halves[0].mul_add(x, halves[1])
    }
}

/// Splits `x` into `(n, r)` with `x = n ln 2 + r` and `|r|` at most half of ln 2, for `|x|` up to
/// 150.
#[inline(always)]
fn reduce_by_ln2<S: Simd>(s: S, x: S::F32) -> (S::F32, S::F32) {
    // ln 2 in two pieces. The upper has 15 bits, so that n times it is exact without a fused
    // multiply-add as well, and so is the first difference.
    const LN2_HIGH: f32 = 0.693_145_75;
    const LN2_LOW: f32 = 1.428_606_8e-6;
    let n = (x * s.splat(std::f32::consts::LOG2_E)).round();
    let r = n.mul_add(s.splat(-LN2_HIGH), x);
    (n, n.mul_add(s.splat(-LN2_LOW), r))
}

#[cfg(test)]
pub(crate) mod tests;
