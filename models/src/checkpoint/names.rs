//! The names that a model's tensors have in files.
//!
//! Code asks by the canonical name, which is Hugging Face's without the prefix of the base model:
//! `encoder.layer.0.output.LayerNorm.weight`. In files the same tensor may be
//! - `bert.encoder.layer.0.output.LayerNorm.weight`, from a model with a head;
//! - `bert.encoder.layer.0.output.LayerNorm.gamma`, from one that was converted from TensorFlow;
//! - dropped, when it is tied to another one that is there.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ferrite_kernels::Matrix;

use super::{Checkpoint, TensorInfo};
use crate::error::Error;

/// Tensors that share their numbers: either may be stored for both.
pub(super) const TIED: [(&str, &str); 2] = [
    ("embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
    ("cls.predictions.bias", "cls.predictions.decoder.bias"),
];

/// A tensor that a model needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its canonical name.
    pub name: String,
    /// Its sizes, row-major.
    pub shape: Vec<usize>,
}

/// The tensors of a checkpoint by their canonical names.
#[derive(Clone, Debug)]
pub struct Names<'a> {
    checkpoint: &'a Checkpoint,
    /// More than one if the file has a tensor by two names.
    stored: BTreeMap<Cow<'a, str>, Vec<&'a TensorInfo>>,
}

impl<'a> Names<'a> {
    /// The names of all tensors of this checkpoint.
    pub fn new(checkpoint: &'a Checkpoint) -> Names<'a> {
        let mut stored: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for tensor in checkpoint.tensors() {
            stored.entry(canonical(tensor.name())).or_default().push(tensor);
        }
        Names { checkpoint, stored }
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> &'a Checkpoint {
        self.checkpoint
    }

    /// Whether the tensor is stored by any name, of whatever shape.
    pub fn contains(&self, name: &str) -> bool {
        !self.candidates(name).is_empty()
    }

    /// The stored tensor that is `name`, if it has this shape and a type that can be read. Call it
    /// before taking memory for a shape that a configuration asks for: afterwards the file has been
    /// seen to hold that much.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongShape`], [`Error::WrongDtype`], or
    /// [`Error::DuplicateTensor`] if two stored names mean this one.
    pub fn find(&self, name: &str, shape: &[usize]) -> Result<&'a TensorInfo, Error> {
        let file = |tensor: &TensorInfo| self.checkpoint.file(tensor).to_owned();
        let tensor = match *self.candidates(name) {
            [] => {
                return Err(Error::MissingTensor {
                    path: self.checkpoint.folder().to_owned(),
                    tensor: name.to_owned(),
                    expected: shape.to_owned(),
                });
            }
            [tensor] => tensor,
            [first, second, ..] => {
                return Err(Error::DuplicateTensor {
                    path: file(second),
                    tensor: second.name().to_owned(),
                    other_path: file(first),
                    other: first.name().to_owned(),
                });
            }
        };
        let (path, stored_name) = (file(tensor), tensor.name().to_owned());
        if tensor.shape() != shape {
            let (expected, found) = (shape.to_owned(), tensor.shape().to_owned());
            return Err(Error::WrongShape { path, tensor: stored_name, expected, found });
        }
        if !tensor.dtype().is_readable() {
            return Err(Error::WrongDtype { path, tensor: stored_name, found: tensor.dtype() });
        }
        Ok(tensor)
    }

    /// Reads a tensor of this shape into `out`, row-major: a whole matrix, or the rows of one into
    /// which several tensors go.
    ///
    /// # Errors
    /// Those of [`Names::find`] and [`Checkpoint::read`].
    ///
    /// # Panics
    /// If `out` does not have as many elements as the shape.
    #[track_caller]
    pub fn read(&self, name: &str, shape: &[usize], out: &mut [f32]) -> Result<(), Error> {
        self.checkpoint.read(self.find(name, shape)?, out)
    }

    /// Reads a tensor of shape (rows, cols).
    ///
    /// # Errors
    /// Those of [`Names::find`] and [`Checkpoint::read`].
    pub fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix, Error> {
        let tensor = self.find(name, &[rows, cols])?;
        let mut matrix = Matrix::zeros(rows, cols);
        self.checkpoint.read(tensor, matrix.as_mut_slice())?;
        Ok(matrix)
    }

    /// Reads a tensor of shape (len,).
    ///
    /// # Errors
    /// Those of [`Names::find`] and [`Checkpoint::read`].
    pub fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, Error> {
        let tensor = self.find(name, &[len])?;
        let mut vector = vec![0.0; len];
        self.checkpoint.read(tensor, &mut vector)?;
        Ok(vector)
    }

    /// What is stored for a name, or else for the one that it is tied to.
    pub(super) fn candidates(&self, name: &str) -> &[&'a TensorInfo] {
        let stored = |name: &str| self.stored.get(name).map_or(&[][..], Vec::as_slice);
        match stored(name) {
            [] => TIED
                .iter()
                .find_map(|&(one, other)| (name == one).then_some(other))
                .map_or(&[], stored),
            found => found,
        }
    }
}

/// The canonical name of a stored one.
pub(super) fn canonical(stored: &str) -> Cow<'_, str> {
    let name = stored.strip_prefix("bert.").unwrap_or(stored);
    for (old, new) in [("LayerNorm.gamma", "weight"), ("LayerNorm.beta", "bias")] {
        if let Some(block) = name.strip_suffix(old) {
            return Cow::Owned(format!("{block}LayerNorm.{new}"));
        }
    }
    Cow::Borrowed(name)
}
