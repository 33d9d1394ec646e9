//! Decoding finds what its definition says: the same tokens and scores as naive searches without a
//! cache, one sentence at a time.

mod decoding_common;

use decoding_common::{Found, Kind, Naive};
use ferrite_kernels::testing::{Random, for_each_arithmetic};
use ferrite_models::kernels::{Arithmetic, Level, Precision};
use ferrite_models::transformer::{
    DecodeOptions, DecodeWorkspace, LengthPenalty, MaxLength, Search, Transformer,
};

/// A kind of model, by number: all combinations in turn.
fn kind(n: u64) -> Kind {
    Kind {
        pre_norm: n % 2 == 1,
        tied: n / 2 % 2 == 1,
        layers: 1 + (n / 4 % 2) as usize,
        heads: 1 + (n % 3) as usize,
        vocabulary: [6, 9, 15, 40, 200][(n % 5) as usize],
        seed: n,
    }
}

/// Compares what is found for some sentences with what is found naively, and counts those that
/// cannot be compared, since two numbers are too near to each other.
struct Comparison {
    /// Below this margin two searches may choose otherwise.
    margin: f64,
    /// How much scores may differ.
    tolerance: f64,
    compared: usize,
    near_ties: usize,
    finished: usize,
}

impl Comparison {
    fn of(arithmetic: Arithmetic) -> Comparison {
        // A pass over a whole prefix has heads in bf16, and in int8 a last bit may move a rounding to
        // the next of 255 integers.
        let (margin, tolerance) = match arithmetic.precision() {
            Precision::F32 => (1e-5, 1e-4),
            _ => (0.05, 0.2),
        };
        Comparison { margin, tolerance, compared: 0, near_ties: 0, finished: 0 }
    }

    fn compare(&mut self, model: &Transformer, sources: &[Vec<u32>], options: DecodeOptions) {
        let mut workspace = DecodeWorkspace::default();
        let found = model.translate(sources, &options, &mut workspace).unwrap();
        for (source, found) in sources.iter().zip(found) {
            let Found { hypotheses, margin } = Naive { model, source, options }.run();
            if margin < self.margin {
                self.near_ties += 1;
                continue;
            }
            self.compared += 1;
            let tokens = |of: &[ferrite_models::transformer::Hypothesis]| -> Vec<_> {
                of.iter().map(|one| (one.tokens.clone(), one.is_finished)).collect()
            };
            let case =
                || format!("{source:?} {options:?} {} margin {margin:e}", model.arithmetic());
            assert_eq!(tokens(&found), tokens(&hypotheses), "{}", case());
            for (one, naive) in found.iter().zip(&hypotheses) {
                let longest = (one.tokens.len() + 1) as f64;
                let limit = self.tolerance * longest;
                let (score, sum) =
                    (one.score - naive.score, one.log_probability - naive.log_probability);
                assert!(score.abs() < limit && sum.abs() < limit, "{score} {sum} {}", case());
                self.finished += usize::from(one.is_finished);
            }
        }
    }

    fn report(&self, name: &str, least: usize) {
        let Comparison { compared, near_ties, finished, .. } = self;
        println!("{name}: {compared} compared, {near_ties} near ties, {finished} finished");
        assert!(*compared >= least, "{name}: {compared} compared, {near_ties} near ties");
    }
}

fn max_length(n: u64) -> MaxLength {
    [
        MaxLength::fixed(1),
        MaxLength::fixed(7),
        MaxLength { per_token: 1.5, plus: 3 },
        MaxLength::default(),
    ][(n % 4) as usize]
}

