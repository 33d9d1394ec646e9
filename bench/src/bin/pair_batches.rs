//! Writes the batches that `ferrite translate train` reads, one object of JSON a line: for
//! `bench/peers/translation.py`, which gives PyTorch the same.
//!
//! ```text
//! pair_batches --pairs FILE.tsv --vocab DIR --tokens 4096 --max-length 256 --seed 1 --steps 400
//! ```
//!
//! A batch is `{"sources": [[..], ..], "targets": [[..], ..]}`: the ids of the sentences, each with its
//! end. With `--steps 0` it is the batches of one epoch: to evaluate on.

use std::error::Error;
use std::io::{BufWriter, Write, stdout};
use std::path::PathBuf;
use std::sync::Arc;

use ferrite_models::data::{
    EncodedPairs, PairBatch, PairBatchOptions, PairBatches, PairFiles, PairOptions, Pairs,
    SpecialIds,
};
use ferrite_models::kernels::Segments;
use ferrite_models::tokenizer::{EncodeOptions, Tokenizer};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut pairs, mut vocab) = (PathBuf::new(), PathBuf::new());
    let (mut tokens, mut longest, mut seed, mut steps) = (4096, 256, 1, 400);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--pairs" => pairs = value.into(),
            "--vocab" => vocab = value.into(),
            "--tokens" => tokens = value.parse()?,
            "--max-length" => longest = value.parse()?,
            "--seed" => seed = value.parse()?,
            "--steps" => steps = value.parse()?,
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    let tokenizer = Tokenizer::from_pretrained(&vocab)?;
    let special = |id: Option<u32>| id.ok_or("a vocabulary with [CLS] and [SEP] is needed");
    let (start, end) = (special(tokenizer.cls_id())?, special(tokenizer.sep_id())?);
    let options = PairBatchOptions {
        seed,
        tokens,
        max_source_tokens: longest,
        max_target_tokens: longest,
        ..PairBatchOptions::new(SpecialIds {
            source_end: end,
            target_start: start,
            target_end: end,
        })
    };
    let pairs = Arc::new(encoded(pairs, &tokenizer)?);
    let mut batches = PairBatches::new(pairs, options)?;
    let mut out = BufWriter::new(stdout().lock());
    let mut written = 0;
    while written < steps || steps == 0 && batches.position().epoch == 0 {
        let batch = batches.next().expect("there is no last one");
        writeln!(out, "{}", object(&batch))?;
        written += 1;
    }
    Ok(out.flush()?)
}

/// The tokens of all lines that are pairs.
fn encoded(path: PathBuf, tokenizer: &Tokenizer) -> Result<EncodedPairs, Box<dyn Error>> {
    let options = EncodeOptions { add_special_tokens: false, ..EncodeOptions::default() };
    let mut encoded = EncodedPairs::default();
    for entry in Pairs::open(&PairFiles::Tsv(path), PairOptions::default())? {
        if let Ok(pair) = entry? {
            let source = tokenizer.encode(&pair.source, None, &options)?;
            let target = tokenizer.encode(&pair.target, None, &options)?;
            encoded.push(&source.ids, &target.ids, pair.line);
        }
    }
    Ok(encoded)
}

fn object(of: &PairBatch) -> serde_json::Value {
    let parts = |ids: &[u32], sentences: &Segments| -> Vec<Vec<u32>> {
        sentences.iter().map(|rows| ids[rows].to_vec()).collect()
    };
    json!({
        "sources": parts(&of.source_ids, &of.sources),
        "targets": parts(&of.target_output_ids, &of.targets),
    })
}
