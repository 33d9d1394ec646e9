//! How many floating-point operations a model needs, and how many bytes its products read.

use ferrite_models::bert::{BertConfig, Part};
use serde::Serialize;

/// Operations of the matrix products, a multiplication and an addition being two. The rest (norms,
/// softmax, activations, embeddings) is a percent or so.
///
/// With L layers, width H, inner width I, V words and a sequence of n tokens:
/// - the linear layers: 2 L (4 H² + 2 H I) a token, for query, key, value, output, and the two of
///   the feed-forward network;
/// - attention: 4 L H n a token, for scores with n keys and the sum of n values;
/// - the heads: see the fields.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Cost {
    /// Of the linear layers of the encoder, for each token.
    pub(super) linear_flops_per_token: usize,
    /// Of attention, for each token and each token of its sequence.
    pub(super) attention_flops_per_token_and_length: usize,
    /// Of pooler and next-sentence head, for each sequence; 0 without them.
    pub(super) pooler_flops_per_sequence: usize,
    /// Of the masked-LM head, 2 (H² + H V), for each mask; 0 without it.
    pub(super) masked_lm_flops_per_mask: usize,
}

impl Cost {
    pub(super) fn new(config: &BertConfig, parts: &[Part]) -> Cost {
        let (l, h, i) = (config.num_hidden_layers, config.hidden_size, config.intermediate_size);
        let has = |part| usize::from(parts.contains(&part));
        Cost {
            linear_flops_per_token: 2 * l * (4 * h * h + 2 * h * i),
            attention_flops_per_token_and_length: 4 * l * h,
            pooler_flops_per_sequence: 2 * h * h * has(Part::Pooler)
                + 4 * h * has(Part::NextSentence),
            masked_lm_flops_per_mask: 2 * (h * h + h * config.vocab_size) * has(Part::MaskedLm),
        }
    }

    /// Of the encoder, for each token of a sequence of this length.
    pub(super) fn per_token(&self, length: usize) -> usize {
        self.linear_flops_per_token + self.attention_flops_per_token_and_length * length
    }
}

/// About how many bytes of weights the matrix products read, once packed, in each precision: sizes
/// that do not fill the tiles of a kernel take a little more. Tables, biases and norms come on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ProductBytes {
    pub(super) f32: usize,
    pub(super) bf16: usize,
    pub(super) int8: usize,
}

impl ProductBytes {
    pub(super) fn new(config: &BertConfig, parts: &[Part]) -> ProductBytes {
        let (l, h, i) = (config.num_hidden_layers, config.hidden_size, config.intermediate_size);
        let has = |part| usize::from(parts.contains(&part));
        let words = config.vocab_size * has(Part::MaskedLm);
        let transform = h * has(Part::MaskedLm);
        let weights = l * (4 * h * h + 2 * h * i) + (transform + words) * h;
        let outputs = l * (3 * h + h + i + h) + transform + words;
        // What hangs on the first token alone is in f32 always.
        let rest = 4 * (h * h * has(Part::Pooler) + 2 * h * has(Part::NextSentence));
        ProductBytes {
            f32: 4 * weights + rest,
            bf16: 2 * weights + rest,
            // With a scale and a correction for each output.
            int8: weights + 8 * outputs + rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use ferrite_models::kernels::{Arithmetic, Matrix, PackedMatrix, Precision};

    use super::*;

    #[test]
    fn bert_base_costs_twice_its_layers_weights() {
        let cost = Cost::new(&BertConfig::default(), &[Part::Encoder]);
        // The 85 million parameters of the layers are nearly all weights, each used once a token.
        assert_eq!(cost.linear_flops_per_token, 2 * 84_934_656);
        // 12 heads of 64, scores and values, 12 layers: as the paper's n² d.
        assert_eq!(cost.attention_flops_per_token_and_length, 12 * 2 * 2 * 768);
        assert_eq!(cost.per_token(512), 2 * 84_934_656 + 512 * 36_864);
        assert_eq!((cost.pooler_flops_per_sequence, cost.masked_lm_flops_per_mask), (0, 0));
        let cost = Cost::new(&BertConfig::default(), &Part::ALL);
        assert_eq!(cost.pooler_flops_per_sequence, 2 * (768 * 768 + 2 * 768));
        assert_eq!(cost.masked_lm_flops_per_mask, 2 * (768 * 768 + 768 * 30522));
    }

    #[test]
    fn the_bytes_of_products_are_those_of_packed_weights() {
        let config =
            BertConfig::from_json_str(r#"{"num_hidden_layers": 1, "vocab_size": 3000}"#).unwrap();
        let (h, i) = (config.hidden_size, config.intermediate_size);
        let bytes = |arithmetic, shapes: &[(usize, usize)]| -> usize {
            let pack = |&(rows, cols)| {
                PackedMatrix::new(arithmetic, Matrix::zeros(rows, cols).view()).bytes()
            };
            shapes.iter().map(pack).sum()
        };
        let layer = [(3 * h, h), (h, h), (i, h), (h, i)];
        let head = [(h, h), (config.vocab_size, h)];
        let on_the_first_token = [(h, h), (2, h)];
        for arithmetic in Arithmetic::available() {
            let level = arithmetic.level();
            let rest = bytes(level.into(), &on_the_first_token);
            for (parts, expected) in [
                (&Part::ALL[..1], bytes(arithmetic, &layer)),
                (&Part::ALL, bytes(arithmetic, &layer) + bytes(arithmetic, &head) + rest),
            ] {
                let estimate = ProductBytes::new(&config, parts);
                let estimate = match arithmetic.precision() {
                    Precision::F32 => estimate.f32,
                    Precision::Bf16 => estimate.bf16,
                    _ => estimate.int8,
                };
                let off = estimate.abs_diff(expected) as f64 / expected as f64;
                assert!(off < 0.02, "{arithmetic}: {estimate}, {expected} packed");
            }
        }
    }
}
