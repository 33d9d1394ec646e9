//! Training: a corpus in, a WordPiece vocabulary out.
//!
//! ```text
//! chunks      bytes -> texts
//! count       texts -> words and how often they occur, by the tokenizer's own pipeline
//! alphabet    the characters that are kept
//! merge       the best pair of neighbours becomes one token, again and again
//! queue       which pair that is
//! trained     the vocabulary, and the files it is saved as
//! ```
//!
//! The definition:
//!
//! 1. The texts are normalised and split into words as for encoding. Words of more than 100
//!    characters are not counted: they are unknown whatever the vocabulary.
//! 2. The vocabulary begins with the special tokens. Then come the `limit_alphabet` most frequent
//!    characters, by code point; then, with `##` before them, those of them that some word has
//!    after its first character.
//! 3. Each word is cut into such tokens. A word with a character beyond the limit is left out.
//! 4. The best pair of neighbours becomes a token, which is appended if it is not there yet, and
//!    replaces the pair in all words, in each from the left. The best is the pair with the highest
//!    [`PairScore`] of those that occur `min_frequency` times; of equals, the one whose tokens
//!    come first, compared as strings, the left one before the right.
//! 5. That is repeated until the vocabulary has `vocab_size` tokens, or no pair is left.
//!
//! So the result depends on the words alone: not on the order of the texts, on threads, or on how
//! the input is divided. The one exception is the bound on memory, see
//! [`TrainerOptions::max_words`].
//!
//! ```
//! use ferrite_tokenizer::{EncodeOptions, TrainerOptions, WordPieceTrainer};
//!
//! let options = TrainerOptions { vocab_size: 25, ..TrainerOptions::default() };
//! let mut trainer = WordPieceTrainer::new(options)?;
//! trainer.count("low low low lower lower newest newest newest widest widest");
//! let trained = trainer.train(|_| ())?;
//! assert!(trained.tokens().contains(&"##est".to_owned()));
//!
//! let tokenizer = trained.tokenizer()?;
//! let encoding = tokenizer.encode("the lowest", None, &EncodeOptions::default())?;
//! // "the" has letters that the corpus does not have.
//! assert_eq!(encoding.unknown, 1);
//! # Ok::<(), ferrite_tokenizer::Error>(())
//! ```

mod alphabet;
mod chunks;
mod count;
mod merge;
mod queue;
#[cfg(test)]
mod reference;
mod trained;

use std::io::Read;

use crate::charmap::CharMap;
use crate::error::Error;
use crate::normalize::{Dialect, Rules};

use alphabet::Alphabet;
use chunks::Chunks;
use count::Counts;
use merge::{Learner, PREFIX, Symbols};

pub use trained::{FILES, Stop, Summary, Trained};

/// Texts of a reader, of a mebibyte each, that are counted at once.
const BATCH: usize = 32;

/// The special tokens that a BERT has, as its published vocabularies name them.
const SPECIALS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// What makes a pair of neighbours the next to be merged. Comparisons are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PairScore {
    /// How often the pair occurs, as in the trainer of the `tokenizers` crate.
    #[default]
    Count,
    /// That, divided by how often its left and how often its right token occurs: by how much the
    /// merge makes the corpus more likely (Schuster and Nakajima, "Japanese and Korean voice
    /// search", 2012). It prefers what hardly occurs apart, so the longest tokens are those of
    /// rare words: a higher `min_frequency` suits it.
    Likelihood,
}

/// How to train.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainerOptions {
    /// Tokens to have in the end; 30,522 as in BERT.
    pub vocab_size: usize,
    /// How often a pair has to occur to become a token; 2.
    pub min_frequency: u64,
    /// How many characters are kept at most, the most frequent ones; 1000.
    pub limit_alphabet: usize,
    /// Which pairs come first; by count.
    pub score: PairScore,
    /// Whether the vocabulary is for an uncased model; it is.
    pub lowercase: bool,
    /// Whether accents are stripped; `None`: if `lowercase`.
    pub strip_accents: Option<bool>,
    /// Whether ideographs are words of their own; they are.
    pub split_cjk: bool,
    /// The tokens that come first: `[PAD]`, `[UNK]`, `[CLS]`, `[SEP]`, `[MASK]`, in this or
    /// another order, and perhaps others.
    pub special_tokens: Vec<String>,
    /// Distinct words that are held in memory, of about 100 bytes each; 10 million. If there are
    /// more after a batch of 32 MiB, or at the end of a reader, the most frequent three quarters
    /// of this number stay, of equals the first by their bytes. The others lose their count so
    /// far, and [`Summary::dropped_words`] tells how many these were; their characters still
    /// count for the alphabet. Only then does the result depend on the order of the texts.
    pub max_words: usize,
}

