//! Pairs of segments, the second of which follows the first or is a random one (BERT, section 3.1,
//! task 2, and appendix A.2), drawn as by `create_pretraining_data.py` of google-research/bert,
//! number by number.
//!
//! What may surprise is the reference's own:
//!
//! - The length to aim at is drawn once for each pass over a document, not for each pair.
//! - A segment is any number of sentences. A document's last one may be alone, and then what comes
//!   after it is random, so that somewhat more than half of the pairs are.
//! - The random document is drawn up to ten times, until it is another one. It may be the same in
//!   the end, and even the sentences that really follow; the pair still counts as random.
//! - A pair that is too long loses tokens from the longer segment, from either end by turns of a
//!   coin; of two equal ones the second is cut.
//!
//! Where this departs from it:
//!
//! - Random segments come from the documents that are given, those of one shard, and not from a
//!   corpus that is held in memory.
//! - The reference shuffles the pairs of all documents; here those of one shard are.

use ferrite_kernels::Segments;

use super::random::Random;

/// A document as sentences of token ids. No sentence is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizedDocument {
    ids: Vec<u32>,
    sentences: Segments,
}

impl TokenizedDocument {
    /// Adds a sentence, unless it has no token.
    pub fn push(&mut self, sentence: &[u32]) {
        if !sentence.is_empty() {
            self.ids.extend_from_slice(sentence);
            self.sentences.push(sentence.len());
        }
    }

    /// The number of sentences.
    pub fn len(&self) -> usize {
        self.sentences.len()
    }

    /// Whether there is no sentence.
    pub fn is_empty(&self) -> bool {
        self.sentences.is_empty()
    }

    /// The tokens of the sentences from `begin` up to and without `end`.
    fn tokens(&self, begin: usize, end: usize) -> &[u32] {
        &self.ids[self.sentences.range(begin).start..self.sentences.range(end - 1).end]
    }

    /// The first `end` with at least `length` tokens from sentence `begin` on, else the number of
    /// sentences; at least one sentence.
    fn end_of(&self, begin: usize, length: usize) -> usize {
        let full = |&end: &usize| self.tokens(begin, end).len() >= length;
        (begin + 1..self.len()).find(full).unwrap_or(self.len())
    }
}

/// How pairs are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InstanceOptions {
    /// The most tokens of a sequence, with `[CLS]` and two `[SEP]`; at least 5.
    pub max_seq_length: usize,
    /// The probability that a document is passed over with a random length to aim at, from 2 to
    /// the longest.
    pub short_seq_prob: f64,
}

impl InstanceOptions {
    /// The least `max_seq_length`: three special tokens and one of each segment.
    pub const SHORTEST: usize = 5;
}

impl Default for InstanceOptions {
    /// 128 tokens, one in ten short, as the reference has it.
    fn default() -> InstanceOptions {
        InstanceOptions { max_seq_length: 128, short_seq_prob: 0.1 }
    }
}

/// `[CLS] A [SEP] B [SEP]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The token ids.
    pub ids: Vec<u32>,
    /// How many of them are of segment A: `[CLS]`, A and the first `[SEP]`.
    pub first: usize,
    /// Whether B is a random segment and not what comes after A.
    pub is_random: bool,
}

/// What pairs are made with.
#[derive(Debug)]
pub struct Pairing<'a> {
    /// The documents, all with at least one sentence.
    pub documents: &'a [TokenizedDocument],
    /// How pairs are made.
    pub options: InstanceOptions,
    /// The id of `[CLS]`.
    pub cls: u32,
    /// The id of `[SEP]`.
    pub sep: u32,
}

