//! Words to guess (BERT, section 3.1, task 1): 15 % of a sequence's tokens, of which 80 % become
//! `[MASK]`, 10 % a random word and 10 % stay; drawn as by `create_pretraining_data.py` of
//! google-research/bert, number by number.
//!
//! - 15 % of all tokens, `[CLS]` and `[SEP]` among them, are rounded to a whole number, halves to
//!   the even one; at least 1 and at most `max_predictions`. `[CLS]` and `[SEP]` are never masked.
//! - Of the rest, half stay and half become a word of the whole vocabulary, be it a special one.
//! - Whole words: a piece that begins with `##` is masked if and only if its word is; a word of
//!   more pieces than may still be masked is passed over, so that there may be fewer masks than
//!   asked for, or none. A segment whose first word lost its head when it was cut begins with such
//!   a piece, which then goes with the last word before it. All of that is the reference's.
//!
//! It departs from the reference only in what it takes for `[CLS]` and `[SEP]`: also those that
//! stand in the text, which this tokenizer takes for the special tokens.

use ferrite_kernels::Segments;
use ferrite_tokenizer::Tokenizer;

use super::error::DataError;
use super::random::Random;

/// Sixteen times the largest vocabulary of a BERT: one made by an attacker has holes of billions.
const VOCABULARY_LIMIT: usize = 1 << 24;

/// When masks are drawn anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Masking {
    /// In each epoch (RoBERTa, section 4.1).
    #[default]
    Dynamic,
    /// Never: there are this many versions of the data, at least 1, which take turns epoch by
    /// epoch. That is the `dupe_factor` of the reference: all of an epoch comes again, its order
    /// and its pairs too.
    Static {
        /// The versions.
        duplicates: u32,
    },
}

impl Masking {
    /// Which version of the data an epoch reads.
    pub(super) fn draw(self, epoch: u64) -> u64 {
        match self {
            Masking::Dynamic => epoch,
            Masking::Static { duplicates } => epoch % u64::from(duplicates),
        }
    }
}

/// How words are masked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskingOptions {
    /// The fraction of tokens to guess.
    pub probability: f64,
    /// The most tokens to guess in a sequence.
    pub max_predictions: usize,
    /// Whether all pieces of a word are masked, or none.
    pub whole_words: bool,
    /// When masks are drawn anew.
    pub masking: Masking,
}

impl Default for MaskingOptions {
    /// The reference's 15 % and at most 20, single pieces; drawn anew in each epoch.
    fn default() -> MaskingOptions {
        MaskingOptions {
            probability: 0.15,
            max_predictions: 20,
            whole_words: false,
            masking: Masking::Dynamic,
        }
    }
}

impl MaskingOptions {
    /// As many predictions as 15 % of the longest sequence, rounded up: the reference's 20 at 128.
    pub fn predictions_of(max_seq_length: usize) -> usize {
        (0.15 * max_seq_length as f64).ceil() as usize
    }
}

/// What is to be guessed in a sequence. The lists are parallel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masked {
    /// The places, from 0, ascending.
    pub positions: Vec<u32>,
    /// The tokens that were there.
    pub targets: Vec<u32>,
}

/// Masks tokens of one vocabulary.
#[derive(Clone, Debug)]
pub struct Masker {
    options: MaskingOptions,
    cls: u32,
    sep: u32,
    mask: u32,
    /// All ids that have a token, ascending.
    vocabulary: Vec<u32>,
    /// Those whose token begins with `##`, ascending.
    continuing: Vec<u32>,
}

