//! The matrix product.

use crate::Matrix;

/// a b, for `a` of shape (m, k) and `b` of shape (k, n).
///
/// # Panics
/// If the inner sizes differ.
pub fn matmul(a: &Matrix<f64>, b: &Matrix<f64>) -> Matrix<f64> {
    assert_eq!(a.cols(), b.rows(), "the inner sizes of a product");
    Matrix::from_fn(a.rows(), b.cols(), |i, j| {
        (0..a.cols()).map(|k| a.row(i)[k] * b.row(k)[j]).sum()
    })
}

/// The transpose of `x`.
pub fn transpose(x: &Matrix<f64>) -> Matrix<f64> {
    Matrix::from_fn(x.cols(), x.rows(), |i, j| x.row(j)[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_by_hand() {
        let a = Matrix::from_slice(2, 3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let product = matmul(&a, &transpose(&a));
        assert_eq!(product.as_slice(), [14.0, 32.0, 32.0, 77.0]);
    }
}
