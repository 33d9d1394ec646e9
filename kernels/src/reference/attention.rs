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
    matmul(&weights(q, k, scale, causal), v)
}

/// softmax(q k^T * scale).
fn weights(q: &Matrix<f64>, k: &Matrix<f64>, scale: f64, causal: bool) -> Matrix<f64> {
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
    scores
}

/// The gradients of q, k and v, where `kept` is what dropout multiplies each weight by, and `d_out`
/// the gradient of the result.
///
/// # Panics
/// If the shapes do not fit.
pub fn attention_backward(
    q: &Matrix<f64>,
    k: &Matrix<f64>,
    v: &Matrix<f64>,
    scale: f64,
    causal: bool,
    kept: &Matrix<f64>,
    d_out: &Matrix<f64>,
) -> (Matrix<f64>, Matrix<f64>, Matrix<f64>) {
    let p = weights(q, k, scale, causal);
    let dropped = Matrix::from_fn(p.rows(), p.cols(), |i, j| p.row(i)[j] * kept.row(i)[j]);
    let dv = matmul(&transpose(&dropped), d_out);
    let d_dropped = matmul(d_out, &transpose(v));
    let ds = Matrix::from_fn(p.rows(), p.cols(), |i, j| {
        let dp = |j: usize| d_dropped.row(i)[j] * kept.row(i)[j];
        let mean: f64 = (0..p.cols()).map(|j| p.row(i)[j] * dp(j)).sum();
        p.row(i)[j] * (dp(j) - mean) * scale
    });
    (matmul(&ds, k), matmul(&transpose(&ds), q), dv)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against central differences of the loss `sum of out * d_out`.
    #[test]
    fn gradients_are_those_of_differences() {
        let value = |seed: usize| {
            move |r: usize, c: usize| (((r * 7 + c * 3 + seed) * 37 % 19) as f64 - 9.0) / 9.0
        };
        for causal in [false, true] {
            let (q, k) = (Matrix::from_fn(3, 2, value(1)), Matrix::from_fn(4, 2, value(2)));
            let (v, d_out) = (Matrix::from_fn(4, 3, value(3)), Matrix::from_fn(3, 3, value(4)));
            let kept = Matrix::from_fn(3, 4, |i, j| if (i + j) % 3 == 0 { 0.0 } else { 1.5 });
            let loss = |[q, k, v]: &[Matrix<f64>; 3]| -> f64 {
                let p = weights(q, k, 0.7, causal);
                let p = Matrix::from_fn(3, 4, |i, j| p.row(i)[j] * kept.row(i)[j]);
                let out = matmul(&p, v);
                out.as_slice().iter().zip(d_out.as_slice()).map(|(x, d)| x * d).sum()
            };
            let (dq, dk, dv) = attention_backward(&q, &k, &v, 0.7, causal, &kept, &d_out);
            let operands = [q, k, v];
            for (operand, gradient) in [dq, dk, dv].iter().enumerate() {
                for element in 0..gradient.as_slice().len() {
                    let at = |step: f64| {
                        let mut moved = operands.clone();
                        moved[operand].as_mut_slice()[element] += step;
                        loss(&moved)
                    };
                    let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
                    let error = difference - gradient.as_slice()[element];
                    assert!(error.abs() < 1e-8, "operand {operand} element {element}: {error}");
                }
            }
        }
    }

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
