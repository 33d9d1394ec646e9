//! The hyperbolic tangent.

use super::{polynomial, reduce_by_ln2};
use crate::simd::{F32s, Simd};

/// tanh x, within 3 ULP at every level; odd, with tanh of zero, infinity and NaN as they should be.
///
/// With t = e^(-2|x|) - 1 the result is -t / (t + 2) with the sign of x. Computing t, not e^(-2|x|),
/// keeps the small arguments' digits: 2^n e^r - 1 = 2^n (e^r - 1) + (2^n - 1), where e^r - 1 is a
/// polynomial of degree 7 (relative error 4.4e-10) that begins with r.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::F32) -> S::F32 {
    const C: [f32; 6] =
        [0.5, 0.166_666_66, 0.041_666_493, 0.008_333_545, 0.001_393_233_3, 0.000_197_625_44];
    // Beyond 2|x| = 20 the result rounds to one.
    let z = s.splat(-20.0).max(x.abs() * s.splat(-2.0));
    let (n, r) = reduce_by_ln2(s, z);
    let expm1 = (polynomial(s, r, C) * r).mul_add(r, r);
    let power = s.splat(1.0).scale2(n);
    let t = power.mul_add(expm1, power - s.splat(1.0));
    (t / (t + s.splat(2.0))).copysign(x)
}
