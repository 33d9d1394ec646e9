use ferrite_kernels::testing::{Random, Tolerance, for_each_arithmetic, for_each_level};
use ferrite_kernels::{Activation, Arithmetic, Level, Matrix, Segments};
use proptest::prelude::*;

use super::Linear;
use crate::reference::{self, narrow_matrix};
use crate::testing::{Bounded, assert_same_bits, random};

const ACTIVATIONS: [Activation; 4] =
    [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Tanh];

fn run(layer: &Linear, f: Option<Activation>, x: &Matrix<f32>) -> Matrix<f32> {
    let mut y = Matrix::from_fn(x.rows(), layer.d_out(), |_, _| f32::NAN);
    match f {
        Some(f) => layer.forward_activated(x.view(), f, y.view_mut()),
        None => layer.forward(x.view(), y.view_mut()),
    }
    y
}

fn check(level: Level, tolerance: &mut Tolerance, shape: (usize, usize, usize), seed: u64) {
    let (n, d_in, d_out) = shape;
    let mut random = Random::new(seed);
    let reference = random::linear(&mut random, d_in, d_out);
    let x = random::matrix(&mut random, n, d_in, 2.0);
    let layer = reference.to_layer(level);
    assert_eq!((layer.d_in(), layer.d_out()), (d_in, d_out));
    assert_eq!(layer.weight(), narrow_matrix(&reference.weight));
    assert_eq!(layer.bias(), reference::narrow(&reference.bias));
    let exact = Bounded::input(&x).linear(&reference);
    let x = narrow_matrix(&x);
    exact.check(tolerance, &run(&layer, None, &x), &format!("{level} {shape:?}"));
    for f in ACTIVATIONS {
        let about = format!("{level} {shape:?} {f:?}");
        exact.activated(f).check(tolerance, &run(&layer, Some(f), &x), &about);
    }
}

#[test]
fn fixed_shapes_are_within_their_bounds() {
    for_each_level(|level| {
        let mut tolerance = Tolerance::new(format!("linear {level}"));
        for n in [0, 1, 2, 9] {
            for d_in in [0, 1, 7, 33, 130] {
                for d_out in [0, 1, 5, 17, 50] {
                    check(level, &mut tolerance, (n, d_in, d_out), 1);
                }
            }
        }
        check(level, &mut tolerance, (150, 384, 100), 2);
        tolerance.finish();
    });
}

#[test]
fn bits_depend_on_the_row_alone() {
    for_each_arithmetic(|arithmetic| {
        let mut random = Random::new(3);
        // Ragged groups of rows; all together enough for five threads.
        let groups = [3, 0, 1, 140, 64, 17];
        let segments = Segments::from_lengths(groups);
        let layer = random::linear(&mut random, 130, 140).to_layer(arithmetic);
        let x = narrow_matrix(&random::matrix(&mut random, segments.total(), 130, 2.0));
        for f in [None, Some(Activation::Gelu)] {
            assert_same_bits(groups.len(), |batch| {
                let rows: Vec<_> = batch.iter().flat_map(|&i| segments.range(i)).collect();
                let x = Matrix::from_fn(rows.len(), 130, |row, col| x.row(rows[row])[col]);
                (run(&layer, f, &x), Segments::from_lengths(batch.iter().map(|&i| groups[i])))
            });
        }
    });
}

/// Side by side in one product or one after the other: the same bits.
fn check_side_by_side(arithmetic: Arithmetic, n: usize, d_in: usize, d_outs: &[usize], seed: u64) {
    let mut random = Random::new(seed);
    let parts: Vec<_> =
        d_outs.iter().map(|&d_out| random::linear(&mut random, d_in, d_out)).collect();
    let whole = reference::Linear::side_by_side(arithmetic, &parts.iter().collect::<Vec<_>>());
    assert_eq!((whole.d_in(), whole.d_out()), (d_in, d_outs.iter().sum()));
    let x = narrow_matrix(&random::matrix(&mut random, n, d_in, 2.0));
    let together = run(&whole, None, &x);
    let mut first = 0;
    for part in &parts {
        let alone = run(&part.to_layer(arithmetic), None, &x);
        for row in 0..n {
            let columns = &together.row(row)[first..first + alone.cols()];
            assert_eq!(columns, alone.row(row), "{arithmetic} {n} x {d_in}, {d_outs:?}, row {row}");
        }
        first += alone.cols();
    }
}

#[test]
fn side_by_side_has_the_bits_of_its_parts() {
    for_each_arithmetic(|arithmetic| {
        for (n, d_in, d_outs) in [
            (3, 20, &[20, 20, 20][..]),
            (1, 7, &[1, 0, 50]),
            (40, 384, &[100, 3]),
            (5, 0, &[2, 2]),
            (0, 4, &[4]),
            (300, 128, &[128, 128, 128]),
        ] {
            check_side_by_side(arithmetic, n, d_in, d_outs, 4);
        }
    });
}

#[test]
#[should_panic(expected = "elements of the bias of a linear layer")]
fn a_bias_of_another_length_is_refused() {
    Linear::new(Level::current(), Matrix::zeros(3, 2).view(), &[0.0; 2]);
}

#[test]
#[should_panic(expected = "x (1, 3) times PackedMatrix 4 x 2")]
fn an_input_of_another_width_is_refused() {
    let layer = Linear::new(Level::current(), Matrix::zeros(4, 2).view(), &[0.0; 4]);
    run(&layer, None, &Matrix::zeros(1, 3));
}

#[test]
#[should_panic(expected = "at least one part")]
fn nothing_side_by_side_is_refused() {
    Linear::side_by_side(Level::current(), &[]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn random_shapes_are_within_their_bounds(
        n in 0usize..20, d_in in 0usize..200, d_out in 0usize..100, seed: u64,
    ) {
        for level in Level::available() {
            let mut tolerance = Tolerance::new("linear");
            check(level, &mut tolerance, (n, d_in, d_out), seed);
            tolerance.finish();
        }
    }

    #[test]
    fn random_layers_side_by_side_have_the_bits_of_their_parts(
        n in 0usize..20, d_in in 0usize..150,
        d_outs in prop::collection::vec(0usize..70, 1..5), seed: u64,
    ) {
        for arithmetic in Arithmetic::available() {
            check_side_by_side(arithmetic, n, d_in, &d_outs, seed);
        }
    }
}
