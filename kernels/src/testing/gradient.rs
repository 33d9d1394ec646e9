//! Gradients against central differences.

/// How far the difference quotient may lie from the gradient, relative to the larger of it and one.
const TOLERANCE: f64 = 1e-6;

/// Checks that `gradient` is the gradient of `f` at `x`, where `f` and its first three derivatives
/// are of ordinary size: each component against (f(x + h) - f(x - h)) / 2h.
///
/// # Panics
/// If it is not, with the component that is furthest off.
#[track_caller]
pub fn check_gradient(name: &str, f: impl Fn(&[f64]) -> f64, x: &[f64], gradient: &[f64]) {
    assert_eq!(x.len(), gradient.len(), "{name}: lengths of the argument and of the gradient");
    let mut worst = (0.0, String::new());
    let mut x = x.to_vec();
    for i in 0..x.len() {
        let at = x[i];
        let h = 1e-5 * at.abs().max(1.0);
        let mut value = |x_i| {
            x[i] = x_i;
            f(&x)
        };
        let quotient = (value(at + h) - value(at - h)) / (2.0 * h);
        x[i] = at;
        let error = (quotient - gradient[i]).abs() / gradient[i].abs().max(1.0);
        let error = if error.is_nan() { f64::INFINITY } else { error };
        if error > worst.0 {
            worst = (error, format!("component {i} is {quotient}, not {}", gradient[i]));
        }
    }
    assert!(worst.0 <= TOLERANCE, "{name}: {}", worst.1);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f(x: &[f64]) -> f64 {
        x[0] * x[0] * x[1] + x[1].sin()
    }

    #[test]
    fn a_right_gradient_passes() {
        check_gradient("f", f, &[3.0, 2.0], &[12.0, 9.0 + 2f64.cos()]);
    }

    #[test]
    fn a_wrong_gradient_fails() {
        let right = [12.0, 9.0 + 2f64.cos()];
        let wrong = [[12.0001, right[1]], [right[0], -right[1]], [f64::NAN, right[1]]];
        for gradient in wrong {
            let check = || check_gradient("f", f, &[3.0, 2.0], &gradient);
            assert!(std::panic::catch_unwind(check).is_err(), "{gradient:?} passed");
        }
    }
}
