//! What can be wrong with a corpus, or with the wish to read it.

use std::io;
use std::path::PathBuf;

use super::{Fingerprint, PairPosition, Position};
use crate::error::Error;

/// Why there is no batch. What is wrong in a file is named with its path and line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file that cannot be opened.
    #[error(transparent)]
    File(#[from] Error),

    /// The operating system refused in the middle of a file.
    #[error("{}:{line}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The line, from 1, at or after which it happened.
        line: u64,
        /// What the system said.
        source: io::Error,
    },

    /// A line that is longer than a document may be, and has no space where it could be cut.
    #[error("{}:{line}: more than {limit} bytes without a space", path.display())]
    LineTooLong {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What a document may have, in bytes.
        limit: u32,
    },

    /// No file has a line that is not blank.
    #[error("no document in {files} file{}: nothing but blank lines", if *files == 1 { "" } else { "s" })]
    NoDocuments {
        /// The number of files.
        files: usize,
    },

    /// More documents than can be numbered.
    #[error("{}:{line}: more than 4294967294 documents", path.display())]
    TooManyDocuments {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
    },

    /// The file has another size than when the corpus was opened.
    #[error("{}:{line}: the file changed: {expected} bytes before, {actual} now", path.display())]
    SizeChanged {
        /// The file.
        path: PathBuf,
        /// The first line, from 1, of the document that was wanted.
        line: u64,
        /// The size then.
        expected: u64,
        /// The size now.
        actual: u64,
    },

    /// A document is not the one that was there when the corpus was opened.
    #[error("{}:{line}: the file changed: the document here is another one", path.display())]
    ContentChanged {
        /// The file.
        path: PathBuf,
        /// The first line, from 1, of the document.
        line: u64,
    },

    /// All documents fell into the other part.
    #[error("no document is left {part} when {held_out} of {documents} are held out")]
    EmptyPart {
        /// `for training` or `held out`.
        part: &'static str,
        /// The fraction that is held out.
        held_out: f64,
        /// The documents of the corpus.
        documents: usize,
    },

    /// A setting that cannot be.
    #[error("{option}: {expected} expected, {found} found")]
    InvalidOption {
        /// Its name.
        option: &'static str,
        /// What would be right.
        expected: &'static str,
        /// What was asked for.
        found: String,
    },

    /// The vocabulary lacks a token that pre-training needs.
    #[error("the vocabulary has no {role} token")]
    NoToken {
        /// What the token is for.
        role: &'static str,
    },

    /// A vocabulary whose ids go beyond those of any model.
    #[error("token ids up to {rows}, where {limit} is the most")]
    VocabularyTooLarge {
        /// The largest id plus one.
        rows: usize,
        /// The most that is accepted.
        limit: usize,
    },

    /// A sentence that cannot be tokenized.
    #[error("{}:{line}: {source}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// The first line, from 1, of the sentence's document.
        line: u64,
        /// What is wrong with it.
        source: ferrite_tokenizer::Error,
    },

    /// Not one of the documents has a token.
    #[error("no training instance: none of {documents} documents has a token")]
    NoInstances {
        /// The number of documents.
        documents: usize,
    },

    /// A position in other data: another corpus, vocabulary, seed or setting.
    #[error(
        "the position is of the data {found}, these are {expected}: text, vocabulary or settings changed"
    )]
    OtherData {
        /// The data that are here.
        expected: Fingerprint,
        /// The data that the position is of.
        found: Fingerprint,
    },

    /// A position that these data do not have.
    #[error("there is no instance {} in shard {} of epoch {}", position.instance, position.shard, position.epoch)]
    NoSuchPosition {
        /// The position.
        position: Position,
    },

    /// Not one of the pairs can be in a batch.
    #[error("none of {pairs} pairs is left: each has a side with no token or too many")]
    NoPairs {
        /// The number of pairs.
        pairs: usize,
    },

    /// All pairs fell into the other part.
    #[error("no pair is left {part} when {held_out} of {pairs} are held out")]
    EmptyPairs {
        /// `for training` or `held out`.
        part: &'static str,
        /// The fraction that is held out.
        held_out: f64,
        /// The number of pairs.
        pairs: usize,
    },

    /// More pairs than can be numbered.
    #[error("{pairs} pairs, where 4294967295 are the most")]
    TooManyPairs {
        /// The number of pairs.
        pairs: usize,
    },

    /// A position that these pairs do not have.
    #[error("there is no batch {} in window {} of epoch {}", position.batch, position.window, position.epoch)]
    NoSuchPairs {
        /// The position.
        position: PairPosition,
    },
}
