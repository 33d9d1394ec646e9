//! What a run takes of the machine's memory.

use std::fs;

use ferrite_models::kernels::Arithmetic;
use ferrite_models::train::Memory;

use crate::console::Console;
use crate::outcome::Failure;

/// Says what the run will take, before it does; refuses what is more than the machine has, with what
/// would need less.
pub(crate) fn tell_memory(
    memory: &Memory,
    batch_tokens: usize,
    arithmetic: Arithmetic,
    less: &str,
    console: &Console,
) -> Result<(), Failure> {
    let giga = |bytes: u64| bytes as f64 / 1e9;
    let average = match memory.average {
        0 => String::new(),
        bytes => format!(", {:.2} for a mean of parameters", giga(bytes)),
    };
    console.note(format!(
        "{:.1} million parameters; {:.2} GB of memory: {:.2} for parameters and optimizer, {:.2} for \
         the model, {:.2} for a batch of {batch_tokens} tokens, {:.2} for texts{average}; products in \
         {arithmetic}",
        (memory.parameters / 16) as f64 / 1e6,
        giga(memory.total()),
        giga(memory.parameters),
        giga(memory.model),
        giga(memory.activations),
        giga(memory.data),
    ));
    match machine_memory() {
        Some(there) if memory.total() > there => Err(Failure::Usage(format!(
            "that is more than the {:.2} GB of this machine: take {less}",
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
