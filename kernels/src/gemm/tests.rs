use proptest::prelude::*;

use super::panels::DEPTH;
use super::{Epilogue, PackedMatrix, matmul};
use crate::reference::{self, transpose, widen_matrix};
use crate::testing::{Edge, Guarded, Random, Tolerance, U, for_each_level};
use crate::{Activation, Level, Mat, MatMut, Matrix};

/// The bits of all elements: zeros of different sign are different.
fn bits(x: &Matrix<f32>) -> Vec<u32> {
    x.as_slice().iter().map(|x| x.to_bits()).collect()
}

fn random(rows: usize, cols: usize, seed: u64) -> Matrix<f32> {
    let numbers = Random::new(seed).vector(rows * cols, -1.0, 1.0);
    Matrix::from_slice(rows, cols, &numbers)
}

fn in_pool<R: Send>(threads: usize, run: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
}

fn product(level: Level, x: &Matrix<f32>, w: &Matrix<f32>) -> Matrix<f32> {
    let mut y = Matrix::from_fn(x.rows(), w.rows(), |_, _| f32::NAN);
    matmul(x.view(), &PackedMatrix::new(level, w.view()), Epilogue::Store, y.view_mut());
    y
}

/// gamma_k * sum |x| |w|, the bound of a sequential sum; where the level does not fuse, each term
/// is rounded once more before it is added, which the same bound covers.
fn check(tolerance: &mut Tolerance, x: &Matrix<f32>, w: &Matrix<f32>, y: &Matrix<f32>) {
    let k = x.cols() as f64;
    let gamma = k * U / (1.0 - k * U);
    let (x64, w64) = (widen_matrix(x.view()), transpose(&widen_matrix(w.view())));
    let exact = reference::matmul(&x64, &w64);
    let absolute = |m: &Matrix<f64>| Matrix::from_fn(m.rows(), m.cols(), |r, c| m.row(r)[c].abs());
    let magnitude = reference::matmul(&absolute(&x64), &absolute(&w64));
    for row in 0..y.rows() {
        for col in 0..y.cols() {
            let limit = gamma * magnitude.row(row)[col];
            let case = || format!("{:?} x {:?} at ({row}, {col})", x.shape(), w.shape());
            tolerance.check(y.row(row)[col], exact.row(row)[col], limit, case);
        }
    }
}

/// All small shapes, zero and one included, and shapes around each constant of the loops.
fn shapes() -> Vec<(usize, usize, usize)> {
    let mut shapes = Vec::new();
    for rows in 0..=17 {
        for outputs in [0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 47, 48, 49, 63, 65, 97] {
            shapes.extend([0, 1, 2, 17].map(|inputs| (rows, outputs, inputs)));
        }
    }
    for rows in [1, 8, 127, 128, 129, 257] {
        for outputs in [1, 16, 48 * 16 - 1, 48 * 16 + 1] {
            shapes.extend([DEPTH - 1, DEPTH, DEPTH + 1].map(|inputs| (rows, outputs, inputs)));
        }
    }
    shapes.push((3, 5, 2 * DEPTH + 1));
    shapes.push((9, 50, 5 * DEPTH));
    shapes
}

#[test]
fn products_are_within_the_bound_of_a_sequential_sum() {
    for_each_level(|level| {
        let mut tolerance = Tolerance::new(format!("matmul {level}"));
        for (rows, outputs, inputs) in shapes() {
            let (x, w) = (random(rows, inputs, 1), random(outputs, inputs, 2));
            check(&mut tolerance, &x, &w, &product(level, &x, &w));
        }
        tolerance.finish();
    });
}

#[test]
fn products_of_integers_are_exact() {
    for_each_level(|level| {
        for (rows, outputs, inputs) in [(5, 7, 3), (130, 100, 300), (1, 1000, 129)] {
            let mut numbers = Random::new(3);
            let x = Matrix::from_slice(rows, inputs, &numbers.integers(rows * inputs, 8));
            let w = Matrix::from_slice(outputs, inputs, &numbers.integers(outputs * inputs, 8));
            let exact =
                reference::matmul(&widen_matrix(x.view()), &transpose(&widen_matrix(w.view())));
            let y = product(level, &x, &w);
            let wrong = widen_matrix(y.view()) != exact;
            assert!(!wrong, "{level} {rows} x {outputs} x {inputs}");
        }
    });
}

#[test]
fn nothing_beyond_the_operands_is_touched() {
    for_each_level(|level| {
        for edge in Edge::BOTH {
            for rows in [1, 3, 8, 9, 20] {
                for outputs in [1, 5, 16, 17, 48, 50, 96] {
                    for inputs in [0, 1, 4, 33, DEPTH + 2] {
                        let (x, w) = (random(rows, inputs, 4), random(outputs, inputs, 5));
                        let w_packed = PackedMatrix::new(level, w.view());
                        let x_guarded = Guarded::copy(x.as_slice(), edge);
                        let bias = Guarded::copy(&vec![0.25; outputs], edge);
                        let mut y = Guarded::nan(rows * outputs, edge);
                        matmul(
                            Mat::new(&x_guarded, rows, inputs, inputs),
                            &w_packed,
                            Epilogue::Bias(&bias),
                            MatMut::new(&mut y, rows, outputs, outputs),
                        );
                        let mut expected = product(level, &x, &w);
                        expected.as_mut_slice().iter_mut().for_each(|y| *y += 0.25);
                        assert_eq!(&y[..], expected.as_slice());
                    }
                }
            }
        }
    });
}

