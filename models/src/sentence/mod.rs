//! Sentence embeddings as sentence-transformers folders describe them.

mod modules;

pub use modules::{Pooling, SentenceModules};
