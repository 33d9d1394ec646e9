//! Batches for pre-training, one after the other, for ever, from any position.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ferrite_tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};

use super::corpus::Corpus;
use super::error::DataError;
use super::fingerprint::Fingerprint;
use super::instances::{Instance, InstanceOptions};
use super::masking::MaskingOptions;
use super::shards::{MaskedInstance, Part, Pending, Shard, Shards};
use crate::bert::Batch;

/// How much a batch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchSize {
    /// This many sequences, at least 1, and not so many that their tokens may be 2^32.
    Sequences(usize),
    /// As many sequences as follow one another and have at most this many tokens together; at least
    /// `max_seq_length`. Batches have no padding, so that all of them are nearly of one cost.
    Tokens(usize),
}

/// What is drawn, and from which documents.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PretrainingOptions {
    /// Whatever is random follows from it.
    pub seed: u64,
    /// The fraction of documents that are held out: see [`Corpus::split`].
    pub held_out: f64,
    /// The most documents of a shard, at least 1. Their tokens are in memory at once, twice.
    pub shard_documents: u32,
    /// The bytes of text, at least 1, with which a shard ends even if it has fewer documents: it may
    /// have as many, and one document. See [`PretrainingOptions::memory`].
    pub shard_bytes: u32,
    /// How much a batch holds.
    pub batch: BatchSize,
    /// How pairs are made.
    pub instances: InstanceOptions,
    /// How words are masked.
    pub masking: MaskingOptions,
}

impl Default for PretrainingOptions {
    /// The reference's seed and settings, nothing held out, shards of 256 documents or 8 MiB, batches
    /// of 32 sequences.
    fn default() -> PretrainingOptions {
        PretrainingOptions {
            seed: 12345,
            held_out: 0.0,
            shard_documents: 256,
            shard_bytes: 8 << 20,
            batch: BatchSize::Sequences(32),
            instances: InstanceOptions::default(),
            masking: MaskingOptions::default(),
        }
    }
}

/// About the bytes that a byte of a shard's text takes: a token for two of them, which is four times
/// in memory, once as sentences that grow, once as sequences, and those have something of their own.
const MEMORY_OF_A_BYTE: u64 = 10;

impl PretrainingOptions {
    /// About the bytes that shards of this corpus take, at most: two at a time, one that is read and
    /// one that is made. They are those of text in which words are parted by spaces; what has more
    /// tokens than a token for two bytes takes more.
    pub fn memory(&self, corpus: &Corpus) -> u64 {
        let by_documents = corpus.largest(self.shard_documents as usize);
        let by_bytes = u64::from(self.shard_bytes) + corpus.largest(1);
        2 * MEMORY_OF_A_BYTE * by_documents.min(by_bytes)
    }

    /// Refuses what cannot be, but for what [`Masker`](super::Masker) and
    /// [`Corpus::split`] refuse.
    pub(super) fn check(&self) -> Result<(), DataError> {
        let invalid = |option, expected, found: String| {
            Err(DataError::InvalidOption { option, expected, found })
        };
        let InstanceOptions { max_seq_length, short_seq_prob } = self.instances;
        if !(InstanceOptions::SHORTEST..=1 << 20).contains(&max_seq_length) {
            let expected = "a number from 5 to 2^20";
            return invalid("max_seq_length", expected, max_seq_length.to_string());
        }
        if !(0.0..=1.0).contains(&short_seq_prob) {
            return invalid("short_seq_prob", "a fraction from 0 to 1", short_seq_prob.to_string());
        }
        if self.shard_documents == 0 {
            return invalid("shard_documents", "a number above 0", "0".to_owned());
        }
        if self.shard_bytes == 0 {
            return invalid("shard_bytes", "a number above 0", "0".to_owned());
        }
        // Rows are numbers of 32 bits.
        let limit = u32::MAX as usize;
        match self.batch {
            BatchSize::Sequences(n) if !(1..=limit / max_seq_length).contains(&n) => {
                let expected = "a number from 1 to 2^32 / max_seq_length";
                invalid("sequences of a batch", expected, n.to_string())
            }
            BatchSize::Tokens(n) if !(max_seq_length..=limit).contains(&n) => {
                let expected = "a number from max_seq_length to 2^32 - 1";
                invalid("tokens of a batch", expected, n.to_string())
            }
            _ => Ok(()),
        }
    }
}

