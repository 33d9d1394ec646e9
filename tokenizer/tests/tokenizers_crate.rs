//! Ids, offsets and all the rest against the `tokenizers` crate, on 100,000
//! random texts and on real ones, for every kind of file.
//!
//! Release 0.22 is the reference in everything. The rewrite, 1.0.0-rc.3,
//! gives ids only, and has decompositions and punctuation of Unicode 17:
//! texts with a character where that matters are not compared with it.

mod common;

use std::sync::LazyLock;

use common::{Rng, SENTENCES, models, random_text, real_lines, vocab};
use ferrite_tokenizer::{
    Direction, EncodeOptions, Encoding, Error, Scratch, Strategy, Tokenizer, Truncation,
};
use regex::Regex;
use tokenizers::{TruncationDirection, TruncationParams, TruncationStrategy};

/// Random texts to each kind of file; there are eight.
const RANDOM_TEXTS: usize = 13_000;

struct Pair {
    name: String,
    ours: Tokenizer,
    reference: tokenizers::Tokenizer,
    rewrite: tokenizers_v1::pipeline::PipelineTokenizer,
}

fn pairs() -> Vec<Pair> {
    let load = |(name, text): (String, String)| {
        let ours = Tokenizer::from_json_str(&text).expect("valid");
        let mut reference: tokenizers::Tokenizer = text.parse().expect("valid");
        reference.with_padding(None).with_truncation(None).expect("no truncation");
        let canonical = tokenizers_v1::canonicalize_str(&text).expect("valid");
        let rewrite = tokenizers_v1::from_json(&canonical).expect("valid");
        Pair { name, ours, reference, rewrite }
    };
    models().into_iter().map(load).collect()
}

fn texts(seed: u64, count: usize) -> impl Iterator<Item = String> {
    let vocab = vocab();
    let mut rng = Rng(seed);
    (0..count).map(move |_| random_text(&mut rng, &vocab))
}

fn assert_same(ours: &Encoding, reference: &tokenizers::Encoding, what: &dyn Fn() -> String) {
    assert_eq!(ours.ids, reference.get_ids(), "ids of {}", what());
    assert_eq!(ours.offsets, reference.get_offsets(), "offsets of {}", what());
    assert_eq!(ours.word_ids, reference.get_word_ids(), "words of {}", what());
    let types: Vec<u32> = ours.type_ids.iter().map(|&t| t.into()).collect();
    assert_eq!(types, reference.get_type_ids(), "types of {}", what());
    let mask: Vec<u32> = ours.special_tokens_mask.iter().map(|&m| m.into()).collect();
    assert_eq!(mask, reference.get_special_tokens_mask(), "mask of {}", what());
    if reference.n_sequences() > 1 || ours.sequence_ids.contains(&None) {
        let sequences: Vec<_> = ours.sequence_ids.iter().map(|s| s.map(usize::from)).collect();
        assert_eq!(sequences, reference.get_sequence_ids(), "sequences of {}", what());
    }
}

/// What Unicode 17 says of a character and the older tables do not: the
/// rewrite has these decompositions and this punctuation.
fn newer(c: char) -> bool {
    use unicode_categories::UnicodeCategories;
    use unicode_normalization_alignments::char as unicode9;
    use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};
    let (mut old, mut new) = (Vec::new(), Vec::new());
    unicode9::decompose_canonical(c, |d| old.push(d));
    unicode_normalization::char::decompose_canonical(c, |d| new.push(d));
    let class = unicode_normalization::char::canonical_combining_class(c);
    let punctuation = c.general_category_group() == GeneralCategoryGroup::Punctuation;
    old != new
        || class != unicode9::canonical_combining_class(c)
        || punctuation != c.is_punctuation()
}

/// Letters newer than the regular expressions that the reference tests the
/// sides of a single word with.
fn newer_letter(c: char) -> bool {
    static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\w$").expect("valid"));
    c.is_alphanumeric() && c as u32 >= 0x10000 && !WORD.is_match(c.encode_utf8(&mut [0; 4]))
}

fn check(pair: &Pair, text: &str, out: &mut Encoding, scratch: &mut Scratch) {
    let what = || format!("{text:?} with {}", pair.name);
    if pair.name == "added tokens" && text.chars().any(newer_letter) {
        return;
    }
    let options = EncodeOptions::default();
    pair.ours.encode_into(text, None, &options, out, scratch).expect("encodes");
    let reference = pair.reference.encode(text, true).expect("encodes");
    assert_same(out, &reference, &what);
    for skip in [false, true] {
        let decoded = pair.ours.decode(&out.ids, skip).expect("known ids");
        let expected = pair.reference.decode(&out.ids, skip).expect("decodes");
        assert_eq!(decoded, expected, "decoded {}", what());
    }
    // The rewrite tests the sides of a normalised single word differently.
    if pair.name != "added tokens" && !text.chars().any(newer) {
        assert_eq!(rewrite_ids(pair, text), out.ids, "rewrite: ids of {}", what());
    }
}