#[test]
fn rows_that_lie_apart_stay_apart() {
    for_each_level(|level| {
        let (x, w) = (random(21, 70, 6), random(61, 70, 7));
        let wide = Matrix::from_fn(21, 100, |r, c| if c < 70 { x.row(r)[c] } else { f32::NAN });
        let mut y = Matrix::from_fn(21, 80, |_, _| -7.5);
        let packed = PackedMatrix::new(level, w.view());
        let columns = y.view_mut().col_range(9..70);
        matmul(wide.view().col_range(0..70), &packed, Epilogue::Store, columns);
        let expected = product(level, &x, &w);
        for row in 0..21 {
            assert_eq!(y.row(row)[9..70], *expected.row(row), "{level} row {row}");
            let outside = y.row(row)[..9].iter().chain(&y.row(row)[70..]);
            assert!(outside.into_iter().all(|&y| y == -7.5), "{level} row {row}");
        }
    });
}

#[test]
fn bits_depend_on_neither_threads_nor_other_rows() {
    for_each_level(|level| {
        for (rows, outputs, inputs) in [(5, 400, 300), (300, 900, 260), (1000, 100, 130)] {
            let (x, w) = (random(rows, inputs, 8), random(outputs, inputs, 9));
            let expected = in_pool(1, || product(level, &x, &w));
            for threads in [2, 3, 4, 7] {
                let y = in_pool(threads, || product(level, &x, &w));
                assert_eq!(bits(&y), bits(&expected), "{threads}");
            }
            for row in [0, 1, rows / 2, rows - 1] {
                let alone = Matrix::from_slice(1, inputs, x.row(row));
                assert_eq!(product(level, &alone, &w).row(0), expected.row(row), "row {row}");
            }
        }
    });
}

#[test]
fn epilogues_do_what_they_say() {
    for_each_level(|level| {
        let (x, w, residual) = (random(13, 40, 10), random(53, 40, 11), random(13, 53, 12));
        let bias = Random::new(13).vector(53, -1.0, 1.0);
        let packed = PackedMatrix::new(level, w.view());
        let sums = product(level, &x, &w);
        let run = |epilogue| {
            let mut y = Matrix::from_fn(13, 53, |_, _| f32::NAN);
            matmul(x.view(), &packed, epilogue, y.view_mut());
            y
        };
        let biased = Matrix::from_fn(13, 53, |r, c| sums.row(r)[c] + bias[c]);
        assert_eq!(run(Epilogue::Bias(&bias)), biased);
        let with_residual = Matrix::from_fn(13, 53, |r, c| biased.row(r)[c] + residual.row(r)[c]);
        assert_eq!(run(Epilogue::BiasResidual(&bias, residual.view())), with_residual);
        for f in [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Tanh] {
            let mut activated = biased.clone();
            f.apply(level, activated.as_mut_slice());
            assert_eq!(run(Epilogue::BiasActivation(&bias, f)), activated, "{level} {f:?}");
        }
    });
}

#[test]
fn a_nan_or_an_infinity_stays_in_its_row() {
    for_each_level(|level| {
        let (mut x, w) = (random(20, 140, 14), random(60, 140, 15));
        let clean = product(level, &x, &w);
        x.row_mut(7)[139] = f32::NAN;
        x.row_mut(12)[0] = f32::INFINITY;
        let y = product(level, &x, &w);
        for row in 0..20 {
            match row {
                7 => assert!(y.row(row).iter().all(|y| y.is_nan()), "{level}"),
                12 => assert!(y.row(row).iter().all(|y| !y.is_finite()), "{level}"),
                _ => assert_eq!(y.row(row), clean.row(row), "{level}"),
            }
        }
    });
}

#[test]
#[should_panic(expected = "x (3, 4) times PackedMatrix 5 x 6")]
fn shapes_that_do_not_fit_are_named() {
    product(Level::current(), &random(3, 4, 0), &random(5, 6, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_shapes_are_within_the_bound(
        rows in 0usize..40,
        outputs in 0usize..120,
        inputs in 0usize..300,
        threads in 1usize..4,
        seed: u64,
    ) {
        let (x, w) = (random(rows, inputs, seed), random(outputs, inputs, !seed));
        for level in Level::available() {
            let mut tolerance = Tolerance::new("matmul");
            check(&mut tolerance, &x, &w, &in_pool(threads, || product(level, &x, &w)));
            tolerance.finish();
        }
    }
}
