//! Softmax over the rows of a matrix: y_i = e^(x_i - m) / sum_j e^(x_j - m), m = max_j x_j.

use crate::math::exp;
use crate::rows::{map_row, max_of_row, sum_vectors};
use crate::simd::{F32s, Simd, dispatch};
use crate::{Level, MatMut};

/// Replaces every row of `x` by its softmax.
///
/// Each element is within 4 ULP + 1e-7 of the exact value. The result of a row depends on the
/// level and the row alone.
///
/// - Minus infinity marks a masked element: it gets exactly zero. A row of nothing else, which has
///   no softmax, becomes zeros.
/// - NaN or plus infinity anywhere in a row makes the whole row NaN.
///
/// ```
/// use ferrite_kernels::{Level, Matrix, softmax};
///
/// let mut x = Matrix::from_slice(1, 3, &[1.0, 1.0, f32::NEG_INFINITY]);
/// softmax(Level::current(), x.view_mut());
/// assert_eq!(x.row(0), [0.5, 0.5, 0.0]);
/// ```
pub fn softmax(level: Level, mut x: MatMut<'_>) {
    dispatch!(level, s => {
        for row in 0..x.rows() {
            softmax_row(s, x.row_mut(row));
        }
    })
}

/// Replaces every row of `x` by the logarithm of its softmax, x_i - m - ln sum_j e^(x_j - m).
///
/// The error is at most 2 ULP of the largest of |x_i - m|, the logarithm and 1. Masked elements
/// (minus infinity) stay minus infinity, and so does a row of nothing else; NaN or plus infinity
/// anywhere in a row makes the whole row NaN.
pub fn log_softmax(level: Level, mut x: MatMut<'_>) {
    dispatch!(level, s => {
        for row in 0..x.rows() {
            log_softmax_row(s, x.row_mut(row));
        }
    })
}

/// What is subtracted from a row: its maximum, or zero if all of it is masked, since the
/// difference of two infinities would be NaN.
#[inline(always)]
fn offset<S: Simd>(s: S, row: &[f32]) -> f32 {
    match max_of_row(s, row) {
        f32::NEG_INFINITY => 0.0,
        max => max,
    }
}

/// Softmax of one row in place; see [`softmax`].
#[inline(always)]
pub(crate) fn softmax_row<S: Simd>(s: S, row: &mut [f32]) {
    let offset = s.splat(offset(s, row));
    let sum = sum_vectors(
        s,
        row.len(),
        #[inline(always)]
        |at| {
            let y = exp(s, s.load_or(&row[at.clone()], f32::NEG_INFINITY) - offset);
            y.store_prefix(&mut row[at]);
            y
        },
    );
    // Only a fully masked row sums to zero: else the maximum contributes one.
    let scale = if sum == 0.0 { 0.0 } else { (1.0 / sum) as f32 };
    let scale = s.splat(scale);
    map_row(
        s,
        row,
        #[inline(always)]
        |y| y * scale,
    );
}

/// Logarithm of the softmax of one row in place; see [`log_softmax`].
#[inline(always)]
pub(crate) fn log_softmax_row<S: Simd>(s: S, row: &mut [f32]) {
    let offset = s.splat(offset(s, row));
    let sum = sum_vectors(
        s,
        row.len(),
        #[inline(always)]
        |at| exp(s, s.load_or(&row[at], f32::NEG_INFINITY) - offset),
    );
    // A fully masked row sums to zero and keeps its minus infinities, whatever is subtracted.
    let log = if sum == 0.0 { 0.0 } else { sum.ln() as f32 };
    let log = s.splat(log);
    map_row(
        s,
        row,
        #[inline(always)]
        |x| x - offset - log,
    );
}

#[cfg(test)]
mod tests;
