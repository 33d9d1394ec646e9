//! What can be wrong with a model's files.

use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::{Dtype, HeaderError};

/// Why a model, or a part of one, could not be read. Every variant names the file, and the
/// tensor or the field where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
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

    /// Not JSON, or JSON of another form.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, column, and what was expected there.
        source: serde_json::Error,
    },

    /// The folder has no weights in the safetensors format.
    #[error("{}: no model.safetensors and no model.safetensors.index.json{}", folder.display(),
        other.as_ref().map(|name| format!(" (of {name}, only the safetensors form can be read)")).unwrap_or_default())]
    NoWeights {
        /// The folder.
        folder: PathBuf,
        /// Weights in a format that is not read.
        other: Option<&'static str>,
    },

    /// The header of a safetensors file is wrong.
    #[error("{}: {source}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: HeaderError,
    },

    /// The file ends early.
    #[error("{}: truncated: {expected} bytes expected, {actual} there", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The size that its header states.
        expected: u64,
        /// The size that it has.
        actual: u64,
    },

    /// The file goes on after its last tensor.
    #[error("{}: {expected} bytes expected, {actual} there", path.display())]
    TrailingBytes {
        /// The file.
        path: PathBuf,
        /// The size that its header states.
        expected: u64,
        /// The size that it has.
        actual: u64,
    },

    /// A path in an index or a list of modules that is not a plain name inside the folder.
    #[error("{}: {name:?} is not a plain name inside the folder", path.display())]
    UnsafePath {
        /// The file that has the name.
        path: PathBuf,
        /// The name.
        name: String,
    },

    /// A tensor that the index promises and its shard does not have.
    #[error("{}: no tensor {tensor:?}, which {} says is here", path.display(), index.display())]
    NotInShard {
        /// The shard.
        path: PathBuf,
        /// The index.
        index: PathBuf,
        /// The tensor.
        tensor: String,
    },

    /// Two tensors of one name, or of two names for the same thing.
    #[error("{}: {tensor:?} is also in {}, as {other:?}", path.display(), other_path.display())]
    DuplicateTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Where the first one is.
        other_path: PathBuf,
        /// What the first one is called.
        other: String,
    },

    /// A tensor that the model needs.
    #[error("{}: no tensor {tensor:?} of shape {expected:?}", path.display())]
    MissingTensor {
        /// The folder.
        path: PathBuf,
        /// The tensor's canonical name.
        tensor: String,
        /// Its shape.
        expected: Vec<usize>,
    },

    /// A tensor whose shape is not the one that the configuration asks for.
    #[error("{}: {tensor:?}: shape {expected:?} expected, {found:?} found", path.display())]
    WrongShape {
        /// The file.
        path: PathBuf,
        /// The tensor, as the file calls it.
        tensor: String,
        /// The shape that the configuration asks for.
        expected: Vec<usize>,
        /// The shape that is there.
        found: Vec<usize>,
    },

    /// A tensor whose elements cannot be widened or narrowed to `f32`.
    #[error("{}: {tensor:?}: F32, F16, BF16 or F64 expected, {found} found", path.display())]
    WrongDtype {
        /// The file.
        path: PathBuf,
        /// The tensor, as the file calls it.
        tensor: String,
        /// Its type.
        found: Dtype,
    },

    /// A model of another family.
    #[error("{}: model_type {found:?}, where {expected:?} is expected", path.display())]
    WrongModelType {
        /// The configuration file.
        path: PathBuf,
        /// The family that can be read.
        expected: &'static str,
        /// The family that is there.
        found: String,
    },

    /// A setting that exists elsewhere and is not supported here.
    #[error("{}: {field}: {found:?} is not supported; supported: {supported}", path.display())]
    Unsupported {
        /// The configuration file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What it asks for.
        found: String,
        /// What can be had.
        supported: &'static str,
    },

    /// A setting that no model can have.
    #[error("{}: {field}: {expected} expected, {found} found", path.display())]
    InvalidValue {
        /// The configuration file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What would be right.
        expected: String,
        /// What is there.
        found: String,
    },

    /// A setting of the caller's that cannot be.
    #[error("{option}: {expected} expected, {found} found")]
    InvalidOption {
        /// Its name.
        option: &'static str,
        /// What would be right.
        expected: String,
        /// What was asked for.
        found: String,
    },

    /// A token or segment id that has no row in its embedding table.
    #[error("sequence {sequence}, position {position}: {table} id {id} is not below {rows}")]
    IdOutOfRange {
        /// Whose: `token`, `segment`, `source token` or `target token`.
        table: &'static str,
        /// The sequence in its batch, from 0.
        sequence: usize,
        /// The place in the sequence, from 0.
        position: usize,
        /// The id.
        id: u32,
        /// The rows of the table.
        rows: usize,
    },

    /// A text in which something is written like a special token, which would be one.
    #[error("the text holds {token}, which ends or begins sentences")]
    ControlToken {
        /// The token.
        token: String,
    },

    /// A sequence that is longer than the model's table of positions.
    #[error("sequence {sequence} has {tokens} tokens, the model has {limit} positions")]
    TooLong {
        /// The sequence in its batch, from 0.
        sequence: usize,
        /// Its length.
        tokens: usize,
        /// The longest that can be.
        limit: usize,
    },

    /// Scores of which no token can be chosen: NaN or infinity among them, or nothing but minus
    /// infinity. The weights, or the numbers they lead to, are out of range.
    #[error("sequence {sequence}: the scores of its token {position} are no distribution")]
    NoDistribution {
        /// The sequence in its batch, from 0.
        sequence: usize,
        /// The place in the target, from 0.
        position: usize,
    },

    /// A vocabulary with ids beyond the embedding table.
    #[error("the vocabulary has {words} tokens, the embedding table only {rows} rows")]
    VocabularyTooLarge {
        /// The tokens.
        words: usize,
        /// The rows.
        rows: usize,
    },

    /// The weights lack a head that a task needs.
    #[error("{}: the weights have no {head} head", folder.display())]
    NoHead {
        /// The folder.
        folder: PathBuf,
        /// The head.
        head: &'static str,
    },

    /// The vocabulary has no mask token.
    #[error("{}: the vocabulary has no mask token", folder.display())]
    NoMaskToken {
        /// The folder.
        folder: PathBuf,
    },

    /// A text without a mask to fill.
    #[error("the text has no {mask}")]
    NoMask {
        /// The mask token.
        mask: String,
    },

    /// The environment asks for an instruction set level that does not exist.
    #[error(transparent)]
    Level(#[from] ferrite_kernels::UnknownLevel),

    /// The tokenizer's files, or a text.
    #[error(transparent)]
    Tokenizer(#[from] ferrite_tokenizer::Error),
}

impl Error {
    /// For `map_err`: an [`Error::Io`] at this path.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
        move |source| Error::Io { path: path.to_owned(), source }
    }
}
