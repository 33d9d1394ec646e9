//! The parameters of a BERT in one piece of memory, and how they are cut out of it.
//!
//! One walk over the model, [`BertOf::cut`], lists the tensors with their names, reads the weights
//! and writes the gradients: whatever is cut comes in the same order. So an optimizer sees one long
//! slice, a checkpoint a list of names, and a layer its own matrices.

use std::ops::Range;

use ferrite_kernels::{Mat, MatMut, Matrix};
use ferrite_layers::{
    AttentionGradients, BertEmbeddingsGradients, FeedForwardGradients, LayerNormGradients,
    LinearGradients,
};

use super::{BertConfig, Part};
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
        !self.name.contains("bias") && !self.name.contains("LayerNorm")
    }

    /// The name that `transformers` gives it in a model with a head.
    pub fn stored_name(&self) -> String {
        let of_head = ["cls.", "classifier."].iter().any(|head| self.name.starts_with(head));
        if of_head { self.name.clone() } else { format!("bert.{}", self.name) }
    }
}

/// All parameters of a model, or a number for each of them: gradients, moments.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    tensors: Vec<Tensor>,
    values: Matrix<f32>,
}

impl Parameters {
    /// Zeros for a model with these parts.
    pub fn zeros(config: &BertConfig, parts: &[Part]) -> Parameters {
        let mut list = List::default();
        BertOf::cut(config, parts, &mut list);
        Parameters { tensors: list.tensors, values: Matrix::zeros(1, list.end) }
    }

    /// How many parameters such a model has.
    pub fn count_of(config: &BertConfig, parts: &[Part]) -> usize {
        let mut list = List::default();
        BertOf::cut(config, parts, &mut list);
        list.tensors.iter().map(|tensor| tensor.range.len()).sum()
    }

    /// Zeros for the same model.
    pub fn zeros_like(&self) -> Parameters {
        Parameters { tensors: self.tensors.clone(), values: Matrix::zeros(1, self.values.cols()) }
    }

