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
    /// Texts that are made into batches: see [`Memory::with_data`].
    pub data: u64,
}

/// The largest batch of a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LargestBatch {
    /// Its tokens.
    pub tokens: usize,
    /// Its masked tokens.
    pub masked: usize,
}

/// Queries whose scores attention has at once.
const QUERY_BLOCK: usize = 64;

impl Memory {
    /// Of pre-training with batches of at most this size, evaluations included, on any number of
    /// threads. Texts come on top ([`Memory::with_data`]), and the vocabulary.
    pub fn of_pretraining(
        config: &BertConfig,
        arithmetic: Arithmetic,
        batch: LargestBatch,
    ) -> Memory {
        let BertConfig { vocab_size: v, hidden_size: d, intermediate_size: f, .. } = *config;
        let layers = config.num_hidden_layers;
        let bytes = |number: usize, each: usize| (number as u64).saturating_mul(each as u64);

        let count = Parameters::count_of(config, &Part::PRETRAINING);
        let products = layers * (4 * d * d + 2 * d * f) + d * d + v * d;
        let tables = (v + config.max_position_embeddings + config.type_vocab_size) * d;
        // The pooler is f32 in any case.
        let (weight, of_pooler) =
            (arithmetic.weight_bytes(), Arithmetic::from(arithmetic.level()).weight_bytes());
        let model = bytes(products, 2 * weight)
            .saturating_add(bytes(d * d, 2 * of_pooler))
            .saturating_add(bytes(tables, 4));

        let LargestBatch { tokens, masked } = batch;
        // A float, and one that products read.
        let (plain, ready) = (4, 4 + arithmetic.converted_bytes());
        // What each layer keeps of a token: its input, context and the norm of one sum; Q K V and
        // both sums; the inner activations.
        let kept = layers * (3 * d * ready + 5 * d * plain + f * plain);
        // What one layer at a time works in: the inner activations again and their gradients, those
        // of Q K V and of seven rows more, and the right operand of dW.
        let worked = f * ready + (f + 3 * d + 7 * d) * plain + f.max(d) * weight;
        // What an evaluation works in: its input, context and norm; Q K V, and its result; the inner
        // activations.
        let evaluated = 3 * d * ready + 4 * d * plain + f * ready;
        // What attention works in, if there are threads enough to have all heads in work at once:
        // three of Q K V and their gradients packed, and as many blocks of scores and one that
        // products read; for an evaluation two of both.
        let attended = (5 * d + 6 * config.num_attention_heads * QUERY_BLOCK) * plain;
        // The head: scores, those of an evaluation, and rows between.
        let head = 2 * v * plain + d * (ready + 6 * plain + weight);
        // The left operands of dx and dW, whichever layer has the largest.
        let operands = if arithmetic.precision() == Precision::F32 { 1 } else { 2 };
        let widest = bytes(tokens, f.max(3 * d)).max(bytes(masked, v));
        let activations = bytes(tokens, kept + worked + evaluated + attended)
            .saturating_add(bytes(masked, head))
            .saturating_add(widest.saturating_mul((operands * ready) as u64));
        Memory { parameters: 16 * count as u64, model, activations, data: 0 }
    }

    /// The same with texts of which so many bytes are held: see
    /// [`PretrainingOptions::memory`](crate::data::PretrainingOptions::memory).
    pub fn with_data(self, data: u64) -> Memory {
        Memory { data, ..self }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        let Memory { parameters, model, activations, data } = *self;
        parameters.saturating_add(model).saturating_add(activations).saturating_add(data)
    }
}
