//! The tokens that a row of logits offers.

use std::cmp::Reverse;

use ferrite_kernels::{Level, MatMut, Ranked, log_sum_exp, share_rows_with, top_k};

/// A token and its log-probability among all tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Choice {
    pub(super) token: u32,
    pub(super) log_probability: f64,
}

/// How choices are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rule {
    /// The most probable tokens, so many.
    Best(usize),
    /// One that is drawn.
    Draw { temperature: f32, top_k: Option<usize>, top_p: f32 },
}

/// The choices of a row, the most probable first, of equal ones the smaller token first.
#[derive(Clone, Debug, Default)]
pub(super) struct Choices {
    /// What is drawn, from 0 to below 1: where in the sum of probabilities, tokens in their order.
    pub(super) fraction: f64,
    /// Whether the end is none of the choices.
    pub(super) goes_on: bool,
    pub(super) choices: Vec<Choice>,
    /// Whether the logits are the scores of a distribution.
    pub(super) is_distribution: bool,
    ranked: Vec<Ranked>,
}

/// The tokens that are never chosen, and the one that ends.
#[derive(Clone, Debug)]
pub(super) struct SpecialTokens {
    pub(super) end: u32,
    pub(super) excluded: Vec<u32>,
}

/// Makes the choices of each row of logits, which are used up; threads share the rows.
pub(super) fn choose(
    level: Level,
    logits: MatMut<'_>,
    rule: Rule,
    special: &SpecialTokens,
    rows: &mut [Choices],
) {
    share_rows_with(logits, rows, |mut logits, rows| {
        for (index, row) in rows.iter_mut().enumerate() {
            row.choose(level, logits.row_mut(index), rule, special);
        }
    });
}

impl Choices {
    fn choose(&mut self, level: Level, logits: &mut [f32], rule: Rule, special: &SpecialTokens) {
        self.choices.clear();
        // Probabilities are those of the model, of all tokens, whatever is excluded.
        let log_sum = log_sum_exp(level, logits);
        self.is_distribution = log_sum.is_finite();
        if !self.is_distribution {
            return;
        }
        special.excluded.iter().for_each(|&token| logits[token as usize] = f32::NEG_INFINITY);
        if self.goes_on {
            logits[special.end as usize] = f32::NEG_INFINITY;
        }
        let choice = |Ranked { index, value }: Ranked| Choice {
            token: index,
            log_probability: (f64::from(value) - log_sum).min(0.0),
        };
        match rule {
            Rule::Best(k) => {
                top_k(level, logits, k, &mut self.ranked);
                self.choices.extend(self.ranked.iter().copied().map(choice));
            }
            Rule::Draw { temperature, top_k, top_p } => {
                let temperature = f64::from(temperature);
                let drawn = self.draw(level, logits, temperature, top_k, f64::from(top_p));
                self.choices.extend(drawn.map(choice));
            }
        }
    }

    /// The token at `fraction` of the weights of those that may be drawn, in the order of the tokens.
    fn draw(
        &mut self,
        level: Level,
        logits: &[f32],
        temperature: f64,
        k: Option<usize>,
        top_p: f64,
    ) -> Option<Ranked> {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |value: f32| ((f64::from(value) - f64::from(max)) / temperature).exp();
        let all = (0..).zip(logits).map(|(index, &value)| Ranked { index, value });
        let all = all.filter(|one| one.value > f32::NEG_INFINITY);
        if k.is_none() && top_p == 1.0 {
            let total: f64 = all.clone().map(|one| weight(one.value)).sum();
            return pick(all, weight, self.fraction * total);
        }
        let ranked = &mut self.ranked;
        match k {
            Some(k) => {
                top_k(level, logits, k, ranked);
                if top_p < 1.0 {
                    let total: f64 = ranked.iter().map(|one| weight(one.value)).sum();
                    let kept = nucleus(ranked, weight, top_p * total).unwrap_or(ranked.len());
                    ranked.truncate(kept);
                }
            }
            None => {
                // Few tokens have most of the probability, as a rule.
                let enough = top_p * all.map(|one| weight(one.value)).sum::<f64>();
                for k in [64, 1024, logits.len()] {
                    top_k(level, logits, k, ranked);
                    if let Some(kept) = nucleus(ranked, weight, enough) {
                        ranked.truncate(kept);
                        break;
                    }
                }
            }
        }
        ranked.sort_unstable_by_key(|one| one.index);
        let total: f64 = ranked.iter().map(|one| weight(one.value)).sum();
        pick(ranked.iter().copied(), weight, self.fraction * total)
    }
}

/// How many of the first tokens it takes to have `enough` weight together, if they have it.
fn nucleus(ranked: &[Ranked], weight: impl Fn(f32) -> f64, enough: f64) -> Option<usize> {
    let mut sum = 0.0;
    let reached = |one: &Ranked| {
        sum += weight(one.value);
        sum >= enough
    };
    ranked.iter().position(reached).map(|last| last + 1)
}

