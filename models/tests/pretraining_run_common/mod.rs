//! A small run of pre-training, and what it comes to.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ferrite_models::bert::BertConfig;
use ferrite_models::data::{
    BatchSize, Corpus, InstanceOptions, MaskingOptions, PretrainingOptions,
};
use ferrite_models::kernels::{Arithmetic, Level, Precision};
use ferrite_models::tokenizer::Tokenizer;
use ferrite_models::train::{Evaluation, PretrainingRun, RunError, RunOptions, TrainerOptions};
use serde_json::Value;

use crate::pretraining_common::{Files, tokenizer};

pub(crate) const STEPS: u64 = 12;
/// Steps from one checkpoint to the next, where a run saves by itself.
pub(crate) const SAVE_EVERY: u64 = 4;

/// A corpus and a vocabulary.
pub(crate) struct Setting {
    pub(crate) files: Files,
    pub(crate) corpus: Arc<Corpus>,
    pub(crate) tokenizer: Arc<Tokenizer>,
}

pub(crate) fn words() -> Vec<String> {
    (0..70).map(|n| format!("w{n}")).collect()
}

pub(crate) fn text() -> String {
    let words = words();
    let sentence = |document: usize, number: usize| {
        let word = |place: usize| words[(document * 7 + number * 3 + place * place) % 70].as_str();
        (0..3 + (document + number) % 6).map(word).collect::<Vec<_>>().join(" ")
    };
    let document = |document: usize| {
        let sentences = (0..4 + document % 5).map(|number| sentence(document, number));
        sentences.collect::<Vec<_>>().join("\n")
    };
    (0..40).map(document).collect::<Vec<_>>().join("\n\n")
}

impl Setting {
    pub(crate) fn new() -> Setting {
        let files = Files::new([text()]);
        let corpus = files.corpus();
        Setting { files, corpus, tokenizer: tokenizer(words()) }
    }

    pub(crate) fn start(
        &self,
        folder: &Path,
        options: &RunOptions,
    ) -> Result<PretrainingRun, RunError> {
        let (corpus, tokenizer) = (self.corpus.clone(), self.tokenizer.clone());
        PretrainingRun::start(folder, options.clone(), corpus, tokenizer)
    }

    pub(crate) fn resume(
        &self,
        folder: &Path,
        options: &RunOptions,
    ) -> Result<PretrainingRun, RunError> {
        let (corpus, tokenizer) = (self.corpus.clone(), self.tokenizer.clone());
        PretrainingRun::resume(folder, options.clone(), corpus, tokenizer)
    }
}

/// A small model with dropout; an epoch of the data ends within the run.
pub(crate) fn options(precision: Precision, accumulate: usize) -> RunOptions {
    let mut config = BertConfig::default();
    config.vocab_size = 75;
    config.hidden_size = 32;
    config.num_hidden_layers = 1;
    config.num_attention_heads = 2;
    config.intermediate_size = 64;
    config.max_position_embeddings = 32;
    RunOptions {
        arithmetic: Arithmetic::new(Level::current(), precision),
        config,
        trainer: TrainerOptions { seed: 7, ..TrainerOptions::new(1e-2, STEPS) },
        data: PretrainingOptions {
            held_out: 0.2,
            shard_documents: 12,
            batch: BatchSize::Sequences(6),
            instances: InstanceOptions { max_seq_length: 24, ..InstanceOptions::default() },
            masking: MaskingOptions { max_predictions: 4, ..MaskingOptions::default() },
            ..PretrainingOptions::default()
        },
        accumulate,
        evaluation_batches: 2,
    }
}

/// Steps up to `until`, with an evaluation after every third and checkpoints.
pub(crate) fn steps(run: &mut PretrainingRun, until: u64) {
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
    pub(crate) evaluation: Evaluation,
    pub(crate) log: Vec<Value>,
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

pub(crate) fn end(run: &mut PretrainingRun, folder: &Path) -> End {
    steps(run, STEPS);
    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let optimizer = run.trainer().optimizer();
    let moments = [bits(optimizer.m.values()), bits(optimizer.v.values())].concat();
    let parameters = bits(run.trainer().parameters().values());
    End { parameters, moments, evaluation: run.evaluate().unwrap(), log: log(folder) }
}

pub(crate) fn straight(setting: &Setting, options: &RunOptions) -> End {
    let folder = tempfile::tempdir().unwrap();
    let mut run = setting.start(folder.path(), options).unwrap();
    end(&mut run, folder.path())
}

pub(crate) fn in_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}
