//! `ferrite vocab train`: a corpus to the vocabulary of a tokenizer.

use std::fmt::Write;
use std::fs::File;
use std::io::{IsTerminal, Read, stdin};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand, ValueEnum};
use ferrite_models::tokenizer::train::{FILES, PairScore, Stop, Trained};
use ferrite_models::tokenizer::{Error, Tokenizer, TrainerOptions, WordPieceTrainer};

use crate::console::{Console, Progress};
use crate::outcome::{Failure, Outcome, prepare};
use crate::stream::counted;

/// The tokenizer of some texts, saved into a folder.
pub(crate) fn tokenizer_of<'a>(
    texts: impl IntoIterator<Item = &'a str>,
    options: TrainerOptions,
    out: &Path,
) -> Result<Tokenizer, Failure> {
    let mut trainer = WordPieceTrainer::new(options).map_err(Failure::other)?;
    texts.into_iter().for_each(|text| trainer.count(text));
    let trained = trainer.train(|_| ()).map_err(Failure::other)?;
    trained.save(out).map_err(Failure::other)?;
    trained.tokenizer().map_err(Failure::other)
}

/// Make vocabularies
#[derive(Args)]
#[command(after_help = after_help!("ferrite vocab train corpus.txt --out my-bert --size 30522"))]
#[command(disable_help_subcommand = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Train(TrainOptions),
}

/// Make a WordPiece vocabulary of a corpus
///
/// Writes vocab.txt, tokenizer.json and tokenizer_config.json, for Ferrite as for transformers and
/// the tokenizers crate. The same words give the same bytes, in whatever order the files and their
/// lines come, on any machine, with any number of threads. What was read and made is summed up on
/// stderr.
#[derive(Args)]
#[command(after_help = after_help!(
    "ferrite vocab train corpus/*.txt --out my-bert --size 30522 --lowercase"
))]
struct TrainOptions {
    /// Files of text in UTF-8; if there is none, or for `-`, stdin is read
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The folder to write to; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Replace a tokenizer that is already there
    #[arg(long)]
    overwrite: bool,

    /// Tokens to have in the end
    #[arg(long, value_name = "N", default_value_t = TrainerOptions::default().vocab_size)]
    size: usize,

    /// For an uncased model: letters are lower-cased, accents stripped [default]
    #[arg(long, conflicts_with = "cased")]
    lowercase: bool,

    /// For a cased model: letters and accents stay as they are
    #[arg(long)]
    cased: bool,

    /// How often two pieces have to occur side by side to become one token
    #[arg(long, value_name = "N", default_value_t = TrainerOptions::default().min_frequency)]
    min_frequency: u64,

    /// Which two pieces come first
    #[arg(long, value_name = "SCORE", value_enum, default_value_t = Score::Count)]
    score: Score,

    /// Characters to keep, the most frequent ones
    #[arg(long, value_name = "N", default_value_t = TrainerOptions::default().limit_alphabet)]
    limit_alphabet: usize,

    /// Distinct words to hold in memory, at about 100 bytes each; beyond it the rarest are dropped
    #[arg(long, value_name = "N", default_value_t = TrainerOptions::default().max_words)]
    max_words: usize,
}

/// The names of scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Score {
    /// The most frequent, as in the trainer of the tokenizers crate
    Count,
    /// The most frequent in proportion to how often each of them occurs
    Likelihood,
}

pub(crate) fn run(options: Options, console: &Console) -> Result<Outcome, Failure> {
    let Verb::Train(options) = options.verb;
    train(&options, console)
}

fn train(options: &TrainOptions, console: &Console) -> Result<Outcome, Failure> {
    let start = Instant::now();
    // What would be in the way at the end is told at the beginning.
    prepare(&options.out, FILES, options.overwrite)?;
    let files = match &options.files[..] {
        [] => vec![PathBuf::from("-")],
        files => files.to_vec(),
    };
    let total = total(&files)?;
    let mut trainer = WordPieceTrainer::new(TrainerOptions {
        vocab_size: options.size,
        min_frequency: options.min_frequency,
        limit_alphabet: options.limit_alphabet,
        score: match options.score {
            Score::Count => PairScore::Count,
            Score::Likelihood => PairScore::Likelihood,
        },
        lowercase: !options.cased,
        max_words: options.max_words,
        ..TrainerOptions::default()
    })
    .map_err(failure)?;

    let progress = console.download(total);
    let mut read = 0;
    for path in &files {
        progress.show(read, &format!("counting the words of {}", path.display()));
        if path.as_os_str() == "-" {
            if stdin().is_terminal() {
                console.note("reading text from the terminal (end with Ctrl-D)");
            }
            feed(&mut trainer, "stdin", stdin(), &mut read, &progress)?;
        } else {
            let file = File::open(path).map_err(Failure::file(path))?;
            feed(&mut trainer, &path.display().to_string(), file, &mut read, &progress)?;
        }
    }
    drop(progress);

    let progress = console.download(Some(options.size as u64));
    let trained = trainer
        .train(|now| {
            // Drawn a few hundred times in all.
            if now.tokens % 128 == 0 {
                progress.show(now.tokens as u64, "merging");
            }
        })
        .map_err(failure)?;
    drop(progress);
    trained.save(&options.out).map_err(failure)?;
    console.note(summary(&trained, options, start.elapsed().as_secs_f64()));
    Ok(Outcome::Done)
}

