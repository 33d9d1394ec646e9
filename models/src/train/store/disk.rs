//! What saving asks of a file system, so that tests can put one in its place that fails or loses
//! power at any operation.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

/// The operations, each as the system knows it. Nothing but the two `sync`s makes anything last.
pub(super) trait Disk {
    /// A file that is being written.
    type File: Write;

    /// Makes a file. There must be none of that name.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Waits until what was written to a file has arrived, and closes it.
    fn sync(&self, file: Self::File) -> io::Result<()>;

    /// Opens a file, and says how long it is.
    fn open(&self, path: &Path) -> io::Result<(Box<dyn Read>, u64)>;

    /// Makes a folder. There must be none of that name, and the folder it is in must be there.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Waits until the names in a folder have arrived.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// The names in a folder, in no order. Those that are not Unicode are not ours, and left out.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Gives a folder another name, in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty folder.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
}

/// The real one.
#[derive(Clone, Copy, Debug)]
pub(super) struct System;

impl Disk for System {
    type File = File;

    fn create(&self, path: &Path) -> io::Result<File> {
        File::create_new(path)
    }

    fn sync(&self, file: File) -> io::Result<()> {
        file.sync_all()
    }

    fn open(&self, path: &Path) -> io::Result<(Box<dyn Read>, u64)> {
        // A pipe would block, a device never end.
        let metadata = fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok((Box::new(File::open(path)?), metadata.len()))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        // Elsewhere a folder cannot be opened, and its names need no such care.
        if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }
}
