//! Scaled dot-product attention over packed sequences.
//!
//! `softmax(Q Kᵀ / √d_k) V` (Attention Is All You Need, section 3.2.1), for every sequence and
//! every head. With K as a weight of shape (keys, d_k) and Vᵀ as one of shape (d_k, keys) both
//! products are the matrix product of [`crate::gemm`]; between them, a block of score rows goes
//! through softmax. At the lengths of BERT a block of whole rows fits the second-level cache, so
//! nothing is gained by the streaming form of softmax, and no score reaches memory.

mod head;

use std::ops::Range;

use self::head::Heads;
use crate::gemm::Unit;
use crate::gemm::kernel::with_kernel;
use crate::matrix::{Mat, MatMut, Matrix, Segments};
use crate::parallel::{join, worthwhile};
use crate::precision::Arithmetic;

/// Below this many multiply-adds a second thread costs more than it brings.
const WORTH_A_THREAD: usize = 256 * 1024;

/// Pieces per thread, so that a thread that was held up does not hold up all.
const PIECES_PER_THREAD: usize = 4;

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mask {
    /// All keys of its sequence.
    #[default]
    Full,
    /// With n queries and m keys, query i sees keys 0 to i + (m - n): the last query sees all
    /// keys. A query that sees no key gets zeros.
    Causal,
}

impl Mask {
    /// How many keys, from the first on, query `query` of `queries` sees.
    fn visible(self, query: usize, queries: usize, keys: usize) -> usize {
        match self {
            Mask::Full => keys,
            Mask::Causal => (keys + query + 1).saturating_sub(queries),
        }
    }
}

/// The operands of attention. All heads lie side by side in the columns.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// The queries, of shape (query rows, heads * d_k).
    pub q: Mat<'a>,
    /// The keys, of shape (key rows, heads * d_k).
    pub k: Mat<'a>,
    /// The values, of shape (key rows, heads * d_v).
    pub v: Mat<'a>,
    /// The number of heads.
    pub heads: usize,
    /// The sequences of the query rows.
    pub queries: &'a Segments,
    /// The sequences of the key rows: those of the queries for self-attention, the encoder's for
    /// cross-attention.
    pub keys: &'a Segments,
    /// Which keys a query sees.
    pub mask: Mask,
}

/// The memory attention works in. Made once, reused, it grows to what the longest sequence needs.
#[derive(Clone, Debug, Default)]
pub struct AttentionScratch {
    /// One row for each piece of work that may run at the same time.
    pieces: Matrix<f32>,
}

impl Attention<'_> {
    /// Writes the context of all queries to `out`, of shape (query rows, heads * d_v): overwritten,
    /// never read. Runs on the current rayon pool; the result's bits depend on the level and, for
    /// each sequence, on its own rows alone.
    ///
    /// Scores and context are matrix products with the error of [`crate::matmul`] (for the scores
    /// gamma of d_k + 2, since the keys are scaled first), softmax has the error of
    /// [`crate::softmax`]. Masked keys weigh zero; a masked *value* that is not
    /// finite may still reach the queries next to it.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn run(
        self,
        arithmetic: impl Into<Arithmetic>,
        scratch: &mut AttentionScratch,
        out: MatMut<'_>,
    ) {
        let unit = attention_unit(arithmetic.into());
        self.check();
        assert_eq!(out.shape(), (self.q.rows(), self.v.cols()), "shape of the context");
        if self.heads == 0 || self.queries.is_empty() {
            return;
        }
        let work: usize = (0..self.queries.len()).map(|sequence| self.work(sequence)).sum();
        let pieces = match worthwhile(work, WORTH_A_THREAD) {
            1 => 1,
            threads => threads * PIECES_PER_THREAD,
        };
        let pieces = pieces.min(self.queries.len() * self.heads).max(1);
        let floats = with_kernel!(unit, k => Heads::scratch_len(k, &self));
        scratch.pieces.resize(pieces, floats);
        let part = Part { of: self, unit, sequences: 0..self.queries.len(), heads: 0..self.heads };
        part.share(pieces, scratch.pieces.view_mut(), out);
    }

    /// Writes the attention map of one head in one sequence to `out`, of shape (queries, keys of
    /// the sequence): the same bits that [`Attention::run`] weighs the values with.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn map(
        self,
        arithmetic: impl Into<Arithmetic>,
        sequence: usize,
        head: usize,
        scratch: &mut AttentionScratch,
        mut out: MatMut<'_>,
    ) {
        let unit = attention_unit(arithmetic.into());
        self.check();
        let (queries, keys) = (self.queries.range(sequence), self.keys.range(sequence));
        assert_eq!(out.shape(), (queries.len(), keys.len()), "shape of an attention map");
        assert!(head < self.heads, "head {head} of {}", self.heads);
        scratch.pieces.resize(1, with_kernel!(unit, k => Heads::scratch_len(k, &self)));
        let scratch = scratch.pieces.as_mut_slice();
        with_kernel!(unit, k => Heads::new(k, self, sequence, scratch).map(head, &mut out));
    }

    #[track_caller]
    fn check(&self) {
        let Attention { q, k, v, heads, queries, keys, .. } = *self;
        assert_eq!(q.cols(), k.cols(), "columns of the queries and of the keys");
        assert_eq!(k.rows(), v.rows(), "rows of the keys and of the values");
        assert_eq!(queries.total(), q.rows(), "rows of the queries and of their sequences");
        assert_eq!(keys.total(), k.rows(), "rows of the keys and of their sequences");
        assert_eq!(queries.len(), keys.len(), "sequences of queries and of keys");
        let divides = |cols: usize| cols.is_multiple_of(heads);
        assert!(
            divides(q.cols()) && divides(v.cols()),
            "{heads} heads share {} columns of queries and {} of values",
            q.cols(),
            v.cols()
        );
    }

    /// Multiply-adds of one sequence, all heads.
    fn work(&self, sequence: usize) -> usize {
        let (queries, keys) = (self.queries.range(sequence).len(), self.keys.range(sequence).len());
        queries * keys * (self.q.cols() + self.v.cols())
    }
}

