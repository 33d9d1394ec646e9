//! Batches of pairs with about as many source tokens as target tokens, one after the other, for
//! ever, from any position.
//!
//! "Sentence pairs were batched together by approximate sequence length. Each training batch
//! contained a set of sentence pairs containing approximately 25000 source tokens and 25000 target
//! tokens" (Vaswani et al. 2017, 5.1). Here there is no padding, so tokens are tokens:
//!
//! 1. The pairs of an epoch are put in a random order and cut into windows.
//! 2. Those of a window are sorted by the length of the target, then of the source; of equal ones
//!    the random order remains.
//! 3. From the shortest on, as many as follow one another make a batch as have together at most the
//!    budget of source tokens and at most the budget of target tokens, special tokens included.
//! 4. The batches of a window come in a random order.
//!
//! Windows are a compromise: within a large one lengths are alike in a batch, and with many
//! batches a window there is no end of an epoch at which only the longest are left.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use ferrite_kernels::Segments;
use serde::{Deserialize, Serialize};

use super::encoded_pairs::EncodedPairs;
use super::error::DataError;
use super::fingerprint::{Fingerprint, Hasher};
use super::random::{Purpose, Random};

/// Tokens around the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialIds {
    /// Behind a source.
    pub source_end: u32,
    /// In front of a target: what the decoder begins with.
    pub target_start: u32,
    /// Behind a target: what the decoder ends with.
    pub target_end: u32,
}

/// How batches are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairBatchOptions {
    /// Whatever is random follows from it.
    pub seed: u64,
    /// The most source tokens, and the most target tokens, of a batch, with one special token for
    /// each sequence; so that the longest pair fits, and below 2^32.
    pub tokens: usize,
    /// The most tokens of a source, without special ones, at least 1. Pairs with longer ones are
    /// dropped: see [`PairBatches::dropped`].
    pub max_source_tokens: usize,
    /// The most tokens of a target, without special ones, at least 1.
    pub max_target_tokens: usize,
    /// The pairs of a window, at least 1.
    pub window: usize,
    /// Tokens around the text.
    pub special: SpecialIds,
}

impl PairBatchOptions {
    /// The paper's 25,000 tokens, sequences of at most 256 tokens, windows of 65,536 pairs.
    pub fn new(special: SpecialIds) -> PairBatchOptions {
        PairBatchOptions {
            seed: 12345,
            tokens: 25_000,
            max_source_tokens: 256,
            max_target_tokens: 256,
            window: 1 << 16,
            special,
        }
    }

    fn check(&self) -> Result<(), DataError> {
        let invalid = |option, expected, found: usize| {
            Err(DataError::InvalidOption { option, expected, found: found.to_string() })
        };
        // A special token is added, and rows are numbers of 32 bits.
        let limit = u32::MAX as usize;
        let longest = self.max_source_tokens.max(self.max_target_tokens);
        let shortest = self.max_source_tokens.min(self.max_target_tokens);
        if !(1..limit).contains(&shortest) || !(1..limit).contains(&longest) {
            let option = "max_source_tokens and max_target_tokens";
            let found = if shortest == 0 { shortest } else { longest };
            return invalid(option, "numbers from 1 to 2^32 - 2", found);
        }
        if !(longest + 1..=limit).contains(&self.tokens) {
            let expected = "more than max_source_tokens and max_target_tokens, and below 2^32";
            return invalid("tokens of a batch", expected, self.tokens);
        }
        if self.window == 0 {
            return invalid("window", "a number above 0", 0);
        }
        Ok(())
    }
}

/// A pair that is in no batch: a text without a token, or with too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DroppedPair {
    /// Its line, from 1.
    pub line: u64,
    /// The tokens of its source, without special ones.
    pub source_tokens: usize,
    /// The tokens of its target, without special ones.
    pub target_tokens: usize,
}

impl fmt::Display for DroppedPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DroppedPair { line, source_tokens, target_tokens } = self;
        write!(f, "line {line}: {source_tokens} source tokens, {target_tokens} target tokens")
    }
}

/// Pairs for one step of training. There is no padding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairBatch {
    /// The number of each pair in the [`EncodedPairs`].
    pub pairs: Vec<u32>,
    /// The sources, each with its end token, end to end: what the encoder reads.
    pub source_ids: Vec<u32>,
    /// Where the sources begin and end.
    pub sources: Segments,
    /// The targets, each behind the start token, end to end: what the decoder reads.
    pub target_input_ids: Vec<u32>,
    /// The targets, each with its end token, end to end: what the decoder should say in each row.
    pub target_output_ids: Vec<u32>,
    /// Where the targets begin and end, as inputs and as outputs.
    pub targets: Segments,
}

