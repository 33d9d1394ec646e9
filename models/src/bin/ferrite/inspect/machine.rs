//! What this machine has, and what is chosen of it.

use std::fmt::Write;

use ferrite_models::kernels::{Arithmetic, LEVEL_VARIABLE, Level, Precision};
use serde::Serialize;

use crate::console::printable;

/// The machine that a model would run on.
#[derive(Serialize)]
pub(super) struct Machine {
    /// What its maker calls it, if it says so.
    cpu: Option<String>,
    /// The architecture that the program was built for.
    architecture: &'static str,
    pub(super) threads: usize,
    /// What everything runs at.
    pub(super) level: &'static str,
    /// All levels that this machine has, the lowest first.
    pub(super) levels: Vec<&'static str>,
    /// Those that it lacks.
    missing: Vec<&'static str>,
    /// One for each precision.
    products: Vec<Products>,
}

/// How products are computed.
#[derive(Serialize)]
struct Products {
    precision: &'static str,
    /// The level of everything around them.
    level: &'static str,
    /// What multiplies.
    instruction: &'static str,
    /// The lowest level that has the kernel: those above it compute such products no otherwise.
    kernel: &'static str,
}

impl Machine {
    pub(super) fn new() -> Machine {
        Machine {
            cpu: cpu_name(),
            architecture: std::env::consts::ARCH,
            threads: rayon::current_num_threads(),
            level: Level::current().name(),
            levels: Level::available().into_iter().map(Level::name).collect(),
            missing: Level::missing(),
            products: Precision::ALL.map(Products::new).into(),
        }
    }

    /// The whole of it, to be read.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |name: &str, value: &str| {
            writeln!(out, "{name:<10} {}", printable(value)).expect("a string takes everything");
        };
        let list = |names: &[&str]| if names.is_empty() { "-".into() } else { names.join(", ") };
        let name = self.cpu.as_deref().unwrap_or("a CPU without a name");
        line("cpu", &format!("{name} ({})", self.architecture));
        line("threads", &self.threads.to_string());
        line("levels", &list(&self.levels));
        line("missing", &list(&self.missing));
        let own = Level::detect(None).expect("no level is asked for").name();
        let highest = self.levels.last().copied().unwrap_or(own);
        let why = match self.level {
            level if level != own => format!(", by {LEVEL_VARIABLE}"),
            level if level != highest => format!(", faster on this CPU than {highest}"),
            _ => String::new(),
        };
        line("level", &format!("{}{why}", self.level));
        for Products { precision, instruction, kernel, .. } in &self.products {
            line(precision, &format!("{instruction}, the kernel of {kernel}"));
        }
        out
    }
}

impl Products {
    fn new(precision: Precision) -> Products {
        let level = Level::current();
        let arithmetic = Arithmetic::new(level, precision);
        // Each kernel at the lowest level that has it, lowest first.
        let levels = Level::available();
        let up_to_here = levels.iter().take_while(|&&lower| lower != level).chain([&level]);
        let kernel = up_to_here
            .filter(|&&level| Arithmetic::available().contains(&Arithmetic::new(level, precision)))
            .last()
            .expect("the lowest level has a kernel for everything");
        Products {
            precision: precision.name(),
            level: level.name(),
            instruction: arithmetic.instruction(),
            kernel: kernel.name(),
        }
    }
}

/// The name that an x86 CPU has in its registers.
#[cfg(target_arch = "x86_64")]
fn cpu_name() -> Option<String> {
    use std::arch::x86_64::__cpuid;
    const FIRST: u32 = 0x8000_0002;
    const LAST: u32 = 0x8000_0004;
    if __cpuid(0x8000_0000).eax < LAST {
        return None;
    }
    let registers = (FIRST..=LAST).flat_map(|leaf| {
        let part = __cpuid(leaf);
        [part.eax, part.ebx, part.ecx, part.edx]
    });
    let bytes: Vec<u8> = registers.flat_map(u32::to_le_bytes).collect();
    let name = String::from_utf8_lossy(&bytes);
    let name = name.trim_matches(['\0', ' ']);
    (!name.is_empty()).then(|| name.to_owned())
}

/// Other CPUs do not say what they are called.
#[cfg(not(target_arch = "x86_64"))]
fn cpu_name() -> Option<String> {
    None
}
