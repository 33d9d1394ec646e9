//! The normalisation as one table look-up a character.

use crate::normalize::{Class, Rules};

/// Characters below this are in the table; those above, ideographs nearly
/// all, are classified when they come.
const END: u32 = 0x20000;

/// Where every page is like the one before: ideographs, syllables, private
/// use. This saves half the time to make the table.
const UNIFORM: [(u32, u32); 5] =
    [(0x3400, 0x4D00), (0x4E00, 0x9F00), (0xAC00, 0xD700), (0xE000, 0xF900), (0x17000, 0x18700)];

/// What becomes of each character under the given rules.
///
/// Two stages: pages of 256 characters, equal pages stored once.
#[derive(Clone, Debug)]
pub(crate) struct CharMap {
    rules: Rules,
    pages: Vec<Class>,
    page_of: Vec<u16>,
    /// The lists of [`Class::Many`].
    lists: Vec<Vec<Class>>,
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
        let mut map = Self {
            rules,
            pages: Vec::new(),
            page_of: Vec::with_capacity((END / 256) as usize),
            lists: Vec::new(),
            ascii: [Byte::Other; 256],
        };
        let mut many = Vec::new();
        let mut page = Vec::with_capacity(256);
        for first in (0..END).step_by(256) {
            let uniform = |&(low, high): &(u32, u32)| low < first && first + 256 <= high;
            if UNIFORM.iter().any(uniform) {
                map.page_of.extend(map.page_of.last().copied());
                continue;
            }
            page.clear();
            page.extend((first..first + 256).map(|c| match char::from_u32(c) {
                Some(c) => match rules.classify(c, &mut many) {
                    Class::Many(_) => {
                        map.lists.push(many.clone());
                        Class::Many(map.lists.len() as u32 - 1)
                    }
                    // So that pages of ideographs are equal.
                    Class::Alone(d) if d == c => Class::Alone('\0'),
                    class => class,
                },
                None => Class::Keep,
            }));
            // Long stretches of equal pages follow one another.
            let known = map.pages.chunks(256).rposition(|known| known == page);
            map.page_of.push(known.unwrap_or(map.pages.len() / 256) as u16);
            if known.is_none() {
                map.pages.extend_from_slice(&page);
            }
        }
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

    /// The class of a character.
    #[inline]
    pub(crate) fn class(&self, c: char) -> Class {
        let code = c as u32;
        if code >= END {
            return match self.rules.classify(c, &mut Vec::new()) {
                Class::Many(_) => Class::Exact,
                class => class,
            };
        }
        let page = self.page_of[(code / 256) as usize] as usize;
        match self.pages[page * 256 + (code % 256) as usize] {
            Class::Alone('\0') => Class::Alone(c),
            class => class,
        }
    }

    /// The class of a byte, if it is ASCII.
    #[inline]
    pub(crate) fn byte(&self, byte: u8) -> Byte {
        self.ascii[byte as usize]
    }

    /// The characters that [`Class::Many`] stands for.
    pub(crate) fn list(&self, many: u32) -> &[Class] {
        &self.lists[many as usize]
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
                let mut many = Vec::new();
                for c in '\0'..=char::MAX {
                    match (map.class(c), rules.classify(c, &mut many)) {
                        (Class::Many(list), Class::Many(_)) => assert_eq!(map.list(list), many),
                        (Class::Exact, Class::Many(_)) => assert!(c as u32 >= END),
                        (found, expected) => assert_eq!(found, expected, "{c:?}"),
                    }
                }
            }
        }
    }
}
