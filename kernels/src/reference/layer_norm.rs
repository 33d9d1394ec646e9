//! Layer normalisation of one row.

/// (x - mean) / sqrt(var + eps) * gamma + beta, with the biased variance.
pub fn layer_norm(x: &[f64], gamma: &[f64], beta: &[f64], eps: f64) -> Vec<f64> {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    let sd = (variance + eps).sqrt();
    (0..x.len()).map(|i| (x[i] - mean) / sd * gamma[i] + beta[i]).collect()
}
