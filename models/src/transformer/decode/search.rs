//! The search for the target of one sentence.

use std::cmp::Ordering;

use ferrite_kernels::Matrix;

use super::choice::{Choices, SpecialTokens};
use super::options::{DecodeOptions, LengthPenalty, Search};
use super::prefixes::Prefixes;
use crate::data::{Hasher, Purpose, Random};

/// A target that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// Its tokens, without start and end.
    pub tokens: Vec<u32>,
    /// What hypotheses are ranked by: the log-probability divided by the length penalty of a beam,
    /// the log-probability itself otherwise.
    pub score: f64,
    /// The sum of the log-probabilities of its tokens, that of the end included, in the model's own
    /// distribution: of all tokens, at a temperature of 1.
    pub log_probability: f64,
    /// Whether it ends with the end. If not, it is as long as a target may be, or nothing could follow.
    pub is_finished: bool,
    /// If asked for, how much of each source token each of its tokens took, the end included, in the
    /// mean of the layer's heads: (target tokens, source tokens).
    pub attention: Option<Matrix<f32>>,
}

/// A hypothesis that is continued.
#[derive(Clone, Copy, Debug)]
struct Live {
    /// Its last token, which the decoder reads next.
    node: u32,
    log_probability: f64,
    /// Which of the draws it is.
    draw: usize,
}

/// A continuation by one token.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    of: Live,
    token: u32,
    log_probability: f64,
}

/// The search for the target of one sentence, step by step.
#[derive(Clone, Debug)]
pub(super) struct SentenceSearch {
    /// Whose it is.
    pub(super) sentence: usize,
    max_length: usize,
    min_length: usize,
    n_best: usize,
    /// Of a beam; without, each hypothesis goes its own way.
    beam: Option<(usize, LengthPenalty)>,
    /// The tokens of those that are continued.
    length: usize,
    live: Vec<Live>,
    /// The best first, at most `n_best`.
    ended: Vec<Hypothesis>,
    /// One for each draw.
    random: Vec<Random>,
    candidates: Vec<Candidate>,
}

impl SentenceSearch {
    /// A search that begins with the start token, or has ended already if there is no token to come.
    pub(super) fn new(
        sentence: usize,
        source: &[u32],
        max_length: usize,
        options: &DecodeOptions,
        start: u32,
        prefixes: &mut Prefixes,
    ) -> SentenceSearch {
        let (beam, random) = match options.search {
            Search::Greedy => (None, Vec::new()),
            Search::Beam { width, length_penalty } => (Some((width, length_penalty)), Vec::new()),
            Search::Sample { seed, .. } => {
                // Numbers that belong to the sentence, not to its place among others.
                let mut hasher = Hasher::new();
                source.iter().for_each(|&id| hasher.number(id.into()));
                let name = hasher.finish().0;
                let draws = 0..options.n_best as u64;
                (None, draws.map(|n| Random::new(seed, Purpose::Tokens, name, n)).collect())
            }
        };
        let mut search = SentenceSearch {
            sentence,
            max_length,
            min_length: options.min_length,
            n_best: options.n_best,
            beam,
            length: 0,
            live: Vec::new(),
            ended: Vec::new(),
            candidates: Vec::new(),
            random,
        };
        let begun = if beam.is_some() { 1 } else { options.n_best };
        if max_length == 0 {
            (0..begun).for_each(|_| search.end(Vec::new(), 0.0, 0, false));
        } else {
            search.live.extend((0..begun).map(|draw| Live {
                node: prefixes.push_root(start),
                log_probability: 0.0,
                draw,
            }));
        }
        search
    }

    /// The nodes of the hypotheses that are continued.
    pub(super) fn nodes(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.live.iter().map(|live| live.node)
    }

    /// The tokens of each of them: the place of the next.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Whether nothing is left to continue.
    pub(super) fn is_over(&self) -> bool {
        self.live.is_empty()
    }

    /// The hypotheses that were found, the best first.
    pub(super) fn into_hypotheses(self) -> Vec<Hypothesis> {
        self.ended
    }

    /// What choices need to know, a row for each hypothesis that is continued.
    pub(super) fn prepare(&mut self, rows: &mut [Choices]) {
        for (live, row) in self.live.iter().zip(rows) {
            row.goes_on = self.length < self.min_length;
            row.fraction = self.random.get_mut(live.draw).map_or(0.0, Random::fraction);
        }
    }

