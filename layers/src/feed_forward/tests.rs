use ferrite_kernels::testing::{Random, Tolerance, for_each_arithmetic, for_each_level};
use ferrite_kernels::{Activation, Level, Matrix, Segments};
use proptest::prelude::*;

use super::{FeedForward, FeedForwardCache};
use crate::reference::narrow_matrix;
use crate::testing::{Bounded, assert_same_bits, random};

const ACTIVATIONS: [Activation; 4] =
    [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Tanh];

fn run(layer: &FeedForward, x: &Matrix<f32>, cache: &mut FeedForwardCache) -> Matrix<f32> {
    let mut y = Matrix::from_fn(x.rows(), layer.outer.d_out(), |_, _| f32::NAN);
    layer.forward(x.view(), cache, y.view_mut());
    y
}

fn check(
    level: Level,
    tolerance: &mut Tolerance,
    shape: (usize, usize, usize),
    activation: Activation,
    seed: u64,
) {
    let (n, d_model, d_ff) = shape;
    let mut random = Random::new(seed);
    let reference = random::feed_forward(&mut random, d_model, d_ff, activation);
    let x = random::matrix(&mut random, n, d_model, 2.0);
    let exact = Bounded::input(&x).feed_forward(&reference);
    assert_eq!(exact.exact, reference.forward(&x));
    let y = run(&reference.to_layer(level), &narrow_matrix(&x), &mut FeedForwardCache::default());
    exact.check(tolerance, &y, &format!("{level} {shape:?} {activation:?}"));
}

#[test]
fn fixed_shapes_are_within_their_bounds() {
    for_each_level(|level| {
        let mut tolerance = Tolerance::new(format!("feed-forward {level}"));
        for activation in ACTIVATIONS {
            for n in [0, 1, 6] {
                for (d_model, d_ff) in [(0, 0), (0, 3), (3, 0), (1, 1), (5, 17), (33, 130)] {
                    check(level, &mut tolerance, (n, d_model, d_ff), activation, 1);
                }
            }
            check(level, &mut tolerance, (140, 96, 384), activation, 2);
        }
        tolerance.finish();
    });
}

#[test]
fn bits_depend_on_the_row_alone() {
    for_each_arithmetic(|arithmetic| {
        let mut random = Random::new(3);
        let groups = [130, 1, 0, 33, 64];
        let segments = Segments::from_lengths(groups);
        let layer =
            random::feed_forward(&mut random, 96, 256, Activation::Gelu).to_layer(arithmetic);
        let x = narrow_matrix(&random::matrix(&mut random, segments.total(), 96, 2.0));
        assert_same_bits(groups.len(), |batch| {
            let rows: Vec<_> = batch.iter().flat_map(|&i| segments.range(i)).collect();
            let x = Matrix::from_fn(rows.len(), 96, |row, col| x.row(rows[row])[col]);
            let y = run(&layer, &x, &mut FeedForwardCache::default());
            (y, Segments::from_lengths(batch.iter().map(|&i| groups[i])))
        });
    });
}

#[test]
fn a_cache_of_another_shape_leaves_no_trace() {
    for_each_arithmetic(|arithmetic| {
        let mut random = Random::new(4);
        let mut cache = FeedForwardCache::default();
        for (n, d_model, d_ff) in [(9, 8, 40), (1, 3, 5), (30, 20, 7), (0, 4, 4), (9, 8, 40)] {
            let layer = random::feed_forward(&mut random, d_model, d_ff, Activation::Gelu);
            let layer = layer.to_layer(arithmetic);
            let x = narrow_matrix(&random::matrix(&mut random, n, d_model, 2.0));
            cache.hidden.write_rows(|_, mut rows| {
                (0..rows.rows()).for_each(|row| rows.row_mut(row).fill(f32::NAN));
            });
            let fresh = run(&layer, &x, &mut FeedForwardCache::default());
            assert_eq!(run(&layer, &x, &mut cache), fresh, "{arithmetic}");
        }
    });
}

#[test]
#[should_panic(expected = "x (1, 8) times PackedMatrix 4 x 7")]
fn layers_that_do_not_fit_each_other_are_refused() {
    let mut random = Random::new(5);
    let inner = random::linear(&mut random, 4, 8).to_layer(Level::current());
    let outer = random::linear(&mut random, 7, 4).to_layer(Level::current());
    let layer = FeedForward { inner, outer, activation: Activation::Relu };
    run(&layer, &Matrix::zeros(1, 4), &mut FeedForwardCache::default());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn random_shapes_are_within_their_bounds(
        n in 0usize..12, d_model in 0usize..70, d_ff in 0usize..150,
        activation in prop::sample::select(ACTIVATIONS.to_vec()), seed: u64,
    ) {
        for level in Level::available() {
            let mut tolerance = Tolerance::new("feed-forward");
            check(level, &mut tolerance, (n, d_model, d_ff), activation, seed);
            tolerance.finish();
        }
    }
}
