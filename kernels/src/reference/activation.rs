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

/// The derivative of [`gelu`]: Phi(x) + x phi(x), with the density phi.
pub fn gelu_derivative(x: f64) -> f64 {
    let density = (-0.5 * x * x).exp() / (2.0 * PI).sqrt();
    normal_cdf(x) + if density == 0.0 { 0.0 } else { x * density }
}

/// The derivative of [`gelu_tanh`], which is x s(2u) with the logistic function s:
/// s(2u) + x s(2u) s(-2u) 2u'.
pub fn gelu_tanh_derivative(x: f64) -> f64 {
    let scale = (8.0 / PI).sqrt();
    let logistic = |t: f64| 1.0 / (1.0 + (-t).exp());
    let t = scale * (x + 0.044_715 * x * x * x);
    let slope = logistic(t) * logistic(-t);
    let inner = x * scale * (1.0 + 3.0 * 0.044_715 * x * x);
    logistic(t) + if slope == 0.0 { 0.0 } else { slope * inner }
}

/// The derivative of tanh: 1 / cosh^2 x.
pub fn tanh_derivative(x: f64) -> f64 {
    1.0 / (x.cosh() * x.cosh())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::check_gradient;

    #[test]
    fn derivatives_are_those_of_the_functions() {
        type Function = fn(f64) -> f64;
        let cases: [(&str, Function, Function); 3] = [
            ("gelu", gelu, gelu_derivative),
            ("gelu_tanh", gelu_tanh, gelu_tanh_derivative),
            ("tanh", f64::tanh, tanh_derivative),
        ];
        for (name, f, derivative) in cases {
            for i in -60..=60 {
                let x = f64::from(i) * 0.1;
                check_gradient(name, |x| f(x[0]), &[x], &[derivative(x)]);
                let wrong = || check_gradient(name, |x| f(x[0]), &[x], &[derivative(x) + 1e-4]);
                assert!(std::panic::catch_unwind(wrong).is_err(), "{name} {x}");
            }
        }
    }
}
