//! What pre-training puts on top of the encoder.

use ferrite_kernels::{Activation, Activations, Mat, Matrix};
use ferrite_layers::{
    InputGradient, LayerNorm, LayerNormGradients, Linear, LinearGradients, LinearScratch,
};

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

/// What [`Pooler::backward`] needs of the forward pass.
#[derive(Debug, Default)]
pub struct PoolerTape {
    /// The hidden states of the `[CLS]` tokens, (sequences, d_model).
    pub first: Matrix<f32>,
    /// W h + b.
    inner: Matrix<f32>,
    /// Its tanh.
    pub pooled: Matrix<f32>,
}

impl Pooler {
    /// `tape.pooled` of `tape.first`.
    pub fn forward_taped(&self, tape: &mut PoolerTape) {
        let PoolerTape { first, inner, pooled } = tape;
        inner.resize(first.rows(), self.dense.d_out());
        self.dense.forward(first.view(), inner.view_mut());
        pooled.resize(inner.rows(), inner.cols());
        pooled.as_mut_slice().copy_from_slice(inner.as_slice());
        Activation::Tanh.apply_rows(self.dense.arithmetic().level(), pooled.view_mut());
    }

    /// The gradients, where `d` is that of the pooled vectors, and used up; `d_first` becomes that
    /// of the hidden states. The tape is used up.
    pub fn backward(
        &self,
        tape: &mut PoolerTape,
        d: &mut Matrix<f32>,
        d_first: &mut Matrix<f32>,
        gradients: LinearGradients<'_>,
        scratch: &mut LinearScratch,
    ) {
        let level = self.dense.arithmetic().level();
        Activation::Tanh.backward(level, tape.inner.view_mut(), d.view_mut());
        d_first.resize(tape.first.rows(), self.dense.d_in());
        let dx = InputGradient::Set(d_first.view_mut());
        self.dense.backward(tape.first.view(), d.view(), dx, gradients, scratch);
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

/// What [`MaskedLmHead::backward`] needs of the forward pass.
#[derive(Debug, Default)]
pub struct MaskedLmTape {
    /// The hidden states of the masked tokens, (positions, d_model).
    pub hidden: Matrix<f32>,
    /// W h + b.
    inner: Matrix<f32>,
    /// Its f.
    transformed: Matrix<f32>,
    /// The norm of that.
    normalised: Activations,
    /// The scores, (positions, words), and then their gradients.
    pub logits: Matrix<f32>,
    d_normalised: Matrix<f32>,
    d_transformed: Matrix<f32>,
}

/// The gradients of a [`MaskedLmHead`]'s parameters, to which a backward pass adds.
#[derive(Debug)]
pub struct MaskedLmGradients<'a> {
    /// Of the transform.
    pub transform: LinearGradients<'a>,
    /// Of the norm.
    pub norm: LayerNormGradients<'a>,
    /// Of E, to which the embeddings add theirs if the two are tied, and of c.
    pub decoder: LinearGradients<'a>,
}

impl MaskedLmHead {
    /// `tape.logits` of `tape.hidden`.
    pub fn forward_taped(&self, tape: &mut MaskedLmTape) {
        let MaskedLmTape { hidden, inner, transformed, normalised, logits, .. } = tape;
        let (n, d_model) = (hidden.rows(), self.transform.d_out());
        inner.resize(n, d_model);
        self.transform.forward(hidden.view(), inner.view_mut());
        transformed.resize(n, d_model);
        transformed.as_mut_slice().copy_from_slice(inner.as_slice());
        self.activation.apply_rows(self.transform.arithmetic().level(), transformed.view_mut());
        normalised.resize(self.decoder.arithmetic(), n, d_model);
        self.norm.forward_from(transformed.view(), normalised);
        logits.resize(n, self.decoder.d_out());
        self.decoder.forward(&*normalised, logits.view_mut());
    }

    /// The gradients, where `tape.logits` has become that of the scores; `d_hidden` becomes that of
    /// the hidden states. The tape is used up.
    pub fn backward(
        &self,
        tape: &mut MaskedLmTape,
        d_hidden: &mut Matrix<f32>,
        gradients: MaskedLmGradients<'_>,
        scratch: &mut LinearScratch,
    ) {
        let MaskedLmTape { hidden, inner, transformed, normalised, logits, .. } = tape;
        let (d_normalised, d_transformed) = (&mut tape.d_normalised, &mut tape.d_transformed);
        let (n, d_model) = hidden.shape();
        let MaskedLmGradients { transform, norm, decoder } = gradients;
        d_normalised.resize(n, d_model);
        let d = InputGradient::Set(d_normalised.view_mut());
        self.decoder.backward(normalised.values(), logits.view(), d, decoder, scratch);
        d_transformed.resize(n, d_model);
        let d = d_transformed.view_mut();
        self.norm.backward(transformed.view(), d_normalised.view(), d, norm);
        let level = self.transform.arithmetic().level();
        self.activation.backward(level, inner.view_mut(), d_transformed.view_mut());
        d_hidden.resize(n, d_model);
        let d = InputGradient::Set(d_hidden.view_mut());
        self.transform.backward(hidden.view(), d_transformed.view(), d, transform, scratch);
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

/// A classifier of sequences (BERT, section 4.1): scores before softmax of what the pooler gives;
/// with one label, a regression.
#[derive(Debug)]
pub struct ClassifierHead {
    /// d_model to the labels.
    pub dense: Linear,
}

impl ClassifierHead {
    /// A score for each label and each row of `pooled`, (sequences, d_model).
    pub fn forward(&self, pooled: Mat<'_>) -> Matrix<f32> {
        let mut logits = Matrix::zeros(pooled.rows(), self.dense.d_out());
        self.dense.forward(pooled, logits.view_mut());
        logits
    }
}
