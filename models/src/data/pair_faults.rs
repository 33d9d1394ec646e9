//! What can be wrong with a pair of texts, and how many were found so.

use std::fmt;
use std::path::PathBuf;

/// A line, or what two files have at one line, that gives no pair.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {fault}", path.display())]
pub struct RejectedPair {
    /// The file in which something is wrong. If something is in both, that of the sources.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: u64,
    /// What is wrong.
    pub fault: PairFault,
}

/// What is wrong with a pair.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PairFault {
    /// There is neither source nor target, but white space perhaps.
    #[error("blank")]
    Blank,

    /// There is a target alone.
    #[error("a target without a source")]
    NoSource,

    /// There is a source alone.
    #[error("a source without a target")]
    NoTarget,

    /// A line of a TSV file has not one tab.
    #[error("2 columns expected, {found} found")]
    Columns {
        /// The columns that it has.
        found: usize,
    },

    /// The line is not UTF-8.
    #[error("byte {byte} of the line is not UTF-8")]
    InvalidUtf8 {
        /// The first byte that is not, from 1.
        byte: usize,
    },

    /// The line is not JSON, or not an object with two strings.
    #[error("column {column}: {message}")]
    Json {
        /// Where in the line, from 1, in bytes.
        column: usize,
        /// What was expected there.
        message: String,
    },

    /// The line is longer than lines may be.
    #[error("more than {limit} bytes")]
    TooLong {
        /// What lines may have, in bytes, with their ends.
        limit: u32,
    },

    /// The other file has ended before: this line and all that follow are alone, as are, most
    /// likely, many before them whose partners are not theirs.
    #[error("{lines} lines, up to line {last}, are beyond the end of {}", other.display())]
    Unpaired {
        /// The last line of the file, from 1.
        last: u64,
        /// How many there are from this one on.
        lines: u64,
        /// The other file.
        other: PathBuf,
    },
}

/// What was found so far. Every line is either a pair's or counted under what is wrong with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PairReport {
    /// The lines; of two files those of the longer one.
    pub lines: u64,
    /// The pairs.
    pub pairs: u64,
    /// Lines with neither source nor target.
    pub blank: u64,
    /// Targets without a source.
    pub no_source: u64,
    /// Sources without a target.
    pub no_target: u64,
    /// Lines that have not two columns.
    pub columns: u64,
    /// Lines that are not UTF-8.
    pub invalid_utf8: u64,
    /// Lines that are not JSON as it should be.
    pub json: u64,
    /// Lines that are too long.
    pub too_long: u64,
    /// Lines of one file beyond the end of the other.
    pub unpaired: u64,
}

impl PairReport {
    /// The lines that gave no pair.
    pub fn rejected(&self) -> u64 {
        self.lines - self.pairs
    }

    pub(super) fn add_pair(&mut self) {
        self.lines += 1;
        self.pairs += 1;
    }

    pub(super) fn add(&mut self, fault: &PairFault) {
        let (count, lines) = match fault {
            PairFault::Blank => (&mut self.blank, 1),
            PairFault::NoSource => (&mut self.no_source, 1),
            PairFault::NoTarget => (&mut self.no_target, 1),
            PairFault::Columns { .. } => (&mut self.columns, 1),
            PairFault::InvalidUtf8 { .. } => (&mut self.invalid_utf8, 1),
            PairFault::Json { .. } => (&mut self.json, 1),
            PairFault::TooLong { .. } => (&mut self.too_long, 1),
            PairFault::Unpaired { lines, .. } => (&mut self.unpaired, *lines),
        };
        *count += lines;
        self.lines += lines;
    }
}

impl fmt::Display for PairReport {
    /// On one line, what was not found left out: `7 lines: 5 pairs, 2 blank`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lines: {} pairs", self.lines, self.pairs)?;
        for (count, fault) in [
            (self.blank, "blank"),
            (self.no_source, "without a source"),
            (self.no_target, "without a target"),
            (self.columns, "without two columns"),
            (self.invalid_utf8, "not UTF-8"),
            (self.json, "not JSON as expected"),
            (self.too_long, "too long"),
            (self.unpaired, "beyond the end of the other file"),
        ] {
            if count > 0 {
                write!(f, ", {count} {fault}")?;
            }
        }
        Ok(())
    }
}
