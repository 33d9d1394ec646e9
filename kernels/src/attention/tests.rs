use proptest::prelude::*;

use super::head::QUERY_BLOCK;
use super::{Attention, AttentionScratch, Mask, attention_unit};
use crate::reference;
use crate::testing::{Edge, Guarded, Random, Tolerance, all_arithmetics, for_each_level};
use crate::{Arithmetic, Dropout, Level, Mat, MatMut, Matrix, Precision, Segments};

/// The bits of all elements: zeros of different sign are different.
fn bits(x: &Matrix<f32>) -> Vec<u32> {
    x.as_slice().iter().map(|x| x.to_bits()).collect()
}

/// The unit roundoff of bfloat16.
const U_BF16: f64 = 1.0 / 256.0;

/// Runs `test` with every kernel of attention: floats at every level, and bfloat16 where an
/// instruction multiplies it, or is emulated.
fn for_each_kernel(mut test: impl FnMut(Arithmetic)) {
    for_each_level(|level| test(level.into()));
    let mut kernels = Vec::new();
    for arithmetic in all_arithmetics() {
        let name = attention_unit(arithmetic).name();
        let floats = attention_unit(arithmetic.level().into()).name();
        if arithmetic.precision() == Precision::Bf16 && name != floats && !kernels.contains(&name) {
            kernels.push(name);
            test(arithmetic);
        }
    }
    println!("attention in bf16 by {kernels:?}");
}

/// Queries, keys and values of packed sequences, with heads of d_k and d_v columns.
struct Case {
    q: Matrix<f32>,
    k: Matrix<f32>,
    v: Matrix<f32>,
    heads: usize,
    queries: Segments,
    keys: Segments,
    mask: Mask,
    dropout: Option<Dropout>,
}

impl Case {
    fn new(lengths: &[(usize, usize)], heads: usize, d_k: usize, d_v: usize, mask: Mask) -> Case {
        let queries = Segments::from_lengths(lengths.iter().map(|lengths| lengths.0));
        let keys = Segments::from_lengths(lengths.iter().map(|lengths| lengths.1));
        let mut numbers = Random::new(17 + heads as u64);
        let mut random = |rows: usize, cols: usize| {
            Matrix::from_slice(rows, cols, &numbers.vector(rows * cols, -1.5, 1.5))
        };
        let q = random(queries.total(), heads * d_k);
        let (k, v) = (random(keys.total(), heads * d_k), random(keys.total(), heads * d_v));
        Case { q, k, v, heads, queries, keys, mask, dropout: None }
    }

    fn attention(&self) -> Attention<'_> {
        Attention {
            q: self.q.view(),
            k: self.k.view(),
            v: self.v.view(),
            heads: self.heads,
            queries: &self.queries,
            keys: &self.keys,
            mask: self.mask,
            dropout: self.dropout,
        }
    }

    fn run(&self, arithmetic: impl Into<Arithmetic>) -> Matrix<f32> {
        let mut out = Matrix::from_fn(self.q.rows(), self.v.cols(), |_, _| f32::NAN);
        self.attention().run(arithmetic, &mut AttentionScratch::default(), out.view_mut());
        out
    }

    /// Each element is a mean of values, so its error is measured by the largest of them: the
    /// scores err by some u |q| |k| / √d_k each, the weights by as much relatively. In bfloat16 the
    /// reference is that of rounded operands; what is left is the rounding of the weights.
    fn check(&self, arithmetic: Arithmetic, tolerance: &mut Tolerance) {
        let bf16 = arithmetic.precision() == Precision::Bf16;
        let out = self.run(arithmetic);
        let (d_k, d_v) = (self.q.cols() / self.heads, self.v.cols() / self.heads);
        for sequence in 0..self.queries.len() {
            let (queries, keys) = (self.queries.range(sequence), self.keys.range(sequence));
            for head in 0..self.heads {
                let (cols_k, cols_v) = (head * d_k..(head + 1) * d_k, head * d_v..(head + 1) * d_v);
                let scale = (1.0 / (d_k as f64).sqrt()) as f32;
                let part = |x: &Matrix<f32>, rows, cols, scale: f32| {
                    let x = x.view().row_range(rows).col_range(cols);
                    Matrix::from_fn(x.rows(), x.cols(), |row, col| match bf16 {
                        true => half::bf16::from_f32(x.row(row)[col] * scale).to_f64(),
                        false => f64::from(x.row(row)[col]),
                    })
                };
                let exact = reference::attention(
                    &part(&self.q, queries.clone(), cols_k.clone(), 1.0),
                    &part(&self.k, keys.clone(), cols_k, scale),
                    &part(&self.v, keys.clone(), cols_v.clone(), 1.0),
                    if bf16 { 1.0 } else { 1.0 / (d_k as f64).sqrt() },
                    self.mask == Mask::Causal,
                );
                // Values are below 1.5.
                let limit = 2e-6 + if bf16 { 1.5 * U_BF16 } else { 0.0 };
                for (i, row) in queries.clone().enumerate() {
                    for (j, col) in cols_v.clone().enumerate() {
                        let case = || format!("sequence {sequence} head {head} ({i}, {j})");
                        tolerance.check(out.row(row)[col], exact.row(i)[j], limit, case);
                    }
                }
            }
        }
    }
}

