//! The order in which kernels read their right operand.

use std::ops::Range;

use bytemuck::Pod;

use super::kernel::{Kernel, Shape};

/// How a matrix W of shape (outputs, inputs) is laid out for `y = x Wᵀ` by one kernel.
///
/// The columns of Wᵀ are cut into panels as wide as the kernel's tile; the last panel has as many
/// vectors as it needs, filled up with zeros. K is filled up with zeros to whole groups and cut into
/// blocks. The blocks lie one after the other, in each block its panels, in each panel its groups,
/// in each group its columns, and of each column the inputs of the group: a tile reads its operand
/// from front to back. All offsets count elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    shape: Shape,
}

impl Layout {
    pub(crate) fn new(shape: Shape, outputs: usize, inputs: usize) -> Layout {
        Layout { outputs, inputs, shape }
    }

    #[inline(always)]
    pub(crate) fn at<K: Kernel>(_: K, outputs: usize, inputs: usize) -> Layout {
        Layout { outputs, inputs, shape: K::SHAPE }
    }

    /// Outputs rounded up to whole vectors.
    fn padded(&self) -> usize {
        self.outputs.next_multiple_of(self.shape.lanes)
    }

    /// Inputs rounded up to what a tile takes at once.
    pub(crate) fn padded_inputs(&self) -> usize {
        self.inputs.next_multiple_of(self.shape.multiple)
    }

    /// Elements of the packed matrix.
    pub(crate) fn len(&self) -> usize {
        self.padded() * self.padded_inputs() * self.pieces()
    }

    /// The pieces of an element: of each panel, all of one follow all of the one before.
    pub(crate) fn pieces(&self) -> usize {
        self.shape.form.pieces()
    }

    /// The panel of a column.
    pub(crate) fn panel_of(&self, column: usize) -> usize {
        column / self.shape.width
    }

    /// How many panels there are.
    pub(crate) fn panels(&self) -> usize {
        self.padded().div_ceil(self.shape.width)
    }

    /// The first column of panel `p`.
    pub(crate) fn start(&self, p: usize) -> usize {
        p * self.shape.width
    }

    /// The columns of panel `p`, zeros included.
    pub(crate) fn width(&self, p: usize) -> usize {
        self.shape.width.min(self.padded() - self.start(p))
    }

    /// The K blocks: each its first input and its depth, in whole groups.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (inputs, depth) = (self.padded_inputs(), self.shape.depth);
        (0..inputs).step_by(depth).map(move |first| (first, depth.min(inputs - first)))
    }

    /// Where panel `p` in the block (first, depth) begins.
    pub(crate) fn offset(&self, (first, depth): (usize, usize), p: usize) -> usize {
        (first * self.padded() + self.start(p) * depth) * self.pieces()
    }

    /// Calls `f(k, offset)` for every input of output `output`, in piece `piece`.
    fn for_each_input(&self, output: usize, piece: usize, mut f: impl FnMut(usize, usize)) {
        let group = self.shape.group;
        let p = self.panel_of(output);
        let (column, width) = (output - self.start(p), self.width(p));
        for block in self.blocks() {
            let piece = piece * block.1 * width;
            let start = self.offset(block, p) + piece + column * group;
            let end = self.inputs.min(block.0 + block.1);
            for (row, first) in (block.0..end).step_by(group).enumerate() {
                let offset = start + row * width * group;
                (0..group.min(end - first)).for_each(|i| f(first + i, offset + i));
            }
        }
    }

    /// Packs row `output` of W, or a piece of it.
    pub(crate) fn pack_row<T: Pod>(
        &self,
        output: usize,
        piece: usize,
        row: &[T],
        packed: &mut [T],
    ) {
        self.for_each_input(output, piece, |k, offset| packed[offset] = row[k]);
    }

    /// Reads row `output` of W, or a piece of it, back.
    pub(crate) fn unpack_row<T: Pod>(
        &self,
        output: usize,
        piece: usize,
        packed: &[T],
        row: &mut [T],
    ) {
        self.for_each_input(output, piece, |k, offset| row[k] = packed[offset]);
    }

    /// Packs row `output` of W, given and kept group by group; `groups` has those that fill K up, too.
    #[inline(always)]
    pub(crate) fn pack_groups<G>(
        &self,
        output: usize,
        groups: impl Iterator<Item = G>,
        packed: &mut [G],
    ) {
        let p = self.panel_of(output);
        let (column, width) = (output - self.start(p), self.width(p));
        let mut groups = groups;
        for block in self.blocks() {
            let start = self.offset(block, p) / self.shape.group + column;
            let targets = packed[start..].iter_mut().step_by(width);
            let targets = targets.take(block.1 / self.shape.group);
            targets.zip(&mut groups).for_each(|(to, group)| *to = group);
        }
    }

    /// Packs the whole of Wᵀ, group by group: `fill(k, columns, out)` writes the groups that begin
    /// with input `k`, of some columns.
    #[inline(always)]
    pub(crate) fn pack_transposed<G: Pod>(
        &self,
        packed: &mut [G],
        mut fill: impl FnMut(usize, Range<usize>, &mut [G]),
    ) {
        let group = self.shape.group;
        for block in self.blocks() {
            let (first, depth) = block;
            for p in 0..self.panels() {
                let (column, width) = (self.start(p), self.width(p));
                let valid = width.min(self.outputs - column);
                let rows = packed[self.offset(block, p) / group..].chunks_exact_mut(width);
                for (row, to) in rows.take(depth / group).enumerate() {
                    fill(first + row * group, column..column + valid, &mut to[..valid]);
                    to[valid..].fill(G::zeroed());
                }
            }
        }
    }

    /// Sets the columns beyond the last output, which the tile computes and nobody reads.
    pub(crate) fn clear_tail<G: Pod>(&self, packed: &mut [G]) {
        let Some(p) = self.panels().checked_sub(1) else { return };
        let (valid, width) = (self.outputs - self.start(p), self.width(p));
        for block in self.blocks() {
            let rows = packed[self.offset(block, p) / self.shape.group..].chunks_exact_mut(width);
            let rows = rows.take(block.1 / self.shape.group);
            rows.for_each(|row| row[valid..].fill(G::zeroed()));
        }
    }
}

/// A packed right operand.
#[derive(Clone, Copy)]
pub(crate) struct Panels<'a> {
    pub(crate) layout: Layout,
    /// [`Layout::len`] elements.
    pub(crate) data: &'a [u8],
}

impl<'a> Panels<'a> {
    /// Panel `p` of a block, in bytes.
    pub(crate) fn block(&self, block: (usize, usize), p: usize) -> &'a [u8] {
        let bytes = self.layout.shape.weight_bytes;
        let start = self.layout.offset(block, p) * bytes;
        &self.data[start..start + block.1 * self.layout.width(p) * bytes * self.layout.pieces()]
    }
}
