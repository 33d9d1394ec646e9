//! Words and how often they occur, counted by the tokenizer's own pipeline.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::charmap::CharMap;
use crate::normalize::Normalized;
use crate::pre_tokenize::{WordBuffer, split, stream};

/// Words of more characters are `[UNK]` whatever the vocabulary, and not counted.
pub(super) const MAX_CHARS: usize = 100;

/// Sums over words; the order in which they are added makes no difference.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Occurrences by word, UTF-8.
    pub(super) words: HashMap<Box<[u8]>, u64>,
    /// All occurrences.
    pub(super) total: u64,
    /// Occurrences of words that were too long.
    pub(super) long: u64,
}

impl Counts {
    /// Counts the words of these texts, on all threads of the current pool.
    pub(super) fn of(map: &CharMap, texts: &[String]) -> Self {
        let count = |(mut counts, mut scratch): (Self, Scratch), text: &String| {
            text.split('\n').for_each(|line| counts.add_line(map, line, &mut scratch));
            (counts, scratch)
        };
        let parts = texts.par_iter().fold(Default::default, count).map(|(counts, _)| counts);
        parts.reduce(Self::default, Self::plus)
    }

    /// The sum of both.
    pub(super) fn plus(self, other: Self) -> Self {
        let (mut sum, fewer) =
            if self.words.len() < other.words.len() { (other, self) } else { (self, other) };
        sum.total += fewer.total;
        sum.long += fewer.long;
        for (word, count) in fewer.words {
            *sum.words.entry(word).or_default() += count;
        }
        sum
    }

    fn add_line(&mut self, map: &CharMap, line: &str, scratch: &mut Scratch) {
        let Scratch { buffer, normalized, words } = scratch;
        words.clear();
        // The fast way may find out late that it cannot be taken, hence the list.
        if !stream(map, line, 0, line.len(), buffer, |word| words.push(word.bytes, word.chars)) {
            words.clear();
            map.normalize(line, 0..line.len(), normalized);
            split(map, normalized, 0, normalized.text.len(), |word| {
                words.push(word.bytes, word.chars);
            });
        }
        let mut start = 0;
        for &(end, chars) in &words.ends {
            self.add(&words.bytes[start..end], chars);
            start = end;
        }
    }

    fn add(&mut self, word: &[u8], chars: usize) {
        if chars > MAX_CHARS {
            self.long += 1;
            return;
        }
        self.total += 1;
        match self.words.get_mut(word) {
            Some(count) => *count += 1,
            None => {
                self.words.insert(word.into(), 1);
            }
        }
    }

    /// Removes all but the `keep` most frequent words, of equally frequent ones the first by
    /// their bytes, and returns the others in no order.
    pub(super) fn drop_rarest(&mut self, keep: usize) -> Vec<(Box<[u8]>, u64)> {
        let mut words: Vec<_> = self.words.drain().collect();
        if keep < words.len() {
            words.select_nth_unstable_by(keep, |a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        }
        let dropped = words.split_off(keep.min(words.len()));
        self.words.extend(words);
        dropped
    }
}

/// Memory that is used for one line after another.
#[derive(Default)]
struct Scratch {
    buffer: WordBuffer,
    normalized: Normalized,
    words: WordList,
}

/// Words, end to end.
#[derive(Default)]
struct WordList {
    bytes: Vec<u8>,
    /// Where each ends, and how many characters it has.
    ends: Vec<(usize, usize)>,
}

impl WordList {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn push(&mut self, word: &[u8], chars: usize) {
        self.bytes.extend_from_slice(word);
        self.ends.push((self.bytes.len(), chars));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dialect;
    use crate::normalize::Rules;

    fn counts(lowercase: bool, texts: &[&str]) -> Vec<(String, u64)> {
        let rules = Rules {
            dialect: Dialect::HfFast,
            clean_text: true,
            split_cjk: true,
            strip_accents: lowercase,
            lowercase,
        };
        let texts: Vec<String> = texts.iter().map(|&text| text.into()).collect();
        let words = Counts::of(&CharMap::new(rules), &texts).words.into_iter();
        let mut words: Vec<_> = words
            .map(|(word, count)| (String::from_utf8(word.into()).expect("UTF-8"), count))
            .collect();
        words.sort();
        words
    }

    #[test]
    fn words_are_those_of_the_pipeline() {
        let texts = ["The Café, the\ncafe\u{301}!", "日本 THE"];
        let listed = |words: &[(&str, u64)]| -> Vec<(String, u64)> {
            words.iter().map(|&(word, count)| (word.into(), count)).collect()
        };
        let uncased = [("!", 1), (",", 1), ("cafe", 2), ("the", 3), ("日", 1), ("本", 1)];
        assert_eq!(counts(true, &texts), listed(&uncased));
        let cased = counts(false, &texts);
        assert!(cased.contains(&("Café".into(), 1)) && cased.contains(&("THE".into(), 1)));
    }

    #[test]
    fn the_rarest_go_and_ties_are_broken_by_the_words() {
        let mut counts = Counts::default();
        for (word, count) in [("a", 3), ("d", 2), ("c", 2), ("b", 2), ("e", 1)] {
            counts.words.insert(word.as_bytes().into(), count);
        }
        let mut dropped = counts.drop_rarest(3);
        dropped.sort();
        let dropped: Vec<_> = dropped.iter().map(|(word, count)| (&word[..], *count)).collect();
        assert_eq!(dropped, [(&b"d"[..], 2), (b"e", 1)]);
        assert_eq!(counts.words.len(), 3);
        assert_eq!(counts.drop_rarest(3), []);
        assert_eq!(counts.drop_rarest(0).len(), 3);
    }
}
