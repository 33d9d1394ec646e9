use ferrite_kernels::testing::{Random, Tolerance, for_each_arithmetic, for_each_level};
use ferrite_kernels::{Level, Mask, Matrix, Segments, VisibleRows};
use proptest::prelude::*;

use super::{AttentionCache, CrossAttention, CrossAttentionCache, SelfAttention};
use crate::reference::{MultiHeadAttention, narrow_matrix};
use crate::testing::{Bounded, assert_same_bits, random};

/// Rows of packed sequences.
struct Packed {
    x: Matrix<f64>,
    sequences: Segments,
}

impl Packed {
    fn new(random: &mut Random, lengths: &[usize], d_model: usize) -> Packed {
        let sequences = Segments::from_lengths(lengths.iter().copied());
        Packed { x: random::matrix(random, sequences.total(), d_model, 2.0), sequences }
    }

    /// These sequences alone, in this order.
    fn select(&self, batch: &[usize]) -> Packed {
        let ranges = || batch.iter().map(|&i| self.sequences.range(i));
        let rows: Vec<_> = ranges().flatten().collect();
        Packed {
            x: Matrix::from_fn(rows.len(), self.x.cols(), |r, c| self.x.row(rows[r])[c]),
            sequences: Segments::from_lengths(ranges().map(|rows| rows.len())),
        }
    }
}

/// The result and the maps.
type Outputs = (Matrix<f32>, Vec<Matrix<f32>>);

fn run_self(layer: &SelfAttention, x: &Packed, cache: &mut AttentionCache) -> Outputs {
    let Packed { x, sequences } = x;
    let mut y = Matrix::from_fn(x.rows(), layer.output.d_out(), |_, _| f32::NAN);
    layer.forward(narrow_matrix(x).view(), sequences, cache, y.view_mut());
    (y, layer.maps(sequences, cache))
}

fn run_cross(
    layer: &CrossAttention,
    x: &Packed,
    memory: &Packed,
    cache: &mut CrossAttentionCache,
) -> Outputs {
    let mut kv = Matrix::default();
    layer.keys_and_values(narrow_matrix(&memory.x).view(), &mut kv);
    let Packed { x, sequences } = x;
    let mut y = Matrix::from_fn(x.rows(), layer.output.d_out(), |_, _| f32::NAN);
    let (kv, memories) = (kv.view(), &memory.sequences);
    layer.forward(narrow_matrix(x).view(), sequences, kv, memories, cache, y.view_mut());
    (y, layer.maps(sequences, kv, memories, cache))
}

/// Compares result and maps with the reference's; a map's rows must sum to one, and what is masked
/// must be exactly zero.
fn check_outputs(
    tolerance: &mut Tolerance,
    reference: &MultiHeadAttention,
    x: &Packed,
    memory: &Packed,
    (y, maps): Outputs,
    about: &str,
) {
    let (operand, source) = (Bounded::input(&x.x), Bounded::input(&memory.x));
    let exact = operand.attention(&x.sequences, &source, &memory.sequences, reference);
    let direct = reference.forward(&x.x, &x.sequences, &memory.x, &memory.sequences);
    let pairs = exact.exact.as_slice().iter().zip(direct.as_slice());
    assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() <= 1e-12), "{about}");
    exact.check(tolerance, &y, about);

    // Heads without columns have scores of 0 / 0: nothing depends on their weights.
    if x.x.cols() == 0 {
        return;
    }
    let exact = operand.maps(&x.sequences, &source, &memory.sequences, reference);
    assert_eq!(maps.len(), exact.len(), "{about}");
    for (sequence, (map, exact)) in maps.iter().zip(&exact).enumerate() {
        exact.check(tolerance, map, &format!("{about}, map of sequence {sequence}"));
        for row in 0..map.rows() {
            let total: f64 = map.row(row).iter().map(|&w| f64::from(w)).sum();
            let keys = map.cols().min(1) as f64;
            assert!((total - keys).abs() < 1e-6, "{about}: weights sum to {total}");
            let pairs = map.row(row).iter().zip(exact.exact.row(row));
            let unseen = pairs.filter(|(_, exact)| **exact == 0.0);
            assert!(unseen.into_iter().all(|(&weight, _)| weight == 0.0), "{about}");
        }
    }
}

