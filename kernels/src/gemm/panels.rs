//! The order in which the register tile reads its right operand.

use crate::level::Level;
use crate::matrix::Mat;
use crate::simd::{Simd, dispatch};

/// How many products are summed in one chain before the sum is added to the result.
///
/// It is part of the definition of the result, the same at every level, for every shape and on
/// every path: `((chain over k in 0..DEPTH) + (chain over DEPTH..2 DEPTH)) + ...`. Deep blocks load
/// and store each sum less often; 384 divides the sizes of BERTs, a panel (72 KB at AVX-512), the
/// next one and their rows of x and y stay in the second-level cache, and short chains lose less to
/// rounding than one long chain does. Measured on Zen 5: 128 deep reached 88 %, 384 deep 92 % of
/// the multiply-add peak.
pub(crate) const DEPTH: usize = 384;

/// How a matrix W of shape (outputs, inputs) is laid out for `y = x Wᵀ` at one level.
///
/// The columns of Wᵀ are cut into panels as wide as the register tile; the last panel has as many
/// vectors as it needs, filled up with zeros. K is cut into blocks of [`DEPTH`]. The blocks lie
/// one after the other, in each block its panels, in each panel its rows: a tile reads its operand
/// from front to back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    lanes: usize,
    /// Columns of a full panel.
    width: usize,
}

impl Layout {
    pub(crate) fn new(level: Level, outputs: usize, inputs: usize) -> Layout {
        dispatch!(level, s => Layout::at(s, outputs, inputs))
    }

    #[inline(always)]
    pub(crate) fn at<S: Simd>(_: S, outputs: usize, inputs: usize) -> Layout {
        Layout { outputs, inputs, lanes: S::LANES, width: S::LANES * S::TILE_VECTORS }
    }

    /// Outputs rounded up to whole vectors.
    fn padded(&self) -> usize {
        self.outputs.next_multiple_of(self.lanes)
    }

    /// Elements of the packed matrix.
    pub(crate) fn len(&self) -> usize {
        self.padded() * self.inputs
    }

    /// How many panels there are.
    pub(crate) fn panels(&self) -> usize {
        self.padded().div_ceil(self.width)
    }

    /// The first column of panel `p`.
    pub(crate) fn start(&self, p: usize) -> usize {
        p * self.width
    }

    /// The columns of panel `p`, zeros included.
    pub(crate) fn width(&self, p: usize) -> usize {
        self.width.min(self.padded() - self.start(p))
    }

    /// The K blocks: each its first `k` and its depth.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let inputs = self.inputs;
        (0..inputs).step_by(DEPTH).map(move |first| (first, DEPTH.min(inputs - first)))
    }

    /// Where the rows of panel `p` in the block (first, depth) begin.
    pub(crate) fn offset(&self, (first, depth): (usize, usize), p: usize) -> usize {
        first * self.padded() + self.start(p) * depth
    }

    /// Packs row `output` of W, each element times `scale`.
    pub(crate) fn pack_row(&self, output: usize, row: &[f32], scale: f32, packed: &mut [f32]) {
        let p = output / self.width;
        let (column, width) = (output - self.start(p), self.width(p));
        for block in self.blocks() {
            let (first, depth) = block;
            let start = self.offset(block, p) + column;
            let targets = packed[start..].iter_mut().step_by(width);
            targets.zip(&row[first..first + depth]).for_each(|(to, &from)| *to = from * scale);
        }
    }

    /// Packs the whole of Wᵀ, of shape (inputs, outputs).
    pub(crate) fn pack_transposed(&self, transposed: Mat<'_>, packed: &mut [f32]) {
        for block in self.blocks() {
            let (first, depth) = block;
            for p in 0..self.panels() {
                let (column, width) = (self.start(p), self.width(p));
                let valid = width.min(self.outputs - column);
                let rows = packed[self.offset(block, p)..].chunks_exact_mut(width);
                for (k, to) in rows.take(depth).enumerate() {
                    let from = &transposed.row(first + k)[column..column + valid];
                    to[..valid].copy_from_slice(from);
                    to[valid..].fill(0.0);
                }
            }
        }
    }

    /// Sets the columns beyond the last output, which the tile computes and nobody reads.
    pub(crate) fn clear_tail(&self, packed: &mut [f32]) {
        let Some(p) = self.panels().checked_sub(1) else { return };
        let (valid, width) = (self.outputs - self.start(p), self.width(p));
        for block in self.blocks() {
            let rows = packed[self.offset(block, p)..].chunks_exact_mut(width);
            rows.take(block.1).for_each(|row| row[valid..].fill(0.0));
        }
    }
}

/// A packed right operand.
#[derive(Clone, Copy)]
pub(crate) struct Panels<'a> {
    pub(crate) layout: Layout,
    pub(crate) data: &'a [f32],
}

impl<'a> Panels<'a> {
    /// Panel `p` of a block: `depth` rows of the panel's width.
    pub(crate) fn block(&self, block: (usize, usize), p: usize) -> &'a [f32] {
        let start = self.layout.offset(block, p);
        &self.data[start..start + block.1 * self.layout.width(p)]
    }
}
