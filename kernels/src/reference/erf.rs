//! The error function in f64, which std does not have.

use std::f64::consts::PI;

/// erf x = 2 / sqrt(pi) * integral of e^(-t^2) from 0 to x.
pub fn erf(x: f64) -> f64 {
    if x.abs() < 3.0 { series(x) } else { (1.0 - erfc(x.abs())).copysign(x) }
}

/// erfc x = 1 - erf x, without cancellation for large x.
pub fn erfc(x: f64) -> f64 {
    if x < 2.0 { 1.0 - erf(x) } else { continued_fraction(x) }
}

/// 2 / sqrt(pi) e^(-x^2) (x + 2/3 x^3 + 4/15 x^5 + ...), Abramowitz and Stegun 7.1.6: all terms
/// have the same sign.
fn series(x: f64) -> f64 {
    let (mut term, mut sum, mut before, mut n) = (x, x, 0.0, 1.0);
    while sum != before {
        before = sum;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    2.0 / PI.sqrt() * (-x * x).exp() * sum
}

/// e^(-x^2) / sqrt(pi) / (x + (1/2) / (x + 1 / (x + (3/2) / (x + ...)))), 7.1.14 there.
fn continued_fraction(x: f64) -> f64 {
    // From here on the result is below the smallest f64.
    if x > 28.0 {
        return 0.0;
    }
    let denominator = (1..=200).rev().fold(x, |tail, k| x + f64::from(k) / 2.0 / tail);
    (-x * x).exp() / PI.sqrt() / denominator
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let cases = [
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.0, 0.995_322_265_018_952_7),
            (3.5, 0.999_999_256_901_627_7),
        ];
        for (x, expected) in cases {
            assert!((erf(x) - expected).abs() < 4e-16, "erf({x}) = {}", erf(x));
            assert_eq!(erf(-x), -erf(x));
        }
        let relative = erfc(5.0) / 1.537_459_794_428_034_8e-12 - 1.0;
        assert!(relative.abs() < 1e-14, "{relative:e}");
        assert!(
            erf(f64::NAN).is_nan() && erf(f64::INFINITY) == 1.0 && erf(-0.0).is_sign_negative()
        );
    }

    /// Two formulas with nothing in common agree where both are good.
    #[test]
    fn series_and_continued_fraction_agree() {
        for i in 0..=100 {
            let x = 2.0 + f64::from(i) * 0.01;
            let difference = series(x) - (1.0 - continued_fraction(x));
            assert!(difference.abs() < 1e-15, "{x}: {difference:e}");
        }
    }
}
