//! What can be wrong with a file, a setting or an input.

use std::path::PathBuf;

use crate::truncate::Strategy;

/// Everything this crate refuses, with the name of what is at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A pipe, a device or a folder where a file should be.
    #[error("{}: not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A file that is larger than any honest file of its kind.
    #[error("{}: {bytes} bytes, where such a file has at most {limit}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// What is accepted.
        limit: u64,
    },
    /// A folder has neither `tokenizer.json` nor `vocab.txt`.
    #[error("{}: found neither tokenizer.json nor vocab.txt", dir.display())]
    NoTokenizer {
        /// The folder.
        dir: PathBuf,
    },
    /// Bytes that are not UTF-8.
    #[error("{file}: line {line} is not valid UTF-8")]
    NotUtf8 {
        /// The file, or `<string>`.
        file: String,
        /// The line, from 1.
        line: usize,
    },
    /// Not JSON, or JSON of another shape than expected.
    #[error("{file}: {part}: {source}")]
    Json {
        /// The file, or `<string>`.
        file: String,
        /// The part of the file, such as `model`.
        part: &'static str,
        /// What is wrong, and where in that part.
        source: serde_json::Error,
    },
    /// A component of `tokenizer.json` that Ferrite does not have.
    #[error("{file}: {part} is {found}, supported: {supported}")]
    Unsupported {
        /// The file, or `<string>`.
        file: String,
        /// Which component, such as `pre_tokenizer`.
        part: &'static str,
        /// What the file asks for.
        found: String,
        /// What can be used there.
        supported: &'static str,
    },
    /// The same token twice in a vocabulary.
    #[error("{file}: token {token:?} twice, at {place} {first} and {place} {second}")]
    DoubledToken {
        /// The file, or `<string>`.
        file: String,
        /// The token.
        token: String,
        /// What the two numbers count: `line` (from 1) or `id`.
        place: &'static str,
        /// Where it is first.
        first: usize,
        /// Where it is again.
        second: usize,
    },
    /// Two tokens with one id.
    #[error("{file}: id {id} belongs to both {first:?} and {second:?}")]
    DoubledId {
        /// The file, or `<string>`.
        file: String,
        /// The id.
        id: u32,
        /// A token with it.
        first: String,
        /// The other one.
        second: String,
    },
    /// A token that has to be in the vocabulary is not.
    #[error("{file}: the {role} token {token:?} is not in the vocabulary")]
    MissingToken {
        /// The file, or `<string>`.
        file: String,
        /// What it is needed for, such as `unknown`.
        role: &'static str,
        /// The token.
        token: String,
    },
    /// A template or another part of the file contradicts itself.
    #[error("{file}: {part}: {reason}")]
    Inconsistent {
        /// The file, or `<string>`.
        file: String,
        /// Which component.
        part: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A text or vocabulary of 2 GiB or more.
    #[error("{bytes} bytes in one piece, at most {limit} are possible")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The largest length.
        limit: usize,
    },
    /// The special tokens alone are longer than the limit.
    #[error("max_length {max_length} has no room for the {specials} special tokens")]
    MaxLengthTooSmall {
        /// The limit asked for.
        max_length: usize,
        /// How many special tokens are added.
        specials: usize,
    },
    /// Windows that overlap by their whole length would never advance.
    #[error("stride {stride} must be smaller than the {room} tokens a window has room for")]
    StrideTooLarge {
        /// The overlap asked for.
        stride: usize,
        /// How many tokens of the text a window holds.
        room: usize,
    },
    /// A strategy that cuts one sequence only, and would leave nothing of it.
    #[error("{strategy:?}: {excess} tokens too many, and that sequence has {length}")]
    CannotTruncate {
        /// The strategy.
        strategy: Strategy,
        /// By how much the whole is too long.
        excess: usize,
        /// How long the sequence is that may be cut (0: there is none).
        length: usize,
    },
    /// The overflowing windows of a pair would hold more tokens than is sensible.
    #[error("{windows} overflowing windows of up to {room} tokens: too many")]
    TooManyWindows {
        /// How many there would be.
        windows: usize,
        /// The length of each.
        room: usize,
    },
    /// An id that no token has.
    #[error("no token has the id {id}")]
    UnknownId {
        /// The id.
        id: u32,
    },
    /// A corpus that is not text, or not in UTF-8.
    #[error("{file}: not valid UTF-8 at byte {offset}")]
    CorpusNotUtf8 {
        /// The file, or what the reader was called.
        file: String,
        /// How many bytes are before the first bad one.
        offset: u64,
    },
    /// A corpus without words.
    #[error("the corpus has no words to learn from")]
    EmptyCorpus,
    /// A size that the tokens from which training begins do not fit into.
    #[error(
        "a vocabulary of {size} tokens has no room for {specials} special ones and {letters} for \
         single characters"
    )]
    VocabTooSmall {
        /// The size asked for.
        size: usize,
        /// How many special tokens there are.
        specials: usize,
        /// How many tokens of one character: a character that occurs inside words takes two.
        letters: usize,
    },
    /// A list of special tokens that no vocabulary can begin with.
    #[error("special token {token:?}: {reason}")]
    BadSpecialToken {
        /// The token.
        token: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}
