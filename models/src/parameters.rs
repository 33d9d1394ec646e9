//! The parameters of a model in one piece of memory, and how they are cut out of it.
//!
//! One walk over a model lists the tensors with their names, reads the weights and writes the
//! gradients: whatever is cut comes in the same order. So an optimizer sees one long slice, a
//! checkpoint a list of names, and a layer its own matrices. The walks are the models' own:
//! [`BertOf`](crate::bert), [`TransformerOf`](crate::transformer).

use std::ops::Range;

use ferrite_kernels::{Mat, MatMut, Matrix};
use ferrite_layers::{
    AttentionGradients, FeedForwardGradients, LayerNormGradients, LinearGradients,
};

use crate::checkpoint::Names;
use crate::error::Error;

/// Each tensor begins at a multiple of this many elements: a cache line.
const ALIGNMENT: usize = 16;

/// One tensor of [`Parameters`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its canonical name: see [`Names`].
    pub name: String,
    /// Its sizes, row-major.
    pub shape: Vec<usize>,
    /// Where its elements lie.
    pub range: Range<usize>,
}

impl Tensor {
    /// Whether weight decay is for it: not for biases, nor for what a norm scales and shifts by
    /// (BERT's optimizer).
    pub fn decays(&self) -> bool {
        !self.is_bias() && !self.is_of_norm()
    }

    pub(crate) fn is_bias(&self) -> bool {
        self.name.contains("bias")
    }

    pub(crate) fn is_of_norm(&self) -> bool {
        self.name.contains("LayerNorm") || self.name.contains("layer_norm")
    }
}

/// All parameters of a model, or a number for each of them: gradients, moments.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    tensors: Vec<Tensor>,
    values: Matrix<f32>,
}

impl Parameters {
    /// Zeros for these tensors, which a walk has listed.
    pub(crate) fn of(list: List) -> Parameters {
        Parameters { tensors: list.tensors, values: Matrix::zeros(1, list.end) }
    }

    /// Zeros for the same model.
    pub fn zeros_like(&self) -> Parameters {
        Parameters { tensors: self.tensors.clone(), values: Matrix::zeros(1, self.values.cols()) }
    }

    /// Reads all tensors of a checkpoint. Those that it does not have and that are `optional` stay as
    /// they are; their names are returned.
    pub(crate) fn read_but(
        &mut self,
        names: &Names<'_>,
        optional: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, Error> {
        let mut missing = Vec::new();
        for tensor in &self.tensors {
            if optional(&tensor.name) && !names.contains(&tensor.name) {
                missing.push(tensor.name.clone());
                continue;
            }
            let values = &mut self.values.as_mut_slice()[tensor.range.clone()];
            names.read(&tensor.name, &tensor.shape, values)?;
        }
        Ok(missing)
    }

    /// The tensors, in the order in which they lie.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The elements of a tensor.
    pub fn tensor(&self, tensor: &Tensor) -> &[f32] {
        &self.values.as_slice()[tensor.range.clone()]
    }

    /// The elements of the tensor of this name, if there is one.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        self.tensors.iter().find(|tensor| tensor.name == name).map(|tensor| self.tensor(tensor))
    }

    /// All elements, those between tensors, which are zero, included.
    pub fn values(&self) -> &[f32] {
        self.values.as_slice()
    }

    /// All elements. Those between tensors have to stay zero.
    pub fn values_mut(&mut self) -> &mut [f32] {
        self.values.as_mut_slice()
    }

    /// How many parameters there are.
    pub fn count(&self) -> usize {
        self.tensors.iter().map(|tensor| tensor.range.len()).sum()
    }

    /// What the walk that made this list cuts weights out of.
    ///
    /// # Panics
    /// If the tensors are others than those of the list.
    #[track_caller]
    pub(crate) fn cut(&self, list: List) -> Shared<'_> {
        self.expect(&list.tensors);
        Shared { rest: self.values.as_slice() }
    }

    /// What the walk that made this list cuts gradients out of.
    ///
    /// # Panics
    /// If the tensors are others than those of the list.
    #[track_caller]
    pub(crate) fn cut_mut(&mut self, list: List) -> Exclusive<'_> {
        self.expect(&list.tensors);
        Exclusive { rest: self.values.as_mut_slice() }
    }

    /// Panics with the first tensor that is another one. What is cut has no names any more: tensors
    /// of another model with room enough would be taken for its own.
    #[track_caller]
    fn expect(&self, expected: &[Tensor]) {
        let number = self.tensors.len().max(expected.len());
        if let Some(n) = (0..number).find(|&n| self.tensors.get(n) != expected.get(n)) {
            let (found, expected) = (self.tensors.get(n), expected.get(n));
            panic!("parameters of another model: {expected:?} expected, {found:?} found");
        }
    }
}

/// What cuts one tensor after the other.
pub(crate) trait Cut {
    /// What a matrix becomes.
    type Matrix;
    /// What a vector becomes.
    type Vector;

    /// The next matrices, one below the other as one, each of this shape.
    fn matrices(&mut self, names: &[String], shape: (usize, usize)) -> Self::Matrix;

    /// The next vectors, one after the other as one, each of this length.
    fn vectors(&mut self, names: &[String], len: usize) -> Self::Vector;

    /// The next matrix.
    fn matrix(&mut self, name: &str, shape: (usize, usize)) -> Self::Matrix {
        self.matrices(&[name.to_owned()], shape)
    }

    /// The next vector.
    fn vector(&mut self, name: &str, len: usize) -> Self::Vector {
        self.vectors(&[name.to_owned()], len)
    }
}

/// Lists the tensors.
#[derive(Default)]
pub(crate) struct List {
    tensors: Vec<Tensor>,
    end: usize,
}

