//! Weights as they lie in a folder: one safetensors file, or shards and their index.
//!
//! ```text
//! Checkpoint   which tensors there are, of what type and shape, and their numbers
//! Names        a model's names for tensors -> the names they are stored by
//! LoadReport   what became of every stored tensor, and what is missing
//! ```
//!
//! Files are untrusted: a header is checked whole before anything of it is used, and memory is
//! only taken for what is really in the file. Tensors are read one by one into the caller's own
//! memory, so that loading a model takes about the memory of its weights.

mod dtype;
mod header;
mod index;
mod names;
mod report;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::Error;
use crate::files;

pub use dtype::Dtype;
use header::Header;
pub use header::HeaderError;
#[cfg(feature = "hub")]
pub(crate) use index::shard_names;
pub use names::{Names, Wanted};
pub use report::{Fate, Ignored, LoadReport};

pub(crate) const SINGLE_FILE: &str = "model.safetensors";
pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";

/// The weights of a folder, their headers read and checked.
#[derive(Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    shards: Vec<Shard>,
    tensors: BTreeMap<String, TensorInfo>,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    /// Kept open, so that what is read is what was checked, whatever now has that name. One reader
    /// at a time, since reading moves the file's position.
    file: Mutex<File>,
}

/// One stored tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Its size in bytes.
    bytes: usize,
    /// Its place: which shard, and where in it.
    shard: usize,
    start: u64,
}

impl TensorInfo {
    /// The name it is stored by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of its elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Its sizes, row-major.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How many elements it has.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Its size in the file, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What becomes of a fault: an error ends the work.
type OnFault<'a> = &'a mut dyn FnMut(Error) -> Result<(), Error>;

fn read_header(path: &Path) -> Result<(File, Header), Error> {
    let (mut file, size) = files::open(path)?;
    let header = header::read(path, &mut file, size)?;
    Ok((file, header))
}

impl Checkpoint {
    /// Reads the headers of `model.safetensors` in this folder, or of all the shards that
    /// `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// The first fault of any file: see [`Error`].
    pub fn open(folder: impl AsRef<Path>) -> Result<Checkpoint, Error> {
        Checkpoint::open_with(folder.as_ref(), &mut Err)
    }

    /// The same, leaving out what cannot be read: the tensors of sound shards, and all faults of
    /// the others.
    ///
    /// # Errors
    /// If there are no weights, or the index cannot be read.
    pub fn open_lenient(folder: impl AsRef<Path>) -> Result<(Checkpoint, Vec<Error>), Error> {
        let mut faults = Vec::new();
        let mut keep = |fault| {
            faults.push(fault);
            Ok(())
        };
        let checkpoint = Checkpoint::open_with(folder.as_ref(), &mut keep)?;
        Ok((checkpoint, faults))
    }

    /// Reads the header of this file alone, whatever its name.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn open_file(path: &Path) -> Result<Checkpoint, Error> {
        let folder = path.parent().unwrap_or(path).to_owned();
        let mut checkpoint = Checkpoint { folder, shards: Vec::new(), tensors: BTreeMap::new() };
        let (file, header) = read_header(path)?;
        checkpoint.add_shard(path, file, header, &mut Err)?;
        Ok(checkpoint)
    }

