//! Downloads into the hub's cache, by the `hf-hub` crate.
//!
//! That crate trusts the server's answers and waits for ever; here the answers that become paths
//! are checked first, every file is checked afterwards, and each runs on a thread of its own whose
//! silence ends the attempt. The revision's name is put on a version when all of it is there.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use sha2::{Digest, Sha256};

use super::cache::{Needed, Snapshot, is_commit};
use super::error::HubError;
use super::name::ModelName;
use super::options::HubOptions;
use super::{HubEvent, Notify};

/// All files of a model that are needed and not in the cache. The folder that has them.
pub(super) fn download(
    name: &ModelName,
    options: &HubOptions,
    notify: Notify<'_>,
) -> Result<PathBuf, HubError> {
    let lock = options.cache.join(".locks").join(name.cache_folder()).join("ferrite.lock");
    let _lock = super::lock(&lock, notify)?;

    let hub = Hub::new(name, options)?;
    // One commit for all files, whatever is pushed meanwhile.
    let commit = hub.commit(notify)?;
    let snapshot = Snapshot::new(&options.cache, name, &commit);
    let repo = hub.at(&commit);
    while let Some(needed) = snapshot.unknown_files()?.into_iter().next() {
        snapshot.clear_dangling(&needed.path);
        if !hub.fetch(&repo, &needed, notify)? {
            snapshot.mark_absent(&needed.path)?;
        }
    }
    snapshot.publish(&name.revision)?;
    Ok(snapshot.folder())
}

/// A model on the hub.
struct Hub<'a> {
    api: Api,
    name: &'a ModelName,
    options: &'a HubOptions,
}

/// What the thread of a download reports.
enum Report<T> {
    Progress { done: u64, total: u64 },
    End(Result<T, ApiError>),
}

/// What the hub says of a file before it is downloaded.
struct Announced {
    commit: String,
    etag: String,
    size: u64,
}

impl Hub<'_> {
    fn new<'a>(name: &'a ModelName, options: &'a HubOptions) -> Result<Hub<'a>, HubError> {
        // A relative cache would have links that point elsewhere.
        let cache = std::path::absolute(&options.cache).map_err(HubError::io(&options.cache))?;
        let mut builder = ApiBuilder::from_cache(Cache::new(cache))
            .with_token(options.token.clone())
            .with_user_agent("ferrite", env!("CARGO_PKG_VERSION"));
        if let Some(endpoint) = &options.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        let api = builder.build().map_err(|error| refusal(name, "", error))?;
        Ok(Hub { api, name, options })
    }

    /// The model at a revision.
    fn at(&self, revision: &str) -> Repo {
        Repo::with_revision(self.name.id.clone(), RepoType::Model, revision.to_owned())
    }

    /// The commit that the revision now means. Asked with the file that every model has.
    fn commit(&self, notify: Notify<'_>) -> Result<String, HubError> {
        Ok(self.announced(&self.at(&self.name.revision), "config.json", notify)?.commit)
    }

    /// What the hub says of a file, checked, since it becomes paths.
    fn announced(
        &self,
        repo: &Repo,
        file: &str,
        notify: Notify<'_>,
    ) -> Result<Announced, HubError> {
        let (api, url) = (self.api.clone(), self.api.repo(repo.clone()).url(file));
        let metadata = self.watched(file, notify, move |_| api.metadata(&url))?;
        let (commit, etag) = (metadata.commit_hash().to_owned(), metadata.etag().to_owned());
        let protocol = |reason: String| HubError::Protocol { file: file.to_owned(), reason };
        if !is_commit(&commit) {
            return Err(protocol(format!("commit {commit:?}")));
        }
        let plain = etag.strip_prefix("W/").unwrap_or(&etag);
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if plain.is_empty() || plain.len() > 128 || !plain.chars().all(is_plain) {
            return Err(protocol(format!("etag {etag:?}")));
        }
        Ok(Announced { commit, etag, size: metadata.size() as u64 })
    }

    /// Downloads a file. Whether there is one: a required one must be.
    fn fetch(&self, repo: &Repo, file: &Needed, notify: Notify<'_>) -> Result<bool, HubError> {
        let announced = match self.announced(repo, &file.path, notify) {
            Err(HubError::NotFound { status: 404, .. }) if !file.required => return Ok(false),
            announced => announced?,
        };
        self.clear_full_part(repo, &announced)?;
        let (repo, path): (ApiRepo, _) = (self.api.repo(repo.clone()), file.path.clone());
        let blob = self.watched(&file.path, notify, move |sender| {
            repo.download_with_progress(&path, Reporter { sender, done: 0, total: 0 })
        })?;
        check(&blob, &file.path, &announced)?;
        Ok(true)
    }

    /// An interrupted download is continued, but `hf-hub` would ask for what follows the end of one
    /// that has all its bytes.
    fn clear_full_part(&self, repo: &Repo, announced: &Announced) -> Result<(), HubError> {
        let cache = Cache::new(self.options.cache.clone()).repo(repo.clone());
        let part = cache.blob_path(&announced.etag).with_extension("part");
        match std::fs::metadata(&part) {
            Ok(metadata) if metadata.len() >= announced.size => {
                std::fs::remove_file(&part).map_err(HubError::io(&part))
            }
            _ => Ok(()),
        }
    }

    /// Runs `work` on a thread of its own, passing on its progress, until it ends or falls silent.
    /// A silent thread is left behind: a blocking read cannot be called off.
    fn watched<T: Send + 'static>(
        &self,
        file: &str,
        notify: Notify<'_>,
        work: impl FnOnce(Sender<Report<T>>) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, HubError> {
        let (sender, reports) = mpsc::channel();
        std::thread::spawn(move || {
            let result = work(sender.clone());
            // Nobody may be waiting any more.
            let _ = sender.send(Report::End(result));
        });
        loop {
            match reports.recv_timeout(self.options.patience) {
                Ok(Report::Progress { done, total }) => {
                    notify(HubEvent::Progress { file, done, total });
                }
                Ok(Report::End(result)) => {
                    return result.map_err(|error| refusal(self.name, file, error));
                }
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = self.options.patience.as_secs();
                    return Err(HubError::Stalled { file: file.to_owned(), seconds });
                }
                // The thread panicked over an answer that `hf-hub` did not expect.
                Err(RecvTimeoutError::Disconnected) => {
                    let reason = "not an answer that a hub gives".to_owned();
                    return Err(HubError::Protocol { file: file.to_owned(), reason });
                }
            }
        }
    }
}

