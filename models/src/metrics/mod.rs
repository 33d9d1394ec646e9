//! How good a translation is, in the numbers of sacreBLEU (Post 2018, "A Call for Clarity in
//! Reporting BLEU Scores").
//!
//! - [`Bleu`]: words and n-grams of words that a reference has too, with a penalty for brevity
//! - [`Chrf`]: the same of characters, precision and recall; with words beside them it is chrF++
//! - [`tokenize_13a`]: what a word is to BLEU
//!
//! A metric is filled sentence by sentence and keeps sums only. Its signature says how it was
//! computed, and goes wherever the score goes.
//!
//! ```
//! use ferrite_models::metrics::{Bleu, BleuOptions};
//!
//! let mut bleu = Bleu::new(BleuOptions::default());
//! bleu.add("The cat sat on a mat.", &["The cat sat on the mat."]);
//! bleu.add("It was a grey cat.", &["It was a grey cat.", "The cat was grey."]);
//! assert_eq!(
//!     bleu.score().format(&bleu.signature()),
//!     "BLEU|nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0 = 73.24 \
//!      92.3/81.8/66.7/57.1 (BP = 1.000 ratio = 1.000 hyp_len = 13 ref_len = 13)"
//! );
//! ```
//!
//! Scores are those of sacreBLEU to the last digit that is printed, on whatever text: also
//! where Python has ideas of its own about white space. One thing may differ: letters that are
//! younger than the Unicode of a Python, if case is ignored.

mod bleu;
mod chrf;
#[cfg(test)]
mod tests;
mod tokenize_13a;

use std::collections::HashMap;
use std::hash::Hash;

pub use bleu::{Bleu, BleuOptions, BleuScore, Smoothing, sentence_bleu};
pub use chrf::{Chrf, ChrfOptions, ChrfScore, sentence_chrf};
pub use tokenize_13a::tokenize_13a;

/// The version of sacreBLEU with which all is compared, and which signatures name.
pub const SACREBLEU_VERSION: &str = "2.6.0";

/// The words of a text as Python's `str.split` finds them.
fn split_whitespace(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_whitespace).filter(|word| !word.is_empty())
}

/// White space as Python's `str.isspace` has it: that of Unicode, and four separators of ASCII.
fn is_whitespace(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// How often each item occurs.
fn count<T: Eq + Hash>(items: impl Iterator<Item = T>) -> HashMap<T, u64> {
    let mut counts = HashMap::new();
    items.for_each(|item| *counts.entry(item).or_default() += 1);
    counts
}

/// How many references the sentences had, for a signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum References {
    /// There is no sentence yet.
    #[default]
    None,
    /// All had as many.
    Each(usize),
    /// They had different numbers.
    Vary,
}

impl References {
    fn add(&mut self, count: usize) {
        *self = match *self {
            References::None => References::Each(count),
            References::Each(before) if before == count => *self,
            _ => References::Vary,
        }
    }
}

impl std::fmt::Display for References {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            References::None => f.write_str("0"),
            References::Each(count) => count.fmt(f),
            References::Vary => f.write_str("var"),
        }
    }
}

fn case(lowercase: bool) -> &'static str {
    if lowercase { "lc" } else { "mixed" }
}

fn yes(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
}