/// Sequences for one step of pre-training.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PretrainingBatch {
    /// The tokens, masked, of sequences `[CLS] A [SEP] B [SEP]`.
    pub batch: Batch,
    /// The rows of the batch whose tokens are to be guessed, ascending.
    pub positions: Vec<u32>,
    /// The token that was in each of these rows.
    pub targets: Vec<u32>,
    /// For each sequence 0 if B comes after A in the text, 1 if it is a random segment.
    pub next_sentence: Vec<u32>,
}

impl PretrainingBatch {
    fn push(&mut self, MaskedInstance { instance, masked }: &MaskedInstance) {
        let Instance { ids, first, is_random } = instance;
        let row = self.batch.tokens() as u32;
        self.positions.extend(masked.positions.iter().map(|place| row + place));
        self.targets.extend_from_slice(&masked.targets);
        self.next_sentence.push(u32::from(*is_random));
        let type_ids: Vec<u8> = (0..ids.len()).map(|place| u8::from(place >= *first)).collect();
        self.batch.push(ids, Some(&type_ids));
    }
}

/// The place of a sequence in data that have no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// How often all documents were used before.
    pub epoch: u64,
    /// The shard of the epoch, from 0.
    pub shard: u64,
    /// The sequence of the shard, from 0; up to the number of sequences, which is the place before
    /// the next shard.
    pub instance: u64,
    /// Of the corpus, the vocabulary, the tokenizer's rules, and all options but the size of batches.
    pub fingerprint: Fingerprint,
}

/// Batches for pre-training, made of a corpus.
///
/// A batch is made of sequences in the order in which they come, also where a shard or an epoch
/// ends within it. An error leaves the position as it was, so that whoever asks again tries again.
#[derive(Debug)]
pub struct PretrainingBatches {
    shards: Arc<Shards>,
    size: BatchSize,
    /// Of the next batch's first sequence.
    epoch: u64,
    shard: u64,
    instance: usize,
    /// The shard that was read last.
    current: Option<Made>,
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Made {
    epoch: u64,
    shard: u64,
    instances: Vec<MaskedInstance>,
    /// The epoch and the shard that come next.
    next: (u64, u64),
}

impl PretrainingBatches {
    /// The batches to train on, from the start. They have no end.
    ///
    /// # Errors
    /// If an option is out of its range, a part of the split would be empty, or the vocabulary
    /// lacks a token.
    pub fn new(
        corpus: Arc<Corpus>,
        tokenizer: Arc<Tokenizer>,
        options: PretrainingOptions,
    ) -> Result<PretrainingBatches, DataError> {
        PretrainingBatches::of(Part::Training, corpus, tokenizer, options)
    }

    /// The batches of the documents that are held out, each document passed over once. They come
    /// to an end, and are the same whenever they are made with the same options: pairs and masks
    /// follow from the seed.
    ///
    /// # Errors
    /// As [`PretrainingBatches::new`], and if nothing is held out.
    pub fn held_out(
        corpus: Arc<Corpus>,
        tokenizer: Arc<Tokenizer>,
        options: PretrainingOptions,
    ) -> Result<PretrainingBatches, DataError> {
        PretrainingBatches::of(Part::HeldOut, corpus, tokenizer, options)
    }

    fn of(
        part: Part,
        corpus: Arc<Corpus>,
        tokenizer: Arc<Tokenizer>,
        options: PretrainingOptions,
    ) -> Result<PretrainingBatches, DataError> {
        let shards = Arc::new(Shards::new(corpus, tokenizer, options, part)?);
        let (size, epoch, shard, instance) = (options.batch, 0, 0, 0);
        let (current, pending) = (None, None);
        Ok(PretrainingBatches { shards, size, epoch, shard, instance, current, pending })
    }