impl PairBatch {
    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    fn push(&mut self, number: u32, (source, target): (&[u32], &[u32]), special: SpecialIds) {
        self.pairs.push(number);
        self.source_ids.extend_from_slice(source);
        self.source_ids.push(special.source_end);
        self.sources.push(source.len() + 1);
        self.target_input_ids.push(special.target_start);
        self.target_input_ids.extend_from_slice(target);
        self.target_output_ids.extend_from_slice(target);
        self.target_output_ids.push(special.target_end);
        self.targets.push(target.len() + 1);
    }
}

/// Where a batch is: enough to go on from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairPosition {
    /// How often all pairs were gone through.
    pub epoch: u64,
    /// The window within the epoch.
    pub window: u64,
    /// The batch within the window.
    pub batch: u64,
    /// Of the pairs and the options: elsewhere the numbers mean nothing.
    pub fingerprint: Fingerprint,
}

/// Batches of pairs, without an end: each pair that is not dropped once an epoch.
///
/// ```
/// use std::sync::Arc;
///
/// use ferrite_models::data::{EncodedPairs, PairBatchOptions, PairBatches, SpecialIds};
///
/// let mut pairs = EncodedPairs::default();
/// pairs.push(&[10, 11], &[20], 1);
/// let special = SpecialIds { source_end: 2, target_start: 1, target_end: 2 };
/// let mut batches = PairBatches::new(Arc::new(pairs), PairBatchOptions::new(special))?;
/// let start = batches.position();
/// let batch = batches.next().expect("there is no last one");
/// assert_eq!(batch.source_ids, [10, 11, 2]);
/// assert_eq!(batch.target_input_ids, [1, 20]);
/// assert_eq!(batch.target_output_ids, [20, 2]);
/// assert_eq!(batches.position().epoch, 1);
///
/// batches.seek(start)?;
/// assert_eq!(batches.next(), Some(batch));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PairBatches {
    pairs: Arc<EncodedPairs>,
    options: PairBatchOptions,
    /// The numbers of all pairs but those that are dropped.
    kept: Vec<u32>,
    dropped: Vec<DroppedPair>,
    fingerprint: Fingerprint,
    /// The epoch whose order was made last, and the order.
    order: (u64, Vec<u32>),
    /// The window of the next batch.
    window: Window,
    /// The next batch within it.
    batch: usize,
}

/// The batches of a window, as numbers of pairs.
#[derive(Debug)]
struct Window {
    epoch: u64,
    number: u64,
    batches: Vec<Vec<u32>>,
}

impl PairBatches {
    /// The batches from the start.
    ///
    /// # Errors
    /// If an option is out of its range, no pair is left, or there are 2^32 pairs or more.
    pub fn new(
        pairs: Arc<EncodedPairs>,
        options: PairBatchOptions,
    ) -> Result<PairBatches, DataError> {
        options.check()?;
        if u32::try_from(pairs.len()).is_err() {
            return Err(DataError::TooManyPairs { pairs: pairs.len() });
        }
        let (mut kept, mut dropped) = (Vec::new(), Vec::new());
        for number in 0..pairs.len() {
            let (source, target) = pairs.get(number);
            if (1..=options.max_source_tokens).contains(&source.len())
                && (1..=options.max_target_tokens).contains(&target.len())
            {
                kept.push(number as u32);
            } else {
                let (line, source_tokens, target_tokens) =
                    (pairs.line(number), source.len(), target.len());
                dropped.push(DroppedPair { line, source_tokens, target_tokens });
            }
        }
        if kept.is_empty() {
            return Err(DataError::NoPairs { pairs: pairs.len() });
        }
        let fingerprint = fingerprint(&pairs, &kept, &options);
        let order = (0, order(&kept, options.seed, 0));
        let window = Window { epoch: 0, number: 0, batches: Vec::new() };
        let mut batches =
            PairBatches { pairs, options, kept, dropped, fingerprint, order, window, batch: 0 };
        batches.window = batches.make(0, 0);
        Ok(batches)
    }

    /// The pairs that are in no batch, in their order: those with a side that has no token or more
    /// than the most.
    pub fn dropped(&self) -> &[DroppedPair] {
        &self.dropped
    }

    /// The number of pairs of an epoch.
    pub fn pairs(&self) -> usize {
        self.kept.len()
    }

    /// The number of windows of an epoch.
    pub fn windows(&self) -> u64 {
        self.kept.len().div_ceil(self.options.window) as u64
    }

