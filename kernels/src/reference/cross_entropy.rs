//! The cross-entropy of one row.

use super::{log_softmax, softmax};

/// -sum_c q_c ln p_c, where p is the softmax of `logits` and q_c = (1 - smoothing) [c = target] +
/// smoothing / classes (Szegedy et al. 2016, section 7; what PyTorch calls `label_smoothing`).
pub fn cross_entropy(logits: &[f64], target: usize, smoothing: f64) -> f64 {
    let log = log_softmax(logits);
    (0..logits.len()).map(|c| -wanted(logits.len(), c, target, smoothing) * log[c]).sum()
}

/// The gradient of [`cross_entropy`] with respect to `logits`: p - q.
pub fn cross_entropy_gradient(logits: &[f64], target: usize, smoothing: f64) -> Vec<f64> {
    let p = softmax(logits);
    (0..p.len()).map(|c| p[c] - wanted(p.len(), c, target, smoothing)).collect()
}

/// q_c.
fn wanted(classes: usize, c: usize, target: usize, smoothing: f64) -> f64 {
    smoothing / classes as f64 + if c == target { 1.0 - smoothing } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::check_gradient;

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        let logits = [0.5, -1.0, 3.0, 0.25, 1.5];
        for smoothing in [0.0, 0.1, 1.0] {
            for target in 0..5 {
                let loss = |x: &[f64]| cross_entropy(x, target, smoothing);
                let gradient = cross_entropy_gradient(&logits, target, smoothing);
                check_gradient("cross_entropy", loss, &logits, &gradient);
                let mut wrong = gradient;
                wrong[(target + 1) % 5] *= 1.001;
                wrong[target] -= 1e-4;
                let check = || check_gradient("cross_entropy", loss, &logits, &wrong);
                assert!(std::panic::catch_unwind(check).is_err());
            }
        }
    }

    #[test]
    fn losses_by_hand() {
        // Two equal logits: ln 2 whatever the target. Then p = 3/4 and 1/4, q = 0.95 and 0.05.
        assert!((cross_entropy(&[4.0, 4.0], 1, 0.3) - 2f64.ln()).abs() < 1e-15);
        let x = [3f64.ln(), 0.0];
        let by_hand = 0.95 * (4f64 / 3.0).ln() + 0.05 * 4f64.ln();
        assert!((cross_entropy(&x, 0, 0.1) - by_hand).abs() < 1e-15);
    }
}
