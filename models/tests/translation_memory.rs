//! The memory of a training of translation is what [`Memory`] says before it begins, and does not grow
//! with its steps. Its own process, whose memory is counted on all threads.

mod counting_common;
mod translation_common;

use std::sync::Arc;

use counting_common::{forget_peak, now, peak};
use ferrite_models::data::{PairBatchOptions, SpecialIds};
use ferrite_models::kernels::{Arithmetic, Level, Precision};
use ferrite_models::train::{Average, Memory, TrainerOptions, TranslationOptions, TranslationRun};
use ferrite_models::transformer::TransformerConfig;
use translation_common::pairs;

/// Sizes of a model and of its batches.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    layers: usize,
    d: usize,
    words: usize,
    /// Of a batch.
    tokens: usize,
    /// The longest sentence.
    length: usize,
    is_shared: bool,
}

impl Sizes {
    fn options(self, arithmetic: Arithmetic, average: Option<Average>) -> TranslationOptions {
        let mut config = TransformerConfig::tiny(self.words);
        (config.d_model, config.encoder_ffn_dim, config.decoder_ffn_dim) =
            (self.d, 4 * self.d, 3 * self.d);
        (config.encoder_layers, config.decoder_layers) = (self.layers, self.layers + 1);
        config.max_position_embeddings = self.length + 1;
        config.share_encoder_decoder_embeddings = self.is_shared;
        config.tie_word_embeddings = self.is_shared;
        TranslationOptions {
            arithmetic,
            trainer: TrainerOptions::transformer(self.d, 50, 200),
            data: PairBatchOptions {
                tokens: self.tokens,
                max_source_tokens: self.length,
                max_target_tokens: self.length,
                ..PairBatchOptions::new(SpecialIds::from(&config))
            },
            config,
            accumulate: 1,
            evaluation_batches: 3,
            average,
        }
    }
}

#[test]
fn a_run_takes_what_is_said_before_and_no_more_with_its_steps() {
    let deep = Sizes { layers: 2, d: 64, words: 500, tokens: 600, length: 40, is_shared: true };
    let wide = Sizes { layers: 1, d: 192, words: 900, tokens: 300, length: 24, is_shared: false };
    let wordy = Sizes { layers: 1, d: 64, words: 9_000, tokens: 900, length: 60, is_shared: true };
    let long = Sizes { layers: 1, d: 64, words: 300, tokens: 900, length: 800, is_shared: true };
    // Threads that were not there before bring memory of their own.
    rayon::ThreadPoolBuilder::new().num_threads(2).build_global().unwrap();
    let current = [Precision::F32, Precision::Bf16].map(|p| Arithmetic::new(Level::current(), p));
    // What products read differs from kernel to kernel.
    let mut all = Arithmetic::available();
    all.retain(|arithmetic| arithmetic.precision() != Precision::Int8);
    let average = Some(Average { last: 3, every: 2 });
    for (sizes, arithmetics, average, is_followed) in [
        (deep, &current[..], average, true),
        (wide, &all, None, false),
        (wordy, &current, None, false),
        (long, &current, None, false),
    ] {
        for &arithmetic in arithmetics {
            let options = sizes.options(arithmetic, average);
            let [pairs, held_out] = [(600, 1), (150, 2)]
                .map(|(number, seed)| Arc::new(pairs(number, sizes.length, sizes.words, seed)));
            let said = Memory::of_translation(&options);
            let folder = tempfile::tempdir().unwrap();
            let before = forget_peak();
            let mut run = TranslationRun::start(folder.path(), options, pairs, held_out).unwrap();
            let steps = |run: &mut TranslationRun, until: u64| {
                while run.steps() < until {
                    run.step().unwrap();
                    if run.steps().is_multiple_of(10) {
                        run.evaluate().unwrap();
                        run.evaluate_average().unwrap();
                        run.save().unwrap();
                    }
                }
                (now() - before, peak() - before)
            };
            let (held, at_most) = steps(&mut run, 10);
            println!(
                "{sizes:?}, {arithmetic}: {held} after 10 steps, {at_most} at most; said {} ({said:?})",
                said.total()
            );
            let said = said.total() as usize;
            assert!(at_most <= said, "{at_most} bytes were held, {said} said");
            assert!(at_most >= said / 2, "{at_most} bytes were held, {said} said");
            if is_followed {
                let (later, at_most_later) = steps(&mut run, 200);
                println!("    {later} after 200, {at_most_later} at most");
                // Batches differ in size; nothing else may grow.
                assert!(
                    later as f64 <= 1.1 * held as f64,
                    "{held} after 10 steps, {later} after 200"
                );
                assert!(at_most_later <= said, "{at_most_later} bytes were held, {said} said");
            }
        }
    }
}
