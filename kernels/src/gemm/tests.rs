use proptest::prelude::*;

use super::{Activations, Epilogue, Left, PackedMatrix, matmul, matmul_into};
use crate::reference::{self, transpose, widen_matrix};
use crate::testing::{Edge, Guarded, Random, Tolerance, U, all_arithmetics, for_each_arithmetic};
use crate::{Activation, Arithmetic, Level, Mat, MatMut, Matrix, Precision};

/// Inputs of a K block of floats. Those of narrower numbers are multiples of it.
const DEPTH: usize = 384;

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

fn product(arithmetic: impl Into<Arithmetic>, x: &Matrix<f32>, w: &Matrix<f32>) -> Matrix<f32> {
    let mut y = Matrix::from_fn(x.rows(), w.rows(), |_, _| f32::NAN);
    matmul(x.view(), &PackedMatrix::new(arithmetic, w.view()), Epilogue::Store, y.view_mut());
    y
}

/// An operand of a product: rows of x are rounded otherwise than those of a weight in int8.
#[derive(Clone, Copy)]
enum Operand {
    X,
    Weight,
}

/// What a product computes with in place of an operand: naive, from the definition of the precision.
fn rounded(precision: Precision, operand: Operand, x: &Matrix<f32>) -> Matrix<f64> {
    let mut rounded = widen_matrix(x.view());
    for row in 0..x.rows() {
        let Integers { q, zero, scale } = integers(operand, x.row(row));
        for (col, y) in rounded.row_mut(row).iter_mut().enumerate() {
            *y = match precision {
                Precision::F32 => *y,
                Precision::Bf16 => half::bf16::from_f32(x.row(row)[col]).to_f64(),
                Precision::Int8 => (q[col] - zero) as f64 * f64::from(scale),
            };
        }
    }
    rounded
}

/// A row as `scale (q - zero)`.
struct Integers {
    q: Vec<i64>,
    zero: i64,
    scale: f32,
}

fn integers(operand: Operand, row: &[f32]) -> Integers {
    let least = row.iter().fold(0.0f32, |least, &x| least.min(x));
    let most = row.iter().fold(0.0f32, |most, &x| most.max(x));
    let (count, range) = match operand {
        Operand::X => (255.0, f64::from(most) - f64::from(least)),
        Operand::Weight => (127.0, f64::from(most.max(-least))),
    };
    let inverse = (count / range) as f32;
    if !inverse.is_finite() {
        return Integers { q: vec![0; row.len()], zero: 0, scale: 0.0 };
    }
    let nearest = |x: f32| (x * inverse).round_ties_even() as i64;
    let zero = match operand {
        Operand::X => nearest(-least),
        Operand::Weight => 0,
    };
    let q = row.iter().map(|&x| (nearest(x) + zero).min(255)).collect();
    Integers { q, zero, scale: (range / count) as f32 }
}

/// The product of integers, exact, and then its three roundings.
fn naive_int8(x: &Matrix<f32>, w: &Matrix<f32>) -> Matrix<f32> {
    let weights: Vec<Integers> =
        (0..w.rows()).map(|row| integers(Operand::Weight, w.row(row))).collect();
    let mut y = Matrix::zeros(x.rows(), w.rows());
    for row in 0..x.rows() {
        let a = integers(Operand::X, x.row(row));
        for (y, b) in y.row_mut(row).iter_mut().zip(&weights) {
            let sum: i64 = a.q.iter().zip(&b.q).map(|(q, w)| (q - a.zero) * w).sum();
            *y = sum as f32 * (a.scale * b.scale);
        }
    }
    y
}

