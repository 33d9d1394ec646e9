//! How much memory a training takes, known before it begins.

use ferrite_kernels::{Arithmetic, Precision};

use crate::bert::{BertConfig, Parameters, Part};

/// The bytes of a training, by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Parameters, gradients and both means of the optimizer, in f32.
    pub parameters: u64,
    /// The model: its weights as products read them, forward and backward, and its tables.
    pub model: u64,
    /// What a pass over a batch keeps for its way back, and works in.
    pub activations: u64,
}

/// The largest batch of a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LargestBatch {
    /// Its tokens.
    pub tokens: usize,
    /// Its masked tokens.
    pub masked: usize,
}

impl Memory {
    /// Of pre-training with batches of at most this size. Text and vocabulary come on top.
    pub fn of_pretraining(
        config: &BertConfig,
        arithmetic: Arithmetic,
        batch: LargestBatch,
    ) -> Memory {
        let BertConfig { vocab_size: v, hidden_size: d, intermediate_size: f, .. } = *config;
        let layers = config.num_hidden_layers;
        let LargestBatch { tokens: n, masked } = batch;
        let (element, copy) = match arithmetic.precision() {
            Precision::F32 => (4, 0),
            _ => (2, 2),
        };
        let count = Parameters::count_of(config, &Part::PRETRAINING);
        let products = layers * (4 * d * d + 2 * d * f) + d * d + v * d;
        let tables = (v + config.max_position_embeddings + config.type_vocab_size) * d;
        // What each layer keeps of a token: its input, Q K V, context, both sums and the norm of one,
        // the inner activations; what products read is there a second time.
        let kept = layers * (4 * (8 * d + f) + copy * 3 * d);
        // What one layer at a time works in: gradients of the same, and the operands of dW.
        let wide = f.max(3 * d);
        let worked = 4 * (f + 3 * d + 6 * d) + (4 + copy) * 2 * wide + element * wide;
        let row = v * (4 + 2 * (4 + copy)) + 8 * d * 4;
        let head = (masked as u64).saturating_mul(row as u64);
        Memory {
            parameters: 16 * count as u64,
            model: (2 * element * products + 4 * tables) as u64,
            activations: (n as u64).saturating_mul((kept + worked) as u64).saturating_add(head),
        }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.parameters.saturating_add(self.model).saturating_add(self.activations)
    }
}
