//! Transformer layers on hand-written SIMD kernels.
//!
//! A layer is a struct with its parameters and a `forward` that reads like the paper. It is
//! immutable; what a pass writes lives in a cache that the caller owns and reuses. Activations are
//! packed: one row for each token, sequences end to end, never padded, so that only attention and
//! positions need to know where a sequence begins.
//!
//! | layer | what |
//! |---|---|
//! | [`Linear`] | `x Wᵀ + b`, optionally with an activation in the same pass |
//! | [`LayerNorm`] | normalisation of each row, or of the sum of two: "Add & Norm" |
//! | [`BertEmbeddings`] | token + segment + learned position, normalised |
//! | [`TransformerEmbeddings`] | `√d_model` token + position, [`sinusoidal`] |
//! | [`SelfAttention`], [`CrossAttention`] | multi-head attention; a step of it, for decoding |
//! | [`FeedForward`] | the position-wise network |
//!
//! An encoder layer of Attention Is All You Need (section 3.1), which is also BERT's: each
//! sub-layer's output is added to its input, and the sum is normalised.
//!
//! ```
//! use ferrite_kernels::{Activations, Matrix, Segments};
//! use ferrite_layers::{
//!     Activation, AttentionCache, FeedForward, FeedForwardCache, LayerNorm, Level, Linear, Mask,
//!     SelfAttention,
//! };
//!
//! let (level, d_model, d_ff, heads) = (Level::current(), 8, 32, 2);
//! let linear = |d_in, d_out| {
//!     let weight = Matrix::from_fn(d_out, d_in, |row, col| ((3 * row + 5 * col) % 7) as f32 / 7.0);
//!     Linear::new(level, weight.view(), &vec![0.0; d_out])
//! };
//! let (qkv, output) = (linear(d_model, 3 * d_model), linear(d_model, d_model));
//! let attention = SelfAttention { qkv, output, heads, mask: Mask::Full };
//! let (inner, outer) = (linear(d_model, d_ff), linear(d_ff, d_model));
//! let feed_forward = FeedForward { inner, outer, activation: Activation::Relu };
//! let norm = LayerNorm::new(level, vec![1.0; d_model], vec![0.0; d_model], 1e-6);
//!
//! // Two sequences, of three tokens and of two.
//! let sequences = Segments::from_lengths([3, 2]);
//! let (mut x, mut a) = (Activations::default(), Activations::default());
//! x.resize(level, 5, d_model);
//! a.resize(level, 5, d_model);
//! x.write_rows(|first, mut x| (0..x.rows()).for_each(|row| x.row_mut(row)[first % 8] = 1.0));
//!
//! let mut cache = (AttentionCache::default(), FeedForwardCache::default());
//! attention.forward(&x, &sequences, &mut cache.0, a.values_mut());
//! norm.forward_sum(x.values(), &mut a); //                   a = LayerNorm(x + Attention(x))
//! feed_forward.forward(&a, &mut cache.1, x.values_mut());
//! norm.forward_sum(a.values(), &mut x); //                   x = LayerNorm(a + FFN(a))
//!
//! let mean = x.values().row(4).iter().sum::<f32>() / d_model as f32;
//! assert!(mean.abs() < 1e-5);
//! ```
//!
//! What a sequence's rows become depends, to the last bit, on that sequence and on the level: not
//! on the other sequences, their order, or the number of threads. Shapes that do not fit panic and
//! say which; so do ids without a row in their table. Whoever takes ids from outside checks them.
//!
//! Letters in shapes: n tokens of a packed batch, m of a memory, d_model, d_ff, h heads of d_k
//! columns.

#![forbid(unsafe_code)]

mod attention;
mod embedding;
mod feed_forward;
#[cfg(test)]
mod gradients;
mod layer_norm;
mod linear;
mod moments;
mod positional;

#[cfg(any(test, feature = "testing"))]
pub mod reference;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use attention::{
    AttentionBackwardScratch, AttentionCache, AttentionGradients, CrossAttention,
    CrossAttentionCache, CrossAttentionGradients, SelfAttention,
};
pub use embedding::{BertEmbeddings, BertEmbeddingsGradients, Embedding, TransformerEmbeddings};
pub use feed_forward::{
    FeedForward, FeedForwardCache, FeedForwardGradients, FeedForwardScratch, FeedForwardTape,
};
pub use ferrite_kernels::{Activation, Activations, Arithmetic, Dropout, Level, Mask, Precision};
pub use layer_norm::{LayerNorm, LayerNormGradients};
pub use linear::{InputGradient, Linear, LinearGradients, LinearScratch};
pub use moments::Moments;
pub use positional::{SinusoidLayout, sinusoidal};
