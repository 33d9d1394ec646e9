//! `ferrite translate`: the Transformer of 2017, trained and put to work.
//!
//! ```text
//! train        pairs of texts to a model
//! run          texts to texts
//! evaluate     how good they are
//! quickstart   a little translator from nothing
//! pairs        pairs of texts, read line by line
//! ```

mod evaluate;
mod pairs;
mod quickstart;
mod run;
mod train;

use clap::{Args, Subcommand};

use crate::console::Console;
use crate::outcome::{Failure, Outcome};

/// Train translators and translate
#[derive(Args)]
#[command(after_help = after_help!("ferrite translate quickstart --out numbers"))]
#[command(disable_help_subcommand = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Train(Box<train::Options>),
    Run(Box<run::Options>),
    Evaluate(Box<evaluate::Options>),
    Quickstart(quickstart::Options),
}

pub(crate) fn run(options: Options, console: &Console) -> Result<Outcome, Failure> {
    match options.verb {
        Verb::Train(options) => train::run(&options, console),
        Verb::Run(options) => run::run(*options, console),
        Verb::Evaluate(options) => evaluate::run(&options, console),
        Verb::Quickstart(options) => quickstart::run(options, console),
    }
}
