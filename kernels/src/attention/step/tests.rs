use proptest::prelude::*;

use super::*;
use crate::reference;
use crate::testing::{Edge, Guarded, Random, Tolerance, for_each_level, same_on_any_threads};
use crate::{Mask, Matrix};

/// Queries, a cache of keys and values with heads of d_k and d_v columns, and what each query sees.
struct Case {
    q: Matrix<f32>,
    k: Matrix<f32>,
    v: Matrix<f32>,
    heads: usize,
    visible: VisibleRows,
}

impl Case {
    /// `seen[i]` is how many rows, of `rows`, query i sees: any rows, some twice.
    fn new(seen: &[usize], rows: usize, heads: usize, d_k: usize, d_v: usize) -> Case {
        let mut numbers = Random::new(29 + (heads * d_k + rows) as u64);
        let mut visible = VisibleRows::default();
        for &count in seen {
            let list = visible.push_list((0..count).map(|_| numbers.below(rows) as u32));
            visible.push_query(list);
        }
        let mut random = |rows: usize, cols: usize| {
            Matrix::from_slice(rows, cols, &numbers.vector(rows * cols, -1.5, 1.5))
        };
        let q = random(seen.len(), heads * d_k);
        let (k, v) = (random(rows, heads * d_k), random(rows, heads * d_v));
        Case { q, k, v, heads, visible }
    }

    fn attention(&self) -> StepAttention<'_> {
        let (q, k, v) = (self.q.view(), self.k.view(), self.v.view());
        StepAttention { q, k, v, heads: self.heads, visible: &self.visible }
    }

    fn run(&self, level: Level) -> Matrix<f32> {
        let mut out = Matrix::from_fn(self.q.rows(), self.v.cols(), |_, _| f32::NAN);
        self.attention().run(level, &mut AttentionScratch::default(), out.view_mut());
        out
    }

    /// As for [`crate::Attention`]: errors are measured by the largest of the values, 1.5.
    fn check(&self, level: Level, tolerance: &mut Tolerance) {
        let out = self.run(level);
        let (d_k, d_v) = (self.q.cols() / self.heads, self.v.cols() / self.heads);
        for query in 0..self.q.rows() {
            let rows = self.visible.of_query(query);
            for head in 0..self.heads {
                let seen = |x: &Matrix<f32>, d: usize| {
                    Matrix::from_fn(rows.len(), d, |j, c| {
                        f64::from(x.row(rows[j] as usize)[head * d + c])
                    })
                };
                let q =
                    Matrix::from_fn(1, d_k, |_, c| f64::from(self.q.row(query)[head * d_k + c]));
                let scale = 1.0 / (d_k as f64).sqrt();
                let (k, v) = (seen(&self.k, d_k), seen(&self.v, d_v));
                let exact = reference::attention(&q, &k, &v, scale, false);
                for col in 0..d_v {
                    let case = || format!("query {query} head {head} column {col}");
                    let actual = out.row(query)[head * d_v + col];
                    tolerance.check(actual, exact.row(0)[col], 3e-6, case);
                }
            }
        }
    }
}

#[test]
fn contexts_are_those_of_the_reference() {
    for_each_level(|level| {
        let mut tolerance = Tolerance::new(format!("step attention {level}"));
        for (heads, d_k, d_v) in
            [(1, 1, 1), (3, 12, 12), (2, 64, 64), (8, 64, 64), (2, 5, 9), (1, 130, 70)]
        {
            Case::new(&[1, 0, 2, 3, 4, 5, 17, 300], 40, heads, d_k, d_v)
                .check(level, &mut tolerance);
        }
        tolerance.finish();
    });
}

/// What decoding relies on: a query over the cached rows of its prefix is the last row of causal
/// attention over all of it.
#[test]
fn a_step_is_the_last_row_of_causal_attention() {
    for_each_level(|level| {
        let (n, heads, d) = (23, 4, 16);
        let mut case = Case::new(&[0; 23], n, heads, d, d);
        case.visible.clear();
        for query in 0..n {
            let list = case.visible.push_list(0..=query as u32);
            case.visible.push_query(list);
        }
        let sequences = Segments::from_lengths([n]);
        let whole = crate::Attention {
            q: case.q.view(),
            k: case.k.view(),
            v: case.v.view(),
            heads,
            queries: &sequences,
            keys: &sequences,
            mask: Mask::Causal,
            dropout: None,
        };
        let mut expected = Matrix::zeros(n, heads * d);
        whole.run(level, &mut AttentionScratch::default(), expected.view_mut());
        for (x, y) in case.run(level).as_slice().iter().zip(expected.as_slice()) {
            assert!((x - y).abs() < 4e-6, "{level}: {x} {y}");
        }
    });
}

