//! Trainings by the program that take a second: a corpus and a model for `ferrite pretrain`, and what
//! runs of any kind come to.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ferrite_kernels::testing::Random;
use ferrite_models::train::store;
use serde_json::Value;
use tempfile::TempDir;

use crate::cli_common::{Run, ferrite, run_command};

pub(crate) const STEPS: u64 = 60;
/// Steps from one checkpoint to the next.
pub(crate) const SAVE_EVERY: u64 = 4;

/// Documents of random sentences of a few words.
pub(crate) fn text(documents: usize) -> String {
    let words = ["amber", "basalt", "chalk", "dune", "ember", "flint", "garnet", "heath", "iron"];
    let mut random = Random::new(5);
    let mut sentence = || {
        let length = 3 + random.below(8);
        let words: Vec<&str> = (0..length).map(|_| words[random.below(words.len())]).collect();
        words.join(" ") + ".\n"
    };
    let mut document =
        |number: usize| (0..3 + number % 5).map(|_| sentence()).collect::<String>() + "\n";
    (0..documents).map(&mut document).collect()
}

/// A corpus and a model, and a folder around all that is made of them.
pub(crate) struct Setting {
    pub(crate) folder: TempDir,
    pub(crate) corpus: PathBuf,
    pub(crate) config: PathBuf,
}

