//! A small run of translation, and what it comes to.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ferrite_kernels::testing::Random;
use ferrite_models::data::{EncodedPairs, PairBatchOptions, SpecialIds};
use ferrite_models::kernels::{Arithmetic, Level, Precision};
use ferrite_models::train::{
    Average, Evaluation, RunError, TrainerOptions, TranslationOptions, TranslationRun,
    TranslationScores,
};
use ferrite_models::transformer::TransformerConfig;
use serde_json::Value;

pub(crate) const STEPS: u64 = 12;
/// Steps from one checkpoint to the next, where a run saves by itself.
pub(crate) const SAVE_EVERY: u64 = 4;
pub(crate) const WORDS: usize = 60;

/// Sentences of random words whose translation is the words backwards, each the next but one.
pub(crate) fn pairs(number: usize, longest: usize, words: usize, seed: u64) -> EncodedPairs {
    let mut random = Random::new(seed);
    let mut pairs = EncodedPairs::default();
    for line in 0..number {
        let length = 1 + random.below(longest);
        let source: Vec<u32> = (0..length).map(|_| 3 + random.below(words - 5) as u32).collect();
        let target: Vec<u32> = source.iter().rev().map(|id| id + 2).collect();
        pairs.push(&source, &target, line as u64 + 1);
    }
    pairs
}

pub(crate) fn config() -> TransformerConfig {
    let mut config = TransformerConfig::tiny(WORDS);
    (config.d_model, config.encoder_ffn_dim, config.decoder_ffn_dim) = (32, 64, 48);
    (config.encoder_attention_heads, config.decoder_attention_heads) = (2, 4);
    (config.encoder_layers, config.decoder_layers) = (1, 2);
    config.max_position_embeddings = 32;
    config
}

/// A small model with dropout; an epoch of the data ends within the run.
pub(crate) fn options(precision: Precision, accumulate: usize) -> TranslationOptions {
    let config = config();
    TranslationOptions {
        arithmetic: Arithmetic::new(Level::current(), precision),
        trainer: TrainerOptions { seed: 7, ..TrainerOptions::transformer(32, 6, STEPS) },
        data: PairBatchOptions {
            seed: 3,
            tokens: 90,
            max_source_tokens: 12,
            max_target_tokens: 12,
            window: 30,
            ..PairBatchOptions::new(SpecialIds::from(&config))
        },
        config,
        accumulate,
        evaluation_batches: 3,
        average: Some(Average { last: 3, every: 3 }),
    }
}

/// Pairs to train on and others.
pub(crate) struct Setting {
    pub(crate) pairs: Arc<EncodedPairs>,
    pub(crate) held_out: Arc<EncodedPairs>,
}

impl Setting {
    pub(crate) fn new() -> Setting {
        Setting {
            pairs: Arc::new(pairs(100, 14, WORDS, 1)),
            held_out: Arc::new(pairs(40, 14, WORDS, 2)),
        }
    }

    pub(crate) fn start(
        &self,
        folder: &Path,
        options: &TranslationOptions,
    ) -> Result<TranslationRun, RunError> {
        let (pairs, held_out) = (self.pairs.clone(), self.held_out.clone());
        TranslationRun::start(folder, options.clone(), pairs, held_out)
    }

    pub(crate) fn resume(
        &self,
        folder: &Path,
        options: &TranslationOptions,
    ) -> Result<TranslationRun, RunError> {
        let (pairs, held_out) = (self.pairs.clone(), self.held_out.clone());
        TranslationRun::resume(folder, options.clone(), pairs, held_out)
    }
}

/// Steps up to `until`, with an evaluation after every third and checkpoints.
pub(crate) fn steps(run: &mut TranslationRun, until: u64) {
    while run.steps() < until {
        let record = run.step().unwrap();
        if record.step.is_multiple_of(3) {
            run.evaluate().unwrap();
        }
        if record.step.is_multiple_of(SAVE_EVERY) {
            run.save().unwrap();
        }
    }
}

/// What a run comes to: all of it.
#[derive(Debug, PartialEq)]
pub(crate) struct End {
    pub(crate) parameters: Vec<u32>,
    pub(crate) moments: Vec<u32>,
    pub(crate) evaluations: Vec<Evaluation<TranslationScores>>,
    pub(crate) log: Vec<Value>,
    pub(crate) exported: Vec<u8>,
}

pub(crate) fn log(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("log.jsonl")).unwrap();
    assert!(text.ends_with('\n'));
    text.lines()
        .map(|line| {
            let mut record: Value = serde_json::from_str(line).unwrap();
            record.as_object_mut().unwrap().remove("seconds");
            record
        })
        .collect()
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

pub(crate) fn end(run: &mut TranslationRun, folder: &Path) -> End {
    steps(run, STEPS);
    let optimizer = run.trainer().optimizer();
    let moments = [bits(optimizer.m.values()), bits(optimizer.v.values())].concat();
    let parameters = bits(run.trainer().parameters().values());
    let evaluations = [Some(run.evaluate().unwrap()), run.evaluate_average().unwrap()];
    // The mean has not stayed in the model.
    assert_eq!(run.evaluate().unwrap(), evaluations[0].unwrap());
    run.export().unwrap();
    let exported = fs::read(folder.join("model.safetensors")).unwrap();
    let evaluations = evaluations.into_iter().flatten().collect();
    End { parameters, moments, evaluations, log: log(folder), exported }
}

pub(crate) fn straight(setting: &Setting, options: &TranslationOptions) -> End {
    let folder = tempfile::tempdir().unwrap();
    let mut run = setting.start(folder.path(), options).unwrap();
    end(&mut run, folder.path())
}

pub(crate) fn in_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}
