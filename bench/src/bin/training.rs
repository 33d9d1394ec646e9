//! Times steps of pre-training a BERT-base with random weights and prints them as one line of JSON:
//! the Ferrite side of `bench/peers/training.py`.
//!
//! ```text
//! training --shape 16x128 [--threads 2] [--steps 3] [--precision f32|bf16] [--level avx512]
//!          [--layers 12]
//! ```
//!
//! A step is forward, backward, clipping and AdamW; the masked-LM head runs at the 15 % masked
//! positions. Dropout is that of BERT, 0.1.

use std::error::Error;
use std::time::Instant;

use ferrite_bench::random_bert::{self, BERT_BASE};
use ferrite_models::bert::{Batch, BertConfig, Part};
use ferrite_models::data::PretrainingBatch;
use ferrite_models::kernels::{Arithmetic, Level, Precision};
use ferrite_models::train::{Trainer, TrainerOptions, initialize};

struct Options {
    sequences: usize,
    length: usize,
    threads: usize,
    steps: usize,
    level: Level,
    precision: Precision,
    layers: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::from_args(std::env::args().skip(1))?;
    let arithmetic = Arithmetic::new(options.level, options.precision);
    let mut config = BertConfig::from_json_str(BERT_BASE)?;
    config.num_hidden_layers = options.layers;
    let parameters = initialize(&config, &Part::PRETRAINING, 1);
    let settings = TrainerOptions::new(1e-4, 10);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build()?;
    let batch = masked(&random_bert::batch(&vec![options.length; options.sequences]));
    let mut milliseconds = Vec::with_capacity(options.steps);
    let mut losses = Vec::new();
    pool.install(|| {
        let mut trainer =
            Trainer::new(arithmetic, config, &Part::PRETRAINING, parameters, settings)?;
        for step in 0..=options.steps {
            let start = Instant::now();
            let done = trainer.pretrain_step(std::slice::from_ref(&batch))?;
            losses.push(done.loss.masked.mean() + done.loss.next_sentence.mean());
            if step > 0 {
                milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
        Ok::<(), ferrite_models::Error>(())
    })?;
    println!(
        "{{\"ms\": {milliseconds:?}, \"losses\": {losses:?}, \"precision\": \"{}\", \
         \"level\": \"{}\", \"instruction\": \"{}\", \"threads\": {}, \"tokens\": {}, \
         \"masked\": {}}}",
        options.precision,
        options.level,
        arithmetic.instruction(),
        options.threads,
        batch.batch.tokens(),
        batch.targets.len()
    );
    Ok(())
}

/// The batch with every seventh token masked, 14.3 % of all; every other pair is a random one.
fn masked(batch: &Batch) -> PretrainingBatch {
    const MASK: u32 = 103;
    let mut masked = PretrainingBatch::default();
    for (index, rows) in batch.sequences().iter().enumerate() {
        let mut ids = batch.ids()[rows.clone()].to_vec();
        for (place, id) in ids.iter_mut().enumerate().skip(3).step_by(7) {
            masked.positions.push((rows.start + place) as u32);
            masked.targets.push(std::mem::replace(id, MASK));
        }
        masked.batch.push(&ids, None);
        masked.next_sentence.push(index as u32 % 2);
    }
    masked
}

impl Options {
    fn from_args(mut args: impl Iterator<Item = String>) -> Result<Options, Box<dyn Error>> {
        let mut options = Options {
            sequences: 16,
            length: 128,
            threads: 2,
            steps: 3,
            level: Level::try_current()?,
            precision: Precision::F32,
            layers: 12,
        };
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--shape" => {
                    let (count, length) = value.split_once('x').ok_or("a shape is like 16x128")?;
                    (options.sequences, options.length) = (count.parse()?, length.parse()?);
                }
                "--threads" => options.threads = value.parse()?,
                "--steps" => options.steps = value.parse()?,
                "--level" => options.level = Level::detect(Some(&value))?,
                "--precision" => options.precision = value.parse()?,
                "--layers" => options.layers = value.parse()?,
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        Ok(options)
    }
}
