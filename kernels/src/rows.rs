//! The loops that the row kernels share: all vectors of a row, and sums in a fixed tree.
//!
//! Closures are marked `#[inline(always)]` like everything between `dispatch!` and the intrinsics.

use std::ops::Range;

use crate::simd::{F32s, Simd};

/// Calls `f` with the range of each vector of a row of `n` elements; the last may be shorter.
/// Loads by `load_or` and stores by `store_prefix` become plain ones where the length is known.
#[inline(always)]
pub(crate) fn for_each_vector<S: Simd>(_: S, n: usize, mut f: impl FnMut(Range<usize>)) {
    let mut start = 0;
    while start + S::LANES <= n {
        f(start..start + S::LANES);
        start += S::LANES;
    }
    if start < n {
        f(start..n);
    }
}

/// Replaces every element of `x` by its image.
#[inline(always)]
pub(crate) fn map_row<S: Simd>(s: S, x: &mut [f32], f: impl Fn(S::F32) -> S::F32) {
    map_vectors(
        s,
        x,
        #[inline(always)]
        |_, x| f(x),
    );
}

/// Replaces each vector of `x` by `f(its range, itself)`.
#[inline(always)]
pub(crate) fn map_vectors<S: Simd>(
    s: S,
    x: &mut [f32],
    f: impl Fn(Range<usize>, S::F32) -> S::F32,
) {
    for_each_vector(
        s,
        x.len(),
        #[inline(always)]
        |at| f(at.clone(), s.load_or(&x[at.clone()], 0.0)).store_prefix(&mut x[at]),
    );
}

/// Accumulators side by side, so that a sum does not wait for its last addition.
const ACCUMULATORS: usize = 4;

/// Vectors summed in f32 before the sum is added to an f64.
const BLOCK: usize = 8 * ACCUMULATORS;

/// The sum over the vectors of a row of `n` elements, `term` giving each vector's terms (and
/// neutral ones beyond the row's end).
///
/// The order depends on the level and `n` alone: blocks of 32 vectors, in each four accumulators
/// that take every fourth vector, then a tree; the blocks are added in f64. No term passes more
/// than 14 f32 additions, so the error is at most 14 u sum|term|, u = 2^-24.
#[inline(always)]
pub(crate) fn sum_vectors<S: Simd>(
    s: S,
    n: usize,
    mut term: impl FnMut(Range<usize>) -> S::F32,
) -> f64 {
    let mut total = 0.0;
    let mut start = 0;
    while start < n {
        let end = n.min(start + BLOCK * S::LANES);
        let mut sums = [s.splat(0.0); ACCUMULATORS];
        while start + ACCUMULATORS * S::LANES <= end {
            for sum in &mut sums {
                *sum = *sum + term(start..start + S::LANES);
                start += S::LANES;
            }
        }
        for sum in &mut sums {
            if start + S::LANES <= end {
                *sum = *sum + term(start..start + S::LANES);
                start += S::LANES;
            } else if start < end {
                *sum = *sum + term(start..end);
                start = end;
            }
        }
        let [a, b, c, d] = sums;
        total += f64::from(((a + c) + (b + d)).reduce_sum());
    }
    total
}

/// The largest element of `x`, ignoring NaN; minus infinity if there is none.
#[inline(always)]
pub(crate) fn max_of_row<S: Simd>(s: S, x: &[f32]) -> f32 {
    let lowest = s.splat(f32::NEG_INFINITY);
    let mut largest = [lowest; ACCUMULATORS];
    let mut groups = x.chunks_exact(ACCUMULATORS * S::LANES);
    for group in &mut groups {
        for (j, largest) in largest.iter_mut().enumerate() {
            // In this order NaN loses.
            *largest = s.load(&group[j * S::LANES..]).max(*largest);
        }
    }
    let rest = groups.remainder();
    for_each_vector(
        s,
        rest.len(),
        #[inline(always)]
        |at| largest[0] = s.load_or(&rest[at], f32::NEG_INFINITY).max(largest[0]),
    );
    let [a, b, c, d] = largest;
    a.max(b).max(c.max(d)).reduce_max()
}