impl Pairing<'_> {
    /// The pairs of all documents, shuffled.
    ///
    /// # Panics
    /// If a document is empty, or `max_seq_length` is below 5.
    #[track_caller]
    pub fn instances(&self, random: &mut Random) -> Vec<Instance> {
        let longest = self.options.max_seq_length;
        assert!(longest >= InstanceOptions::SHORTEST, "{longest} tokens have no room for a pair");
        let mut instances = Vec::new();
        for index in 0..self.documents.len() {
            self.pass_over(index, random, &mut instances);
        }
        random.shuffle(&mut instances);
        instances
    }

    /// One pass over a document.
    fn pass_over(&self, index: usize, random: &mut Random, instances: &mut Vec<Instance>) {
        let document = &self.documents[index];
        let budget = self.options.max_seq_length - 3;
        let short = random.chance(self.options.short_seq_prob);
        let target = if short { random.between(2, budget) } else { budget };
        let mut begin = 0;
        while begin < document.len() {
            let end = document.end_of(begin, target);
            let count = end - begin;
            let middle = begin + if count == 1 { 1 } else { random.between(1, count - 1) };
            let a = document.tokens(begin, middle);
            let is_random = count == 1 || random.chance(0.5);
            let b = if is_random {
                self.random_segment(index, target.saturating_sub(a.len()), random)
            } else {
                document.tokens(middle, end)
            };
            instances.push(self.assemble(truncate(a, b, budget, random), is_random));
            // Sentences that a random segment stands in for are used again.
            begin = if is_random { middle } else { end };
        }
    }

    /// Sentences of another document, from a random one on, until there are `length` tokens.
    fn random_segment(&self, own: usize, length: usize, random: &mut Random) -> &[u32] {
        let mut index = own;
        for _ in 0..10 {
            index = random.index(self.documents.len());
            if index != own {
                break;
            }
        }
        let document = &self.documents[index];
        let begin = random.index(document.len());
        document.tokens(begin, document.end_of(begin, length))
    }

    fn assemble(&self, [a, b]: [&[u32]; 2], is_random: bool) -> Instance {
        let ids = [&[self.cls], a, &[self.sep], b, &[self.sep]].concat();
        Instance { ids, first: a.len() + 2, is_random }
    }
}

