//! BERT's normalisation: clean up, set ideographs apart, strip accents,
//! lower-case; with every character's place in the original text.
//!
//! There are two ways through it with the same result. Nearly all text takes
//! the first: what becomes of a character does not depend on its neighbours,
//! so a table ([`CharMap`](crate::charmap::CharMap)) says it once for all.
//! The exact way below does one step after another over the whole text, for
//! the few characters whose neighbours matter ([`Class::Exact`]) and for
//! added tokens that are looked for in normalised text.

use std::ops::Range;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::unicode::{Unicode, combining_class, decompose, is_cjk, is_final_sigma};

/// Whose reading of the rules. They agree on nearly all text.
///
/// | | `Google` | `HfSlow` | `HfFast` |
/// |---|---|---|---|
/// | reference | google-research/bert `tokenization.py` | `BertTokenizer` in Python | the `tokenizers` crate, any `tokenizer.json` |
/// | Unicode tables | today's | today's | of 2015 and 2016, frozen |
/// | removed as control | Cc, Cf | every C*, unassigned too | Cc, Cf, Co |
/// | U+2B820 to U+2B91F | ideographs | ideographs | not split |
/// | word-final capital sigma | ς | σ | σ |
/// | text kept composed when accents stay | as it is | NFC | as it is |
/// | longest word, in characters | 200 | 100 | 100 |
/// | special tokens written in the text | split like text | kept | kept |
/// | pair too long by an odd number | first keeps one more | first keeps one more | second keeps one more |
/// | end of a line in `vocab.txt` | white space trimmed on both sides | line break | trailing white space trimmed |
///
/// In `HfSlow` a `never_split` list is not supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Dialect {
    /// The original code of the paper.
    Google,
    /// The Python tokenizers of `transformers`.
    HfSlow,
    /// The `tokenizers` crate: what a `tokenizer.json` means.
    #[default]
    HfFast,
}

/// The settings of the normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rules {
    /// Whose reading of them.
    pub dialect: Dialect,
    /// Whether control characters are removed, and all white space is a space.
    pub clean_text: bool,
    /// Whether ideographs are words of their own.
    pub split_cjk: bool,
    /// Whether accents are stripped.
    pub strip_accents: bool,
    /// Whether capital letters become small ones.
    pub lowercase: bool,
}

/// What becomes of one character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// It stays, inside a word.
    Keep,
    /// Another character takes its place inside the word.
    To(char),
    /// It ends a word.
    Space,
    /// It vanishes.
    Drop,
    /// It is a word by itself, as this character.
    Alone(char),
    /// A Hangul syllable, decomposed into its jamo.
    Hangul,
    /// Several characters take its place: a list of the character map.
    Many(u32),
    /// Its neighbours matter: take the exact way.
    Exact,
}

/// The classes of the characters that one character becomes: at most four by
/// decomposition, and each at most three by lower-casing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expansion {
    classes: [Class; 12],
    len: usize,
}

impl Expansion {
    pub(crate) const EMPTY: Self = Self { classes: [Class::Drop; 12], len: 0 };

    fn push(&mut self, class: Class) {
        self.classes[self.len] = class;
        self.len += 1;
    }

    pub(crate) fn classes(&self) -> &[Class] {
        &self.classes[..self.len]
    }
}

impl Rules {
    /// The class of `c`. The characters of `Class::Many` are left in `many`,
    /// and the payload is 0.
    pub(crate) fn classify(&self, unicode: &Unicode, c: char, many: &mut Expansion) -> Class {
        let dialect = self.dialect;
        if self.clean_text && (matches!(c, '\0' | '\u{FFFD}') || unicode.get(c).control) {
            return Class::Drop;
        }
        if c.is_whitespace() {
            return Class::Space;
        }
        if self.final_sigma() && c == 'Σ' || self.composes() && !composed(c) {
            return Class::Exact;
        }
        if self.strip_accents && ('\u{AC00}'..='\u{D7A3}').contains(&c) {
            return Class::Hangul;
        }
        let alone = self.split_cjk && is_cjk(dialect, c);
        *many = Expansion::EMPTY;
        let mut combining = false;
        let mut push = |d: char| {
            let mut push_one = |d: char| {
                many.push(if d.is_whitespace() {
                    Class::Space
                } else if alone || unicode.get(d).punctuation {
                    Class::Alone(d)
                } else {
                    Class::To(d)
                });
            };
            if self.lowercase { d.to_lowercase().for_each(push_one) } else { push_one(d) }
        };
        if self.strip_accents {
            decompose(dialect, c, |d| {
                let properties = unicode.get(d);
                if !properties.mark {
                    combining |= properties.combining != 0;
                    push(d);
                }
            });
        } else {
            push(c);
        }
        match *many.classes() {
            // Marks that stay are put in canonical order with their neighbours.
            _ if combining => Class::Exact,
            [] => Class::Drop,
            [Class::To(d)] if d == c => Class::Keep,
            [class] => class,
            _ => Class::Many(0),
        }
    }

