//! `ferrite pretrain`: raw text to a BERT.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::{Args, ValueEnum};
use ferrite_models::bert::BertConfig;
use ferrite_models::data::{
    BatchSize, Corpus, CorpusOptions, DataError, DocumentRule, InstanceOptions, Masking,
    MaskingOptions, PretrainingOptions, SentenceRule,
};
use ferrite_models::kernels::{Arithmetic, Level, Precision};
use ferrite_models::tokenizer::train::FILES;
use ferrite_models::tokenizer::{self, Tokenizer, WordPieceTrainer};
use ferrite_models::train::{
    Evaluation, LargestBatch, Memory, OptimizerOptions, PretrainingRun, RunError, RunFolder,
    RunOptions, Schedule, ScheduleShape, StepRecord, TrainerOptions, replace_file,
};

use crate::console::{Console, Progress};
use crate::options::Format;
use crate::outcome::{Failure, Outcome};
use crate::stream::{counted, write_out};

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
    files: Vec<PathBuf>,

    /// The folder to write to; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Go on with the run in --out, given the same options as it was begun with
    #[arg(long)]
    resume: bool,

    /// The sizes of the model: one of BERT's published ones, or a config.json
    ///
    /// tiny: 2 layers, 128 wide; mini: 4, 256; small: 4, 512; medium: 8, 512; base: 12, 768
    #[arg(long, value_name = "SIZE|FILE", default_value = "mini")]
    config: String,

    /// A folder with a tokenizer to use; else one is made of the text
    #[arg(long, value_name = "DIR")]
    vocab: Option<PathBuf>,

    /// Tokens of the vocabulary that is made
    #[arg(long, value_name = "N", default_value_t = 8192, conflicts_with = "vocab")]
    vocab_size: usize,

    /// A vocabulary that tells capital letters and accents
    #[arg(long, conflicts_with = "vocab")]
    cased: bool,

    /// Steps of the whole run
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    steps: u64,

    /// Sequences of a batch
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch: usize,

    /// Batches of a step, one after the other in the same memory
    #[arg(long, value_name = "N", default_value_t = 1)]
    accumulate: usize,

    /// Tokens of the longest sequence
    #[arg(long, value_name = "N", default_value_t = 128)]
    max_length: usize,

    /// The highest learning rate [default: 1e-4 for models 768 wide and wider, else 5e-4]
    #[arg(long, value_name = "RATE")]
    rate: Option<f32>,

    /// Steps in which the rate rises [default: a tenth of all]
    #[arg(long, value_name = "N")]
    warmup: Option<u64>,

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
    lines: bool,

    /// What ends a document besides the end of a file
    #[arg(long, value_name = "RULE", value_enum, default_value_t = Documents::BlankLines)]
    documents: Documents,

    /// The part of the documents to evaluate on and not to train on
    #[arg(long, value_name = "P", default_value_t = 0.02)]
    held_out: f64,

    /// Steps from one evaluation to the next [default: a twentieth of all]
    #[arg(long, value_name = "N")]
    evaluate_every: Option<u64>,

    /// Batches of an evaluation, at most
    #[arg(long, value_name = "N", default_value_t = 50)]
    evaluation_batches: usize,

    /// Steps from one checkpoint to the next [default: a twentieth of all]
    #[arg(long, value_name = "N")]
    save_every: Option<u64>,

    /// Whatever is random follows from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// What is held out, the order of the text and its masks follow from it [default: --seed]
    #[arg(long, value_name = "N")]
    data_seed: Option<u64>,

    /// The numbers that products are computed with; parameters are f32 in any case
    #[arg(long, value_name = "NUMBERS", value_enum, env = "FERRITE_PRECISION")]
    #[arg(default_value_t = Numbers::F32)]
    precision: Numbers,

    /// In what form the last evaluation is written to stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Format::Text)]
    format: Format,
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
enum Documents {
    /// A blank line
    BlankLines,
    /// Nothing: each file is one document
    Files,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Numbers {
    /// f32 throughout
    F32,
    /// bf16 products, f32 sums
    Bf16,
}

pub(crate) fn run(options: &Options, console: &Console) -> Result<Outcome, Failure> {
    options.check()?;
    let stop = stop_on_interrupt()?;
    // Before anything costly, and before a file of a run that is there could be replaced.
    let begin = if options.resume { RunFolder::begun } else { RunFolder::fresh };
    let folder = begin(&options.out).map_err(failure)?;
    let corpus = Arc::new(open_corpus(options, console)?);
    let tokenizer = Arc::new(tokenizer(options, console)?);
    let run_options = options.run_options(&tokenizer)?;
    tell_memory(options, &run_options, console)?;
    let mut run = PretrainingRun::begin(folder, run_options, corpus, tokenizer).map_err(failure)?;
    for damaged in run.damaged() {
        console.note(format!("a checkpoint is damaged, and the one before is taken: {damaged}"));
    }
    if options.resume {
        console.note(format!("going on after step {} of {}", run.steps(), run.total()));
    }
    match train(&mut run, options, console, &stop)? {
        Some(evaluation) => {
            run.export().map_err(failure)?;
            console.note(format!(
                "the model is in {0}; to let it guess: ferrite fill-mask --model {0} \"... [MASK] \
                 ...\"",
                options.out.display()
            ));
            write_out(report(&evaluation, options.format).as_bytes())?;
            Ok(Outcome::Done)
        }
        None => {
            console.note(format!(
                "stopped after step {} of {}, which is saved; the same command with --resume goes \
                 on",
                run.steps(),
                run.total()
            ));
            Ok(Outcome::Interrupted)
        }
    }
}

/// The steps that are left; the last evaluation, or nothing if the user stopped it.
fn train(
    run: &mut PretrainingRun,
    options: &Options,
    console: &Console,
    stop: &AtomicBool,
) -> Result<Option<Evaluation>, Failure> {
    let total = run.total();
    let every = |given: Option<u64>| given.unwrap_or(total / 20).max(1);
    let (evaluate_every, save_every) = (every(options.evaluate_every), every(options.save_every));
    let progress = console.download(Some(total));
    let mut pace = Pace::new();
    let mut evaluation = None;
    while run.steps() < total {
        if stop.load(Ordering::Relaxed) {
            run.save().map_err(failure)?;
            return Ok(None);
        }
        let record = match run.step() {
            Ok(record) => record,
            // What was learnt is whole, though its text is not there any more.
            Err(error @ RunError::Data(_)) => {
                run.save().map_err(failure)?;
                return Err(failure(error));
            }
            Err(error) => return Err(failure(error)),
        };
        pace.add(&record);
        pace.show(&progress, &record, evaluation.as_ref());
        let is_last = record.step == total;
        if is_last || record.step % evaluate_every == 0 {
            let now = run.evaluate().map_err(failure)?;
            progress.aside(|| console.note(line(&record, &now, total, &pace)));
            evaluation = Some(now);
        }
        if is_last || record.step % save_every == 0 {
            run.save().map_err(failure)?;
        }
    }
    // A run that was complete when it was resumed.
    match evaluation {
        Some(evaluation) => Ok(Some(evaluation)),
        None => run.evaluate().map(Some).map_err(failure),
    }
}

/// How fast it goes: a mean over the last steps.
struct Pace {
    start: Instant,
    tokens_per_second: f64,
}

impl Pace {
    fn new() -> Pace {
        Pace { start: Instant::now(), tokens_per_second: 0.0 }
    }

