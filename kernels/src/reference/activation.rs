//! Activation functions.

use super::erfc;
use std::f64::consts::{PI, SQRT_2};

/// Phi(x), the standard normal distribution function.
pub fn normal_cdf(x: f64) -> f64 {
    0.5 * erfc(-x / SQRT_2)
}

/// x Phi(x) (Hendrycks and Gimpel 2016, equation 1); its limits at the infinities.
pub fn gelu(x: f64) -> f64 {
    if x == f64::NEG_INFINITY { -0.0 } else { x * normal_cdf(x) }
}

/// x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), the same paper's approximation; written with
/// (1 + tanh u) / 2 = 1 / (1 + e^(-2u)), which does not cancel.
pub fn gelu_tanh(x: f64) -> f64 {
    let u = (2.0 / PI).sqrt() * (x + 0.044_715 * x * x * x);
    if x == f64::NEG_INFINITY { -0.0 } else { x / (1.0 + (-2.0 * u).exp()) }
}