    /// Where the next batch begins. That is all there is to save: see
    /// [`seek`](PretrainingBatches::seek).
    ///
    /// Of `batches: &mut PretrainingBatches` it is `(*batches).position()`: without the star, Rust
    /// takes [`Iterator::position`].
    pub fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            shard: self.shard,
            instance: self.instance as u64,
            fingerprint: self.shards.fingerprint(),
        }
    }

    /// Goes to a position, from where all batches are those that came, or would come, after it.
    ///
    /// # Errors
    /// If the position is of other data, or beyond the shards. Whether it is beyond the sequences
    /// of its shard shows when the next batch is made.
    pub fn seek(&mut self, position: Position) -> Result<(), DataError> {
        let Position { epoch, shard, instance, fingerprint: found } = position;
        let expected = self.shards.fingerprint();
        if found != expected {
            return Err(DataError::OtherData { expected, found });
        }
        // Counting on must not overflow; and the end of what is held out is the start of epoch 1.
        let last = match self.shards.part() {
            Part::Training => 1 << 53,
            Part::HeldOut => u64::from(shard == 0 && instance == 0),
        };
        let Ok(instance) = usize::try_from(instance) else {
            return Err(DataError::NoSuchPosition { position });
        };
        if epoch > last || shard >= self.shards.count(epoch) {
            return Err(DataError::NoSuchPosition { position });
        }
        (self.epoch, self.shard, self.instance) = (epoch, shard, instance);
        Ok(())
    }

    /// The number of shards of the epoch that the position is in. Where some are cut for their bytes
    /// it may differ from epoch to epoch.
    pub fn shards(&self) -> u64 {
        self.shards.count(self.epoch)
    }

    /// The number of documents of an epoch.
    pub fn documents(&self) -> usize {
        self.shards.documents()
    }

    /// What positions in these data carry: see [`Position::fingerprint`].
    pub fn fingerprint(&self) -> Fingerprint {
        self.shards.fingerprint()
    }

    /// A batch from the position on, which moves with it; an empty one at the end.
    fn fill(&mut self) -> Result<PretrainingBatch, DataError> {
        let mut batch = PretrainingBatch::default();
        let mut epoch_is_empty = false;
        while !self.is_over() {
            epoch_is_empty |= self.shard == 0;
            let instances = self.load()?.len();
            if self.instance > instances {
                return Err(DataError::NoSuchPosition { position: (*self).position() });
            }
            while self.instance < instances {
                let next = &self.current.as_ref().expect("loaded").instances[self.instance];
                let tokens = batch.batch.tokens() + next.instance.ids.len();
                if matches!(self.size, BatchSize::Tokens(most) if tokens > most) {
                    return Ok(batch);
                }
                batch.push(next);
                self.instance += 1;
                if self.size == BatchSize::Sequences(batch.batch.len()) {
                    return Ok(batch);
                }
            }
            epoch_is_empty &= instances == 0;
            let next = self.current.as_ref().expect("loaded").next;
            if epoch_is_empty && next.0 > self.epoch {
                return Err(DataError::NoInstances { documents: self.shards.documents() });
            }
            (self.epoch, self.shard) = next;
            self.instance = 0;
        }
        Ok(batch)
    }

    fn is_over(&self) -> bool {
        self.shards.part() == Part::HeldOut && self.epoch > 0
    }

    /// The sequences of the shard at the position; the next one is begun.
    fn load(&mut self) -> Result<&[MaskedInstance], DataError> {
        let (epoch, shard) = (self.epoch, self.shard);
        let is_here = |made: &Made| (made.epoch, made.shard) == (epoch, shard);
        if !self.current.as_ref().is_some_and(is_here) {
            let pending =
                self.pending.take().filter(|made| (made.epoch, made.shard) == (epoch, shard));
            let made = pending.and_then(Pending::wait);
            let here = || self.shards.make(epoch, shard, &AtomicBool::new(false));
            let Shard { instances, is_last } = made.unwrap_or_else(here)?;
            let next = if is_last { (epoch + 1, 0) } else { (epoch, shard + 1) };
            self.current = Some(Made { epoch, shard, instances, next });
            let (epoch, shard) = next;
            if self.shards.part() == Part::Training || epoch == 0 {
                self.pending = Some(Pending::new(Arc::clone(&self.shards), epoch, shard));
            }
        }
        Ok(&self.current.as_ref().expect("just made").instances)
    }
}

impl Iterator for PretrainingBatches {
    type Item = Result<PretrainingBatch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let before = (self.epoch, self.shard, self.instance);
        let batch = self.fill();
        if batch.is_err() {
            (self.epoch, self.shard, self.instance) = before;
        }
        match batch {
            Ok(batch) if batch.batch.is_empty() => None,
            batch => Some(batch),
        }
    }
}
