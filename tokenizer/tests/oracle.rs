//! The rules written down naively, step after step over whole strings, for
//! each dialect; and what the crate makes of random text compared with it.

mod common;

use std::collections::HashMap;

use common::{Rng, SENTENCES, SPECIALS, random_text, real_lines, vocab};
use ferrite_tokenizer::{Dialect, EncodeOptions, Encoding, Scratch, Tokenizer, VocabOptions};
use proptest::prelude::*;
use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory as G, GeneralCategoryGroup, UnicodeGeneralCategory};

struct Oracle {
    dialect: Dialect,
    lowercase: bool,
    strip: bool,
    vocab: HashMap<String, u32>,
}

impl Oracle {
    fn control(&self, c: char) -> bool {
        let frozen = unicode_categories::UnicodeCategories::is_other;
        !matches!(c, '\t' | '\n' | '\r')
            && match self.dialect {
                Dialect::Google => matches!(c.general_category(), G::Control | G::Format),
                Dialect::HfSlow => c.general_category_group() == GeneralCategoryGroup::Other,
                Dialect::HfFast => frozen(c),
            }
    }

    fn punctuation(&self, c: char) -> bool {
        let frozen = unicode_categories::UnicodeCategories::is_punctuation;
        c.is_ascii_punctuation()
            || match self.dialect {
                Dialect::HfFast => frozen(c),
                _ => c.general_category_group() == GeneralCategoryGroup::Punctuation,
            }
    }

    fn ideograph(&self, c: char) -> bool {
        let e = if self.dialect == Dialect::HfFast { 0x2B920 } else { 0x2B820 };
        matches!(c as u32, 0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF
            | 0x2A700..=0x2B73F | 0x2B740..=0x2B81F | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
            || (e..=0x2CEAF).contains(&(c as u32))
    }

    fn lower(&self, text: &str) -> String {
        match self.dialect {
            Dialect::Google => text.to_lowercase(),
            _ => text.chars().flat_map(char::to_lowercase).collect(),
        }
    }

    fn without_accents(&self, text: &str) -> String {
        if self.dialect == Dialect::HfFast {
            let nfd = unicode_normalization_alignments::UnicodeNormalization::nfd(text.chars());
            let mark = unicode_categories::UnicodeCategories::is_mark_nonspacing;
            nfd.map(|(c, _)| c).filter(|&c| !mark(c)).collect()
        } else {
            text.nfd().filter(|c| c.general_category() != G::NonspacingMark).collect()
        }
    }

    fn words(&self, text: &str) -> Vec<String> {
        let mut clean = String::new();
        for c in text.chars() {
            if matches!(c, '\0' | '\u{FFFD}') || self.control(c) {
                continue;
            } else if c.is_whitespace() {
                clean.push(' ');
            } else if self.ideograph(c) {
                clean.extend([' ', c, ' ']);
            } else {
                clean.push(c);
            }
        }
        if self.dialect == Dialect::HfSlow {
            clean = clean.nfc().collect();
        }
        let mut words = Vec::new();
        for word in clean.split_whitespace() {
            let mut word = word.to_owned();
            if self.lowercase {
                word = self.lower(&word);
            }
            if self.strip {
                word = self.without_accents(&word);
            }
            let mut spaced = String::new();
            for c in word.chars() {
                if self.punctuation(c) { spaced.extend([' ', c, ' ']) } else { spaced.push(c) }
            }
            words.extend(spaced.split_whitespace().map(str::to_owned));
        }
        words
    }

    fn pieces(&self, word: &str) -> Vec<u32> {
        let unknown = vec![self.vocab["[UNK]"]];
        let chars: Vec<char> = word.chars().collect();
        let most = if self.dialect == Dialect::Google { 200 } else { 100 };
        if chars.len() > most {
            return unknown;
        }
        let mut ids = Vec::new();
        let mut start = 0;
        while start < chars.len() {
            let prefix = if start > 0 { "##" } else { "" };
            let longest = (start + 1..=chars.len()).rev().find_map(|end| {
                let piece: String =
                    prefix.chars().chain(chars[start..end].iter().copied()).collect();
                Some((*self.vocab.get(&piece)?, end))
            });
            let Some((id, end)) = longest else { return unknown };
            ids.push(id);
            start = end;
        }
        ids
    }

    fn ids(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let special = SPECIALS.iter().filter(|_| self.dialect != Dialect::Google);
            let next = special.filter_map(|s| Some((rest.find(s)?, *s))).min();
            let (at, special) = next.unwrap_or((rest.len(), ""));
            ids.extend(self.words(&rest[..at]).iter().flat_map(|word| self.pieces(word)));
            ids.extend(self.vocab.get(special));
            rest = &rest[at + special.len()..];
        }
        ids
    }
}

/// Every dialect, cased and uncased, accents stripped or not.
fn each() -> Vec<(Tokenizer, Oracle)> {
    let mut all = Vec::new();
    for dialect in [Dialect::Google, Dialect::HfSlow, Dialect::HfFast] {
        for (lowercase, strip) in [(true, true), (true, false), (false, false), (false, true)] {
            let options = VocabOptions {
                dialect,
                lowercase,
                strip_accents: Some(strip),
                ..VocabOptions::default()
            };
            let tokenizer = Tokenizer::from_vocab(vocab(), options).expect("valid");
            let vocab = vocab().into_iter().zip(0..).collect();
            all.push((tokenizer, Oracle { dialect, lowercase, strip, vocab }));
        }
    }
    all
}