fn rewrite_ids(pair: &Pair, text: &str) -> Vec<u32> {
    use tokenizers_v1::pipeline::{EncodeOptions, Override};
    let options = EncodeOptions {
        padding: Override::Off,
        truncation: Override::Off,
        ..EncodeOptions::default()
    };
    let encodings = pair.rewrite.encode(text, &options).wait().expect("encodes");
    encodings[0].ids().iter().map(|token| token.id()).collect()
}

#[test]
fn random_and_real_texts() {
    let (mut out, mut scratch) = (Encoding::default(), Scratch::new());
    let mut compared = 0;
    for (i, pair) in pairs().iter().enumerate() {
        let real = real_lines();
        let random = texts(i as u64, RANDOM_TEXTS);
        for text in SENTENCES.iter().map(|s| s.to_string()).chain(real).chain(random) {
            check(pair, &text, &mut out, &mut scratch);
            compared += 1;
        }
    }
    eprintln!("{compared} texts compared");
    assert!(compared >= 100_000);
}

/// Every code point, between letters and beside marks.
#[test]
fn every_code_point() {
    let (mut out, mut scratch) = (Encoding::default(), Scratch::new());
    let pairs = pairs();
    let mut text = String::new();
    for c in '\0'..=char::MAX {
        text.push('a');
        text.push(c);
        text.push_str(if (c as u32).is_multiple_of(2) { "\u{323}\u{301}e " } else { "\u{334}" });
        if c as u32 % 64 == 63 {
            pairs.iter().take(5).for_each(|pair| check(pair, &text, &mut out, &mut scratch));
            text.clear();
        }
    }
}

#[test]
fn truncation_and_windows() {
    let mut rng = Rng(77);
    let pairs = pairs();
    let texts: Vec<String> = texts(5, 1500).collect();
    let (mut out, mut scratch) = (Encoding::default(), Scratch::new());
    let (mut cut, mut refused) = (0, 0);
    for (i, text) in texts.iter().enumerate() {
        let pair = &pairs[i % pairs.len()];
        let second = (rng.below(3) > 0).then(|| &texts[rng.below(texts.len())]);
        let add_special_tokens = rng.below(4) > 0;
        let (strategy, reference_strategy) = rng.pick(&[
            (Strategy::LongestFirst, TruncationStrategy::LongestFirst),
            (Strategy::LongestFirst, TruncationStrategy::LongestFirst),
            (Strategy::OnlyFirst, TruncationStrategy::OnlyFirst),
            (Strategy::OnlySecond, TruncationStrategy::OnlySecond),
        ]);
        let (direction, reference_direction) = rng.pick(&[
            (Direction::Right, TruncationDirection::Right),
            (Direction::Left, TruncationDirection::Left),
        ]);
        let max_length = 4 + rng.below(24);
        let stride = if rng.below(2) == 0 { 0 } else { rng.below(6) };
        let truncation = Truncation { max_length, strategy, direction, stride };
        let options =
            EncodeOptions { add_special_tokens, truncation: Some(truncation), overflowing: true };
        let what = || format!("{text:?} and {second:?} with {options:?} and {}", pair.name);
        let second_text = second.map(String::as_str);
        match pair.ours.encode_into(text, second_text, &options, &mut out, &mut scratch) {
            Ok(()) => {}
            // Where the reference panics.
            Err(Error::StrideTooLarge { .. }) => {
                refused += 1;
                continue;
            }
            Err(Error::CannotTruncate { .. }) => {
                out.truncated = usize::MAX;
            }
            Err(error) => panic!("{error} for {}", what()),
        }
        let mut reference = pair.reference.clone();
        let params = TruncationParams {
            max_length,
            stride,
            strategy: reference_strategy,
            direction: reference_direction,
        };
        // It counts special tokens here even when none are added.
        if reference.with_truncation(Some(params)).is_err() {
            refused += 1;
            continue;
        }
        let expected = match second_text {
            Some(second) => reference.encode((text.as_str(), second), add_special_tokens),
            None => reference.encode(text.as_str(), add_special_tokens),
        };
        match expected {
            Ok(expected) => {
                assert_same(&out, &expected, &what);
                // The reference repeats some windows inside of windows.
                let windows = expected.get_overflowing();
                assert_eq!(out.overflowing.len(), windows.len(), "windows of {}", what());
                for (ours, expected) in out.overflowing.iter().zip(windows) {
                    assert_same(ours, expected, &what);
                }
            }
            Err(_) => assert_eq!(out.truncated, usize::MAX, "{}", what()),
        }
        cut += usize::from(out.truncated > 0);
    }
    assert!(cut > 500 && refused < 500, "{cut} cut, {refused} refused");
}

/// Where the rewrite's newer tables show in a character by itself.
#[test]
fn differences_of_the_rewrite() {
    let pair = &pairs()[0];
    let options = EncodeOptions::default();
    for c in '\0'..=char::MAX {
        // With a letter behind it, so that it shows whether it stands alone.
        let text = format!("{c}a");
        let ours = pair.ours.encode(&text, None, &options).expect("encodes");
        let differs = rewrite_ids(pair, &text) != ours.ids;
        assert!(!differs || newer(c), "{c:?}");
    }
}
