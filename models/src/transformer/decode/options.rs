//! How translations are searched.

use super::super::TransformerConfig;
use crate::error::Error;

/// How translations are searched, and how many are wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecodeOptions {
    /// How the next tokens are chosen.
    pub search: Search,
    /// The longest target.
    pub max_length: MaxLength,
    /// Tokens before which a target does not end: the end is not chosen in their places.
    pub min_length: usize,
    /// How many hypotheses are wanted of each sentence, the best first: 1 of greedy search, at most
    /// the width of a beam, and up to 1024 draws.
    pub n_best: usize,
    /// The layer of the decoder, from 0, whose attention to the source is wanted with each
    /// hypothesis.
    pub attention: Option<usize>,
    /// How many hypotheses are continued at once, of as many sentences as that makes, at least one.
    /// No result depends on it.
    pub batch: usize,
}

/// How the next tokens are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Search {
    /// The most probable token at each place, until that is the end.
    Greedy,
    /// Beam search.
    Beam {
        /// The hypotheses of each sentence that are continued: up to 1024.
        width: usize,
        /// What log-probabilities are divided by, so that long hypotheses are not at a disadvantage.
        length_penalty: LengthPenalty,
    },
    /// Tokens are drawn.
    Sample {
        /// Probabilities are those of the logits divided by it: below 1 likely tokens become likelier.
        temperature: f32,
        /// Only so many of the most probable tokens are drawn.
        top_k: Option<usize>,
        /// Of these, only as many of the most probable as it takes to have this part of their
        /// probability together (Holtzman et al. 2020, arXiv:1904.09751): 1 for all.
        top_p: f32,
        /// Another seed draws other tokens.
        seed: u64,
    },
}

/// What the log-probability of a hypothesis of n tokens, the end included, is divided by. The same α
/// means different things in the two: a ranking under one says nothing about the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LengthPenalty {
    /// One.
    None,
    /// ((5 + n) / 6)^α, of GNMT (Wu et al. 2016, arXiv:1609.08144, section 7) and tensor2tensor; the
    /// paper's α is 0.6 (Attention Is All You Need, section 6.1).
    Gnmt(f32),
    /// n^α, of fairseq, Marian, `transformers` and CTranslate2; with α = 1 the mean.
    Plain(f32),
}

impl LengthPenalty {
    /// The penalty of n tokens.
    pub fn of(self, n: usize) -> f64 {
        match self {
            LengthPenalty::None => 1.0,
            LengthPenalty::Gnmt(alpha) => ((5.0 + n as f64) / 6.0).powf(f64::from(alpha)),
            LengthPenalty::Plain(alpha) => (n as f64).powf(f64::from(alpha)),
        }
    }

    /// The score of n tokens with this log-probability; that of no token is zero.
    pub fn score(self, log_probability: f64, n: usize) -> f64 {
        if n == 0 { 0.0 } else { log_probability / self.of(n) }
    }
}

/// The most tokens of a target, the end included: `per_token` for each of the source, rounded down,
/// and `plus`. It is never more than the model has positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaxLength {
    /// For each token of the source.
    pub per_token: f32,
    /// For every sentence.
    pub plus: usize,
}

impl MaxLength {
    /// So many tokens, whatever the source.
    pub fn fixed(tokens: usize) -> MaxLength {
        MaxLength { per_token: 0.0, plus: tokens }
    }

    /// The most tokens of the target of a source of this length.
    pub fn of(self, source: usize) -> usize {
        // (A float that is too large becomes the largest integer.)
        ((f64::from(self.per_token) * source as f64) as usize).saturating_add(self.plus)
    }
}

impl Default for MaxLength {
    /// The paper's: 50 more than the source (section 6.1).
    fn default() -> MaxLength {
        MaxLength { per_token: 1.0, plus: 50 }
    }
}

impl Default for DecodeOptions {
    /// The paper's beam search (section 6.1): a width of 4, α = 0.6, 50 tokens more than the source.
    fn default() -> DecodeOptions {
        DecodeOptions {
            search: Search::Beam { width: 4, length_penalty: LengthPenalty::Gnmt(0.6) },
            max_length: MaxLength::default(),
            min_length: 0,
            n_best: 1,
            attention: None,
            batch: 128,
        }
    }
}

