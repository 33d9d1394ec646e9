//! chrF (Popović 2015) and chrF++ (Popović 2017) as sacreBLEU computes them.
//!
//! For n from 1 to 6, precision and recall of the n-grams of characters, white space left out;
//! both averaged over n; and of the averages the F-score that holds recall for twice as important.
//! chrF++ averages over n-grams of one and two words as well.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;

use super::{References, SACREBLEU_VERSION, case, count, split_whitespace, yes};

/// The longest n-grams of characters.
const CHARACTERS: usize = 6;
/// How much more important recall is than precision.
const BETA: u32 = 2;

/// How chrF is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChrfOptions {
    /// The longest n-grams of words: 0 for chrF, 2 for chrF++.
    pub word_order: usize,
    /// Whether case is ignored.
    pub lowercase: bool,
    /// Whether the F-scores of all orders are averaged, an order without n-grams counting as
    /// nearly 0, as the metric's author, Moses and NLTK do. Otherwise precisions and recalls are
    /// averaged over those orders of which both sides have n-grams.
    pub eps_smoothing: bool,
}

impl ChrfOptions {
    /// chrF++: words and pairs of words too.
    pub const PLUS_PLUS: ChrfOptions =
        ChrfOptions { word_order: 2, lowercase: false, eps_smoothing: false };
}

/// chrF of a corpus, sentence by sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chrf {
    options: ChrfOptions,
    references: References,
    /// Of each order, characters first.
    counts: Vec<Counts>,
}

/// The n-grams of an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    hypothesis: u64,
    reference: u64,
    matches: u64,
}

/// A score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChrfScore {
    /// From 0 to 100.
    pub score: f64,
    /// The longest n-grams of words.
    pub word_order: usize,
}

/// chrF of one sentence.
///
/// ```
/// use ferrite_models::metrics::{ChrfOptions, sentence_chrf};
///
/// let score = sentence_chrf("A cat.", &["A dog.", "The cat."], ChrfOptions::PLUS_PLUS);
/// assert_eq!(score.to_string(), "chrF2++ = 43.49");
/// ```
///
/// # Panics
/// If there is no reference.
#[track_caller]
pub fn sentence_chrf<R: AsRef<str>>(
    hypothesis: &str,
    references: &[R],
    options: ChrfOptions,
) -> ChrfScore {
    let mut chrf = Chrf::new(options);
    chrf.add(hypothesis, references);
    chrf.score()
}

impl Chrf {
    /// Of no sentence.
    pub fn new(options: ChrfOptions) -> Chrf {
        let counts = vec![Counts::default(); CHARACTERS + options.word_order];
        Chrf { options, references: References::default(), counts }
    }

    /// Adds a translation, the hypothesis, and what it should be, in one or more ways: the one
    /// that gives the best score counts, of equals the first.
    ///
    /// # Panics
    /// If there is no reference.
    #[track_caller]
    pub fn add<R: AsRef<str>>(&mut self, hypothesis: &str, references: &[R]) {
        assert!(!references.is_empty(), "a sentence without a reference");
        self.references.add(references.len());
        let hypothesis = Units::of(hypothesis, self.options);
        let hypothesis = hypothesis.ngrams(self.options);
        let mut best: Option<(f64, Vec<Counts>)> = None;
        for reference in references {
            let reference = Units::of(reference.as_ref(), self.options);
            let counts = hypothesis.compare(&reference.ngrams(self.options));
            let score = f_score(&counts, self.options);
            if best.as_ref().is_none_or(|(best, _)| score > *best) {
                best = Some((score, counts));
            }
        }
        let (_, counts) = best.expect("there is a reference");
        for (sum, counts) in self.counts.iter_mut().zip(counts) {
            sum.hypothesis += counts.hypothesis;
            sum.reference += counts.reference;
            sum.matches += counts.matches;
        }
    }

    /// The score of all sentences so far; 0 if there is none.
    pub fn score(&self) -> ChrfScore {
        let score = f_score(&self.counts, self.options);
        ChrfScore { score, word_order: self.options.word_order }
    }

    /// How the score is computed, in the words of sacreBLEU.
    pub fn signature(&self) -> String {
        let ChrfOptions { word_order, lowercase, eps_smoothing } = self.options;
        format!(
            "nrefs:{}|case:{}|eff:{}|nc:{CHARACTERS}|nw:{word_order}|space:no|\
             version:{SACREBLEU_VERSION}",
            self.references,
            case(lowercase),
            yes(!eps_smoothing),
        )
    }
}

