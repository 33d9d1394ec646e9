//! How much memory a training takes, known before it begins.

use ferrite_kernels::{Arithmetic, Precision};

use super::TranslationOptions;
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
    /// What the mean of parameters is computed in: see [`Average`](super::Average).
    pub average: u64,
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
/// Pieces of attention that a thread may be at.
const PIECES_PER_THREAD: usize = 4;
/// Rows whose scores the generator of a Transformer gives at once.
const STRIP: usize = 1024;

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
        Memory { parameters: 16 * count as u64, model, activations, average: 0, data: 0 }
    }

    /// Of translation with these options, evaluations included, on the threads of the current rayon
    /// pool. Pairs and vocabulary come on top.
    pub fn of_translation(options: &TranslationOptions) -> Memory {
        let TranslationOptions { arithmetic, config, data, average, .. } = options;
        let (d, v) = (config.d_model, config.target_vocab_size());
        let (encoders, decoders) = (config.encoder_layers, config.decoder_layers);
        let (of_encoder, of_decoder) = (config.encoder_ffn_dim, config.decoder_ffn_dim);
        let bytes = |number: usize, each: usize| (number as u64).saturating_mul(each as u64);
        let sum = |parts: &[u64]| parts.iter().fold(0u64, |sum, &part| sum.saturating_add(part));

        let tensors = config.tensors();
        let count: usize = tensors.iter().map(|tensor| tensor.range.len()).sum();
        let largest = tensors.iter().map(|tensor| tensor.range.len()).max().unwrap_or(0);
        let (weight, converted) = (arithmetic.weight_bytes(), arithmetic.converted_bytes());
        let encoder = 4 * d * d + 2 * d * of_encoder;
        let decoder = 8 * d * d + 2 * d * of_decoder;
        let positions = config.max_position_embeddings;
        let tables = match config.share_encoder_decoder_embeddings {
            true => v + positions,
            false => config.vocab_size + v + 2 * positions,
        };
        let products = sum(&[bytes(encoders, encoder), bytes(decoders, decoder), bytes(v, d)]);
        let model = products.saturating_mul(2 * weight as u64).saturating_add(bytes(tables, 4 * d));

        // A float, and one that products read.
        let (plain, ready) = (4, 4 + converted);
        // What is kept of a source token: for each layer of the encoder its input, context and the
        // norm of one sum; Q K V and both sums; the inner activations. For each layer of the decoder
        // its key and value. Then the memory and its gradient, and what the last norm reads.
        let source = encoders * (3 * d * ready + (5 * d + of_encoder) * plain)
            + decoders * 2 * d * plain
            + d * (ready + 2 * plain);
        // And of a target token: for each layer the inputs of its three parts and two contexts; Q K V,
        // another Q and three sums; the inner activations.
        let target =
            decoders * (5 * d * ready + (7 * d + of_decoder) * plain) + d * (ready + 2 * plain);
        // What one layer at a time works in, whichever side is longer: the inner activations, their
        // gradients, those of Q K V, of another Q and of four rows more, and the right operand of dW.
        let f = of_encoder.max(of_decoder);
        let worked = f * ready + (f + 8 * d) * plain + f.max(d) * weight;
        // What an evaluation works in: for each side its input, contexts and norms, Q K V, another Q
        // and a result, the inner activations; keys and values.
        let evaluated = (3 * d + of_encoder) * ready
            + 4 * d * plain
            + (5 * d + of_decoder) * ready
            + 5 * d * plain
            + 2 * d * plain;
        let tokens = data.tokens;
        // The head goes strip by strip: scores, and those of an evaluation.
        let strip = tokens.min(STRIP);
        let head = bytes(strip, 2 * v * plain);
        // The left operands of dx and dW, whichever layer has the largest.
        let operands = if arithmetic.precision() == Precision::F32 { 1 } else { 2 };
        let widest = bytes(tokens, f.max(3 * d)).max(bytes(strip, v));
        let operands = widest.saturating_mul((operands * ready) as u64);
        // What attention works in, for each piece that runs at the same time: of the longest sentence
        // five of Q K V and their gradients and four blocks of scores; for the three kinds of an
        // evaluation two of both.
        let pieces = rayon::current_num_threads() * PIECES_PER_THREAD;
        let heads = config.encoder_attention_heads.min(config.decoder_attention_heads).max(1);
        let longest = data.max_source_tokens.max(data.max_target_tokens) + 1;
        let of_key = 11 * (d / heads) + 10 * QUERY_BLOCK;
        let attended = bytes(pieces * of_key, longest * plain);
        let activations =
            sum(&[bytes(tokens, source + target + worked + evaluated), head, operands, attended]);
        let average = average.map_or(0, |_| bytes(count, 4).saturating_add(bytes(largest, 8)));
        Memory { parameters: 16 * count as u64, model, activations, average, data: 0 }
    }

    /// The same with texts of which so many bytes are held: see
    /// [`PretrainingOptions::memory`](crate::data::PretrainingOptions::memory).
    pub fn with_data(self, data: u64) -> Memory {
        Memory { data, ..self }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        let Memory { parameters, model, activations, average, data } = *self;
        [model, activations, average, data].into_iter().fold(parameters, u64::saturating_add)
    }
}
