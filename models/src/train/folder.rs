//! The folder of a run, in which one process at a time works.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use ferrite_tokenizer::train::FILES;

use super::RunError;
use super::store::{self, Stored};

pub(super) const CHECKPOINTS: &str = "checkpoints";
pub(super) const LOG: &str = "log.jsonl";
pub(super) const CHART: &str = "loss.svg";
pub(super) const SNAPSHOTS: &str = "snapshots";
pub(super) const MODEL: &str = "model.safetensors";

/// A folder that was looked at before anything costly is done for a run in it, and that no other
/// process can work in while this value, or the run that it becomes, lives.
#[derive(Debug)]
pub struct RunFolder {
    pub(super) path: PathBuf,
    /// The checkpoint to go on from.
    pub(super) stored: Option<Stored>,
    pub(super) hold: Hold,
}

/// What keeps other processes out. If in the end nothing was written to a folder that was made for it,
/// the folder does not stay.
#[derive(Debug)]
pub(super) struct Hold {
    /// Held, not used. The system lets go of it when the process ends, however it ends.
    _lock: Option<File>,
    made: Option<PathBuf>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(folder) = &self.made {
            // The system refuses what has anything in it, and that is meant.
            let _ = fs::remove_dir(folder);
        }
    }
}

impl RunFolder {
    /// A folder for a new run, which is made if it is not there.
    ///
    /// # Errors
    /// [`RunError::AlreadyThere`] and [`RunError::ModelThere`] if it has a run or a model that the
    /// new one would replace, [`RunError::InUse`], and what the system refuses.
    pub fn fresh(path: &Path) -> Result<RunFolder, RunError> {
        let made = (!path.exists()).then(|| path.to_owned());
        store::make(path)?;
        let hold = Hold { _lock: lock(path)?, made };
        if let Some(stored) = store::latest(&path.join(CHECKPOINTS))? {
            return Err(RunError::AlreadyThere { folder: path.to_owned(), step: stored.step });
        }
        let model = path.join(MODEL);
        if model.exists() {
            return Err(RunError::ModelThere { path: model });
        }
        Ok(RunFolder { path: path.to_owned(), stored: None, hold })
    }

    /// The folder of a run that is to go on, from its newest checkpoint that is whole.
    ///
    /// # Errors
    /// [`RunError::NothingToResume`], [`RunError::InUse`], and what the system refuses.
    pub fn begun(path: &Path) -> Result<RunFolder, RunError> {
        let nothing = || RunError::NothingToResume { folder: path.to_owned() };
        if !path.exists() {
            return Err(nothing());
        }
        let hold = Hold { _lock: lock(path)?, made: None };
        let stored = store::latest(&path.join(CHECKPOINTS))?.ok_or_else(nothing)?;
        Ok(RunFolder { path: path.to_owned(), stored: Some(stored), hold })
    }
}

/// Locks a folder. Where folders or the file system know no locks, there is none.
fn lock(path: &Path) -> Result<Option<File>, RunError> {
    // One that cannot be listed is found out when its files are.
    let Ok(folder) = File::open(path) else { return Ok(None) };
    match folder.try_lock() {
        Ok(()) => Ok(Some(folder)),
        Err(TryLockError::WouldBlock) => Err(RunError::InUse { folder: path.to_owned() }),
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// Waits until the names in the folder of a file have arrived on the disk.
pub(super) fn sync_names(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    store::sync_folder(folder.unwrap_or(Path::new(".")))
}

/// Removes what a run that was killed left half written.
pub(super) fn sweep(folder: &Path) {
    for name in [LOG, CHART, MODEL, "config.json"].into_iter().chain(FILES) {
        // Nobody reads it; that it cannot be removed is no reason to stop.
        let _ = fs::remove_file(folder.join(format!("{name}.partial")));
    }
}