/// The bounds that [`matmul`] states.
fn check(
    tolerance: &mut Tolerance,
    arithmetic: Arithmetic,
    x: &Matrix<f32>,
    w: &Matrix<f32>,
    y: &Matrix<f32>,
) {
    let precision = arithmetic.precision();
    let x64 = rounded(precision, Operand::X, x);
    let w64 = transpose(&rounded(precision, Operand::Weight, w));
    let exact = reference::matmul(&x64, &w64);
    let absolute = |m: &Matrix<f64>| Matrix::from_fn(m.rows(), m.cols(), |r, c| m.row(r)[c].abs());
    let magnitude = reference::matmul(&absolute(&x64), &absolute(&w64));
    let gamma = |k: usize| k as f64 * U / (1.0 - k as f64 * U);
    for row in 0..y.rows() {
        for col in 0..y.cols() {
            let limit = match precision {
                Precision::F32 => gamma(x.cols()) * magnitude.row(row)[col],
                Precision::Bf16 => gamma(2 * x.cols()) * magnitude.row(row)[col],
                // The exact sum is rounded once, the product of the scales and that with it twice.
                // (The last term is what the reference itself may be off.)
                Precision::Int8 => {
                    gamma(3) * exact.row(row)[col].abs() + 1e-13 * magnitude.row(row)[col]
                }
            };
            let case =
                || format!("{arithmetic} {:?} x {:?} at ({row}, {col})", x.shape(), w.shape());
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
    for_each_arithmetic(|arithmetic| {
        let mut tolerance = Tolerance::new(format!("matmul {arithmetic}"));
        for (rows, outputs, inputs) in shapes() {
            let (x, w) = (random(rows, inputs, 1), random(outputs, inputs, 2));
            check(&mut tolerance, arithmetic, &x, &w, &product(arithmetic, &x, &w));
        }
        tolerance.finish();
    });
}

#[test]
fn products_of_integers_are_exact() {
    for_each_arithmetic(|arithmetic| {
        for (rows, outputs, inputs) in [(5, 7, 3), (130, 100, 300), (1, 1000, 129)] {
            let mut numbers = Random::new(3);
            let mut x = Matrix::from_slice(rows, inputs, &numbers.integers(rows * inputs, 8));
            let mut w = Matrix::from_slice(outputs, inputs, &numbers.integers(outputs * inputs, 8));
            // In int8 the scales are one: a row of x is 255 wide, the largest weight 127; what those
            // are multiplied with is zero.
            (0..rows).for_each(|row| x.row_mut(row)[..3].copy_from_slice(&[100.0, -155.0, 0.0]));
            (0..outputs).for_each(|row| w.row_mut(row)[..3].copy_from_slice(&[0.0, 0.0, 127.0]));
            let exact =
                reference::matmul(&widen_matrix(x.view()), &transpose(&widen_matrix(w.view())));
            let y = product(arithmetic, &x, &w);
            let wrong = widen_matrix(y.view()) != exact;
            assert!(!wrong, "{arithmetic} {rows} x {outputs} x {inputs}");
        }
    });
}

#[test]
fn nothing_beyond_the_operands_is_touched() {
    for_each_arithmetic(|arithmetic| {
        for edge in Edge::BOTH {
            for rows in [1, 3, 8, 9, 20] {
                for outputs in [1, 5, 16, 17, 48, 50, 96] {
                    for inputs in [0, 1, 4, 33, DEPTH + 2] {
                        let (x, w) = (random(rows, inputs, 4), random(outputs, inputs, 5));
                        let w_packed = PackedMatrix::new(arithmetic, w.view());
                        let x_guarded = Guarded::copy(x.as_slice(), edge);
                        let bias = Guarded::copy(&vec![0.25; outputs], edge);
                        let mut y = Guarded::nan(rows * outputs, edge);
                        matmul(
                            Mat::new(&x_guarded, rows, inputs, inputs),
                            &w_packed,
                            Epilogue::Bias(&bias),
                            MatMut::new(&mut y, rows, outputs, outputs),
                        );
                        let mut expected = product(arithmetic, &x, &w);
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
    for_each_arithmetic(|arithmetic| {
        let (x, w) = (random(21, 70, 6), random(61, 70, 7));
        let wide = Matrix::from_fn(21, 100, |r, c| if c < 70 { x.row(r)[c] } else { f32::NAN });
        let mut y = Matrix::from_fn(21, 80, |_, _| -7.5);
        let packed = PackedMatrix::new(arithmetic, w.view());
        let columns = y.view_mut().col_range(9..70);
        matmul(wide.view().col_range(0..70), &packed, Epilogue::Store, columns);
        let expected = product(arithmetic, &x, &w);
        for row in 0..21 {
            assert_eq!(y.row(row)[9..70], *expected.row(row), "{arithmetic} row {row}");
            let outside = y.row(row)[..9].iter().chain(&y.row(row)[70..]);
            assert!(outside.into_iter().all(|&y| y == -7.5), "{arithmetic} row {row}");
        }
    });
}

#[test]
fn bits_depend_on_neither_threads_nor_other_rows() {
    for_each_arithmetic(|arithmetic| {
        for (rows, outputs, inputs) in [(5, 400, 300), (300, 900, 260), (1000, 100, 130)] {
            let (x, w) = (random(rows, inputs, 8), random(outputs, inputs, 9));
            let expected = in_pool(1, || product(arithmetic, &x, &w));
            for threads in [2, 3, 4, 7] {
                let y = in_pool(threads, || product(arithmetic, &x, &w));
                assert_eq!(bits(&y), bits(&expected), "{threads}");
            }
            for row in [0, 1, rows / 2, rows - 1] {
                let alone = Matrix::from_slice(1, inputs, x.row(row));
                assert_eq!(product(arithmetic, &alone, &w).row(0), expected.row(row), "row {row}");
            }
        }
    });
}

#[test]
fn epilogues_do_what_they_say() {
    for_each_arithmetic(|arithmetic| {
        let (x, w, residual) = (random(13, 40, 10), random(53, 40, 11), random(13, 53, 12));
        let bias = Random::new(13).vector(53, -1.0, 1.0);
        let packed = PackedMatrix::new(arithmetic, w.view());
        let sums = product(arithmetic, &x, &w);
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
            f.apply(arithmetic.level(), activated.as_mut_slice());
            assert_eq!(run(Epilogue::BiasActivation(&bias, f)), activated, "{arithmetic} {f:?}");
        }
    });
}

#[test]
fn a_product_is_added_to_what_is_there() {
    for_each_arithmetic(|arithmetic| {
        for (rows, outputs, inputs) in [(1, 1, 1), (13, 53, 40), (300, 70, 1000), (5, 9, 0)] {
            // Integers, one of them such that in int8 the scales are one, so that every precision is
            // exact.
            let mut random = Random::new(14);
            let mut integers = |rows: usize, cols: usize, first: f32| {
                let numbers =
                    random.integers(rows * cols, 3).iter().map(|x| x.abs()).collect::<Vec<_>>();
                let mut x = Matrix::from_slice(rows, cols, &numbers);
                (0..rows * usize::from(cols > 0)).for_each(|row| x.row_mut(row)[0] = first);
                x
            };
            let x = integers(rows, inputs, 255.0);
            let (w, before) = (integers(outputs, inputs, 127.0), integers(rows, outputs, 1.0));
            let product = product(arithmetic, &x, &w);
            let mut y = before.clone();
            let packed = PackedMatrix::new(arithmetic, w.view());
            matmul(x.view(), &packed, Epilogue::Add, y.view_mut());
            let sum = |r: usize, c: usize| before.row(r)[c] + product.row(r)[c];
            assert_eq!(y, Matrix::from_fn(rows, outputs, sum), "{arithmetic} {rows}");
        }
    });
}

#[test]
fn a_nan_or_an_infinity_stays_in_its_row() {
    for_each_arithmetic(|arithmetic| {
        let (mut x, w) = (random(20, 140, 14), random(60, 140, 15));
        let clean = product(arithmetic, &x, &w);
        x.row_mut(7)[139] = f32::NAN;
        x.row_mut(12)[0] = f32::INFINITY;
        let y = product(arithmetic, &x, &w);
        for row in 0..20 {
            match row {
                7 => assert!(y.row(row).iter().all(|y| y.is_nan()), "{arithmetic}"),
                12 => assert!(y.row(row).iter().all(|y| !y.is_finite()), "{arithmetic}"),
                _ => assert_eq!(y.row(row), clean.row(row), "{arithmetic}"),
            }
        }
    });
}

/// One definition for all levels: what sums of integers are does not depend on the instructions.
#[test]
fn int8_has_the_same_bits_at_all_levels() {
    for (rows, outputs, inputs) in [(1, 1, 1), (7, 33, 65), (9, 50, 1537), (140, 20, 700)] {
        let (x, w) = (random(rows, inputs, 16), random(outputs, inputs, 17));
        let naive = naive_int8(&x, &w);
        for level in Level::available() {
            let y = product(Arithmetic::new(level, Precision::Int8), &x, &w);
            assert_eq!(bits(&y), bits(&naive), "{level} {rows} x {outputs} x {inputs}");
        }
    }
}

/// Rows of which all numbers are of one sign, or zero, or at the ends of the range.
#[test]
fn int8_rows_of_all_kinds_have_the_same_bits_at_all_levels() {
    let w = random(37, 70, 24);
    let some = random(1, 70, 25);
    let rows: [&dyn Fn(usize) -> f32; 10] = [
        &|_| 0.0,
        &|_| -0.0,
        &|_| 3.5,
        &|_| -3.5,
        &|k| some.row(0)[k].abs(),
        &|k| -1.0 - some.row(0)[k].abs(),
        &|k| if k == 69 { 1e-3 } else { 0.0 },
        &|k| if k % 2 == 0 { f32::MAX } else { -f32::MAX },
        &|k| some.row(0)[k] * 1e-36,
        &|k| some.row(0)[k] * 1e-42,
    ];
    let x = Matrix::from_fn(rows.len(), 70, |row, k| rows[row](k));
    let naive = naive_int8(&x, &w);
    for arithmetic in int8_arithmetics() {
        assert_eq!(bits(&product(arithmetic, &x, &w)), bits(&naive), "{arithmetic}");
    }
}

/// The largest sums that there can be, of either sign: nothing saturates on the way.
#[test]
fn int8_sums_do_not_saturate() {
    for sign in [1.0, -1.0] {
        let (x, w) = (Matrix::from_fn(3, 5000, |_, _| sign), Matrix::from_fn(20, 5000, |_, _| 1.0));
        for arithmetic in int8_arithmetics() {
            let y = product(arithmetic, &x, &w);
            let expected = sign * (255.0 * 127.0 * 5000.0) * (1.0f32 / 255.0 * (1.0f32 / 127.0));
            assert!(y.as_slice().iter().all(|&y| y == expected), "{arithmetic} {:?}", y.row(0));
        }
    }
}

/// Every kernel of int8, that of the tile unit in the emulator if need be.
fn int8_arithmetics() -> Vec<Arithmetic> {
    let mut all = all_arithmetics();
    all.retain(|arithmetic| arithmetic.precision() == Precision::Int8);
    all
}

/// Scales of columns move what is lost, and change nothing else: x that a norm would make, some
/// columns a hundred times as large as others.
mod columns {
    use super::*;
    use crate::ColumnScales;

    fn operands() -> (Matrix<f32>, Matrix<f32>, ColumnScales) {
        let (mut x, w) = (random(21, 90, 26), random(35, 90, 27));
        let magnitude = |col: usize| if col.is_multiple_of(13) { 100.0 } else { 1.0 };
        let magnitudes: Vec<f32> = (0..90).map(magnitude).collect();
        for row in 0..21 {
            x.row_mut(row).iter_mut().zip(&magnitudes).for_each(|(x, m)| *x *= m);
        }
        let scales = ColumnScales::balance(&magnitudes, &[w.view()]);
        (x, w, scales)
    }

    fn pack(arithmetic: Arithmetic, w: &Matrix<f32>, scales: &ColumnScales) -> PackedMatrix {
        let row = |row: usize| w.row(row);
        PackedMatrix::from_scaled_rows(arithmetic, Some(scales), w.rows(), w.cols(), row)
    }

    /// The naive product of what is scaled.
    #[test]
    fn products_have_the_bits_of_scaled_operands() {
        let (x, w, scales) = operands();
        let factors = scales.factors();
        assert!(factors.iter().any(|&factor| factor != factors[0]));
        let scaled_x = Matrix::from_fn(21, 90, |r, c| x.row(r)[c] * factors[c]);
        let scaled_w = Matrix::from_fn(35, 90, |r, c| w.row(r)[c] / factors[c]);
        let naive = naive_int8(&scaled_x, &scaled_w);
        for arithmetic in int8_arithmetics() {
            let packed = pack(arithmetic, &w, &scales);
            let mut ready = Activations::default();
            ready.resize(arithmetic, 21, 90);
            ready.scale_columns(Some(&scales));
            ready.write_rows(|first, mut rows| {
                for row in 0..rows.rows() {
                    rows.row_mut(row).copy_from_slice(x.row(first + row));
                }
            });
            assert_eq!(ready.values().row(3), x.row(3), "the floats are as they were");
            // Ready, with no scales, and not ready at all: the product finds out.
            let unscaled = Activations::from_rows(arithmetic, x.view());
            for x in [Left::from(&ready), Left::from(&unscaled), Left::from(x.view())] {
                let mut y = Matrix::zeros(21, 35);
                matmul(x, &packed, Epilogue::Store, y.view_mut());
                assert_eq!(bits(&y), bits(&naive), "{arithmetic}");
            }
            // And the other way round.
            let plain = PackedMatrix::new(arithmetic, w.view());
            let mut y = Matrix::zeros(21, 35);
            matmul(&ready, &plain, Epilogue::Store, y.view_mut());
            assert_eq!(bits(&y), bits(&naive_int8(&x, &w)), "{arithmetic}");
        }
    }

    #[test]
    fn products_lose_less() {
        let (x, w, scales) = operands();
        let exact = reference::matmul(&widen_matrix(x.view()), &transpose(&widen_matrix(w.view())));
        let arithmetic = Arithmetic::new(Level::current(), Precision::Int8);
        let loss = |w: &PackedMatrix| {
            let mut y = Matrix::zeros(21, 35);
            matmul(x.view(), w, Epilogue::Store, y.view_mut());
            let off = y.as_slice().iter().zip(exact.as_slice());
            off.map(|(y, exact)| (f64::from(*y) - exact).powi(2)).sum::<f64>()
        };
        let plain = loss(&PackedMatrix::new(arithmetic, w.view()));
        let scaled = loss(&pack(arithmetic, &w, &scales));
        assert!(scaled < 0.5 * plain, "{scaled} of {plain}");
    }

    #[test]
    fn a_weight_is_unpacked_and_repacked_with_its_scales() {
        let (x, w, scales) = operands();
        let arithmetic = Arithmetic::new(Level::current(), Precision::Int8);
        let mut packed = pack(arithmetic, &w, &scales);
        let unpacked = packed.unpack();
        for row in 0..35 {
            // Half a step of the largest scaled weight, in each column's own scale.
            let scaled = w.row(row).iter().zip(scales.factors()).map(|(w, f)| (w / f).abs());
            let step = scaled.fold(0.0f32, f32::max) / 127.0;
            for (col, factor) in scales.factors().iter().enumerate() {
                let off = (unpacked.row(row)[col] - w.row(row)[col]).abs();
                assert!(off <= 0.501 * step * factor, "({row}, {col})");
            }
        }
        let before = pack(arithmetic, &w, &scales);
        packed.repack(x.view());
        packed.repack(w.view());
        assert!(packed.same_bytes(&before));
    }

    /// Neither zero nor what is no number makes a scale that is not a number.
    #[test]
    fn scales_are_ordinary_numbers() {
        let magnitudes = [0.0, 1.0, f32::NAN, f32::INFINITY, 1e-40, f32::MAX, 0.0];
        let w = Matrix::from_slice(1, 7, &[0.0, 0.0, 1.0, f32::INFINITY, f32::NAN, 1e-44, 1.0]);
        let scales = ColumnScales::balance(&magnitudes, &[w.view()]);
        for &factor in scales.factors() {
            assert!((1.0 / 65_536.0..=65_536.0).contains(&factor), "{factor}");
        }
    }

    #[test]
    fn other_precisions_have_none() {
        let (x, w, scales) = operands();
        for_each_arithmetic(|arithmetic| {
            if arithmetic.precision() != Precision::Int8 {
                let packed = pack(arithmetic, &w, &scales);
                assert!(packed.same_bytes(&PackedMatrix::new(arithmetic, w.view())));
                let mut y = Matrix::zeros(21, 35);
                matmul(x.view(), &packed, Epilogue::Store, y.view_mut());
                assert_eq!(bits(&y), bits(&product(arithmetic, &x, &w)), "{arithmetic}");
            }
        });
    }
}

/// Activations that a product wrote have the bits of floats that are converted afterwards.
#[test]
fn converted_activations_have_the_bits_of_floats() {
    for_each_arithmetic(|arithmetic| {
        for (rows, inner, outputs) in [(3, 5, 7), (20, 100, 33), (300, 130, 49)] {
            let (x, w) = (random(rows, 60, 18), random(inner, 60, 19));
            let (bias, next) = (vec![0.5; inner], random(outputs, inner, 20));
            let (w, next) = (
                PackedMatrix::new(arithmetic, w.view()),
                PackedMatrix::new(arithmetic, next.view()),
            );
            let epilogue = Epilogue::BiasActivation(&bias, Activation::Gelu);
            for threads in [1, 3] {
                in_pool(threads, || {
                    let mut h = Matrix::zeros(rows, inner);
                    matmul(x.view(), &w, epilogue, h.view_mut());
                    let mut expected = Matrix::zeros(rows, outputs);
                    matmul(h.view(), &next, Epilogue::Store, expected.view_mut());

                    let mut activations = Activations::default();
                    // What was there before is of another shape, and not numbers.
                    activations.resize(arithmetic, rows + 1, inner + 40);
                    activations.write_rows(|_, mut rows| {
                        (0..rows.rows()).for_each(|row| rows.row_mut(row).fill(f32::NAN));
                    });
                    activations.resize(arithmetic, rows, inner);
                    matmul_into(x.view(), &w, epilogue, &mut activations);
                    let mut y = Matrix::zeros(rows, outputs);
                    matmul(&activations, &next, Epilogue::Store, y.view_mut());
                    assert_eq!(bits(&y), bits(&expected), "{arithmetic} {rows} x {inner}");
                });
            }
        }
    });
}

/// The kernels of the tile unit where the machine has none: few and small products. Where it has one
/// the tests above run them too.
mod tiles {
    use super::*;
    use crate::testing::emulated_arithmetics;

    fn tiles() -> Vec<Arithmetic> {
        let here = Arithmetic::available().into_iter().filter(|one| one.level().name() == "amx");
        here.chain(emulated_arithmetics()).collect()
    }

    /// Shapes around each constant of the kernels: tiles of 16, panels of 32, K in 32, 64 and in
    /// blocks of 128, 256 and 512.
    const SHAPES: [(usize, usize, usize); 14] = [
        (0, 3, 5),
        (1, 1, 0),
        (1, 1, 1),
        (2, 15, 31),
        (15, 16, 32),
        (16, 17, 33),
        (17, 31, 64),
        (31, 32, 65),
        (32, 33, 127),
        (33, 49, 130),
        (3, 40, 257),
        (1, 16, 513),
        (130, 33, 40),
        (5, 300, 33),
    ];

    #[test]
    fn products_are_within_their_bounds() {
        for arithmetic in tiles() {
            let mut tolerance = Tolerance::new(format!("matmul {arithmetic} by tiles"));
            for (rows, outputs, inputs) in SHAPES {
                let (x, w) = (random(rows, inputs, 1), random(outputs, inputs, 2));
                check(&mut tolerance, arithmetic, &x, &w, &product(arithmetic, &x, &w));
            }
            tolerance.finish();
        }
    }

    #[test]
    fn int8_has_the_bits_of_the_other_levels() {
        for arithmetic in tiles() {
            if arithmetic.precision() == Precision::Int8 {
                for (rows, outputs, inputs) in SHAPES {
                    let (x, w) = (random(rows, inputs, 3), random(outputs, inputs, 4));
                    let other = Arithmetic::new(Level::available()[0], Precision::Int8);
                    let (y, expected) = (product(arithmetic, &x, &w), product(other, &x, &w));
                    assert_eq!(bits(&y), bits(&expected), "{rows} x {outputs} x {inputs}");
                }
            }
        }
    }

    #[test]
    fn bits_depend_on_neither_threads_nor_other_rows() {
        for arithmetic in tiles() {
            let (x, w) = (random(70, 150, 5), random(75, 150, 6));
            let expected = in_pool(1, || product(arithmetic, &x, &w));
            for threads in [2, 3] {
                let y = in_pool(threads, || product(arithmetic, &x, &w));
                assert_eq!(bits(&y), bits(&expected), "{arithmetic} {threads} threads");
            }
            for row in [0, 33, 69] {
                let alone = Matrix::from_slice(1, 150, x.row(row));
                let y = product(arithmetic, &alone, &w);
                assert_eq!(y.row(0), expected.row(row), "{arithmetic} row {row}");
            }
        }
    }

    #[test]
    fn converted_activations_have_the_bits_of_floats() {
        for arithmetic in tiles() {
            let (x, w, next) = (random(19, 40, 7), random(45, 40, 8), random(17, 45, 9));
            let bias = vec![0.25; 45];
            let epilogue = Epilogue::BiasActivation(&bias, Activation::Gelu);
            let w = PackedMatrix::new(arithmetic, w.view());
            let next = PackedMatrix::new(arithmetic, next.view());
            let mut h = Matrix::zeros(19, 45);
            matmul(x.view(), &w, epilogue, h.view_mut());
            let mut expected = Matrix::zeros(19, 17);
            matmul(h.view(), &next, Epilogue::Store, expected.view_mut());
            let mut activations = Activations::default();
            activations.resize(arithmetic, 19, 45);
            matmul_into(x.view(), &w, epilogue, &mut activations);
            let mut y = Matrix::zeros(19, 17);
            matmul(&activations, &next, Epilogue::Store, y.view_mut());
            assert_eq!(bits(&y), bits(&expected), "{arithmetic}");
        }
    }

    /// A tile reads rows behind the last of its operand: there are some, wherever that ends.
    #[test]
    fn any_range_of_rows_has_the_bits_of_the_whole() {
        for arithmetic in tiles() {
            let (x, w) = (random(37, 40, 21), random(20, 40, 22));
            let expected = product(arithmetic, &x, &w);
            let w = PackedMatrix::new(arithmetic, w.view());
            let x = Activations::from_rows(arithmetic, x.view());
            for range in [0..37, 0..1, 1..17, 15..20, 17..37, 36..37, 20..20] {
                let mut y = Matrix::zeros(range.len(), 20);
                let part = Left::from(&x).row_range(range.clone());
                matmul(part, &w, Epilogue::Store, y.view_mut());
                for (row, of_all) in range.enumerate() {
                    assert_eq!(y.row(row), expected.row(of_all), "{arithmetic} row {of_all}");
                }
            }
        }
    }

    #[test]
    fn packing_loses_nothing_in_f32() {
        for arithmetic in tiles() {
            if arithmetic.precision() == Precision::F32 {
                let w = random(37, 150, 10);
                assert_eq!(PackedMatrix::new(arithmetic, w.view()).unpack(), w);
            }
        }
    }

    /// What the promise of f32 is worth: wide ranges of exponents, cancellation, numbers near both
    /// ends of the range, and whatever is not a number.
    #[test]
    fn f32_keeps_its_bound_where_pieces_are_hard() {
        for arithmetic in tiles() {
            if arithmetic.precision() != Precision::F32 {
                continue;
            }
            let mut random_bits = Random::new(11);
            let mut wide = |rows, range: i32| {
                Matrix::from_fn(rows, 70, |_, _| {
                    let exponent = random_bits.below(2 * range as usize + 1) as i32 - range;
                    random_bits.uniform(-2.0, 2.0) * 2f32.powi(exponent)
                })
            };
            let mut tolerance = Tolerance::new("f32 by pieces where it is hard");
            for range in [0, 10, 30, 55, 62] {
                // Beyond 2^55 some rows of x, and all of w, are no longer multiplied by pieces.
                let (x, w) = (wide(18, range), wide(17, range));
                check(&mut tolerance, arithmetic, &x, &w, &product(arithmetic, &x, &w));
            }
            // Neighbours cancel all but their last bits.
            let mut x = random(18, 70, 12);
            let mut w = random(17, 70, 13);
            for k in (0..70).step_by(2) {
                for row in 0..18 {
                    x.row_mut(row)[k + 1] = f32::from_bits(x.row(row)[k].to_bits() ^ 1);
                }
                for row in 0..17 {
                    w.row_mut(row)[k + 1] = -w.row(row)[k];
                }
            }
            check(&mut tolerance, arithmetic, &x, &w, &product(arithmetic, &x, &w));
            // Both ends of the range, in x and then in w, with nothing else in the sum that would
            // hide what is lost; the other operand keeps the products away from the ends.
            let some = |x: &Matrix<f32>, factor: f32, others: f32| {
                let factor = |col: usize| if col.is_multiple_of(3) { factor } else { others };
                Matrix::from_fn(x.rows(), 70, |r, c| x.row(r)[c] * factor(c))
            };
            let (x, w) = (random(18, 70, 12), random(17, 70, 13));
            for factor in [1e-40, 1e-37, 1e-33, 1e-30, 1e18, 1e25, 1e37, f32::MAX] {
                let inverse = if factor < 1.0 { 1e15 } else { 1e-15 };
                let (odd_x, odd_w) = (some(&x, factor, 1.0), some(&w, factor, 1.0));
                let (even_x, even_w) = (some(&x, inverse, 0.0), some(&w, inverse, 0.0));
                for (x, w) in [(&odd_x, &even_w), (&even_x, &odd_w)] {
                    check(&mut tolerance, arithmetic, x, w, &product(arithmetic, x, w));
                }
            }
            tolerance.finish();
        }
    }

    #[test]
    fn what_is_no_number_stays_in_its_row() {
        for arithmetic in tiles() {
            let (mut x, w) = (random(20, 70, 14), random(33, 70, 15));
            let clean = product(arithmetic, &x, &w);
            x.row_mut(7)[69] = f32::NAN;
            x.row_mut(12)[0] = f32::INFINITY;
            let y = product(arithmetic, &x, &w);
            for row in 0..20 {
                match row {
                    7 => assert!(y.row(row).iter().all(|y| y.is_nan()), "{arithmetic}"),
                    12 => assert!(y.row(row).iter().all(|y| !y.is_finite()), "{arithmetic}"),
                    _ => assert_eq!(y.row(row), clean.row(row), "{arithmetic}"),
                }
            }
            let mut w = w;
            w.row_mut(3)[1] = f32::NAN;
            let y = product(arithmetic, &random(20, 70, 14), &w);
            let is_nan = |col: usize| (0..20).all(|row| y.row(row)[col].is_nan() == (col == 3));
            assert!((0..33).all(is_nan), "{arithmetic}");
        }
    }

    #[test]
    fn nothing_beyond_the_result_is_touched() {
        for arithmetic in tiles() {
            for edge in Edge::BOTH {
                for (rows, outputs, inputs) in [(1, 1, 1), (16, 32, 64), (17, 33, 65), (3, 50, 40)]
                {
                    let (x, w) = (random(rows, inputs, 16), random(outputs, inputs, 17));
                    let mut y = Guarded::nan(rows * outputs, edge);
                    let packed = PackedMatrix::new(arithmetic, w.view());
                    let out = MatMut::new(&mut y, rows, outputs, outputs);
                    matmul(x.view(), &packed, Epilogue::Store, out);
                    assert_eq!(&y[..], product(arithmetic, &x, &w).as_slice(), "{arithmetic}");
                }
            }
        }
    }
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
        for arithmetic in Arithmetic::available() {
            let mut tolerance = Tolerance::new("matmul");
            check(&mut tolerance, arithmetic, &x, &w, &in_pool(threads, || product(arithmetic, &x, &w)));
            tolerance.finish();
        }
    }
}