/// The hypotheses of one sentence: more have no use, and exhaust the memory.
const MAX_WIDTH: usize = 1024;

/// No penalty known is stronger than the mean; beyond this powers would overflow.
const MAX_ALPHA: f32 = 10.0;

impl DecodeOptions {
    /// Greedy search, with what else is the default.
    pub fn greedy() -> DecodeOptions {
        DecodeOptions { search: Search::Greedy, ..DecodeOptions::default() }
    }

    /// The hypotheses of a sentence that are continued at once.
    pub(super) fn width(&self) -> usize {
        match self.search {
            Search::Greedy => 1,
            Search::Beam { width, .. } => width,
            Search::Sample { .. } => self.n_best,
        }
    }

    /// Refuses what makes no sense for any model.
    ///
    /// # Errors
    /// [`Error::InvalidOption`], with the first setting that is wrong.
    pub fn check(&self) -> Result<(), Error> {
        let from_one = |option, value: usize, most: usize| match value {
            0 => invalid(option, "at least 1", value),
            _ if value > most => invalid(option, format_args!("at most {most}"), value),
            _ => Ok(()),
        };
        from_one("batch", self.batch, usize::MAX)?;
        from_one("n_best", self.n_best, MAX_WIDTH)?;
        match self.search {
            Search::Greedy if self.n_best > 1 => {
                invalid("n_best", "1, as greedy search has one hypothesis,", self.n_best)?;
            }
            Search::Greedy => {}
            Search::Beam { width, length_penalty } => {
                from_one("width", width, MAX_WIDTH)?;
                if self.n_best > width {
                    invalid("n_best", format_args!("at most the width {width}"), self.n_best)?;
                }
                if let LengthPenalty::Gnmt(alpha) | LengthPenalty::Plain(alpha) = length_penalty
                    && !(0.0..=MAX_ALPHA).contains(&alpha)
                {
                    let expected = format_args!("an alpha from 0 to {MAX_ALPHA}");
                    invalid("length_penalty", expected, alpha)?;
                }
            }
            Search::Sample { temperature, top_k, top_p, .. } => {
                if !(temperature.is_finite() && temperature > 0.0) {
                    invalid("temperature", "a number above 0", temperature)?;
                }
                from_one("top_k", top_k.unwrap_or(1), usize::MAX)?;
                if !(top_p > 0.0 && top_p <= 1.0) {
                    invalid("top_p", "a number above 0, at most 1", top_p)?;
                }
            }
        }
        let per_token = self.max_length.per_token;
        if !(per_token.is_finite() && per_token >= 0.0) {
            invalid("max_length.per_token", "a number from 0", per_token)?;
        }
        Ok(())
    }

    /// The same, and what makes none for a model of this configuration.
    pub(super) fn check_for(&self, config: &TransformerConfig) -> Result<(), Error> {
        self.check()?;
        match self.attention {
            Some(layer) if layer >= config.decoder_layers => {
                let expected = format_args!("a layer below {}", config.decoder_layers);
                invalid("attention", expected, layer)
            }
            _ => Ok(()),
        }
    }
}

fn invalid(
    option: &'static str,
    expected: impl ToString,
    found: impl ToString,
) -> Result<(), Error> {
    Err(Error::InvalidOption { option, expected: expected.to_string(), found: found.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn penalties_by_hand() {
        assert_eq!(LengthPenalty::Gnmt(0.6).of(1), 1.0);
        assert!((LengthPenalty::Gnmt(1.0).of(19) - 4.0).abs() < 1e-12);
        assert!((LengthPenalty::Plain(0.5).of(16) - 4.0).abs() < 1e-12);
        assert_eq!(LengthPenalty::None.score(-3.0, 9), -3.0);
        assert_eq!(LengthPenalty::Plain(1.0).score(-3.0, 4), -0.75);
        assert_eq!(LengthPenalty::Plain(1.0).score(0.0, 0), 0.0);
    }

    #[test]
    fn lengths_by_hand() {
        assert_eq!(MaxLength::default().of(7), 57);
        assert_eq!(MaxLength { per_token: 1.5, plus: 1 }.of(3), 5);
        assert_eq!(MaxLength::fixed(0).of(100), 0);
        assert_eq!(MaxLength { per_token: f32::MAX, plus: 3 }.of(9), usize::MAX);
    }
}
