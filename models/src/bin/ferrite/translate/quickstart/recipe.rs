//! Sizes, rates and steps: found by trying, so that all of it takes about two minutes on two cores.

use ferrite_models::data::{PairBatchOptions, SpecialIds};
use ferrite_models::tokenizer::TrainerOptions as VocabularyOptions;
use ferrite_models::train::{OptimizerOptions, Schedule, ScheduleShape, TrainerOptions};
use ferrite_models::transformer::TransformerConfig;

/// Sentences to learn from, and others to be tested with.
pub(super) const TRAINING: usize = 60_000;
pub(super) const TEST: usize = 1_000;

/// Training.
pub(super) const STEPS: u64 = 1_600;
const BATCH_TOKENS: usize = 1_500;
const PEAK: f32 = 2e-3;
/// How often the losses of the training are noted.
pub(super) const MEASUREMENTS: u64 = 20;

/// One vocabulary of both languages. The fewer tokens, the more German words are put together of the
/// parts that they are put together of.
pub(super) fn vocabulary() -> VocabularyOptions {
    VocabularyOptions {
        vocab_size: 400,
        lowercase: false,
        strip_accents: Some(false),
        ..VocabularyOptions::default()
    }
}

/// A small Transformer as the paper's: two layers, 128 wide.
pub(super) fn config(vocabulary: usize, start: u32, end: u32, pad: u32) -> TransformerConfig {
    let mut config = TransformerConfig::tiny(vocabulary);
    config.max_position_embeddings = 128;
    // What is right is known exactly, and hardly a sentence is seen twice.
    config.dropout = 0.0;
    config.decoder_start_token_id = start;
    config.eos_token_id = end;
    config.pad_token_id = pad;
    config
}

pub(super) fn trainer(seed: u64, steps: u64) -> TrainerOptions {
    let optimizer = OptimizerOptions::TRANSFORMER;
    let warmup = steps / 10;
    let schedule = Schedule { peak: PEAK, warmup, total: steps, shape: ScheduleShape::Linear };
    TrainerOptions { optimizer, schedule, seed, label_smoothing: 0.0 }
}

pub(super) fn batches(seed: u64, special: SpecialIds) -> PairBatchOptions {
    let (tokens, longest) = (BATCH_TOKENS, 100);
    PairBatchOptions {
        seed,
        tokens,
        max_source_tokens: longest,
        max_target_tokens: longest,
        window: 8_192,
        special,
    }
}
