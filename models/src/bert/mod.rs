//! BERT (Devlin et al. 2018, arXiv:1810.04805).
//!
//! ```text
//! Bert = Encoder              embeddings, then layers of   a = LayerNorm(x + Attention(x))
//!      + Pooler                                            x = LayerNorm(a + FeedForward(a))
//!      + MaskedLmHead
//!      + NextSentenceHead     as far as a checkpoint has them
//! ```

mod batch;
mod block;
mod config;
mod dropout;
mod encoder;
mod heads;
mod model;
mod parameters;
mod tensors;
mod training;

pub use batch::Batch;
pub use block::{Block, BlockCache, BlockScratch, BlockTape};
pub use config::{BertConfig, HiddenAct, ProblemType};
pub use dropout::Dropouts;
pub use encoder::{Encoder, Trace, Workspace};
pub use heads::{
    ClassifierHead, MaskedLmGradients, MaskedLmHead, MaskedLmTape, NextSentenceHead, Pooler,
    PoolerTape,
};
pub use model::Bert;
pub use parameters::{BlockGradients, Parameters, Tensor};
pub use tensors::Part;
pub use training::{PretrainingLoss, PretrainingTargets, PretrainingWeights, Tape};
