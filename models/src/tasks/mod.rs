//! What models are used for.

mod fill_mask;
mod sentence;
mod translator;

pub use fill_mask::{Blank, Candidate, FillMask, MaskBatch};
pub use sentence::{Embeddings, SentenceBatch, SentenceEncoder};
pub use translator::{Source, Translated, Translator};
