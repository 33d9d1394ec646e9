//! The hub's cache: which files of a model are there, and which are needed.
//!
//! ```text
//! models--owner--name/
//!   refs/main                          a commit
//!   snapshots/<commit>/config.json     a link to blobs/<etag>
//!   .no_exist/<commit>/modules.json    the hub was asked, and has no such file
//! ```

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::HubError;
use super::name::ModelName;
use crate::{checkpoint, files};

/// One version of a model in the cache, complete or not.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    /// The model's folder in the cache.
    root: PathBuf,
    pub(super) commit: String,
}

/// A file that a BERT may consist of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Needed {
    /// Its path in the model's folder, with `/`.
    pub(super) path: String,
    /// Whether a model without it is none.
    pub(super) required: bool,
}

impl Snapshot {
    /// The version that `name` means, if the cache knows it.
    pub(super) fn find(cache: &Path, name: &ModelName) -> Option<Snapshot> {
        let root = cache.join(name.cache_folder());
        let reference = root.join("refs").join(&name.revision);
        let commit = match std::fs::read_to_string(reference) {
            Ok(commit) => commit.trim().to_owned(),
            // The revision may be the commit itself.
            Err(_) => name.revision.clone(),
        };
        let snapshot = Snapshot { root, commit };
        (is_commit(&snapshot.commit) && snapshot.folder().is_dir()).then_some(snapshot)
    }

    /// A version that is being downloaded.
    pub(super) fn new(cache: &Path, name: &ModelName, commit: &str) -> Snapshot {
        Snapshot { root: cache.join(name.cache_folder()), commit: commit.to_owned() }
    }

    /// The folder with the files.
    pub(super) fn folder(&self) -> PathBuf {
        self.root.join("snapshots").join(&self.commit)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder().join(file)
    }

    fn has(&self, file: &str) -> bool {
        self.path(file).exists()
    }

    fn absence(&self, file: &str) -> PathBuf {
        self.root.join(".no_exist").join(&self.commit).join(file)
    }

    /// Removes a link to a blob that somebody has deleted: it would be in the way of a new one.
    pub(super) fn clear_dangling(&self, file: &str) {
        if !self.has(file) {
            let _ = std::fs::remove_file(self.path(file));
        }
    }

    /// Notes that the hub has no such file.
    pub(super) fn mark_absent(&self, file: &str) -> Result<(), HubError> {
        let mark = self.absence(file);
        let folder = mark.parent().unwrap_or(&mark);
        std::fs::create_dir_all(folder).map_err(HubError::io(folder))?;
        std::fs::write(&mark, "").map_err(HubError::io(&mark))
    }

    /// Makes `revision` mean this version from now on, at once or not at all.
    pub(super) fn publish(&self, revision: &str) -> Result<(), HubError> {
        let reference = self.root.join("refs").join(revision);
        let folder = reference.parent().unwrap_or(&reference);
        let publish = || {
            std::fs::create_dir_all(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            std::io::Write::write_all(&mut file, self.commit.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&reference)?;
            Ok(())
        };
        publish().map_err(HubError::io(&reference))
    }

    /// The needed files of which it is not known whether there are any. What a file that is there
    /// says may add more, so ask again after each.
    pub(super) fn unknown_files(&self) -> Result<Vec<Needed>, HubError> {
        let mut needed = self.needed_files()?;
        needed.retain(|file| !self.has(&file.path) && !self.absence(&file.path).exists());
        Ok(needed)
    }

    /// Whether a model could be loaded from what is there.
    pub(super) fn is_usable(&self) -> bool {
        self.needed_files().is_ok_and(|needed| {
            let has = |name: &str| {
                needed
                    .iter()
                    .any(|file| file.path.rsplit('/').next() == Some(name) && self.has(&file.path))
            };
            needed.iter().all(|file| !file.required || self.has(&file.path))
                && (has(checkpoint::SINGLE_FILE) || has(checkpoint::INDEX_FILE))
                && (has("tokenizer.json") || has("vocab.txt"))
        })
    }

    /// All files that are known to be needed so far.
    fn needed_files(&self) -> Result<Vec<Needed>, HubError> {
        let mut needed = Vec::new();
        let mut add = |path: String, required| needed.push(Needed { path, required });
        // First the list of modules, since it may put the encoder into a folder of its own.
        add("modules.json".to_owned(), false);
        let mut encoder = String::new();
        let list = self.path("modules.json");
        if list.exists() {
            for module in files::read_json::<Vec<Module>>(&list)? {
                // Checked here, before it goes into an address.
                files::plain_path(Path::new(""), &module.path, &list)?;
                let kind = module.r#type.rsplit('.').next();
                match kind {
                    Some("Transformer") => encoder = prefix(&module.path),
                    Some("Normalize") => {}
                    _ => add(format!("{}config.json", prefix(&module.path)), true),
                }
            }
        }
        add(format!("{encoder}config.json"), true);
        for name in [
            "tokenizer.json",
            "vocab.txt",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "added_tokens.json",
            "sentence_bert_config.json",
        ] {
            add(format!("{encoder}{name}"), false);
        }
        add("config_sentence_transformers.json".to_owned(), false);

        let (single, index) = (
            format!("{encoder}{}", checkpoint::SINGLE_FILE),
            format!("{encoder}{}", checkpoint::INDEX_FILE),
        );
        add(single.clone(), false);
        if self.absence(&single).exists() {
            add(index.clone(), true);
        }
        if !self.has(&single) && self.has(&index) {
            for shard in checkpoint::shard_names(&self.path(&index))? {
                add(format!("{encoder}{shard}"), true);
            }
        }
        Ok(needed)
    }
}

/// What stands before the names of a module's files. The empty path is the model's folder itself:
/// a `/` behind it would lead to the root of the file system.
fn prefix(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}/") }
}

#[derive(Deserialize)]
struct Module {
    path: String,
    r#type: String,
}

/// A git commit: it becomes a folder's name.
pub(super) fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_without_a_folder_of_its_own_stays_in_the_models_folder() {
        let cache = tempfile::tempdir().unwrap();
        let name = ModelName::parse("someone/model").unwrap();
        let snapshot = Snapshot::new(cache.path(), &name, "0123456789abcdef");
        std::fs::create_dir_all(snapshot.folder()).unwrap();
        for kind in ["Transformer", "Pooling", "Dense", "Normalize"] {
            let list = format!(r#"[{{"path": "", "type": "models.{kind}"}}]"#);
            std::fs::write(snapshot.path("modules.json"), list).unwrap();
            for file in snapshot.needed_files().unwrap() {
                let path = snapshot.path(&file.path);
                assert!(path.starts_with(snapshot.folder()), "{kind}: {}", file.path);
            }
        }
    }
}
