//! Whole words of the vocabulary, found in one look.
//!
//! Nine words in ten of ordinary text are tokens as they are. Longest-match-
//! first takes such a word whole, so a table of short tokens answers for it
//! before WordPiece is asked.

use crate::vocab::Vocab;

/// The most bytes a key holds.
const KEY_BYTES: usize = 16;

/// A word of up to 16 bytes in two registers, zeros behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Key {
    halves: [u64; 2],
    len: u32,
}

impl Key {
    /// The key of a word, if it is short enough.
    #[inline]
    pub(crate) fn new(word: &[u8]) -> Option<Self> {
        let mut bytes = [0; KEY_BYTES];
        bytes.get_mut(..word.len())?.copy_from_slice(word);
        Some(Self { halves: halves(bytes), len: word.len() as u32 })
    }

    /// The key of the ASCII letters and digits at the beginning of `text`, as
    /// many as fit; in lower case if so wanted.
    #[inline]
    pub(crate) fn alphanumeric(text: &[u8], lowercase: bool) -> Self {
        let mut bytes = [0; KEY_BYTES];
        match text.first_chunk() {
            Some(chunk) => bytes = *chunk,
            None => bytes[..text.len()].copy_from_slice(text),
        }
        let [low, high] = halves(bytes);
        let (low, len) = alphanumeric(low, lowercase);
        if len < 8 {
            return Self { halves: [low, 0], len };
        }
        let (high, more) = alphanumeric(high, lowercase);
        Self { halves: [low, high], len: 8 + more }
    }

    /// The number of bytes in it.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// The word, and zeros.
    #[inline]
    pub(crate) fn bytes(&self) -> [u8; KEY_BYTES] {
        let mut bytes = [0; KEY_BYTES];
        bytes[..8].copy_from_slice(&self.halves[0].to_le_bytes());
        bytes[8..].copy_from_slice(&self.halves[1].to_le_bytes());
        bytes
    }

    /// Multiplies both halves in (the constants are those of MurmurHash3),
    /// the upper bits are the best mixed.
    #[inline]
    fn hash(&self) -> u64 {
        let mixed = self.halves[0].wrapping_mul(0x87C3_7B91_1142_53D5)
            ^ self.halves[1].wrapping_mul(0x4CF5_AD43_2745_937F);
        (mixed ^ (mixed >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

#[inline]
fn halves(bytes: [u8; KEY_BYTES]) -> [u64; 2] {
    let half = |i: usize| bytes[i..].first_chunk().map_or(0, |&chunk| u64::from_le_bytes(chunk));
    [half(0), half(8)]
}

/// The letters and digits that eight bytes begin with, and how many they are.
///
/// All eight bytes are tested at once: with the top bit of each cleared,
/// adding `0x80 - n` sets it again where the byte is at least `n`.
#[inline]
fn alphanumeric(bytes: u64, lowercase: bool) -> (u64, u32) {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOP: u64 = 0x80 * ONES;
    let at_least = |bytes: u64, n: u8| bytes + (0x80 - u64::from(n)) * ONES;
    let between = |bytes, first, last| at_least(bytes, first) & !at_least(bytes, last + 1);
    let low = bytes & !TOP;
    let letter = between(low | (0x20 * ONES), b'a', b'z') & TOP;
    let other = !(letter | between(low, b'0', b'9')) | bytes;
    let len = (other & TOP).trailing_zeros() / 8;
    // 0x20 is what a small letter has more than its capital.
    let bytes = if lowercase { bytes | (letter >> 2) } else { bytes };
    let kept = if len == 8 { bytes } else { bytes & ((1 << (8 * len)) - 1) };
    (kept, len)
}

/// A hash table of the vocabulary's short tokens: open addressing, at most
/// half full, no deletions.
#[derive(Clone, Debug)]
pub(crate) struct WordTable {
    slots: Vec<Slot>,
    shift: u32,
}

/// An empty slot has the empty key.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    key: Key,
    id: u32,
}

impl WordTable {
    /// Tokens of more than `max_chars` characters are not words.
    pub(crate) fn new(vocab: &Vocab, max_chars: usize) -> Self {
        let short: Vec<Slot> = vocab
            .iter()
            .filter(|(token, _)| !token.is_empty() && token.chars().count() <= max_chars)
            .filter_map(|(token, id)| Some(Slot { key: Key::new(token.as_bytes())?, id }))
            .collect();
        let bits = (2 * short.len()).next_power_of_two().trailing_zeros().max(1);
        let mut table = Self { slots: vec![Slot::default(); 1 << bits], shift: 64 - bits };
        for slot in short {
            let at = table.find(&slot.key);
            table.slots[at] = slot;
        }
        table
    }

    /// The id of a word that is a token.
    #[inline]
    pub(crate) fn get(&self, key: &Key) -> Option<u32> {
        let slot = &self.slots[self.find(key)];
        (slot.key.len > 0).then_some(slot.id)
    }

    /// The slot of a key, or the empty one where it would be.
    #[inline]
    fn find(&self, key: &Key) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = (key.hash() >> self.shift) as usize;
        while self.slots[at & mask].key.len > 0 && self.slots[at & mask].key != *key {
            at += 1;
        }
        at & mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::Place;
    use proptest::prelude::*;

    #[test]
    fn every_byte_in_every_place() {
        for byte in 0..=255u8 {
            for at in 0..16 {
                let mut text = *b"aZ0zA9mMxXyY15bB";
                text[at] = byte;
                for len in at + 1..=16 {
                    for lowercase in [false, true] {
                        let word: Vec<u8> = text[..len]
                            .iter()
                            .take_while(|b| b.is_ascii_alphanumeric())
                            .map(|b| if lowercase { b.to_ascii_lowercase() } else { *b })
                            .collect();
                        let key = Key::alphanumeric(&text[..len], lowercase);
                        assert_eq!(Some(key), Key::new(&word));
                        assert_eq!(key.bytes()[..key.len()], word);
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn holds_the_short_tokens(
            tokens in proptest::collection::btree_set("[a\0é]{0,12}", 0..60),
            words in proptest::collection::vec("[a\0é]{1,12}", 40),
            max_chars in 0..9usize,
        ) {
            let listed = tokens.iter().cloned().zip(0..).collect();
            let table = WordTable::new(&Vocab::new("v", Place::Id, listed).expect("valid"), max_chars);
            for word in words.iter().chain(&tokens).filter(|word| !word.is_empty()) {
                let Some(key) = Key::new(word.as_bytes()) else {
                    prop_assert!(word.len() > 16);
                    continue;
                };
                let expected = tokens.iter().position(|token| token == word)
                    .filter(|_| word.chars().count() <= max_chars);
                prop_assert_eq!(table.get(&key), expected.map(|id| id as u32));
            }
        }
    }
}
