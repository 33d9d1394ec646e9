//! The commit record: what a checkpoint consists of. It is written last, and with it the
//! checkpoint is one.
//!
//! Two lines: JSON, and the digest of that line. So a change of any bit is noticed, in the record
//! as in the files that it lists.

use std::io::{self, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::disk::Disk;
use super::error::StoreError;

/// The record's name.
pub(super) const RECORD: &str = "commit.json";

/// The form of the folder that this program writes.
const VERSION: u32 = 1;

/// What a record may have: thousands of parts.
const LIMIT: u64 = 1 << 20;

/// What a checkpoint consists of.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) version: u32,
    pub(super) step: u64,
    pub(super) files: Vec<Part>,
}

/// A file of it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) bytes: u64,
    /// In hexadecimal.
    pub(super) sha256: String,
}

impl Record {
    pub(super) fn new(step: u64, files: Vec<Part>) -> Record {
        Record { version: VERSION, step, files }
    }

    /// The bytes of the file.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let json = serde_json::to_string(self).expect("strings and numbers");
        let digest = hex(&Sha256::digest(&json));
        format!("{json}\n{digest}\n").into_bytes()
    }

    /// Reads the record of a folder. The files that it lists have not been looked at.
    pub(super) fn read(disk: &impl Disk, folder: &Path, step: u64) -> Result<Record, StoreError> {
        let path = folder.join(RECORD);
        let bad =
            |reason: &str| StoreError::BadRecord { path: path.clone(), reason: reason.into() };
        let (reader, size) = disk.open(&path).map_err(StoreError::io(&path))?;
        if size > LIMIT {
            return Err(bad("too long"));
        }
        let mut bytes = Vec::new();
        reader.take(LIMIT).read_to_end(&mut bytes).map_err(StoreError::io(&path))?;
        let end = bytes.iter().position(|&byte| byte == b'\n').ok_or_else(|| bad("cut off"))?;
        let (json, digest) = bytes.split_at(end);
        if digest != format!("\n{}\n", hex(&Sha256::digest(json))).as_bytes() {
            return Err(bad("its digest is not that of its content"));
        }
        let record: Record =
            serde_json::from_slice(json).map_err(|error| bad(&error.to_string()))?;
        if record.version != VERSION {
            return Err(bad("of another version"));
        }
        if record.step != step {
            return Err(bad("of another step"));
        }
        let is_plain = |part: &Part| crate::files::is_plain_name(&part.name);
        if !record.files.iter().all(is_plain) {
            return Err(bad("it lists files outside the folder"));
        }
        Ok(record)
    }

    /// Checks that the files are there and of the right size.
    pub(super) fn check_sizes(&self, disk: &impl Disk, folder: &Path) -> Result<(), StoreError> {
        self.files.iter().try_for_each(|part| part.open(disk, folder).map(|_| ()))
    }

    /// Checks every byte.
    pub(super) fn check(&self, disk: &impl Disk, folder: &Path) -> Result<(), StoreError> {
        self.check_sizes(disk, folder)?;
        for part in &self.files {
            let path = folder.join(&part.name);
            let mut digest = Hashed::new(io::sink());
            let mut reader = part.open(disk, folder)?;
            io::copy(&mut reader, &mut digest).map_err(StoreError::io(&path))?;
            let (_, _, found) = digest.finish();
            if found != part.sha256 {
                return Err(StoreError::Damaged { path, found });
            }
        }
        Ok(())
    }
}

impl Part {
    fn open(&self, disk: &impl Disk, folder: &Path) -> Result<Box<dyn Read>, StoreError> {
        let path = folder.join(&self.name);
        let (reader, found) = disk.open(&path).map_err(StoreError::io(&path))?;
        if found != self.bytes {
            return Err(StoreError::WrongSize { path, expected: self.bytes, found });
        }
        Ok(reader)
    }
}

/// A writer that counts and digests what passes through it.
pub(super) struct Hashed<W> {
    writer: W,
    bytes: u64,
    digest: Sha256,
}

impl<W: Write> Hashed<W> {
    pub(super) fn new(writer: W) -> Hashed<W> {
        Hashed { writer, bytes: 0, digest: Sha256::new() }
    }

    /// The writer, the number of bytes, and their digest in hexadecimal.
    pub(super) fn finish(self) -> (W, u64, String) {
        (self.writer, self.bytes, hex(&self.digest.finalize()))
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.writer.write(bytes)?;
        self.bytes += length as u64;
        self.digest.update(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
