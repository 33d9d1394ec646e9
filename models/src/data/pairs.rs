//! Parallel text: sentences and their translations, read line by line.
//!
//! Whatever is wrong with a line is an item of its own and counted, and the next line is read: of
//! millions of pairs some are always broken. Only what keeps a file from being read is an error.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use ferrite_tokenizer::Tokenizer;
use serde::Deserialize;

use super::error::DataError;
use super::lines::{Line, Lines};
use super::pair_faults::{PairFault, PairReport, RejectedPair};

/// Files with pairs of texts, in UTF-8. A byte-order mark at the beginning is no text, and lines
/// may end as on Windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PairFiles {
    /// A file whose lines are a source, a tab, and a target. Nothing is quoted or escaped.
    Tsv(PathBuf),
    /// A file of sources and one of targets, each line of one being that of the other.
    Lines {
        /// The sources.
        source: PathBuf,
        /// The targets.
        target: PathBuf,
    },
    /// A file whose lines are JSON, `{"source": "…", "target": "…"}`; other entries are ignored.
    JsonLines(PathBuf),
}

/// How pairs are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairOptions {
    /// The most bytes that a line may have with its end. Not more than one line, or one of each of
    /// two files, is in memory.
    pub line_limit: u32,
}

impl Default for PairOptions {
    /// Lines of at most 1 MiB.
    fn default() -> PairOptions {
        PairOptions { line_limit: 1 << 20 }
    }
}

/// The first of these tokens of a text that is none of its words: what is written like a special
/// token is read as one, such as the end in the middle of a sentence.
pub fn control_token<'a>(tokenizer: &'a Tokenizer, ids: &[u32]) -> Option<&'a str> {
    let of = tokenizer;
    let control = [of.cls_id(), of.sep_id(), of.pad_id(), of.mask_id()];
    ids.iter().find(|&&id| control.contains(&Some(id))).and_then(|&id| of.id_to_token(id))
}

/// A text and its translation, without white space around them; neither is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What is translated.
    pub source: String,
    /// The translation.
    pub target: String,
    /// Their line, from 1.
    pub line: u64,
}

/// The pairs of some files in their order, and what is no pair. After an error there is nothing.
///
/// ```
/// use std::io::Write;
///
/// use ferrite_models::data::{PairFiles, PairOptions, Pairs};
///
/// let mut file = tempfile::NamedTempFile::new()?;
/// write!(file, "ein Hund\ta dog\neine Katze\n\nein Baum\ta tree\n")?;
/// let files = PairFiles::Tsv(file.path().to_owned());
/// let mut pairs = Pairs::open(&files, PairOptions::default())?;
/// let mut targets = Vec::new();
/// for entry in &mut pairs {
///     match entry? {
///         Ok(pair) => targets.push(pair.target),
///         Err(rejected) => eprintln!("{rejected}"),
///     }
/// }
/// assert_eq!(targets, ["a dog", "a tree"]);
/// assert_eq!(pairs.report().to_string(), "4 lines: 2 pairs, 1 blank, 1 without two columns");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Pairs {
    input: Input,
    limit: u32,
    report: PairReport,
    failed: bool,
}

#[derive(Debug)]
enum Input {
    Tsv(Lines),
    Lines { source: Lines, target: Lines },
    JsonLines(Lines),
}

/// A pair, or what there is in its place.
type Entry = Result<Pair, RejectedPair>;

/// A source and a target, or what is wrong with them.
type Sides = Result<(String, String), PairFault>;

impl Pairs {
    /// Opens the files. Nothing is read yet.
    ///
    /// # Errors
    /// If a file cannot be opened or is not a regular one, or if `line_limit` is 0.
    pub fn open(files: &PairFiles, options: PairOptions) -> Result<Pairs, DataError> {
        let limit = options.line_limit;
        if limit == 0 {
            return Err(DataError::InvalidOption {
                option: "line_limit",
                expected: "a number above 0",
                found: "0".to_owned(),
            });
        }
        let input = match files {
            PairFiles::Tsv(path) => Input::Tsv(Lines::open(path, limit)?),
            PairFiles::Lines { source, target } => Input::Lines {
                source: Lines::open(source, limit)?,
                target: Lines::open(target, limit)?,
            },
            PairFiles::JsonLines(path) => Input::JsonLines(Lines::open(path, limit)?),
        };
        Ok(Pairs { input, limit, report: PairReport::default(), failed: false })
    }

    /// What was found so far.
    pub fn report(&self) -> PairReport {
        self.report
    }

    fn read(&mut self) -> Result<Option<Entry>, DataError> {
        match &mut self.input {
            Input::Tsv(lines) => from_line(lines, self.limit, from_tsv),
            Input::JsonLines(lines) => from_line(lines, self.limit, from_json),
            Input::Lines { source, target } => from_lines(source, target, self.limit),
        }
    }
}