impl ChrfScore {
    /// The score as sacreBLEU prints it with its signature.
    pub fn format(&self, signature: &str) -> String {
        self.to_string().replacen(" =", &format!("|{signature} ="), 1)
    }
}

impl fmt::Display for ChrfScore {
    /// As sacreBLEU prints it without its signature: the score with two digits behind the point,
    /// unless the format says otherwise.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let plus = "+".repeat(self.word_order);
        write!(f, "chrF{BETA}{plus} = {:.digits$}", self.score)
    }
}

/// What n-grams of a text are made of.
struct Units {
    characters: Vec<char>,
    words: Vec<String>,
}

impl Units {
    fn of(text: &str, options: ChrfOptions) -> Units {
        let lowered = options.lowercase.then(|| text.to_lowercase());
        let text = lowered.as_deref().unwrap_or(text);
        let characters = split_whitespace(text).flat_map(str::chars).collect();
        let words = split_whitespace(text).flat_map(part_mark).map(str::to_owned).collect();
        Units { characters, words }
    }

    fn ngrams(&self, options: ChrfOptions) -> Ngrams<'_> {
        Ngrams {
            characters: (1..=CHARACTERS).map(|n| count(self.characters.windows(n))).collect(),
            words: (1..=options.word_order).map(|n| count(self.words.windows(n))).collect(),
        }
    }
}

/// How often each n-gram occurs, by order.
struct Ngrams<'a> {
    characters: Vec<HashMap<&'a [char], u64>>,
    words: Vec<HashMap<&'a [String], u64>>,
}

impl Ngrams<'_> {
    /// The counts of all orders.
    fn compare(&self, reference: &Ngrams<'_>) -> Vec<Counts> {
        let characters = self.characters.iter().zip(&reference.characters);
        let words = self.words.iter().zip(&reference.words);
        characters.map(|(a, b)| compare(a, b)).chain(words.map(|(a, b)| compare(a, b))).collect()
    }
}

fn compare<T: Eq + Hash>(hypothesis: &HashMap<T, u64>, reference: &HashMap<T, u64>) -> Counts {
    let both =
        |(ngram, &times): (&T, &u64)| reference.get(ngram).map_or(0, |&most| times.min(most));
    Counts {
        // Not counted where there is nothing that could be matched.
        hypothesis: if reference.is_empty() { 0 } else { hypothesis.values().sum() },
        reference: reference.values().sum(),
        matches: hypothesis.iter().map(both).sum(),
    }
}

/// A word without the mark of ASCII at its end or else its beginning, and the mark. One is parted
/// at most: of `(hi)` remain `(hi` and `)`.
fn part_mark(word: &str) -> impl Iterator<Item = &str> {
    let is_mark = |c: char| c.is_ascii_punctuation();
    let at = match word.len() {
        length if word.chars().nth(1).is_none() => length,
        length if word.ends_with(is_mark) => length - 1,
        _ if word.starts_with(is_mark) => 1,
        length => length,
    };
    let (first, second) = word.split_at(at);
    [first, second].into_iter().filter(|part| !part.is_empty())
}

/// The score from 0 to 100 of these counts of all orders.
fn f_score(counts: &[Counts], options: ChrfOptions) -> f64 {
    const EPS: f64 = 1e-16;
    let factor = f64::from(BETA * BETA);
    let f = |precision: f64, recall: f64| {
        (1.0 + factor) * precision * recall / (factor * precision + recall)
    };
    let ratio = |part: u64, whole: u64| if whole > 0 { part as f64 / whole as f64 } else { EPS };
    let (mut scores, mut precisions, mut recalls, mut orders) = (0.0, 0.0, 0.0, 0);
    for &Counts { hypothesis, reference, matches } in counts {
        let (precision, recall) = (ratio(matches, hypothesis), ratio(matches, reference));
        scores += if precision + recall > 0.0 { f(precision, recall) } else { EPS };
        if hypothesis > 0 && reference > 0 {
            precisions += precision;
            recalls += recall;
            orders += 1;
        }
    }
    if options.eps_smoothing {
        return 100.0 * scores / counts.len() as f64;
    }
    if precisions + recalls == 0.0 {
        return 0.0;
    }
    100.0 * f(precisions / f64::from(orders), recalls / f64::from(orders))
}