fn beams(n: u64) -> DecodeOptions {
    let mut random = Random::new(n);
    let width = [1, 2, 3, 4, 4, 6, 50][random.below(7)];
    let alpha = [0.0, 0.3, 0.6, 1.0, 2.0][random.below(5)];
    let length_penalty =
        [LengthPenalty::None, LengthPenalty::Gnmt(alpha), LengthPenalty::Plain(alpha)]
            [random.below(3)];
    DecodeOptions {
        search: Search::Beam { width, length_penalty },
        n_best: 1 + random.below(width.min(5)),
        min_length: [0, 0, 3][random.below(3)],
        max_length: max_length(n),
        batch: 1 + random.below(40),
        ..DecodeOptions::default()
    }
}

fn draws(n: u64) -> DecodeOptions {
    let mut random = Random::new(n);
    DecodeOptions {
        search: Search::Sample {
            temperature: [1.0, 0.5, 2.0][random.below(3)],
            top_k: [None, Some(1), Some(3), Some(100)][random.below(4)],
            top_p: [1.0, 0.9, 0.5][random.below(3)],
            seed: n,
        },
        n_best: 1 + random.below(3),
        min_length: [0, 2][random.below(2)],
        max_length: max_length(n),
        batch: 1 + random.below(10),
        ..DecodeOptions::default()
    }
}

#[test]
fn greedy_search_finds_what_the_definition_says() {
    let mut comparison = Comparison::of(Level::current().into());
    for n in 0..60 {
        let model = kind(n).model(Level::current());
        let options = DecodeOptions { max_length: max_length(n), ..DecodeOptions::greedy() };
        comparison.compare(&model, &kind(n).sources(6), options);
    }
    comparison.report("greedy", 340);
}

#[test]
fn beams_find_what_the_definition_says() {
    let mut comparison = Comparison::of(Level::current().into());
    for n in 0..150 {
        let model = kind(n).model(Level::current());
        comparison.compare(&model, &kind(n).sources(4), beams(n));
    }
    comparison.report("beams", 500);
    assert!(comparison.finished > 300);
}

#[test]
fn draws_are_what_the_definition_says() {
    let mut comparison = Comparison::of(Level::current().into());
    for n in 0..150 {
        let model = kind(n).model(Level::current());
        comparison.compare(&model, &kind(n).sources(4), draws(n));
    }
    comparison.report("draws", 500);
    assert!(comparison.finished > 300);
}

#[test]
fn every_arithmetic_finds_what_the_definition_says() {
    for_each_arithmetic(|arithmetic| {
        let mut comparison = Comparison::of(arithmetic);
        for n in 0..20 {
            let model = kind(n).model(arithmetic);
            let sources = kind(n).sources(4);
            let greedy =
                DecodeOptions { max_length: MaxLength::fixed(6), ..DecodeOptions::greedy() };
            for options in [greedy, beams(n), draws(n)] {
                comparison.compare(&model, &sources, options);
            }
        }
        let least = if arithmetic.precision() == Precision::F32 { 200 } else { 20 };
        comparison.report(&arithmetic.to_string(), least);
    });
}

/// A model without weights: all tokens are equally likely, so that all is decided by the order of
/// equals.
#[test]
fn ties_are_broken_as_the_definition_says() {
    for n in 0..20 {
        let config = kind(n).config();
        let parameters = config.zeros();
        let model = Transformer::new(Level::current(), config, &parameters).unwrap();
        let mut comparison = Comparison { margin: -1.0, ..Comparison::of(Level::current().into()) };
        for options in [DecodeOptions::greedy(), beams(n)] {
            comparison.compare(&model, &kind(n).sources(2), options);
        }
    }
}

#[test]
fn a_beam_of_one_without_a_penalty_is_greedy() {
    let search = Search::Beam { width: 1, length_penalty: LengthPenalty::None };
    for n in 0..20 {
        let model = kind(n).model(Level::current());
        let sources = kind(n).sources(8);
        let found = [DecodeOptions::greedy(), DecodeOptions { search, ..DecodeOptions::default() }]
            .map(|options| {
                model.translate(&sources, &options, &mut DecodeWorkspace::default()).unwrap()
            });
        assert_eq!(found[0], found[1]);
    }
}