    /// Reads all tensors of a checkpoint. Those of heads that it does not have stay as they are;
    /// their names are returned.
    ///
    /// # Errors
    /// The first fault of any tensor; of a head of which a part is missing, too.
    pub fn read(&mut self, names: &Names<'_>) -> Result<Vec<String>, Error> {
        let mut missing = Vec::new();
        for tensor in &self.tensors {
            if is_of_head(&tensor.name) && !names.contains(&tensor.name) {
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

    /// The parameters part by part.
    pub(crate) fn shared(&self, config: &BertConfig, parts: &[Part]) -> BertOf<Shared<'_>> {
        BertOf::cut(config, parts, &mut Shared { rest: self.values.as_slice() })
    }

    /// The parameters part by part, to be written.
    pub(crate) fn exclusive(
        &mut self,
        config: &BertConfig,
        parts: &[Part],
    ) -> BertOf<Exclusive<'_>> {
        BertOf::cut(config, parts, &mut Exclusive { rest: self.values.as_mut_slice() })
    }
}

fn is_of_head(name: &str) -> bool {
    ["pooler.", "cls.", "classifier."].iter().any(|head| name.starts_with(head))
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
struct List {
    tensors: Vec<Tensor>,
    end: usize,
}

impl List {
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

/// The three tables, and the norm of their sum.
pub(crate) struct EmbeddingsOf<C: Cut> {
    pub(crate) token: C::Matrix,
    pub(crate) position: C::Matrix,
    pub(crate) segment: C::Matrix,
    pub(crate) norm: NormOf<C>,
}

/// One layer of the encoder.
pub(crate) struct BlockOf<C: Cut> {
    pub(crate) qkv: LinearOf<C>,
    pub(crate) attention_output: LinearOf<C>,
    pub(crate) attention_norm: NormOf<C>,
    pub(crate) inner: LinearOf<C>,
    pub(crate) outer: LinearOf<C>,
    pub(crate) output_norm: NormOf<C>,
}

/// The masked-LM head, without its matrix where that is the table of tokens.
pub(crate) struct MaskedLmOf<C: Cut> {
    pub(crate) transform: LinearOf<C>,
    pub(crate) norm: NormOf<C>,
    pub(crate) bias: C::Vector,
    pub(crate) decoder: Option<C::Matrix>,
}

/// A whole model.
pub(crate) struct BertOf<C: Cut> {
    pub(crate) embeddings: EmbeddingsOf<C>,
    pub(crate) blocks: Vec<BlockOf<C>>,
    pub(crate) pooler: Option<LinearOf<C>>,
    pub(crate) masked_lm: Option<MaskedLmOf<C>>,
    pub(crate) next_sentence: Option<LinearOf<C>>,
    pub(crate) classifier: Option<LinearOf<C>>,
}

impl<C: Cut> LinearOf<C> {
    fn cut(name: &str, d_out: usize, d_in: usize, c: &mut C) -> LinearOf<C> {
        let weight = c.matrix(&format!("{name}.weight"), (d_out, d_in));
        LinearOf { weight, bias: c.vector(&format!("{name}.bias"), d_out) }
    }
}

impl<C: Cut> NormOf<C> {
    fn cut(name: &str, d_model: usize, c: &mut C) -> NormOf<C> {
        let gamma = c.vector(&format!("{name}.weight"), d_model);
        NormOf { gamma, beta: c.vector(&format!("{name}.bias"), d_model) }
    }
}

impl<C: Cut> BertOf<C> {
    /// Cuts all tensors of a model with these parts.
    fn cut(config: &BertConfig, parts: &[Part], c: &mut C) -> BertOf<C> {
        let has = |part| parts.contains(&part);
        let d_model = config.hidden_size;
        let embeddings = EmbeddingsOf {
            token: c.matrix("embeddings.word_embeddings.weight", (config.vocab_size, d_model)),
            position: c.matrix(
                "embeddings.position_embeddings.weight",
                (config.max_position_embeddings, d_model),
            ),
            segment: c.matrix(
                "embeddings.token_type_embeddings.weight",
                (config.type_vocab_size, d_model),
            ),
            norm: NormOf::cut("embeddings.LayerNorm", d_model, c),
        };
        let blocks = (0..config.num_hidden_layers).map(|layer| BlockOf::cut(config, layer, c));
        BertOf {
            embeddings,
            blocks: blocks.collect(),
            pooler: has(Part::Pooler).then(|| LinearOf::cut("pooler.dense", d_model, d_model, c)),
            masked_lm: has(Part::MaskedLm).then(|| MaskedLmOf::cut(config, c)),
            next_sentence: has(Part::NextSentence)
                .then(|| LinearOf::cut("cls.seq_relationship", 2, d_model, c)),
            classifier: has(Part::Classifier)
                .then(|| LinearOf::cut("classifier", config.num_labels(), d_model, c)),
        }
    }
}

impl<C: Cut> BlockOf<C> {
    fn cut(config: &BertConfig, layer: usize, c: &mut C) -> BlockOf<C> {
        let (d_model, d_ff) = (config.hidden_size, config.intermediate_size);
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        let qkv = |what: &str| {
            ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}.{what}")))
        };
        BlockOf {
            qkv: LinearOf {
                weight: c.matrices(&qkv("weight"), (d_model, d_model)),
                bias: c.vectors(&qkv("bias"), d_model),
            },
            attention_output: LinearOf::cut(&name("attention.output.dense"), d_model, d_model, c),
            attention_norm: NormOf::cut(&name("attention.output.LayerNorm"), d_model, c),
            inner: LinearOf::cut(&name("intermediate.dense"), d_ff, d_model, c),
            outer: LinearOf::cut(&name("output.dense"), d_model, d_ff, c),
            output_norm: NormOf::cut(&name("output.LayerNorm"), d_model, c),
        }
    }
}

impl<C: Cut> MaskedLmOf<C> {
    fn cut(config: &BertConfig, c: &mut C) -> MaskedLmOf<C> {
        let (d_model, words) = (config.hidden_size, config.vocab_size);
        MaskedLmOf {
            transform: LinearOf::cut("cls.predictions.transform.dense", d_model, d_model, c),
            norm: NormOf::cut("cls.predictions.transform.LayerNorm", d_model, c),
            bias: c.vector("cls.predictions.bias", words),
            decoder: (!config.tie_word_embeddings)
                .then(|| c.matrix("cls.predictions.decoder.weight", (words, d_model))),
        }
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

impl<'a> From<EmbeddingsOf<Exclusive<'a>>> for BertEmbeddingsGradients<'a> {
    fn from(of: EmbeddingsOf<Exclusive<'a>>) -> Self {
        let EmbeddingsOf { token, position, segment, norm } = of;
        BertEmbeddingsGradients { token, segment, position, norm: norm.into() }
    }
}

/// The gradients of a [`super::Block`]'s parameters, to which a backward pass adds.
#[derive(Debug)]
pub struct BlockGradients<'a> {
    /// Of the first sub-layer.
    pub attention: AttentionGradients<'a>,
    /// Of its norm.
    pub attention_norm: LayerNormGradients<'a>,
    /// Of the second sub-layer.
    pub feed_forward: FeedForwardGradients<'a>,
    /// Of its norm.
    pub output_norm: LayerNormGradients<'a>,
}

impl<'a> From<BlockOf<Exclusive<'a>>> for BlockGradients<'a> {
    fn from(of: BlockOf<Exclusive<'a>>) -> Self {
        BlockGradients {
            attention: AttentionGradients {
                qkv: of.qkv.into(),
                output: of.attention_output.into(),
            },
            attention_norm: of.attention_norm.into(),
            feed_forward: FeedForwardGradients { inner: of.inner.into(), outer: of.outer.into() },
            output_norm: of.output_norm.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(tied: bool) -> BertConfig {
        BertConfig {
            vocab_size: 11,
            hidden_size: 6,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            intermediate_size: 10,
            max_position_embeddings: 7,
            tie_word_embeddings: tied,
            ..BertConfig::default()
        }
    }

    #[test]
    fn the_tensors_are_those_of_the_parts() {
        for tied in [true, false] {
            let config = config(tied);
            let parameters = Parameters::zeros(&config, &Part::ALL);
            let mut found: Vec<_> =
                parameters.tensors().iter().map(|t| (t.name.clone(), t.shape.clone())).collect();
            let mut expected: Vec<_> = Part::ALL
                .iter()
                .flat_map(|&part| config.tensors(part))
                .map(|wanted| (wanted.name, wanted.shape))
                .collect();
            found.sort();
            expected.sort();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_is_cut_is_what_is_listed() {
        let config = config(true);
        let mut parameters = Parameters::zeros(&config, &Part::ALL);
        let mut all = parameters.exclusive(&config, &Part::ALL);
        all.blocks[1].qkv.weight.row_mut(6).fill(1.0);
        all.blocks[1].outer.bias.fill(2.0);
        all.classifier.as_mut().unwrap().weight.row_mut(1).fill(3.0);
        all.masked_lm.as_mut().unwrap().bias[10] = 4.0;
        let tensor = |name: &str| parameters.get(name).unwrap();
        assert_eq!(tensor("encoder.layer.1.attention.self.key.weight")[..6], [1.0; 6]);
        assert_eq!(tensor("encoder.layer.1.output.dense.bias"), [2.0; 6]);
        assert_eq!(tensor("classifier.weight")[6..], [3.0; 6]);
        assert_eq!(tensor("cls.predictions.bias")[10], 4.0);
        let written = parameters.values().iter().filter(|&&x| x != 0.0).count();
        assert_eq!(written, 6 + 6 + 6 + 1);
        let of_tensors: usize = parameters.tensors().iter().map(|t| t.range.len()).sum();
        assert_eq!(parameters.count(), of_tensors);
    }
}
