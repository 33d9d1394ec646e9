//! The product of a whole layer: epilogues, and how threads share the work.

use std::ops::Range;

use super::multiply::{ROW_BLOCK, multiply};
use super::packed::PackedMatrix;
use crate::activation::Activation;
use crate::matrix::{Mat, MatMut};
use crate::simd::{F32s, Simd, dispatch};

/// Below this many multiply-adds (some ten microseconds) a second thread costs more than it
/// brings.
const WORTH_A_THREAD: usize = 512 * 1024;

/// Pieces per thread of a long product, so that a thread that was held up does not hold up all.
const PIECES_PER_THREAD: usize = 4;

/// What happens to a sum before it leaves for memory.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Epilogue<'a> {
    /// `y = x Wᵀ`
    Store,
    /// `y = x Wᵀ + b`
    Bias(&'a [f32]),
    /// `y = f(x Wᵀ + b)`
    BiasActivation(&'a [f32], Activation),
    /// `y = x Wᵀ + b + r`, the residual `r` of the shape of `y`.
    BiasResidual(&'a [f32], Mat<'a>),
}

/// `y = x Wᵀ`, then the epilogue. Shapes: x (n, inputs), W (outputs, inputs), y (n, outputs).
/// `y` is overwritten and never read before.
///
/// Before the epilogue each element's error is within `gamma_k * sum |x| |w|`, where
/// `gamma_k = k u / (1 - k u)`, `u = 2^-24` and k is the number of inputs, as long as no product
/// underflows. Each is summed in one
/// fixed order: its bits depend on the level alone, not on the other rows, on the number of
/// threads or on the shape.
///
/// Runs on the current rayon pool: rows are shared out when there are many, columns when there are
/// few.
///
/// # Panics
/// If the shapes do not fit.
#[track_caller]
pub fn matmul(x: Mat<'_>, w: &PackedMatrix, epilogue: Epilogue<'_>, y: MatMut<'_>) {
    assert_eq!(
        (x.rows(), x.cols(), w.outputs()),
        (y.rows(), w.inputs(), y.cols()),
        "x {:?} times {w:?} into y {:?}",
        x.shape(),
        y.shape()
    );
    epilogue.check(y.rows(), y.cols());
    let work = x.rows() * w.outputs() * w.inputs();
    let threads = rayon::current_num_threads().min(work / WORTH_A_THREAD).max(1);
    let product = Product { w, epilogue };
    let panels = 0..w.panels().layout.panels();
    if threads > 1 && x.rows() >= threads * ROW_BLOCK {
        let step = x.rows().div_ceil(threads * PIECES_PER_THREAD).next_multiple_of(ROW_BLOCK);
        product.share_rows(x, 0, y, step);
    } else {
        let step = panels.len().div_ceil(threads);
        product.share_panels(x, panels, y, step);
    }
}

#[derive(Clone, Copy)]
struct Product<'a> {
    w: &'a PackedMatrix,
    epilogue: Epilogue<'a>,
}

impl Product<'_> {
    /// Halves the rows until at most `step` are left. The first of them is row `first_row` of the
    /// whole product.
    fn share_rows(self, x: Mat<'_>, first_row: usize, y: MatMut<'_>, step: usize) {
        if x.rows() <= step {
            return self.piece(x, first_row, 0..self.w.panels().layout.panels(), y);
        }
        let middle = x.rows().div_ceil(step).div_ceil(2) * step;
        let (top, bottom) = y.split_rows(middle);
        let rest = x.row_range(middle..x.rows());
        rayon::join(
            || self.share_rows(x.row_range(0..middle), first_row, top, step),
            || self.share_rows(rest, first_row + middle, bottom, step),
        );
    }

    /// Halves the panels until at most `step` are left. `y` has the columns of `panels` alone.
    fn share_panels(self, x: Mat<'_>, panels: Range<usize>, y: MatMut<'_>, step: usize) {
        if panels.len() <= step {
            return self.piece(x, 0, panels, y);
        }
        let middle = panels.start + panels.len() / 2;
        let layout = self.w.panels().layout;
        let (left, right) = y.split_cols(layout.start(middle) - layout.start(panels.start));
        rayon::join(
            || self.share_panels(x, panels.start..middle, left, step),
            || self.share_panels(x, middle..panels.end, right, step),
        );
    }

    /// One thread's part.
    fn piece(self, x: Mat<'_>, first_row: usize, panels: Range<usize>, y: MatMut<'_>) {
        let w = self.w.panels();
        let first_col = w.layout.start(panels.start);
        dispatch!(self.w.level(), s => {
            multiply(s, x, w, panels, y, #[inline(always)] |s, row, cols, y| {
                let cols = first_col + cols.start..first_col + cols.end;
                self.epilogue.finish(s, first_row + row, cols, y)
            })
        })
    }
}

impl Epilogue<'_> {
    #[track_caller]
    fn check(&self, rows: usize, cols: usize) {
        let (bias, residual) = match *self {
            Epilogue::Store => (None, None),
            Epilogue::Bias(bias) | Epilogue::BiasActivation(bias, _) => (Some(bias), None),
            Epilogue::BiasResidual(bias, residual) => (Some(bias), Some(residual)),
        };
        if let Some(bias) = bias {
            assert_eq!(bias.len(), cols, "elements of the bias of a {rows} x {cols} product");
        }
        if let Some(residual) = residual {
            assert_eq!(residual.shape(), (rows, cols), "shape of the residual of a product");
        }
    }

    /// Finishes the sums `y` of one row and the columns `cols`.
    #[inline(always)]
    fn finish<S: Simd>(self, s: S, row: usize, cols: Range<usize>, y: &mut [f32]) {
        match self {
            Epilogue::Store => {}
            Epilogue::Bias(bias) => {
                for (y, b) in y.chunks_mut(S::LANES).zip(bias[cols].chunks(S::LANES)) {
                    (s.load_or(y, 0.0) + s.load_or(b, 0.0)).store_prefix(y);
                }
            }
            Epilogue::BiasActivation(bias, f) => {
                for (y, b) in y.chunks_mut(S::LANES).zip(bias[cols].chunks(S::LANES)) {
                    f.apply_vector(s, s.load_or(y, 0.0) + s.load_or(b, 0.0)).store_prefix(y);
                }
            }
            Epilogue::BiasResidual(bias, residual) => {
                let residual = residual.row(row)[cols.clone()].chunks(S::LANES);
                let operands = bias[cols].chunks(S::LANES).zip(residual);
                for (y, (b, r)) in y.chunks_mut(S::LANES).zip(operands) {
                    (s.load_or(y, 0.0) + s.load_or(b, 0.0) + s.load_or(r, 0.0)).store_prefix(y);
                }
            }
        }
    }
}
