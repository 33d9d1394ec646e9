//! One step of AdamW.

/// The constants of one step.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// The rate.
    pub lr: f64,
    /// How much of the mean of gradients stays.
    pub beta1: f64,
    /// How much of the mean of squares stays.
    pub beta2: f64,
    /// What is added to the root.
    pub epsilon: f64,
    /// The decay.
    pub weight_decay: f64,
    /// Whether the means are divided by the share of them that is not their initial zero.
    pub bias_correction: bool,
}

/// The parameter and the means (p, m, v) after step `step`, from 1, with gradient `g` (Loshchilov
/// and Hutter 2017, algorithm 2); without bias correction as Devlin et al. 2018 have it.
pub fn adamw(c: AdamW, step: u64, (p, m, v): (f64, f64, f64), g: f64) -> (f64, f64, f64) {
    let m = c.beta1 * m + (1.0 - c.beta1) * g;
    let v = c.beta2 * v + (1.0 - c.beta2) * g * g;
    let t = step as f64;
    let (m_hat, v_hat) = if c.bias_correction {
        (m / (1.0 - c.beta1.powf(t)), v / (1.0 - c.beta2.powf(t)))
    } else {
        (m, v)
    };
    (p - c.lr * (m_hat / (v_hat.sqrt() + c.epsilon) + c.weight_decay * p), m, v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_steps_by_hand() {
        let c = AdamW {
            lr: 0.5,
            beta1: 0.75,
            beta2: 0.9375,
            epsilon: 1.0,
            weight_decay: 0.125,
            bias_correction: false,
        };
        // m = 16/4 = 4, v = 256/16 = 16, update = 4 / (4 + 1) + 2/8.
        assert_eq!(adamw(c, 1, (2.0, 0.0, 0.0), 16.0), (2.0 - 0.5 * (0.8 + 0.25), 4.0, 16.0));
        // With correction m-hat = 16 and v-hat = 256: 16 / (16 + 1) + 2/8.
        let corrected = AdamW { bias_correction: true, ..c };
        let expected = 2.0 - 0.5 * (16.0 / 17.0 + 0.25);
        assert_eq!(adamw(corrected, 1, (2.0, 0.0, 0.0), 16.0), (expected, 4.0, 16.0));
    }
}
