//! The gradient of attention, for one thread: the heads of one sequence.
//!
//! With `P = softmax(Q Kᵀ / √d_k)` and the gradient dO of `O = P V`:
//!
//! ```text
//! dV = Pᵀ dO        dP = dO Vᵀ        dS = P ∘ (dP - rowsum(P ∘ dP)) / √d_k
//! dQ = dS K         dK = dSᵀ Q
//! ```
//!
//! P is computed anew, a block of whole rows at a time, with the bits that it had in the forward
//! pass: nothing of it is kept in between. Where a row of scores fits the cache its maximum and sum
//! cost next to nothing, so not even their logarithm (the "log-sum-exp" of streaming attention) is
//! kept. With dropout, `O = D(P) V`: dV takes D(P), and dP is D of what V gives.

use std::ops::Range;

use bytemuck::cast_slice_mut;

use super::Attention;
use super::head::{LINE, QUERY_BLOCK, blocks};
use super::operands::{converted_len, left, pack_inputs, pack_outputs, packed_len, product};
use crate::gemm::kernel::Kernel;
use crate::matrix::{Mat, MatMut};
use crate::rows::{map_vectors, sum_vectors};
use crate::simd::Simd;
use crate::softmax::softmax_row;
use crate::transpose::transpose_here;

/// The gradients of some heads of some sequences, with their rows and columns alone.
pub(super) struct Gradients<'a> {
    pub(super) q: MatMut<'a>,
    pub(super) k: MatMut<'a>,
    pub(super) v: MatMut<'a>,
}

/// The heads of one sequence, and the memory to work in.
pub(super) struct BackwardHeads<'a, K> {
    kernel: K,
    of: Attention<'a>,
    queries: Range<usize>,
    keys: Range<usize>,
    /// K / √d_k, as the right operand of `Q Kᵀ`.
    scores_k: &'a mut [u32],
    /// V, as the right operand of `dO Vᵀ`.
    outputs_v: &'a mut [u32],
    /// K, as the right operand of `dS K`.
    inputs_k: &'a mut [u32],
    /// A block of Q or of dO, as the right operand of `dSᵀ Q` and `Pᵀ dO`.
    inputs_block: &'a mut [u32],
    /// A block of P, then of D(P).
    p: &'a mut [f32],
    /// A block of dP, then of dS.
    ds: &'a mut [f32],
    /// The transpose of one of them.
    turned: &'a mut [f32],
    /// A left operand in the kernel's form, if that is not floats.
    converted: &'a mut [u8],
}

impl<'a, K: Kernel> BackwardHeads<'a, K> {
    /// Floats that [`BackwardHeads::new`] needs for any sequence of `of`.
    pub(super) fn scratch_len(_: K, of: &Attention<'_>) -> usize {
        sizes::<K>(of, of.keys.longest()).into_iter().sum()
    }

    pub(super) fn new(
        kernel: K,
        of: Attention<'a>,
        sequence: usize,
        scratch: &'a mut [f32],
    ) -> Self {
        let (queries, keys) = (of.queries.range(sequence), of.keys.range(sequence));
        let mut rest = scratch;
        let [scores_k, outputs_v, inputs_k, inputs_block, p, ds, turned, converted] =
            sizes::<K>(&of, keys.len()).map(|floats| {
                let (part, others) = std::mem::take(&mut rest).split_at_mut(floats);
                rest = others;
                part
            });
        BackwardHeads {
            kernel,
            of,
            queries,
            keys,
            scores_k: cast_slice_mut(scores_k),
            outputs_v: cast_slice_mut(outputs_v),
            inputs_k: cast_slice_mut(inputs_k),
            inputs_block: cast_slice_mut(inputs_block),
            p,
            ds,
            turned,
            converted: cast_slice_mut(converted),
        }
    }

    /// The gradients of some heads; `d_out` has all rows and columns, `gradients` those of the
    /// sequence and of these heads.
    pub(super) fn run(mut self, heads: Range<usize>, d_out: Mat<'_>, gradients: Gradients<'_>) {
        let Gradients { mut q, mut k, mut v } = gradients;
        let (d_k, d_v) = (self.of.d_k(), self.of.d_v());
        if self.queries.is_empty() {
            (0..k.rows()).for_each(|row| k.row_mut(row).fill(0.0));
            (0..v.rows()).for_each(|row| v.row_mut(row).fill(0.0));
        }
        self.kernel.enter(
            #[inline(always)]
            || {
                for head in heads.clone() {
                    let place = head - heads.start;
                    let (k_cols, v_cols) =
                        (place * d_k..(place + 1) * d_k, place * d_v..(place + 1) * d_v);
                    self.pack(head);
                    for block in blocks(self.queries.len()) {
                        let first = block.start == 0;
                        self.scores(head, block.clone(), d_out);
                        self.product_of_scores(
                            q.reborrow().row_range(block.clone()).col_range(k_cols.clone()),
                        );
                        let rows = self.rows(&block);
                        let of_q = self.of.head_of(self.of.q, &rows, head);
                        self.product_of_turned(
                            false,
                            of_q,
                            !first,
                            k.reborrow().col_range(k_cols.clone()),
                        );
                        let of_o = self.of.head_of(d_out, &rows, head);
                        self.product_of_turned(
                            true,
                            of_o,
                            !first,
                            v.reborrow().col_range(v_cols.clone()),
                        );
                    }
                }
            },
        );
    }

