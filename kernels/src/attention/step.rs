//! Attention of single queries to rows of a cache: what a step of decoding needs.
//!
//! A query sees a handful of rows, each once, so nothing is packed: scores are dot products with the
//! keys as they lie, and the context is a sum of values as they lie. Which rows a query sees is a
//! list of their numbers: hypotheses that change places move numbers, not keys.

use std::ops::Range;

use super::share::pieces;
use super::{AttentionScratch, check_operands, scale};
use crate::Level;
use crate::matrix::{Mat, MatMut, Segments};
use crate::parallel::join;
use crate::simd::{F32s, Simd, dispatch};
use crate::softmax::softmax_row;

/// Keys whose dot products are computed side by side, so that a sum does not wait for itself.
const KEYS_AT_ONCE: usize = 4;

/// Vectors of a context whose sums are in registers at once.
const VECTORS_AT_ONCE: usize = 4;

/// Which rows of a cache each query sees: lists of rows, and the list of each query. Queries may
/// share a list, as hypotheses about one sentence share its memory.
///
/// ```
/// use ferrite_kernels::VisibleRows;
///
/// let mut visible = VisibleRows::default();
/// let list = visible.push_list([3, 0, 3]);
/// visible.push_query(list);
/// visible.push_query(list);
/// assert_eq!((visible.queries(), visible.of_query(1)), (2, &[3, 0, 3][..]));
/// ```
#[derive(Clone, Debug, Default)]
pub struct VisibleRows {
    rows: Vec<u32>,
    lists: Segments,
    list_of_query: Vec<usize>,
}

impl VisibleRows {
    /// Forgets all lists and queries, keeping the memory.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.lists.clear();
        self.list_of_query.clear();
    }

    /// Adds a list, and returns its number.
    pub fn push_list(&mut self, rows: impl IntoIterator<Item = u32>) -> usize {
        let before = self.rows.len();
        self.rows.extend(rows);
        self.lists.push(self.rows.len() - before);
        self.lists.len() - 1
    }

    /// Adds a query that sees the rows of a list.
    ///
    /// # Panics
    /// If there is no such list.
    #[track_caller]
    pub fn push_query(&mut self, list: usize) {
        assert!(list < self.lists.len(), "list {list} of {}", self.lists.len());
        self.list_of_query.push(list);
    }

    /// Forgets the queries, but not the lists.
    pub fn clear_queries(&mut self) {
        self.list_of_query.clear();
    }

    /// The number of queries.
    pub fn queries(&self) -> usize {
        self.list_of_query.len()
    }

    /// The rows that a query sees.
    ///
    /// # Panics
    /// If there is no such query.
    #[track_caller]
    pub fn of_query(&self, query: usize) -> &[u32] {
        &self.rows[self.lists.range(self.list_of_query[query])]
    }
}

/// The operands of attention of single queries. All heads lie side by side in the columns.
#[derive(Clone, Copy, Debug)]
pub struct StepAttention<'a> {
    /// The queries, of shape (n, heads * d_k).
    pub q: Mat<'a>,
    /// The keys that are cached, of shape (rows, heads * d_k).
    pub k: Mat<'a>,
    /// The values that are cached, of shape (rows, heads * d_v).
    pub v: Mat<'a>,
    /// The number of heads.
    pub heads: usize,
    /// The rows that each of the n queries sees.
    pub visible: &'a VisibleRows,
}

impl StepAttention<'_> {
    /// Writes `softmax(q kᵀ / √d_k) v` of each query, over the rows that it sees, to `out`, of shape
    /// (n, heads * d_v): overwritten, never read. A query that sees no row gets zeros.
    ///
    /// All is in f32; a score is a sum of d_k products, and an element of the context one of as many
    /// as there are keys, each with the error of such a sum; softmax has that of [`crate::softmax`].
    /// Runs on the current rayon pool; the bits of a query's context depend on the level, on the
    /// query, and on the rows that it sees and their order alone.
    ///
    /// # Panics
    /// If the shapes do not fit, or a query sees a row that is not there.
    #[track_caller]
    pub fn run(self, level: Level, scratch: &mut AttentionScratch, out: MatMut<'_>) {
        self.check(out.shape());
        if self.heads == 0 || self.q.rows() == 0 {
            return;
        }
        let lists = (0..self.q.rows()).map(|query| self.visible.of_query(query).len());
        let (keys, longest) = lists.fold((0, 0), |(sum, max), n| (sum + n, n.max(max)));
        let work = keys * (self.q.cols() + self.v.cols());
        let pieces = pieces(work, self.q.rows() * self.heads);
        scratch.pieces.resize(pieces, longest);
        let all = Part { of: self, level, queries: 0..self.q.rows(), heads: 0..self.heads, out };
        all.share(pieces, scratch.pieces.view_mut());
    }

    #[track_caller]
    fn check(&self, out: (usize, usize)) {
        let StepAttention { q, k, v, heads, visible } = *self;
        check_operands(q, k, v, heads);
        assert_eq!(visible.queries(), q.rows(), "queries, and those that see something");
        assert_eq!(out, (q.rows(), v.cols()), "shape of the context");
        let last = visible.rows.iter().max();
        assert!(
            last.is_none_or(|&row| (row as usize) < k.rows()),
            "row {last:?} of a cache of {}",
            k.rows()
        );
    }
}

/// Some queries, some heads, and the rows and columns of the context that are theirs.
struct Part<'a, 'o> {
    of: StepAttention<'a>,
    level: Level,
    queries: Range<usize>,
    heads: Range<usize>,
    out: MatMut<'o>,
}

