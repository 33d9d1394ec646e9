//! The transpose of a matrix.

use wide::f32x4;

use crate::{Mat, MatMut, share_rows};

/// The side of the blocks that are turned: four cache lines of x and of the result for each row of
/// theirs, and a block that stays in the first-level cache.
const BLOCK: usize = 64;

/// Writes the transpose of `x`: `out[j][i] = x[i][j]`, exactly. Threads share the rows of `out`.
///
/// # Panics
/// If `out` does not have the shape (columns, rows) of `x`.
#[track_caller]
pub fn transpose(x: Mat<'_>, out: MatMut<'_>) {
    let turned = (x.cols(), x.rows());
    assert_eq!(out.shape(), turned, "transpose: shapes of the output and of the turned input");
    share_rows(out, |first, out| {
        transpose_here(x.col_range(first..first + out.rows()), out);
    });
}

/// The same on this thread alone: for work that is shared out already. `out` has the shape (columns,
/// rows) of `x`.
pub(crate) fn transpose_here(x: Mat<'_>, mut out: MatMut<'_>) {
    debug_assert_eq!(out.shape(), (x.cols(), x.rows()));
    // Through a buffer, so that each row of the result is written in a run, as each row of x is
    // read: whatever the distance of the rows, their lines do not displace each other.
    let mut turned = [[0.0; BLOCK]; BLOCK];
    for col in (0..x.cols()).step_by(BLOCK) {
        let cols = col..x.cols().min(col + BLOCK);
        for row in (0..x.rows()).step_by(BLOCK) {
            let rows = row..x.rows().min(row + BLOCK);
            turn(x.row_range(rows.clone()).col_range(cols.clone()), &mut turned);
            for (line, col) in turned.iter().zip(cols.clone()) {
                out.row_mut(col)[rows.clone()].copy_from_slice(&line[..rows.len()]);
            }
        }
    }
}

/// Turns `x`, a block or the rest of one, four by four; beyond its rows `turned` gets some numbers.
fn turn(x: Mat<'_>, turned: &mut [[f32; BLOCK]; BLOCK]) {
    for row in (0..x.rows()).step_by(4) {
        let rows: [&[f32]; 4] = std::array::from_fn(|k| x.row((row + k).min(x.rows() - 1)));
        let [(a, rest), (b, _), (c, _), (d, _)] = rows.map(|row| row.as_chunks::<4>());
        let (whole, last) = turned.split_at_mut(4 * a.len());
        for (i, turned) in whole.chunks_exact_mut(4).enumerate() {
            let columns = f32x4::transpose([a[i], b[i], c[i], d[i]].map(f32x4::from));
            for (turned, column) in turned.iter_mut().zip(columns) {
                turned[row..row + 4].copy_from_slice(column.as_array());
            }
        }
        for (j, turned) in last[..rest.len()].iter_mut().enumerate() {
            let column = 4 * a.len() + j;
            turned[row..row + 4].copy_from_slice(&rows.map(|row| row[column]));
        }
    }
}

#[cfg(test)]
mod tests;
