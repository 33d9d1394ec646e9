//! Sizes, rates and steps: found by trying, so that all of it takes about two minutes on two
//! cores.

use ferrite_models::bert::BertConfig;
use ferrite_models::data::{BatchSize, PretrainingOptions};
use ferrite_models::data::{InstanceOptions, MaskingOptions};

use super::task::Label;

/// Stories of the corpus.
pub(super) const STORIES: u64 = 16_000;

/// Tokens of the vocabulary, at most: enough for every word to be one.
pub(super) const VOCABULARY: usize = 1400;

/// The longest sequence.
pub(super) const LONGEST: usize = 64;

/// How large the sinusoids are that positions begin with.
pub(super) const POSITIONS: f32 = 0.1;

/// Pre-training.
pub(super) const STEPS: u64 = 3300;
pub(super) const BATCH_TOKENS: usize = 1024;
pub(super) const PEAK: f32 = 1.5e-3;
/// How often the held-out loss is measured in the course of training, and on how many batches.
pub(super) const MEASUREMENTS: u64 = 20;
pub(super) const WATCHED: usize = 4;

/// Fine-tuning: of the pre-trained model and of one that has learnt nothing.
pub(super) const TASK_STEPS: u64 = 450;
pub(super) const TASK_BATCH: usize = 32;
pub(super) const TASK_PEAK: f32 = 2e-4;

/// A small BERT: two layers, 192 wide. (Three of 128 learn more slowly.).
pub(super) fn config(vocabulary: usize) -> BertConfig {
    let mut config = BertConfig::default();
    config.vocab_size = vocabulary;
    config.hidden_size = 192;
    config.num_hidden_layers = 2;
    config.num_attention_heads = 6;
    config.intermediate_size = 768;
    config.max_position_embeddings = LONGEST;
    // 0.02 is for layers that are 768 wide.
    config.initializer_range = 0.05;
    // The corpus is passed over a few times only: there is nothing to be forgotten.
    config.hidden_dropout_prob = 0.0;
    config.attention_probs_dropout_prob = 0.0;
    config.architectures = vec!["BertForPreTraining".to_owned()];
    config
}

/// The same with an output for each label of the task.
pub(super) fn classifier(vocabulary: usize) -> BertConfig {
    let mut config = config(vocabulary);
    let label = |label: Label| (label as u32, label.name().to_owned());
    config.architectures = vec!["BertForSequenceClassification".to_owned()];
    config.id2label = Some(Label::ALL.map(label).into());
    config.label2id = Some(Label::ALL.map(label).map(|(id, name)| (name, id)).into());
    config
}

/// How sequences are drawn from the corpus.
pub(super) fn data(seed: u64) -> PretrainingOptions {
    PretrainingOptions {
        seed,
        held_out: 0.03,
        shard_documents: 256,
        shard_bytes: 8 << 20,
        batch: BatchSize::Tokens(BATCH_TOKENS),
        instances: InstanceOptions { max_seq_length: LONGEST, short_seq_prob: 0.1 },
        masking: MaskingOptions { whole_words: true, ..MaskingOptions::default() },
    }
}
