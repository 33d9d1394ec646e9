//! The exponential function.

use super::{polynomial, reduce_by_ln2};
use crate::simd::{F32s, Simd};

/// e^x, within 1 ULP; within 1.25 at the portable level, which rounds a multiply-add twice.
///
/// Beyond 88.72 the result is infinite; below -87.3 it is denormal, below -103.97 zero; NaN stays
/// NaN.
///
/// With n = round(x / ln 2) and r = x - n ln 2 the result is 2^n e^r, and e^r a polynomial of
/// degree 6 (relative error 3.2e-9) that begins with 1 + r.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F32) -> S::F32 {
    const C: [f32; 6] =
        [1.0, 0.499_999_94, 0.166_665_21, 0.041_668_27, 0.008_368_68, 0.001_382_042];
    // At the limits the result is infinite or zero already. In this order NaN passes.
    let x = s.splat(-104.0).max(s.splat(89.0).min(x));
    let (n, r) = reduce_by_ln2(s, x);
    polynomial(s, r, C).mul_add(r, s.splat(1.0)).scale2(n)
}