fn check_self(
    level: Level,
    tolerance: &mut Tolerance,
    (heads, d_k): (usize, usize),
    mask: Mask,
    lengths: &[usize],
    seed: u64,
) {
    let mut random = Random::new(seed);
    let reference = random::attention(&mut random, heads, d_k, mask);
    let x = Packed::new(&mut random, lengths, heads * d_k);
    let layer = reference.to_self_attention(level);
    let outputs = run_self(&layer, &x, &mut AttentionCache::default());
    let about = format!("{level} {heads} heads of {d_k}, {mask:?}, {lengths:?}");
    check_outputs(tolerance, &reference, &x, &x, outputs, &about);
}

fn check_cross(
    level: Level,
    tolerance: &mut Tolerance,
    (heads, d_k): (usize, usize),
    lengths: &[(usize, usize)],
    seed: u64,
) {
    let mut random = Random::new(seed);
    let reference = random::attention(&mut random, heads, d_k, Mask::Full);
    let (of_x, of_memory): (Vec<_>, Vec<_>) = lengths.iter().copied().unzip();
    let x = Packed::new(&mut random, &of_x, heads * d_k);
    let memory = Packed::new(&mut random, &of_memory, heads * d_k);
    let layer = reference.to_cross_attention(level);
    let outputs = run_cross(&layer, &x, &memory, &mut CrossAttentionCache::default());
    let about = format!("{level} {heads} heads of {d_k}, {lengths:?}");
    check_outputs(tolerance, &reference, &x, &memory, outputs, &about);
}

/// Heads and their columns, none and one and odd ones included.
const SIZES: [(usize, usize); 9] =
    [(0, 0), (1, 0), (1, 1), (3, 1), (1, 7), (5, 3), (4, 13), (2, 17), (3, 32)];

#[test]
fn a_pass_writes_where_room_was_made() {
    let mut random = Random::new(8);
    let x = Packed::new(&mut random, &[5, 40, 1, 0, 90], 32);
    for_each_arithmetic(|arithmetic| {
        let layer = random::attention(&mut random, 4, 8, Mask::Full).to_self_attention(arithmetic);
        let mut cache = AttentionCache::default();
        layer.reserve(&x.sequences, &mut cache);
        let places = |cache: &AttentionCache| {
            (cache.qkv.row(0).as_ptr(), cache.context.values().row(0).as_ptr())
        };
        let reserved = places(&cache);
        let mut y = Matrix::zeros(x.x.rows(), 32);
        layer.forward(narrow_matrix(&x.x).view(), &x.sequences, &mut cache, y.view_mut());
        assert_eq!(places(&cache), reserved, "{arithmetic}");
    });
}

#[test]
fn self_attention_is_within_its_bounds() {
    for_each_level(|level| {
        let mut tolerance = Tolerance::new(format!("self-attention {level}"));
        for size in SIZES {
            for mask in [Mask::Full, Mask::Causal] {
                for lengths in [&[][..], &[0], &[1], &[2, 0, 5], &[0, 0, 17, 1], &[70]] {
                    check_self(level, &mut tolerance, size, mask, lengths, 1);
                }
            }
        }
        tolerance.finish();
    });
}

#[test]
fn cross_attention_is_within_its_bounds() {
    for_each_level(|level| {
        let mut tolerance = Tolerance::new(format!("cross-attention {level}"));
        for size in SIZES {
            for lengths in
                [&[][..], &[(0, 0)], &[(1, 1)], &[(3, 0), (0, 4), (2, 5)], &[(66, 3), (1, 70)]]
            {
                check_cross(level, &mut tolerance, size, lengths, 2);
            }
        }
        tolerance.finish();
    });
}

/// Runs a layer over packed sequences step by step: in step t position t of all sequences that are
/// that long. `step(rows, x, y)` is given the rows of these positions.
fn in_steps(
    x: &Packed,
    d_model: usize,
    mut step: impl FnMut(&[usize], &Matrix<f32>, &mut Matrix<f32>),
) -> Matrix<f32> {
    let all = narrow_matrix(&x.x);
    let mut whole = Matrix::from_fn(x.x.rows(), d_model, |_, _| f32::NAN);
    for t in 0..x.sequences.longest() {
        let rows: Vec<usize> =
            x.sequences.iter().filter(|rows| t < rows.len()).map(|rows| rows.start + t).collect();
        let part = Matrix::from_fn(rows.len(), d_model, |r, c| all.row(rows[r])[c]);
        let mut y = Matrix::from_fn(rows.len(), d_model, |_, _| f32::NAN);
        step(&rows, &part, &mut y);
        rows.iter().enumerate().for_each(|(r, &row)| whole.row_mut(row).copy_from_slice(y.row(r)));
    }
    whole
}

