//! What `ferrite translate train` is told, and the run that follows from it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ferrite_models::data::{PairBatchOptions, PairFiles, SpecialIds};
use ferrite_models::tokenizer::Tokenizer;
use ferrite_models::train::{
    Average, OptimizerOptions, Schedule, ScheduleShape, TrainerOptions, TranslationOptions,
};
use ferrite_models::transformer::TransformerConfig;

use super::super::pairs::{PairInput, files_of, two_files};
use crate::outcome::Failure;
use crate::training::{CourseOptions, VocabularyOptions, check_counts, check_part, check_rate};

/// Train a Transformer on pairs of sentences, from nothing
///
/// One command from sentences and their translations to a folder that `ferrite translate run` opens.
/// One vocabulary of both languages is made of them unless one is given. The model, the optimizer, the
/// label smoothing and the rise and fall of the rate are those of Attention Is All You Need; batches
/// are filled with sentences of like lengths, without padding. Lines that are no pair, or too long, are
/// named on stderr, listed in rejected.txt and left out. The run can be stopped (Ctrl-C saves) or
/// killed at any moment: with --resume it goes on, and ends with the same bits as if nothing had
/// happened. The folder has checkpoints, log.jsonl with every step, and loss.svg.
#[derive(Args)]
#[command(after_help = after_help!(
    "ferrite translate train --pairs en-de.tsv --out en-de --config small --steps 20000 --average 5"
    "ferrite translate train --source train.en --target train.de --held-out dev.tsv --out en-de"
))]
pub(crate) struct Options {
    #[command(flatten)]
    pub(super) pairs: PairInput,

    /// What to evaluate on and not to train on: a part of the pairs, such as 0.02, or a file of others
    #[arg(long, value_name = "P|FILE", default_value = "0.02")]
    #[arg(conflicts_with_all = ["held_out_source", "held_out_target"])]
    held_out: String,

    /// A file of sources to evaluate on
    #[arg(long, value_name = "FILE", requires = "held_out_target")]
    held_out_source: Option<PathBuf>,

    /// The file of their translations
    #[arg(long, value_name = "FILE", requires = "held_out_source")]
    held_out_target: Option<PathBuf>,

    /// The sizes of the model, or a config.json
    ///
    /// tiny: 2 layers each, 128 wide; small: 3, 256; base: the paper's, 6, 512; big: the paper's, 6,
    /// 1024
    #[arg(long, value_name = "SIZE|FILE", default_value = "small")]
    config: String,

    #[command(flatten)]
    pub(super) vocabulary: VocabularyOptions,

    /// A vocabulary that does not tell capital letters
    #[arg(long, conflicts_with = "vocab")]
    pub(super) lowercase: bool,

    /// The most tokens of a batch, of sources and of targets each
    #[arg(long, value_name = "N", default_value_t = 4096)]
    batch_tokens: usize,

    /// Tokens of the longest source and of the longest target
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(super) max_length: usize,

    /// The highest learning rate [default: the paper's, 1 / sqrt(d_model warmup), up to 1e-3]
    #[arg(long, value_name = "RATE")]
    rate: Option<f32>,

    /// How the rate falls after its rise
    #[arg(long, value_name = "SHAPE", value_enum, default_value_t = Shape::InverseSqrt)]
    schedule: Shape,

    /// The probability that is taken from the right token and spread over all
    #[arg(long, value_name = "E", default_value_t = 0.1)]
    label_smoothing: f32,

    /// The part of what layers hand on that is dropped [default: the config's]
    #[arg(long, value_name = "P")]
    dropout: Option<f32>,

    /// Norms before the layers, not behind them as in the paper
    #[arg(long)]
    pre_norm: bool,

    /// Make the model of the mean of the last N parameters, as the paper does of 5
    #[arg(long, value_name = "N")]
    average: Option<usize>,

    /// Steps from one of them to the next [default: a fiftieth of all]
    #[arg(long, value_name = "N", requires = "average")]
    average_every: Option<u64>,

    #[command(flatten)]
    pub(super) course: CourseOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// With the inverse square root of the step, as in the paper
    InverseSqrt,
    /// From the peak to zero
    Linear,
    /// Not at all
    Constant,
}

/// What is evaluated on.
pub(super) enum HeldOut {
    /// This part of the pairs.
    Part(f64),
    /// Others.
    Files(PairFiles),
}

/// The highest rate, unless one is asked for: few steps, and so a short warm-up, would give a higher
/// one than a Transformer bears.
const HIGHEST_RATE: f32 = 1e-3;

