//! Transformer layers on hand-written SIMD kernels.
//!
//! A layer is a struct with its parameters and a `forward` that reads like the paper. It is
//! immutable; what a pass writes lives in a cache that the caller owns and reuses. Activations are
//! packed: one row for each token, sequences end to end, never padded, so that only attention
//! needs to know where a sequence begins.
//!
//! - [`Linear`]: `x Wᵀ + b`, optionally with an activation in the same pass
//! - [`LayerNorm`]: normalisation of each row, or of the sum of two
//! - [`Embedding`], [`BertEmbeddings`]: tokens, segments and positions to rows
//! - [`sinusoidal`]: the position table of Attention Is All You Need
//! - [`SelfAttention`], [`CrossAttention`]: multi-head attention
//! - [`FeedForward`]: the position-wise network
//!
//! Letters in shapes: n tokens of a packed batch, d_model, d_ff, h heads of d_k columns.

#![forbid(unsafe_code)]

mod attention;
mod embedding;
mod feed_forward;
mod layer_norm;
mod linear;
mod positional;

pub use attention::{AttentionCache, CrossAttention, SelfAttention};
pub use embedding::{BertEmbeddings, Embedding};
pub use feed_forward::{FeedForward, FeedForwardCache};
pub use ferrite_kernels::{Activation, Level, Mask};
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use positional::sinusoidal;
