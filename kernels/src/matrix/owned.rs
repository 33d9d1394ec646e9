//! The owned matrix.

use std::fmt;
use std::ops::Range;

use bytemuck::Pod;

use super::storage::Storage;
use super::{Mat, MatMut};

/// What a matrix may hold: plain numbers whose all-zero bytes are zero. Sealed, since the storage
/// is aligned for these.
pub trait Element: sealed::Sealed + Pod + Send + Sync {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! element {
    ($($number:ty),*) => {
        $(
            impl sealed::Sealed for $number {}
            impl Element for $number {}
        )*
    };
}
element!(u8, u32, f32, f64);

/// A row-major matrix of shape (rows, columns), without gaps, aligned to 64 bytes.
///
/// ```
/// use ferrite_kernels::Matrix;
///
/// let mut x = Matrix::from_fn(2, 3, |row, column| (10 * row + column) as f32);
/// x.row_mut(1)[2] += 0.5;
/// assert_eq!(x.row(1), [10.0, 11.0, 12.5]);
/// ```
#[derive(Clone)]
pub struct Matrix<T = f32> {
    storage: Storage,
    rows: usize,
    cols: usize,
    element: std::marker::PhantomData<T>,
}

impl<T: Element> Matrix<T> {
    /// A matrix of zeros.
    ///
    /// # Panics
    /// If its size in bytes overflows.
    #[track_caller]
    pub fn zeros(rows: usize, cols: usize) -> Matrix<T> {
        let mut matrix = Matrix {
            storage: Storage::zeroed(0),
            rows: 0,
            cols: 0,
            element: std::marker::PhantomData,
        };
        matrix.resize(rows, cols);
        matrix
    }

    /// The matrix whose elements are `f(row, column)`.
    pub fn from_fn(rows: usize, cols: usize, mut f: impl FnMut(usize, usize) -> T) -> Matrix<T> {
        let mut matrix = Matrix::zeros(rows, cols);
        for row in 0..rows {
            for (col, x) in matrix.row_mut(row).iter_mut().enumerate() {
                *x = f(row, col);
            }
        }
        matrix
    }

    /// A copy of `data`, row after row.
    ///
    /// # Panics
    /// If `data` does not have `rows * cols` elements.
    #[track_caller]
    pub fn from_slice(rows: usize, cols: usize, data: &[T]) -> Matrix<T> {
        assert_eq!(data.len(), rows * cols, "data for a {rows} x {cols} matrix");
        let mut matrix = Matrix::zeros(rows, cols);
        matrix.as_mut_slice().copy_from_slice(data);
        matrix
    }

    /// Changes the shape, keeping the memory if it suffices. The elements' values are unspecified
    /// afterwards (old values, or zeros), never uninitialised.
    ///
    /// # Panics
    /// If the size in bytes overflows.
    #[track_caller]
    pub fn resize(&mut self, rows: usize, cols: usize) {
        let bytes = rows.checked_mul(cols).and_then(|n| n.checked_mul(size_of::<T>()));
        let Some(bytes) = bytes else {
            panic!("a {rows} x {cols} matrix overflows the address space")
        };
        if bytes > self.storage.len() {
            // The old memory goes first: the two need not be there at once. Whole units of all
            // element types, so that a clone can copy it.
            self.storage = Storage::zeroed(0);
            self.storage = Storage::zeroed(bytes.next_multiple_of(size_of::<u64>()));
        }
        self.rows = rows;
        self.cols = cols;
    }

    /// Changes the number of rows, keeping those that are there and stay. New rows are unspecified
    /// (old values, or zeros), never uninitialised. Memory is doubled when it does not suffice, so
    /// that rows can be added one by one.
    ///
    /// ```
    /// use ferrite_kernels::Matrix;
    ///
    /// let mut x = Matrix::from_fn(1, 2, |_, col| col as f32);
    /// x.resize_rows(2);
    /// x.row_mut(1).fill(5.0);
    /// assert_eq!(x.as_slice(), [0.0, 1.0, 5.0, 5.0]);
    /// ```
    ///
    /// # Panics
    /// If the size in bytes overflows.
    #[track_caller]
    pub fn resize_rows(&mut self, rows: usize) {
        let (kept, cols) = (self.rows.min(rows), self.cols);
        let enough =
            rows.checked_mul(cols * size_of::<T>()).is_some_and(|n| n <= self.storage.len());
        if !enough {
            let mut larger = Matrix::zeros(rows.max(2 * self.rows), cols);
            let elements = kept * cols;
            larger.as_mut_slice()[..elements].copy_from_slice(&self.as_slice()[..elements]);
            *self = larger;
        }
        self.rows = rows;
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

    /// All elements, row after row.
    pub fn as_slice(&self) -> &[T] {
        &self.storage.as_slice()[..self.rows * self.cols]
    }

    /// All elements, row after row.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.storage.as_mut_slice()[..self.rows * self.cols]
    }