impl Setting {
    pub(crate) fn new() -> Setting {
        let folder = tempfile::tempdir().unwrap();
        let [corpus, config] = ["corpus.txt", "tiny.json"].map(|name| folder.path().join(name));
        fs::write(&corpus, text(60)).unwrap();
        let sizes = r#"{"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 32}"#;
        fs::write(&config, sizes).unwrap();
        Setting { folder, corpus, config }
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What every run is told; arguments that stand behind these replace them.
    pub(crate) fn arguments(&self, out: &Path) -> Vec<String> {
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let (steps, save_every) = (STEPS.to_string(), SAVE_EVERY.to_string());
        let mut arguments = vec!["pretrain".to_owned(), path(&self.corpus)];
        for (name, value) in [
            ("--out", &*path(out)),
            ("--config", &path(&self.config)),
            ("--vocab-size", "60"),
            ("--steps", &steps),
            ("--batch", "8"),
            ("--max-length", "32"),
            ("--held-out", "0.1"),
            ("--save-every", &save_every),
            ("--evaluate-every", "15"),
            ("--threads", "1"),
        ] {
            arguments.extend([name.to_owned(), value.to_owned()]);
        }
        arguments
    }

    /// The program with these arguments besides.
    pub(crate) fn command(&self, out: &Path, more: &[&str]) -> Command {
        let mut arguments = self.arguments(out);
        for argument in more.chunks(2) {
            match (argument, arguments.iter().position(|known| *known == argument[0])) {
                ([_, value], Some(place)) => arguments[place + 1] = (*value).to_owned(),
                _ => arguments.extend(argument.iter().map(|&argument| argument.to_owned())),
            }
        }
        ferrite(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The same, to its end.
    pub(crate) fn run(&self, out: &Path, more: &[&str]) -> Run {
        run_command(&mut self.command(out, more), b"")
    }

    /// A run that nothing happens to.
    pub(crate) fn straight(&self) -> End {
        let out = self.path("straight");
        let run = self.run(&out, &[]).code(0);
        End::of(&out, &run)
    }

    /// A run that was killed when it had this many checkpoints; the step of the last of them.
    pub(crate) fn killed(&self, out: &Path, checkpoints: usize) -> u64 {
        // On a busy machine it may have ended before the signal comes.
        for _ in 0..20 {
            let mut child = self.command(out, &[]).spawn().unwrap();
            while steps(out).len() < checkpoints && child.try_wait().unwrap().is_none() {
                sleep(Duration::from_micros(200));
            }
            child.kill().unwrap();
            let run = ended(child);
            if run.code.is_none() {
                return newest(out).unwrap();
            }
            run.code(0);
            fs::remove_dir_all(out).unwrap();
        }
        panic!("it always ends before it is killed");
    }
}

/// Runs that are killed at random moments and go on, with 1, 2 or 3 threads, until 25 were killed: each
/// ends as `expected`, which was there after `length`. The command is given where a run is, and
/// arguments besides: pairs, and `--resume` in the end.
pub(crate) fn killed_25_times(
    folder: &Path,
    expected: &End,
    length: Duration,
    command: impl Fn(&Path, &[&str]) -> Command,
) {
    let mut random = Random::new(25);
    let (mut kills, mut kills_before_the_first, mut starts, mut runs) = (0, 0, 0, 0);
    while kills < 25 {
        runs += 1;
        let out = folder.join(format!("killed-{runs}"));
        // Whether there is something to go on with the program has to know.
        let mut resume = true;
        let last = loop {
            starts += 1;
            assert!(starts < 500, "{kills} kills in {starts} starts");
            let before = newest(&out);
            let threads = (1 + starts % 3).to_string();
            let arguments = ["--threads", &threads, "--resume"];
            let arguments = if resume { &arguments[..] } else { &arguments[..2] };
            let mut child = command(&out, arguments).spawn().unwrap();
            let kill_at = Instant::now() + length.mul_f32(random.uniform(0.0, 0.4));
            let is_running = |child: &mut Child| child.try_wait().unwrap().is_none();
            while is_running(&mut child) && (kills == 25 || Instant::now() < kill_at) {
                sleep(Duration::from_micros(500));
            }
            child.kill().unwrap();
            let run = ended(child);
            let now = newest(&out);
            assert!(now >= before, "{before:?}, and then {now:?}: {}", run.err);
            assert!(!run.err.contains("damaged"), "{}", run.err);
            if let Some(step) = going_on_after(&run.err) {
                assert_eq!(Some(step), before, "{}", run.err);
            }
            match run.code {
                Some(0) => break run,
                None => {
                    kills += 1;
                    kills_before_the_first += u32::from(now.is_none());
                    resume = true;
                }
                Some(1) if resume && before.is_none() => {
                    assert!(run.err.contains("no checkpoint to go on from"), "{}", run.err);
                    assert!(run.err.contains("Without --resume a new run begins."), "{}", run.err);
                    resume = false;
                }
                code => panic!("{code:?}: {}", run.err),
            }
        };
        End::of(&out, &last).assert_is(expected, &format!("run {runs}"));
    }
    println!("{kills} kills in {runs} runs, {kills_before_the_first} before the first checkpoint");
}

/// Sends a signal to a process, which may have ended.
pub(crate) fn signal(child: &Child, name: &str) {
    let script = format!("kill -{name} {}", child.id());
    Command::new("sh").args(["-c", &script]).status().unwrap();
}

/// What of a process that was stopped by a signal, or ended before, can be seen.
pub(crate) fn ended(child: Child) -> Run {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// The steps that there are folders of checkpoints of, sorted.
pub(crate) fn steps(out: &Path) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(out.join("checkpoints")) else { return Vec::new() };
    let mut steps: Vec<u64> = entries
        .filter_map(|entry| {
            entry.unwrap().file_name().to_str().unwrap().strip_prefix("step-")?.parse().ok()
        })
        .collect();
    steps.sort_unstable();
    steps
}

/// The step of the newest checkpoint, every bit of which is checked.
pub(crate) fn newest(out: &Path) -> Option<u64> {
    let stored = store::latest(&out.join("checkpoints")).unwrap()?;
    assert!(stored.skipped.is_empty(), "{:?}", stored.skipped);
    Some(stored.step)
}

/// The step that a run says it goes on after.
pub(crate) fn going_on_after(err: &str) -> Option<u64> {
    let (_, rest) = err.split_once("going on after step ")?;
    rest.split(' ').next()?.parse().ok()
}

/// What a run comes to: every file in its folder, and what it wrote to stdout.
#[derive(PartialEq)]
pub(crate) struct End {
    files: BTreeMap<String, Vec<u8>>,
    log: Vec<Value>,
    out: String,
}

impl End {
    /// Of a run that has ended well.
    pub(crate) fn of(out: &Path, run: &Run) -> End {
        let mut files = BTreeMap::new();
        collect(out, "", &mut files);
        let log = String::from_utf8(files.remove("log.jsonl").unwrap()).unwrap();
        let record = |line: &str| {
            let mut record: Value = serde_json::from_str(line).unwrap();
            // The one thing in it that no two runs have in common.
            record.as_object_mut().unwrap().remove("seconds");
            record
        };
        End { files, log: log.lines().map(record).collect(), out: run.out.clone() }
    }

    /// Asserts that this is what the other came to, file by file.
    #[track_caller]
    pub(crate) fn assert_is(&self, expected: &End, what: &str) {
        let names = |end: &End| end.files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(self), names(expected), "{what}");
        for (name, bytes) in &self.files {
            assert!(*bytes == expected.files[name], "{what}: {name} differs");
        }
        assert_eq!(self.log, expected.log, "{what}");
        assert_eq!(self.out, expected.out, "{what}");
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }
}

/// All files under a folder, by their paths in it.
fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), &format!("{name}/"), files);
        } else {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
}