fn attention_unit(arithmetic: Arithmetic) -> Unit {
    Unit::for_attention(arithmetic.level(), arithmetic.precision())
}

/// A part of the work: some sequences, some heads.
struct Part<'a> {
    of: Attention<'a>,
    unit: Unit,
    sequences: Range<usize>,
    heads: Range<usize>,
}

impl Part<'_> {
    /// Halves the part, by sequences first and by heads then, until there are `pieces`. `scratch`
    /// has a row for each; `out` has the rows of these sequences and the columns of these heads.
    fn share(self, pieces: usize, scratch: MatMut<'_>, out: MatMut<'_>) {
        let Part { of, unit, sequences, heads } = self;
        if pieces <= 1 || (sequences.len() <= 1 && heads.len() <= 1) {
            return Part { of, unit, sequences, heads }.run(scratch, out);
        }
        let half = pieces / 2;
        let (first_scratch, second_scratch) = scratch.split_rows(half);
        let (first, second, first_out, second_out);
        if sequences.len() > 1 {
            let middle = self.of.middle(&sequences, half, pieces);
            let rows = of.queries.range(middle).start - of.queries.range(sequences.start).start;
            (first_out, second_out) = out.split_rows(rows);
            first = Part { of, unit, sequences: sequences.start..middle, heads: heads.clone() };
            second = Part { of, unit, sequences: middle..sequences.end, heads };
        } else {
            let middle = heads.start + (heads.len() * half / pieces).max(1);
            let d_v = of.v.cols() / of.heads;
            (first_out, second_out) = out.split_cols((middle - heads.start) * d_v);
            first = Part { of, unit, sequences: sequences.clone(), heads: heads.start..middle };
            second = Part { of, unit, sequences, heads: middle..heads.end };
        }
        join(
            || first.share(half, first_scratch, first_out),
            || second.share(pieces - half, second_scratch, second_out),
        );
    }

    fn run(self, mut scratch: MatMut<'_>, out: MatMut<'_>) {
        let Part { of, unit, sequences, heads } = self;
        let scratch = scratch.row_mut(0);
        let first_row = of.queries.range(sequences.start).start;
        let mut out = out;
        for sequence in sequences {
            let rows = of.queries.range(sequence);
            let rows = rows.start - first_row..rows.end - first_row;
            let out = out.reborrow().row_range(rows);
            with_kernel!(unit, k => Heads::new(k, of, sequence, scratch).run(heads.clone(), out));
        }
    }
}

impl Attention<'_> {
    /// Where to cut `sequences`, so that about `half` of `pieces` parts of the work come first and
    /// neither part is empty.
    fn middle(&self, sequences: &Range<usize>, half: usize, pieces: usize) -> usize {
        let all: usize = sequences.clone().map(|sequence| self.work(sequence)).sum();
        let mut done = 0;
        let mut middle = sequences.start;
        while middle < sequences.end - 1
            && (middle == sequences.start || done * pieces < all * half)
        {
            done += self.work(middle);
            middle += 1;
        }
        middle
    }
}

#[cfg(test)]
mod tests;
