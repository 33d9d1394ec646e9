//! Decoding as its definition says it: one sentence, nothing kept from step to step, no search that
//! ends early.
#![allow(dead_code, reason = "each test uses a part")]

use ferrite_kernels::testing::Random as Numbers;
use ferrite_models::data::{Purpose, Random};
use ferrite_models::kernels::Arithmetic;
use ferrite_models::train::initialize_transformer;
use ferrite_models::transformer::{
    Batch, DecodeOptions, Hypothesis, LengthPenalty, Search, Transformer, TransformerConfig,
    Workspace,
};

pub(crate) const PAD: u32 = 0;
pub(crate) const START: u32 = 1;
pub(crate) const END: u32 = 2;

/// A small model of some kind, whose weights are larger than at the beginning of training, so that
/// it has opinions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) pre_norm: bool,
    pub(crate) tied: bool,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) vocabulary: usize,
    pub(crate) seed: u64,
}

pub(crate) const POSITIONS: usize = 24;

impl Kind {
    pub(crate) fn config(&self) -> TransformerConfig {
        let config = TransformerConfig {
            d_model: 12 * self.heads,
            encoder_layers: self.layers,
            decoder_layers: self.layers,
            encoder_attention_heads: self.heads,
            decoder_attention_heads: self.heads,
            encoder_ffn_dim: 30,
            decoder_ffn_dim: 35,
            max_position_embeddings: POSITIONS,
            share_encoder_decoder_embeddings: self.tied,
            tie_word_embeddings: self.tied,
            generator_bias: !self.tied,
            ..TransformerConfig::base(self.vocabulary)
        };
        if self.pre_norm { config.pre_norm() } else { config }
    }

    pub(crate) fn model(&self, arithmetic: impl Into<Arithmetic>) -> Transformer {
        let config = self.config();
        let mut parameters = initialize_transformer(&config, self.seed);
        parameters.values_mut().iter_mut().for_each(|x| *x *= 1.5);
        Transformer::new(arithmetic, config, &parameters).unwrap()
    }

    /// Sentences of some lengths, the empty one among them.
    pub(crate) fn sources(&self, count: usize) -> Vec<Vec<u32>> {
        let mut numbers = Numbers::new(self.seed ^ 0x5eed);
        let sentence = |numbers: &mut Numbers| {
            let length = numbers.below(9);
            (0..length).map(|_| numbers.below(self.vocabulary) as u32).collect()
        };
        (0..count).map(|_| sentence(&mut numbers)).collect()
    }
}

/// What a naive search found, and how near it came to finding something else.
pub(crate) struct Found {
    pub(crate) hypotheses: Vec<Hypothesis>,
    /// The smallest difference between two numbers of which the larger was chosen.
    pub(crate) margin: f64,
}

/// Decodes one sentence.
pub(crate) struct Naive<'a> {
    pub(crate) model: &'a Transformer,
    pub(crate) source: &'a [u32],
    pub(crate) options: DecodeOptions,
}

/// Tokens and their log-probability.
type Prefix = (Vec<u32>, f64);