/// Passes on the progress of a download.
struct Reporter<T> {
    sender: Sender<Report<T>>,
    done: u64,
    total: u64,
}

impl<T> hf_hub::api::Progress for Reporter<T> {
    fn init(&mut self, size: usize, _filename: &str) {
        (self.done, self.total) = (0, size as u64);
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        let _ = self.sender.send(Report::Progress { done: self.done, total: self.total });
    }

    fn finish(&mut self) {}
}

/// Checks a downloaded file against what was announced, and makes it last. A wrong one is removed.
fn check(link: &Path, file: &str, announced: &Announced) -> Result<(), HubError> {
    let blob = link.canonicalize().map_err(HubError::io(link))?;
    let mut content = File::open(&blob).map_err(HubError::io(&blob))?;
    let size = content.metadata().map_err(HubError::io(&blob))?.len();
    let (mut expected, mut found) = (format!("{} bytes", announced.size), format!("{size} bytes"));
    // The etag of a large file is its digest.
    if expected == found && announced.etag.len() == 64 {
        expected = announced.etag.to_ascii_lowercase();
        found = sha256(&mut content).map_err(HubError::io(&blob))?;
    }
    if expected == found {
        return content.sync_all().map_err(HubError::io(&blob));
    }
    drop(content);
    for path in [link, &blob] {
        let _ = std::fs::remove_file(path);
    }
    Err(HubError::Damaged { file: file.to_owned(), expected, found })
}

/// The digest of what is left to read, in hexadecimal.
pub(super) fn sha256(content: &mut impl Read) -> std::io::Result<String> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match content.read(&mut buffer)? {
            0 => break,
            length => digest.update(&buffer[..length]),
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The error that a failed request means.
fn refusal(name: &ModelName, file: &str, error: ApiError) -> HubError {
    let file = file.to_owned();
    match error {
        ApiError::RequestError(error) => match *error {
            ureq::Error::StatusCode(status @ (401 | 403 | 404)) => {
                HubError::NotFound { name: name.to_string(), file, status }
            }
            error => HubError::Unreachable { file, reason: error.to_string() },
        },
        ApiError::IoError(error) => HubError::BrokenOff { file, reason: error.to_string() },
        error => HubError::Protocol { file, reason: error.to_string() },
    }
}
