//! f32 as the sum of three bfloat16.
//!
//! Three times eight bits hold the 24 of a float: `x = p0 + p1 + p2` exactly, each piece the
//! nearest bfloat16 to what is left. Of the nine products of two such sums six are computed; the
//! other three are below 2^-24 of the largest (Henry, Tang, Heinecke 2019, "Leveraging the bfloat16
//! Artificial Intelligence Datatype For Higher-Precision Computations").
//!
//! The tile unit takes subnormal numbers for zero, and pieces of a huge number may overflow. So it
//! serves ordinary numbers alone: zero, and magnitudes in [2^-100, 2^60), whose pieces are normal
//! and whose products stay finite. A weight matrix that has others is multiplied by multiply-adds
//! altogether; a row of x that has others (an infinity, a NaN, a number close to either end of the
//! range) by itself, [`multiply_row`].

use std::ops::Range;

use super::bodies::Fma;
use super::kernel::{ByLanes, Kernel};
use super::panels::Panels;
use super::tile::Tile;
use crate::rows::for_each_vector;
use crate::simd::{F32s, Simd};

/// The magnitudes, other than zero, that the tile unit may multiply: from the first up to below the
/// second.
const ORDINARY: (f32, f32) = (f32::from_bits((127 - 100) << 23), f32::from_bits((127 + 60) << 23));

/// How many pieces there are.
pub(crate) const PIECES: usize = 3;

/// Whether all of `x` can be multiplied by pieces.
#[inline(always)]
pub(crate) fn ordinary<S: Simd>(s: S, x: &[f32]) -> bool {
    let (least, most, zero) = (s.splat(ORDINARY.0), s.splat(ORDINARY.1), s.splat(0.0));
    let one = s.splat(1.0);
    let mut ordinary = one;
    for_each_vector(
        s,
        x.len(),
        #[inline(always)]
        |at| {
            let x = s.load_or(&x[at], 0.0).abs();
            // Comparisons with NaN are false.
            let large_enough = S::F32::select(x.lt(least), zero, one);
            let is_zero = S::F32::select(zero.lt(x), zero, one);
            let small_enough = S::F32::select(x.lt(most), one, zero);
            ordinary = ordinary.min(large_enough.max(is_zero).min(small_enough));
        },
    );
    -(-ordinary).reduce_max() == 1.0
}

/// The pieces of `x`, each as long as `x`.
#[inline(always)]
pub(crate) fn split<S: Simd>(s: S, x: &[f32], pieces: [&mut [u16]; PIECES]) {
    let [p0, p1, p2] = pieces;
    let (p0, p1, p2) = (&mut p0[..x.len()], &mut p1[..x.len()], &mut p2[..x.len()]);
    for_each_vector(
        s,
        x.len(),
        #[inline(always)]
        |at| {
            let x = s.load_or(&x[at.clone()], 0.0);
            let (first, rest) = (x.round_bf16(), x - x.round_bf16());
            first.store_bf16(&mut p0[at.clone()]);
            rest.store_bf16(&mut p1[at.clone()]);
            (rest - rest.round_bf16()).store_bf16(&mut p2[at]);
        },
    );
}

/// A row of x that is not ordinary, times the panels of the columns `cols`, by multiply-adds:
/// overwrites `y`, which has these columns. The pieces of a weight are added up again, exactly.
#[inline(never)]
pub(crate) fn multiply_row<S: Simd>(
    s: S,
    x: &[f32],
    w: Panels<'_>,
    cols: Range<usize>,
    y: &mut [f32],
) {
    s.vectorize(
        #[inline(always)]
        || {
            let mut panel = Vec::new();
            let mut sums = Vec::new();
            let first = w.layout.panel_of(cols.start);
            for p in first..w.layout.panels() {
                let column = w.layout.start(p);
                if column >= cols.end {
                    break;
                }
                let width = w.layout.width(p);
                sums.clear();
                sums.resize(width, 0.0);
                for block in w.layout.blocks() {
                    let (from, depth) = block;
                    let depth = depth.min(x.len().saturating_sub(from));
                    join_pieces(w.block(block, p), block.1, width, &mut panel);
                    multiply_add(s, &x[from..from + depth], &panel, width, from > 0, &mut sums);
                }
                let valid = width.min(cols.end - column);
                let start = column - cols.start;
                y[start..start + valid].copy_from_slice(&sums[..valid]);
            }
        },
    );
}

/// The floats of a panel of pieces, row after row of `width`.
#[inline(always)]
fn join_pieces(pieces: &[u8], depth: usize, width: usize, panel: &mut Vec<f32>) {
    let pieces: &[u16] = bytemuck::cast_slice(pieces);
    let (p0, rest) = pieces.split_at(depth * width);
    let (p1, p2) = rest.split_at(depth * width);
    panel.clear();
    panel.resize(depth * width, 0.0);
    let float = |half: u16| f32::from_bits(u32::from(half) << 16);
    // Two inputs lie side by side for each column.
    for (pair, rows) in panel.chunks_exact_mut(2 * width).enumerate() {
        let (even, odd) = rows.split_at_mut(width);
        let group = pair * 2 * width..(pair + 1) * 2 * width;
        let (p0, p1, p2) = (&p0[group.clone()], &p1[group.clone()], &p2[group]);
        for column in 0..width {
            let at = 2 * column;
            even[column] = float(p0[at]) + (float(p1[at]) + float(p2[at]));
            odd[column] = float(p0[at + 1]) + (float(p1[at + 1]) + float(p2[at + 1]));
        }
    }
}

/// `sums (+)= x panel`, for one row of x.
#[inline(always)]
fn multiply_add<S: Simd>(
    s: S,
    x: &[f32],
    panel: &[f32],
    width: usize,
    accumulate: bool,
    sums: &mut [f32],
) {
    assert!(
        x.len() * width <= panel.len() && sums.len() == width && width.is_multiple_of(S::LANES)
    );
    for column in (0..width).step_by(S::LANES) {
        let tile = Tile {
            groups: x.len(),
            a: x.as_ptr().cast(),
            a_row_stride: 0,
            b: panel[column..].as_ptr().cast(),
            b_group_stride: width * size_of::<f32>(),
            c: sums[column..].as_mut_ptr(),
            c_row_stride: width,
            accumulate,
            ahead: std::ptr::null(),
            ahead_stride: 0,
            a_piece: 0,
            b_piece: 0,
        };
        // SAFETY: one row of `x`, one vector of each row of `panel` and of `sums`: all inside, by
        // the check above.
        unsafe { ByLanes(s, Fma).tile(1, 1, tile) }
    }
}
