//! BERT (Devlin et al. 2018, arXiv:1810.04805).
//!
//! ```text
//! Bert = Encoder              embeddings, then layers of   a = LayerNorm(x + Attention(x))
//!      + Pooler                                            x = LayerNorm(a + FeedForward(a))
//!      + MaskedLmHead
//!      + NextSentenceHead     as far as a checkpoint has them
//! ```

mod batch;
mod config;
mod dropout;
mod encoder;
mod heads;
mod model;
mod parameters;
mod tensors;
mod training;

pub use batch::Batch;
pub use config::{BertConfig, ProblemType};
pub use dropout::Dropouts;
pub use encoder::{Encoder, Trace, Workspace};
pub use heads::{
    ClassifierHead, MaskedLmGradients, MaskedLmHead, MaskedLmTape, NextSentenceHead, Pooler,
    PoolerTape,
};
pub use model::Bert;
pub use tensors::Part;
pub use training::{PretrainingLoss, PretrainingTargets, PretrainingWeights, Tape};

pub use crate::config::HiddenAct;
pub use crate::parameters::{Parameters, Tensor};
// BERT's layer is the Transformer's (BERT, section 3).
pub use crate::transformer::{
    EncoderLayer as Block, EncoderLayerCache as BlockCache, EncoderLayerTape as BlockTape,
};
