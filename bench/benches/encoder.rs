//! Whole encoders, from ids to the last hidden state; with `--features peers` beside candle and
//! rten, the answers compared first.
//!
//! rten runs ONNX files: `FERRITE_BENCH_ONNX` names the work folder of `bench/peers/peers.py`, which
//! leaves `bert-base/plain.onnx` and `minilm-l6/plain.onnx` there. Without it rten is left out.

use std::time::{Duration, Instant};

use criterion::{Bencher, BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use ferrite_bench::random_bert::{self, batch};
use ferrite_kernels::Level;
use ferrite_models::bert::{Batch, Bert, Workspace};
use rayon::ThreadPool;

/// Sequences and their length.
const SHAPES: [(usize, usize); 5] = [(1, 16), (1, 128), (8, 128), (32, 128), (8, 512)];

fn main() {
    let mut criterion = Criterion::default()
        .measurement_time(Duration::from_secs(4))
        .warm_up_time(Duration::from_secs(1))
        .sample_size(10)
        .configure_from_args();
    println!("level {}, levels missing here: {:?}", Level::current(), Level::missing());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool");
    for (name, config) in
        [("minilm-l6", random_bert::MINILM_L6), ("bert-base", random_bert::BERT_BASE)]
    {
        let folder = tempfile::tempdir().expect("a folder for the weights");
        random_bert::write(config, folder.path()).expect("random weights");
        let bert = Bert::from_pretrained(folder.path()).expect("a model");
        #[cfg(feature = "peers")]
        let peers = peers::Peers::load(name, folder.path());
        for (count, length) in SHAPES {
            let mut group = criterion.benchmark_group(format!("{name}/{count}x{length}"));
            group.throughput(Throughput::Elements((count * length) as u64));
            let batch = batch(&vec![length; count]);
            bench(&mut group, &pool, &bert, &batch);
            #[cfg(feature = "peers")]
            peers.bench(&mut group, &bert, &batch, count, length);
            group.finish();
        }
        let mut group = criterion.benchmark_group(format!("{name}/mixed 8 to 256"));
        let lengths: Vec<usize> = (1..=32).map(|i| 8 * i).collect();
        group.throughput(Throughput::Elements(lengths.iter().sum::<usize>() as u64));
        bench(&mut group, &pool, &bert, &batch(&lengths));
        group.finish();
    }
    criterion.final_summary();
}

fn bench(group: &mut BenchmarkGroup<'_, WallTime>, pool: &ThreadPool, bert: &Bert, batch: &Batch) {
    let mut workspace = Workspace::default();
    group.bench_function("ferrite", |b: &mut Bencher<'_>| {
        b.iter_custom(|iterations| {
            pool.install(|| {
                let start = Instant::now();
                for _ in 0..iterations {
                    bert.encode(batch, &mut workspace).expect("ids in range");
                }
                start.elapsed()
            })
        });
    });
}

#[cfg(feature = "peers")]
mod peers {
    use std::path::Path;

    use candle_core::{DType, Device, Tensor};
    use candle_nn::VarBuilder;
    use candle_transformers::models::bert::{BertModel, Config};
    use rten_tensor::NdTensor;
    use rten_tensor::prelude::*;

    use super::*;

    pub(crate) struct Peers {
        candle: BertModel,
        rten: Option<rten::Model>,
    }

    impl Peers {
        /// candle with the same weights, rten with whatever the ONNX file has.
        pub(crate) fn load(name: &str, folder: &Path) -> Peers {
            let read = |file: &str| std::fs::read(folder.join(file)).expect("written before");
            let config: Config =
                serde_json::from_slice(&read("config.json")).expect("candle's configuration");
            let weights = VarBuilder::from_buffered_safetensors(
                read("model.safetensors"),
                DType::F32,
                &Device::Cpu,
            );
            let candle = BertModel::load(weights.expect("weights"), &config).expect("a model");
            let rten = std::env::var_os("FERRITE_BENCH_ONNX").map(|onnx| {
                let path = Path::new(&onnx).join(name).join("plain.onnx");
                rten::Model::load_file(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
            });
            if rten.is_none() {
                println!("rten left out: FERRITE_BENCH_ONNX is not set");
            }
            Peers { candle, rten }
        }

        pub(crate) fn bench(
            &self,
            group: &mut BenchmarkGroup<'_, WallTime>,
            bert: &Bert,
            batch: &Batch,
            count: usize,
            length: usize,
        ) {
            let ids = Tensor::from_slice(batch.ids(), (count, length), &Device::Cpu).expect("ids");
            let types = ids.zeros_like().expect("types");
            let run = || self.candle.forward(&ids, &types, None).expect("candle runs");
            let theirs: Vec<f32> =
                run().flatten_all().and_then(|x| x.to_vec1()).expect("a hidden state");
            let mut workspace = Workspace::default();
            let ours = bert.encode(batch, &mut workspace).expect("ids in range");
            let ours = (0..ours.rows()).flat_map(|row| ours.row(row));
            let worst = ours.zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "candle's answer is {worst:e} away");
            group.bench_function("candle", |b| b.iter(run));

            let Some(rten) = &self.rten else { return };
            let ids: Vec<i32> = batch.ids().iter().map(|&id| id as i32).collect();
            let ids = NdTensor::from_data([count, length], ids);
            let input = rten.node_id("input_ids").expect("an input");
            let output = rten.output_ids()[0];
            group.bench_function("rten", |b| {
                b.iter(|| {
                    rten.run(vec![(input, ids.view().into())], &[output], None).expect("rten runs")
                });
            });
        }
    }
}