impl Masker {
    /// A masker for a tokenizer's vocabulary.
    ///
    /// # Errors
    /// If the vocabulary lacks `[CLS]`, `[SEP]` or `[MASK]`, if `probability` is not from 0 to 1,
    /// `max_predictions` or `duplicates` is 0, or the vocabulary has ids of 2^24 and more.
    pub fn new(tokenizer: &Tokenizer, options: MaskingOptions) -> Result<Masker, DataError> {
        let invalid =
            |option, expected, found| DataError::InvalidOption { option, expected, found };
        let MaskingOptions { probability, max_predictions, .. } = options;
        if !(0.0..=1.0).contains(&probability) {
            let found = probability.to_string();
            return Err(invalid("probability", "a fraction from 0 to 1", found));
        }
        if max_predictions == 0 {
            return Err(invalid("max_predictions", "a number above 0", "0".to_owned()));
        }
        if options.masking == (Masking::Static { duplicates: 0 }) {
            return Err(invalid("duplicates", "a number above 0", "0".to_owned()));
        }
        let (rows, limit) = (tokenizer.vocab_size(), VOCABULARY_LIMIT);
        if rows > limit {
            return Err(DataError::VocabularyTooLarge { rows, limit });
        }
        let special = |id: Option<u32>, role| id.ok_or(DataError::NoToken { role });
        let (mut vocabulary, mut continuing) = (Vec::new(), Vec::new());
        for id in 0..rows as u32 {
            if let Some(token) = tokenizer.id_to_token(id) {
                vocabulary.push(id);
                if token.starts_with("##") {
                    continuing.push(id);
                }
            }
        }
        Ok(Masker {
            options,
            cls: special(tokenizer.cls_id(), "classification")?,
            sep: special(tokenizer.sep_id(), "separator")?,
            mask: special(tokenizer.mask_id(), "mask")?,
            vocabulary,
            continuing,
        })
    }

    /// The id of `[CLS]`.
    pub fn cls(&self) -> u32 {
        self.cls
    }

    /// The id of `[SEP]`.
    pub fn sep(&self) -> u32 {
        self.sep
    }

    /// The id of `[MASK]`.
    pub fn mask_id(&self) -> u32 {
        self.mask
    }

    /// Masks tokens of a sequence that has its special tokens.
    pub fn mask(&self, ids: &mut [u32], random: &mut Random) -> Masked {
        let (places, words) = self.candidates(ids);
        let mut words: Vec<_> = words.iter().collect();
        random.shuffle(&mut words);
        let wanted = self.predictions(ids.len());
        let mut masked = Vec::with_capacity(wanted);
        for word in words {
            if masked.len() == wanted {
                break;
            }
            if masked.len() + word.len() > wanted {
                continue;
            }
            for &place in &places[word] {
                masked.push((place as u32, ids[place]));
                ids[place] = self.substitute(ids[place], random);
            }
        }
        masked.sort_unstable();
        let (positions, targets) = masked.into_iter().unzip();
        Masked { positions, targets }
    }

    /// How many tokens of a sequence are to be guessed.
    fn predictions(&self, length: usize) -> usize {
        let share = (length as f64 * self.options.probability).round_ties_even() as usize;
        share.max(1).min(self.options.max_predictions)
    }

    /// The places that may be masked, and which of them belong together.
    fn candidates(&self, ids: &[u32]) -> (Vec<usize>, Segments) {
        let may_be = |&place: &usize| ids[place] != self.cls && ids[place] != self.sep;
        let places: Vec<usize> = (0..ids.len()).filter(may_be).collect();
        let is_head = |&place: &usize| {
            !self.options.whole_words || self.continuing.binary_search(&ids[place]).is_err()
        };
        // The first is a head whatever it is.
        let words = places.chunk_by(|_, place| !is_head(place)).map(<[usize]>::len);
        let words = Segments::from_lengths(words);
        (places, words)
    }

