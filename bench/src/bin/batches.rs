//! Writes the batches that `ferrite pretrain` reads, one object of JSON a line: for
//! `bench/peers/pretraining.py`, which gives PyTorch the same.
//!
//! ```text
//! batches --corpus FILE --vocab DIR --batch 32 --max-length 64 --seed 1 --steps 400
//!         [--held-out 0.02] [--evaluation-batches 50]
//! ```
//!
//! First those of the held-out documents, then those of the steps.

use std::error::Error;
use std::io::{BufWriter, Write, stdout};
use std::path::PathBuf;
use std::sync::Arc;

use ferrite_models::data::{
    BatchSize, Corpus, CorpusOptions, InstanceOptions, MaskingOptions, PretrainingBatch,
    PretrainingBatches, PretrainingOptions,
};
use ferrite_models::tokenizer::Tokenizer;
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut corpus, mut vocab) = (PathBuf::new(), PathBuf::new());
    let (mut batch, mut max_seq_length, mut steps, mut evaluation) = (32, 64, 400, 50);
    let mut options = PretrainingOptions { held_out: 0.02, seed: 1, ..Default::default() };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--corpus" => corpus = value.into(),
            "--vocab" => vocab = value.into(),
            "--batch" => batch = value.parse()?,
            "--max-length" => max_seq_length = value.parse()?,
            "--seed" => options.seed = value.parse()?,
            "--steps" => steps = value.parse()?,
            "--held-out" => options.held_out = value.parse()?,
            "--evaluation-batches" => evaluation = value.parse()?,
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    options.batch = BatchSize::Sequences(batch);
    options.instances = InstanceOptions { max_seq_length, ..InstanceOptions::default() };
    let max_predictions = MaskingOptions::predictions_of(max_seq_length);
    options.masking = MaskingOptions { max_predictions, ..MaskingOptions::default() };
    let corpus = Arc::new(Corpus::open(&[corpus], CorpusOptions::default())?);
    let tokenizer = Arc::new(Tokenizer::from_pretrained(&vocab)?);
    let mut out = BufWriter::new(stdout().lock());
    let held_out = PretrainingBatches::held_out(corpus.clone(), tokenizer.clone(), options)?;
    for batch in held_out.take(evaluation) {
        writeln!(out, "{}", object("held_out", &batch?))?;
    }
    for batch in PretrainingBatches::new(corpus, tokenizer, options)?.take(steps) {
        writeln!(out, "{}", object("training", &batch?))?;
    }
    Ok(out.flush()?)
}

fn object(part: &str, of: &PretrainingBatch) -> serde_json::Value {
    let parts = |all: &[u32]| -> Vec<Vec<u32>> {
        of.batch.sequences().iter().map(|rows| all[rows].to_vec()).collect()
    };
    json!({
        "part": part,
        "ids": parts(of.batch.ids()),
        "types": parts(of.batch.type_ids()),
        "positions": of.positions,
        "targets": of.targets,
        "next": of.next_sentence,
    })
}
