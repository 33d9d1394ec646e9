//! The heads of one sequence, for one thread.

use std::ops::Range;

use bytemuck::{cast_slice, cast_slice_mut};

use super::Attention;
use crate::gemm::form::Form;
use crate::gemm::kernel::Kernel;
use crate::gemm::multiply::multiply;
use crate::gemm::panels::{Layout, Panels};
use crate::matrix::{Mat, MatMut};
use crate::rows::for_each_vector;
use crate::simd::{F32s, Simd};
use crate::softmax::softmax_row;

/// Query rows whose scores are computed at once: with 512 keys, 128 KB.
pub(super) const QUERY_BLOCK: usize = 64;

/// Floats of a cache line.
const LINE: usize = 16;

/// The heads of one sequence, and the memory to work in. The kernel multiplies floats, or pairs of
/// bfloat16: in both a group of the right operand is four bytes.
pub(super) struct Heads<'a, K> {
    kernel: K,
    of: Attention<'a>,
    queries: Range<usize>,
    keys: Range<usize>,
    k_layout: Layout,
    v_layout: Layout,
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
        let (d_k, d_v) = (of.q.cols() / of.heads, of.v.cols() / of.heads);
        let [packed_k, packed_v, scores, _] = sizes::<K>(&of, keys.len());
        let (packed_k, rest) = scratch.split_at_mut(packed_k);
        let (packed_v, rest) = rest.split_at_mut(packed_v);
        let (scores, converted) = rest.split_at_mut(scores);
        Heads {
            kernel,
            of,
            k_layout: Layout::at(kernel, keys.len(), d_k),
            v_layout: Layout::at(kernel, d_v, keys.len()),
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
        let d_v = self.v_layout.outputs;
        self.kernel.enter(
            #[inline(always)]
            || {
                for head in heads.clone() {
                    self.pack_k(head);
                    self.pack_v(head);
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
        let (s, layout) = (self.kernel.lanes(), self.k_layout);
        let d_k = layout.inputs;
        let scale = (1.0 / (d_k as f64).sqrt()) as f32;
        for key in 0..layout.outputs {
            let row = &self.of.k.row(self.keys.start + key)[head * d_k..(head + 1) * d_k];
            match K::SHAPE.form {
                Form::F32 => {
                    let groups = row.iter().map(|&x| (x * scale).to_bits());
                    layout.pack_groups(key, groups, self.packed_k);
                }
                _ => {
                    // A row at a time through the memory of the queries, which come later.
                    let bytes = K::SHAPE.row_bytes(d_k);
                    let halves: &mut [u16] = cast_slice_mut(&mut self.converted[..bytes]);
                    halves[d_k..].fill(0);
                    let factor = s.splat(scale);
                    for_each_vector(
                        s,
                        d_k,
                        #[inline(always)]
                        |at| {
                            let x = s.load_or(&row[at.clone()], 0.0) * factor;
                            x.store_bf16(&mut halves[at]);
                        },
                    );
                    let pairs: &[u32] = cast_slice(halves);
                    layout.pack_groups(key, pairs.iter().copied(), self.packed_k);
                }
            }
        }
        layout.clear_tail(self.packed_k);
    }

    #[inline(always)]
    fn pack_v(&mut self, head: usize) {
        let (s, layout) = (self.kernel.lanes(), self.v_layout);
        let (d_v, keys) = (layout.outputs, layout.inputs);
        let v = self.of.v.row_range(self.keys.clone()).col_range(head * d_v..(head + 1) * d_v);
        layout.pack_transposed(
            self.packed_v,
            #[inline(always)]
            |key, cols, out| match K::SHAPE.form {
                Form::F32 => out.copy_from_slice(cast_slice(&v.row(key)[cols])),
                _ if key >= keys => out.fill(0),
                _ => {
                    let even = &v.row(key)[cols.clone()];
                    let odd = if key + 1 < keys { &v.row(key + 1)[cols] } else { &[] };
                    let out: &mut [f32] = cast_slice_mut(out);
                    for_each_vector(
                        s,
                        even.len(),
                        #[inline(always)]
                        |at| {
                            let odd = match odd {
                                [] => s.splat(0.0),
                                odd => s.load_or(&odd[at.clone()], 0.0),
                            };
                            let pair = s.load_or(&even[at.clone()], 0.0).pair_bf16(odd);
                            pair.store_prefix(&mut out[at]);
                        },
                    );
                }
            },
        );
    }

    /// `softmax(q kᵀ)` of a block of queries, in `scores` and, if the kernel does not multiply
    /// floats, in `converted`.
    #[inline(always)]
    fn weights(&mut self, head: usize, block: Range<usize>) {
        let (s, keys, d_k) = (self.kernel.lanes(), self.keys.len(), self.k_layout.inputs);
        let rows = self.queries.start + block.start..self.queries.start + block.end;
        let q = self.of.q.row_range(rows).col_range(head * d_k..(head + 1) * d_k);
        let q = match K::SHAPE.form {
            Form::F32 => q.as_bytes(),
            _ => {
                let bytes = K::SHAPE.row_bytes(d_k);
                for row in 0..q.rows() {
                    let out = &mut self.converted[row * bytes..(row + 1) * bytes];
                    convert::<K>(s, q.row(row), out);
                }
                converted_rows::<K>(self.converted, q.rows(), bytes)
            }
        };
        let panels = Panels { layout: self.k_layout, data: cast_slice(self.packed_k) };
        let mut p = MatMut::new(self.scores, block.len(), keys, keys);
        multiply(
            self.kernel,
            q,
            panels,
            0..self.k_layout.panels(),
            p.reborrow(),
            #[inline(always)]
            |_, _, _| {},
        );
        let bytes = K::SHAPE.row_bytes(keys);
        for (row, query) in block.enumerate() {
            let visible = self.of.mask.visible(query, self.queries.len(), keys).min(keys);
            let (seen, masked) = p.row_mut(row).split_at_mut(visible);
            softmax_row(s, seen);
            masked.fill(0.0);
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
            _ => converted_rows::<K>(self.converted, rows, K::SHAPE.row_bytes(keys)),
        };
        let panels = Panels { layout: self.v_layout, data: cast_slice(self.packed_v) };
        multiply(
            self.kernel,
            p,
            panels,
            0..self.v_layout.panels(),
            out,
            #[inline(always)]
            |_, _, _| {},
        );
    }
}

/// The queries, block by block.
fn blocks(queries: usize) -> impl Iterator<Item = Range<usize>> {
    (0..queries).step_by(QUERY_BLOCK).map(move |first| first..queries.min(first + QUERY_BLOCK))
}

/// Floats of packed K, packed V, scores, and converted rows, each from a cache line on.
fn sizes<K: Kernel>(of: &Attention<'_>, keys: usize) -> [usize; 4] {
    let (d_k, d_v) = (of.q.cols() / of.heads, of.v.cols() / of.heads);
    let bytes = K::SHAPE.weight_bytes;
    let packed = |outputs, inputs| Layout::new(K::SHAPE, outputs, inputs).len() * bytes / 4;
    let converted = match K::SHAPE.form {
        Form::F32 => 0,
        _ => QUERY_BLOCK * K::SHAPE.row_bytes(d_k.max(keys)) / 4,
    };
    [packed(keys, d_k), packed(d_v, keys), QUERY_BLOCK * keys, converted]
        .map(|floats| floats.next_multiple_of(LINE))
}

/// The first rows of `converted`, as many as whole tiles have: what lies behind the last is left
/// over from other rows.
fn converted_rows<K: Kernel>(converted: &[u8], rows: usize, bytes: usize) -> Mat<'_, u8> {
    Mat::new(converted, rows.next_multiple_of(K::SHAPE.row_multiple), bytes, bytes)
}

/// A row in the kernel's form, filled up with zeros.
#[inline(always)]
fn convert<K: Kernel>(s: K::Lanes, x: &[f32], out: &mut [u8]) {
    let form = K::SHAPE.form;
    let (row, rest) = out.split_at_mut(x.len() * form.bytes());
    form.convert(s, x, row);
    rest.fill(0);
}