fn cases() -> Vec<Case> {
    let long = QUERY_BLOCK + 3;
    let mut cases = Vec::new();
    for mask in [Mask::Full, Mask::Causal] {
        let equal: Vec<_> = [1, 2, 0, 7, 17, long].map(|length| (length, length)).into();
        for (heads, d_k, d_v) in [(1, 1, 1), (3, 12, 12), (2, 64, 64), (4, 32, 32), (2, 5, 9)] {
            cases.push(Case::new(&equal, heads, d_k, d_v, mask));
        }
        let crossed = [(1, 5), (5, 1), (0, 4), (4, 0), (9, 150), (130, 20)];
        cases.push(Case::new(&crossed, 2, 16, 16, mask));
        cases.push(Case::new(&[(300, 300)], 1, 130, 20, mask));
    }
    cases
}

/// A pass takes the memory that was reserved for it, and no other.
#[test]
fn what_is_reserved_is_what_a_pass_takes() {
    for threads in [1, 2, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for_each_kernel(|arithmetic| {
            for lengths in [&[(5, 5)][..], &[(40, 70); 9], &[(300, 300), (1, 2)]] {
                let case = Case::new(lengths, 3, 16, 8, Mask::Full);
                let mut out = Matrix::zeros(case.queries.total(), 24);
                let (mut reserved, mut scratch) = <(AttentionScratch, AttentionScratch)>::default();
                pool.install(|| {
                    case.attention().reserve(arithmetic, &mut reserved);
                    case.attention().run(arithmetic, &mut scratch, out.view_mut());
                });
                let shape = scratch.pieces.shape();
                assert_eq!(reserved.pieces.shape(), shape, "{arithmetic} {threads} {lengths:?}");
            }
        });
    }
}

#[test]
fn contexts_are_those_of_the_reference() {
    for_each_kernel(|arithmetic| {
        let mut tolerance = Tolerance::new(format!("attention {arithmetic}"));
        cases().iter().for_each(|case| case.check(arithmetic, &mut tolerance));
        tolerance.finish();
    });
}

#[test]
fn bits_depend_on_neither_threads_nor_batch_mates() {
    for_each_kernel(|arithmetic| {
        let lengths = [(40, 40), (1, 1), (128, 128), (77, 77)];
        let case = Case::new(&lengths, 6, 32, 32, Mask::Full);
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let expected = pool(1).install(|| case.run(arithmetic));
        for threads in [2, 3, 5] {
            let out = pool(threads).install(|| case.run(arithmetic));
            assert_eq!(bits(&out), bits(&expected), "{threads} threads");
        }
        for sequence in 0..lengths.len() {
            let rows = case.queries.range(sequence);
            let alone = Segments::from_lengths([rows.len()]);
            let part = |x: &Matrix<f32>| {
                let rows = x.view().row_range(rows.clone());
                Matrix::from_fn(rows.rows(), rows.cols(), |r, c| rows.row(r)[c])
            };
            let (q, k, v) = (part(&case.q), part(&case.k), part(&case.v));
            let keys = alone.clone();
            let alone =
                Case { q, k, v, heads: 6, queries: alone, keys, mask: Mask::Full, dropout: None };
            let out = alone.run(arithmetic);
            for (i, row) in rows.enumerate() {
                assert_eq!(
                    out.row(i),
                    expected.row(row),
                    "{arithmetic} sequence {sequence} row {i}"
                );
            }
        }
    });
}

