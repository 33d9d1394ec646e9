//! What a run takes of the machine's memory.

use std::fs;

use ferrite_models::data::Corpus;
use ferrite_models::train::{LargestBatch, Memory, RunOptions};

use super::options::Options;
use crate::console::Console;
use crate::outcome::Failure;

/// Says what the run will take, before it does; refuses what is more than the machine has.
pub(super) fn tell_memory(
    options: &Options,
    run: &RunOptions,
    corpus: &Corpus,
    console: &Console,
) -> Result<(), Failure> {
    let tokens = options.batch * options.max_length;
    let masked = options.batch * run.data.masking.max_predictions;
    let memory =
        Memory::of_pretraining(&run.config, run.arithmetic, LargestBatch { tokens, masked })
            .with_data(run.data.memory(corpus));
    let giga = |bytes: u64| bytes as f64 / 1e9;
    console.note(format!(
        "{:.1} million parameters; {:.2} GB of memory: {:.2} for parameters and optimizer, {:.2} \
         for the model, {:.2} for a batch of {tokens} tokens, {:.2} for texts; products in {}",
        (memory.parameters / 16) as f64 / 1e6,
        giga(memory.total()),
        giga(memory.parameters),
        giga(memory.model),
        giga(memory.activations),
        giga(memory.data),
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
