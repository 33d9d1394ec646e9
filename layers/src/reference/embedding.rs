//! Tokens to rows.

use ferrite_kernels::{Level, Matrix, Segments};

use super::{LayerNorm, narrow_matrix};
use crate::Embedding;

/// `LayerNorm(token[id] + segment[type] + position[place])`.
#[derive(Clone, Debug, PartialEq)]
pub struct BertEmbeddings {
    /// A row for each word piece.
    pub token: Matrix<f64>,
    /// A row for each segment.
    pub segment: Matrix<f64>,
    /// A row for each position.
    pub position: Matrix<f64>,
    /// Normalises the sum.
    pub norm: LayerNorm,
}

impl BertEmbeddings {
    /// The sums of rows, not yet normalised, (n, d_model).
    pub fn sum(&self, ids: &[u32], types: &[u32], sequences: &Segments) -> Matrix<f64> {
        let mut x = Matrix::zeros(ids.len(), self.token.cols());
        for sequence in sequences.iter() {
            for (place, row) in sequence.enumerate() {
                let token = self.token.row(ids[row] as usize);
                let segment = self.segment.row(types[row] as usize);
                for col in 0..x.cols() {
                    x.row_mut(row)[col] = token[col] + segment[col] + self.position.row(place)[col];
                }
            }
        }
        x
    }

    /// x, (n, d_model).
    pub fn forward(&self, ids: &[u32], types: &[u32], sequences: &Segments) -> Matrix<f64> {
        self.norm.forward(&self.sum(ids, types, sequences))
    }

    /// The layer with these parameters.
    pub fn to_layer(&self, level: Level) -> crate::BertEmbeddings {
        crate::BertEmbeddings {
            token: Embedding { table: narrow_matrix(&self.token) },
            segment: Embedding { table: narrow_matrix(&self.segment) },
            position: Embedding { table: narrow_matrix(&self.position) },
            norm: self.norm.to_layer(level),
            level,
        }
    }
}

/// `scale token[id] + position[place]`.
#[derive(Clone, Debug, PartialEq)]
pub struct TransformerEmbeddings {
    /// A row for each token of the vocabulary.
    pub token: Matrix<f64>,
    /// A row for each position.
    pub position: Matrix<f64>,
    /// √d_model in the paper.
    pub scale: f64,
}

impl TransformerEmbeddings {
    /// x, (n, d_model).
    pub fn forward(&self, ids: &[u32], sequences: &Segments) -> Matrix<f64> {
        let mut x = Matrix::zeros(ids.len(), self.token.cols());
        for sequence in sequences.iter() {
            for (place, row) in sequence.enumerate() {
                let token = self.token.row(ids[row] as usize);
                for col in 0..x.cols() {
                    x.row_mut(row)[col] = self.scale * token[col] + self.position.row(place)[col];
                }
            }
        }
        x
    }

    /// The layer with these parameters.
    pub fn to_layer(&self, level: Level) -> crate::TransformerEmbeddings {
        crate::TransformerEmbeddings {
            token: Embedding { table: narrow_matrix(&self.token) },
            position: Embedding { table: narrow_matrix(&self.position) },
            scale: self.scale as f32,
            level,
        }
    }
}
