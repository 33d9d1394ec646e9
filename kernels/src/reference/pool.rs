//! One vector for a sequence of rows.

use crate::Matrix;

/// The mean of each column; zeros if there are no rows.
pub fn mean_rows(x: &Matrix<f64>) -> Vec<f64> {
    let n = x.rows().max(1) as f64;
    (0..x.cols()).map(|j| (0..x.rows()).map(|i| x.row(i)[j]).sum::<f64>() / n).collect()
}

/// The maximum of each column; zeros if there are no rows.
pub fn max_rows(x: &Matrix<f64>) -> Vec<f64> {
    if x.rows() == 0 {
        return vec![0.0; x.cols()];
    }
    let column = |j| (0..x.rows()).map(move |i| x.row(i)[j]);
    (0..x.cols()).map(|j| column(j).fold(f64::NEG_INFINITY, f64::max)).collect()
}

/// x / max(|x|, eps), with the Euclidean norm.
pub fn l2_normalize(x: &[f64], eps: f64) -> Vec<f64> {
    let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt().max(eps);
    x.iter().map(|x| x / norm).collect()
}
