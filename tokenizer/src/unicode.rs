//! The character properties that BERT's rules are written in, per dialect.

use unicode_normalization::char::{canonical_combining_class, decompose_canonical};
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

use crate::frozen::{self, listed};
use crate::normalize::Dialect;
use crate::pages::Pages;

/// What the rules ask of a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Properties {
    /// Whether the clean-up step removes it.
    pub(crate) control: bool,
    /// Whether it is a word by itself.
    pub(crate) punctuation: bool,
    /// Whether it is removed as an accent.
    pub(crate) mark: bool,
    /// The canonical combining class, which orders the marks after a base.
    pub(crate) combining: u8,
}

impl Properties {
    fn of(dialect: Dialect, c: char) -> Self {
        Self {
            control: is_control(dialect, c),
            punctuation: is_punctuation(dialect, c),
            mark: is_nonspacing_mark(dialect, c),
            combining: combining_class(dialect, c),
        }
    }
}

/// The properties of all characters, as a dialect sees them.
#[derive(Clone, Debug)]
pub(crate) struct Unicode {
    dialect: Dialect,
    table: Pages<Properties>,
}

impl Unicode {
    pub(crate) fn new(dialect: Dialect) -> Self {
        let of = |c| Properties::of(dialect, c);
        Self { dialect, table: Pages::new(of('a'), of) }
    }

    /// The properties of a character.
    #[inline]
    pub(crate) fn get(&self, c: char) -> Properties {
        self.table.get(c).unwrap_or_else(|| Properties::of(self.dialect, c))
    }
}

/// A character that the clean-up step removes, tab and line breaks aside.
fn is_control(dialect: Dialect, c: char) -> bool {
    use GeneralCategory as G;
    if matches!(c, '\t' | '\n' | '\r') {
        return false;
    }
    let category = c.general_category();
    match dialect {
        Dialect::Google => matches!(category, G::Control | G::Format),
        Dialect::HfSlow => c.general_category_group() == GeneralCategoryGroup::Other,
        Dialect::HfFast => {
            matches!(category, G::Control | G::Format | G::PrivateUse)
                && !listed(frozen::NEW_OTHER, c)
        }
    }
}

/// ASCII symbols count, symbols of other blocks do not.
fn is_punctuation(dialect: Dialect, c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_punctuation();
    }
    let today = c.general_category_group() == GeneralCategoryGroup::Punctuation;
    match dialect {
        Dialect::HfFast => {
            today && !listed(frozen::NEW_PUNCTUATION, c) || listed(frozen::FORMER_PUNCTUATION, c)
        }
        _ => today,
    }
}

/// What is removed as an accent, once decomposed: general category Mn.
fn is_nonspacing_mark(dialect: Dialect, c: char) -> bool {
    let today = c.general_category() == GeneralCategory::NonspacingMark;
    match dialect {
        Dialect::HfFast => {
            today && !listed(frozen::NEW_MARKS, c) || listed(frozen::FORMER_MARKS, c)
        }
        _ => today,
    }
}

/// The canonical combining class, which orders the marks after a base.
pub(crate) fn combining_class(dialect: Dialect, c: char) -> u8 {
    match dialect {
        Dialect::HfFast if listed(frozen::NEW_COMBINING, c) => 0,
        _ => canonical_combining_class(c),
    }
}

/// Calls `emit` with the characters of the full canonical decomposition.
pub(crate) fn decompose(dialect: Dialect, c: char, mut emit: impl FnMut(char)) {
    match dialect {
        Dialect::HfFast if listed(frozen::NEW_DECOMPOSITIONS, c) => emit(c),
        _ => decompose_canonical(c, emit),
    }
}

/// The ideographs that stand alone. Kana and Hangul are not among them.
///
/// The `tokenizers` crate starts extension E at U+2B920 where the original
/// has U+2B820, so 256 ideographs are not split there.
pub(crate) fn is_cjk(dialect: Dialect, c: char) -> bool {
    let extension_e = match dialect {
        Dialect::HfFast => 0x2B920,
        _ => 0x2B820,
    };
    let c = c as u32;
    matches!(c,
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F
        | 0x2B740..=0x2B81F | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
        || (extension_e..=0x2CEAF).contains(&c)
}

/// `\w` of the regular expressions that test the sides of a `single_word` token.
pub(crate) fn is_word(c: char) -> bool {
    use GeneralCategory as G;
    c.is_alphabetic()
        || matches!(c, '\u{200C}' | '\u{200D}')
        || c.general_category_group() == GeneralCategoryGroup::Mark
        || matches!(c.general_category(), G::DecimalNumber | G::ConnectorPunctuation)
}

/// Whether the capital sigma at byte `at` ends its word, so that it becomes ς
/// (Unicode chapter 3, `Final_Sigma`): a cased letter before it and none
/// after, marks and the like not counted.
pub(crate) fn is_final_sigma(word: &str, at: usize) -> bool {
    let cased_first = |mut chars: &mut dyn Iterator<Item = char>| {
        (&mut chars).find(|&c| !is_case_ignorable(c)).is_some_and(is_cased)
    };
    cased_first(&mut word[..at].chars().rev())
        && !cased_first(&mut word[at + 'Σ'.len_utf8()..].chars())
}

fn is_cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase() || c.general_category() == GeneralCategory::TitlecaseLetter
}

/// Mn, Me, Cf, Lm, Sk, and what may stand inside a word (`Word_Break` =
/// MidLetter, MidNumLet, Single_Quote).
fn is_case_ignorable(c: char) -> bool {
    use GeneralCategory as G;
    matches!(
        c.general_category(),
        G::NonspacingMark | G::EnclosingMark | G::Format | G::ModifierLetter | G::ModifierSymbol
    ) || matches!(
        c,
        '\'' | '.'
            | ':'
            | '\u{B7}'
            | '\u{387}'
            | '\u{55F}'
            | '\u{5F4}'
            | '\u{2018}'
            | '\u{2019}'
            | '\u{2024}'
            | '\u{2027}'
            | '\u{FE13}'
            | '\u{FE52}'
            | '\u{FE55}'
            | '\u{FF07}'
            | '\u{FF0E}'
            | '\u{FF1A}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sigma_follows_the_standard_library() {
        // Every character on either side of a sigma, against `str::to_lowercase`.
        for c in '\0'..=char::MAX {
            for word in [format!("{c}Σ"), format!("aΣ{c}"), format!("a{c}Σ{c}b")] {
                let at = word.rfind('Σ').expect("a sigma");
                if matches!(c, 'Σ' | 'ς') {
                    continue;
                }
                let lower: String = word.to_lowercase();
                assert_eq!(is_final_sigma(&word, at), lower.contains('ς'), "{word:?}");
            }
        }
    }
}
