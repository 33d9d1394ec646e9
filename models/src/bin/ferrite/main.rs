//! The program `ferrite`: texts in, numbers out.
//!
//! ```text
//! main       the verbs, and how the program ends
//! options    what several verbs are told
//! console    messages and progress, on stderr
//! model      a name -> a folder
//! input      where the texts come from, read ahead within bounds
//! lines      bytes -> lines -> texts
//! stream     texts -> batches -> results, in order
//! training   what all trainings have in common
//! embed similarity fill_mask tokenize vocab pretrain quickstart translate inspect    the verbs
//! ```
#![forbid(unsafe_code)]
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the options' documents are help texts, shown as they are: [CLS] is no link"
)]

/// The end of each help text.
macro_rules! after_help {
    ($($example:literal)*) => {
        concat!(
            $("Example:\n  ", $example, "\n\n",)*
            "Exit codes:
  0  all is well
  1  failure: input that cannot be read, output that cannot be written
  2  wrong use of the program
  3  some lines of the input were rejected; the others have their results
  4  the model cannot be had, or is not valid
  130  stopped by Ctrl-C; what was done is saved

Environment:
  FERRITE_LEVEL    the instruction set to use, or the highest below it that the CPU has: portable,
                   avx2, avx512, avx512vnni, avx512bf16 or amx
  FERRITE_THREADS  as --threads
  FERRITE_PRECISION
                   as --precision
  HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_ENDPOINT, HF_TOKEN
                   where models are looked for by name, as for the hub's other programs"
        )
    };
}

mod console;
mod embed;
mod fill_mask;
mod input;
mod inspect;
mod lines;
mod model;
mod options;
mod outcome;
mod pretrain;
mod quickstart;
mod similarity;
mod stream;
mod tokenize;
mod training;
mod translate;
mod vocab;

use std::num::NonZero;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ferrite_models::kernels::Level;

use console::Console;
use outcome::{Failure, Outcome};

/// BERT on the CPU: sentence vectors, masked words, tokens; and training it.
#[derive(Parser)]
#[command(name = "ferrite", version, max_term_width = 100, after_help = after_help!())]
#[command(disable_help_subcommand = true, subcommand_required = true)]
struct Program {
    #[command(subcommand)]
    verb: Verb,

    /// Threads to work with [default: as many as the process may use at once]
    #[arg(long, global = true, value_name = "N", env = "FERRITE_THREADS")]
    threads: Option<NonZero<u16>>,

    /// No progress and no warnings on stderr, only errors
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Verb {
    Embed(embed::Options),
    FillMask(fill_mask::Options),
    Tokenize(tokenize::Options),
    Vocab(vocab::Options),
    Pretrain(Box<pretrain::Options>),
    Quickstart(quickstart::Options),
    Translate(translate::Options),
    Inspect(inspect::Options),
}

fn main() -> ExitCode {
    let Program { verb, threads, quiet } = Program::parse();
    let console = Console::new(quiet);
    match run(verb, threads, &console) {
        Ok(outcome) => ExitCode::from(outcome as u8),
        Err(failure) => {
            if let Some(message) = failure.message() {
                console.error(message);
            }
            ExitCode::from(failure.code())
        }
    }
}

fn run(verb: Verb, threads: Option<NonZero<u16>>, console: &Console) -> Result<Outcome, Failure> {
    Level::try_current().map_err(|error| Failure::Usage(error.to_string()))?;
    if let Some(threads) = threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.get().into())
            .build_global()
            .map_err(|error| Failure::Other(format!("--threads {threads}: {error}")))?;
    }
    match verb {
        Verb::Embed(options) => embed::run(options, console),
        Verb::FillMask(options) => fill_mask::run(options, console),
        Verb::Tokenize(options) => tokenize::run(options, console),
        Verb::Vocab(options) => vocab::run(options, console),
        Verb::Pretrain(options) => pretrain::run(&options, console),
        Verb::Quickstart(options) => quickstart::run(options, console),
        Verb::Translate(options) => translate::run(options, console),
        Verb::Inspect(options) => inspect::run(options, console),
    }
}
