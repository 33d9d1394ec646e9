//! Views of rank 2: rows, columns, and the distance from one row to the next.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

/// A shared view of a row-major matrix whose rows may lie apart.
#[derive(Clone, Copy)]
pub struct Mat<'a, T = f32> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    stride: usize,
}

/// How many elements a view spans, from its first to its last.
#[track_caller]
fn span(rows: usize, cols: usize, stride: usize) -> usize {
    assert!(cols <= stride || rows <= 1, "rows of {cols} elements overlap at stride {stride}");
    if rows == 0 || cols == 0 {
        return 0;
    }
    let last_row = (rows - 1).checked_mul(stride).expect("a view within the address space");
    last_row.checked_add(cols).expect("a view within the address space")
}

impl<'a, T> Mat<'a, T> {
    /// The view of `data` as `rows` rows of `cols` elements, each `stride` after the one before.
    ///
    /// # Panics
    /// If `data` is too short, or rows overlap.
    #[track_caller]
    pub fn new(data: &'a [T], rows: usize, cols: usize, stride: usize) -> Mat<'a, T> {
        let span = span(rows, cols, stride);
        assert!(
            span <= data.len(),
            "a {rows} x {cols} view with stride {stride} spans {span} elements of {}",
            data.len()
        );
        Mat { data: &data[..span], rows, cols, stride }
    }

    /// One row.
    pub fn from_row(row: &'a [T]) -> Mat<'a, T> {
        Mat::new(row, 1, row.len(), row.len())
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// (rows, columns).
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// Elements from the beginning of one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The first element's address.
    pub fn as_ptr(&self) -> *const T {
        self.data.as_ptr()
    }

    /// Row `row`.
    ///
    /// # Panics
    /// If there is no such row.
    #[track_caller]
    #[inline]
    pub fn row(&self, row: usize) -> &'a [T] {
        assert!(row < self.rows, "row {row} of a {} x {} view", self.rows, self.cols);
        if self.cols == 0 {
            return &[];
        }
        &self.data[row * self.stride..][..self.cols]
    }

    /// The rows in `range`.
    ///
    /// # Panics
    /// If the range leaves the view.
    #[track_caller]
    pub fn row_range(&self, range: Range<usize>) -> Mat<'a, T> {
        check_range(&range, self.rows, "rows");
        let rows = range.len();
        let data = if rows == 0 || self.cols == 0 {
            &[][..]
        } else {
            &self.data[range.start * self.stride..]
        };
        Mat::new(data, rows, self.cols, self.stride)
    }

    /// The columns in `range`.
    ///
    /// # Panics
    /// If the range leaves the view.
    #[track_caller]
    pub fn col_range(&self, range: Range<usize>) -> Mat<'a, T> {
        check_range(&range, self.cols, "columns");
        let cols = range.len();
        let data = if self.rows == 0 || cols == 0 { &[][..] } else { &self.data[range.start..] };
        Mat::new(data, self.rows, cols, self.stride)
    }
}

impl<'a> Mat<'a, f32> {
    /// The same rows as bytes.
    pub(crate) fn as_bytes(&self) -> Mat<'a, u8> {
        let bytes = size_of::<f32>();
        let (cols, stride) = (self.cols * bytes, self.stride * bytes);
        Mat { data: bytemuck::cast_slice(self.data), rows: self.rows, cols, stride }
    }
}

impl<T: fmt::Debug> fmt::Debug for Mat<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mat {} x {} ", self.rows, self.cols)?;
        f.debug_list().entries((0..self.rows).map(|row| self.row(row))).finish()
    }
}

/// A view that may write. Views split by rows or by columns write side by side.
pub struct MatMut<'a, T = f32> {
    data: *mut T,
    rows: usize,
    cols: usize,
    stride: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

impl<T: fmt::Debug> fmt::Debug for MatMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_mat().fmt(f)
    }
}

// SAFETY: a `MatMut` is the only access to its elements, like the `&mut [T]` it was made from.
unsafe impl<T: Send> Send for MatMut<'_, T> {}
// SAFETY: through a shared `MatMut` elements are only read.
unsafe impl<T: Sync> Sync for MatMut<'_, T> {}

impl<'a, T> MatMut<'a, T> {
    /// The view of `data` as `rows` rows of `cols` elements, each `stride` after the one before.
    ///
    /// # Panics
    /// If `data` is too short, or rows overlap.
    #[track_caller]
    pub fn new(data: &'a mut [T], rows: usize, cols: usize, stride: usize) -> MatMut<'a, T> {
        let span = span(rows, cols, stride);
        assert!(
            span <= data.len(),
            "a {rows} x {cols} view with stride {stride} spans {span} elements of {}",
            data.len()
        );
        MatMut { data: data.as_mut_ptr(), rows, cols, stride, lifetime: PhantomData }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// (rows, columns).
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// Elements from the beginning of one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The first element's address. Only elements inside the rows of this view may be written
    /// through it: the gaps between them may belong to another view.
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.data
    }

    /// Row `row`.
    ///
    /// # Panics
    /// If there is no such row.
    #[track_caller]
    #[inline]
    pub fn row(&self, row: usize) -> &[T] {
        assert!(row < self.rows, "row {row} of a {} x {} view", self.rows, self.cols);
        if self.cols == 0 {
            return &[];
        }
        // SAFETY: the row is inside the span that `new` checked, and no other view holds it.
        unsafe { std::slice::from_raw_parts(self.data.add(row * self.stride), self.cols) }
    }

    /// Row `row`.
    ///
    /// # Panics
    /// If there is no such row.
    #[track_caller]
    #[inline]
    pub fn row_mut(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows, "row {row} of a {} x {} view", self.rows, self.cols);
        if self.cols == 0 {
            return &mut [];
        }
        // SAFETY: the row is inside the span that `new` checked, and no other view holds it.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(row * self.stride), self.cols) }
    }

