//! `ferrite translate`: the Transformer of 2017, trained and put to work.
//!
//! ```text
//! run          texts to texts
//! quickstart   a little translator from nothing
//! ```

mod quickstart;
mod run;

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
    Run(Box<run::Options>),
    Quickstart(quickstart::Options),
}

pub(crate) fn run(options: Options, console: &Console) -> Result<Outcome, Failure> {
    match options.verb {
        Verb::Run(options) => run::run(*options, console),
        Verb::Quickstart(options) => quickstart::run(options, console),
    }
}