/// Position by position, the rows of a causal pass, within the same bounds.
#[test]
fn steps_of_self_attention_are_within_the_bounds_of_a_pass() {
    for_each_level(|level| {
        let mut tolerance = Tolerance::new(format!("steps of self-attention {level}"));
        for (heads, d_k) in SIZES {
            for lengths in [&[1][..], &[2, 0, 5], &[0, 3, 17, 1], &[40]] {
                let (mut random, d_model) = (Random::new(3), heads * d_k);
                let reference = random::attention(&mut random, heads, d_k, Mask::Causal);
                let x = Packed::new(&mut random, lengths, d_model);
                let layer = reference.to_self_attention(level);
                let mut past = Matrix::zeros(0, 2 * d_model);
                let mut cache = AttentionCache::default();
                // The row of the cache in which each row of x is.
                let mut cached = vec![0; x.x.rows()];
                let y = in_steps(&x, d_model, |rows, part, y| {
                    let mut visible = VisibleRows::default();
                    for (r, &row) in rows.iter().enumerate() {
                        cached[row] = (past.rows() + r) as u32;
                        let sequence = x.sequences.iter().find(|all| all.contains(&row)).unwrap();
                        let list = visible.push_list(cached[sequence.start..=row].iter().copied());
                        visible.push_query(list);
                    }
                    layer.step(part.view(), &mut past, &visible, &mut cache, y.view_mut());
                });
                let about = format!("{level} {heads} heads of {d_k}, {lengths:?}");
                let operand = Bounded::input(&x.x);
                let exact = operand.attention(&x.sequences, &operand, &x.sequences, &reference);
                exact.check(&mut tolerance, &y, &about);
            }
        }
        tolerance.finish();
    });
}

#[test]
fn steps_of_cross_attention_are_within_the_bounds_of_a_pass() {
    for_each_level(|level| {
        let mut tolerance = Tolerance::new(format!("steps of cross-attention {level}"));
        for (heads, d_k) in SIZES {
            for lengths in [&[(1, 1)][..], &[(3, 0), (0, 4), (2, 5)], &[(20, 3), (1, 70)]] {
                let (mut random, d_model) = (Random::new(4), heads * d_k);
                let reference = random::attention(&mut random, heads, d_k, Mask::Full);
                let (of_x, of_memory): (Vec<_>, Vec<_>) = lengths.iter().copied().unzip();
                let x = Packed::new(&mut random, &of_x, d_model);
                let memory = Packed::new(&mut random, &of_memory, d_model);
                let layer = reference.to_cross_attention(level);
                let (mut kv, mut cache) = (Matrix::default(), CrossAttentionCache::default());
                layer.keys_and_values(narrow_matrix(&memory.x).view(), &mut kv);
                let mut visible = VisibleRows::default();
                for rows in memory.sequences.iter() {
                    visible.push_list(rows.start as u32..rows.end as u32);
                }
                let y = in_steps(&x, d_model, |rows, part, y| {
                    visible.clear_queries();
                    for row in rows {
                        let list = x.sequences.iter().position(|all| all.contains(row)).unwrap();
                        visible.push_query(list);
                    }
                    layer.step(part.view(), &kv, &visible, &mut cache, y.view_mut());
                });
                let about = format!("{level} {heads} heads of {d_k}, {lengths:?}");
                let (operand, source) = (Bounded::input(&x.x), Bounded::input(&memory.x));
                let (of_x, of_memory) = (&x.sequences, &memory.sequences);
                let exact = operand.attention(of_x, &source, of_memory, &reference);
                exact.check(&mut tolerance, &y, &about);
            }
        }
        tolerance.finish();
    });
}