impl Options {
    /// Refuses what can be told to be wrong before anything is read.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let usage = |message: String| Err(Failure::Usage(message));
        self.course.check()?;
        check_counts([
            ("--max-length", self.max_length as u64),
            ("--average", self.average.unwrap_or(1) as u64),
            ("--average-every", self.average_every.unwrap_or(1)),
        ])?;
        check_rate(self.rate)?;
        if let HeldOut::Part(part) = self.held_out() {
            check_part("--held-out", part)?;
        }
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            return usage(format!("--label-smoothing {}: not in [0, 1]", self.label_smoothing));
        }
        // A sentence has its end besides.
        if self.batch_tokens <= self.max_length {
            return usage(format!(
                "--batch-tokens {}: more than --max-length, {}, is needed",
                self.batch_tokens, self.max_length
            ));
        }
        if self.batch_tokens >= 1 << 32 {
            return usage(format!("--batch-tokens {}: 2^32 and more", self.batch_tokens));
        }
        Ok(())
    }

    pub(super) fn held_out(&self) -> HeldOut {
        match (&self.held_out_source, &self.held_out_target, self.held_out.parse()) {
            (Some(source), Some(target), _) => HeldOut::Files(two_files(source, target)),
            (.., Ok(part)) => HeldOut::Part(part),
            (.., Err(_)) => HeldOut::Files(files_of(self.held_out.as_ref())),
        }
    }

    /// The model, but for its vocabulary; a file may ask for more tokens than that has.
    pub(super) fn model(&self) -> Result<TransformerConfig, Failure> {
        let mut config = match self.config.as_str() {
            "tiny" => TransformerConfig::tiny(0),
            "small" => TransformerConfig::small(0),
            "base" => TransformerConfig::base(0),
            "big" => TransformerConfig::big(0),
            path => TransformerConfig::from_file(path)
                .and_then(|config| config.check_training(path.as_ref()).map(|()| config))
                .map_err(|error| {
                    let known = "tiny, small, base, big or a file";
                    Failure::Usage(format!("{error}\n--config takes {known}."))
                })?,
        };
        let is_a_size = config.vocab_size == 0;
        if is_a_size {
            config.max_position_embeddings = (self.max_length + 1).max(512);
        }
        if self.pre_norm {
            config = config.pre_norm();
        }
        if let Some(dropout) = self.dropout {
            config.dropout = dropout;
        }
        for rate in [config.dropout, config.attention_dropout, config.activation_dropout] {
            if !(0.0..1.0).contains(&rate) {
                return Err(Failure::Usage(format!("a dropout of {rate} is not in [0, 1)")));
            }
        }
        // A sentence has its end besides.
        if self.max_length >= config.max_position_embeddings {
            return Err(Failure::Usage(format!(
                "--max-length {}: the model has {} positions, one of them for the end",
                self.max_length, config.max_position_embeddings
            )));
        }
        Ok(config)
    }

    /// The run of this model, with the tokens of the vocabulary.
    pub(super) fn run_options(
        &self,
        mut config: TransformerConfig,
        tokenizer: &Tokenizer,
    ) -> Result<TranslationOptions, Failure> {
        let tokens = tokenizer.vocab_size();
        config.vocab_size = config.vocab_size.max(tokens);
        config.decoder_vocab_size = config.decoder_vocab_size.map(|target| target.max(tokens));
        let special = |id: Option<u32>, role: &str| {
            id.ok_or_else(|| Failure::Usage(format!("the vocabulary has no {role} token")))
        };
        config.decoder_start_token_id = special(tokenizer.cls_id(), "[CLS]")?;
        config.eos_token_id = special(tokenizer.sep_id(), "[SEP]")?;
        config.pad_token_id = special(tokenizer.pad_id(), "[PAD]")?;
        let course = &self.course;
        let published = Schedule::transformer(config.d_model, course.warmup(), course.steps);
        let schedule = Schedule {
            peak: self.rate.unwrap_or(published.peak.min(HIGHEST_RATE)),
            shape: match self.schedule {
                Shape::InverseSqrt => ScheduleShape::InverseSquareRoot,
                Shape::Linear => ScheduleShape::Linear,
                Shape::Constant => ScheduleShape::Constant,
            },
            ..published
        };
        let average = self.average.map(|last| Average {
            last,
            every: self.average_every.unwrap_or(course.steps / 50).max(1),
        });
        Ok(TranslationOptions {
            arithmetic: course.arithmetic.arithmetic(),
            trainer: TrainerOptions {
                optimizer: OptimizerOptions::TRANSFORMER,
                schedule,
                seed: course.seed,
                label_smoothing: self.label_smoothing,
            },
            data: PairBatchOptions {
                seed: course.seed,
                tokens: self.batch_tokens,
                max_source_tokens: self.max_length,
                max_target_tokens: self.max_length,
                ..PairBatchOptions::new(SpecialIds::from(&config))
            },
            config,
            accumulate: course.accumulate,
            evaluation_batches: course.evaluation_batches,
            average,
        })
    }
}
