//! From gradients to better parameters.

use ferrite_kernels::{AdamW, Level, elementwise};

use crate::bert::Parameters;

/// How parameters are moved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerOptions {
    /// The constants of AdamW.
    pub adamw: AdamW,
    /// Gradients whose norm, that of all of them together, is larger are scaled down to it; none
    /// if it is infinite.
    pub max_norm: f32,
}

impl OptimizerOptions {
    /// AdamW with bias correction, ε = 1e-6 and a decay of 0.01, gradients clipped to a norm of one.
    pub const CORRECTED: OptimizerOptions = OptimizerOptions {
        adamw: AdamW {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-6,
            weight_decay: 0.01,
            bias_correction: true,
        },
        max_norm: 1.0,
    };

    /// That of the reference code of BERT: the same without bias correction.
    pub const GOOGLE: OptimizerOptions = OptimizerOptions {
        adamw: AdamW { bias_correction: false, ..OptimizerOptions::CORRECTED.adamw },
        max_norm: 1.0,
    };

    /// Adam as in Attention Is All You Need, section 5.3: β 0.9 and 0.98, ε = 1e-9, no decay, and no
    /// gradient clipped.
    pub const TRANSFORMER: OptimizerOptions = OptimizerOptions {
        adamw: AdamW {
            beta1: 0.9,
            beta2: 0.98,
            epsilon: 1e-9,
            weight_decay: 0.0,
            bias_correction: true,
        },
        max_norm: f32::INFINITY,
    };
}

/// What an update did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// The norm of all gradients, before they were clipped.
    pub norm: f64,
    /// Whether nothing was done, because a gradient is infinite or not a number.
    pub skipped: bool,
}

/// AdamW with its means. Weight decay is for all but biases and norms.
#[derive(Clone, Debug)]
pub struct Optimizer {
    options: OptimizerOptions,
    /// The means of the gradients.
    pub m: Parameters,
    /// The means of their squares.
    pub v: Parameters,
    /// Updates that were done.
    pub updates: u64,
    /// Updates that were skipped.
    pub skipped: u64,
}

impl Optimizer {
    /// One for these parameters, whose means are zero.
    pub fn new(options: OptimizerOptions, parameters: &Parameters) -> Optimizer {
        let (m, v) = (parameters.zeros_like(), parameters.zeros_like());
        Optimizer { options, m, v, updates: 0, skipped: 0 }
    }

    /// Moves the parameters by one step at the rate `lr`. A gradient that is not finite leaves all
    /// as it was, and is counted.
    ///
    /// # Panics
    /// If parameters and gradients are not of one model.
    #[track_caller]
    pub fn update(
        &mut self,
        level: Level,
        lr: f32,
        parameters: &mut Parameters,
        gradients: &Parameters,
    ) -> Update {
        assert_eq!(parameters.tensors(), self.m.tensors(), "tensors of the optimizer's model");
        assert_eq!(parameters.tensors(), gradients.tensors(), "tensors of the gradients");
        let norm = elementwise::sum_of_squares_shared(level, gradients.values()).sqrt();
        if !norm.is_finite() {
            self.skipped += 1;
            return Update { norm, skipped: true };
        }
        self.updates += 1;
        let max_norm = f64::from(self.options.max_norm);
        // PyTorch's 1e-6 keeps a norm of zero from dividing.
        let scale = (max_norm / (norm + 1e-6)).min(1.0) as f32;
        let tensors = parameters.tensors().to_vec();
        let (p, g) = (parameters.values_mut(), gradients.values());
        let (m, v) = (self.m.values_mut(), self.v.values_mut());
        // Neighbours that are treated alike are one piece: what lies between tensors is zero.
        let mut first = 0;
        while first < tensors.len() {
            let decays = tensors[first].decays();
            let alike = tensors[first..].iter().take_while(|tensor| tensor.decays() == decays);
            let last = first + alike.count() - 1;
            let at = tensors[first].range.start..tensors[last].range.end;
            let (p, g) = (&mut p[at.clone()], &g[at.clone()]);
            let (m, v) = (&mut m[at.clone()], &mut v[at]);
            self.options.adamw.update(level, lr, self.updates, scale, p, g, m, v, decays);
            first = last + 1;
        }
        Update { norm, skipped: false }
    }
}

#[cfg(test)]
mod tests {
    use ferrite_kernels::testing::Random;

    use super::*;
    use crate::bert::{BertConfig, Part};
    use crate::train::initialize;

    fn model() -> Parameters {
        let config = BertConfig {
            vocab_size: 12,
            hidden_size: 6,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            intermediate_size: 10,
            max_position_embeddings: 7,
            ..BertConfig::default()
        };
        initialize(&config, &Part::ALL, 1)
    }

