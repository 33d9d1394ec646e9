//! Data for training: from raw text to batches.
//!
//! For translation, [`Pairs`] reads parallel text, [`EncodedPairs`] holds it as token ids, and
//! [`PairBatches`] makes batches of it.
//!
//! For pre-training, batches have masked words and pairs of segments, as
//! `create_pretraining_data.py` of google-research/bert makes them, but streamed.
//!
//! 1. [`Corpus`] finds documents and sentences in text files and remembers where they are.
//! 2. [`Pairing`] makes of some documents sequences `[CLS] A [SEP] B [SEP]`.
//! 3. [`Masker`] hides some of their tokens.
//! 4. [`PretrainingBatches`] does all of it, shard after shard and epoch after epoch, a shard being
//!    some hundred documents in a random order; the next shard is made while one is used.
//!
//! Everything that is drawn comes from a stream of [`Random`] numbers whose name says what it is
//! for: the seed, the epoch, the shard. So a [`Position`], which is three numbers, is all that has
//! to be saved: the batches that follow are the very ones that would have followed.
//!
//! ```
//! use std::io::Write;
//! use std::sync::Arc;
//!
//! use ferrite_models::data::{
//!     BatchSize, Corpus, CorpusOptions, PretrainingBatches, PretrainingOptions,
//! };
//! use ferrite_models::tokenizer::{Tokenizer, VocabOptions};
//!
//! let mut text = tempfile::NamedTempFile::new()?;
//! write!(text, "The cat sat. It saw a dog. The dog ran.\n\nA fish sat on a mat. It ran.\n")?;
//! let vocabulary = "[PAD] [UNK] [CLS] [SEP] [MASK] . the a it cat dog fish mat sat saw ran on";
//! let tokenizer = Tokenizer::from_vocab(vocabulary.split(' '), VocabOptions::default())?;
//!
//! let corpus = Arc::new(Corpus::open([text.path()], CorpusOptions::default())?);
//! assert_eq!(corpus.len(), 2);
//! let options = PretrainingOptions { batch: BatchSize::Sequences(2), ..Default::default() };
//! let mut batches = PretrainingBatches::new(corpus, Arc::new(tokenizer.clone()), options)?;
//! let start = batches.position();
//! let first = batches.next().expect("there is no last one")?;
//! for (sequence, rows) in first.batch.sequences().iter().enumerate() {
//!     let is_random = first.next_sentence[sequence] == 1;
//!     println!("{} random: {is_random}", tokenizer.decode(&first.batch.ids()[rows], false)?);
//! }
//! for (row, target) in first.positions.iter().zip(&first.targets) {
//!     println!("row {row} was {}", tokenizer.decode(&[*target], false)?);
//! }
//! # assert_eq!(first.batch.len(), 2);
//! # assert!(first.positions.len() >= 2);
//!
//! batches.seek(start)?;
//! assert_eq!(batches.next().expect("there is no last one")?, first);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batches;
mod corpus;
mod encoded_pairs;
mod error;
mod fingerprint;
mod instances;
mod lines;
mod masking;
mod pair_batches;
mod pair_faults;
mod pair_split;
mod pairs;
mod random;
mod sentences;
mod shards;

pub use batches::{BatchSize, Position, PretrainingBatch, PretrainingBatches, PretrainingOptions};
pub use corpus::{Corpus, CorpusOptions, CorpusReport, DocumentRule, Split};
pub use encoded_pairs::EncodedPairs;
pub use error::DataError;
pub(crate) use fingerprint::Hasher;
pub use fingerprint::{Fingerprint, InvalidFingerprint};
pub use instances::{Instance, InstanceOptions, Pairing, TokenizedDocument};
pub use masking::{Masked, Masker, Masking, MaskingOptions};
pub use pair_batches::{
    DroppedPair, PairBatch, PairBatchOptions, PairBatches, PairPosition, SpecialIds,
};
pub use pair_faults::{PairFault, PairReport, RejectedPair};
pub use pairs::{Pair, PairFiles, PairOptions, Pairs, control_token};
pub use random::{Purpose, Random};
pub use sentences::{ABBREVIATIONS, SentenceRule};
