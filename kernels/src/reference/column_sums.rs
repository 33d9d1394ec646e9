//! Sums of columns.

use crate::Matrix;

/// The sum of each column: the gradient of a bias, whose row was added to all rows.
pub fn column_sums(x: &Matrix<f64>) -> Vec<f64> {
    (0..x.cols()).map(|j| (0..x.rows()).map(|i| x.row(i)[j]).sum()).collect()
}