/// Rigorous bounds are wide: they have every rounding go the worst way. In practice roundings
/// cancel, and the error of an element is a few u times the largest.
#[test]
fn in_practice_six_digits_are_right() {
    for_each_level(|level| {
        let mut tolerance = Tolerance::new(format!("attention in practice {level}"));
        for (heads, d_k) in [(1, 9), (4, 16), (12, 32)] {
            let mut random = Random::new(13);
            let reference = random::attention(&mut random, heads, d_k, Mask::Full);
            let x = Packed::new(&mut random, &[64, 3, 100], heads * d_k);
            let exact = reference.forward(&x.x, &x.sequences, &x.x, &x.sequences);
            let largest = exact.as_slice().iter().fold(0.0, |max: f64, y| max.max(y.abs()));
            let layer = reference.to_self_attention(level);
            let y = run_self(&layer, &x, &mut AttentionCache::default()).0;
            let error = Matrix::from_fn(exact.rows(), exact.cols(), |_, _| 1e-6 * largest);
            Bounded { exact, error }.check(&mut tolerance, &y, &format!("{heads} of {d_k}"));
        }
        tolerance.finish();
    });
}

const LENGTHS: [usize; 7] = [65, 1, 0, 128, 7, 40, 90];

#[test]
fn self_attention_depends_on_the_sequence_alone() {
    for_each_arithmetic(|arithmetic| {
        let mut random = Random::new(3);
        let x = Packed::new(&mut random, &LENGTHS, 6 * 16);
        for mask in [Mask::Full, Mask::Causal] {
            let layer = random::attention(&mut random, 6, 16, mask).to_self_attention(arithmetic);
            assert_same_bits(LENGTHS.len(), |batch| {
                let x = x.select(batch);
                (run_self(&layer, &x, &mut AttentionCache::default()).0, x.sequences)
            });
        }
    });
}

#[test]
fn cross_attention_depends_on_its_two_sequences_alone() {
    for_each_arithmetic(|arithmetic| {
        let mut random = Random::new(4);
        let x = Packed::new(&mut random, &LENGTHS, 6 * 16);
        let memory = Packed::new(&mut random, &[3, 66, 12, 0, 130, 41, 64], 6 * 16);
        let layer =
            random::attention(&mut random, 6, 16, Mask::Full).to_cross_attention(arithmetic);
        assert_same_bits(LENGTHS.len(), |batch| {
            let (x, memory) = (x.select(batch), memory.select(batch));
            let y = run_cross(&layer, &x, &memory, &mut CrossAttentionCache::default()).0;
            (y, x.sequences)
        });
    });
}

/// Maps, one below the other, in place of the result.
#[test]
fn maps_depend_on_the_sequence_alone() {
    for_each_arithmetic(|arithmetic| {
        let mut random = Random::new(5);
        let x = Packed::new(&mut random, &LENGTHS, 2 * 9);
        let layer =
            random::attention(&mut random, 2, 9, Mask::Causal).to_self_attention(arithmetic);
        assert_same_bits(LENGTHS.len(), |batch| {
            let maps = run_self(&layer, &x.select(batch), &mut AttentionCache::default()).1;
            let weights: Vec<f32> = maps.iter().flat_map(|map| map.as_slice().to_vec()).collect();
            let lengths = maps.iter().map(|map| map.as_slice().len());
            (Matrix::from_slice(weights.len(), 1, &weights), Segments::from_lengths(lengths))
        });
    });
}

/// A pass over NaN first leaves NaN in every corner of a cache, the kernel's scratch included.
#[test]
fn a_cache_of_another_shape_leaves_no_trace() {
    for_each_arithmetic(|arithmetic| {
        let mut random = Random::new(6);
        let (mut cache, mut cross_cache) =
            (AttentionCache::default(), CrossAttentionCache::default());
        let spoil = |x: &Packed| Packed {
            x: Matrix::from_fn(x.x.rows(), x.x.cols(), |_, _| f64::NAN),
            sequences: x.sequences.clone(),
        };
        for (heads, d_k, lengths) in
            [(3, 12, &[90, 4][..]), (1, 5, &[1, 0, 3]), (2, 30, &[64, 65]), (3, 12, &[2])]
        {
            let reference = random::attention(&mut random, heads, d_k, Mask::Full);
            let x = Packed::new(&mut random, lengths, heads * d_k);

            let layer = reference.to_self_attention(arithmetic);
            let (spoilt, _) = run_self(&layer, &spoil(&x), &mut cache);
            assert!(spoilt.as_slice().iter().all(|y| y.is_nan()));
            let fresh = run_self(&layer, &x, &mut AttentionCache::default());
            assert_eq!(run_self(&layer, &x, &mut cache), fresh, "{arithmetic}");

            let layer = reference.to_cross_attention(arithmetic);
            run_cross(&layer, &spoil(&x), &spoil(&x), &mut cross_cache);
            let fresh = run_cross(&layer, &x, &x, &mut CrossAttentionCache::default());
            assert_eq!(run_cross(&layer, &x, &x, &mut cross_cache), fresh, "{arithmetic}");
        }
    });
}

