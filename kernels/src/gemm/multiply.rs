//! The loops around the register tile, for one thread.

use std::ops::Range;

use super::kernel::Kernel;
use super::panels::Panels;
use super::tile::Tile;
use crate::matrix::{Mat, MatMut};

/// Rows that pass over a panel. Their part of one K block (128 rows of 1.5 KB) stays in the
/// second-level cache.
pub(crate) const ROW_BLOCK: usize = 128;

/// Panels whose part of the result (128 x 384 elements at AVX-512, 192 KB) stays in the second-level
/// cache from one K block to the next.
const PANEL_BLOCK: usize = 8;

/// Elements of the largest register tile of any kernel.
const MAX_TILE: usize = 32 * 32;

/// The rows of `x` times the given panels. `x` are the bytes of rows in the kernel's form, with at
/// least as many elements as the layout's padded inputs, and at least as many rows as `y` has, up to
/// the kernel's multiple. `y` has the columns of
/// the panels, is overwritten, or added to if `add` is set, and each part is handed to `finish(row, columns, part of y)` once its
/// sums are complete; columns count from the first of `panels`.
///
/// ```text
/// for each block of rows                its part of x in L2
///   for each block of panels            its part of y in L2
///     for each block of K
///       for each panel                  the panel in L2, the next one on its way
///         for each tile of rows         the sums in registers
///     finish
/// ```
#[inline(always)]
pub(crate) fn multiply<K: Kernel>(
    k: K,
    x: Mat<'_, u8>,
    w: Panels<'_>,
    panels: Range<usize>,
    add: bool,
    mut y: MatMut<'_>,
    mut finish: impl FnMut(usize, Range<usize>, &mut [f32]),
) {
    if panels.is_empty() {
        return;
    }
    let origin = w.layout.start(panels.start);
    for first_row in (0..y.rows()).step_by(ROW_BLOCK) {
        let rows = first_row..y.rows().min(first_row + ROW_BLOCK);
        for first_panel in panels.clone().step_by(PANEL_BLOCK) {
            let panels = first_panel..panels.end.min(first_panel + PANEL_BLOCK);
            let start = w.layout.start(panels.start) - origin;
            let end = y.cols().min(w.layout.start(panels.end) - origin);
            for block in w.layout.blocks() {
                for p in panels.clone() {
                    pass_over_panel(k, x, w, block, p, rows.clone(), origin, add, &mut y);
                }
            }
            for row in rows.clone() {
                let part = &mut y.row_mut(row)[start..end];
                if w.layout.inputs == 0 && !add {
                    part.fill(0.0);
                }
                finish(row, start..end, part);
            }
        }
    }
}

/// The tiles of one panel and one K block, and meanwhile the prefetch of the panel after it.
#[inline(always)]
fn pass_over_panel<K: Kernel>(
    k: K,
    x: Mat<'_, u8>,
    w: Panels<'_>,
    block: (usize, usize),
    p: usize,
    rows: Range<usize>,
    origin: usize,
    add: bool,
    y: &mut MatMut<'_>,
) {
    let (shape, (first, depth)) = (K::SHAPE, block);
    let b = w.block(block, p);
    let column = w.layout.start(p) - origin;
    let width = w.layout.width(p);
    let groups = depth / shape.group;
    let a_piece = shape.row_bytes(w.layout.inputs);
    let (first_byte, pieces) = (first * shape.form.bytes(), shape.form.pieces());
    // Once for all tiles of the panel: everything that they read and write is there.
    let read_rows = rows.start + rows.len().next_multiple_of(shape.row_multiple);
    let read_bytes = first_byte + depth * shape.form.bytes() + (pieces - 1) * a_piece;
    assert!(read_rows <= x.rows() && read_bytes <= x.cols());
    assert!(groups * shape.group == depth && width.is_multiple_of(shape.lanes));
    assert!(b.len() == depth * width * shape.weight_bytes * pieces);
    assert!(width <= shape.width && shape.rows * shape.width <= MAX_TILE);
    assert!(rows.end <= y.rows() && column < y.cols());
    // The tiles of this panel ask for the next one evenly: a burst would hold up the sums.
    let tiles = rows.len().div_ceil(shape.rows);
    let share = b.len().div_ceil(tiles);
    let mut tile = Tile {
        groups,
        a: x.as_ptr(),
        a_row_stride: x.stride(),
        b: b.as_ptr(),
        b_group_stride: width * shape.group * shape.weight_bytes,
        c: std::ptr::null_mut(),
        c_row_stride: y.stride(),
        accumulate: add || first > 0,
        ahead: b.as_ptr().wrapping_add(b.len()),
        ahead_stride: share / groups,
        a_piece,
        b_piece: b.len() / pieces,
    };
    for row in rows.clone().step_by(shape.rows) {
        let valid = shape.rows.min(rows.end - row);
        let padded = valid.next_multiple_of(shape.row_multiple);
        // (No overflow: the offset is that of an element of `x`, checked above.)
        tile.a = x.as_ptr().wrapping_add(row * x.stride() + first_byte);
        if padded == valid && column + width <= y.cols() {
            // SAFETY: the first element of the tile lies inside `y`, by the checks above.
            tile.c = unsafe { y.as_mut_ptr().add(row * y.stride() + column) };
            // SAFETY: by the checks above `x` has the tile's rows, all pieces of the block
            // included, `b` holds `groups` groups of `width` columns for each piece, and all rows
            // and columns of the tile lie inside `y`, which this thread alone holds.
            unsafe { k.tile(padded, width / shape.lanes, tile) }
        } else {
            partial_tile(k, tile, (padded, width), y, row..row + valid, column);
        }
        tile.ahead = tile.ahead.wrapping_add(share);
    }
}

/// A tile that is larger than what is left of `y`, through a buffer: `size` are its rows and
/// columns, `rows` and the columns from `column` on what there is of it. All but `c` of `tile` is set.
#[inline(never)]
fn partial_tile<K: Kernel>(
    k: K,
    tile: Tile,
    (tile_rows, width): (usize, usize),
    y: &mut MatMut<'_>,
    rows: Range<usize>,
    column: usize,
) {
    let columns = column..y.cols().min(column + width);
    let mut buffer = [0.0; MAX_TILE];
    if tile.accumulate {
        for (sums, row) in buffer.chunks_exact_mut(width).zip(rows.clone()) {
            sums[..columns.len()].copy_from_slice(&y.row(row)[columns.clone()]);
        }
    }
    assert!(tile_rows * width <= buffer.len());
    let whole = Tile { c: buffer.as_mut_ptr(), c_row_stride: width, ..tile };
    // SAFETY: the caller has checked the operands; the result lies inside `buffer`.
    unsafe { k.tile(tile_rows, width / K::SHAPE.lanes, whole) }
    for (sums, row) in buffer.chunks_exact(width).zip(rows) {
        y.row_mut(row)[columns.clone()].copy_from_slice(&sums[..columns.len()]);
    }
}
