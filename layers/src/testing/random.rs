//! Random parameters and activations: f32 numbers held in f64, so that a layer and its reference
//! have exactly the same.

use ferrite_kernels::testing::Random;
use ferrite_kernels::{Activation, Mask, Matrix};

use crate::reference::{FeedForward, LayerNorm, Linear, MultiHeadAttention};

/// Numbers in [-`scale`, `scale`).
pub fn vector(random: &mut Random, len: usize, scale: f32) -> Vec<f64> {
    (0..len).map(|_| f64::from(random.uniform(-scale, scale))).collect()
}

/// Numbers in [-`scale`, `scale`).
pub fn matrix(random: &mut Random, rows: usize, cols: usize, scale: f32) -> Matrix<f64> {
    Matrix::from_slice(rows, cols, &vector(random, rows * cols, scale))
}

/// Weights that keep the size of what passes: of variance 1 / d_in.
pub fn linear(random: &mut Random, d_in: usize, d_out: usize) -> Linear {
    let scale = (3.0 / d_in.max(1) as f32).sqrt();
    Linear { weight: matrix(random, d_out, d_in, scale), bias: vector(random, d_out, 0.5) }
}

/// γ around one, β around zero.
pub fn layer_norm(random: &mut Random, d_model: usize, epsilon: f32) -> LayerNorm {
    let gamma = vector(random, d_model, 0.5).iter().map(|x| f64::from((1.0 + x) as f32)).collect();
    LayerNorm { gamma, beta: vector(random, d_model, 0.5), epsilon: f64::from(epsilon) }
}

/// Attention of `heads` heads of `d_k` columns.
pub fn attention(random: &mut Random, heads: usize, d_k: usize, mask: Mask) -> MultiHeadAttention {
    let d_model = heads * d_k;
    let mut linear = || linear(random, d_model, d_model);
    let (query, key, value, output) = (linear(), linear(), linear(), linear());
    MultiHeadAttention { query, key, value, output, heads, mask }
}

/// A feed-forward network.
pub fn feed_forward(
    random: &mut Random,
    d_model: usize,
    d_ff: usize,
    activation: Activation,
) -> FeedForward {
    let (inner, outer) = (linear(random, d_model, d_ff), linear(random, d_ff, d_model));
    FeedForward { inner, outer, activation }
}