    /// Row `row`.
    ///
    /// # Panics
    /// If there is no such row.
    #[track_caller]
    pub fn row(&self, row: usize) -> &[T] {
        let range = self.row_range(row);
        &self.as_slice()[range]
    }

    /// Row `row`.
    ///
    /// # Panics
    /// If there is no such row.
    #[track_caller]
    pub fn row_mut(&mut self, row: usize) -> &mut [T] {
        let range = self.row_range(row);
        &mut self.as_mut_slice()[range]
    }

    #[track_caller]
    fn row_range(&self, row: usize) -> Range<usize> {
        assert!(row < self.rows, "row {row} of a {} x {} matrix", self.rows, self.cols);
        row * self.cols..(row + 1) * self.cols
    }

    /// A view of the whole.
    pub fn view(&self) -> Mat<'_, T> {
        Mat::new(self.as_slice(), self.rows, self.cols, self.cols)
    }

    /// A view of the whole that may write.
    pub fn view_mut(&mut self) -> MatMut<'_, T> {
        let (rows, cols) = self.shape();
        MatMut::new(self.as_mut_slice(), rows, cols, cols)
    }

    /// Sets every element.
    pub fn fill(&mut self, value: T) {
        self.as_mut_slice().fill(value);
    }
}

impl<T: Element> Default for Matrix<T> {
    /// The 0 x 0 matrix, which owns no memory.
    fn default() -> Matrix<T> {
        Matrix::zeros(0, 0)
    }
}

impl<T: Element + PartialEq> PartialEq for Matrix<T> {
    fn eq(&self, other: &Matrix<T>) -> bool {
        self.shape() == other.shape() && self.as_slice() == other.as_slice()
    }
}

impl<T: Element + fmt::Debug> fmt::Debug for Matrix<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Matrix {} x {} ", self.rows, self.cols)?;
        f.debug_list().entries((0..self.rows).map(|row| self.row(row))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_is_aligned_and_reused() {
        let mut x = Matrix::<f32>::zeros(7, 33);
        let address = x.as_slice().as_ptr();
        assert_eq!(address as usize % 64, 0);
        for (rows, cols) in [(0, 5), (33, 7), (1, 1), (7, 33)] {
            x.resize(rows, cols);
            assert_eq!(x.as_slice().as_ptr(), address);
            assert_eq!(x.as_slice().len(), rows * cols);
        }
    }

    #[test]
    fn rows_are_kept_and_memory_grows_by_doubling() {
        let mut x = Matrix::<f32>::zeros(0, 3);
        let mut moves = 0;
        for row in 0..1000 {
            let before = x.as_slice().as_ptr();
            x.resize_rows(row + 1);
            moves += usize::from(x.as_slice().as_ptr() != before);
            x.row_mut(row).fill(row as f32);
        }
        assert_eq!(x.shape(), (1000, 3));
        assert!((0..1000).all(|row| x.row(row) == [row as f32; 3]));
        assert!(moves <= 11, "{moves} times");
        x.resize_rows(2);
        assert_eq!(x.as_slice(), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        x.resize_rows(3);
        assert_eq!(x.row(1), [1.0; 3]);
    }

    #[test]
    #[should_panic(expected = "overflows")]
    fn a_size_beyond_the_address_space_is_refused() {
        Matrix::<f32>::zeros(usize::MAX / 2, 3);
    }

    #[test]
    #[should_panic(expected = "row 2 of a 2 x 3 matrix")]
    fn a_missing_row_is_named() {
        Matrix::<f32>::zeros(2, 3).row(2);
    }
}