impl Iterator for Pairs {
    type Item = Result<Entry, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let entry = self.read().transpose()?;
        match &entry {
            Ok(Ok(_)) => self.report.add_pair(),
            Ok(Err(rejected)) => self.report.add(&rejected.fault),
            Err(_) => self.failed = true,
        }
        Some(entry)
    }
}

/// What the next line of a file holds.
fn from_line(
    lines: &mut Lines,
    limit: u32,
    parse: impl Fn(&str) -> Sides,
) -> Result<Option<Entry>, DataError> {
    let Some(line) = lines.next_line()? else { return Ok(None) };
    let (number, parsed) = (line.number, text(&line, limit).and_then(parse));
    Ok(Some(match parsed {
        Ok((source, target)) => Ok(Pair { source, target, line: number }),
        Err(fault) => Err(rejected(lines.path(), number, fault)),
    }))
}

/// What the next lines of two files hold. Where one has ended, all the rest of the other is one
/// entry.
fn from_lines(
    sources: &mut Lines,
    targets: &mut Lines,
    limit: u32,
) -> Result<Option<Entry>, DataError> {
    let (line, is_source) = match (sources.next_line()?, targets.next_line()?) {
        (Some(source), Some(target)) => {
            let line = source.number;
            let (source, target) = (text(&source, limit), text(&target, limit));
            let in_target = source.is_ok() && target.is_err();
            let sides = source.and_then(|source| trimmed(source, target?));
            return Ok(Some(match sides {
                Ok((source, target)) => Ok(Pair { source, target, line }),
                Err(fault) => {
                    let in_target = in_target || fault == PairFault::NoTarget;
                    let path = if in_target { targets.path() } else { sources.path() };
                    Err(rejected(path, line, fault))
                }
            }));
        }
        (Some(line), None) => (line.number, true),
        (None, Some(line)) => (line.number, false),
        (None, None) => return Ok(None),
    };
    let (longer, other) = if is_source { (sources, targets) } else { (targets, sources) };
    let mut last = line;
    while longer.next_line()?.is_some() {
        last += 1;
    }
    let fault =
        PairFault::Unpaired { last, lines: last - line + 1, other: other.path().to_owned() };
    Ok(Some(Err(rejected(longer.path(), line, fault))))
}

fn rejected(path: &Path, line: u64, fault: PairFault) -> RejectedPair {
    RejectedPair { path: path.to_owned(), line, fault }
}

/// The text of a line, without its end.
fn text<'a>(line: &Line<'a>, limit: u32) -> Result<&'a str, PairFault> {
    if !line.is_whole {
        return Err(PairFault::TooLong { limit });
    }
    let text = str::from_utf8(line.bytes)
        .map_err(|invalid| PairFault::InvalidUtf8 { byte: invalid.valid_up_to() + 1 })?;
    let text = if line.number == 1 { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text };
    let text = text.strip_suffix('\n').unwrap_or(text);
    Ok(text.strip_suffix('\r').unwrap_or(text))
}

/// The two columns of a line.
fn from_tsv(line: &str) -> Sides {
    if line.trim().is_empty() {
        return Err(PairFault::Blank);
    }
    match line.split_once('\t') {
        Some((source, target)) if !target.contains('\t') => trimmed(source, target),
        _ => Err(PairFault::Columns { found: line.split('\t').count() }),
    }
}

/// A line of JSON. Entries that are missing or null are sides that are missing.
#[derive(Deserialize)]
struct Record {
    source: Option<String>,
    target: Option<String>,
}

/// The two entries of a line.
fn from_json(line: &str) -> Sides {
    if line.trim().is_empty() {
        return Err(PairFault::Blank);
    }
    // An array of two texts would do for `Record` too.
    if !line.trim_start().starts_with('{') {
        return Err(PairFault::Json { column: 1, message: "an object expected".to_owned() });
    }
    let record: Record = serde_json::from_str(line).map_err(|error| {
        // The line that it names is the first, of a text that has one.
        let message = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let message = message.strip_suffix(&place).unwrap_or(&message).to_owned();
        PairFault::Json { column: error.column(), message }
    })?;
    trimmed(&record.source.unwrap_or_default(), &record.target.unwrap_or_default())
}

/// Both sides without white space around them, if there are two.
fn trimmed(source: &str, target: &str) -> Sides {
    let (source, target) = (source.trim(), target.trim());
    match (source.is_empty(), target.is_empty()) {
        (true, true) => Err(PairFault::Blank),
        (true, false) => Err(PairFault::NoSource),
        (false, true) => Err(PairFault::NoTarget),
        (false, false) => Ok((source.to_owned(), target.to_owned())),
    }
}