    fn add(&mut self, record: &StepRecord) {
        let now = record.tokens as f64 / record.seconds;
        let weight = if self.tokens_per_second == 0.0 { 1.0 } else { 0.1 };
        self.tokens_per_second += weight * (now - self.tokens_per_second);
    }

    fn show(&self, progress: &Progress, record: &StepRecord, evaluation: Option<&Evaluation>) {
        let held_out = match evaluation {
            Some(of) => format!(", held out {:.3}", of.held_out.masked_loss),
            None => String::new(),
        };
        let StepRecord { step, scores, .. } = record;
        let (loss, pace) = (scores.masked_loss, self.tokens_per_second);
        progress.show(*step, &format!("step {step}, loss {loss:.3}{held_out}, {pace:.0} tokens/s"));
    }
}

fn line(record: &StepRecord, of: &Evaluation, total: u64, pace: &Pace) -> String {
    format!(
        "step {} of {total}, {:.0} s, {:.0} tokens/s: loss {:.3}; held out: masked words {:.3} \
         (perplexity {:.1}, {:.1} % right), next sentence {:.1} % right",
        of.step,
        pace.start.elapsed().as_secs_f64(),
        pace.tokens_per_second,
        record.scores.masked_loss,
        of.held_out.masked_loss,
        of.perplexity,
        100.0 * of.held_out.masked_accuracy,
        100.0 * of.held_out.next_accuracy,
    )
}

fn report(evaluation: &Evaluation, format: Format) -> String {
    let Evaluation { step, held_out, perplexity } = evaluation;
    match format {
        Format::Jsonl => serde_json::to_string(evaluation).expect("numbers") + "\n",
        Format::Text => format!(
            "after {step} steps, on documents that were held out\n\
             masked words   loss {:.4}   perplexity {perplexity:.2}   right {:.1} %\n\
             next sentence  loss {:.4}   right {:.1} %\n",
            held_out.masked_loss,
            100.0 * held_out.masked_accuracy,
            held_out.next_loss,
            100.0 * held_out.next_accuracy,
        ),
    }
}

fn open_corpus(options: &Options, console: &Console) -> Result<Corpus, Failure> {
    let rules = CorpusOptions {
        sentences: if options.lines { SentenceRule::Lines } else { SentenceRule::Split },
        documents: match options.documents {
            Documents::BlankLines => DocumentRule::BlankLines,
            Documents::Files => DocumentRule::Files,
        },
        ..CorpusOptions::default()
    };
    let corpus = Corpus::open(&options.files, rules).map_err(Failure::other)?;
    let report = corpus.report();
    let mut text = format!(
        "{} in {}, {:.1} MB",
        counted(report.documents, "document"),
        counted(report.files, "file"),
        report.bytes as f64 / 1e6
    );
    if report.invalid_utf8 > 0 {
        text += &format!("; {} not in UTF-8", counted(report.invalid_utf8, "place"));
    }
    console.note(text);
    Ok(corpus)
}

/// The tokenizer of --vocab, or of the run that goes on, or a new one; in any case its files are in
/// the folder of the run afterwards.
fn tokenizer(options: &Options, console: &Console) -> Result<Tokenizer, Failure> {
    let out = &options.out;
    let of_folder = |folder: &Path| Tokenizer::from_pretrained(folder).map_err(Failure::other);
    if let Some(folder) = &options.vocab {
        let tokenizer = of_folder(folder)?;
        if !options.resume && !same_file(folder, out) {
            keep(folder, out)?;
        }
        return Ok(tokenizer);
    }
    if options.resume {
        return of_folder(out);
    }
    let settings = tokenizer::TrainerOptions {
        vocab_size: options.vocab_size,
        lowercase: !options.cased,
        ..tokenizer::TrainerOptions::default()
    };
    let start = Instant::now();
    let mut trainer = WordPieceTrainer::new(settings).map_err(Failure::other)?;
    for path in &options.files {
        let file = File::open(path).map_err(Failure::file(path))?;
        trainer.feed(&path.display().to_string(), file).map_err(Failure::other)?;
    }
    let progress = console.download(Some(options.vocab_size as u64));
    let trained = trainer
        .train(|now| {
            if now.tokens % 128 == 0 {
                progress.show(now.tokens as u64, "making a vocabulary");
            }
        })
        .map_err(Failure::other)?;
    drop(progress);
    let made = tempfile::tempdir().map_err(Failure::file(&std::env::temp_dir()))?;
    trained.save(made.path()).map_err(Failure::other)?;
    keep(made.path(), out)?;
    console.note(format!(
        "a vocabulary of {} in {:.1} s",
        counted(trained.tokens().len() as u64, "token"),
        start.elapsed().as_secs_f64()
    ));
    trained.tokenizer().map_err(Failure::other)
}

/// Copies the tokenizer's files into a folder. Another tokenizer there is not replaced.
fn keep(from: &Path, out: &Path) -> Result<(), Failure> {
    let mut files = Vec::new();
    for name in FILES {
        let (from, to) = (from.join(name), out.join(name));
        let new =
            if from.exists() { Some(fs::read(&from).map_err(Failure::file(&from))?) } else { None };
        match to.exists() {
            true if new != Some(fs::read(&to).map_err(Failure::file(&to))?) => {
                return Err(Failure::Other(format!(
                    "{}: of another tokenizer than this run's\n--vocab {} takes that one; or take \
                     another --out.",
                    to.display(),
                    out.display()
                )));
            }
            true => {}
            false => files.extend(new.map(|new| (to, new))),
        }
    }
    for (to, content) in files {
        replace_file(&to, |file| file.write_all(&content)).map_err(failure)?;
    }
    Ok(())
}

fn same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

impl Options {
    /// Refuses what can be told to be wrong before anything is read.
    fn check(&self) -> Result<(), Failure> {
        let usage = |message: String| Err(Failure::Usage(message));
        for (option, value) in [
            ("--steps", self.steps),
            ("--batch", self.batch as u64),
            ("--accumulate", self.accumulate as u64),
            ("--evaluation-batches", self.evaluation_batches as u64),
            ("--evaluate-every", self.evaluate_every.unwrap_or(1)),
            ("--save-every", self.save_every.unwrap_or(1)),
            ("--static-masks", self.static_masks.unwrap_or(1).into()),
        ] {
            if value == 0 {
                return usage(format!("{option} begins at 1"));
            }
        }
        if !(self.held_out > 0.0 && self.held_out < 1.0) {
            return usage(format!("--held-out {}: not between 0 and 1", self.held_out));
        }
        if self.max_length < InstanceOptions::SHORTEST {
            let shortest = InstanceOptions::SHORTEST;
            return usage(format!("--max-length {}: at least {shortest}", self.max_length));
        }
        if self.batch.checked_mul(self.max_length).is_none_or(|tokens| tokens >= 1 << 32) {
            return usage(format!("--batch {}: 2^32 tokens and more", self.batch));
        }
        if let Some(rate) = self.rate.filter(|rate| !(rate.is_finite() && *rate > 0.0)) {
            return usage(format!("--rate {rate}: not a number above 0"));
        }
        Ok(())
    }

