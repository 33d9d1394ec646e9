//! Whole encoders, from ids to the last hidden state.

use std::error::Error;

use ferrite_bench::random_bert::{self, batch};
use ferrite_bench::timing::{AgainstPeak, calls_per_turn, median, peak_of_pool, seconds};
use ferrite_kernels::{Arithmetic, Level, PackedMatrix, Precision};
use ferrite_layers::Linear;
use ferrite_models::bert::{Batch, Bert, Workspace};
use rayon::ThreadPool;

use crate::Setting;
use crate::memory::{ones, read};
use crate::table::{Cell, Table};

/// One model in one precision.
struct Encoder {
    arithmetic: Arithmetic,
    bert: Bert,
    workspace: Workspace,
}

impl Encoder {
    fn encode(&mut self, batch: &Batch) {
        self.bert.encode(batch, &mut self.workspace).expect("ids in range");
    }

    /// The last hidden state.
    fn hidden(&mut self, batch: &Batch) -> Vec<Vec<f32>> {
        let hidden = self.bert.encode(batch, &mut self.workspace).expect("ids in range");
        (0..hidden.rows()).map(|row| hidden.row(row).to_vec()).collect()
    }

    /// The number of layers, and the products of each.
    fn products(&self) -> (usize, [&Linear; 4]) {
        let blocks = &self.bert.encoder().blocks;
        let (attention, feed_forward) = (&blocks[0].attention, &blocks[0].feed_forward);
        let products =
            [&attention.qkv, &attention.output, &feed_forward.inner, &feed_forward.outer];
        (blocks.len(), products)
    }

    /// Operations of the products, those in attention included; all else counts for nothing.
    fn operations(&self, lengths: &[usize]) -> f64 {
        let (layers, products) = self.products();
        let weights: usize = products.iter().map(|product| product.d_in() * product.d_out()).sum();
        let width = products[0].d_in();
        let of_length = |&n: &usize| 2 * n * weights + 4 * n * n * width;
        (layers * lengths.iter().map(of_length).sum::<usize>()) as f64
    }

    /// The bytes of all weights of products.
    fn weight_bytes(&self) -> usize {
        let (layers, products) = self.products();
        let bytes = |product: &&Linear| {
            let row = vec![0.0; product.d_in()];
            let same_shape =
                PackedMatrix::from_rows(self.arithmetic, product.d_out(), row.len(), |_| &row);
            same_shape.bytes()
        };
        layers * products.iter().map(bytes).sum::<usize>()
    }
}

/// The three tables: all batches, the smallest beside the time of reading the weights, and how near
/// the precisions are to each other.
pub(crate) fn measure(setting: &Setting) -> Result<Vec<Table>, Box<dyn Error>> {
    let (mut times, mut readings, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    for (name, config) in
        [("BERT-base", random_bert::BERT_BASE), ("MiniLM-L6", random_bert::MINILM_L6)]
    {
        let mut encoders = load(config)?;
        answers.push(compare(name, &mut encoders, setting));
        for pool in &setting.pools {
            readings.extend(encoders.iter_mut().map(|of| reading(name, of, pool, setting.rounds)));
        }
        for (shape, lengths) in shapes(setting.quick) {
            eprintln!("measuring {name} {shape}");
            for pool in &setting.pools {
                let mut row = vec![
                    Cell::text(format!("{name} {shape}")),
                    Cell::count(pool.current_num_threads()),
                ];
                let found = pool.install(|| time(&mut encoders, &lengths, setting));
                row.extend(found.into_iter().map(Cell::milliseconds_against_peak));
                times.push(row);
            }
        }
    }
    let names = |first: [&str; 2]| first.into_iter().map(String::from).collect::<Vec<_>>();
    let precisions = || Precision::ALL.iter().map(Precision::to_string);
    Ok(vec![
        Table {
            key: "encoders",
            title: "Whole encoders",
            note:
                "Random weights, sequences x tokens (mixed: 32 sequences of 8, 16, ... 256), from \
                   ids to the last hidden state: ms, Gop/s of the products, those in attention \
                   included, and the part of (threads x the peak of one core), measured in turn \
                   with it. Norms, softmax and GELU take time but count for nothing."
                    .into(),
            columns: names(["model and batch", "threads"])
                .into_iter()
                .chain(precisions())
                .collect(),
            rows: times,
        },
        Table {
            key: "reading",
            title: "16 tokens, and reading the weights once",
            note: "The weights of all products; reading as many bytes over and over, in turn with \
                   the encoder; the arithmetic at (threads x the peak of one core); the encoder of \
                   one sequence of 16 tokens, and its time over that of reading."
                .into(),
            columns: [
                "model",
                "threads",
                "precision",
                "weights, MB",
                "read, GB/s",
                "read, ms",
                "arithmetic, ms",
                "encoder, ms",
                "encoder / read",
            ]
            .map(Into::into)
            .into(),
            rows: readings,
        },
        Table {
            key: "answers",
            title: "The same answer",
            note: "The least cosine of a token's last hidden state with that in f32, one sequence \
                   of 128 tokens, random weights. Each precision gave the same bits on any number \
                   of threads."
                .into(),
            columns: ["model".to_owned()].into_iter().chain(precisions()).collect(),
            rows: answers,
        },
    ])
}

/// The model in each precision.
fn load(config: &str) -> Result<Vec<Encoder>, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    random_bert::write(config, folder.path())?;
    let load = |precision| {
        let arithmetic = Arithmetic::new(Level::current(), precision);
        let bert = Bert::from_pretrained_at(arithmetic, folder.path())?;
        Ok(Encoder { arithmetic, bert, workspace: Workspace::default() })
    };
    Precision::ALL.into_iter().map(load).collect()
}

