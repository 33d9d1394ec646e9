//! Pooling: one vector for the rows of a sequence.

use crate::rows::for_each_vector;
use crate::simd::{F32s, Simd, dispatch};
use crate::{Level, Mat};

/// Rows added in f32 before their sum joins the sum of the blocks.
const BLOCK: usize = 32;

/// The mean of the rows of `x`, column by column; zeros if there are none.
///
/// A row's neighbours in the batch play no part: `x` is the rows of one sequence. Rows are added
/// one after the other in blocks of 32, then the blocks: up to 1,024 rows the error is at most 66 u
/// times the mean of |x|, u = 2^-24, and typically 2 u.
///
/// # Panics
/// If `out` is not as long as a row.
#[track_caller]
pub fn mean_rows(level: Level, x: Mat<'_>, out: &mut [f32]) {
    assert_eq!(x.cols(), out.len(), "mean_rows: lengths of a row and of the output");
    dispatch!(level, s => {
        let inverse = s.splat(1.0 / x.rows().max(1) as f32);
        for_each_vector(
            s,
            out.len(),
            #[inline(always)]
            |at| {
                let mut total = s.splat(0.0);
                let mut start = 0;
                while start < x.rows() {
                    let end = x.rows().min(start + BLOCK);
                    let mut sum = s.splat(0.0);
                    for row in start..end {
                        sum = sum + s.load_or(&x.row(row)[at.clone()], 0.0);
                    }
                    total = total + sum;
                    start = end;
                }
                (total * inverse).store_prefix(&mut out[at]);
            },
        );
    })
}

/// The maximum of the rows of `x`, column by column, exactly; zeros if there are none. NaN in a
/// column makes its result NaN.
///
/// # Panics
/// If `out` is not as long as a row.
#[track_caller]
pub fn max_rows(level: Level, x: Mat<'_>, out: &mut [f32]) {
    assert_eq!(x.cols(), out.len(), "max_rows: lengths of a row and of the output");
    if x.rows() == 0 {
        out.fill(0.0);
        return;
    }
    dispatch!(level, s => for_each_vector(
        s,
        out.len(),
        #[inline(always)]
        |at| {
            let mut max = s.load_or(&x.row(0)[at.clone()], 0.0);
            for row in 1..x.rows() {
                let y = s.load_or(&x.row(row)[at.clone()], 0.0);
                max = max_or_nan(s, max, y);
            }
            max.store_prefix(&mut out[at]);
        },
    ))
}

/// The larger; NaN if either is.
#[inline(always)]
fn max_or_nan<S: Simd>(s: S, a: S::F32, b: S::F32) -> S::F32 {
    // A comparison with NaN is false, so `larger` keeps a NaN of `a`. Where `b` is NaN or infinity
    // the sum is right, whatever `a` is.
    let larger = S::F32::select(a.lt(b), b, a);
    S::F32::select(b.lt(s.splat(f32::INFINITY)), larger, b + a.abs())
}

#[cfg(test)]
mod tests;
