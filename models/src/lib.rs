//! BERT and the Transformer: checkpoints, inference, and the program ferrite.
#![forbid(unsafe_code)]

pub mod bert;
pub mod checkpoint;
mod error;
mod files;
pub mod sentence;

pub use error::Error;
