//! What products take and give: rows of floats, and beside them the same rows in the form in which
//! the next product reads them.

use std::ops::Range;

use super::channels::ColumnScales;
use super::form::Form;
use super::kernel::Shape;
use super::packed::PackedMatrix;
use super::quantize::RowScale;
use crate::matrix::{Mat, MatMut, Matrix};
use crate::parallel::{join, rows_per_thread};
use crate::precision::Arithmetic;
use crate::simd::{Simd, dispatch};

/// Rows that are written and then converted while they are in the first-level cache.
const ROWS_AT_ONCE: usize = 8;

/// Rows of activations, (n, columns): floats, and the same in the form that products of an
/// [`Arithmetic`] read, converted once by whoever writes them. Where products read floats as they
/// are, there is nothing beside the floats.
///
/// ```
/// use ferrite_kernels::{Activations, Arithmetic, Epilogue, Level, Matrix, PackedMatrix};
/// use ferrite_kernels::{Precision, matmul};
///
/// let arithmetic = Arithmetic::new(Level::current(), Precision::Bf16);
/// let w = Matrix::from_fn(2, 3, |row, col| (row + col) as f32);
/// let weight = PackedMatrix::new(arithmetic, w.view());
/// let x = Matrix::from_fn(5, 3, |row, _| row as f32);
/// let x = Activations::from_rows(arithmetic, x.view());
/// let mut y = Matrix::zeros(5, 2);
/// matmul(&x, &weight, Epilogue::Store, y.view_mut());
/// assert_eq!(y.row(4), [12.0, 24.0]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Activations {
    arithmetic: Arithmetic,
    values: Matrix<f32>,
    shape: Shape,
    /// The rows in the shape's form, and behind them those that fill up a tile; empty for
    /// [`Form::F32`].
    converted: Matrix<u8>,
    /// The scale and the zero of each row, where the form goes by rows.
    scales: Matrix<f32>,
    /// The scales of columns that are in the integers, if there are any.
    columns: Option<ColumnScales>,
}

/// The numbers of a [`RowScale`].
const SCALE: usize = 2;

impl Activations {
    /// A copy of `x`, ready for products of `arithmetic`.
    pub fn from_rows(arithmetic: impl Into<Arithmetic>, x: Mat<'_>) -> Activations {
        let mut copy = Activations::default();
        copy.copy_from(arithmetic, x);
        copy
    }

    /// A copy of `x`, ready for products with `w`.
    pub(crate) fn for_product(x: Mat<'_>, w: &PackedMatrix) -> Activations {
        let mut copy = Activations::default();
        copy.resize(w.arithmetic(), x.rows(), x.cols());
        copy.scale_columns(w.columns());
        copy.fill_from(x);
        copy
    }

    /// Becomes a copy of `x`, ready for products of `arithmetic`, keeping the memory if it suffices.
    pub fn copy_from(&mut self, arithmetic: impl Into<Arithmetic>, x: Mat<'_>) {
        self.resize(arithmetic, x.rows(), x.cols());
        self.fill_from(x);
    }

    fn fill_from(&mut self, x: Mat<'_>) {
        self.write_rows(|first, mut rows| {
            for row in 0..rows.rows() {
                rows.row_mut(row).copy_from_slice(x.row(first + row));
            }
        });
    }

    /// The floats alone.
    pub fn into_values(self) -> Matrix<f32> {
        self.values
    }

    /// Changes the shape, keeping the memory if it suffices. Values are unspecified until they are
    /// written; columns have no scales any longer.
    pub fn resize(&mut self, arithmetic: impl Into<Arithmetic>, rows: usize, cols: usize) {
        let arithmetic = arithmetic.into();
        let shape = arithmetic.unit().shape();
        self.arithmetic = arithmetic;
        self.values.resize(rows, cols);
        let bytes = if shape.form == Form::F32 { 0 } else { row_bytes(shape, cols) };
        self.converted.resize(rows + shape.slack(), bytes);
        self.scales.resize(rows, if shape.form.by_rows() { SCALE } else { 0 });
        self.shape = shape;
        self.columns = None;
    }

