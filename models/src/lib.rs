//! BERT and the Transformer: checkpoints, inference, training, tasks, and the program `ferrite`.
//!
//! - [`SentenceEncoder`]: texts to vectors, as a folder of sentence-transformers says
//! - [`FillMask`]: words for `[MASK]`
//! - [`bert`]: the model itself, token by token: embeddings, layers, pooler, heads
//! - [`transformer`]: that of Attention Is All You Need: encoder, decoder, generator
//! - [`checkpoint`]: safetensors files, the names of tensors in them, what became of each
//! - [`data`]: from raw text to batches for pre-training
//! - [`metrics`]: how good a translation is, in the numbers of sacreBLEU
//! - [`sentence`]: the files around the encoder in a folder of sentence-transformers
//! - [`train`]: what is kept of training runs
//! - `hub`, with the feature of that name: models by their names, cached or downloaded
//!
//! A folder as Hugging Face publishes it goes in; nothing in it is trusted: see [`Error`].
//!
//! ```
//! use ferrite_models::bert::{Batch, Bert, Workspace};
//!
//! let bert = Bert::from_pretrained("tests/oracle/a-pretraining")?;
//! let batch = Batch::from_ids([&[2, 17, 3][..], &[2, 40, 41, 3]]);
//! let mut workspace = Workspace::default();
//! let hidden = bert.encode(&batch, &mut workspace)?;
//! assert_eq!(hidden.shape(), (7, 32));
//! # Ok::<(), ferrite_models::Error>(())
//! ```
//!
//! Products are in f32 unless another [`Precision`](kernels::Precision) is asked for: see
//! [`Bert::from_pretrained_at`](bert::Bert::from_pretrained_at).
#![forbid(unsafe_code)]

mod assembly;
pub mod bert;
pub mod checkpoint;
mod config;
pub mod data;
mod error;
mod files;
#[cfg(feature = "hub")]
pub mod hub;
pub mod metrics;
mod parameters;
mod residual;
pub mod sentence;
pub mod tasks;
pub mod train;
pub mod transformer;

pub use error::Error;
pub use ferrite_kernels as kernels;
pub use ferrite_tokenizer as tokenizer;
pub use tasks::{FillMask, SentenceEncoder};

/// The library example of the README is a test.
#[cfg(all(doctest, feature = "hub"))]
#[doc = include_str!("../../README.md")]
struct Readme;