impl Part<'_, '_> {
    /// Halves the part, by queries first and by heads then, until there are `pieces`. `scratch` has a
    /// row for each.
    fn share(self, pieces: usize, mut scratch: MatMut<'_>) {
        if pieces <= 1 || (self.queries.len() <= 1 && self.heads.len() <= 1) {
            return self.run(scratch.row_mut(0));
        }
        let Part { of, level, queries, heads, out } = self;
        let half = pieces / 2;
        let (first_scratch, second_scratch) = scratch.split_rows(half);
        let cut = |of: &Range<usize>| of.start + (of.len() * half / pieces).max(1);
        let (first, second);
        if queries.len() > 1 {
            let middle = cut(&queries);
            let (top, bottom) = out.split_rows(middle - queries.start);
            let (front, back) = (queries.start..middle, middle..queries.end);
            first = Part { of, level, queries: front, heads: heads.clone(), out: top };
            second = Part { of, level, queries: back, heads, out: bottom };
        } else {
            let middle = cut(&heads);
            let d_v = of.v.cols() / of.heads;
            let (left, right) = out.split_cols((middle - heads.start) * d_v);
            let (front, back) = (heads.start..middle, middle..heads.end);
            first = Part { of, level, queries: queries.clone(), heads: front, out: left };
            second = Part { of, level, queries, heads: back, out: right };
        }
        join(|| first.share(half, first_scratch), || second.share(pieces - half, second_scratch));
    }

    fn run(mut self, scores: &mut [f32]) {
        let StepAttention { q, k, v, heads, visible } = self.of;
        let (d_k, d_v) = (q.cols() / heads, v.cols() / heads);
        let scale = scale(d_k);
        dispatch!(self.level, s => {
            for (row, query) in self.queries.clone().enumerate() {
                let rows = visible.of_query(query);
                let p = &mut scores[..rows.len()];
                for head in self.heads.clone() {
                    let (of_q, of_v) = (head * d_k..(head + 1) * d_k, head * d_v..(head + 1) * d_v);
                    let first = (head - self.heads.start) * d_v;
                    scores_of(s, &q.row(query)[of_q.clone()], k.col_range(of_q), rows, scale, p);
                    softmax_row(s, p);
                    let out = &mut self.out.row_mut(row)[first..first + d_v];
                    weighted_sum(s, p, v.col_range(of_v), rows, out);
                }
            }
        });
    }
}

/// `scores[j] = scale q · k[rows[j]]`.
#[inline(always)]
fn scores_of<S: Simd>(s: S, q: &[f32], k: Mat<'_>, rows: &[u32], scale: f32, scores: &mut [f32]) {
    let mut groups = rows.chunks_exact(KEYS_AT_ONCE);
    let mut outs = scores.chunks_exact_mut(KEYS_AT_ONCE);
    for (rows, scores) in (&mut groups).zip(&mut outs) {
        let keys: [&[f32]; KEYS_AT_ONCE] =
            std::array::from_fn(|j| &k.row(rows[j] as usize)[..q.len()]);
        dots(s, q, keys, scale, scores);
    }
    for (&row, score) in groups.remainder().iter().zip(outs.into_remainder()) {
        dots(s, q, [&k.row(row as usize)[..q.len()]], scale, std::slice::from_mut(score));
    }
}

/// The scaled dot products of q with some keys of its length: for each a chain over vectors, and
/// then over lanes.
#[inline(always)]
fn dots<S: Simd, const N: usize>(
    s: S,
    q: &[f32],
    keys: [&[f32]; N],
    scale: f32,
    scores: &mut [f32],
) {
    let mut sums = [s.splat(0.0); N];
    let mut start = 0;
    while start + S::LANES <= q.len() {
        let x = s.load(&q[start..]);
        for j in 0..N {
            sums[j] = x.mul_add(s.load(&keys[j][start..]), sums[j]);
        }
        start += S::LANES;
    }
    if start < q.len() {
        let x = s.load_or(&q[start..], 0.0);
        for j in 0..N {
            sums[j] = x.mul_add(s.load_or(&keys[j][start..], 0.0), sums[j]);
        }
    }
    for j in 0..N {
        scores[j] = sums[j].reduce_sum() * scale;
    }
}

/// `out = Σ_j p[j] v[rows[j]]`: for each element a chain over the rows.
#[inline(always)]
fn weighted_sum<S: Simd>(s: S, p: &[f32], v: Mat<'_>, rows: &[u32], out: &mut [f32]) {
    let strip = VECTORS_AT_ONCE * S::LANES;
    let mut start = 0;
    while start + strip <= out.len() {
        let mut sums = [s.splat(0.0); VECTORS_AT_ONCE];
        for (&p, &row) in p.iter().zip(rows) {
            let (p, v) = (s.splat(p), &v.row(row as usize)[start..start + strip]);
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = p.mul_add(s.load(&v[i * S::LANES..]), *sum);
            }
        }
        for (i, sum) in sums.into_iter().enumerate() {
            sum.store_prefix(&mut out[start + i * S::LANES..start + (i + 1) * S::LANES]);
        }
        start += strip;
    }
    while start < out.len() {
        let end = out.len().min(start + S::LANES);
        let mut sum = s.splat(0.0);
        for (&p, &row) in p.iter().zip(rows) {
            let v = s.load_or(&v.row(row as usize)[start..end], 0.0);
            sum = s.splat(p).mul_add(v, sum);
        }
        sum.store_prefix(&mut out[start..end]);
        start = end;
    }
}

#[cfg(test)]
mod tests;
