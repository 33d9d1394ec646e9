//! The one way in which files are read: regular ones only, and bounded.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use crate::error::Error;

/// What a file of a tokenizer may have: ten times the largest published one.
const LIMIT: u64 = 1 << 28;

/// A file's content.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, Error> {
    let io = |source: io::Error| Error::Io { path: path.into(), source };
    let metadata = fs::metadata(path).map_err(io)?;
    // A pipe would block, a device never end.
    if !metadata.is_file() {
        return Err(Error::NotAFile { path: path.into() });
    }
    let bytes = metadata.len();
    if bytes > LIMIT {
        return Err(Error::TooLarge { path: path.into(), bytes, limit: LIMIT });
    }
    let mut content = Vec::new();
    // `take`, since the file may have grown.
    File::open(path).map_err(io)?.take(LIMIT).read_to_end(&mut content).map_err(io)?;
    Ok(content)
}

/// A file's name and text.
pub(crate) fn read_text(path: &Path) -> Result<(String, String), Error> {
    let file = path.display().to_string();
    match String::from_utf8(read_bytes(path)?) {
        Ok(text) => Ok((file, text)),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let line = 1 + error.as_bytes()[..valid].iter().filter(|&&b| b == b'\n').count();
            Err(Error::NotUtf8 { file, line })
        }
    }
}

/// The same, or `None` if there is no such file.
pub(crate) fn read_optional(path: &Path) -> Result<Option<(String, String)>, Error> {
    match read_text(path) {
        Ok(found) => Ok(Some(found)),
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