impl Default for TrainerOptions {
    fn default() -> Self {
        Self {
            vocab_size: 30522,
            min_frequency: 2,
            limit_alphabet: 1000,
            score: PairScore::default(),
            lowercase: true,
            strip_accents: None,
            split_cjk: true,
            special_tokens: SPECIALS.map(String::from).into(),
            max_words: 10_000_000,
        }
    }
}

impl TrainerOptions {
    fn check(&self) -> Result<(), Error> {
        let bad = |token: &str, reason| Err(Error::BadSpecialToken { token: token.into(), reason });
        for (index, token) in self.special_tokens.iter().enumerate() {
            if token.is_empty() || token.contains(|c: char| c.is_whitespace() || c.is_control()) {
                return bad(token, "it has to be one or more characters without white space");
            }
            if self.special_tokens[..index].contains(token) {
                return bad(token, "it is listed twice");
            }
        }
        match SPECIALS.iter().find(|&&token| !self.special_tokens.iter().any(|t| t == token)) {
            Some(token) => bad(token, "it is not listed, and BERT needs it"),
            None => Ok(()),
        }
    }

    fn rules(&self) -> Rules {
        Rules {
            // The files that are written mean this one.
            dialect: Dialect::HfFast,
            clean_text: true,
            split_cjk: self.split_cjk,
            strip_accents: self.strip_accents.unwrap_or(self.lowercase),
            lowercase: self.lowercase,
        }
    }
}

/// How far [`WordPieceTrainer::train`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainProgress {
    /// Tokens that there are.
    pub tokens: usize,
    /// Tokens that there will be, unless the corpus has too few pairs.
    pub wanted: usize,
}

/// Counts the words of a corpus, then makes a vocabulary of them.
#[derive(Debug)]
pub struct WordPieceTrainer {
    options: TrainerOptions,
    map: CharMap,
    counts: Counts,
    /// What the bound on memory has cost: words, and the characters in them.
    dropped_words: u64,
    dropped: Alphabet,
}

impl WordPieceTrainer {
    /// A trainer that has seen no text.
    ///
    /// # Errors
    ///
    /// [`Error::BadSpecialToken`].
    pub fn new(options: TrainerOptions) -> Result<Self, Error> {
        options.check()?;
        Ok(Self {
            map: CharMap::new(options.rules()),
            options,
            counts: Counts::default(),
            dropped_words: 0,
            dropped: Alphabet::default(),
        })
    }

    /// Counts the words of a text.
    pub fn count(&mut self, text: &str) {
        self.feed("<text>", text.as_bytes()).expect("a str is UTF-8, and needs no reading");
    }

    /// Counts the words of all that a reader has, on the threads of the current rayon pool. Errors
    /// call the reader `name`, the name of its file for instance.
    ///
    /// A text ends at each line break. What has no white space for 16 MiB is cut there.
    ///
    /// # Errors
    ///
    /// The reader's own, as [`Error::Io`], and [`Error::CorpusNotUtf8`]: a file that is not text,
    /// or in another encoding, is no file to skip in silence. After an error, a part of the words
    /// before it has been counted.
    pub fn feed(&mut self, name: &str, reader: impl Read) -> Result<(), Error> {
        self.feed_chunks(Chunks::new(name, reader))
    }

    /// The same, but what is not UTF-8 is read as U+FFFD, which is no part of any word: for corpora of
    /// which it is known, and told, that some places are not text.
    ///
    /// # Errors
    ///
    /// The reader's own, as [`Error::Io`].
    pub fn feed_lossy(&mut self, name: &str, reader: impl Read) -> Result<(), Error> {
        self.feed_chunks(Chunks::lossy(name, reader))
    }

    fn feed_chunks(&mut self, mut chunks: Chunks<impl Read>) -> Result<(), Error> {
        loop {
            let mut texts = Vec::new();
            while texts.len() < BATCH
                && let Some(text) = chunks.next()?
            {
                texts.push(text);
            }
            let is_end = texts.len() < BATCH;
            let counted = Counts::of(&self.map, &texts);
            self.counts = std::mem::take(&mut self.counts).plus(counted);
            self.bound();
            if is_end {
                return Ok(());
            }
        }
    }

    /// Keeps within [`TrainerOptions::max_words`].
    fn bound(&mut self) {
        let limit = self.options.max_words;
        if self.counts.words.len() > limit {
            for (word, count) in self.counts.drop_rarest(limit - limit / 4) {
                self.dropped.add(&String::from_utf8_lossy(&word), count);
                self.dropped_words += 1;
            }
        }
    }

    /// Words that have been counted, each as often as it occurs.
    pub fn words(&self) -> u64 {
        self.counts.total
    }

    /// Distinct words that are held in memory.
    pub fn distinct_words(&self) -> usize {
        self.counts.words.len()
    }

