//! The frozen tables against the crates that `tokenizers` 0.22 links, for
//! every code point.

mod common;

use ferrite_tokenizer::{EncodeOptions, Tokenizer};
use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::char::{canonical_combining_class, decompose_canonical};

fn tokenizer(edit: impl Fn(&mut serde_json::Value)) -> Tokenizer {
    let mut file = common::tokenizer_json();
    edit(&mut file);
    Tokenizer::from_json_str(&file.to_string()).expect("valid")
}

/// How many words `text` makes, and what they cover.
fn words(tokenizer: &Tokenizer, text: &str) -> Vec<(usize, usize)> {
    let options = EncodeOptions { add_special_tokens: false, ..EncodeOptions::default() };
    let encoding = tokenizer.encode(text, None, &options).expect("encodes");
    let mut words: Vec<(Option<u32>, (usize, usize))> = Vec::new();
    for (&word, &offset) in encoding.word_ids.iter().zip(&encoding.offsets) {
        match words.last_mut() {
            Some(last) if last.0 == word => last.1.1 = offset.1,
            _ => words.push((word, offset)),
        }
    }
    words.into_iter().map(|(_, offset)| offset).collect()
}

#[test]
fn control_and_punctuation() {
    let tokenizer = tokenizer(|file| {
        file["normalizer"]["strip_accents"] = false.into();
        file["normalizer"]["handle_chinese_chars"] = false.into();
    });
    for c in '\0'..=char::MAX {
        let len = c.len_utf8();
        let removed = matches!(c, '\0' | '\u{FFFD}') || c.is_other();
        let expected = if removed || c.is_whitespace() { vec![] } else { vec![(0, len)] };
        assert_eq!(words(&tokenizer, &c.to_string()), expected, "{c:?}");
        if !expected.is_empty() {
            let split = c.is_ascii_punctuation() || c.is_punctuation();
            let expected = if split { vec![(0, len), (len, len + 1)] } else { vec![(0, len + 1)] };
            assert_eq!(words(&tokenizer, &format!("{c}x")), expected, "{c:?}");
        }
    }
}

#[test]
fn marks_and_decompositions() {
    let tokenizer = tokenizer(|file| file["normalizer"]["clean_text"] = false.into());
    for c in '\0'..=char::MAX {
        let mut left = Vec::new();
        decompose_canonical(c, |d| {
            if !d.is_mark_nonspacing() {
                left.push(d);
            }
        });
        let nothing = left.iter().all(|d| d.is_whitespace());
        assert_eq!(words(&tokenizer, &c.to_string()).is_empty(), nothing, "{c:?}");
        // A mark that stays and has a class goes behind one of a lower class,
        // and takes its place in the text.
        if !nothing && canonical_combining_class(c) > 1 {
            let text = format!("a{c}\u{334}");
            assert_eq!(words(&tokenizer, &text), [(0, text.len())], "{c:?}");
        }
    }
}