/// The batches, with their names.
fn shapes(quick: bool) -> Vec<(String, Vec<usize>)> {
    let mut equal = vec![(1, 16), (1, 128)];
    if !quick {
        equal.extend([(8, 128), (32, 128), (8, 512)]);
    }
    let name = |(count, length)| (format!("{count}x{length}"), vec![length; count]);
    let mut shapes: Vec<_> = equal.into_iter().map(name).collect();
    if !quick {
        shapes.push(("mixed".into(), (1..=32).map(|i| 8 * i).collect()));
    }
    shapes
}

/// All precisions in turn, for about a second, but at least twice.
fn time(encoders: &mut [Encoder], lengths: &[usize], setting: &Setting) -> Vec<AgainstPeak> {
    let budget = if setting.quick { 0.2 } else { 1.5 };
    let batch = batch(lengths);
    let mut rounds = vec![Vec::new(); encoders.len()];
    let mut spent = 0.0;
    while spent < budget || rounds[0].len() < 2 {
        for (encoder, rounds) in encoders.iter_mut().zip(&mut rounds) {
            let peak = peak_of_pool(encoder.arithmetic);
            // The others' turns left their weights in the caches.
            if lengths.len() == 1 {
                encoder.encode(&batch);
            }
            let taken = seconds(|| encoder.encode(&batch));
            spent += taken;
            rounds.push((taken, peak));
        }
    }
    let found = encoders.iter().zip(&rounds);
    found.map(|(of, rounds)| AgainstPeak::of_rounds(of.operations(lengths), rounds)).collect()
}

/// 16 tokens in turn with reading as many bytes as the weights have.
fn reading(name: &str, encoder: &mut Encoder, pool: &ThreadPool, rounds: usize) -> Vec<Cell> {
    let bytes = encoder.weight_bytes();
    let values = ones(bytes);
    let lengths = [16];
    let batch = batch(&lengths);
    let calls = calls_per_turn(|| pool.install(|| encoder.encode(&batch)));
    let mut measured = Vec::new();
    for _ in 0..rounds {
        // Each begins with its own bytes in the caches, as far as they fit.
        let of_reading = bytes as f64 / read(pool, values.as_slice());
        let (of_encoder, peak) = pool.install(|| {
            let peak = peak_of_pool(encoder.arithmetic);
            encoder.encode(&batch);
            (seconds(|| (0..calls).for_each(|_| encoder.encode(&batch))) / calls as f64, peak)
        });
        measured.push((of_reading, of_encoder, encoder.operations(&lengths) / peak));
    }
    let over = |f: fn(f64, f64, f64) -> f64| {
        median(measured.iter().map(|&(r, e, a)| f(r, e, a)).collect())
    };
    let of_reading = over(|reading, _, _| reading);
    vec![
        Cell::text(name),
        Cell::count(pool.current_num_threads()),
        Cell::text(encoder.arithmetic.precision().name()),
        Cell::number(bytes as f64 / 1e6),
        Cell::number(bytes as f64 / of_reading / 1e9),
        Cell::number(of_reading * 1e3),
        Cell::number(over(|_, _, arithmetic| arithmetic) * 1e3),
        Cell::number(over(|_, encoder, _| encoder) * 1e3),
        Cell::number(over(|reading, encoder, _| encoder / reading)),
    ]
}

/// The least cosine with f32, the first of the encoders, over the tokens of a batch; all pools give
/// the same bits.
fn compare(name: &str, encoders: &mut [Encoder], setting: &Setting) -> Vec<Cell> {
    let batch = batch(&[128]);
    let exact = encoders[0].hidden(&batch);
    let mut row = vec![Cell::text(name)];
    for encoder in encoders {
        let precision = encoder.arithmetic.precision();
        let mut hidden = setting.pools.iter().map(|pool| pool.install(|| encoder.hidden(&batch)));
        let first = hidden.next().expect("at least one pool");
        assert!(hidden.all(|other| other == first), "{name} in {precision}: bits by threads");
        let least = first.iter().zip(&exact).map(|(a, b)| cosine(a, b)).fold(1.0, f64::min);
        assert!(least > 0.9, "{name} in {precision}: cosine {least} with f32");
        row.push(Cell::fine_number(least));
    }
    row
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