impl List {
    /// The tensors so far.
    pub(crate) fn tensors(self) -> Vec<Tensor> {
        self.tensors
    }

    fn add(&mut self, names: &[String], shape: &[usize]) {
        let len: usize = shape.iter().product();
        for name in names {
            let range = self.end..self.end + len;
            self.end = range.end;
            self.tensors.push(Tensor { name: name.clone(), shape: shape.to_owned(), range });
        }
        self.end = self.end.next_multiple_of(ALIGNMENT);
    }
}

impl Cut for List {
    type Matrix = ();
    type Vector = ();

    fn matrices(&mut self, names: &[String], (rows, cols): (usize, usize)) {
        self.add(names, &[rows, cols]);
    }

    fn vectors(&mut self, names: &[String], len: usize) {
        self.add(names, &[len]);
    }
}

/// Cuts shared views.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a> {
    rest: &'a [f32],
}

impl<'a> Shared<'a> {
    fn take(&mut self, len: usize) -> &'a [f32] {
        let (part, rest) = self.rest.split_at(len.next_multiple_of(ALIGNMENT));
        self.rest = rest;
        &part[..len]
    }
}

impl<'a> Cut for Shared<'a> {
    type Matrix = Mat<'a>;
    type Vector = &'a [f32];

    fn matrices(&mut self, names: &[String], (rows, cols): (usize, usize)) -> Mat<'a> {
        let rows = names.len() * rows;
        Mat::new(self.take(rows * cols), rows, cols, cols)
    }

    fn vectors(&mut self, names: &[String], len: usize) -> &'a [f32] {
        self.take(names.len() * len)
    }
}

/// Cuts views to be written.
pub(crate) struct Exclusive<'a> {
    rest: &'a mut [f32],
}

impl<'a> Exclusive<'a> {
    fn take(&mut self, len: usize) -> &'a mut [f32] {
        let rest = std::mem::take(&mut self.rest);
        let (part, rest) = rest.split_at_mut(len.next_multiple_of(ALIGNMENT));
        self.rest = rest;
        &mut part[..len]
    }
}

impl<'a> Cut for Exclusive<'a> {
    type Matrix = MatMut<'a>;
    type Vector = &'a mut [f32];

    fn matrices(&mut self, names: &[String], (rows, cols): (usize, usize)) -> MatMut<'a> {
        let rows = names.len() * rows;
        MatMut::new(self.take(rows * cols), rows, cols, cols)
    }

    fn vectors(&mut self, names: &[String], len: usize) -> &'a mut [f32] {
        self.take(names.len() * len)
    }
}

/// A weight, (d_out, d_in), and a bias.
pub(crate) struct LinearOf<C: Cut> {
    pub(crate) weight: C::Matrix,
    pub(crate) bias: C::Vector,
}

/// γ and β.
pub(crate) struct NormOf<C: Cut> {
    pub(crate) gamma: C::Vector,
    pub(crate) beta: C::Vector,
}

/// Attention to the same rows that it comes from.
pub(crate) struct AttentionOf<C: Cut> {
    pub(crate) qkv: LinearOf<C>,
    pub(crate) output: LinearOf<C>,
}

/// The feed-forward network.
pub(crate) struct FeedForwardOf<C: Cut> {
    pub(crate) inner: LinearOf<C>,
    pub(crate) outer: LinearOf<C>,
}

impl<C: Cut> LinearOf<C> {
    pub(crate) fn cut(name: &str, d_out: usize, d_in: usize, c: &mut C) -> LinearOf<C> {
        let weight = c.matrix(&format!("{name}.weight"), (d_out, d_in));
        LinearOf { weight, bias: c.vector(&format!("{name}.bias"), d_out) }
    }
}

impl<C: Cut> LinearOf<C> {
    /// Layers of one input side by side, each d_in to d_out.
    pub(crate) fn cut_side_by_side(
        names: &[String],
        d_out: usize,
        d_in: usize,
        c: &mut C,
    ) -> LinearOf<C> {
        let all = |what: &str| -> Vec<String> {
            names.iter().map(|name| format!("{name}.{what}")).collect()
        };
        let weight = c.matrices(&all("weight"), (d_out, d_in));
        LinearOf { weight, bias: c.vectors(&all("bias"), d_out) }
    }
}

impl<C: Cut> NormOf<C> {
    pub(crate) fn cut(name: &str, d_model: usize, c: &mut C) -> NormOf<C> {
        let gamma = c.vector(&format!("{name}.weight"), d_model);
        NormOf { gamma, beta: c.vector(&format!("{name}.bias"), d_model) }
    }
}

impl<'a> From<LinearOf<Exclusive<'a>>> for LinearGradients<'a> {
    fn from(of: LinearOf<Exclusive<'a>>) -> Self {
        LinearGradients { weight: of.weight, bias: of.bias }
    }
}

impl<'a> From<NormOf<Exclusive<'a>>> for LayerNormGradients<'a> {
    fn from(of: NormOf<Exclusive<'a>>) -> Self {
        LayerNormGradients { gamma: of.gamma, beta: of.beta }
    }
}

impl<'a> From<AttentionOf<Exclusive<'a>>> for AttentionGradients<'a> {
    fn from(of: AttentionOf<Exclusive<'a>>) -> Self {
        AttentionGradients { qkv: of.qkv.into(), output: of.output.into() }
    }
}

impl<'a> From<FeedForwardOf<Exclusive<'a>>> for FeedForwardGradients<'a> {
    fn from(of: FeedForwardOf<Exclusive<'a>>) -> Self {
        FeedForwardGradients { inner: of.inner.into(), outer: of.outer.into() }
    }
}
