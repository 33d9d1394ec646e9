//! What a BERT is used for.

mod fill_mask;
mod sentence;

pub use fill_mask::{Blank, Candidate, FillMask, MaskBatch};
pub use sentence::{Embeddings, SentenceBatch, SentenceEncoder};
