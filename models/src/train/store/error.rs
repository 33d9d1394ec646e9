//! What can go wrong with a checkpoint of a training run.

use std::io;
use std::path::{Path, PathBuf};

/// Why a checkpoint could not be saved or read. Every variant names the path or the part.
///
/// Whatever happens while one is saved, the one before it can still be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system refused: the disk is full, for instance.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The new checkpoint is safe, but an older one is in the way and cannot be removed.
    #[error("{}: {source} (the new checkpoint is saved)", path.display())]
    NotRemoved {
        /// The new checkpoint.
        saved: PathBuf,
        /// What could not be removed.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is a checkpoint of this step already, sound and with another content.
    #[error("{}: already there, with another content", path.display())]
    Exists {
        /// Its folder.
        path: PathBuf,
    },
    /// The name of a group or a tensor that cannot be stored, or is there twice.
    #[error("{kind} {name:?}: {reason}")]
    BadName {
        /// `group` or `tensor`.
        kind: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A tensor whose data do not fill its shape.
    #[error("tensor {tensor:?}: {elements} elements do not make the shape {shape:?}")]
    NotTheShape {
        /// The tensor.
        tensor: String,
        /// How many elements there are.
        elements: usize,
        /// The shape.
        shape: Vec<usize>,
    },
    /// A commit record that is missing a part, or was not written by this program.
    #[error("{}: not a commit record: {reason}", path.display())]
    BadRecord {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of another length than when it was saved.
    #[error("{}: {expected} bytes were saved, {found} are there", path.display())]
    WrongSize {
        /// The file.
        path: PathBuf,
        /// The bytes that were written.
        expected: u64,
        /// The bytes that there are.
        found: u64,
    },
    /// A file of another content than when it was saved.
    #[error("{}: the content has changed since it was saved (SHA-256 {found})", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The digest of what is there.
        found: String,
    },
    /// The state is not JSON any more: it was changed, and its commit record too.
    #[error("{}: {source}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// There are checkpoints, and none is whole. To begin anew in silence would be no help.
    #[error("{}: no checkpoint is whole; the newest: {}", root.display(),
        faults.first().map(ToString::to_string).unwrap_or_default())]
    NoneWhole {
        /// The folder of all checkpoints.
        root: PathBuf,
        /// What is wrong with each, the newest first.
        faults: Vec<StoreError>,
    },
    /// A group or tensor that the checkpoint does not have.
    #[error("{}: no {kind} {name:?}", path.display())]
    Missing {
        /// The checkpoint's folder, or the group's file.
        path: PathBuf,
        /// `group` or `tensor`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A tensor of another shape than asked for.
    #[error("{}: {tensor:?}: shape {expected:?} expected, {found:?} found", path.display())]
    WrongShape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape asked for.
        expected: Vec<usize>,
        /// The shape stored.
        found: Vec<usize>,
    },
    /// A file that is whole and yet no safetensors file.
    #[error(transparent)]
    Tensors(#[from] crate::Error),
}

impl StoreError {
    /// For `map_err`: an [`StoreError::Io`] at this path.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> StoreError + '_ {
        move |source| StoreError::Io { path: path.to_owned(), source }
    }
}