    fn run_options(&self, tokenizer: &Tokenizer) -> Result<RunOptions, Failure> {
        let config = self.model(tokenizer)?;
        if self.max_length > config.max_position_embeddings {
            return Err(Failure::Usage(format!(
                "--max-length {}: the model has {} positions",
                self.max_length, config.max_position_embeddings
            )));
        }
        let precision = match self.precision {
            Numbers::F32 => Precision::F32,
            Numbers::Bf16 => Precision::Bf16,
        };
        let usual = if config.hidden_size >= 768 { 1e-4 } else { 5e-4 };
        Ok(RunOptions {
            arithmetic: Arithmetic::new(Level::current(), precision),
            config,
            trainer: TrainerOptions {
                optimizer: match self.optimizer {
                    Recipe::Corrected => OptimizerOptions::CORRECTED,
                    Recipe::Google => OptimizerOptions::GOOGLE,
                },
                schedule: Schedule {
                    peak: self.rate.unwrap_or(usual),
                    warmup: self.warmup.unwrap_or(self.steps / 10),
                    total: self.steps,
                    shape: match self.schedule {
                        Shape::Linear => ScheduleShape::Linear,
                        Shape::Google => ScheduleShape::Google,
                        Shape::Constant => ScheduleShape::Constant,
                    },
                },
                seed: self.seed,
                label_smoothing: 0.0,
            },
            data: PretrainingOptions {
                seed: self.data_seed.unwrap_or(self.seed),
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
            accumulate: self.accumulate,
            evaluation_batches: self.evaluation_batches,
        })
    }

    /// The model's sizes, with as many words as the vocabulary has.
    fn model(&self, tokenizer: &Tokenizer) -> Result<BertConfig, Failure> {
        let (layers, width) = match self.config.as_str() {
            "tiny" => (2, 128),
            "mini" => (4, 256),
            "small" => (4, 512),
            "medium" => (8, 512),
            "base" => (12, 768),
            path => {
                let mut config = BertConfig::from_file(path).map_err(|error| {
                    let known = "tiny, mini, small, medium, base";
                    Failure::Usage(format!("--config {path}: neither {known}, nor {error}"))
                })?;
                if config.vocab_size < tokenizer.vocab_size() {
                    config.vocab_size = tokenizer.vocab_size();
                }
                return self.with_dropout(config);
            }
        };
        let mut config = BertConfig::default();
        config.vocab_size = tokenizer.vocab_size();
        config.num_hidden_layers = layers;
        config.hidden_size = width;
        config.num_attention_heads = width / 64;
        config.intermediate_size = 4 * width;
        config.max_position_embeddings = self.max_length.max(512);
        self.with_dropout(config)
    }

    fn with_dropout(&self, mut config: BertConfig) -> Result<BertConfig, Failure> {
        if let Some(rate) = self.dropout {
            (config.hidden_dropout_prob, config.attention_probs_dropout_prob) = (rate, rate);
        }
        for rate in [config.hidden_dropout_prob, config.attention_probs_dropout_prob] {
            if !(0.0..1.0).contains(&rate) {
                return Err(Failure::Usage(format!("a dropout of {rate} is not in [0, 1)")));
            }
        }
        Ok(config)
    }
}

/// Says what the run will take, before it does; refuses what is more than the machine has.
fn tell_memory(options: &Options, run: &RunOptions, console: &Console) -> Result<(), Failure> {
    let tokens = options.batch * options.max_length;
    let masked = options.batch * run.data.masking.max_predictions;
    let memory =
        Memory::of_pretraining(&run.config, run.arithmetic, LargestBatch { tokens, masked });
    let giga = |bytes: u64| bytes as f64 / 1e9;
    console.note(format!(
        "{:.1} million parameters; {:.2} GB of memory: {:.2} for parameters and optimizer, {:.2} \
         for the model, {:.2} for a batch of {tokens} tokens; products in {}",
        (memory.parameters / 16) as f64 / 1e6,
        giga(memory.total()),
        giga(memory.parameters),
        giga(memory.model),
        giga(memory.activations),
        run.arithmetic
    ));
    match machine_memory() {
        Some(there) if memory.total() > there => Err(Failure::Usage(format!(
            "that is more than the {:.2} GB of this machine: take a smaller --batch, with \
             --accumulate, or a shorter --max-length",
            giga(there)
        ))),
        _ => Ok(()),
    }
}

/// The bytes of memory and swap, where the system says so.
fn machine_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(1024 * line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?)
    };
    Some(bytes("MemTotal:")? + bytes("SwapTotal:").unwrap_or(0))
}

