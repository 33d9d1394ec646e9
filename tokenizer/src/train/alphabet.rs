//! The characters of the words: which are kept, and which go on inside a word.

use std::collections::HashMap;

/// Occurrences of characters in words.
#[derive(Clone, Debug, Default)]
pub(super) struct Alphabet {
    letters: HashMap<char, Letter>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Letter {
    count: u64,
    /// Whether a word has it after its first character.
    inside: bool,
}

impl Alphabet {
    /// Adds the characters of a word.
    pub(super) fn add(&mut self, word: &str, count: u64) {
        for (index, c) in word.chars().enumerate() {
            let letter = self.letters.entry(c).or_default();
            letter.count += count;
            letter.inside |= index > 0;
        }
    }

    /// The number of characters.
    pub(super) fn len(&self) -> usize {
        self.letters.len()
    }

    /// The `limit` most frequent characters, of equally frequent ones those with the lower code
    /// points; by code point, each with whether it occurs inside words.
    pub(super) fn most_frequent(&self, limit: usize) -> Vec<(char, bool)> {
        let mut letters: Vec<_> = self.letters.iter().collect();
        letters.sort_by_key(|&(&c, letter)| (std::cmp::Reverse(letter.count), c));
        letters.truncate(limit);
        letters.sort_by_key(|&(&c, _)| c);
        letters.into_iter().map(|(&c, letter)| (c, letter.inside)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_by_code_point() {
        let mut alphabet = Alphabet::default();
        for (word, count) in [("ab", 3), ("cb", 1), ("da", 1), ("é", 3)] {
            alphabet.add(word, count);
        }
        // a 4, b 4, c 1, d 1, é 3
        assert_eq!(alphabet.len(), 5);
        assert_eq!(alphabet.most_frequent(1), [('a', true)]);
        assert_eq!(alphabet.most_frequent(3), [('a', true), ('b', true), ('é', false)]);
        let four = [('a', true), ('b', true), ('c', false), ('é', false)];
        assert_eq!(alphabet.most_frequent(4), four);
        assert_eq!(alphabet.most_frequent(9).len(), 5);
    }
}
