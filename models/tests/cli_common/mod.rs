//! The real program, run on the small folders of the oracle.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

/// A folder of the oracle.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle").join(name)
}

/// The program, without network and without what this machine's user has set.
pub(crate) fn ferrite(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferrite"));
    command.args(arguments).env("HF_HUB_OFFLINE", "1");
    command.env_remove("FERRITE_THREADS").env_remove("FERRITE_PRECISION");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn code(self, expected: i32) -> Run {
        assert_eq!(self.code, Some(expected), "{}", self.err);
        self
    }

    pub(crate) fn lines(&self) -> Vec<&str> {
        self.out.lines().collect()
    }

    /// Each line of the output as JSON.
    pub(crate) fn json(&self) -> Vec<serde_json::Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Runs a command to its end.
pub(crate) fn run_command(command: &mut Command, stdin: &[u8]) -> Run {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    // Written from aside, since the program writes before it has read all.
    let writer = thread::spawn(move || {
        // It may end without reading all.
        let _ = pipe.write_all(&stdin);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Run {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs the program with these arguments on a folder of the oracle.
pub(crate) fn run(model: &str, arguments: &[&str], stdin: impl AsRef<[u8]>) -> Run {
    let mut command = ferrite(arguments);
    run_command(command.arg("--model").arg(folder(model)), stdin.as_ref())
}

/// The report of a quickstart, and the folder that it left: `own`, where it is run with the recipe as
/// it is. That takes a minute or two in a release build and some more in this one, so `variable` may
/// name the folder of a run that is done, whose report lies beside it:
/// `ferrite quickstart --out FOLDER --format jsonl > FOLDER.jsonl`.
pub(crate) fn quickstart(
    verb: &[&str],
    variable: &str,
    own: PathBuf,
) -> (serde_json::Value, PathBuf) {
    let (out, report) = match std::env::var_os(variable).map(PathBuf::from) {
        Some(out) => (out.clone(), std::fs::read(out.with_extension("jsonl")).unwrap()),
        None => {
            let mut command = ferrite(&[verb, &["--format", "jsonl", "--out"]].concat());
            let run = run_command(command.arg(&own), b"").code(0);
            (own, run.out.into_bytes())
        }
    };
    (serde_json::from_slice(&report).unwrap(), out)
}

/// A copy of a folder of the oracle, to be broken.
pub(crate) fn copy(name: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_into(&folder(name), copy.path());
    copy
}

pub(crate) fn copy_into(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_into(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