/// A flag that Ctrl-C raises; a second Ctrl-C ends the program at once.
fn stop_on_interrupt() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = stop.clone();
    ctrlc::set_handler(move || {
        if raised.swap(true, Ordering::Relaxed) {
            std::process::exit(Outcome::Interrupted as i32);
        }
    })
    .map_err(|error| Failure::Other(format!("Ctrl-C cannot be watched for: {error}")))?;
    Ok(stop)
}

/// An error of the run, and what can be done about it.
fn failure(error: RunError) -> Failure {
    let advice = match &error {
        RunError::AlreadyThere { .. } => "\n--resume goes on with it; or take another --out.",
        RunError::ModelThere { .. } => "\nTake another --out.",
        RunError::OtherRecipe { setting, .. } if setting == "level" => {
            "\nFERRITE_LEVEL caps the level, if the machine has the one that it was begun with."
        }
        RunError::Data(DataError::OtherData { .. }) => {
            "\nGive the texts and the vocabulary that it was begun with."
        }
        RunError::Data(DataError::EmptyPart { .. }) => {
            "\nA larger --held-out helps, or more documents: blank lines, or files, end them."
        }
        RunError::NothingToResume { .. } => "\nWithout --resume a new run begins.",
        RunError::OtherRecipe { .. } => "\nGive the options that it was begun with.",
        RunError::Diverged { .. } => "\nA lower --rate or a longer --warmup helps, in a new run.",
        _ => "",
    };
    Failure::Other(format!("{error}{advice}"))
}