    /// Continues by what the rows offer. The nodes of those that go on are added to `prefixes`.
    pub(super) fn advance(
        &mut self,
        rows: &[Choices],
        special: &SpecialTokens,
        prefixes: &mut Prefixes,
    ) {
        let (live, mut candidates) =
            (std::mem::take(&mut self.live), std::mem::take(&mut self.candidates));
        candidates.clear();
        for (&of, row) in live.iter().zip(rows) {
            candidates.extend(row.choices.iter().map(|choice| Candidate {
                of,
                token: choice.token,
                log_probability: of.log_probability + choice.log_probability,
            }));
        }
        // Where nothing can follow, hypotheses stay what they are.
        let is_stuck = |row: &Choices| row.choices.is_empty() && self.beam.is_none();
        let stuck = live.iter().zip(rows).filter(|(_, row)| candidates.is_empty() || is_stuck(row));
        for live in stuck.map(|(&live, _)| live).collect::<Vec<_>>() {
            self.end(prefixes.tokens(live.node), live.log_probability, self.length, false);
        }
        self.length += 1;
        match self.beam {
            None => candidates.retain(|one| !self.ends(one, special, prefixes)),
            Some((width, penalty)) => {
                candidates.sort_unstable_by(Candidate::order);
                let (mut rank, mut kept) = (0, 0);
                candidates.retain(|one| {
                    rank += 1;
                    // One that ends and has `width` better ones before it is no hypothesis.
                    let goes_on = kept < width
                        && if one.token != special.end {
                            true
                        } else {
                            if rank <= width {
                                self.ends(one, special, prefixes);
                            }
                            false
                        };
                    kept += usize::from(goes_on);
                    goes_on
                });
                if self.is_decided(penalty, &candidates) {
                    candidates.clear();
                }
            }
        }
        if self.length == self.max_length {
            for one in candidates.drain(..) {
                let mut tokens = prefixes.tokens(one.of.node);
                tokens.push(one.token);
                self.end(tokens, one.log_probability, self.length, false);
            }
        }
        let mut next = live;
        next.clear();
        next.extend(candidates.iter().map(|one| Live {
            node: prefixes.push(one.of.node, one.token),
            log_probability: one.log_probability,
            draw: one.of.draw,
        }));
        (self.live, self.candidates) = (next, candidates);
    }

    /// Whether a candidate ends; if so, it is finished.
    fn ends(&mut self, one: &Candidate, special: &SpecialTokens, prefixes: &Prefixes) -> bool {
        let ends = one.token == special.end;
        if ends {
            self.end(prefixes.tokens(one.of.node), one.log_probability, self.length, true);
        }
        ends
    }

    /// Adds a hypothesis of n tokens, the end included, if it is one of the best: of equals the earlier.
    fn end(&mut self, tokens: Vec<u32>, log_probability: f64, n: usize, is_finished: bool) {
        let penalty = self.beam.map_or(LengthPenalty::None, |(_, penalty)| penalty);
        let score = penalty.score(log_probability, n);
        let place =
            self.ended.partition_point(|one| (one.is_finished, one.score) >= (is_finished, score));
        if place < self.n_best {
            self.ended.truncate(self.n_best - 1);
            let attention = None;
            let one = Hypothesis { tokens, score, log_probability, is_finished, attention };
            self.ended.insert(place, one);
        }
    }

    /// Whether nothing that begins with the best of those that go on can be among the best hypotheses:
    /// log-probabilities only fall, and no penalty is above that of the longest.
    fn is_decided(&self, penalty: LengthPenalty, go_on: &[Candidate]) -> bool {
        match (self.ended.last(), go_on.first()) {
            (Some(worst), Some(best)) if self.ended.len() == self.n_best => {
                worst.score >= penalty.score(best.log_probability, self.max_length)
            }
            _ => false,
        }
    }
}

impl Candidate {
    /// The more probable first; of equals that of the better hypothesis, and then the smaller token.
    fn order(&self, other: &Candidate) -> Ordering {
        (other.log_probability.total_cmp(&self.log_probability))
            .then(self.of.node.cmp(&other.of.node))
            .then(self.token.cmp(&other.token))
    }
}
