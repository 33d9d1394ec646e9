//! What `ferrite pretrain` is told, and the run that follows from it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ferrite_models::bert::BertConfig;
use ferrite_models::data::{
    BatchSize, InstanceOptions, Masking, MaskingOptions, PretrainingOptions,
};
use ferrite_models::tokenizer::Tokenizer;
use ferrite_models::train::{
    OptimizerOptions, RunOptions, Schedule, ScheduleShape, TrainerOptions,
};

use crate::outcome::Failure;
use crate::training::{CourseOptions, VocabularyOptions, check_counts, check_part, check_rate};

/// Train a BERT on raw text, from nothing
///
/// One command from text files to a folder that `transformers` opens and the other verbs take. A
/// vocabulary is made of the same text unless one is given. Masked words and next sentences are
/// learnt as in the paper; what is held out tells how well. The run can be stopped (Ctrl-C saves)
/// or killed at any moment: with --resume it goes on, and ends with the same bits as if nothing had
/// happened. The folder has checkpoints, log.jsonl with every step, and loss.svg.
#[derive(Args)]
#[command(after_help = after_help!(
    "ferrite pretrain corpus/*.txt --out my-bert --config mini --steps 5000 --precision bf16"
))]
pub(crate) struct Options {
    /// Files of text in UTF-8: prose or a sentence a line, a blank line between documents
    #[arg(value_name = "FILE", required = true)]
    pub(super) files: Vec<PathBuf>,

    /// The sizes of the model: one of BERT's published ones, or a config.json
    ///
    /// tiny: 2 layers, 128 wide; mini: 4, 256; small: 4, 512; medium: 8, 512; base: 12, 768
    #[arg(long, value_name = "SIZE|FILE", default_value = "mini")]
    config: String,

    #[command(flatten)]
    pub(super) vocabulary: VocabularyOptions,

    /// A vocabulary that tells capital letters and accents
    #[arg(long, conflicts_with = "vocab")]
    pub(super) cased: bool,

    /// Sequences of a batch
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub(super) batch: usize,

    /// Tokens of the longest sequence
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub(super) max_length: usize,

    /// The highest learning rate [default: 1e-4 for models 768 wide and wider, else 5e-4]
    #[arg(long, value_name = "RATE")]
    rate: Option<f32>,

    /// How the rate falls afterwards
    #[arg(long, value_name = "SHAPE", value_enum, default_value_t = Shape::Linear)]
    schedule: Shape,

    /// The optimizer: AdamW as it is now, or as the reference code of BERT has it
    #[arg(long, value_name = "KIND", value_enum, default_value_t = Recipe::Corrected)]
    optimizer: Recipe,

    /// The part of what layers hand on, and of attention, that is dropped [default: the config's]
    #[arg(long, value_name = "P")]
    dropout: Option<f32>,

    /// Mask whole words, not single pieces of them
    #[arg(long)]
    whole_words: bool,

    /// Mask the text in this many fixed ways that take turns, not anew in each epoch
    #[arg(long, value_name = "N")]
    static_masks: Option<u32>,

    /// Take each line as one sentence
    #[arg(long)]
    pub(super) lines: bool,

    /// What ends a document besides the end of a file
    #[arg(long, value_name = "RULE", value_enum, default_value_t = Documents::BlankLines)]
    pub(super) documents: Documents,

    /// The part of the documents to evaluate on and not to train on
    #[arg(long, value_name = "P", default_value_t = 0.02)]
    held_out: f64,

    /// What is held out, the order of the text and its masks follow from it [default: --seed]
    #[arg(long, value_name = "N")]
    data_seed: Option<u64>,

