//! What pre-training puts on top of the encoder.

use ferrite_kernels::{Activation, Mat, Matrix};
use ferrite_layers::{LayerNorm, Linear};

/// `tanh(W h + b)` of each sequence's first hidden state, that of `[CLS]` (BERT, section 3).
#[derive(Debug)]
pub struct Pooler {
    /// d_model to d_model.
    pub dense: Linear,
}

impl Pooler {
    /// One row of d_model elements for each row of `first`: the hidden states of the `[CLS]` tokens,
    /// (sequences, d_model).
    pub fn forward(&self, first: Mat<'_>) -> Matrix<f32> {
        let mut pooled = Matrix::zeros(first.rows(), self.dense.d_out());
        self.dense.forward_activated(first, Activation::Tanh, pooled.view_mut());
        pooled
    }
}

/// The masked-LM head (BERT, section 3.1, task 1): `LayerNorm(f(W h + b)) Eᵀ + c`, where E is the
/// table of token embeddings.
#[derive(Debug)]
pub struct MaskedLmHead {
    /// d_model to d_model.
    pub transform: Linear,
    /// The f of the encoder.
    pub activation: Activation,
    /// After the transform.
    pub norm: LayerNorm,
    /// E and c: d_model to the vocabulary.
    pub decoder: Linear,
}

impl MaskedLmHead {
    /// A score for each word of the vocabulary, before softmax, for each row of `hidden`,
    /// (positions, d_model): give it the masked positions only.
    pub fn forward(&self, hidden: Mat<'_>) -> Matrix<f32> {
        let mut transformed = Matrix::zeros(hidden.rows(), self.transform.d_out());
        self.transform.forward_activated(hidden, self.activation, transformed.view_mut());
        self.norm.forward(transformed.view_mut());
        let mut logits = Matrix::zeros(hidden.rows(), self.decoder.d_out());
        self.decoder.forward(transformed.view(), logits.view_mut());
        logits
    }
}

/// The next-sentence head (BERT, section 3.1, task 2).
#[derive(Debug)]
pub struct NextSentenceHead {
    /// d_model to 2.
    pub relationship: Linear,
}

impl NextSentenceHead {
    /// Two scores, before softmax, for each row of `pooled`, (sequences, d_model): that B follows
    /// A, and that B is a random sentence.
    pub fn forward(&self, pooled: Mat<'_>) -> Matrix<f32> {
        let mut logits = Matrix::zeros(pooled.rows(), self.relationship.d_out());
        self.relationship.forward(pooled, logits.view_mut());
        logits
    }
}
