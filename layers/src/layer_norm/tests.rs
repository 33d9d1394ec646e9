use ferrite_kernels::testing::{Random, Tolerance, for_each_level};
use ferrite_kernels::{Activations, Level, Matrix, Segments};
use proptest::prelude::*;

use super::LayerNorm;
use crate::reference::{narrow_matrix, sum};
use crate::testing::{Bounded, assert_same_bits, random};

fn check(
    level: Level,
    tolerance: &mut Tolerance,
    (n, d_model): (usize, usize),
    mean: f32,
    epsilon: f32,
    seed: u64,
) {
    let mut random = Random::new(seed);
    let reference = random::layer_norm(&mut random, d_model, epsilon);
    let layer = reference.to_layer(level);
    assert_eq!(layer.d_model(), d_model);
    let x = random::matrix(&mut random, n, d_model, 2.0);
    let x = Matrix::from_fn(n, d_model, |r, c| f64::from((x.row(r)[c] as f32) + mean));
    let residual = random::matrix(&mut random, n, d_model, 1.0);
    let about = format!("{level} {n} x {d_model}, mean {mean}");

    let mut y = narrow_matrix(&x);
    layer.forward(y.view_mut());
    Bounded::input(&x).layer_norm(&reference).check(tolerance, &y, &about);

    let mut y = Activations::from_rows(level, narrow_matrix(&x).view());
    layer.forward_sum(narrow_matrix(&residual).view(), &mut y);
    let y = y.into_values();
    let added = Bounded::input(&x).plus(&Bounded::input(&residual));
    added.layer_norm(&reference).check(tolerance, &y, &format!("{about}, of a sum"));

    // The sum in f32 first, then the norm: the same bits.
    let mut separate = narrow_matrix(&sum(&x, &residual));
    layer.forward(separate.view_mut());
    assert_eq!(y, separate, "{about}");
}

#[test]
fn fixed_shapes_are_within_their_bounds() {
    for_each_level(|level| {
        let mut tolerance = Tolerance::new(format!("layer norm {level}"));
        for n in [0, 1, 5] {
            for d_model in [0, 1, 2, 3, 15, 16, 17, 64, 65, 384, 1025] {
                for mean in [0.0, -3.0, 1000.0] {
                    check(level, &mut tolerance, (n, d_model), mean, 1e-5, 1);
                }
            }
        }
        check(level, &mut tolerance, (200, 768), 0.0, 1e-12, 2);
        tolerance.finish();
    });
}

/// The variance of one element is zero, so that the result is β whatever x is.
#[test]
fn a_row_of_one_element_becomes_beta() {
    for_each_level(|level| {
        let layer = LayerNorm::new(level, vec![2.0], vec![-0.75], 1e-12);
        let mut x = Matrix::from_slice(3, 1, &[0.0, 7.25, -1e6]);
        layer.forward(x.view_mut());
        assert_eq!(x.as_slice(), [-0.75; 3], "{level}");
    });
}

#[test]
fn bits_depend_on_the_row_alone() {
    for_each_level(|level| {
        let mut random = Random::new(3);
        let groups = [1, 200, 0, 77, 150, 3];
        let segments = Segments::from_lengths(groups);
        let layer = random::layer_norm(&mut random, 770, 1e-12).to_layer(level);
        let mut matrix = || narrow_matrix(&random::matrix(&mut random, segments.total(), 770, 2.0));
        let (x, residual) = (matrix(), matrix());
        assert_same_bits(groups.len(), |batch| {
            let rows: Vec<_> = batch.iter().flat_map(|&i| segments.range(i)).collect();
            let part = |x: &Matrix<f32>| Matrix::from_fn(rows.len(), 770, |r, c| x.row(rows[r])[c]);
            let mut y = Activations::from_rows(level, part(&x).view());
            layer.forward_sum(part(&residual).view(), &mut y);
            let mut y = y.into_values();
            layer.forward(y.view_mut());
            (y, Segments::from_lengths(batch.iter().map(|&i| groups[i])))
        });
    });
}

#[test]
#[should_panic(expected = "columns that are normalised, and d_model")]
fn rows_of_another_width_are_refused() {
    let layer = LayerNorm::new(Level::current(), vec![1.0; 4], vec![0.0; 4], 1e-5);
    layer.forward(Matrix::zeros(0, 5).view_mut());
}

#[test]
#[should_panic(expected = "shapes of the summands")]
fn summands_of_different_shapes_are_refused() {
    let layer = LayerNorm::new(Level::current(), vec![1.0; 4], vec![0.0; 4], 1e-5);
    let mut y = Activations::from_rows(Level::current(), Matrix::zeros(2, 4).view());
    layer.forward_sum(Matrix::zeros(1, 4).view(), &mut y);
}

#[test]
#[should_panic(expected = "elements of gamma and beta")]
fn parameters_of_different_lengths_are_refused() {
    LayerNorm::new(Level::current(), vec![1.0; 4], vec![0.0; 5], 1e-5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn random_shapes_are_within_their_bounds(
        n in 0usize..10, d_model in 0usize..300, mean in -20f32..20.0,
        epsilon in prop::sample::select(vec![1e-12f32, 1e-5, 0.1]), seed: u64,
    ) {
        for level in Level::available() {
            let mut tolerance = Tolerance::new("layer norm");
            check(level, &mut tolerance, (n, d_model), mean, epsilon, seed);
            tolerance.finish();
        }
    }
}
