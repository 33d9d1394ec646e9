//! The normalisation as one table look-up a character.

use std::ops::Range;

use crate::normalize::{Class, Expansion, Normalized, Rules};
use crate::pages::Pages;
use crate::unicode::Unicode;

/// What becomes of each character under the given rules.
#[derive(Clone, Debug)]
pub(crate) struct CharMap {
    rules: Rules,
    unicode: Unicode,
    classes: Pages<Class>,
    /// The lists of [`Class::Many`].
    lists: Vec<Expansion>,
    ascii: [Byte; 256],
}

/// What becomes of an ASCII byte; [`Byte::Other`] for all other bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Byte {
    /// Part of a word, as this byte.
    Word(u8),
    /// Ends a word.
    Space,
    /// A word by itself.
    Alone,
    /// Anything else: look at the character.
    Other,
}

impl CharMap {
    pub(crate) fn new(rules: Rules) -> Self {
        let unicode = Unicode::new(rules.dialect);
        let mut lists = Vec::new();
        let mut many = Expansion::EMPTY;
        let classes = Pages::new(Class::Keep, |c| match rules.classify(&unicode, c, &mut many) {
            Class::Many(_) => {
                lists.push(many);
                Class::Many(lists.len() as u32 - 1)
            }
            // So that pages of ideographs are equal.
            Class::Alone(d) if d == c => Class::Alone('\0'),
            class => class,
        });
        let mut map = Self { rules, unicode, classes, lists, ascii: [Byte::Other; 256] };
        for byte in 0..128u8 {
            map.ascii[byte as usize] = match map.class(byte as char) {
                Class::Keep => Byte::Word(byte),
                Class::To(c) if c.is_ascii() => Byte::Word(c as u8),
                Class::Space => Byte::Space,
                Class::Alone(_) => Byte::Alone,
                _ => Byte::Other,
            };
        }
        map
    }

    /// The rules it was made from.
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether a normalised character is a word by itself.
    #[inline]
    pub(crate) fn is_punctuation(&self, c: char) -> bool {
        self.unicode.get(c).punctuation
    }

    /// The exact way: see [`Rules::normalize`].
    pub(crate) fn normalize(&self, text: &str, range: Range<usize>, out: &mut Normalized) {
        self.rules.normalize(&self.unicode, text, range, out);
    }

    /// The class of a character.
    #[inline]
    pub(crate) fn class(&self, c: char) -> Class {
        match self.classes.get(c) {
            Some(Class::Alone('\0')) => Class::Alone(c),
            Some(class) => class,
            None => match self.rules.classify(&self.unicode, c, &mut { Expansion::EMPTY }) {
                Class::Many(_) => Class::Exact,
                class => class,
            },
        }
    }

    /// The class of a byte, if it is ASCII.
    #[inline]
    pub(crate) fn byte(&self, byte: u8) -> Byte {
        self.ascii[byte as usize]
    }

    /// The characters that [`Class::Many`] stands for.
    pub(crate) fn list(&self, many: u32) -> &[Class] {
        self.lists[many as usize].classes()
    }
}

/// The jamo of a Hangul syllable (Unicode chapter 3.12).
pub(crate) fn jamo(syllable: char) -> impl Iterator<Item = char> {
    let index = syllable as u32 - 0xAC00;
    let tail = index % 28;
    let parts = [0x1100 + index / 588, 0x1161 + index % 588 / 28, 0x11A7 + tail];
    parts.into_iter().take(if tail == 0 { 2 } else { 3 }).filter_map(char::from_u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dialect;
    use unicode_normalization::char::decompose_canonical;

    #[test]
    fn hangul_decomposes_as_unicode_says() {
        for syllable in '\u{AC00}'..='\u{D7A3}' {
            let mut expected = Vec::new();
            decompose_canonical(syllable, |c| expected.push(c));
            assert_eq!(jamo(syllable).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn table_equals_the_rules() {
        for strip_accents in [false, true] {
            for dialect in [Dialect::Google, Dialect::HfSlow, Dialect::HfFast] {
                let rules = Rules {
                    dialect,
                    clean_text: true,
                    split_cjk: true,
                    strip_accents,
                    lowercase: true,
                };
                let map = CharMap::new(rules);
                let mut many = Expansion::EMPTY;
                for c in '\0'..=char::MAX {
                    match (map.class(c), rules.classify(&map.unicode, c, &mut many)) {
                        (Class::Many(list), Class::Many(_)) => {
                            assert_eq!(map.list(list), many.classes())
                        }
                        (Class::Exact, Class::Many(_)) => assert!(map.classes.get(c).is_none()),
                        (found, expected) => assert_eq!(found, expected, "{c:?}"),
                    }
                }
            }
        }
    }
}