    /// The rows of a block of queries in the whole batch.
    fn rows(&self, block: &Range<usize>) -> Range<usize> {
        self.queries.start + block.start..self.queries.start + block.end
    }

    #[inline(always)]
    fn pack(&mut self, head: usize) {
        let k = self.of.head_of(self.of.k, &self.keys, head);
        let v = self.of.head_of(self.of.v, &self.keys, head);
        pack_outputs(self.kernel, k, self.of.scale(), self.converted, self.scores_k);
        pack_outputs(self.kernel, v, 1.0, self.converted, self.outputs_v);
        pack_inputs(self.kernel, k, self.inputs_k);
    }

    /// D(P) and dS of a block of queries.
    #[inline(always)]
    fn scores(&mut self, head: usize, block: Range<usize>, d_out: Mat<'_>) {
        let (kernel, keys, rows) = (self.kernel, self.keys.len(), self.rows(&block));
        let mut p = MatMut::new(self.p, block.len(), keys, keys);
        let mut ds = MatMut::new(self.ds, block.len(), keys, keys);
        let q = self.of.head_of(self.of.q, &rows, head);
        let x = left(kernel, q, self.converted);
        product(kernel, x, self.scores_k, q.cols(), false, p.reborrow());
        let d_out = self.of.head_of(d_out, &rows, head);
        let x = left(kernel, d_out, self.converted);
        product(kernel, x, self.outputs_v, d_out.cols(), false, ds.reborrow());
        let (s, scale) = (kernel.lanes(), self.of.scale());
        for (row, query) in block.enumerate() {
            let visible = self.of.mask.visible(query, self.queries.len(), keys).min(keys);
            let (p, masked) = p.row_mut(row).split_at_mut(visible);
            softmax_row(s, p);
            masked.fill(0.0);
            let (ds, masked) = ds.row_mut(row).split_at_mut(visible);
            masked.fill(0.0);
            let place = self.of.dropout_row(self.queries.start + query, head);
            if let Some(dropout) = self.of.dropout {
                dropout.apply_row(s, place, ds);
            }
            gradient_of_scores(s, p, ds, scale);
            if let Some(dropout) = self.of.dropout {
                dropout.apply_row(s, place, p);
            }
        }
    }

    /// dQ = dS K.
    #[inline(always)]
    fn product_of_scores(&mut self, out: MatMut<'_>) {
        let keys = self.keys.len();
        let ds = Mat::new(self.ds, out.rows(), keys, keys);
        let x = left(self.kernel, ds, self.converted);
        product(self.kernel, x, self.inputs_k, keys, false, out);
    }

    /// `dV (+)= D(P)ᵀ dO`, or `dK (+)= dSᵀ Q`, where `block` are the rows of dO or of Q.
    #[inline(always)]
    fn product_of_turned(&mut self, of_p: bool, block: Mat<'_>, add: bool, out: MatMut<'_>) {
        let (rows, keys) = (block.rows(), self.keys.len());
        let of = if of_p { &*self.p } else { &*self.ds };
        let of = Mat::new(of, rows, keys, keys);
        transpose_here(of, MatMut::new(self.turned, keys, rows, rows));
        pack_inputs(self.kernel, block, self.inputs_block);
        let turned = Mat::new(self.turned, keys, rows, rows);
        let x = left(self.kernel, turned, self.converted);
        product(self.kernel, x, self.inputs_block, rows, add, out);
    }
}

/// `ds = p ∘ (ds - sum(p ∘ ds)) scale`, for a row of `ds` that is dP.
#[inline(always)]
fn gradient_of_scores<S: Simd>(s: S, p: &[f32], ds: &mut [f32], scale: f32) {
    let sum = sum_vectors(
        s,
        p.len(),
        #[inline(always)]
        |at| s.load_or(&p[at.clone()], 0.0) * s.load_or(&ds[at], 0.0),
    );
    let (mean, scale) = (s.splat(sum as f32), s.splat(scale));
    map_vectors(
        s,
        ds,
        #[inline(always)]
        |at, dp| s.load_or(&p[at], 0.0) * (dp - mean) * scale,
    );
}

/// Floats of each part of the memory, each from a cache line on.
fn sizes<K: Kernel>(of: &Attention<'_>, keys: usize) -> [usize; 8] {
    let (d_k, d_v) = (of.d_k(), of.d_v());
    let block = QUERY_BLOCK * keys;
    let rows = converted_len::<K>(QUERY_BLOCK, d_k.max(d_v).max(keys));
    let turned = converted_len::<K>(keys, QUERY_BLOCK);
    let row = converted_len::<K>(1, d_k.max(d_v));
    [
        packed_len::<K>(keys, d_k),
        packed_len::<K>(keys, d_v),
        packed_len::<K>(d_k, keys),
        packed_len::<K>(d_k.max(d_v), QUERY_BLOCK),
        block,
        block,
        block,
        rows.max(turned).max(row),
    ]
    .map(|floats| floats.next_multiple_of(LINE))
}