    /// Has columns divided by these scales when rows are converted from now on, for products with
    /// weights that were packed with the same ones; the floats stay what they are. Where products
    /// are not of integers nothing is scaled.
    ///
    /// # Panics
    /// If there is not one for each column.
    #[track_caller]
    pub fn scale_columns(&mut self, scales: Option<&ColumnScales>) {
        let scales = scales.filter(|_| self.shape.form.scaled());
        if let Some(scales) = scales {
            assert_eq!(scales.factors().len(), self.cols(), "scales of columns, and columns");
        }
        self.columns = scales.cloned();
    }

    /// (rows, columns).
    pub fn shape(&self) -> (usize, usize) {
        self.values.shape()
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.values.rows()
    }

    /// The number of columns.
    pub fn cols(&self) -> usize {
        self.values.cols()
    }

    /// How the products are computed that these are for.
    pub fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    /// The floats.
    pub fn values(&self) -> Mat<'_> {
        self.values.view()
    }

    /// The floats, to be written. What products read stays as it was until
    /// [`Activations::convert`] or [`Activations::write_rows`].
    pub fn values_mut(&mut self) -> MatMut<'_> {
        self.values.view_mut()
    }

    /// Converts the floats for the products that read them.
    pub fn convert(&mut self) {
        if self.shape.form != Form::F32 {
            self.write_rows(|_, _| {});
        }
    }

    /// Writes all rows: `f(first row, rows)` is called for blocks of rows, on several threads if
    /// there are enough, and each block is converted as soon as it is written. `f` must treat each
    /// row by itself; it sees what was there before.
    pub fn write_rows(&mut self, f: impl Fn(usize, MatMut<'_>) + Sync) {
        let (rows, cols) = self.shape();
        let step = rows_per_thread(rows, cols);
        halve(0, self.as_mut(), step, &f);
    }

    /// Converts all rows of a form that goes by rows, whose values were written without.
    pub(crate) fn convert_by_rows(&mut self) {
        if self.shape.form.by_rows() {
            self.convert();
        }
    }

    /// All of it, to be written.
    pub(crate) fn as_mut(&mut self) -> RowsMut<'_> {
        RowsMut {
            arithmetic: self.arithmetic,
            shape: self.shape,
            converted: self.converted.view_mut().row_range(0..self.values.rows()),
            values: self.values.view_mut(),
            scales: self.scales.view_mut(),
            factors: self.columns.as_ref().map_or(&[], ColumnScales::factors),
        }
    }
}

