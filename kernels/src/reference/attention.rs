//! Scaled dot-product attention of one sequence and one head.

use super::{matmul, softmax, transpose};
use crate::Matrix;

/// softmax(q k^T * scale) v (Vaswani et al. 2017, equation 1), for `q` of shape (q_len, d), `k` of
/// (kv_len, d) and `v` of (kv_len, d_v).
///
/// If `causal`, query i sees the keys j <= i + (kv_len - q_len): the last query sees all of them.
/// A query that sees no key gets zeros.
///
/// # Panics
/// If the shapes do not fit.
pub fn attention(
    q: &Matrix<f64>,
    k: &Matrix<f64>,
    v: &Matrix<f64>,
    scale: f64,
    causal: bool,
) -> Matrix<f64> {
    let (q_len, kv_len) = (q.rows(), k.rows());
    let mut scores = matmul(q, &transpose(k));
    for i in 0..q_len {
        let row = scores.row_mut(i);
        for j in 0..kv_len {
            let masked = causal && j + q_len > i + kv_len;
            row[j] = if masked { f64::NEG_INFINITY } else { row[j] * scale };
        }
        let probabilities = softmax(row);
        row.copy_from_slice(&probabilities);
    }
    matmul(&scores, v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_causal_mask_ends_at_the_last_key() {
        let q = Matrix::zeros(2, 1);
        let k = Matrix::zeros(3, 1);
        let v = Matrix::from_slice(3, 1, &[3.0, 6.0, 12.0]);
        assert_eq!(attention(&q, &k, &v, 1.0, true).as_slice(), [4.5, 7.0]);
        assert_eq!(attention(&q, &k, &v, 1.0, false).as_slice(), [7.0, 7.0]);
    }

    #[test]
    fn a_query_without_keys_gets_zeros() {
        let q = Matrix::zeros(3, 1);
        let k = Matrix::zeros(2, 1);
        let v = Matrix::from_slice(2, 1, &[5.0, 7.0]);
        assert_eq!(attention(&q, &k, &v, 1.0, true).as_slice(), [0.0, 5.0, 6.0]);
    }
}
