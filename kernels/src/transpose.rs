//! The transpose of a matrix.

use wide::f32x4;

use crate::{Mat, MatMut, share_rows};

/// A cache line: the side of the tiles that are turned.
const TILE: usize = 16;

/// Columns of x that are taken through all its rows together: so many rows of the result receive
/// one cache line after the other.
const PANEL: usize = 64;

/// Writes the transpose of `x`: `out[j][i] = x[i][j]`, exactly. Threads share the rows of `out`.
///
/// # Panics
/// If `out` does not have the shape (columns, rows) of `x`.
#[track_caller]
pub fn transpose(x: Mat<'_>, out: MatMut<'_>) {
    let turned = (x.cols(), x.rows());
    assert_eq!(out.shape(), turned, "transpose: shapes of the output and of the turned input");
    share_rows(out, |first, out| {
        transpose_block(x.col_range(first..first + out.rows()), out);
    });
}

fn transpose_block(x: Mat<'_>, mut out: MatMut<'_>) {
    let mut tile = [[f32x4::ZERO; TILE / 4]; TILE];
    for panel in (0..x.cols()).step_by(PANEL) {
        let panel_end = x.cols().min(panel + PANEL);
        for row in (0..x.rows()).step_by(TILE) {
            let rows = row..x.rows().min(row + TILE);
            for col in (panel..panel_end).step_by(TILE) {
                let cols = col..panel_end.min(col + TILE);
                // Each cache line of x is read once, and each of the result written once, through
                // the tile: whatever the distance of the rows, its lines do not displace each other.
                for (tile, row) in tile.iter_mut().zip(rows.clone()) {
                    let line: &mut [f32; TILE] = bytemuck::cast_mut(tile);
                    copy_line(line, &x.row(row)[cols.clone()]);
                }
                turn(&mut tile);
                for (tile, col) in tile.iter().zip(cols) {
                    let line: &[f32; TILE] = bytemuck::cast_ref(tile);
                    let out = &mut out.row_mut(col)[rows.clone()];
                    match out.first_chunk_mut() {
                        Some(out) => *out = *line,
                        None => out.copy_from_slice(&line[..out.len()]),
                    }
                }
            }
        }
    }
}

/// The elements of `x`, at most a whole line; a whole one without a call.
#[inline]
fn copy_line(line: &mut [f32; TILE], x: &[f32]) {
    match x.first_chunk() {
        Some(x) => *line = *x,
        None => line[..x.len()].copy_from_slice(x),
    }
}

/// Transposes a tile, four by four: blocks change places with those across the diagonal.
#[inline]
fn turn(tile: &mut [[f32x4; TILE / 4]; TILE]) {
    for i in 0..TILE / 4 {
        for j in i..TILE / 4 {
            let upper = f32x4::transpose(std::array::from_fn(|k| tile[4 * i + k][j]));
            let lower = f32x4::transpose(std::array::from_fn(|k| tile[4 * j + k][i]));
            for k in 0..4 {
                tile[4 * j + k][i] = upper[k];
                tile[4 * i + k][j] = lower[k];
            }
        }
    }
}

#[cfg(test)]
mod tests;
