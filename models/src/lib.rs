//! BERT and the Transformer: checkpoints, inference, and the program ferrite.
#![forbid(unsafe_code)]

pub mod bert;
pub mod checkpoint;
mod error;
mod files;
#[cfg(feature = "hub")]
pub mod hub;
pub mod sentence;

pub use error::Error;