/// The size of all files together, if all are regular ones.
fn total(files: &[PathBuf]) -> Result<Option<u64>, Failure> {
    let mut total = Some(0);
    for path in files {
        if path.as_os_str() == "-" {
            total = None;
            continue;
        }
        let metadata = std::fs::metadata(path).map_err(Failure::file(path))?;
        if metadata.is_dir() {
            return Err(Failure::Other(format!("{}: a folder, not a file", path.display())));
        }
        total = total.filter(|_| metadata.is_file()).map(|sum: u64| sum + metadata.len());
    }
    Ok(total)
}

fn feed(
    trainer: &mut WordPieceTrainer,
    name: &str,
    reader: impl Read,
    read: &mut u64,
    progress: &Progress,
) -> Result<(), Failure> {
    trainer.feed(name, Watched { reader, read, progress }).map_err(failure)
}

/// A reader whose bytes move a bar.
struct Watched<'a, R> {
    reader: R,
    read: &'a mut u64,
    progress: &'a Progress,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let length = self.reader.read(out)?;
        *self.read += length as u64;
        self.progress.position(*self.read);
        Ok(length)
    }
}

/// An error of the trainer, and what can be done about it.
fn failure(error: Error) -> Failure {
    let advice = match &error {
        Error::CorpusNotUtf8 { .. } => {
            "\nText in another encoding can be converted, by iconv for \
                                        instance."
        }
        Error::VocabTooSmall { .. } => "\nA larger --size or a smaller --limit-alphabet helps.",
        _ => "",
    };
    Failure::Other(format!("{error}{advice}"))
}

/// What was read, what was made of it, and what the user may not expect.
fn summary(trained: &Trained, options: &TrainOptions, seconds: f64) -> String {
    let (summary, tokens) = (trained.summary(), trained.tokens());
    let mut out = format!(
        "{}, {} of them distinct; {}, {} kept",
        counted(summary.words, "word"),
        summary.distinct_words,
        counted(summary.characters as u64, "character"),
        summary.alphabet
    );
    let mut line = |text: std::fmt::Arguments<'_>| {
        write!(out, "\n{text}").expect("a string takes everything");
    };
    if summary.long_words > 0 {
        let words = counted(summary.long_words, "word");
        line(format_args!("{words} of more than 100 characters not counted"));
    }
    if summary.dropped_words > 0 {
        line(format_args!(
            "{} dropped by --max-words {}, of the rarest: their counts are too low",
            counted(summary.dropped_words, "word"),
            options.max_words
        ));
    }
    if summary.left_out_words > 0 {
        line(format_args!(
            "{} ({}) with characters beyond --limit-alphabet {}, to be [UNK]",
            counted(summary.left_out_words, "word"),
            counted(summary.left_out_occurrences, "occurrence"),
            options.limit_alphabet
        ));
    }
    line(format_args!(
        "{} by {} in {seconds:.1} s: {}",
        counted(tokens.len() as u64, "token"),
        counted(summary.merges as u64, "merge"),
        options.out.display()
    ));
    match trained.stop() {
        Stop::Size => {}
        Stop::Rare => line(format_args!(
            "fewer than --size {}: no other pair occurs --min-frequency {} times",
            options.size, options.min_frequency
        )),
        Stop::Whole => line(format_args!(
            "fewer than --size {}: every word of the corpus is a token",
            options.size
        )),
    }
    let mut longest: Vec<_> = tokens.iter().filter(|token| !token.starts_with('[')).collect();
    let length = |token: &str| token.strip_prefix("##").unwrap_or(token).chars().count();
    longest.sort_by_key(|token| std::cmp::Reverse(length(token)));
    longest.truncate(5);
    let longest: Vec<&str> = longest.into_iter().map(String::as_str).collect();
    line(format_args!("the longest: {}", longest.join(" ")));
    out
}