/// Takes tokens from the longer segment, of equal ones the second, until both have `budget`.
fn truncate<'a>(
    mut a: &'a [u32],
    mut b: &'a [u32],
    budget: usize,
    random: &mut Random,
) -> [&'a [u32]; 2] {
    while a.len() + b.len() > budget {
        let longer = if a.len() > b.len() { &mut a } else { &mut b };
        let from_front = random.chance(0.5);
        *longer = if from_front { &longer[1..] } else { &longer[..longer.len() - 1] };
    }
    [a, b]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Purpose;

    const CLS: u32 = 1_000_000;
    const SEP: u32 = 1_000_001;

    /// Documents whose tokens are all different: document, sentence and place.
    fn documents(lengths: &[&[usize]]) -> Vec<TokenizedDocument> {
        let documents = lengths.iter().enumerate().map(|(d, sentences)| {
            let mut document = TokenizedDocument::default();
            for (s, &length) in sentences.iter().enumerate() {
                let first = (d * 10_000 + s * 100) as u32;
                document.push(&(first..first + length as u32).collect::<Vec<_>>());
            }
            document
        });
        documents.collect()
    }

    fn pairs(
        documents: &[TokenizedDocument],
        options: InstanceOptions,
        seed: u64,
    ) -> Vec<Instance> {
        let mut random = Random::new(seed, Purpose::Instances, 0, 0);
        Pairing { documents, options, cls: CLS, sep: SEP }.instances(&mut random)
    }

    #[test]
    fn sentences_lie_end_to_end() {
        let documents = documents(&[&[3, 0, 2, 4]]);
        assert_eq!(documents[0].len(), 3);
        assert_eq!(documents[0].tokens(0, 2), [0, 1, 2, 200, 201]);
        let ends: Vec<_> = [0, 3, 4, 5, 6, 99].map(|n| documents[0].end_of(0, n)).to_vec();
        assert_eq!(ends, [1, 1, 2, 2, 3, 3]);
        assert!(TokenizedDocument::default().is_empty());
    }

    #[test]
    fn a_lone_sentence_is_followed_by_itself() {
        let documents = documents(&[&[4]]);
        for seed in 0..20 {
            let options = InstanceOptions { max_seq_length: 11, short_seq_prob: 0.0 };
            let [pair] = &pairs(&documents, options, seed)[..] else { panic!("one pair") };
            assert_eq!(pair.ids, [CLS, 0, 1, 2, 3, SEP, 0, 1, 2, 3, SEP]);
            assert_eq!((pair.first, pair.is_random), (6, true));
        }
    }

    /// Of two documents with room for all there are two kinds of pairs of each.
    #[test]
    fn what_follows_is_of_the_same_document_and_what_is_random_is_not() {
        let documents = documents(&[&[3, 2, 4], &[2, 2, 2]]);
        let options = InstanceOptions { max_seq_length: 64, short_seq_prob: 0.0 };
        let (mut following, mut random, mut own) = (0, 0, 0);
        for seed in 0..200 {
            for pair in pairs(&documents, options, seed) {
                let (a, b) = pair.ids.split_at(pair.first);
                assert_eq!((a[0], *a.last().unwrap(), *b.last().unwrap()), (CLS, SEP, SEP));
                let same = a[1] / 10_000 == b[0] / 10_000;
                if pair.is_random {
                    random += 1;
                    own += u32::from(same);
                } else {
                    // Sentences may have been used before, but all that are left are here.
                    let all = documents[(a[1] / 10_000) as usize].tokens(0, 3);
                    assert!(all.ends_with(&[&a[1..a.len() - 1], &b[..b.len() - 1]].concat()));
                    following += 1;
                }
            }
        }
        assert!(following > 100 && random > following, "{following} follow, {random} are random");
        // Ten draws of two all hit the own document once in 1024 times.
        assert!(own <= 4, "{own} of {random}");
    }

    #[test]
    fn the_longer_segment_is_cut_and_of_equal_ones_the_second() {
        let (a, b): (Vec<u32>, Vec<u32>) = ((0..9).collect(), (100..104).collect());
        let mut fronts = 0;
        for seed in 0..200 {
            let mut random = Random::new(seed, Purpose::Instances, 0, 0);
            let [left, right] = truncate(&a, &b, 7, &mut random);
            // Nine lose five, then both have four, and the second loses one.
            assert_eq!((left.len(), right.len()), (4, 3));
            fronts += left[0];
        }
        // 1,000 coins; five standard deviations are 79.
        assert!((i64::from(fronts) - 500).abs() < 80, "{fronts}");
    }

    /// In a document of many sentences of one token all pairs but the last have exactly the
    /// length that was aimed at.
    #[test]
    fn one_document_pass_in_ten_is_short() {
        let documents = documents(&[&[1; 100]]);
        let options = InstanceOptions { max_seq_length: 23, short_seq_prob: 0.1 };
        let mut targets = [0_i64; 21];
        for seed in 0..4000 {
            let pairs = pairs(&documents, options, seed);
            // Random segments may be shorter; of some ten pairs that follow, one is not the last.
            let following = pairs.iter().filter(|pair| !pair.is_random);
            targets[following.map(|pair| pair.ids.len() - 3).max().unwrap_or(20)] += 1;
        }
        let short = targets[..20].iter().sum::<i64>();
        // From 2 to 20, and 20 is not short: 0.1 * 18 / 19 of 4000. Five standard deviations of
        // the binomial are 93; one pass in some hundreds does not show its length.
        assert!((short - 379).abs() < 93 + 20, "{short}: {targets:?}");
        // Each length about equally often: 21 times, and the deviation is 4.6.
        assert!(targets[2..20].iter().all(|&n| (1..48).contains(&n)), "{targets:?}");
        assert_eq!(targets[..2], [0, 0]);
    }
}
