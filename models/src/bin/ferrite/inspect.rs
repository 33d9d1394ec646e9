use crate::console::Console;
use crate::outcome::{Failure, Outcome};
use clap::Args;
/// Look
#[derive(Args)]
pub(crate) struct Options {}
pub(crate) fn run(_options: Options, _console: &Console) -> Result<Outcome, Failure> {
    Ok(Outcome::InvalidModel)
}