/// Sequences share scratch memory, packed operands and the rows of the result.
#[test]
fn a_nan_or_an_infinity_stays_in_its_sequence_and_head() {
    for_each_kernel(|arithmetic| {
        for bad in [f32::NAN, f32::INFINITY, 1e30] {
            let clean = Case::new(&[(9, 9), (33, 33), (70, 70), (5, 5)], 3, 20, 12, Mask::Full);
            let mut spoilt =
                Case::new(&[(9, 9), (33, 33), (70, 70), (5, 5)], 3, 20, 12, Mask::Full);
            let (sequence, head) = (spoilt.queries.range(1), 20..40);
            for row in sequence.clone() {
                spoilt.q.row_mut(row)[head.clone()].fill(bad);
                spoilt.k.row_mut(row)[head.clone()].fill(bad);
                spoilt.v.row_mut(row)[12..24].fill(bad);
            }
            let (out, expected) = (spoilt.run(arithmetic), clean.run(arithmetic));
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            for row in 0..out.rows() {
                for head in 0..3 {
                    let part = |x: &Matrix<f32>| bits(&x.row(row)[head * 12..(head + 1) * 12]);
                    let same = part(&out) == part(&expected);
                    assert_eq!(
                        same,
                        !sequence.contains(&row) || head != 1,
                        "{arithmetic} {row} {head}"
                    );
                }
            }
        }
    });
}

#[test]
fn nothing_beyond_the_operands_is_touched() {
    for_each_kernel(|arithmetic| {
        for edge in Edge::BOTH {
            for (length, heads, d) in [(1, 1, 1), (5, 2, 3), (17, 1, 16), (66, 2, 20)] {
                let case = Case::new(&[(length, length)], heads, d, d, Mask::Full);
                let cols = heads * d;
                let [q, k, v] =
                    [&case.q, &case.k, &case.v].map(|x| Guarded::copy(x.as_slice(), edge));
                let mut out = Guarded::nan(length * cols, edge);
                let view = |x| Mat::new(x, length, cols, cols);
                let attention =
                    Attention { q: view(&q), k: view(&k), v: view(&v), ..case.attention() };
                let target = MatMut::new(&mut out, length, cols, cols);
                attention.run(arithmetic, &mut AttentionScratch::default(), target);
                assert_eq!(&out[..], case.run(arithmetic).as_slice());
            }
        }
    });
}

#[test]
fn scratch_of_another_shape_leaves_no_trace() {
    for_each_kernel(|arithmetic| {
        let mut scratch = AttentionScratch::default();
        for case in cases() {
            scratch.pieces.fill(f32::NAN);
            let mut out = Matrix::zeros(case.q.rows(), case.v.cols());
            case.attention().run(arithmetic, &mut scratch, out.view_mut());
            assert_eq!(out, case.run(arithmetic));
        }
    });
}

#[test]
fn maps_weigh_the_values_into_the_context() {
    for_each_kernel(|arithmetic| {
        for mask in [Mask::Full, Mask::Causal] {
            let case = Case::new(&[(4, 4), (70, 70)], 2, 8, 1, mask);
            let out = case.run(arithmetic);
            for head in 0..2 {
                let mut map = Matrix::from_fn(70, 70, |_, _| f32::NAN);
                let mut scratch = AttentionScratch::default();
                case.attention().map(arithmetic, 1, head, &mut scratch, map.view_mut());
                for query in 0..70 {
                    let weights = map.row(query);
                    let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
                    let bf16 = arithmetic.precision() == Precision::Bf16;
                    let limit = if bf16 { 1.01 * U_BF16 } else { 1e-6 };
                    assert!((total - 1.0).abs() < limit, "{arithmetic} {total}");
                    let unseen = &weights[if mask == Mask::Causal { query + 1 } else { 70 }..];
                    assert!(unseen.iter().all(|&w| w == 0.0));
                    let value = |key: usize| case.v.row(4 + key)[head];
                    let values = (0..70).map(|key| match bf16 {
                        true => half::bf16::from_f32(value(key)).to_f64(),
                        false => f64::from(value(key)),
                    });
                    let mean: f64 = values.zip(weights).map(|(v, &w)| v * f64::from(w)).sum();
                    assert!((mean - f64::from(out.row(4 + query)[head])).abs() < 1e-6);
                }
            }
        }
    });
}