    /// Makes the vocabulary. `progress` is called before the first merge and after each.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyCorpus`] and [`Error::VocabTooSmall`]. That the corpus has too few pairs for
    /// the size asked for is no error: see [`Trained::stop`].
    pub fn train(self, progress: impl FnMut(TrainProgress)) -> Result<Trained, Error> {
        let Self { options, counts, dropped_words, dropped: mut alphabet, .. } = self;
        let mut words: Vec<(String, u64)> = counts
            .words
            .into_iter()
            .map(|(word, count)| (String::from_utf8_lossy(&word).into_owned(), count))
            .collect();
        // Not that their order matters: it makes runs alike in their use of memory, too.
        words.sort_unstable();
        if words.is_empty() {
            return Err(Error::EmptyCorpus);
        }
        words.iter().for_each(|(word, count)| alphabet.add(word, *count));
        let letters = alphabet.most_frequent(options.limit_alphabet);

        let mut symbols = Symbols::default();
        options.special_tokens.iter().for_each(|token| _ = symbols.intern(token));
        letters.iter().for_each(|(c, _)| _ = symbols.intern(&c.to_string()));
        for (c, _) in letters.iter().filter(|(_, inside)| *inside) {
            symbols.intern(&format!("{PREFIX}{c}"));
        }
        let (size, specials) = (options.vocab_size, options.special_tokens.len());
        if symbols.len() > size {
            let letters = symbols.len() - specials;
            return Err(Error::VocabTooSmall { size, specials, letters });
        }

        let rules =
            merge::Rules { score: options.score, min_frequency: options.min_frequency, size };
        let distinct_words = words.len();
        let listed = words.iter().map(|(word, count)| (word.as_str(), *count));
        let (learner, left_out) = Learner::new(rules, symbols, listed);
        drop(words);
        let (tokens, merges, stop) = learner.learn(progress);
        let summary = Summary {
            words: counts.total,
            distinct_words,
            dropped_words,
            long_words: counts.long,
            characters: alphabet.len(),
            alphabet: letters.len(),
            left_out_words: left_out.0,
            left_out_occurrences: left_out.1,
            merges,
        };
        Ok(Trained::new(options, tokens, stop, summary))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    /// Made once, since that takes longer than all the rest of a case.
    static EMPTY: LazyLock<CharMap> =
        LazyLock::new(|| CharMap::new(TrainerOptions::default().rules()));

    const LIMITS: [usize; 3] = [1, 3, 1000];

    /// Words of few letters, so that tokens repeat, overlap and are made in several ways.
    fn words() -> impl Strategy<Value = BTreeMap<String, u64>> {
        let count = prop_oneof![1..6u64, 1..100u64, 1..1u64 << 36];
        proptest::collection::btree_map("[abcé]{1,9}|a{1,12}|[a-z]{1,4}", count, 1..25)
    }

    fn learn(
        words: &BTreeMap<String, u64>,
        score: PairScore,
        min_frequency: u64,
        limit_alphabet: usize,
        vocab_size: usize,
    ) -> Vec<String> {
        let options = TrainerOptions {
            vocab_size,
            min_frequency,
            limit_alphabet,
            score,
            ..TrainerOptions::default()
        };
        let counts = words.iter().map(|(word, &count)| (word.as_bytes().into(), count));
        let trainer = WordPieceTrainer {
            options,
            map: EMPTY.clone(),
            counts: Counts { words: counts.collect(), ..Counts::default() },
            dropped_words: 0,
            dropped: Alphabet::default(),
        };
        let trained = trainer.train(|_| ()).expect("large enough");
        trained.tokens().to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn equal_to_counting_anew_before_each_merge(
            words in words(),
            likelihood: bool,
            min_frequency in 0..8u64,
            limit in 0..LIMITS.len(),
            merges in 0..60usize,
        ) {
            let score = if likelihood { PairScore::Likelihood } else { PairScore::Count };
            let limit = LIMITS[limit];
            let start = reference::train(&words, &SPECIALS, score, min_frequency, limit, 0).len();
            let size = start + merges;
            let expected = reference::train(&words, &SPECIALS, score, min_frequency, limit, size);
            prop_assert_eq!(learn(&words, score, min_frequency, limit, size), expected);
        }
    }

    #[test]
    fn the_reference_merges_as_the_definition_says() {
        let words: BTreeMap<String, u64> =
            [("ab", 3), ("abc", 2), ("cd", 5), ("xd", 1)].map(|(w, n)| (w.into(), n)).into();
        let train = |score| {
            let all = reference::train(&words, &[], score, 2, 1000, 100);
            all[8..].to_vec()
        };
        let letters = reference::train(&words, &[], PairScore::Count, 2, 1000, 0);
        assert_eq!(letters, ["a", "b", "c", "d", "x", "##b", "##c", "##d"]);
        // Of two pairs that occur five times, the first one by its strings.
        assert_eq!(train(PairScore::Count), ["ab", "cd", "abc"]);
        // a ##b: 5/(5*5); ##b ##c: 2/(5*2); c ##d: 5/(5*6). Both of the first two are 1/5.
        assert_eq!(train(PairScore::Likelihood), ["##bc", "ab", "abc", "cd"]);
    }
}
