//! What steps of decoding remember: keys and values of all positions so far.

use ferrite_kernels::{Matrix, VisibleRows};

/// The past of a decoder: what [`Decoder::begin`](super::Decoder::begin) begins, and to which each
/// [`Decoder::step`](super::Decoder::step) adds a row for each position that it reads.
///
/// Rows are never moved. A hypothesis is a list of row numbers, and hypotheses with the same beginning
/// share its rows.
#[derive(Clone, Debug, Default)]
pub struct Past {
    pub(crate) layers: Vec<LayerPast>,
}

/// The past of one layer, keys and values side by side.
#[derive(Clone, Debug, Default)]
pub struct LayerPast {
    /// Of the positions read so far, (rows, 2 d_model).
    pub prefixes: Matrix<f32>,
    /// Of the encoder's output, (m, 2 d_model).
    pub memory: Matrix<f32>,
}

/// What each of n hypotheses sees of the past.
#[derive(Clone, Copy, Debug)]
pub struct Visible<'a> {
    /// The rows of its own positions, in their order, the one that is read in this step included.
    pub prefixes: &'a VisibleRows,
    /// The rows of its sentence in the encoder's output.
    pub memories: &'a VisibleRows,
}
