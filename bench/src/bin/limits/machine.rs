//! What this machine is, as far as the operating system tells.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use ferrite_kernels::{Arithmetic, Level, Precision, UnknownLevel};
use serde_json::{Value, json};

/// The CPU features that decide how fast products are, by Linux's names.
const FEATURES: [&str; 9] = [
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
];

/// The head of the report, and the same in JSON. What the system does not tell is left empty.
pub(crate) fn describe() -> Result<(String, Value), UnknownLevel> {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &'static str| fields(&info, name).next().unwrap_or_default();
    let cpu = format!(
        "{} (family {}, model {}, stepping {})",
        field("model name"),
        field("cpu family"),
        field("model"),
        field("stepping")
    );
    let sockets = fields(&info, "physical id");
    let cores = sockets.zip(fields(&info, "core id")).collect::<BTreeSet<_>>().len();
    let threads = fields(&info, "processor").count();
    let flags: BTreeSet<&str> = field("flags").split_whitespace().collect();
    let (present, missing): (Vec<&str>, Vec<&str>) =
        FEATURES.iter().partition(|name| flags.contains(*name));
    let caches = caches();
    let level = Level::try_current()?;
    let levels: Vec<_> = Level::available().iter().map(|level| level.name()).collect();
    let instructions = Precision::ALL.map(|precision| {
        (precision.name().to_owned(), Arithmetic::new(level, precision).instruction())
    });
    let date = time::OffsetDateTime::now_utc().date().to_string();
    let version = env!("CARGO_PKG_VERSION");
    let commit = commit().unwrap_or_default();

    let named = instructions.each_ref().map(|(precision, by)| format!("{precision} by {by}"));
    let text = format!(
        "# The limits of {}\n\n\
         - {cpu}; {cores} cores, {threads} threads\n\
         - caches of a core: {}\n\
         - features: {}; missing: {}\n\
         - levels: {}; missing: {}; used: {level}\n\
         - products: {}\n\
         - Ferrite {version} {commit}, {date}\n",
        field("model name"),
        caches.join(", "),
        present.join(" "),
        missing.join(" "),
        levels.join(" "),
        Level::missing().join(" "),
        named.join(", ")
    );
    let json = json!({
        "cpu": cpu,
        "cores": cores,
        "threads": threads,
        "caches": caches,
        "features": present,
        "features_missing": missing,
        "levels": levels,
        "levels_missing": Level::missing(),
        "level": level.name(),
        "instructions": instructions.into_iter().collect::<BTreeMap<_, _>>(),
        "version": version,
        "commit": commit,
        "date": date,
    });
    Ok((text, json))
}

/// The values of a field of `/proc/cpuinfo`, one for each thread.
fn fields<'a>(info: &'a str, name: &'static str) -> impl Iterator<Item = &'a str> {
    let lines = info.lines().filter_map(|line| line.split_once(':'));
    lines.filter(move |(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

/// The data caches that the first core sees, such as `L2 1024K`.
fn caches() -> Vec<String> {
    let read = |index: usize, file: &str| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{file}");
        fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
    };
    let cache = |index| Some((read(index, "type")?, read(index, "level")?, read(index, "size")?));
    let caches = (0..8).map_while(cache).filter(|(kind, ..)| kind != "Instruction");
    caches.map(|(_, level, size)| format!("L{level} {size}")).collect()
}

/// The commit that the working folder is at, with `-dirty` if files differ from it.
fn commit() -> Option<String> {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// What processors did since the system started, in ticks.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// Of all processors, idle or not.
    all: f64,
    /// Of these, the ones that some process used, on this machine or beside it on the same host.
    busy: f64,
    /// Of these, those of this process.
    own: f64,
}

impl Load {
    /// As of now, where the system tells.
    pub(crate) fn now() -> Option<Load> {
        let system = fs::read_to_string("/proc/stat").ok()?;
        let ticks: Vec<f64> = system
            .lines()
            .next()?
            .split_whitespace()
            .skip(1)
            .take(8)
            .map_while(|word| word.parse().ok())
            .collect();
        // user, nice, system, idle, waiting for input or output, two of interrupts, stolen
        let &[_, _, _, idle, waiting, _, _, _] = ticks.as_slice() else { return None };
        let own = fs::read_to_string("/proc/self/stat").ok()?;
        // The name in brackets may have blanks; user and system time are fields 14 and 15.
        let mut own = own.rsplit_once(')')?.1.split_whitespace().skip(11);
        let mut next = || own.next()?.parse::<f64>().ok();
        let all = ticks.iter().sum::<f64>();
        Some(Load { all, busy: all - idle - waiting, own: next()? + next()? })
    }

    /// The part of the machine that others used between two moments.
    pub(crate) fn others_until(&self, later: &Load) -> f64 {
        let busy = (later.busy - self.busy) - (later.own - self.own);
        (busy / (later.all - self.all)).max(0.0)
    }
}
