//! How far Ferrite is from what this machine can do.
//!
//! ```text
//! limits [--quick] [--json FILE] [--markdown FILE]
//! ```
//!
//! Prints tables in Markdown: what the cores and the memory can do, and then each kernel at real
//! shapes and whole encoders, beside what they could reach at most, measured in the same run. Takes
//! some three minutes, with `--quick` half a minute: fewer rounds and no large batches.
//!
//! Recorded results lie in `bench/results`, as `limits-<cpu>-<date>.json` and `.md`. They need a
//! quiet machine: the last line says what other processes used.

mod attention;
mod encoders;
mod machine;
mod memory;
mod peaks;
mod products;
mod rows;
mod table;

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use rayon::{ThreadPool, ThreadPoolBuilder};
use serde_json::{Value, json};
use table::Table;

/// What to measure with.
struct Setting {
    /// A pool of one thread, and one of all unless that is the same.
    pools: Vec<ThreadPool>,
    /// Whether to be done soon.
    quick: bool,
    /// Rounds of what takes a few milliseconds.
    rounds: usize,
}

impl Setting {
    fn new(quick: bool) -> Result<Setting, Box<dyn Error>> {
        let all = std::thread::available_parallelism()?.get();
        let threads = if all == 1 { vec![1] } else { vec![1, all] };
        let pools = threads.into_iter().map(|n| ThreadPoolBuilder::new().num_threads(n).build());
        let pools = pools.collect::<Result<_, _>>()?;
        Ok(Setting { pools, quick, rounds: if quick { 5 } else { 11 } })
    }

    /// The pool of all threads.
    fn all(&self) -> &ThreadPool {
        self.pools.last().expect("at least one pool")
    }
}

/// What is printed and written, as far as it got.
struct Report {
    markdown: String,
    json: serde_json::Map<String, Value>,
}

impl Report {
    fn say(&mut self, text: &str) {
        println!("{text}");
        self.markdown += text;
        self.markdown.push('\n');
    }

    fn add(&mut self, table: Table) {
        self.say(&table.markdown());
        self.json.insert(table.key.to_owned(), table.json());
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::from_args(std::env::args().skip(1))?;
    let start = Instant::now();
    let load = machine::Load::now();
    let setting = Setting::new(options.quick)?;
    let mut report = Report { markdown: String::new(), json: serde_json::Map::new() };
    let (text, machine) = machine::describe()?;
    report.say(&text);
    report.json.insert("quick".into(), json!(options.quick));
    report.json.insert("machine".into(), machine);

    report.add(peaks::measure(&setting));
    report.add(memory::measure(&setting));
    report.add(products::measure(&setting));
    report.add(attention::measure(&setting));
    report.add(rows::measure(&setting));
    for table in encoders::measure(&setting)? {
        report.add(table);
    }

    let seconds = start.elapsed().as_secs_f64();
    let others = load.zip(machine::Load::now()).map(|(from, to)| from.others_until(&to));
    report.say(&format!(
        "Measured in {seconds:.0} s, during which other processes used {} of the machine.",
        others.map_or("an unknown part".into(), |part| format!("{:.0} %", 100.0 * part))
    ));
    report.json.insert("seconds".into(), json!(seconds.round()));
    report.json.insert("others".into(), json!(others.map(table::rounded)));
    if let Some(path) = options.markdown {
        std::fs::write(path, report.markdown)?;
    }
    if let Some(path) = options.json {
        std::fs::write(path, serde_json::to_string_pretty(&report.json)? + "\n")?;
    }
    Ok(())
}

struct Options {
    quick: bool,
    json: Option<PathBuf>,
    markdown: Option<PathBuf>,
}

impl Options {
    fn from_args(mut args: impl Iterator<Item = String>) -> Result<Options, Box<dyn Error>> {
        let mut options = Options { quick: false, json: None, markdown: None };
        while let Some(name) = args.next() {
            let mut file = || args.next().ok_or_else(|| format!("{name} needs a file"));
            match name.as_str() {
                "--quick" => options.quick = true,
                "--json" => options.json = Some(file()?.into()),
                "--markdown" => options.markdown = Some(file()?.into()),
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        Ok(options)
    }
}