fn check(
    (tokenizer, oracle): &(Tokenizer, Oracle),
    text: &str,
    out: &mut Encoding,
    scratch: &mut Scratch,
) {
    let options = EncodeOptions { add_special_tokens: false, ..EncodeOptions::default() };
    tokenizer.encode_into(text, None, &options, out, scratch).expect("encodes");
    let what = (oracle.dialect, oracle.lowercase, oracle.strip);
    assert_eq!(out.ids, oracle.ids(text), "{text:?} {what:?}");
    for &(start, end) in &out.offsets {
        assert!(start < end && text.get(start..end).is_some(), "{text:?} {what:?}");
    }
}

#[test]
fn random_and_real_texts() {
    let vocab = vocab();
    let mut rng = Rng(3);
    let (mut out, mut scratch) = (Encoding::default(), Scratch::new());
    for each in each() {
        for text in SENTENCES.iter().map(|s| s.to_string()).chain(real_lines()) {
            check(&each, &text, &mut out, &mut scratch);
        }
        for _ in 0..4000 {
            check(&each, &random_text(&mut rng, &vocab), &mut out, &mut scratch);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn any_text(text in any::<String>()) {
        for each in each_once() {
            check(each, &text, &mut Encoding::default(), &mut Scratch::new());
        }
    }
}

fn each_once() -> &'static [(Tokenizer, Oracle)] {
    static EACH: std::sync::LazyLock<Vec<(Tokenizer, Oracle)>> = std::sync::LazyLock::new(each);
    &EACH
}

/// The differences listed at `Dialect`, one by one.
#[test]
fn dialects_differ_as_listed() {
    let tokens = ["οδος", "οδοσ", "é", "e", "x", "y", "xy", "\u{2B820}", "[", "mask", "]"];
    let tokens: Vec<&str> = SPECIALS.into_iter().chain(tokens).collect();
    let tokenizer = |dialect, strip: bool| {
        let strip_accents = Some(strip);
        let options = VocabOptions { dialect, strip_accents, ..VocabOptions::default() };
        Tokenizer::from_vocab(tokens.clone(), options).expect("valid")
    };
    let [google, slow, fast] = [Dialect::Google, Dialect::HfSlow, Dialect::HfFast];
    let read = |dialect, strip, text: &str| {
        let tokenizer = tokenizer(dialect, strip);
        let options = EncodeOptions { add_special_tokens: false, ..EncodeOptions::default() };
        let ids = tokenizer.encode(text, None, &options).expect("encodes").ids;
        let token = |&id: &u32| tokenizer.id_to_token(id).expect("known").to_owned();
        ids.iter().map(token).collect::<Vec<_>>().join(" ")
    };
    // The capital sigma at the end of a word.
    assert_eq!(read(google, true, "ΟΔΟΣ"), "οδος");
    assert_eq!(read(slow, true, "ΟΔΟΣ"), "οδοσ");
    assert_eq!(read(fast, true, "ΟΔΟΣ"), "οδοσ");
    // Composition, where accents stay.
    assert_eq!(read(google, false, "e\u{301}"), "[UNK]");
    assert_eq!(read(slow, false, "e\u{301}"), "é");
    assert_eq!(read(fast, false, "e\u{301}"), "[UNK]");
    // Private use and unassigned characters.
    assert_eq!(read(google, true, "x\u{E000}y"), "[UNK]");
    assert_eq!(read(slow, true, "x\u{E000}y"), "xy");
    assert_eq!(read(fast, true, "x\u{E000}y"), "xy");
    assert_eq!(read(google, true, "x\u{378}y"), "[UNK]");
    assert_eq!(read(slow, true, "x\u{378}y"), "xy");
    assert_eq!(read(fast, true, "x\u{378}y"), "[UNK]");
    // The beginning of extension E.
    assert_eq!(read(google, true, "x\u{2B820}y"), "x \u{2B820} y");
    assert_eq!(read(slow, true, "x\u{2B820}y"), "x \u{2B820} y");
    assert_eq!(read(fast, true, "x\u{2B820}y"), "[UNK]");
    // Punctuation younger than the frozen tables (U+2E52, Unicode 14).
    assert_eq!(read(google, true, "x\u{2E52}y"), "x [UNK] y");
    assert_eq!(read(fast, true, "x\u{2E52}y"), "[UNK]");
    // Special tokens written in the text.
    assert_eq!(read(google, true, "x[MASK]y"), "x [ mask ] y");
    assert_eq!(read(slow, true, "x[MASK]y"), "x [MASK] y");
    assert_eq!(read(fast, true, "x[MASK]y"), "x [MASK] y");
    // The longest word.
    let long = format!("{}y", "x".repeat(100));
    let tokens = |dialect| {
        let tokens = SPECIALS.into_iter().chain(["x", "##x", "##y"]);
        let options = VocabOptions { dialect, ..VocabOptions::default() };
        let tokenizer = Tokenizer::from_vocab(tokens, options).expect("valid");
        tokenizer.encode(&long, None, &EncodeOptions::default()).expect("encodes").len() - 2
    };
    assert_eq!([google, slow, fast].map(tokens), [101, 1, 1]);
}
