//! The memory of a training is what [`Memory`] says before it begins, and does not grow with its
//! steps. Its own process, whose memory is counted on all threads.

mod counting_common;
mod pretraining_common;

use std::sync::Arc;

use counting_common::{forget_peak, now, peak};
use ferrite_kernels::testing::Random;
use ferrite_models::bert::BertConfig;
use ferrite_models::data::{
    BatchSize, Corpus, InstanceOptions, MaskingOptions, PretrainingOptions,
};
use ferrite_models::kernels::{Arithmetic, Level, Precision};
use ferrite_models::tokenizer::Tokenizer;
use ferrite_models::train::{LargestBatch, Memory, PretrainingRun, RunOptions, TrainerOptions};
use pretraining_common::{Files, tokenizer};

/// Sizes of a model and of its batches.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    layers: usize,
    hidden: usize,
    words: usize,
    sequences: usize,
    length: usize,
}

impl Sizes {
    fn config(self) -> BertConfig {
        let mut config = BertConfig::default();
        config.vocab_size = self.words;
        config.hidden_size = self.hidden;
        config.num_hidden_layers = self.layers;
        config.num_attention_heads = self.hidden / 32;
        config.intermediate_size = 4 * self.hidden;
        config.max_position_embeddings = self.length;
        config
    }

    fn options(self, arithmetic: Arithmetic) -> RunOptions {
        RunOptions {
            arithmetic,
            config: self.config(),
            trainer: TrainerOptions::new(1e-3, 1000),
            data: PretrainingOptions {
                held_out: 0.2,
                shard_documents: 8,
                batch: BatchSize::Sequences(self.sequences),
                instances: InstanceOptions {
                    max_seq_length: self.length,
                    // Batches that are nearly full.
                    short_seq_prob: 0.0,
                },
                masking: MaskingOptions {
                    max_predictions: MaskingOptions::predictions_of(self.length),
                    ..MaskingOptions::default()
                },
                ..PretrainingOptions::default()
            },
            accumulate: 1,
            evaluation_batches: 2,
        }
    }

    fn largest_batch(self) -> LargestBatch {
        let masked = self.sequences * MaskingOptions::predictions_of(self.length);
        LargestBatch { tokens: self.sequences * self.length, masked }
    }
}

/// Documents of many short sentences, so that hardly a place of a sequence is empty.
fn corpus() -> (Files, Arc<Corpus>, Arc<Tokenizer>) {
    let words: Vec<String> = (0..400).map(|n| format!("w{n}")).collect();
    let mut random = Random::new(2);
    let mut text = String::new();
    for _ in 0..40 {
        for _ in 0..40 {
            let sentence: Vec<&str> = (0..4).map(|_| words[random.below(400)].as_str()).collect();
            text += &sentence.join(" ");
            text.push('\n');
        }
        text.push('\n');
    }
    let files = Files::new([text]);
    let corpus = files.corpus();
    (files, corpus, tokenizer(words))
}

#[test]
fn a_run_takes_what_is_said_before_and_no_more_with_its_steps() {
    let (_files, corpus, tokenizer) = corpus();
    let deep = Sizes { layers: 3, hidden: 64, words: 500, sequences: 12, length: 48 };
    let wide = Sizes { layers: 1, hidden: 192, words: 1000, sequences: 8, length: 32 };
    let wordy = Sizes { layers: 1, hidden: 64, words: 12_000, sequences: 24, length: 48 };
    // Threads that were not there before bring memory of their own.
    rayon::ThreadPoolBuilder::new().num_threads(2).build_global().unwrap();
    let current = [Precision::F32, Precision::Bf16].map(|p| Arithmetic::new(Level::current(), p));
    // What products read differs from kernel to kernel.
    let mut all = Arithmetic::available();
    all.retain(|arithmetic| arithmetic.precision() != Precision::Int8);
    for (sizes, arithmetics, is_long) in
        [(deep, &current[..], true), (wide, &all, false), (wordy, &current, false)]
    {
        for &arithmetic in arithmetics {
            let options = sizes.options(arithmetic);
            let said = Memory::of_pretraining(&options.config, arithmetic, sizes.largest_batch());
            let folder = tempfile::tempdir().unwrap();
            let before = forget_peak();
            let (corpus, tokenizer) = (corpus.clone(), tokenizer.clone());
            let mut run = PretrainingRun::start(folder.path(), options, corpus, tokenizer).unwrap();
            let begun = now() - before;
            // What is held, what was held at most, and the tokens of the largest batch.
            let mut largest = 0;
            let mut steps = |run: &mut PretrainingRun, until: u64| {
                while run.steps() < until {
                    largest = largest.max(run.step().unwrap().tokens);
                    if run.steps().is_multiple_of(10) {
                        run.evaluate().unwrap();
                        run.save().unwrap();
                    }
                }
                (now() - before, peak() - before, largest)
            };
            let (held, at_most, tokens) = steps(&mut run, 20);
            println!(
                "{sizes:?}, {arithmetic}: {begun} at first, {held} after 20 steps, {at_most} at \
                 most; said {} ({said:?})",
                said.total()
            );
            let said = said.total() as usize;
            assert!(at_most <= said, "{at_most} bytes were held, {said} said");
            assert!(at_most >= said / 2, "{at_most} bytes were held, {said} said");
            if is_long {
                let (later, at_most_later, more_tokens) = steps(&mut run, 200);
                println!(
                    "    {later} after 200, {at_most_later} at most; batches of {tokens} and of \
                     {more_tokens} tokens at most"
                );
                // What batches need grows with the largest of them, and nothing else grows.
                let growth = more_tokens as f64 / tokens as f64;
                let expected = begun as f64 + (held - begun) as f64 * growth;
                assert!(
                    later as f64 <= 1.01 * expected,
                    "{held} after 20 steps, {later} after 200"
                );
                assert!(at_most_later <= said, "{at_most_later} bytes were held, {said} said");
            }
        }
    }
}
