//! Layer normalisation of one row.

/// (x - mean) / sqrt(var + eps) * gamma + beta, with the biased variance.
pub fn layer_norm(x: &[f64], gamma: &[f64], beta: &[f64], eps: f64) -> Vec<f64> {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    let sd = (variance + eps).sqrt();
    (0..x.len()).map(|i| (x[i] - mean) / sd * gamma[i] + beta[i]).collect()
}

/// The gradients of [`layer_norm`] of one row.
#[derive(Clone, Debug)]
pub struct LayerNormGradient {
    /// With respect to `x`.
    pub dx: Vec<f64>,
    /// With respect to `gamma`.
    pub d_gamma: Vec<f64>,
    /// With respect to `beta`.
    pub d_beta: Vec<f64>,
}

/// The gradients of sum_i `dy[i]` y_i for y = [`layer_norm`] of `x`. With z the normalised row and
/// g = dy gamma: dx = (g - mean(g) - z mean(g z)) / sd.
pub fn layer_norm_backward(x: &[f64], gamma: &[f64], eps: f64, dy: &[f64]) -> LayerNormGradient {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    let sd = (variance + eps).sqrt();
    let z: Vec<f64> = x.iter().map(|x| (x - mean) / sd).collect();
    let g: Vec<f64> = (0..x.len()).map(|i| dy[i] * gamma[i]).collect();
    let mean_g = g.iter().sum::<f64>() / n;
    let mean_gz = (0..x.len()).map(|i| g[i] * z[i]).sum::<f64>() / n;
    LayerNormGradient {
        dx: (0..x.len()).map(|i| (g[i] - mean_g - z[i] * mean_gz) / sd).collect(),
        d_gamma: (0..x.len()).map(|i| dy[i] * z[i]).collect(),
        d_beta: dy.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::check_gradient;

    #[test]
    fn the_gradients_are_those_of_the_forward_pass() {
        let x = [0.5, -1.0, 2.0, 0.25, 1.5];
        let gamma = [1.0, -0.5, 2.0, 0.75, 1.25];
        let beta = [0.1, 0.2, -0.3, 0.4, 0.0];
        let dy = [0.3, 1.0, -0.7, 0.9, -2.0];
        let eps = 0.25;
        let loss = |x: &[f64], gamma: &[f64], beta: &[f64]| -> f64 {
            layer_norm(x, gamma, beta, eps).iter().zip(dy).map(|(y, dy)| y * dy).sum()
        };
        let gradient = layer_norm_backward(&x, &gamma, eps, &dy);
        check_gradient("dx", |x| loss(x, &gamma, &beta), &x, &gradient.dx);
        check_gradient("d_gamma", |gamma| loss(&x, gamma, &beta), &gamma, &gradient.d_gamma);
        check_gradient("d_beta", |beta| loss(&x, &gamma, beta), &beta, &gradient.d_beta);

        // A wrong one fails.
        let mut wrong = gradient.dx;
        wrong[2] += 1e-4;
        let check = || check_gradient("dx", |x| loss(x, &gamma, &beta), &x, &wrong);
        assert!(std::panic::catch_unwind(check).is_err());
    }
}