/// The first token with which the sum of weights exceeds `at`; the last if rounding leaves none.
fn pick(
    tokens: impl Iterator<Item = Ranked>,
    weight: impl Fn(f32) -> f64,
    at: f64,
) -> Option<Ranked> {
    let (mut sum, mut last) = (0.0, None);
    for one in tokens {
        let weight = weight(one.value);
        sum += weight;
        if sum > at {
            return Some(one);
        }
        // What weighs nothing is not drawn, not even as the last.
        last = if weight > 0.0 { Some(one) } else { last };
    }
    last
}

impl SpecialTokens {
    /// The end, and of those before it none: a token that ends is never excluded.
    pub(super) fn new(end: u32, excluded: impl IntoIterator<Item = u32>, rows: usize) -> Self {
        let mut excluded: Vec<u32> =
            excluded.into_iter().filter(|&id| id != end && (id as usize) < rows).collect();
        excluded.sort_unstable_by_key(|&id| Reverse(id));
        excluded.dedup();
        SpecialTokens { end, excluded }
    }
}

#[cfg(test)]
mod tests {
    use ferrite_kernels::Matrix;

    use super::*;

    const SPECIAL: fn() -> SpecialTokens = || SpecialTokens::new(2, [0, 1, 2, 99, 1], 6);

    fn chosen(logits: &[f32], rule: Rule, fraction: f64, goes_on: bool) -> Choices {
        let mut logits = Matrix::from_slice(1, logits.len(), logits);
        let mut rows = [Choices { fraction, goes_on, ..Choices::default() }];
        choose(Level::current(), logits.view_mut(), rule, &SPECIAL(), &mut rows);
        let [row] = rows;
        row
    }

    fn tokens(of: &Choices) -> Vec<u32> {
        of.choices.iter().map(|choice| choice.token).collect()
    }

    const LOGITS: [f32; 6] = [9.0, 8.0, 3.0, 1.0, 2.0, 2.0];

    #[test]
    fn what_is_excluded_is_not_chosen_and_keeps_its_probability() {
        assert_eq!(SPECIAL().excluded, [1, 0]);
        let best = chosen(&LOGITS, Rule::Best(9), 0.0, false);
        assert_eq!(tokens(&best), [2, 4, 5, 3]);
        let sum: f64 = LOGITS.iter().map(|&x| f64::from(x).exp()).sum();
        assert!((best.choices[0].log_probability - (3.0 - sum.ln())).abs() < 1e-6);
        assert_eq!(tokens(&chosen(&LOGITS, Rule::Best(2), 0.0, true)), [4, 5]);
    }

    /// 2, 3, 4 and 5 have the weights e³, e, e² and e²: 20.1, 2.7, 7.4, 7.4 of 37.6.
    #[test]
    fn tokens_are_drawn_by_their_weight_in_their_order() {
        let drawn = |fraction, top_k, top_p| {
            let rule = Rule::Draw { temperature: 1.0, top_k, top_p };
            tokens(&chosen(&LOGITS, rule, fraction, false))[0]
        };
        for (fraction, token) in [(0.0, 2), (0.53, 2), (0.54, 3), (0.61, 4), (0.81, 5), (0.999, 5)]
        {
            assert_eq!(drawn(fraction, None, 1.0), token, "{fraction}");
        }
        // Of 2 and 4 alone: 20.1 and 7.4.
        for (fraction, token) in [(0.0, 2), (0.73, 2), (0.74, 4), (0.999, 4)] {
            assert_eq!(drawn(fraction, Some(2), 1.0), token, "{fraction}");
            assert_eq!(drawn(fraction, None, 0.6), token, "{fraction}");
            assert_eq!(drawn(fraction, Some(3), 0.75), token, "{fraction}");
        }
        assert_eq!(drawn(0.999, None, 0.53), 2);
        assert_eq!(drawn(0.999, None, 1e-9), 2);
        assert_eq!(drawn(0.999, Some(1), 1.0), 2);
    }

    #[test]
    fn a_low_temperature_draws_the_best_and_a_high_one_any() {
        let drawn = |temperature, fraction| {
            let rule = Rule::Draw { temperature, top_k: None, top_p: 1.0 };
            tokens(&chosen(&LOGITS, rule, fraction, false))[0]
        };
        assert!((0..10).all(|i| drawn(0.01, 0.0999 * f64::from(i)) == 2));
        assert_eq!([0.1, 0.3, 0.6, 0.9].map(|fraction| drawn(1e9, fraction)), [2, 3, 4, 5]);
    }

    #[test]
    fn what_is_no_distribution_offers_nothing() {
        let draw = Rule::Draw { temperature: 1.0, top_k: None, top_p: 0.9 };
        for rule in [Rule::Best(3), draw] {
            for bad in [f32::NAN, f32::INFINITY] {
                let mut logits = LOGITS;
                logits[4] = bad;
                let row = chosen(&logits, rule, 0.0, false);
                assert!(!row.is_distribution && row.choices.is_empty());
            }
            let row = chosen(&[f32::NEG_INFINITY; 6], rule, 0.0, false);
            assert!(!row.is_distribution && row.choices.is_empty());
            // A distribution whose tokens are all excluded.
            let minus = f32::NEG_INFINITY;
            let row = chosen(&[1.0, 2.0, 3.0, minus, minus, minus], rule, 0.0, true);
            assert!(row.is_distribution && row.choices.is_empty());
        }
    }
}
