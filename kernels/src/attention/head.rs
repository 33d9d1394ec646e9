//! The heads of one sequence, for one thread.

use std::ops::Range;

use bytemuck::cast_slice_mut;

use super::Attention;
use super::operands::{
    convert, converted_len, converted_rows, left, pack_inputs, pack_outputs, packed_len, product,
};
use crate::gemm::form::Form;
use crate::gemm::kernel::Kernel;
use crate::matrix::{Mat, MatMut};
use crate::softmax::softmax_row;

/// Query rows whose scores are computed at once: with 512 keys, 128 KB.
pub(super) const QUERY_BLOCK: usize = 64;

/// Floats of a cache line.
pub(super) const LINE: usize = 16;

/// The heads of one sequence, and the memory to work in.
pub(super) struct Heads<'a, K> {
    kernel: K,
    of: Attention<'a>,
    queries: Range<usize>,
    keys: Range<usize>,
    /// K of a head, each element divided by √d_k, as the right operand of `Q Kᵀ`.
    packed_k: &'a mut [u32],
    /// V of a head, as the right operand of what softmax makes of the scores.
    packed_v: &'a mut [u32],
    /// A block of scores, and then of weights.
    scores: &'a mut [f32],
    /// A block of queries, and then of weights, in the kernel's form if that is not floats.
    converted: &'a mut [u8],
}

impl<'a, K: Kernel> Heads<'a, K> {
    /// Floats that [`Heads::new`] needs for any sequence of `of`.
    pub(super) fn scratch_len(_: K, of: &Attention<'_>) -> usize {
        sizes::<K>(of, of.keys.longest()).into_iter().sum()
    }

    pub(super) fn new(
        kernel: K,
        of: Attention<'a>,
        sequence: usize,
        scratch: &'a mut [f32],
    ) -> Heads<'a, K> {
        let (queries, keys) = (of.queries.range(sequence), of.keys.range(sequence));
        let [packed_k, packed_v, scores, _] = sizes::<K>(&of, keys.len());
        let (packed_k, rest) = scratch.split_at_mut(packed_k);
        let (packed_v, rest) = rest.split_at_mut(packed_v);
        let (scores, converted) = rest.split_at_mut(scores);
        Heads {
            kernel,
            of,
            queries,
            keys,
            packed_k: cast_slice_mut(packed_k),
            packed_v: cast_slice_mut(packed_v),
            scores,
            converted: cast_slice_mut(converted),
        }
    }

    /// The context of some heads: `out` has the rows of the sequence and the columns of these heads.
    pub(super) fn run(mut self, heads: Range<usize>, mut out: MatMut<'_>) {
        let d_v = self.of.d_v();
        self.kernel.enter(
            #[inline(always)]
            || {
                for head in heads.clone() {
                    self.pack_k(head);
                    let v = self.of.head_of(self.of.v, &self.keys, head);
                    pack_inputs(self.kernel, v, self.packed_v);
                    for block in blocks(self.queries.len()) {
                        self.weights(head, block.clone());
                        let cols = (head - heads.start) * d_v..(head + 1 - heads.start) * d_v;
                        self.context(out.reborrow().row_range(block).col_range(cols));
                    }
                }
            },
        );
    }

    /// The weights of one head, (queries, keys), as they are multiplied with the values.
    pub(super) fn map(mut self, head: usize, out: &mut MatMut<'_>) {
        self.kernel.enter(
            #[inline(always)]
            || {
                self.pack_k(head);
                for block in blocks(self.queries.len()) {
                    self.weights(head, block.clone());
                    for (row, p) in block.zip(self.scores.chunks_exact(self.keys.len().max(1))) {
                        let p = p.iter().map(|&p| match K::SHAPE.form {
                            Form::Bf16 => half::bf16::from_f32(p).to_f32(),
                            _ => p,
                        });
                        out.row_mut(row).iter_mut().zip(p).for_each(|(out, p)| *out = p);
                    }
                }
            },
        );
    }

    #[inline(always)]
    fn pack_k(&mut self, head: usize) {
        let k = self.of.head_of(self.of.k, &self.keys, head);
        // A row at a time through the memory of the queries, which come later.
        pack_outputs(self.kernel, k, self.of.scale(), self.converted, self.packed_k);
    }

    /// `softmax(q kᵀ)` of a block of queries, in `scores` and, if the kernel does not multiply
    /// floats, in `converted`; what is dropped out is zero.
    #[inline(always)]
    fn weights(&mut self, head: usize, block: Range<usize>) {
        let (s, keys) = (self.kernel.lanes(), self.keys.len());
        let rows = self.queries.start + block.start..self.queries.start + block.end;
        let q = self.of.head_of(self.of.q, &rows, head);
        let mut p = MatMut::new(self.scores, block.len(), keys, keys);
        let x = left(self.kernel, q, self.converted);
        product(self.kernel, x, self.packed_k, q.cols(), false, p.reborrow());
        let bytes = K::SHAPE.row_bytes(keys);
        for (row, query) in block.enumerate() {
            let visible = self.of.mask.visible(query, self.queries.len(), keys).min(keys);
            let (seen, masked) = p.row_mut(row).split_at_mut(visible);
            softmax_row(s, seen);
            masked.fill(0.0);
            if let Some(dropout) = self.of.dropout {
                let place = self.of.dropout_row(self.queries.start + query, head);
                dropout.apply_row(s, place, seen);
            }
            if K::SHAPE.form != Form::F32 {
                let out = &mut self.converted[row * bytes..(row + 1) * bytes];
                convert::<K>(s, p.row(row), out);
            }
        }
    }

    /// The weights times the values.
    #[inline(always)]
    fn context(&self, out: MatMut<'_>) {
        let (rows, keys) = (out.rows(), self.keys.len());
        let p = match K::SHAPE.form {
            Form::F32 => Mat::new(self.scores, rows, keys, keys).as_bytes(),
            _ => converted_rows::<K>(self.converted, rows, keys),
        };
        product(self.kernel, p, self.packed_v, keys, false, out);
    }
}

/// The queries, block by block.
pub(super) fn blocks(queries: usize) -> impl Iterator<Item = Range<usize>> {
    (0..queries).step_by(QUERY_BLOCK).map(move |first| first..queries.min(first + QUERY_BLOCK))
}

/// Floats of packed K, packed V, scores, and converted rows, each from a cache line on.
fn sizes<K: Kernel>(of: &Attention<'_>, keys: usize) -> [usize; 4] {
    let (d_k, d_v) = (of.d_k(), of.d_v());
    let converted = converted_len::<K>(QUERY_BLOCK, d_k.max(keys));
    [packed_len::<K>(keys, d_k), packed_len::<K>(d_v, keys), QUERY_BLOCK * keys, converted]
        .map(|floats| floats.next_multiple_of(LINE))
}
