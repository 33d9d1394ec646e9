//! Softmax of one row.

/// e^(x_i - m) / sum_j e^(x_j - m) with the maximum m; zeros if all of `x` is minus infinity.
pub fn softmax(x: &[f64]) -> Vec<f64> {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if x.iter().all(|&x| x == f64::NEG_INFINITY) {
        return vec![0.0; x.len()];
    }
    let exp: Vec<f64> = x.iter().map(|&x| (x - max).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.iter().map(|e| e / sum).collect()
}

/// x_i - m - ln sum_j e^(x_j - m); minus infinity if all of `x` is.
pub fn log_softmax(x: &[f64]) -> Vec<f64> {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if x.iter().all(|&x| x == f64::NEG_INFINITY) {
        return x.to_vec();
    }
    let sum: f64 = x.iter().map(|&x| (x - max).exp()).sum();
    x.iter().map(|&x| x - max - sum.ln()).collect()
}