/// Whoever decodes a sentence alone, or in another place of the cache, gets the same bits.
#[test]
fn bits_depend_on_the_query_and_its_rows_alone() {
    for_each_level(|level| {
        let seen: Vec<usize> = (0..40).map(|i| i * 7 % 90).collect();
        let case = Case::new(&seen, 64, 8, 32, 32);
        let expected = case.run(level);
        same_on_any_threads(|| case.run(level).as_slice().to_vec());
        for query in [0, 5, 39] {
            // The cache backwards, and the lists with it.
            let back = |x: &Matrix<f32>| {
                Matrix::from_fn(x.rows(), x.cols(), |r, c| x.row(x.rows() - 1 - r)[c])
            };
            let mut visible = VisibleRows::default();
            let list = visible.push_list(case.visible.of_query(query).iter().map(|row| 63 - row));
            visible.push_query(list);
            let q = Matrix::from_slice(1, 256, case.q.row(query));
            let (k, v) = (back(&case.k), back(&case.v));
            let out = Case { q, k, v, heads: 8, visible }.run(level);
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(out.row(0)), bits(expected.row(query)), "{level} query {query}");
        }
    });
}

#[test]
fn nothing_beyond_the_operands_is_touched() {
    for_each_level(|level| {
        for edge in Edge::BOTH {
            for (heads, d) in [(1, 1), (2, 3), (1, 16), (3, 20), (2, 64)] {
                let case = Case::new(&[5, 1, 9], 6, heads, d, d);
                let cols = heads * d;
                let [q, k, v] =
                    [&case.q, &case.k, &case.v].map(|x| Guarded::copy(x.as_slice(), edge));
                let mut out = Guarded::nan(3 * cols, edge);
                let view = |x, rows| Mat::new(x, rows, cols, cols);
                let (q, k, v) = (view(&q, 3), view(&k, 6), view(&v, 6));
                let attention = StepAttention { q, k, v, ..case.attention() };
                let target = MatMut::new(&mut out, 3, cols, cols);
                attention.run(level, &mut AttentionScratch::default(), target);
                assert_eq!(&out[..], case.run(level).as_slice());
            }
        }
    });
}

#[test]
fn rows_that_are_not_seen_leave_no_trace() {
    for_each_level(|level| {
        let mut case = Case::new(&[7, 8], 20, 2, 20, 20);
        let expected = case.run(level);
        for row in 0..20u32 {
            if !(0..2).any(|query| case.visible.of_query(query).contains(&row)) {
                case.k.row_mut(row as usize).fill(f32::NAN);
                case.v.row_mut(row as usize).fill(f32::NAN);
            }
        }
        assert_eq!(case.run(level), expected);
        let mut scratch = AttentionScratch::default();
        scratch.pieces.resize(9, 99);
        scratch.pieces.fill(f32::NAN);
        let mut out = Matrix::zeros(2, 40);
        case.attention().run(level, &mut scratch, out.view_mut());
        assert_eq!(out, expected);
    });
}

#[test]
#[should_panic(expected = "row Some(6) of a cache of 6")]
fn a_row_that_is_not_there_is_refused() {
    let mut case = Case::new(&[1], 6, 1, 4, 4);
    let list = case.visible.push_list([6]);
    case.visible.clear_queries();
    case.visible.push_query(list);
    case.run(Level::current());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn random_shapes_agree_with_the_reference(
        seen in prop::collection::vec(0usize..60, 0..7),
        rows in 1usize..50,
        heads in 1usize..5,
        d_k in 1usize..70,
        d_v in 1usize..70,
    ) {
        let case = Case::new(&seen, rows, heads, d_k, d_v);
        for_each_level(|level| {
            let mut tolerance = Tolerance::new("step attention");
            case.check(level, &mut tolerance);
            tolerance.finish();
        });
    }
}
