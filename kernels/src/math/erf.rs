//! The error function, and the normal distribution function it stands for in GELU.

use super::{polynomial, polynomial_in_halves};
use crate::simd::{F32s, Simd};

/// Phi(b), the standard normal distribution function, for b in [-12, 0] (the caller sees to it) or
/// NaN.
///
/// The relative error is below 3e-7 for b in [-1, 0] and grows slowly, as the rounding of the
/// exponent does: below 2e-6 at -3, below 1e-4 at -6.5; the absolute error stays below 1e-7. At
/// -12 the result is zero.
///
/// The function falls by forty orders of magnitude, its logarithm is smooth: log2 Phi(b) is a
/// polynomial of degree 10, and the result 2^n 2^f with n its nearest integer and 2^f a polynomial
/// of degree 6. So there is neither a division nor a cancellation near zero or in the tail.
#[inline(always)]
pub(crate) fn normal_cdf_lower<S: Simd>(s: S, b: S::F32) -> S::F32 {
    /// log2 Phi(b): an error of 2.6e-9 in b Phi(b) on [-6.5, 0]. Further down it falls below -150,
    /// where 2^x is zero.
    const LOG2_PHI: [f32; 11] = [
        -1.0,
        1.151_106_1,
        -0.459_205_48,
        0.052_484_933,
        0.007_007_972,
        4.807_715e-5,
        -0.000_256_845_17,
        -6.974_67e-5,
        -9.767_622e-6,
        -7.396_897e-7,
        -2.381_997_7e-8,
    ];
    /// 2^f on [-1/2, 1/2], relative error 3.0e-9.
    const EXP2: [f32; 7] = [
        1.0,
        std::f32::consts::LN_2,
        0.240_226_48,
        0.055_503_596,
        0.009_618_5,
        0.001_339_097_6,
        0.000_153_289_07,
    ];
    let log2 = polynomial_in_halves(s, b, LOG2_PHI);
    let n = log2.round();
    polynomial(s, log2 - n, EXP2).scale2(n)
}

/// erf x, within 2 ULP at every level; odd, with erf of zero, infinity and NaN as they should be.
///
/// Up to 0.9 it is x + x p(x^2) with a polynomial of degree 5 (relative error 1.5e-8), beyond that
/// 1 - 2 Phi(-sqrt 2 |x|).
#[inline(always)]
pub(crate) fn erf<S: Simd>(s: S, x: S::F32) -> S::F32 {
    const C: [f32; 6] = [
        0.128_379_15,
        -0.376_125_07,
        0.112_819_76,
        -0.026_773_285,
        0.005_004_16,
        -0.000_605_246_17,
    ];
    let magnitude = x.abs();
    let small = polynomial(s, x * x, C).mul_add(x, x);
    let upper = {
        let b = magnitude * s.splat(-std::f32::consts::SQRT_2);
        normal_cdf_lower(s, s.splat(-12.0).max(b))
    };
    let large = upper.mul_add(s.splat(-2.0), s.splat(1.0)).copysign(x);
    S::F32::select(magnitude.lt(s.splat(0.9)), small, large)
}
