//! Sums of columns: the gradient of a bias.

use crate::parallel::{rows_per_thread, share};
use crate::rows::for_each_vector;
use crate::simd::{F32s, Simd, dispatch};
use crate::{Level, Mat};

/// Rows that are added one after the other before their sum joins the sum of the blocks.
pub(crate) const BLOCK: usize = 64;

/// Columns that are summed together: as many sums as stay in the first-level cache.
const STRIP: usize = 1024;

/// Threads take whole cache lines of sums.
const LINE: usize = 16;

/// Adds to `sums` the sum of the rows of `x`: for y = x Wᵀ + b, `db` from `dy`.
///
/// Rows are added one after the other in blocks of 64, and then the blocks, in order, to what
/// `sums` had: with n rows the error is at most (64 + n / 64) u times the sum of the magnitudes,
/// u = 2^-24. The bits of a sum depend on the level and its column alone; threads share the columns.
///
/// # Panics
/// If `sums` is not as long as a row.
#[track_caller]
pub fn column_sums(level: Level, x: Mat<'_>, sums: &mut [f32]) {
    assert_eq!(x.cols(), sums.len(), "column_sums: lengths of a row and of the sums");
    let step = rows_per_thread(x.cols(), x.rows());
    share(sums, step, LINE, &|first, sums: &mut [f32]| {
        let x = x.col_range(first..first + sums.len());
        dispatch!(level, s => add_columns(s, x, sums))
    });
}

#[inline(always)]
fn add_columns<S: Simd>(s: S, x: Mat<'_>, sums: &mut [f32]) {
    let mut block = [0.0; STRIP];
    for (strip, sums) in sums.chunks_mut(STRIP).enumerate() {
        let columns = strip * STRIP..strip * STRIP + sums.len();
        let block = &mut block[..sums.len()];
        for start in (0..x.rows()).step_by(BLOCK) {
            block.fill(0.0);
            for row in start..x.rows().min(start + BLOCK) {
                add_row(s, block, &x.row(row)[columns.clone()]);
            }
            add_row(s, sums, block);
        }
    }
}

/// `sums += x`.
#[inline(always)]
pub(crate) fn add_row<S: Simd>(s: S, sums: &mut [f32], x: &[f32]) {
    // One length for both, so that one check of the bounds serves for both.
    let x = &x[..sums.len()];
    for_each_vector(
        s,
        x.len(),
        #[inline(always)]
        |at| {
            let sum = s.load_or(&sums[at.clone()], 0.0) + s.load_or(&x[at.clone()], 0.0);
            sum.store_prefix(&mut sums[at]);
        },
    );
}

#[cfg(test)]
mod tests;