/// Halves the rows until at most `step` are left, and writes and converts those.
fn halve(
    first: usize,
    mut rows: RowsMut<'_>,
    step: usize,
    f: &(impl Fn(usize, MatMut<'_>) + Sync),
) {
    if rows.rows() > step {
        let middle = rows.rows() / 2;
        let (top, bottom) = rows.split_rows(middle);
        join(|| halve(first, top, step, f), || halve(first + middle, bottom, step, f));
        return;
    }
    for start in (0..rows.rows()).step_by(ROWS_AT_ONCE) {
        let end = rows.rows().min(start + ROWS_AT_ONCE);
        f(first + start, rows.values.reborrow().row_range(start..end));
        rows.convert(start..end);
    }
}

/// Bytes of a row: its elements up to the kernel's multiple, each piece. An odd number of cache
/// lines, so that neighbouring rows do not fall into the same set of the cache.
fn row_bytes(shape: Shape, cols: usize) -> usize {
    const LINE: usize = 64;
    let lines = (shape.row_bytes(cols) * shape.form.pieces()).div_ceil(LINE);
    (lines | 1) * LINE
}

/// A part of some [`Activations`] that one thread writes.
pub(crate) struct RowsMut<'a> {
    arithmetic: Arithmetic,
    shape: Shape,
    pub(crate) values: MatMut<'a>,
    converted: MatMut<'a, u8>,
    scales: MatMut<'a>,
    /// What columns are multiplied by; empty if nothing.
    factors: &'a [f32],
}

impl<'a> RowsMut<'a> {
    pub(crate) fn rows(&self) -> usize {
        self.values.rows()
    }

    pub(crate) fn split_rows(self, at: usize) -> (RowsMut<'a>, RowsMut<'a>) {
        let RowsMut { arithmetic, shape, values, converted, scales, factors } = self;
        let (values, converted, scales) =
            (values.split_rows(at), converted.split_rows(at), scales.split_rows(at));
        let part = |values, converted, scales| RowsMut {
            arithmetic,
            shape,
            values,
            converted,
            scales,
            factors,
        };
        (part(values.0, converted.0, scales.0), part(values.1, converted.1, scales.1))
    }

    /// Values alone.
    pub(crate) fn of_values(arithmetic: Arithmetic, values: MatMut<'a>) -> RowsMut<'a> {
        let rows = values.rows();
        let (converted, scales) =
            (MatMut::new(&mut [], rows, 0, 0), MatMut::new(&mut [], rows, 0, 0));
        RowsMut { arithmetic, shape: Shape::default(), values, converted, scales, factors: &[] }
    }

    /// The values alone of a form that goes by rows.
    pub(crate) fn unless_by_rows(self) -> RowsMut<'a> {
        if self.shape.form.by_rows() {
            RowsMut::of_values(self.arithmetic, self.values)
        } else {
            self
        }
    }

    /// The first `at` columns and the rest, of a form that does not go by rows.
    pub(crate) fn split_cols(self, at: usize) -> (RowsMut<'a>, RowsMut<'a>) {
        let RowsMut { arithmetic, shape, values, converted, scales, .. } = self;
        let bytes = if shape.form == Form::F32 { 0 } else { at * shape.form.bytes() };
        let (values, converted) = (values.split_cols(at), converted.split_cols(bytes));
        let scales = scales.split_cols(0);
        let part = |values, converted, scales| RowsMut {
            arithmetic,
            shape,
            values,
            converted,
            scales,
            factors: &[],
        };
        (part(values.0, converted.0, scales.0), part(values.1, converted.1, scales.1))
    }

    /// The values, and what converts those columns of a row that are complete, of a form that does
    /// not go by rows.
    #[inline(always)]
    pub(crate) fn parts(self) -> (MatMut<'a>, Converter<'a>) {
        let last = self.values.cols();
        (self.values, Converter { form: self.shape.form, converted: self.converted, last })
    }

    /// Converts rows of which all values are written.
    pub(crate) fn convert(&mut self, rows: Range<usize>) {
        let RowsMut { shape, values, converted, scales, factors, .. } = self;
        if shape.form == Form::F32 {
            return;
        }
        dispatch!(self.arithmetic.level(), s => {
            for row in rows {
                let (x, out) = (values.row(row), converted.row_mut(row));
                let RowScale { scale, zero } = convert_row(s, *shape, x, factors, out);
                if shape.form.by_rows() {
                    scales.row_mut(row).copy_from_slice(&[scale, zero]);
                }
            }
        });
    }
}

/// Converts parts of rows as they are written.
pub(crate) struct Converter<'a> {
    form: Form,
    converted: MatMut<'a, u8>,
    last: usize,
}

impl Converter<'_> {
    /// Converts the columns `cols` of row `row`, and fills what follows the last with zeros.
    #[inline(always)]
    pub(crate) fn convert<S: Simd>(&mut self, s: S, row: usize, cols: Range<usize>, x: &[f32]) {
        if self.form == Form::F32 {
            return;
        }
        let out = self.converted.row_mut(row);
        let bytes = self.form.bytes();
        self.form.convert(s, x, &mut out[cols.start * bytes..cols.end * bytes]);
        if cols.end == self.last {
            out[cols.end * bytes..].fill(0);
        }
    }
}

