//! The Transformer (Vaswani et al. 2017, arXiv:1706.03762, Attention Is All You Need).
//!
//! ```text
//! Transformer = source embeddings      √d_model E[token] + PE[position]              (3.4, 3.5)
//!             + Encoder                N layers of   a = LayerNorm(x + Attention(x))   (3.1)
//!                                                    x = LayerNorm(a + FeedForward(a))
//!             + target embeddings
//!             + Decoder                N layers of   a = LayerNorm(x + MaskedAttention(x))
//!                                                    b = LayerNorm(a + Attention(a, memory))
//!                                                    x = LayerNorm(b + FeedForward(b))
//!             + generator              x Eᵀ: a score for each token of the target      (3.4)
//! ```
//!
//! [`decode`] is how it translates: greedy search, beam search, draws.
//!
//! Layers that normalise first are layers of their own: [`PreNormEncoderLayer`],
//! [`PreNormDecoderLayer`].

mod batch;
mod config;
pub mod decode;
mod decoder;
mod decoder_layer;
mod dropout;
mod encoder;
mod encoder_layer;
mod model;
mod parameters;
mod past;
mod pre_norm_decoder_layer;
mod pre_norm_encoder_layer;
mod torch;
mod training;

pub use batch::{Batch, Pairs, Sentences};
pub use config::TransformerConfig;
pub use decode::{DecodeOptions, DecodeWorkspace, Hypothesis, LengthPenalty, MaxLength, Search};
pub use decoder::{Decoder, DecoderBlock};
pub use decoder_layer::{
    DecoderLayer, DecoderLayerCache, DecoderLayerDropouts, DecoderLayerTape, Memory,
};
pub use dropout::Dropouts;
pub use encoder::{Encoder, EncoderBlock};
pub use encoder_layer::{
    EncoderLayer, EncoderLayerCache, EncoderLayerDropouts, EncoderLayerTape, LayerScratch,
};
pub use model::{Transformer, Workspace};
pub(crate) use parameters::{CrossAttentionOf, EncoderLayerOf};
pub use parameters::{DecoderLayerGradients, EncoderLayerGradients};
pub use past::{LayerPast, Past, Visible};
pub use pre_norm_decoder_layer::PreNormDecoderLayer;
pub use pre_norm_encoder_layer::PreNormEncoderLayer;
pub use torch::TorchNames;
pub use training::{Tape, TranslationWeights};

pub use crate::residual::SubLayerDropout;