    /// What positions in these data carry: see [`PairPosition::fingerprint`].
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Where the next batch is. That is all there is to save: see [`seek`](PairBatches::seek).
    ///
    /// Of `batches: &mut PairBatches` it is `(*batches).position()`: without the star, Rust takes
    /// [`Iterator::position`].
    pub fn position(&self) -> PairPosition {
        let Window { epoch, number: window, .. } = self.window;
        let (batch, fingerprint) = (self.batch as u64, self.fingerprint);
        PairPosition { epoch, window, batch, fingerprint }
    }

    /// Goes to a position, from where all batches are those that came, or would come, after it.
    ///
    /// # Errors
    /// If the position is of other pairs or options, or there is no such batch. Then the position
    /// remains what it was.
    pub fn seek(&mut self, position: PairPosition) -> Result<(), DataError> {
        let PairPosition { epoch, window, batch, fingerprint: found } = position;
        let expected = self.fingerprint;
        if found != expected {
            return Err(DataError::OtherData { expected, found });
        }
        // Counting on must not overflow.
        if window >= self.windows() || epoch > 1 << 53 {
            return Err(DataError::NoSuchPairs { position });
        }
        let made = self.make(epoch, window);
        match usize::try_from(batch) {
            Ok(batch) if batch < made.batches.len() => self.batch = batch,
            _ => return Err(DataError::NoSuchPairs { position }),
        }
        self.window = made;
        Ok(())
    }

    /// Makes a window, which has a batch at least.
    fn make(&mut self, epoch: u64, number: u64) -> Window {
        if self.order.0 != epoch {
            self.order = (epoch, order(&self.kept, self.options.seed, epoch));
        }
        let PairBatchOptions { seed, tokens: most, window: size, .. } = self.options;
        let lengths = |&number: &u32| {
            let (source, target) = self.pairs.get(number as usize);
            (target.len() + 1, source.len() + 1)
        };
        let mut windows = self.order.1.chunks(size);
        let mut sorted = windows.nth(number as usize).expect("such a window").to_vec();
        sorted.sort_by_key(lengths);

        let mut batches: Vec<Vec<u32>> = Vec::new();
        let (mut targets, mut sources) = (0, 0);
        for pair in sorted {
            let (target, source) = lengths(&pair);
            match batches.last_mut() {
                Some(batch) if targets + target <= most && sources + source <= most => {
                    (targets, sources) = (targets + target, sources + source);
                    batch.push(pair);
                }
                _ => {
                    (targets, sources) = (target, source);
                    batches.push(vec![pair]);
                }
            }
        }
        // Stream 0 is that of the epoch's order.
        Random::new(seed, Purpose::Pairs, epoch, number + 1).shuffle(&mut batches);
        Window { epoch, number, batches }
    }
}

impl Iterator for PairBatches {
    type Item = PairBatch;

    fn next(&mut self) -> Option<PairBatch> {
        let mut batch = PairBatch::default();
        for &pair in &self.window.batches[self.batch] {
            batch.push(pair, self.pairs.get(pair as usize), self.options.special);
        }
        self.batch += 1;
        if self.batch == self.window.batches.len() {
            let Window { epoch, number, .. } = self.window;
            let is_last = number + 1 == self.windows();
            let (epoch, number) = if is_last { (epoch + 1, 0) } else { (epoch, number + 1) };
            self.window = self.make(epoch, number);
            self.batch = 0;
        }
        Some(batch)
    }
}

/// The order of the pairs in an epoch.
fn order(kept: &[u32], seed: u64, epoch: u64) -> Vec<u32> {
    let mut order = kept.to_vec();
    Random::new(seed, Purpose::Pairs, epoch, 0).shuffle(&mut order);
    order
}

/// A hash of all that batches depend on.
fn fingerprint(pairs: &EncodedPairs, kept: &[u32], options: &PairBatchOptions) -> Fingerprint {
    let mut hasher = Hasher::new();
    let SpecialIds { source_end, target_start, target_end } = options.special;
    // The longest lengths show in what is kept.
    hasher.number(options.seed);
    hasher.number(options.tokens as u64);
    hasher.number(options.window as u64);
    for id in [source_end, target_start, target_end] {
        hasher.number(u64::from(id));
    }
    hasher.number(kept.len() as u64);
    for &number in kept {
        let (source, target) = pairs.get(number as usize);
        // Batches say which pairs they are of.
        hasher.number(u64::from(number));
        for ids in [source, target] {
            hasher.number(ids.len() as u64);
            ids.iter().for_each(|id| hasher.bytes(&id.to_le_bytes()));
        }
    }
    hasher.finish()
}
