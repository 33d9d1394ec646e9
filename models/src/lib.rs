//! BERT and the Transformer: checkpoints, inference, and the program ferrite.
#![forbid(unsafe_code)]

pub mod bert;
pub mod checkpoint;
mod error;
mod files;
#[cfg(feature = "hub")]
pub mod hub;
pub mod sentence;
pub mod tasks;

pub use error::Error;
pub use ferrite_kernels as kernels;
pub use ferrite_tokenizer as tokenizer;
pub use tasks::{FillMask, SentenceEncoder};