impl Naive<'_> {
    pub(crate) fn run(&self) -> Found {
        match self.options.search {
            Search::Greedy => self.greedy(),
            Search::Beam { width, length_penalty } => self.beam(width, length_penalty),
            Search::Sample { .. } => self.samples(),
        }
    }

    fn max_length(&self) -> usize {
        self.options.max_length.of(self.source.len()).min(POSITIONS)
    }

    /// The log-probabilities of what follows a prefix: a pass over all of it.
    fn log_probabilities(&self, tokens: &[u32]) -> Vec<f64> {
        let mut target = tokens.to_vec();
        target.push(END);
        let mut batch = Batch::default();
        batch.push(self.source, &target, START);
        let mut workspace = Workspace::default();
        let logits = self.model.forward(&batch, &mut workspace).unwrap();
        let logits: Vec<f64> = logits.row(tokens.len()).iter().map(|&x| f64::from(x)).collect();
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|x| (x - max).exp()).sum();
        logits.iter().map(|x| x - max - sum.ln()).collect()
    }

    /// The tokens that may follow so many others.
    fn allowed(&self, before: usize) -> Vec<u32> {
        let vocabulary = self.model.config().target_vocab_size() as u32;
        (0..vocabulary)
            .filter(|&token| token != PAD && token != START)
            .filter(|&token| token != END || before >= self.options.min_length)
            .collect()
    }

    fn greedy(&self) -> Found {
        let (mut tokens, mut sum, mut margin) = (Vec::new(), 0.0, f64::INFINITY);
        let mut is_finished = false;
        while tokens.len() < self.max_length() && !is_finished {
            let log_p = self.log_probabilities(&tokens);
            let mut ranked = self.allowed(tokens.len());
            ranked.sort_by(|&a, &b| log_p[b as usize].total_cmp(&log_p[a as usize]));
            if let [first, second, ..] = ranked[..] {
                margin = f64::min(margin, log_p[first as usize] - log_p[second as usize]);
            }
            sum += log_p[ranked[0] as usize];
            match ranked[0] {
                END => is_finished = true,
                token => tokens.push(token),
            }
        }
        Found { hypotheses: vec![hypothesis((tokens, sum), sum, is_finished)], margin }
    }

    fn beam(&self, width: usize, penalty: LengthPenalty) -> Found {
        let mut margin = f64::INFINITY;
        let mut live: Vec<Prefix> = vec![(Vec::new(), 0.0)];
        let mut finished = Vec::new();
        for length in 1..=self.max_length() {
            let mut candidates = Vec::new();
            for (h, (tokens, sum)) in live.iter().enumerate() {
                let log_p = self.log_probabilities(tokens);
                for token in self.allowed(tokens.len()) {
                    candidates.push((sum + log_p[token as usize], h, token));
                }
            }
            if candidates.is_empty() {
                break;
            }
            candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
            for pair in candidates.windows(2).take(2 * width + 1) {
                margin = margin.min(pair[0].0 - pair[1].0);
            }
            for &(sum, h, token) in candidates.iter().take(width) {
                if token == END {
                    let score = penalty.score(sum, length);
                    finished.push(hypothesis((live[h].0.clone(), sum), score, true));
                }
            }
            let go_on = candidates.iter().filter(|(_, _, token)| *token != END).take(width);
            live = go_on
                .map(|&(sum, h, token)| {
                    let mut tokens = live[h].0.clone();
                    tokens.push(token);
                    (tokens, sum)
                })
                .collect();
        }
        finished.sort_by(|a, b| b.score.total_cmp(&a.score));
        for pair in finished.windows(2).take(self.options.n_best) {
            margin = margin.min(pair[0].score - pair[1].score);
        }
        let unfinished = live.into_iter().map(|(tokens, sum)| {
            let score = penalty.score(sum, tokens.len());
            hypothesis((tokens, sum), score, false)
        });
        finished.extend(unfinished);
        finished.truncate(self.options.n_best);
        Found { hypotheses: finished, margin }
    }

    fn samples(&self) -> Found {
        let mut margin = f64::INFINITY;
        let mut drawn: Vec<Hypothesis> =
            (0..self.options.n_best).map(|draw| self.sample(draw as u64, &mut margin)).collect();
        // (Draws of one length end together, in their order.)
        drawn.sort_by_key(|one| one.tokens.len() + usize::from(one.is_finished));
        drawn.sort_by(|a, b| b.score.total_cmp(&a.score));
        drawn.sort_by_key(|one| !one.is_finished);
        for pair in drawn.windows(2).filter(|pair| pair[0].tokens != pair[1].tokens) {
            margin = margin.min((pair[0].score - pair[1].score).abs());
        }
        Found { hypotheses: drawn, margin }
    }

    fn sample(&self, draw: u64, margin: &mut f64) -> Hypothesis {
        let Search::Sample { temperature, top_k, top_p, seed } = self.options.search else {
            panic!("not a search that draws")
        };
        let (temperature, top_p) = (f64::from(temperature), f64::from(top_p));
        let mut random = Random::new(seed, Purpose::Tokens, name(self.source), draw);
        let (mut tokens, mut sum) = (Vec::new(), 0.0);
        while tokens.len() < self.max_length() {
            let log_p = self.log_probabilities(&tokens);
            let p = |token: u32| (log_p[token as usize] / temperature).exp();
            let mut kept = self.allowed(tokens.len());
            kept.sort_by(|&a, &b| p(b).total_cmp(&p(a)));
            let k = top_k.unwrap_or(kept.len()).min(kept.len());
            if k < kept.len() {
                *margin = margin.min(log_p[kept[k - 1] as usize] - log_p[kept[k] as usize]);
            }
            kept.truncate(k);
            let total: f64 = kept.iter().map(|&token| p(token)).sum();
            if top_p < 1.0 {
                let (mut so_far, mut nucleus) = (0.0, 0);
                while so_far < top_p * total && nucleus < kept.len() {
                    so_far += p(kept[nucleus]);
                    nucleus += 1;
                    *margin = margin.min((so_far / total - top_p).abs());
                }
                if let Some(&next) = kept.get(nucleus) {
                    let last = kept[nucleus - 1];
                    *margin = margin.min(log_p[last as usize] - log_p[next as usize]);
                }
                kept.truncate(nucleus);
            }
            kept.sort();
            let total: f64 = kept.iter().map(|&token| p(token)).sum();
            let fraction = random.fraction();
            let (mut so_far, mut chosen) = (0.0, None);
            for &token in &kept {
                so_far += p(token) / total;
                *margin = margin.min((so_far - fraction).abs());
                if chosen.is_none() && so_far > fraction {
                    chosen = Some(token);
                }
            }
            let token = chosen.unwrap_or(kept[kept.len() - 1]);
            sum += log_p[token as usize];
            if token == END {
                return hypothesis((tokens, sum), sum, true);
            }
            tokens.push(token);
        }
        hypothesis((tokens, sum), sum, false)
    }
}

fn hypothesis((tokens, log_probability): Prefix, score: f64, is_finished: bool) -> Hypothesis {
    Hypothesis { tokens, score, log_probability, is_finished, attention: None }
}

/// The name of a sentence's random numbers: FNV-1a of its ids, each as eight little-endian bytes.
fn name(source: &[u32]) -> u64 {
    let bytes = source.iter().flat_map(|&id| u64::from(id).to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
