//! Times the encoder of a BERT folder, from ids to the last hidden state, and prints the runs as
//! one line of JSON: the Ferrite side of `bench/peers/peers.py`.
//!
//! ```text
//! encoder --model DIR --shape 32x128 [--threads 2] [--runs 5] [--precision f32|bf16|int8]
//!         [--level avx512] [--dump FILE]
//! encoder --model DIR --lengths 8,16,250 ...
//! ```
//!
//! The ids are 1000 + (7919 i mod 20000), counted through the batch, as in the peers' script.
//! `--dump FILE` writes the last hidden state as little-endian f32, row after row.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use ferrite_bench::random_bert;
use ferrite_models::bert::{Bert, Workspace};
use ferrite_models::kernels::{Arithmetic, Level, Precision};

struct Options {
    model: PathBuf,
    lengths: Vec<usize>,
    threads: usize,
    runs: usize,
    level: Level,
    precision: Precision,
    dump: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::from_args(std::env::args().skip(1))?;
    let arithmetic = Arithmetic::new(options.level, options.precision);
    let bert = Bert::from_pretrained_at(arithmetic, &options.model)?;
    let batch = random_bert::batch(&options.lengths);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build()?;
    let mut workspace = Workspace::default();
    let mut milliseconds = Vec::with_capacity(options.runs);
    for run in 0..=options.runs {
        let start = Instant::now();
        pool.install(|| bert.encode(&batch, &mut workspace).map(drop))?;
        if run > 0 {
            milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    if let Some(path) = &options.dump {
        let hidden = bert.encode(&batch, &mut workspace)?;
        let rows = (0..hidden.rows()).flat_map(|row| hidden.row(row));
        fs::write(path, rows.flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())?;
    }
    println!(
        "{{\"ms\": {milliseconds:?}, \"precision\": \"{}\", \"level\": \"{}\", \
         \"instruction\": \"{}\", \"threads\": {}, \"tokens\": {}}}",
        options.precision,
        options.level,
        arithmetic.instruction(),
        options.threads,
        batch.tokens()
    );
    Ok(())
}

impl Options {
    fn from_args(mut args: impl Iterator<Item = String>) -> Result<Options, Box<dyn Error>> {
        let mut options = Options {
            model: PathBuf::new(),
            lengths: Vec::new(),
            threads: 2,
            runs: 5,
            level: Level::try_current()?,
            precision: Precision::F32,
            dump: None,
        };
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--model" => options.model = value.into(),
                "--shape" => {
                    let (count, length) = value.split_once('x').ok_or("a shape is like 32x128")?;
                    options.lengths = vec![length.parse()?; count.parse()?];
                }
                "--lengths" => {
                    let lengths = value.split(',').map(str::parse);
                    options.lengths = lengths.collect::<Result<_, _>>()?;
                }
                "--threads" => options.threads = value.parse()?,
                "--runs" => options.runs = value.parse()?,
                "--level" => options.level = Level::detect(Some(&value))?,
                "--precision" => options.precision = value.parse()?,
                "--dump" => options.dump = Some(value.into()),
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        if options.model.as_os_str().is_empty() || options.lengths.is_empty() {
            return Err("--model DIR and --shape or --lengths are needed".into());
        }
        Ok(options)
    }
}