/// Attention of x to itself, by both layers: the same bits.
#[test]
fn a_memory_of_oneself_is_self_attention() {
    for_each_arithmetic(|arithmetic| {
        let mut random = Random::new(7);
        let reference = random::attention(&mut random, 3, 11, Mask::Full);
        let x = Packed::new(&mut random, &[9, 0, 70, 1], 33);
        let of_self =
            run_self(&reference.to_self_attention(arithmetic), &x, &mut AttentionCache::default());
        let cross = reference.to_cross_attention(arithmetic);
        assert_eq!(run_cross(&cross, &x, &x, &mut CrossAttentionCache::default()), of_self);
    });
}

/// What comes later does not show: the causal result of a beginning is the beginning of the result.
#[test]
fn the_causal_mask_hides_what_comes_later() {
    for_each_level(|level| {
        let mut random = Random::new(8);
        let reference = random::attention(&mut random, 2, 8, Mask::Causal);
        let x = Packed::new(&mut random, &[20], 16);
        let y = run_self(&reference.to_self_attention(level), &x, &mut AttentionCache::default()).0;
        let mut later = Packed { x: x.x.clone(), sequences: x.sequences.clone() };
        (12..20).for_each(|row| later.x.row_mut(row).fill(5.0));
        let layer = reference.to_self_attention(level);
        let changed = run_self(&layer, &later, &mut AttentionCache::default()).0;
        for row in 0..20 {
            assert_eq!(y.row(row) == changed.row(row), row < 12, "{level} row {row}");
        }
    });
}

#[test]
#[should_panic(expected = "columns of Q, K and V side by side")]
fn a_projection_of_another_width_is_refused() {
    let mut random = Random::new(9);
    let mut layer =
        random::attention(&mut random, 2, 4, Mask::Full).to_self_attention(Level::current());
    layer.qkv = random::linear(&mut random, 8, 32).to_layer(Level::current());
    run_self(&layer, &Packed::new(&mut random, &[3], 8), &mut AttentionCache::default());
}

#[test]
#[should_panic(expected = "3 heads share 8 columns")]
fn heads_that_do_not_divide_the_columns_are_refused() {
    let mut random = Random::new(10);
    let mut layer =
        random::attention(&mut random, 2, 4, Mask::Full).to_self_attention(Level::current());
    layer.heads = 3;
    run_self(&layer, &Packed::new(&mut random, &[3], 8), &mut AttentionCache::default());
}

#[test]
#[should_panic(expected = "rows of the queries and of their sequences")]
fn sequences_of_another_length_are_refused() {
    let mut random = Random::new(11);
    let layer =
        random::attention(&mut random, 2, 4, Mask::Full).to_self_attention(Level::current());
    let mut x = Packed::new(&mut random, &[3], 8);
    x.sequences.push(1);
    run_self(&layer, &x, &mut AttentionCache::default());
}

#[test]
#[should_panic(expected = "sequences of queries and of keys")]
fn another_number_of_memories_is_refused() {
    let mut random = Random::new(12);
    let layer =
        random::attention(&mut random, 2, 4, Mask::Full).to_cross_attention(Level::current());
    let (x, memory) = (Packed::new(&mut random, &[3], 8), Packed::new(&mut random, &[2, 2], 8));
    run_cross(&layer, &x, &memory, &mut CrossAttentionCache::default());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn random_self_attention_is_within_its_bounds(
        heads in 1usize..5, d_k in 1usize..20, causal: bool,
        lengths in prop::collection::vec(0usize..25, 0..5), seed: u64,
    ) {
        let mask = if causal { Mask::Causal } else { Mask::Full };
        for level in Level::available() {
            let mut tolerance = Tolerance::new("self-attention");
            check_self(level, &mut tolerance, (heads, d_k), mask, &lengths, seed);
            tolerance.finish();
        }
    }

    #[test]
    fn random_cross_attention_is_within_its_bounds(
        heads in 1usize..5, d_k in 1usize..20,
        lengths in prop::collection::vec((0usize..20, 0usize..20), 0..5), seed: u64,
    ) {
        for level in Level::available() {
            let mut tolerance = Tolerance::new("cross-attention");
            check_cross(level, &mut tolerance, (heads, d_k), &lengths, seed);
            tolerance.finish();
        }
    }
}
