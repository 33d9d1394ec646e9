//! Times the decoding of a Transformer and prints it as one line of JSON: the Ferrite side of
//! `bench/peers/decoding.py`.
//!
//! ```text
//! decoding --model DIR [--shape 32x25] [--steps 30] [--beam 1] [--precision f32|bf16|int8]
//!          [--level avx512] [--threads 2] [--runs 5]
//! ```
//!
//! All targets have the same length: the end is suppressed. A beam of 1 is greedy search. The id of
//! source token i, counted over all sentences, is 3 + (7919 i mod (vocabulary - 3)). A run is from
//! token ids to token ids, the encoder included.

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use ferrite_models::kernels::{Arithmetic, Level, Precision};
use ferrite_models::transformer::{
    DecodeOptions, DecodeWorkspace, Hypothesis, LengthPenalty, MaxLength, Search, Transformer,
};
use serde_json::json;

struct Options {
    model: PathBuf,
    sentences: usize,
    length: usize,
    steps: usize,
    beam: usize,
    level: Level,
    precision: Precision,
    threads: usize,
    runs: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::from_args(std::env::args().skip(1))?;
    let arithmetic = Arithmetic::new(options.level, options.precision);
    let transformer = Transformer::from_pretrained_at(arithmetic, &options.model)?;
    let vocabulary = transformer.config().vocab_size;
    let id = |token: usize| (3 + 7919 * token % (vocabulary - 3)) as u32;
    let tokens: Vec<u32> = (0..options.sentences * options.length).map(id).collect();
    let sources: Vec<&[u32]> = tokens.chunks(options.length).collect();
    let search = match options.beam {
        1 => Search::Greedy,
        width => Search::Beam { width, length_penalty: LengthPenalty::None },
    };
    let decode = DecodeOptions {
        search,
        max_length: MaxLength::fixed(options.steps),
        min_length: options.steps,
        ..DecodeOptions::default()
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build()?;
    let mut workspace = DecodeWorkspace::default();
    let mut found = pool.install(|| transformer.translate(&sources, &decode, &mut workspace))?;
    let mut milliseconds = Vec::with_capacity(options.runs);
    for _ in 0..options.runs {
        let start = Instant::now();
        found = pool.install(|| transformer.translate(&sources, &decode, &mut workspace))?;
        milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let best: Vec<&Hypothesis> = found.iter().map(|of_sentence| &of_sentence[0]).collect();
    println!(
        "{}",
        json!({
            "ms": milliseconds,
            "precision": options.precision.to_string(),
            "level": options.level.to_string(),
            "instruction": arithmetic.instruction(),
            "target_tokens": best.iter().map(|one| one.tokens.len()).sum::<usize>(),
            "tokens": best.iter().map(|one| &one.tokens).collect::<Vec<_>>(),
            "log_probabilities": best.iter().map(|one| one.log_probability).collect::<Vec<_>>(),
        })
    );
    Ok(())
}

impl Options {
    fn from_args(mut args: impl Iterator<Item = String>) -> Result<Options, Box<dyn Error>> {
        let mut options = Options {
            model: PathBuf::new(),
            sentences: 32,
            length: 25,
            steps: 30,
            beam: 1,
            level: Level::try_current()?,
            precision: Precision::F32,
            threads: 2,
            runs: 5,
        };
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--model" => options.model = value.into(),
                "--shape" => {
                    let (count, length) = value.split_once('x').ok_or("a shape is like 32x25")?;
                    (options.sentences, options.length) = (count.parse()?, length.parse()?);
                }
                "--steps" => options.steps = value.parse()?,
                "--beam" => options.beam = value.parse()?,
                "--level" => options.level = Level::detect(Some(&value))?,
                "--precision" => options.precision = value.parse()?,
                "--threads" => options.threads = value.parse()?,
                "--runs" => options.runs = value.parse()?,
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        if options.model.as_os_str().is_empty() || options.length == 0 {
            return Err("a model and a length are needed".into());
        }
        Ok(options)
    }
}
