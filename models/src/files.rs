//! The one way in which small files of a model folder are read: bounded, and with typed errors.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::error::Error;

/// What a configuration file may have. Published ones have a few kilobytes; those with tens of
/// thousands of labels about one megabyte.
pub(crate) const CONFIG_LIMIT: u64 = 4 << 20;

/// Opens a regular file, and says how long it is. Anything else would block, or never end.
pub(crate) fn open(path: &Path) -> Result<(File, u64), Error> {
    let metadata = std::fs::metadata(path).map_err(Error::io(path))?;
    if !metadata.is_file() {
        return Err(Error::NotAFile { path: path.to_owned() });
    }
    Ok((File::open(path).map_err(Error::io(path))?, metadata.len()))
}

/// A whole file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let (file, bytes) = open(path)?;
    if bytes > limit {
        return Err(Error::TooLarge { path: path.to_owned(), bytes, limit });
    }
    let mut content = Vec::new();
    // `take`, since the file may have grown.
    file.take(limit).read_to_end(&mut content).map_err(Error::io(path))?;
    Ok(content)
}

/// A JSON file of at most [`CONFIG_LIMIT`] bytes.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let content = read(path, CONFIG_LIMIT)?;
    serde_json::from_slice(&content).map_err(|source| Error::Json { path: path.to_owned(), source })
}

/// `folder` and a name from the file `source`, which must be one plain name: nothing that walks
/// out of the folder on any system.
pub(crate) fn plain_name(folder: &Path, name: &str, source: &Path) -> Result<PathBuf, Error> {
    if is_plain_name(name) {
        Ok(folder.join(name))
    } else {
        Err(Error::UnsafePath { path: source.to_owned(), name: name.to_owned() })
    }
}

/// The same for a path of any number of plain names, separated by `/`; the empty one is the
/// folder itself.
pub(crate) fn plain_path(folder: &Path, path: &str, source: &Path) -> Result<PathBuf, Error> {
    if path.is_empty() {
        return Ok(folder.to_owned());
    }
    path.split('/').try_fold(folder.to_owned(), |inner, name| plain_name(&inner, name, source))
}

/// Whether a name is a single component everywhere: also where `\` separates and `C:` is a drive.
/// Control characters would act on the terminal that an error is shown on.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!(components.next(), Some(Component::Normal(_)))
        && components.next().is_none()
        && !name.contains(['/', '\\', ':'])
        && !name.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_walk_out_are_refused() {
        let (folder, source) = (Path::new("m"), Path::new("m/index.json"));
        for name in ["a.safetensors", "model-00001-of-00002.safetensors", "..a", "...", "ä"] {
            assert_eq!(plain_name(folder, name, source).unwrap(), folder.join(name));
        }
        for name in [
            "", ".", "..", "/", "/etc/x", "../x", "a/../x", "a/b", "a\\b", "C:x", "a\0b",
            "a\x1b[2J", "a/", "./a",
        ] {
            let error = plain_name(folder, name, source).unwrap_err();
            assert!(matches!(error, Error::UnsafePath { .. }), "{name:?}: {error}");
        }
    }

    #[test]
    fn module_paths_may_be_deep_but_stay_inside() {
        let (folder, source) = (Path::new("m"), Path::new("m/modules.json"));
        assert_eq!(plain_path(folder, "", source).unwrap(), folder);
        assert_eq!(plain_path(folder, "a/b", source).unwrap(), folder.join("a/b"));
        for path in ["..", "a/../..", "/a", "a//b", "a/", "a/./b", "a\\..\\b"] {
            assert!(plain_path(folder, path, source).is_err(), "{path:?}");
        }
    }
}