    /// The update of each tensor by itself, from the formulas, in f64.
    #[test]
    fn every_tensor_is_moved_as_the_formulas_say() {
        for options in [OptimizerOptions::CORRECTED, OptimizerOptions::GOOGLE] {
            let mut parameters = model();
            let before = parameters.clone();
            let mut gradients = parameters.zeros_like();
            let names = gradients.tensors().to_vec();
            for (n, tensor) in names.iter().enumerate() {
                gradients.values_mut()[tensor.range.clone()].fill(0.01 * (n as f32 + 1.0));
            }
            let mut optimizer = Optimizer::new(options, &parameters);
            let update = optimizer.update(Level::current(), 0.1, &mut parameters, &gradients);
            let squares = names
                .iter()
                .enumerate()
                .map(|(n, tensor)| tensor.range.len() as f64 * (0.01 * (n as f64 + 1.0)).powi(2));
            let norm = squares.sum::<f64>().sqrt();
            assert!((update.norm / norm - 1.0).abs() < 1e-6 && !update.skipped);
            assert!(norm > 1.0, "clipping is part of the test");
            for (n, tensor) in names.iter().enumerate() {
                let g = 0.01 * (n as f64 + 1.0) / (norm + 1e-6);
                // What f32 holds of 0.9 and 0.999.
                let rest = [options.adamw.beta1, options.adamw.beta2].map(|b| 1.0 - f64::from(b));
                let (m, v) = (rest[0] * g, rest[1] * g * g);
                let (m, v) = match options.adamw.bias_correction {
                    true => (m / rest[0], v / rest[1]),
                    false => (m, v),
                };
                let decay = if tensor.decays() { 0.01 } else { 0.0 };
                for (&p, &old) in parameters.tensor(tensor).iter().zip(before.tensor(tensor)) {
                    let old = f64::from(old);
                    let expected = old - 0.1 * (m / (v.sqrt() + 1e-6) + decay * old);
                    assert!(
                        (f64::from(p) - expected).abs() < 2e-6,
                        "{} {p} {expected}",
                        tensor.name
                    );
                }
            }
        }
    }

    /// Many updates in a row, each of other gradients and at another rate, against the formulas in f64
    /// (Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2).
    #[test]
    fn many_updates_are_those_of_the_formulas() {
        for options in
            [OptimizerOptions::CORRECTED, OptimizerOptions::GOOGLE, OptimizerOptions::TRANSFORMER]
        {
            let mut parameters = model();
            let tensors = parameters.tensors().to_vec();
            let mut p: Vec<f64> = parameters.values().iter().map(|&p| p.into()).collect();
            let (mut m, mut v) = (vec![0.0; p.len()], vec![0.0; p.len()]);
            let AdamW { beta1, beta2, epsilon, weight_decay, bias_correction } = options.adamw;
            let [b1, b2, epsilon, decay] = [beta1, beta2, epsilon, weight_decay].map(f64::from);
            let mut optimizer = Optimizer::new(options, &parameters);
            let mut random = Random::new(3);
            for t in 1..=40 {
                let mut gradients = parameters.zeros_like();
                let size = if t % 3 == 0 { 1.0 } else { 0.01 };
                for tensor in &tensors {
                    let numbers = random.vector(tensor.range.len(), -size, size);
                    gradients.values_mut()[tensor.range.clone()].copy_from_slice(&numbers);
                }
                let lr = 0.01 / t as f32;
                optimizer.update(Level::current(), lr, &mut parameters, &gradients);
                let g: Vec<f64> = gradients.values().iter().map(|&g| g.into()).collect();
                let norm = g.iter().map(|g| g * g).sum::<f64>().sqrt();
                let scale = (f64::from(options.max_norm) / (norm + 1e-6)).min(1.0);
                for tensor in &tensors {
                    let decay = if tensor.decays() { decay } else { 0.0 };
                    for i in tensor.range.clone() {
                        let g = scale * g[i];
                        m[i] = b1 * m[i] + (1.0 - b1) * g;
                        v[i] = b2 * v[i] + (1.0 - b2) * g * g;
                        let correct = |x: f64, b: f64| match bias_correction {
                            true => x / (1.0 - b.powi(t)),
                            false => x,
                        };
                        let step = correct(m[i], b1) / (correct(v[i], b2).sqrt() + epsilon);
                        p[i] -= f64::from(lr) * (step + decay * p[i]);
                    }
                }
            }
            assert_eq!((optimizer.updates, optimizer.skipped), (40, 0));
            for (i, (&found, p)) in parameters.values().iter().zip(&p).enumerate() {
                assert!((f64::from(found) - p).abs() < 2e-6, "{options:?} {i}: {found} {p}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_skipped_and_counted() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut parameters = model();
            let before = parameters.clone();
            let mut gradients = parameters.zeros_like();
            gradients.values_mut()[17] = bad;
            let mut optimizer = Optimizer::new(OptimizerOptions::CORRECTED, &parameters);
            let update = optimizer.update(Level::current(), 0.1, &mut parameters, &gradients);
            assert!(update.skipped && (optimizer.updates, optimizer.skipped) == (0, 1));
            assert_eq!(parameters, before);
            assert!(optimizer.m.values().iter().all(|&m| m == 0.0));
        }
    }
}
