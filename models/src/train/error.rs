//! What can go wrong in a run of training.

use std::io;
use std::path::{Path, PathBuf};

use super::store::StoreError;
use crate::data::DataError;
use crate::error::Error;

/// Why a run cannot begin or go on. What is wrong with a file is named with its path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The model cannot be made.
    #[error(transparent)]
    Model(#[from] Error),

    /// There is no batch.
    #[error(transparent)]
    Data(#[from] DataError),

    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Store(#[from] StoreError),

    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// The folder has a run already.
    #[error("{}: a run is there already, at step {step}", folder.display())]
    AlreadyThere {
        /// The folder of the run.
        folder: PathBuf,
        /// The step of its newest checkpoint.
        step: u64,
    },

    /// The folder has a model, and no run that it may be of.
    #[error("{}: a model is there already", path.display())]
    ModelThere {
        /// The file.
        path: PathBuf,
    },

    /// Another process works in the folder.
    #[error("{}: another process trains there", folder.display())]
    InUse {
        /// The folder of the run.
        folder: PathBuf,
    },

    /// The folder has no run to go on with.
    #[error("{}: no checkpoint to go on from", folder.display())]
    NothingToResume {
        /// The folder of the run.
        folder: PathBuf,
    },

    /// The run that is to go on was begun in another way: its results would not be the same.
    #[error("{}: begun with {setting} = {saved}, and now it is {now}", folder.display())]
    OtherRecipe {
        /// The folder of the run.
        folder: PathBuf,
        /// The name of what differs.
        setting: String,
        /// As it was.
        saved: String,
        /// As it is.
        now: String,
    },

    /// A checkpoint whose state is of another form.
    #[error("{}: the state of the run cannot be read: {reason}", folder.display())]
    InvalidState {
        /// The folder of the checkpoint.
        folder: PathBuf,
        /// What is wrong.
        reason: String,
    },

    /// The parameters, or the gradients of a hundred steps in a row, are no finite numbers.
    #[error(
        "the training diverged: after {steps} steps, {skipped} of them skipped, its parameters or \
         gradients are not finite"
    )]
    Diverged {
        /// Steps that were skipped.
        skipped: u64,
        /// Steps in all.
        steps: u64,
    },
}

impl RunError {
    /// For `map_err`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> RunError + '_ {
        move |source| RunError::Io { path: path.to_owned(), source }
    }
}