#[test]
#[should_panic(expected = "rows of the keys and of their sequences")]
fn keys_that_do_not_fit_their_sequences_are_refused() {
    let mut case = Case::new(&[(3, 3)], 1, 4, 4, Mask::Full);
    case.keys = Segments::from_lengths([2]);
    case.run(Level::current());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn random_shapes_agree_with_the_reference(
        lengths in prop::collection::vec((0usize..90, 0usize..90), 0..5),
        heads in 1usize..4,
        d_k in 1usize..40,
        d_v in 1usize..40,
        causal: bool,
    ) {
        let mask = if causal { Mask::Causal } else { Mask::Full };
        let case = Case::new(&lengths, heads, d_k, d_v, mask);
        for_each_kernel(|arithmetic| {
            let mut tolerance = Tolerance::new("attention");
            case.check(arithmetic, &mut tolerance);
            tolerance.finish();
        });
    }
}

mod backward {
    use super::*;
    use crate::simd::dispatch;

    const DROPOUT: Dropout = Dropout { rate: 0.3, seed: 1, step: 2, place: 3 };

    impl Case {
        fn d_out(&self) -> Matrix<f32> {
            let numbers = Random::new(5).vector(self.q.rows() * self.v.cols(), -1.0, 1.0);
            Matrix::from_slice(self.q.rows(), self.v.cols(), &numbers)
        }

        fn gradients(&self, arithmetic: Arithmetic) -> [Matrix<f32>; 3] {
            self.gradients_in(arithmetic, &mut AttentionScratch::default())
        }

        fn gradients_in(
            &self,
            arithmetic: Arithmetic,
            scratch: &mut AttentionScratch,
        ) -> [Matrix<f32>; 3] {
            let nan =
                |like: &Matrix<f32>| Matrix::from_fn(like.rows(), like.cols(), |_, _| f32::NAN);
            let (mut q, mut k, mut v) = (nan(&self.q), nan(&self.k), nan(&self.v));
            let targets = (q.view_mut(), k.view_mut(), v.view_mut());
            self.attention().backward(arithmetic, scratch, self.d_out().view(), targets);
            [q, k, v]
        }

        /// What dropout multiplies the weights of a head by.
        fn kept(&self, level: Level, sequence: usize, head: usize) -> Matrix<f64> {
            let (queries, keys) = (self.queries.range(sequence), self.keys.range(sequence));
            let mut kept = Matrix::zeros(queries.len(), keys.len());
            for (i, query) in queries.enumerate() {
                let mut row = vec![1.0; keys.len()];
                if let Some(dropout) = self.dropout {
                    let place = (query * self.heads + head) as u64;
                    dispatch!(level, s => dropout.apply_row(s, place, &mut row));
                }
                kept.row_mut(i).iter_mut().zip(row).for_each(|(kept, x)| *kept = f64::from(x));
            }
            kept
        }