    /// The same view for a shorter time.
    pub fn reborrow(&mut self) -> MatMut<'_, T> {
        MatMut { lifetime: PhantomData, ..*self }
    }

    /// The same elements, read-only, for as long as nobody writes.
    pub fn as_mat(&self) -> Mat<'_, T> {
        let span = span(self.rows, self.cols, self.stride);
        assert!(
            self.cols == self.stride || self.rows <= 1,
            "a view with gaps has no shared form: the gaps may be another view's"
        );
        // SAFETY: the view has no gaps, so all `span` elements are its own, and `&self` keeps
        // them unwritten for the lifetime of the result.
        let data = unsafe { std::slice::from_raw_parts(self.data, span) };
        Mat::new(data, self.rows, self.cols, self.stride)
    }

    /// The rows in `range`.
    ///
    /// # Panics
    /// If the range leaves the view.
    #[track_caller]
    pub fn row_range(self, range: Range<usize>) -> MatMut<'a, T> {
        check_range(&range, self.rows, "rows");
        let offset = if range.is_empty() || self.cols == 0 { 0 } else { range.start * self.stride };
        // SAFETY: the offset lies inside the span, or is zero.
        let data = unsafe { self.data.add(offset) };
        MatMut { data, rows: range.len(), ..self }
    }

    /// The columns in `range`.
    ///
    /// # Panics
    /// If the range leaves the view.
    #[track_caller]
    pub fn col_range(self, range: Range<usize>) -> MatMut<'a, T> {
        check_range(&range, self.cols, "columns");
        let offset = if range.is_empty() || self.rows == 0 { 0 } else { range.start };
        // SAFETY: the offset lies inside the first row, or is zero.
        let data = unsafe { self.data.add(offset) };
        MatMut { data, cols: range.len(), ..self }
    }

    /// The first `rows` rows, and the rest.
    ///
    /// # Panics
    /// If there are not that many.
    #[track_caller]
    pub fn split_rows(self, rows: usize) -> (MatMut<'a, T>, MatMut<'a, T>) {
        let all = self.rows;
        // The two parts share no element.
        let twin = MatMut { lifetime: PhantomData, ..self };
        (twin.row_range(0..rows), self.row_range(rows..all))
    }

    /// The first `cols` columns, and the rest.
    ///
    /// # Panics
    /// If there are not that many.
    #[track_caller]
    pub fn split_cols(self, cols: usize) -> (MatMut<'a, T>, MatMut<'a, T>) {
        let all = self.cols;
        // The two parts share no element.
        let twin = MatMut { lifetime: PhantomData, ..self };
        (twin.col_range(0..cols), self.col_range(cols..all))
    }
}

#[track_caller]
fn check_range(range: &Range<usize>, end: usize, what: &str) {
    assert!(range.start <= range.end && range.end <= end, "{what} {range:?} of {end}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Matrix;

    #[test]
    fn columns_and_rows_select_what_they_say() {
        let x = Matrix::from_fn(5, 7, |row, col| (10 * row + col) as f32);
        let part = x.view().row_range(1..4).col_range(2..5);
        assert_eq!(part.shape(), (3, 3));
        assert_eq!(part.row(2), [32.0, 33.0, 34.0]);
        assert_eq!(x.view().col_range(7..7).row(4), [0.0; 0]);
        assert_eq!(x.view().row_range(5..5).shape(), (0, 7));
    }

    #[test]
    fn split_views_write_side_by_side() {
        let mut x = Matrix::<f32>::zeros(4, 6);
        let (left, mut right) = x.view_mut().split_cols(2);
        let (mut top, mut bottom) = left.split_rows(1);
        top.row_mut(0).fill(1.0);
        bottom.row_mut(2).fill(2.0);
        right.row_mut(3).fill(3.0);
        assert_eq!(x.row(0), [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(x.row(3), [2.0, 2.0, 3.0, 3.0, 3.0, 3.0]);
        assert_eq!(x.row(1), [0.0; 6]);
    }

    #[test]
    fn empty_views_have_no_elements() {
        let x: Mat<'_, f32> = Mat::new(&[], 3, 0, 0);
        assert_eq!(x.row(2), [0.0; 0]);
        let mut nothing: [f32; 0] = [];
        let mut y = MatMut::new(&mut nothing, 0, 9, 9);
        assert_eq!(y.reborrow().col_range(3..9).shape(), (0, 6));
    }

    #[test]
    #[should_panic(expected = "spans 12 elements of 11")]
    fn a_view_longer_than_its_data_is_refused() {
        let _ = Mat::new(&[0.0f32; 11], 3, 4, 4);
    }

    #[test]
    #[should_panic(expected = "columns 3..8 of 7")]
    fn columns_beyond_the_view_are_refused() {
        let _ = Matrix::<f32>::zeros(2, 7).view().col_range(3..8);
    }

    #[test]
    #[should_panic(expected = "overlap")]
    fn overlapping_rows_are_refused() {
        let _ = Mat::new(&[0.0f32; 11], 3, 4, 2);
    }
}