    /// Whether a capital sigma becomes ς at the end of its word.
    fn final_sigma(&self) -> bool {
        self.lowercase && self.dialect == Dialect::Google
    }

    /// Whether text is put into NFC. Where it is decomposed afterwards that
    /// makes no difference, NFD being the same before and after NFC.
    fn composes(&self) -> bool {
        self.dialect == Dialect::HfSlow && !self.strip_accents
    }

    /// The exact way: normalises `text[start..end]` step by step.
    pub(crate) fn normalize(
        &self,
        unicode: &Unicode,
        text: &str,
        range: Range<usize>,
        out: &mut Normalized,
    ) {
        self.clean(unicode, text, range, &mut out.symbols);
        if self.composes() {
            compose(&out.symbols, &mut out.other);
            std::mem::swap(&mut out.symbols, &mut out.other);
        }
        if self.final_sigma() {
            lower_final_sigmas(&mut out.symbols);
        }
        if self.strip_accents {
            self.strip(unicode, &out.symbols, &mut out.other, &mut out.run);
            std::mem::swap(&mut out.symbols, &mut out.other);
        }
        out.text.clear();
        out.places.clear();
        for symbol in &out.symbols {
            let mut push = |c: char| {
                out.text.push(c);
                out.places.extend(std::iter::repeat_n(symbol.place, c.len_utf8()));
            };
            if self.lowercase {
                symbol.c.to_lowercase().for_each(push);
            } else {
                push(symbol.c);
            }
        }
    }

    /// Removes control characters, maps white space to the space, puts spaces
    /// around ideographs.
    fn clean(&self, unicode: &Unicode, text: &str, range: Range<usize>, out: &mut Vec<Symbol>) {
        out.clear();
        let start = range.start;
        for (i, c) in text[range].char_indices() {
            let place = ((start + i) as u32, (start + i + c.len_utf8()) as u32);
            let cleaned = if !self.clean_text {
                c
            } else if matches!(c, '\0' | '\u{FFFD}') || unicode.get(c).control {
                continue;
            } else if c.is_whitespace() {
                ' '
            } else {
                c
            };
            let symbol = Symbol { c: cleaned, place };
            let space = Symbol { c: ' ', place };
            if self.split_cjk && is_cjk(self.dialect, c) {
                out.extend([space, symbol, space]);
            } else {
                out.push(symbol);
            }
        }
    }

    /// NFD, without the nonspacing marks.
    ///
    /// Canonical ordering moves marks past each other. As the reference does,
    /// places stay in the order of the text: the nth character that heads a
    /// decomposition gets the place of the nth character before the step.
    fn strip(
        &self,
        unicode: &Unicode,
        symbols: &[Symbol],
        out: &mut Vec<Symbol>,
        run: &mut Vec<Decomposed>,
    ) {
        out.clear();
        run.clear();
        let mut next = 0;
        let mut flush = |run: &mut Vec<Decomposed>| {
            sort_by_class(run);
            for part in run.drain(..) {
                next += usize::from(part.head);
                if !unicode.get(part.c).mark {
                    // A decomposition's head is ordered before its tail, so next > 0.
                    out.push(Symbol { c: part.c, place: symbols[next.max(1) - 1].place });
                }
            }
        };
        for symbol in symbols {
            let mut head = true;
            decompose(self.dialect, symbol.c, |c| {
                let class = unicode.get(c).combining;
                if class == 0 {
                    flush(run);
                }
                run.push(Decomposed { class, c, head });
                head = false;
            });
        }
        flush(run);
    }
}

/// A character and the bytes of the original text it stands for.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    c: char,
    place: (u32, u32),
}

/// A character of a decomposition, waiting for canonical ordering.
#[derive(Clone, Copy, Debug)]
struct Decomposed {
    class: u8,
    c: char,
    head: bool,
}

/// Normalised text, reused from one text to the next.
#[derive(Debug, Default)]
pub(crate) struct Normalized {
    /// The text.
    pub(crate) text: String,
    /// For each of its bytes, the bytes of the original text behind it.
    pub(crate) places: Vec<(u32, u32)>,
    symbols: Vec<Symbol>,
    other: Vec<Symbol>,
    run: Vec<Decomposed>,
}

/// Sorts by combining class, equals in their order. Runs are a few marks
/// long; only longer ones take the library's sort, which allocates.
fn sort_by_class(run: &mut [Decomposed]) {
    if run.len() > 32 {
        run.sort_by_key(|part| part.class);
        return;
    }
    for i in 1..run.len() {
        let mut at = i;
        while at > 0 && run[at - 1].class > run[at].class {
            run.swap(at - 1, at);
            at -= 1;
        }
    }
}

