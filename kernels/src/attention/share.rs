//! How threads share the sequences and heads of attention.

use std::ops::Range;

use super::backward::Gradients;
use super::{Attention, AttentionScratch, PIECES_PER_THREAD, WORTH_A_THREAD};
use crate::matrix::MatMut;
use crate::parallel::{join, worthwhile};

/// What a part of the work writes.
pub(super) trait Targets: Sized + Send {
    /// Cuts off the rows of the first sequences: so many of queries and of keys.
    fn split_rows(self, queries: usize, keys: usize) -> (Self, Self);

    /// Cuts off the columns of the first heads: so many of queries and keys, and of values.
    fn split_heads(self, d_k: usize, d_v: usize) -> (Self, Self);
}

/// The context.
impl Targets for MatMut<'_> {
    fn split_rows(self, queries: usize, _: usize) -> (Self, Self) {
        MatMut::split_rows(self, queries)
    }

    fn split_heads(self, _: usize, d_v: usize) -> (Self, Self) {
        self.split_cols(d_v)
    }
}

impl Targets for Gradients<'_> {
    fn split_rows(self, queries: usize, keys: usize) -> (Self, Self) {
        let (q, k, v) =
            (self.q.split_rows(queries), self.k.split_rows(keys), self.v.split_rows(keys));
        (Gradients { q: q.0, k: k.0, v: v.0 }, Gradients { q: q.1, k: k.1, v: v.1 })
    }

    fn split_heads(self, d_k: usize, d_v: usize) -> (Self, Self) {
        let (q, k, v) = (self.q.split_cols(d_k), self.k.split_cols(d_k), self.v.split_cols(d_v));
        (Gradients { q: q.0, k: k.0, v: v.0 }, Gradients { q: q.1, k: k.1, v: v.1 })
    }
}

/// A part of the work: some sequences, some heads, and the rows and columns of the result that are
/// theirs.
pub(super) struct Part<'a, T> {
    of: Attention<'a>,
    sequences: Range<usize>,
    heads: Range<usize>,
    targets: T,
}

impl Attention<'_> {
    /// Runs all of the work in parts; each has `floats` floats to work in.
    pub(super) fn share<T: Targets>(
        &self,
        scratch: &mut AttentionScratch,
        floats: usize,
        targets: T,
        run: &(impl Fn(Part<'_, T>, &mut [f32]) + Sync),
    ) {
        let pieces = self.pieces();
        scratch.pieces.resize(pieces, floats);
        let (sequences, heads) = (0..self.queries.len(), 0..self.heads);
        let all = Part { of: *self, sequences, heads, targets };
        all.share(pieces, scratch.pieces.view_mut(), run);
    }

    /// The parts that the work is cut into.
    pub(super) fn pieces(&self) -> usize {
        let work: usize = (0..self.queries.len()).map(|sequence| self.work(sequence)).sum();
        pieces(work, self.queries.len() * self.heads)
    }
}

/// The parts that so many multiply-adds are cut into, at most `most`, and one at least.
pub(super) fn pieces(work: usize, most: usize) -> usize {
    let pieces = match worthwhile(work, WORTH_A_THREAD) {
        1 => 1,
        threads => threads * PIECES_PER_THREAD,
    };
    pieces.min(most).max(1)
}

impl<T: Targets> Part<'_, T> {
    /// Halves the part, by sequences first and by heads then, until there are `pieces`. `scratch`
    /// has a row for each.
    fn share(
        self,
        pieces: usize,
        mut scratch: MatMut<'_>,
        run: &(impl Fn(Part<'_, T>, &mut [f32]) + Sync),
    ) {
        if pieces <= 1 || (self.sequences.len() <= 1 && self.heads.len() <= 1) {
            return run(self, scratch.row_mut(0));
        }
        let Part { of, sequences, heads, targets } = self;
        let half = pieces / 2;
        let (first_scratch, second_scratch) = scratch.split_rows(half);
        let (first, second);
        if sequences.len() > 1 {
            let middle = of.middle(&sequences, half, pieces);
            let before = |segments: &crate::Segments| {
                segments.range(middle).start - segments.range(sequences.start).start
            };
            let targets = targets.split_rows(before(of.queries), before(of.keys));
            let (front, back) = (sequences.start..middle, middle..sequences.end);
            first = Part { of, sequences: front, heads: heads.clone(), targets: targets.0 };
            second = Part { of, sequences: back, heads, targets: targets.1 };
        } else {
            let count = (heads.len() * half / pieces).max(1);
            let middle = heads.start + count;
            let targets = targets.split_heads(count * of.d_k(), count * of.d_v());
            let (front, back) = (heads.start..middle, middle..heads.end);
            first = Part { of, sequences: sequences.clone(), heads: front, targets: targets.0 };
            second = Part { of, sequences, heads: back, targets: targets.1 };
        }
        join(
            || first.share(half, first_scratch, run),
            || second.share(pieces - half, second_scratch, run),
        );
    }

    /// Calls `f(sequence, heads, its rows)` for each sequence.
    pub(super) fn for_each_sequence(self, mut f: impl FnMut(usize, Range<usize>, T)) {
        let Part { of, sequences, heads, targets } = self;
        let mut rest = targets;
        for sequence in sequences {
            let (queries, keys) = (of.queries.range(sequence).len(), of.keys.range(sequence).len());
            let (own, others) = rest.split_rows(queries, keys);
            f(sequence, heads.clone(), own);
            rest = others;
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