        fn check_gradients(&self, arithmetic: Arithmetic, tolerance: &mut Tolerance) {
            let bf16 = attention_unit(arithmetic).name()
                != attention_unit(arithmetic.level().into()).name();
            let found = self.gradients(arithmetic);
            let (d_k, d_v) = (self.q.cols() / self.heads, self.v.cols() / self.heads);
            let d_out = self.d_out();
            for sequence in 0..self.queries.len() {
                let (queries, keys) = (self.queries.range(sequence), self.keys.range(sequence));
                for head in 0..self.heads {
                    let part = |x: &Matrix<f32>, rows: &std::ops::Range<usize>, width: usize| {
                        let x = x.view().row_range(rows.clone());
                        let x = x.col_range(head * width..(head + 1) * width);
                        Matrix::from_fn(x.rows(), x.cols(), |row, col| f64::from(x.row(row)[col]))
                    };
                    let exact = reference::attention_backward(
                        &part(&self.q, &queries, d_k),
                        &part(&self.k, &keys, d_k),
                        &part(&self.v, &keys, d_v),
                        1.0 / (d_k as f64).sqrt(),
                        self.mask == Mask::Causal,
                        &self.kept(arithmetic.level(), sequence, head),
                        &part(&d_out, &queries, d_v),
                    );
                    let exact = [exact.0, exact.1, exact.2];
                    let rows = [&queries, &keys, &keys];
                    for (which, width) in [d_k, d_k, d_v].into_iter().enumerate() {
                        let found = part(&found[which], rows[which], width);
                        let largest =
                            exact[which].as_slice().iter().fold(1.0f64, |m, x| m.max(x.abs()));
                        // Sums over keys, and then over queries: by far not all of one sign.
                        let limit = largest * if bf16 { 4.0 * U_BF16 } else { 1e-5 };
                        for (i, (x, y)) in
                            found.as_slice().iter().zip(exact[which].as_slice()).enumerate()
                        {
                            let case =
                                || format!("operand {which} sequence {sequence} head {head} {i}");
                            tolerance.check(*x as f32, *y, limit, case);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn gradients_are_those_of_the_reference() {
        for_each_kernel(|arithmetic| {
            let mut tolerance = Tolerance::new(format!("gradient of attention {arithmetic}"));
            for mut case in cases() {
                case.check_gradients(arithmetic, &mut tolerance);
                case.dropout = Some(DROPOUT);
                case.check_gradients(arithmetic, &mut tolerance);
            }
            tolerance.finish();
        });
    }

    #[test]
    fn dropout_in_the_forward_pass_is_that_of_the_gradient() {
        // dV is D(P)ᵀ dO: with one head, one query and d_out of one it is the row of D(P), which
        // the forward pass multiplies with the identity.
        for_each_kernel(|arithmetic| {
            let mut case = Case::new(&[(1, 40)], 1, 8, 40, Mask::Full);
            case.dropout = Some(DROPOUT);
            case.v = Matrix::from_fn(40, 40, |r, c| if r == c { 1.0 } else { 0.0 });
            let out = case.run(arithmetic);
            let one = Matrix::from_fn(1, 40, |_, _| 1.0);
            let mut gradients = [case.q.clone(), case.k.clone(), case.v.clone()];
            let [q, k, v] = &mut gradients;
            let targets = (q.view_mut(), k.view_mut(), v.view_mut());
            let mut scratch = AttentionScratch::default();
            case.attention().backward(arithmetic, &mut scratch, one.view(), targets);
            let zeros = out.row(0).iter().filter(|&&x| x == 0.0).count();
            assert!((3..30).contains(&zeros), "{zeros} of 40 dropped");
            for key in 0..40 {
                assert_eq!(out.row(0)[key], gradients[2].row(key)[0], "{arithmetic} key {key}");
            }
        });
    }

    #[test]
    fn bits_do_not_depend_on_threads_or_on_what_was_in_memory() {
        for_each_kernel(|arithmetic| {
            let lengths = [(40, 40), (1, 1), (128, 128), (77, 77), (0, 3)];
            let mut case = Case::new(&lengths, 6, 32, 32, Mask::Full);
            case.dropout = Some(DROPOUT);
            let pool =
                |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let expected = pool(1).install(|| case.gradients(arithmetic));
            assert!(expected.iter().all(|x| x.as_slice().iter().all(|x| x.is_finite())));
            for threads in [2, 3, 5] {
                let mut scratch = AttentionScratch::default();
                scratch.pieces.resize(64, 100_000);
                scratch.pieces.fill(f32::NAN);
                let found = pool(threads).install(|| case.gradients_in(arithmetic, &mut scratch));
                for (found, expected) in found.iter().zip(&expected) {
                    assert_eq!(bits(found), bits(expected), "{threads} threads");
                }
            }
        });
    }

    #[test]
    fn nothing_beyond_the_gradients_is_touched() {
        for_each_kernel(|arithmetic| {
            for edge in Edge::BOTH {
                for (length, heads, d) in [(1, 1, 1), (5, 2, 3), (66, 2, 20)] {
                    let case = Case::new(&[(length, length)], heads, d, d, Mask::Causal);
                    let cols = heads * d;
                    let mut gradients: [_; 3] =
                        std::array::from_fn(|_| Guarded::nan(length * cols, edge));
                    let [q, k, v] = &mut gradients;
                    let target = |x| MatMut::new(x, length, cols, cols);
                    let targets = (target(q), target(k), target(v));
                    let mut scratch = AttentionScratch::default();
                    case.attention().backward(
                        arithmetic,
                        &mut scratch,
                        case.d_out().view(),
                        targets,
                    );
                    for (found, expected) in gradients.iter().zip(case.gradients(arithmetic)) {
                        assert_eq!(&found[..], expected.as_slice());
                    }
                }
            }
        });
    }
}