    #[command(flatten)]
    pub(super) course: CourseOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// From the peak to zero
    Linear,
    /// On the line from the first step to the last, as the reference code of BERT has it
    Google,
    /// Not at all
    Constant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Recipe {
    /// With bias correction
    Corrected,
    /// Without
    Google,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Documents {
    /// A blank line
    BlankLines,
    /// Nothing: each file is one document
    Files,
}

impl Options {
    /// Refuses what can be told to be wrong before anything is read.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let usage = |message: String| Err(Failure::Usage(message));
        self.course.check()?;
        check_counts([
            ("--batch", self.batch as u64),
            ("--static-masks", self.static_masks.unwrap_or(1).into()),
        ])?;
        check_part("--held-out", self.held_out)?;
        check_rate(self.rate)?;
        if self.max_length < InstanceOptions::SHORTEST {
            let shortest = InstanceOptions::SHORTEST;
            return usage(format!("--max-length {}: at least {shortest}", self.max_length));
        }
        if self.batch.checked_mul(self.max_length).is_none_or(|tokens| tokens >= 1 << 32) {
            return usage(format!("--batch {}: 2^32 tokens and more", self.batch));
        }
        Ok(())
    }

    /// The run of this model, with as many words as the vocabulary has.
    pub(super) fn run_options(&self, mut config: BertConfig, tokenizer: &Tokenizer) -> RunOptions {
        let course = &self.course;
        config.vocab_size = config.vocab_size.max(tokenizer.vocab_size());
        let usual = if config.hidden_size >= 768 { 1e-4 } else { 5e-4 };
        RunOptions {
            arithmetic: course.arithmetic.arithmetic(),
            config,
            trainer: TrainerOptions {
                optimizer: match self.optimizer {
                    Recipe::Corrected => OptimizerOptions::CORRECTED,
                    Recipe::Google => OptimizerOptions::GOOGLE,
                },
                schedule: Schedule {
                    peak: self.rate.unwrap_or(usual),
                    warmup: course.warmup(),
                    total: course.steps,
                    shape: match self.schedule {
                        Shape::Linear => ScheduleShape::Linear,
                        Shape::Google => ScheduleShape::Google,
                        Shape::Constant => ScheduleShape::Constant,
                    },
                },
                seed: course.seed,
                label_smoothing: 0.0,
            },
            data: PretrainingOptions {
                seed: self.data_seed.unwrap_or(course.seed),
                held_out: self.held_out,
                batch: BatchSize::Sequences(self.batch),
                instances: InstanceOptions {
                    max_seq_length: self.max_length,
                    ..InstanceOptions::default()
                },
                masking: MaskingOptions {
                    max_predictions: MaskingOptions::predictions_of(self.max_length),
                    whole_words: self.whole_words,
                    masking: match self.static_masks {
                        Some(duplicates) => Masking::Static { duplicates },
                        None => Masking::Dynamic,
                    },
                    ..MaskingOptions::default()
                },
                ..PretrainingOptions::default()
            },
            accumulate: course.accumulate,
            evaluation_batches: course.evaluation_batches,
        }
    }

    /// The model, but for its words; a file may ask for more of them than the vocabulary has.
    pub(super) fn model(&self) -> Result<BertConfig, Failure> {
        let (layers, width) = match self.config.as_str() {
            "tiny" => (2, 128),
            "mini" => (4, 256),
            "small" => (4, 512),
            "medium" => (8, 512),
            "base" => (12, 768),
            path => {
                let config = BertConfig::from_file(path).map_err(|error| {
                    let known = "tiny, mini, small, medium, base";
                    Failure::Usage(format!("--config {path}: neither {known}, nor {error}"))
                })?;
                let config = self.checked(config)?;
                let check = config.check_pretraining(path.as_ref());
                return check.map(|()| config).map_err(|error| Failure::Usage(error.to_string()));
            }
        };
        let mut config = BertConfig::default();
        config.vocab_size = 0;
        config.num_hidden_layers = layers;
        config.hidden_size = width;
        config.num_attention_heads = width / 64;
        config.intermediate_size = 4 * width;
        config.max_position_embeddings = self.max_length.max(512);
        self.checked(config)
    }

    /// A model with the dropout that was asked for, if it has that, and positions enough.
    fn checked(&self, mut config: BertConfig) -> Result<BertConfig, Failure> {
        if let Some(rate) = self.dropout {
            (config.hidden_dropout_prob, config.attention_probs_dropout_prob) = (rate, rate);
        }
        for rate in [config.hidden_dropout_prob, config.attention_probs_dropout_prob] {
            if !(0.0..1.0).contains(&rate) {
                return Err(Failure::Usage(format!("a dropout of {rate} is not in [0, 1)")));
            }
        }
        if self.max_length > config.max_position_embeddings {
            return Err(Failure::Usage(format!(
                "--max-length {}: the model has {} positions",
                self.max_length, config.max_position_embeddings
            )));
        }
        Ok(config)
    }
}
