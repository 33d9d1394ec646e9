//! The product of a whole layer, and how threads share the work.

use std::ops::Range;

use super::activations::{Activations, Left, Ready, RowsMut};
use super::epilogue::Epilogue;
use super::form::Form;
use super::kernel::{Kernel, with_kernel};
use super::multiply::{ROW_BLOCK, multiply};
use super::packed::PackedMatrix;
use super::pieces::multiply_row;
use crate::elementwise;
use crate::matrix::{MatMut, Matrix};
use crate::parallel::{join, share_rows, worthwhile};

/// Below this many multiply-adds (some ten microseconds) a second thread costs more than it
/// brings.
const WORTH_A_THREAD: usize = 512 * 1024;

/// Pieces per thread of a long product, so that a thread that was held up does not hold up all.
const PIECES_PER_THREAD: usize = 4;

/// `y = x Wᵀ`, then the epilogue. Shapes: x (n, inputs), W (outputs, inputs), y (n, outputs).
/// `y` is overwritten and never read before, but for [`Epilogue::Add`].
///
/// Errors before the epilogue, where k is the number of inputs, `gamma_k = k u / (1 - k u)`,
/// `u = 2^-24`, and no product underflows:
/// - in f32 each element is within `gamma_k * sum |x| |w|`;
/// - in bf16 the same holds for what x and w are when rounded to bfloat16, with twice as many
///   roundings;
/// - in int8 the sum of the integers is exact; as a float times both scales it has three roundings.
///
/// Each element is summed in one fixed order: its bits depend on the arithmetic alone, not on the
/// other rows, on the number of threads or on the shape.
///
/// Runs on the current rayon pool: rows are shared out when there are many, columns when there are
/// few. If x is not [`Activations`] of the weight's arithmetic and scales of columns and that reads more
/// than floats, x is converted first, in memory taken for it.
///
/// # Panics
/// If the shapes do not fit.
#[track_caller]
pub fn matmul<'a>(x: impl Into<Left<'a>>, w: &PackedMatrix, epilogue: Epilogue<'_>, y: MatMut<'_>) {
    run(x.into(), w, epilogue, RowsMut::of_values(w.arithmetic(), y));
}

/// The same into [`Activations`], which are converted for the next product while they are in the
/// cache. They keep their arithmetic and must have the shape (n, outputs).
///
/// # Panics
/// If the shapes do not fit.
#[track_caller]
pub fn matmul_into<'a>(
    x: impl Into<Left<'a>>,
    w: &PackedMatrix,
    epilogue: Epilogue<'_>,
    y: &mut Activations,
) {
    run(x.into(), w, epilogue, y.as_mut().unless_by_rows());
    y.convert_by_rows();
}

#[track_caller]
fn run(x: Left<'_>, w: &PackedMatrix, epilogue: Epilogue<'_>, y: RowsMut<'_>) {
    let (rows, outputs) = (y.rows(), y.values.cols());
    assert_eq!(
        (x.rows(), x.cols(), w.outputs()),
        (rows, w.inputs(), outputs),
        "x {:?} times {w:?} into y {:?}",
        x.shape(),
        (rows, outputs)
    );
    epilogue.check(rows, outputs);
    if matches!(epilogue, Epilogue::Add) && w.unit().shape().form.by_rows() {
        return add_product(x, w, y);
    }
    let copy;
    let x = match x.ready(w) {
        Some(ready) => ready,
        None => {
            copy = Activations::for_product(x.values(), w);
            Left::from(&copy).ready(w).expect("converted to what is asked for")
        }
    };
    let work = rows * w.outputs() * w.inputs();
    let threads = worthwhile(work, WORTH_A_THREAD);
    let product = Product { w, epilogue };
    let panels = 0..w.panels().layout.panels();
    if threads > 1 && rows >= threads * ROW_BLOCK {
        let step = rows.div_ceil(threads * PIECES_PER_THREAD).next_multiple_of(ROW_BLOCK);
        product.share_rows(x, 0, y, step);
    } else {
        let step = panels.len().div_ceil(threads);
        product.share_panels(x, panels, y, step);
    }
}

/// `y += x Wᵀ` where sums are not of floats until they are finished, or where a row may have to be
/// computed anew: the product goes elsewhere first.
fn add_product(x: Left<'_>, w: &PackedMatrix, y: RowsMut<'_>) {
    let mut product = Matrix::zeros(y.rows(), y.values.cols());
    matmul(x, w, Epilogue::Store, product.view_mut());
    share_rows(y.values, |first, mut y| {
        for row in 0..y.rows() {
            elementwise::add(w.arithmetic().level(), y.row_mut(row), product.row(first + row));
        }
    });
}

#[derive(Clone, Copy)]
struct Product<'a> {
    w: &'a PackedMatrix,
    epilogue: Epilogue<'a>,
}

impl Product<'_> {
    /// Halves the rows until at most `step` are left. The first of them is row `first_row` of the
    /// whole product.
    fn share_rows(self, x: Ready<'_>, first_row: usize, y: RowsMut<'_>, step: usize) {
        let rows = y.rows();
        if rows <= step {
            return self.piece(x, first_row, 0..self.w.panels().layout.panels(), y);
        }
        let middle = rows.div_ceil(step).div_ceil(2) * step;
        let (top, bottom) = y.split_rows(middle);
        let rest = x.row_range(middle..rows);
        join(
            || self.share_rows(x.row_range(0..middle), first_row, top, step),
            || self.share_rows(rest, first_row + middle, bottom, step),
        );
    }

    /// Halves the panels until at most `step` are left. `y` has the columns of `panels` alone.
    fn share_panels(self, x: Ready<'_>, panels: Range<usize>, y: RowsMut<'_>, step: usize) {
        if panels.len() <= step {
            return self.piece(x, 0, panels, y);
        }
        let middle = panels.start + panels.len() / 2;
        let layout = self.w.panels().layout;
        let (left, right) = y.split_cols(layout.start(middle) - layout.start(panels.start));
        join(
            || self.share_panels(x, panels.start..middle, left, step),
            || self.share_panels(x, middle..panels.end, right, step),
        );
    }

    /// One thread's part.
    fn piece(self, x: Ready<'_>, first_row: usize, panels: Range<usize>, y: RowsMut<'_>) {
        with_kernel!(self.w.unit(), k => self.piece_by(k, x, first_row, panels, y));
    }

    fn piece_by<K: Kernel>(
        self,
        k: K,
        x: Ready<'_>,
        first_row: usize,
        panels: Range<usize>,
        y: RowsMut<'_>,
    ) {
        let w = self.w.panels();
        let first_col = w.layout.start(panels.start);
        let s = k.lanes();
        let (y, mut converter) = y.parts();
        k.enter(
            #[inline(always)]
            || {
                multiply(
                    k,
                    x.rows,
                    w,
                    panels,
                    matches!(self.epilogue, Epilogue::Add),
                    y,
                    #[inline(always)]
                    |row, cols, y| {
                        let of_whole = first_col + cols.start..first_col + cols.end;
                        if K::SHAPE.form == Form::Pieces && x.scale(row).scale.is_nan() {
                            multiply_row(s, x.values.row(row), w, of_whole.clone(), y);
                        }
                        let scale = K::SHAPE.form.scaled().then(|| x.scale(row));
                        let dequantize = scale.map(|scale| self.w.dequantize(scale));
                        self.epilogue.finish(s, dequantize, first_row + row, of_whole, y);
                        converter.convert(s, row, cols, y);
                    },
                );
            },
        );
    }
}