/// Whether `c` is the same in NFC whatever stands around it.
fn composed(c: char) -> bool {
    combining_class(Dialect::HfSlow, c) == 0
        && is_nfc_quick(std::iter::once(c)) == IsNormalized::Yes
}

/// NFC. A character composed of several stands for all their bytes.
fn compose(symbols: &[Symbol], out: &mut Vec<Symbol>) {
    out.clear();
    let mut start = 0;
    while start < symbols.len() {
        // A piece that nothing before or after can combine with.
        let tail = symbols[start + 1..].iter().position(|s| composed(s.c));
        let end = tail.map_or(symbols.len(), |n| start + 1 + n);
        let piece = &symbols[start..end];
        if let [symbol] = piece
            && composed(symbol.c)
        {
            out.push(*symbol);
        } else {
            let place = (piece[0].place.0, piece[piece.len() - 1].place.1);
            out.extend(piece.iter().map(|s| s.c).nfc().map(|c| Symbol { c, place }));
        }
        start = end;
    }
}

/// Python lower-cases whole words, where a capital sigma at the end becomes ς.
fn lower_final_sigmas(symbols: &mut [Symbol]) {
    for word in symbols.split_mut(|s| s.c.is_whitespace()) {
        if word.iter().any(|s| s.c == 'Σ') {
            let text: String = word.iter().map(|s| s.c).collect();
            for ((at, c), symbol) in text.char_indices().zip(word) {
                if c == 'Σ' && is_final_sigma(&text, at) {
                    symbol.c = 'ς';
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(rules: Rules, text: &str) -> Normalized {
        exact_with(&Unicode::new(rules.dialect), rules, text)
    }

    fn exact_with(unicode: &Unicode, rules: Rules, text: &str) -> Normalized {
        let mut out = Normalized::default();
        rules.normalize(unicode, text, 0..text.len(), &mut out);
        out
    }

    fn uncased(dialect: Dialect) -> Rules {
        Rules { dialect, clean_text: true, split_cjk: true, strip_accents: true, lowercase: true }
    }

    #[test]
    fn each_step() {
        let rules = uncased(Dialect::Google);
        assert_eq!(exact(rules, " \tHeLLo!\0\u{FFFD}\u{AD}").text, "  hello!");
        assert_eq!(exact(rules, "H\u{E9}llo").text, "hello");
        assert_eq!(exact(rules, "ah\u{535A}\u{63A8}zz").text, "ah \u{535A}  \u{63A8} zz");
        assert_eq!(exact(rules, "ΟΔΟΣ ΣΑΣ").text, "οδος σας");
        assert_eq!(exact(uncased(Dialect::HfFast), "ΟΔΟΣ").text, "οδοσ");
        assert_eq!(exact(rules, "각").text, "\u{1100}\u{1161}\u{11A8}");
    }

    #[test]
    fn places_are_of_the_original() {
        let out = exact(uncased(Dialect::HfFast), "\0É中");
        assert_eq!(out.text, "e 中 ");
        assert_eq!(out.places[0], (1, 3));
        assert!(out.places[1..].iter().all(|&place| place == (3, 6)));
    }

    #[test]
    fn nfc_only_in_the_slow_dialect() {
        let cased = |dialect| Rules { strip_accents: false, lowercase: false, ..uncased(dialect) };
        let slow = exact(cased(Dialect::HfSlow), "xe\u{301}y");
        assert_eq!(slow.text, "xéy");
        assert_eq!(slow.places, [(0, 1), (1, 4), (1, 4), (4, 5)]);
        assert_eq!(exact(cased(Dialect::Google), "xe\u{301}y").text, "xe\u{301}y");
    }

    /// Stripping and lower-casing commute on every character, so their order,
    /// in which the references differ, does not matter.
    #[test]
    fn strip_and_lower_commute() {
        // The slow dialect has the tables of the first, and composes without strip.
        for dialect in [Dialect::Google, Dialect::HfFast] {
            let strip = Rules { lowercase: false, clean_text: false, ..uncased(dialect) };
            let lower = Rules { strip_accents: false, ..strip };
            let lower = Rules { lowercase: true, ..lower };
            let unicode = Unicode::new(dialect);
            let exact = |rules, text: &str| exact_with(&unicode, rules, text).text;
            for c in '\0'..=char::MAX {
                if c == 'Σ' {
                    continue;
                }
                let a = exact(strip, &exact(lower, &c.to_string()));
                let b = exact(lower, &exact(strip, &c.to_string()));
                // Setting ideographs apart twice doubles the spaces.
                assert_eq!(a.trim(), b.trim(), "{c:?} {dialect:?}");
            }
        }
    }
}
