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
mod encoder;
mod heads;
mod model;
mod tensors;

pub use batch::Batch;
pub use block::{Block, BlockCache};
pub use config::{BertConfig, HiddenAct, ProblemType};
pub use encoder::{Encoder, Trace, Workspace};
pub use heads::{MaskedLmHead, NextSentenceHead, Pooler};
pub use model::Bert;
pub use tensors::Part;