    /// Gives each fault of a shard to `on_fault`, which returns it to stop there.
    fn open_with(folder: &Path, on_fault: OnFault<'_>) -> Result<Checkpoint, Error> {
        std::fs::read_dir(folder).map_err(Error::io(folder))?;
        let (single, index) = (folder.join(SINGLE_FILE), folder.join(INDEX_FILE));
        // A single file goes before an index, as in `transformers`.
        let shards = if single.exists() {
            vec![(single, Vec::new())]
        } else if index.exists() {
            index::read(&index, folder)?
        } else {
            let other = ["pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5"]
                .into_iter()
                .find(|name| folder.join(name).exists());
            return Err(Error::NoWeights { folder: folder.to_owned(), other });
        };

        let mut checkpoint =
            Checkpoint { folder: folder.to_owned(), shards: Vec::new(), tensors: BTreeMap::new() };
        for (path, promised) in shards {
            let (file, header) = match read_header(&path) {
                Ok(sound) => sound,
                Err(fault) => {
                    on_fault(fault)?;
                    continue;
                }
            };
            checkpoint.add_shard(&path, file, header, on_fault)?;
            let here = checkpoint.shards.len() - 1;
            for tensor in promised {
                if checkpoint.get(&tensor).is_none_or(|info| info.shard != here) {
                    let (path, index) = (path.clone(), index.clone());
                    on_fault(Error::NotInShard { path, index, tensor })?;
                }
            }
        }
        Ok(checkpoint)
    }

    /// Takes in all tensors of a file.
    fn add_shard(
        &mut self,
        path: &Path,
        file: File,
        header: Header,
        on_fault: OnFault<'_>,
    ) -> Result<(), Error> {
        let shard = self.shards.len();
        for (name, stored) in header.tensors {
            match self.tensors.entry(name) {
                Entry::Vacant(place) => {
                    let name = place.key().clone();
                    let bytes = stored.bytes();
                    // Below the file's size, which is a u64.
                    let start = header.data_start + stored.data_offsets.0 as u64;
                    let (dtype, shape) = (stored.dtype, stored.shape);
                    place.insert(TensorInfo { name, dtype, shape, bytes, shard, start });
                }
                Entry::Occupied(first) => on_fault(Error::DuplicateTensor {
                    path: path.to_owned(),
                    tensor: first.key().clone(),
                    other_path: self.shards[first.get().shard].path.clone(),
                    other: first.key().clone(),
                })?,
            }
        }
        self.shards.push(Shard { path: path.to_owned(), file: Mutex::new(file) });
        Ok(())
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All tensors, ordered by name.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.tensors.values()
    }

    /// The tensor stored by exactly this name.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// The file that has this tensor.
    ///
    /// # Panics
    /// If the tensor is another checkpoint's.
    #[track_caller]
    pub fn file(&self, tensor: &TensorInfo) -> &Path {
        &self.shard(tensor).path
    }

    /// Reads a tensor into `out`, row-major. F16 and BF16 are widened exactly, F64 is rounded.
    ///
    /// # Errors
    /// If its type is none of F32, F16, BF16, F64, or the file cannot be read (it may have been cut
    /// since it was opened).
    ///
    /// # Panics
    /// If `out` has another number of elements, or the tensor is another checkpoint's.
    #[track_caller]
    pub fn read(&self, tensor: &TensorInfo, out: &mut [f32]) -> Result<(), Error> {
        let (elements, shape) = (out.len(), tensor.shape());
        assert_eq!(elements, tensor.elements(), "{}: {shape:?} into {elements}", tensor.name());
        let Shard { path, file } = self.shard(tensor);
        if !tensor.dtype.is_readable() {
            let (path, tensor, found) = (path.clone(), tensor.name.clone(), tensor.dtype);
            return Err(Error::WrongDtype { path, tensor, found });
        }
        // A reader that panicked left the file's position anywhere, and it is set anew here.
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        let size = file.metadata().map_err(Error::io(path))?.len();
        let end = tensor.start + tensor.bytes as u64;
        if size < end {
            return Err(Error::Truncated { path: path.clone(), expected: end, actual: size });
        }
        file.seek(SeekFrom::Start(tensor.start)).map_err(Error::io(path))?;
        dtype::read_f32(tensor.dtype, &mut *file, out).map_err(Error::io(path))
    }

    #[track_caller]
    fn shard(&self, tensor: &TensorInfo) -> &Shard {
        let own = self.tensors.get(tensor.name()) == Some(tensor);
        assert!(own, "{} is not a tensor of {}", tensor.name(), self.folder.display());
        &self.shards[tensor.shard]
    }
}