    /// What stands for a token that is to be guessed.
    fn substitute(&self, id: u32, random: &mut Random) -> u32 {
        if random.chance(0.8) {
            self.mask
        } else if random.chance(0.5) {
            id
        } else {
            self.vocabulary[random.index(self.vocabulary.len())]
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::data::Purpose;

    fn masker(options: MaskingOptions) -> Masker {
        let vocabulary =
            ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "dog", "##s", "##ly"];
        Masker::new(&Tokenizer::from_vocab(vocabulary, <_>::default()).unwrap(), options).unwrap()
    }

    fn random(seed: u64) -> Random {
        Random::new(seed, Purpose::Masking, 0, 0)
    }

    /// Python: `[min(20, max(1, int(round(n * 0.15)))) for n in ...]`.
    #[test]
    fn halves_are_rounded_to_the_even_number() {
        let masker = masker(MaskingOptions::default());
        for (length, predictions) in [
            (5, 1),
            (9, 1),
            (10, 2),
            (16, 2),
            (17, 3),
            (30, 4),
            (50, 8),
            (70, 10),
            (128, 19),
            (512, 20),
        ] {
            assert_eq!(masker.predictions(length), predictions, "{length}");
        }
    }

    #[test]
    fn special_tokens_are_never_masked_and_all_else_is() {
        let options = MaskingOptions { probability: 1.0, ..Default::default() };
        let before = [2, 5, 2, 6, 3, 4, 1, 7, 3];
        let mut ids = before;
        let masked = masker(options).mask(&mut ids, &mut random(1));
        assert_eq!(masked.positions, [1, 3, 5, 6, 7]);
        assert_eq!(masked.targets, [5, 6, 4, 1, 7]);
        assert!([0, 2, 4, 8].iter().all(|&place| ids[place] == before[place]));
        let mut nothing = [2, 3, 3];
        assert_eq!(masker(options).mask(&mut nothing, &mut random(1)), Masked::default());
        assert_eq!(nothing, [2, 3, 3]);
    }

    /// The words are 1-2, 3 and, over the separator, 5-7-8; a segment may begin with a piece.
    #[test]
    fn pieces_go_with_the_last_head() {
        let options = MaskingOptions { whole_words: true, probability: 0.3, ..Default::default() };
        let before = [2, 5, 7, 6, 3, 5, 3, 7, 8, 3];
        let whole = masker(options);
        let mut seen = HashSet::new();
        for seed in 0..100 {
            let mut ids = before;
            seen.insert(whole.mask(&mut ids, &mut random(seed)).positions);
        }
        // Three of ten: two words of two and one, or one of three.
        let expected = [vec![1, 2, 3], vec![5, 7, 8]].map(HashSet::from_iter);
        assert!(
            seen.iter().all(|positions| {
                expected.contains(&positions.iter().copied().collect::<HashSet<u32>>())
            }),
            "{seen:?}"
        );
        assert_eq!(seen.len(), 2);
        // A word of three does not fit into one, and there may be no other.
        let one = MaskingOptions { max_predictions: 1, ..options };
        let mut ids = [2, 7, 8, 3, 7, 3];
        assert_eq!(masker(one).mask(&mut ids, &mut random(1)), Masked::default());
    }

    #[test]
    fn static_versions_take_turns() {
        let draws = |masking: Masking| (0..5).map(|epoch| masking.draw(epoch)).collect::<Vec<_>>();
        assert_eq!(draws(Masking::Dynamic), [0, 1, 2, 3, 4]);
        assert_eq!(draws(Masking::Static { duplicates: 2 }), [0, 1, 0, 1, 0]);
        assert_eq!(draws(Masking::Static { duplicates: 1 }), [0; 5]);
    }

    /// Ids as only an attacker gives them are refused before anything is counted.
    #[test]
    fn absurd_vocabularies_are_refused() {
        let json = r###"{"model": {"type": "WordPiece", "unk_token": "[UNK]",
            "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[MASK]": 4294967295}},
            "normalizer": {"type": "BertNormalizer", "clean_text": true, "lowercase": true,
            "handle_chinese_chars": true, "strip_accents": null},
            "pre_tokenizer": {"type": "BertPreTokenizer"}}"###;
        let tokenizer = Tokenizer::from_json_str(json).unwrap();
        let error = Masker::new(&tokenizer, MaskingOptions::default()).unwrap_err();
        assert!(matches!(error, DataError::VocabularyTooLarge { .. }), "{error}");
    }
}
