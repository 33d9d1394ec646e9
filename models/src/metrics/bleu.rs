//! BLEU (Papineni et al. 2002) as sacreBLEU computes it.
//!
//! For n from 1 to 4, of all n-grams of the translations the percentage that a reference has too,
//! each no more often than there; their geometric mean; and a penalty if the translations are
//! shorter, all in all, than those references that are nearest in length.

use std::collections::HashMap;
use std::fmt;

use super::{References, SACREBLEU_VERSION, case, count, is_whitespace, tokenize_13a, yes};

/// The longest n-grams.
const ORDER: usize = 4;

/// What becomes of an n-gram order of which nothing matches (Chen and Cherry 2014, "A Systematic
/// Comparison of Smoothing Techniques for Sentence-Level BLEU"). Where no single word matches, the
/// score is 0 whatever is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Smoothing {
    /// Its precision is 0, and so is the score.
    None,
    /// So much of an n-gram matches, a number above 0; sacreBLEU's default is 0.1. Their method 1.
    Floor(f64),
    /// From order 2 on this number is added to matches and totals, whether or not something
    /// matches; a number above 0, sacreBLEU's default is 1. Their method 2.
    AddK(f64),
    /// One half of an n-gram matches, at the next such order one quarter, and so on. Their method
    /// 3, that of `mteval-v13a.pl`, and sacreBLEU's default.
    #[default]
    Exp,
}

/// How BLEU is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BleuOptions {
    /// What becomes of orders without a match.
    pub smoothing: Smoothing,
    /// Whether case is ignored.
    pub lowercase: bool,
    /// Whether the mean goes only over those orders of which the translations have n-grams: for
    /// single sentences, which may be shorter than four words.
    pub effective_order: bool,
}

/// BLEU of a corpus, sentence by sentence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bleu {
    options: BleuOptions,
    references: References,
    matches: [u64; ORDER],
    totals: [u64; ORDER],
    hypothesis_length: u64,
    reference_length: u64,
}

/// A score, and what it is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BleuScore {
    /// From 0 to 100.
    pub score: f64,
    /// The precisions of n-grams of 1 to 4 words, from 0 to 100, smoothed; 0 from the order on of
    /// which the translations have no n-gram, and everywhere if no word matches.
    pub precisions: [f64; 4],
    /// The brevity penalty, from 0 to 1.
    pub brevity_penalty: f64,
    /// For each order the n-grams that a reference has too, not smoothed.
    pub matches: [u64; 4],
    /// For each order the n-grams of the translations, not smoothed.
    pub totals: [u64; 4],
    /// The words of the translations.
    pub hypothesis_length: u64,
    /// The words of the references: for each sentence of that nearest in length, of two the
    /// shorter.
    pub reference_length: u64,
}

/// BLEU of one sentence: smoothed as by default, with effective order.
///
/// ```
/// let bleu = ferrite_models::metrics::sentence_bleu("A cat.", &["A dog.", "The cat."]);
/// assert_eq!(format!("{:.2}", bleu.score), "63.00");
/// assert_eq!(bleu.precisions, [100.0, 50.0, 50.0, 0.0]);
/// ```
///
/// # Panics
/// If there is no reference.
#[track_caller]
pub fn sentence_bleu<R: AsRef<str>>(hypothesis: &str, references: &[R]) -> BleuScore {
    let mut bleu = Bleu::new(BleuOptions { effective_order: true, ..BleuOptions::default() });
    bleu.add(hypothesis, references);
    bleu.score()
}

impl Bleu {
    /// Of no sentence.
    pub fn new(options: BleuOptions) -> Bleu {
        Bleu { options, ..Bleu::default() }
    }

    /// Adds a translation, the hypothesis, and what it should be, in one or more ways. An empty
    /// hypothesis counts like any other.
    ///
    /// # Panics
    /// If there is no reference.
    #[track_caller]
    pub fn add<R: AsRef<str>>(&mut self, hypothesis: &str, references: &[R]) {
        assert!(!references.is_empty(), "a sentence without a reference");
        self.references.add(references.len());
        let hypothesis = self.tokenize(hypothesis);
        let references: Vec<String> =
            references.iter().map(|reference| self.tokenize(reference.as_ref())).collect();
        let hypothesis: Vec<&str> = words(&hypothesis);
        let references: Vec<Vec<&str>> = references.iter().map(|text| words(text)).collect();

        let distance = |length: &usize| (length.abs_diff(hypothesis.len()), *length);
        let closest = references.iter().map(Vec::len).min_by_key(distance).expect("not empty");
        self.hypothesis_length += hypothesis.len() as u64;
        self.reference_length += closest as u64;

        for n in 1..=ORDER {
            let mut most: HashMap<&[&str], u64> = HashMap::new();
            for (ngram, times) in references.iter().flat_map(|words| count(words.windows(n))) {
                let known = most.entry(ngram).or_default();
                *known = times.max(*known);
            }
            for (ngram, times) in count(hypothesis.windows(n)) {
                self.totals[n - 1] += times;
                self.matches[n - 1] += most.get(ngram).map_or(0, |&most| times.min(most));
            }
        }
    }

