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
/// the panels, is overwritten, and each part is handed to `finish(row, columns, part of y)` once its
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
                    pass_over_panel(k, x, w, block, p, rows.clone(), origin, &mut y);
                }
            }
            for row in rows.clone() {
                let part = &mut y.row_mut(row)[start..end];
                if w.layout.inputs == 0 {
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
    y: &mut MatMut<'_>,
) {
    let (first, depth) = block;
    let b = w.block(block, p);
    let column = w.layout.start(p) - origin;
    let groups = depth / K::SHAPE.group;
    // The tiles of this panel ask for the next one evenly: a burst would hold up the sums.
    let tiles = rows.len().div_ceil(K::SHAPE.rows);
    let share = b.len().div_ceil(tiles);
    let mut ahead = b.as_ptr().wrapping_add(b.len());
    let bytes = K::SHAPE.form.bytes();
    let a_piece = K::SHAPE.row_bytes(w.layout.inputs);
    for row in rows.clone().step_by(K::SHAPE.rows) {
        let tile_rows = row..rows.end.min(row + K::SHAPE.rows);
        let padded = row..row + tile_rows.len().next_multiple_of(K::SHAPE.row_multiple);
        // Of pieces, the first: the others lie as far behind as a row of them is long.
        let last_piece = (K::SHAPE.form.pieces() - 1) * a_piece;
        let cols = first * bytes..(first + depth) * bytes + last_piece;
        let a = x.row_range(padded).col_range(cols);
        let ahead_of_tile = (ahead, share / groups);
        run_tile(k, a, a_piece, b, groups, first > 0, ahead_of_tile, y, tile_rows, column);
        ahead = ahead.wrapping_add(share);
    }
}

/// One register tile, straight into `y`, or through a buffer where it is larger than what is left of `y`.
/// `a` and `b` hold all pieces of both operands, those of a row `a_piece` bytes apart.
/// `ahead` is what to ask for meanwhile, and the step from one line of it to the next.
#[inline(always)]
fn run_tile<K: Kernel>(
    k: K,
    a: Mat<'_, u8>,
    a_piece: usize,
    b: &[u8],
    groups: usize,
    accumulate: bool,
    ahead: (*const u8, usize),
    y: &mut MatMut<'_>,
    valid_rows: Range<usize>,
    column: usize,
) {
    let shape = K::SHAPE;
    let rows = a.rows();
    let (row, b_piece) = (valid_rows.start, b.len() / shape.form.pieces());
    let group_bytes = b_piece / groups;
    let width = group_bytes / (shape.group * shape.weight_bytes);
    let vectors = width / shape.lanes;
    let last_piece = (shape.form.pieces() - 1) * a_piece;
    assert!(a.cols() == groups * shape.group * shape.form.bytes() + last_piece);
    assert!(rows <= shape.rows && rows.is_multiple_of(shape.row_multiple));
    assert!(b.len() == groups * group_bytes * shape.form.pieces());
    assert!(group_bytes == width * shape.group * shape.weight_bytes);
    assert!(width == vectors * shape.lanes && rows * width <= MAX_TILE);
    assert!(valid_rows.end <= y.rows() && column < y.cols());
    let tile = Tile {
        groups,
        a: a.as_ptr(),
        a_row_stride: a.stride(),
        b: b.as_ptr(),
        b_group_stride: group_bytes,
        c: std::ptr::null_mut(),
        c_row_stride: y.stride(),
        accumulate,
        ahead: ahead.0,
        ahead_stride: ahead.1,
        a_piece,
        b_piece,
    };
    if column + width <= y.cols() && rows == valid_rows.len() {
        // SAFETY: the tile's first element lies inside `y`, by the checks above.
        let c = unsafe { y.as_mut_ptr().add(row * y.stride() + column) };
        // SAFETY: `a` is a view of the tile's rows, `b` holds `groups` groups of `width` columns,
        // and all rows and columns of the tile lie inside `y`, which this thread alone holds.
        unsafe { k.tile(rows, vectors, Tile { c, ..tile }) }
        return;
    }
    let valid = width.min(y.cols() - column);
    let mut buffer = [0.0; MAX_TILE];
    if accumulate {
        for r in 0..valid_rows.len() {
            let sums = &y.row(row + r)[column..column + valid];
            buffer[r * width..][..valid].copy_from_slice(sums);
        }
    }
    let c = buffer.as_mut_ptr();
    // SAFETY: as above, with the whole tile inside `buffer`, whose rows are `width` apart.
    unsafe { k.tile(rows, vectors, Tile { c, c_row_stride: width, ..tile }) }
    for r in 0..valid_rows.len() {
        let sums = &buffer[r * width..][..valid];
        y.row_mut(row + r)[column..column + valid].copy_from_slice(sums);
    }
}