/// Converts a row and fills what follows it with zeros.
#[inline(always)]
fn convert_row<S: Simd>(
    s: S,
    shape: Shape,
    x: &[f32],
    factors: &[f32],
    out: &mut [u8],
) -> RowScale {
    let (form, bytes) = (shape.form, shape.row_bytes(x.len()));
    let (row, rest) = out.split_at_mut(bytes * form.pieces());
    rest.fill(0);
    row.chunks_exact_mut(bytes.max(1)).for_each(|piece| piece[x.len() * form.bytes()..].fill(0));
    let whole = if form.pieces() > 1 { row } else { &mut row[..x.len() * form.bytes()] };
    form.convert_row(s, x, factors, whole)
}

/// The left operand of a product: floats, or [`Activations`], which are already in the form that
/// products read. Floats in place of them are converted for each product anew.
#[derive(Clone, Copy, Debug)]
pub struct Left<'a> {
    values: Mat<'a>,
    shape: Shape,
    converted: Mat<'a, u8>,
    scales: Mat<'a>,
    columns: Option<&'a ColumnScales>,
}

impl<'a> From<Mat<'a>> for Left<'a> {
    fn from(values: Mat<'a>) -> Left<'a> {
        Left {
            values,
            shape: Shape::default(),
            converted: Mat::new(&[], values.rows(), 0, 0),
            scales: Mat::new(&[], values.rows(), 0, 0),
            columns: None,
        }
    }
}

impl<'a> From<&'a Activations> for Left<'a> {
    fn from(of: &'a Activations) -> Left<'a> {
        Left {
            values: of.values.view(),
            shape: of.shape,
            converted: of.converted.view(),
            scales: of.scales.view(),
            columns: of.columns.as_ref(),
        }
    }
}

impl<'a> Left<'a> {
    /// (rows, columns).
    pub fn shape(&self) -> (usize, usize) {
        self.values.shape()
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.values.rows()
    }

    /// The number of columns.
    pub fn cols(&self) -> usize {
        self.values.cols()
    }

    /// The rows in the form that products with `w` read, or `None` if there are only floats, or
    /// those for another kernel or with other scales of columns.
    pub(crate) fn ready(self, w: &PackedMatrix) -> Option<Ready<'a>> {
        let shape = w.unit().shape();
        let rows = match shape.form {
            Form::F32 => self.values.as_bytes(),
            _ if shape == self.shape && self.columns == w.columns() => self.converted,
            _ => return None,
        };
        Some(Ready { rows, slack: shape.slack(), scales: self.scales, values: self.values })
    }

    /// The rows in `range`.
    ///
    /// # Panics
    /// If there are not that many.
    #[track_caller]
    pub fn row_range(self, range: Range<usize>) -> Left<'a> {
        let values = self.values.row_range(range.clone());
        let scales = self.scales.row_range(range.clone());
        let converted = match self.shape.form {
            Form::F32 => Mat::new(&[], values.rows(), 0, 0),
            _ => self.converted.row_range(range.start..range.end + self.shape.slack()),
        };
        Left { values, converted, scales, ..self }
    }

    /// The floats.
    pub(crate) fn values(self) -> Mat<'a> {
        self.values
    }
}

/// Rows in the form that a kernel reads.
#[derive(Clone, Copy)]
pub(crate) struct Ready<'a> {
    /// The bytes of each row, at least those of the padded inputs, and `slack` rows behind the last.
    pub(crate) rows: Mat<'a, u8>,
    slack: usize,
    /// The scale and the zero of each row, where the form goes by rows.
    scales: Mat<'a>,
    /// The floats.
    pub(crate) values: Mat<'a>,
}

impl Ready<'_> {
    /// What there is to know of a row, of a form that goes by rows.
    #[inline(always)]
    pub(crate) fn scale(&self, row: usize) -> RowScale {
        let row = self.scales.row(row);
        RowScale { scale: row[0], zero: row[1] }
    }

    /// The rows in `range`, and the slack behind them: other rows, or the slack of the whole.
    pub(crate) fn row_range(self, range: Range<usize>) -> Self {
        let scales = self.scales.row_range(range.clone());
        let rows = self.rows.row_range(range.start..range.end + self.slack);
        Ready { rows, slack: self.slack, scales, values: self.values.row_range(range) }
    }
}