    /// The score of all sentences so far; 0 if there is none.
    pub fn score(&self) -> BleuScore {
        let (precisions, order) = self.precisions();
        let (hypotheses, references) = (self.hypothesis_length, self.reference_length);
        let brevity_penalty = match hypotheses {
            _ if hypotheses >= references => 1.0,
            0 => 0.0,
            _ => (1.0 - references as f64 / hypotheses as f64).exp(),
        };
        // What sacreBLEU takes for the logarithm of 0: the score is 0.
        let log = |precision: &f64| if *precision == 0.0 { -9999999999.0 } else { precision.ln() };
        let mean = precisions[..order].iter().map(log).sum::<f64>() / order as f64;
        BleuScore {
            score: if self.matches == [0; ORDER] { 0.0 } else { brevity_penalty * mean.exp() },
            precisions,
            brevity_penalty,
            matches: self.matches,
            totals: self.totals,
            hypothesis_length: hypotheses,
            reference_length: references,
        }
    }

    /// The precisions, and over how many of them the mean goes.
    fn precisions(&self) -> ([f64; ORDER], usize) {
        let (mut precisions, mut order) = ([0.0; ORDER], ORDER);
        if self.matches == [0; ORDER] {
            return (precisions, order);
        }
        let mut halved = 1.0;
        for n in 0..ORDER {
            let added = match self.options.smoothing {
                Smoothing::AddK(k) if n > 0 => k,
                _ => 0.0,
            };
            let (matches, total) = (self.matches[n] as f64 + added, self.totals[n] as f64 + added);
            if total == 0.0 {
                break;
            }
            if self.options.effective_order {
                order = n + 1;
            }
            precisions[n] = match self.options.smoothing {
                Smoothing::Exp if matches == 0.0 => {
                    halved *= 2.0;
                    100.0 / (halved * total)
                }
                Smoothing::Floor(least) if matches == 0.0 => 100.0 * least / total,
                _ => 100.0 * matches / total,
            };
        }
        (precisions, order)
    }

    /// How the score is computed, in the words of sacreBLEU.
    pub fn signature(&self) -> String {
        let BleuOptions { smoothing, lowercase, effective_order } = self.options;
        let smoothing = match smoothing {
            Smoothing::None => "none".to_owned(),
            Smoothing::Floor(least) => format!("floor[{least:.2}]"),
            Smoothing::AddK(k) => format!("add-k[{k:.2}]"),
            Smoothing::Exp => "exp".to_owned(),
        };
        format!(
            "nrefs:{}|case:{}|eff:{}|tok:13a|smooth:{smoothing}|version:{SACREBLEU_VERSION}",
            self.references,
            case(lowercase),
            yes(effective_order),
        )
    }

    fn tokenize(&self, text: &str) -> String {
        if self.options.lowercase {
            tokenize_13a(text.to_lowercase().trim_end_matches(is_whitespace))
        } else {
            tokenize_13a(text.trim_end_matches(is_whitespace))
        }
    }
}

impl BleuScore {
    /// The score as sacreBLEU prints it with its signature, on one line.
    pub fn format(&self, signature: &str) -> String {
        self.to_string().replacen("BLEU", &format!("BLEU|{signature}"), 1)
    }
}

impl fmt::Display for BleuScore {
    /// As sacreBLEU prints it without its signature: the score with two digits behind the point,
    /// unless the format says otherwise.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BleuScore { hypothesis_length, reference_length, .. } = *self;
        let digits = f.precision().unwrap_or(2);
        let [one, two, three, four] = self.precisions;
        let ratio = match reference_length {
            0 => 0.0,
            _ => hypothesis_length as f64 / reference_length as f64,
        };
        write!(
            f,
            "BLEU = {:.digits$} {one:.1}/{two:.1}/{three:.1}/{four:.1} (BP = {:.3} \
             ratio = {ratio:.3} hyp_len = {hypothesis_length} ref_len = {reference_length})",
            self.score, self.brevity_penalty,
        )
    }
}

/// The words of a tokenized text.
fn words(tokenized: &str) -> Vec<&str> {
    tokenized.split(' ').filter(|word| !word.is_empty()).collect()
}
