//! Scaled dot-product attention over packed sequences.
//!
//! `softmax(Q Kᵀ / √d_k) V` (Attention Is All You Need, section 3.2.1), for every sequence and
//! every head. With K as a weight of shape (keys, d_k) and Vᵀ as one of shape (d_k, keys) both
//! products are the matrix product of [`crate::gemm`]; between them, a block of score rows goes
//! through softmax. At the lengths of BERT a block of whole rows fits the second-level cache, so
//! nothing is gained by the streaming form of softmax, and no score reaches memory.

mod backward;
mod head;
mod operands;
mod share;
mod step;

use std::ops::Range;

use self::backward::{BackwardHeads, Gradients};
use self::head::Heads;
pub use self::step::{StepAttention, VisibleRows};
use crate::dropout::Dropout;
use crate::gemm::Unit;
use crate::gemm::kernel::with_kernel;
use crate::matrix::{Mat, MatMut, Matrix, Segments};
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
    /// What is dropped out of the weights, in training (Attention Is All You Need, section 5.4, and
    /// BERT: after softmax). The row of a weight is `heads * query row + head`.
    pub dropout: Option<Dropout>,
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
        let floats = with_kernel!(unit, k => Heads::scratch_len(k, &self));
        self.share(scratch, floats, out, &|part, scratch| {
            part.for_each_sequence(|sequence, heads, out| {
                with_kernel!(unit, k => Heads::new(k, self, sequence, scratch).run(heads, out));
            });
        });
    }

    /// Makes room in `scratch` for what [`Attention::run`] takes of it.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn reserve(self, arithmetic: impl Into<Arithmetic>, scratch: &mut AttentionScratch) {
        let unit = attention_unit(arithmetic.into());
        self.check();
        if self.heads > 0 && !self.queries.is_empty() {
            let floats = with_kernel!(unit, k => Heads::scratch_len(k, &self));
            scratch.pieces.resize(self.pieces(), floats);
        }
    }

    /// The gradients of queries, keys and values, from that of the context: each of the shape of
    /// what it is the gradient of, overwritten, never read. The operands are those of the forward
    /// pass, the mask of dropout is drawn again. The errors are those of the products; threads and
    /// bits as in [`Attention::run`].
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn backward(
        self,
        arithmetic: impl Into<Arithmetic>,
        scratch: &mut AttentionScratch,
        d_out: Mat<'_>,
        (dq, dk, dv): (MatMut<'_>, MatMut<'_>, MatMut<'_>),
    ) {
        let unit = attention_unit(arithmetic.into());
        self.check();
        assert_eq!(
            d_out.shape(),
            (self.q.rows(), self.v.cols()),
            "shape of the context's gradient"
        );
        assert_eq!(dq.shape(), self.q.shape(), "shape of the queries' gradient");
        assert_eq!(dk.shape(), self.k.shape(), "shape of the keys' gradient");
        assert_eq!(dv.shape(), self.v.shape(), "shape of the values' gradient");
        if self.heads == 0 || self.queries.is_empty() {
            return;
        }
        let floats = with_kernel!(unit, k => BackwardHeads::scratch_len(k, &self));
        let gradients = Gradients { q: dq, k: dk, v: dv };
        self.share(scratch, floats, gradients, &|part, scratch| {
            part.for_each_sequence(|sequence, heads, gradients| {
                with_kernel!(unit, k => {
                    BackwardHeads::new(k, self, sequence, scratch).run(heads, d_out, gradients);
                });
            });
        });
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
        check_operands(q, k, v, heads);
        assert_eq!(queries.total(), q.rows(), "rows of the queries and of their sequences");
        assert_eq!(keys.total(), k.rows(), "rows of the keys and of their sequences");
        assert_eq!(queries.len(), keys.len(), "sequences of queries and of keys");
    }

    /// The columns of a head's queries and keys.
    fn d_k(&self) -> usize {
        self.q.cols() / self.heads
    }

    /// The columns of a head's values.
    fn d_v(&self) -> usize {
        self.v.cols() / self.heads
    }

    /// 1 / √d_k.
    fn scale(&self) -> f32 {
        scale(self.d_k())
    }

    /// Some rows of a head of one of the operands.
    #[inline(always)]
    fn head_of<'m>(&self, of: Mat<'m>, rows: &Range<usize>, head: usize) -> Mat<'m> {
        let width = of.cols() / self.heads;
        of.row_range(rows.clone()).col_range(head * width..(head + 1) * width)
    }

    /// The row of dropout for the weights of a query.
    fn dropout_row(&self, query_row: usize, head: usize) -> u64 {
        (query_row * self.heads + head) as u64
    }

    /// Multiply-adds of one sequence, all heads.
    fn work(&self, sequence: usize) -> usize {
        let (queries, keys) = (self.queries.range(sequence).len(), self.keys.range(sequence).len());
        queries * keys * (self.q.cols() + self.v.cols())
    }
}

/// 1 / √d_k.
fn scale(d_k: usize) -> f32 {
    (1.0 / (d_k as f64).sqrt()) as f32
}

/// Refuses queries, keys and values that do not fit each other and the heads.
#[track_caller]
fn check_operands(q: Mat<'_>, k: Mat<'_>, v: Mat<'_>, heads: usize) {
    assert_eq!(q.cols(), k.cols(), "columns of the queries and of the keys");
    assert_eq!(k.rows(), v.rows(), "rows of the keys and of the values");
    let divides = |cols: usize| cols.is_multiple_of(heads);
    assert!(
        divides(q.cols()) && divides(v.cols()),
        "{heads} heads share {} columns of queries and {} of values",
        q.cols(),
        v.cols()
    );
}

fn attention_unit(arithmetic: Arithmetic) -> Unit {
    Unit::for_attention(arithmetic.level(), arithmetic.precision())
}

#[cfg(test)]
mod tests;
