//! The metrics against what sacreBLEU says: see `tests/oracle/bleu.py`.

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Oracle {
    version: String,
    tokenized: Vec<(String, String)>,
    lowered: Vec<(String, String)>,
    corpora: Vec<Case>,
    sentences: Vec<Case>,
}

/// Translations and their scores.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// A hypothesis and its references.
    pairs: Vec<Vec<String>>,
    bleu: BleuCase,
    chrf: Vec<ChrfCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BleuCase {
    options: Arguments,
    score: f64,
    precisions: [f64; 4],
    penalty: f64,
    lengths: [u64; 2],
    text: String,
    matches: Option<[u64; 4]>,
    totals: Option<[u64; 4]>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChrfCase {
    options: Arguments,
    score: f64,
    text: String,
}

/// Arguments of `BLEU` and `CHRF`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Arguments {
    smooth_method: Option<String>,
    smooth_value: Option<f64>,
    lowercase: bool,
    effective_order: bool,
    word_order: usize,
    eps_smoothing: bool,
}

impl Arguments {
    fn bleu(&self) -> BleuOptions {
        let smoothing = match self.smooth_method.as_deref() {
            Some("none") => Smoothing::None,
            Some("floor") => Smoothing::Floor(self.smooth_value.unwrap_or(0.1)),
            Some("add-k") => Smoothing::AddK(self.smooth_value.unwrap_or(1.0)),
            Some("exp") | None => Smoothing::Exp,
            Some(other) => panic!("{other}"),
        };
        let Arguments { lowercase, effective_order, .. } = *self;
        BleuOptions { smoothing, lowercase, effective_order }
    }

    fn chrf(&self) -> ChrfOptions {
        let Arguments { word_order, lowercase, eps_smoothing, .. } = *self;
        ChrfOptions { word_order, lowercase, eps_smoothing }
    }
}

fn oracle() -> Oracle {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/bleu.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[track_caller]
fn assert_close(found: f64, expected: f64, pairs: &[Vec<String>]) {
    let bound = 1e-9 * expected.abs();
    assert!((found - expected).abs() <= bound, "{found} and not {expected}: {pairs:?}");
}

fn assert_bleu(pairs: &[Vec<String>], expected: &BleuCase) {
    let mut bleu = Bleu::new(expected.options.bleu());
    pairs.iter().for_each(|pair| bleu.add(&pair[0], &pair[1..]));
    let found = bleu.score();
    assert_eq!([found.hypothesis_length, found.reference_length], expected.lengths, "{pairs:?}");
    assert!(expected.matches.is_none_or(|matches| matches == found.matches), "{pairs:?}");
    assert!(expected.totals.is_none_or(|totals| totals == found.totals), "{pairs:?}");
    for (found, expected) in found.precisions.iter().zip(expected.precisions) {
        assert_close(*found, expected, pairs);
    }
    assert_close(found.brevity_penalty, expected.penalty, pairs);
    assert_close(found.score, expected.score, pairs);
    assert_eq!(found.format(&bleu.signature()), expected.text, "{pairs:?}");
}

fn assert_chrf(pairs: &[Vec<String>], expected: &ChrfCase) {
    let mut chrf = Chrf::new(expected.options.chrf());
    pairs.iter().for_each(|pair| chrf.add(&pair[0], &pair[1..]));
    let found = chrf.score();
    assert_close(found.score, expected.score, pairs);
    assert_eq!(found.format(&chrf.signature()), expected.text, "{pairs:?}");
}

#[test]
fn words_are_those_of_13a() {
    let oracle = oracle();
    assert!(oracle.tokenized.len() > 300);
    for (line, words) in &oracle.tokenized {
        assert_eq!(&tokenize_13a(line.trim_end_matches(is_whitespace)), words, "{line:?}");
    }
}

/// BLEU lowers case, and what Python and Rust make of odd letters is the same.
#[test]
fn lower_case_is_that_of_python() {
    for (text, lowered) in oracle().lowered {
        assert_eq!(text.to_lowercase(), lowered);
    }
}

#[test]
fn corpora_score_as_in_sacrebleu() {
    let oracle = oracle();
    assert_eq!(oracle.version, SACREBLEU_VERSION);
    assert!(oracle.corpora.len() > 40);
    for case in &oracle.corpora {
        assert_bleu(&case.pairs, &case.bleu);
        case.chrf.iter().for_each(|expected| assert_chrf(&case.pairs, expected));
    }
}

#[test]
fn sentences_score_as_in_sacrebleu() {
    let oracle = oracle();
    assert!(oracle.sentences.len() > 100);
    for case in &oracle.sentences {
        assert_bleu(&case.pairs, &case.bleu);
        case.chrf.iter().for_each(|expected| assert_chrf(&case.pairs, expected));
        let (hypothesis, references) = case.pairs[0].split_first().unwrap();
        assert_close(sentence_bleu(hypothesis, references).score, case.bleu.score, &case.pairs);
        let options = case.chrf[1].options.chrf();
        assert_eq!(options, ChrfOptions::PLUS_PLUS);
        let chrf = sentence_chrf(hypothesis, references, options);
        assert_close(chrf.score, case.chrf[1].score, &case.pairs);
    }
}

/// What Python's `str.isspace` says of all characters, asked of Python 3.11.
#[test]
fn white_space_is_that_of_python() {
    let expected: Vec<u32> = [9..=13, 28..=32, 133..=133, 160..=160, 5760..=5760, 8192..=8202]
        .into_iter()
        .chain([8232..=8233, 8239..=8239, 8287..=8287, 12288..=12288])
        .flatten()
        .collect();
    let found: Vec<u32> = ('\0'..=char::MAX).filter(|&c| is_whitespace(c)).map(u32::from).collect();
    assert_eq!(found, expected);
    assert_eq!(split_whitespace(" a\u{1f}b\r\n\u{85}c ").collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[test]
fn nothing_scores_nothing() {
    let (bleu, chrf) = (Bleu::default(), Chrf::new(ChrfOptions::default()));
    assert_eq!((bleu.score().score, chrf.score().score), (0.0, 0.0));
    assert!(bleu.signature().starts_with("nrefs:0|"));
}
