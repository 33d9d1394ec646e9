//! A BERT that is trained: its layers beside parameters that lie in one piece, and the passes
//! forward and backward through all of it.

use ferrite_kernels::{
    Arithmetic, CrossEntropy, Dropout, Mat, Matrix, Precision, crew, cross_entropy,
    cross_entropy_loss, flush_denormals, scatter_add, share_rows,
};
use ferrite_layers::{
    Activations, BertEmbeddings, Embedding, FeedForward, FeedForwardCache, InputGradient,
    LayerNorm, Linear, LinearGradients, Mask, SelfAttention,
};

use super::block::{BlockScratch, BlockTape};
use super::dropout::{Dropouts, Place};
use super::heads::{ClassifierHead, MaskedLmGradients, MaskedLmTape, PoolerTape};
use super::model::activation_of;
use super::parameters::{
    BertOf, BlockOf, EmbeddingsOf, Exclusive, LinearOf, MaskedLmOf, NormOf, Parameters, Shared,
};
use super::{
    Batch, Bert, BertConfig, Block, BlockGradients, Encoder, MaskedLmHead, NextSentenceHead, Part,
    Pooler,
};
use crate::error::Error;

/// What the tokens and sequences of a batch should have been.
#[derive(Clone, Copy, Debug)]
pub struct PretrainingTargets<'a> {
    /// The rows of the masked tokens among all tokens of the batch, ascending.
    pub positions: &'a [u32],
    /// The true id of each.
    pub words: &'a [u32],
    /// For each sequence 0 if its second part follows the first, 1 if it is from elsewhere.
    pub next_sentence: &'a [u32],
}

/// What each target's loss counts in the gradients: one over their number, where the loss is their
/// mean; with several batches to a step, over the number in all of them.
#[derive(Clone, Copy, Debug)]
pub struct PretrainingWeights {
    /// Of a masked word.
    pub masked: f32,
    /// Of a pair of sentences.
    pub next_sentence: f32,
}

/// The losses of pre-training (BERT, section 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PretrainingLoss {
    /// Of the masked words.
    pub masked: CrossEntropy,
    /// Of the pairs of sentences.
    pub next_sentence: CrossEntropy,
}

impl std::ops::AddAssign for PretrainingLoss {
    fn add_assign(&mut self, other: PretrainingLoss) {
        self.masked += other.masked;
        self.next_sentence += other.next_sentence;
    }
}

/// What a backward pass needs of the forward pass, and the memory that both work in. Made once,
/// reused, it grows to what the largest batch needs.
#[derive(Debug, Default)]
pub struct Tape {
    embedded: Matrix<f32>,
    blocks: Vec<BlockTape>,
    hidden: Activations,
    pooler: PoolerTape,
    masked_lm: MaskedLmTape,
    scores: Matrix<f32>,
    feed_forward: FeedForwardCache,
    d_hidden: Matrix<f32>,
    d_rows: Matrix<f32>,
    d_pooled: Matrix<f32>,
    scratch: BlockScratch,
}

impl Bert {
    /// A model to be trained, with these parts and parameters: [`Bert::update`] takes others,
    /// [`Bert::pretraining_gradients`] and [`Bert::classification_gradients`] give their gradients.
    /// Products are computed in `arithmetic`, f32 or bf16, those of the heads of sequences in f32.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for an activation that there is not.
    ///
    /// # Panics
    /// If the parameters are not those of the configuration and its parts, or the precision is int8.
    pub fn trainable(
        arithmetic: impl Into<Arithmetic>,
        config: BertConfig,
        parts: &[Part],
        parameters: &Parameters,
    ) -> Result<Bert, Error> {
        let arithmetic = arithmetic.into();
        assert_ne!(arithmetic.precision(), Precision::Int8, "the precision of what is trained");
        let activation = activation_of(&config, "config.json".as_ref())?;
        let of = parameters.shared(&config, parts);
        let linear = |of: LinearOf<Shared<'_>>| Linear::trainable(arithmetic, of.weight, of.bias);
        let head =
            |of: LinearOf<Shared<'_>>| Linear::trainable(arithmetic.level(), of.weight, of.bias);
        let norm = |of: NormOf<Shared<'_>>| {
            let (gamma, beta) = (of.gamma.to_vec(), of.beta.to_vec());
            LayerNorm::new(arithmetic.level(), gamma, beta, config.layer_norm_eps)
        };
        let EmbeddingsOf { token, position, segment, norm: of_norm } = of.embeddings;
        let embeddings = BertEmbeddings {
            token: Embedding { table: copy(token) },
            segment: Embedding { table: copy(segment) },
            position: Embedding { table: copy(position) },
            norm: norm(of_norm),
            level: arithmetic.level(),
        };
        let block = |of: BlockOf<Shared<'_>>| Block {
            attention: SelfAttention {
                qkv: linear(of.qkv),
                output: linear(of.attention_output),
                heads: config.num_attention_heads,
                mask: Mask::Full,
            },
            attention_norm: norm(of.attention_norm),
            feed_forward: FeedForward {
                inner: linear(of.inner),
                outer: linear(of.outer),
                activation,
            },
            output_norm: norm(of.output_norm),
        };
        let masked_lm = |of: MaskedLmOf<Shared<'_>>| MaskedLmHead {
            transform: linear(of.transform),
            activation,
            norm: norm(of.norm),
            decoder: Linear::trainable(arithmetic, of.decoder.unwrap_or(token), of.bias),
        };
        Ok(Bert {
            arithmetic,
            encoder: Encoder { embeddings, blocks: of.blocks.into_iter().map(block).collect() },
            pooler: of.pooler.map(|of| Pooler { dense: head(of) }),
            masked_lm: of.masked_lm.map(masked_lm),
            next_sentence: of.next_sentence.map(|of| NextSentenceHead { relationship: head(of) }),
            classifier: of.classifier.map(|of| ClassifierHead { dense: head(of) }),
            config,
        })
    }

    /// Takes these parameters in place of its own.
    ///
    /// # Panics
    /// If they are of another model.
    pub fn update(&mut self, parameters: &Parameters) {
        let parts = self.parts();
        let of = parameters.shared(&self.config, &parts);
        let linear =
            |layer: &mut Linear, of: LinearOf<Shared<'_>>| layer.update(of.weight, of.bias);
        let norm = |layer: &mut LayerNorm, of: NormOf<Shared<'_>>| layer.update(of.gamma, of.beta);
        let EmbeddingsOf { token, position, segment, norm: of_norm } = of.embeddings;
        let embeddings = &mut self.encoder.embeddings;
        copy_to(token, &mut embeddings.token.table);
        copy_to(position, &mut embeddings.position.table);
        copy_to(segment, &mut embeddings.segment.table);
        norm(&mut embeddings.norm, of_norm);
        for (block, of) in self.encoder.blocks.iter_mut().zip(of.blocks) {
            linear(&mut block.attention.qkv, of.qkv);
            linear(&mut block.attention.output, of.attention_output);
            norm(&mut block.attention_norm, of.attention_norm);
            linear(&mut block.feed_forward.inner, of.inner);
            linear(&mut block.feed_forward.outer, of.outer);
            norm(&mut block.output_norm, of.output_norm);
        }
        if let (Some(head), Some(of)) = (&mut self.pooler, of.pooler) {
            linear(&mut head.dense, of);
        }
        if let (Some(head), Some(of)) = (&mut self.masked_lm, of.masked_lm) {
            linear(&mut head.transform, of.transform);
            norm(&mut head.norm, of.norm);
            head.decoder.update(of.decoder.unwrap_or(token), of.bias);
        }
        if let (Some(head), Some(of)) = (&mut self.next_sentence, of.next_sentence) {
            linear(&mut head.relationship, of);
        }
        if let (Some(head), Some(of)) = (&mut self.classifier, of.classifier) {
            linear(&mut head.dense, of);
        }
    }

    /// The parts it has.
    pub fn parts(&self) -> Vec<Part> {
        let has = |part: &Part| match part {
            Part::Encoder => true,
            Part::Pooler => self.pooler.is_some(),
            Part::MaskedLm => self.masked_lm.is_some(),
            Part::NextSentence => self.next_sentence.is_some(),
            Part::Classifier => self.classifier.is_some(),
        };
        Part::ALL.into_iter().filter(has).collect()
    }

    /// A pass forward and backward: the losses of the batch, and added to `gradients` those of the
    /// parameters. The masked-LM head runs at the masked positions alone.
    ///
    /// For one level and precision the bits depend on the batch, the parameters and the dropout, not
    /// on threads or on what was in memory.
    ///
    /// # Errors
    /// As [`Bert::encode`].
    ///
    /// # Panics
    /// If the model is not [`Bert::trainable`] with all parts of pre-training, or the targets do not
    /// fit the batch.
    pub fn pretraining_gradients(
        &self,
        batch: &Batch,
        targets: PretrainingTargets<'_>,
        weights: PretrainingWeights,
        dropouts: &Dropouts,
        tape: &mut Tape,
        gradients: &mut Parameters,
    ) -> Result<PretrainingLoss, Error> {
        self.check(batch)?;
        assert_eq!(targets.positions.len(), targets.words.len(), "masked positions and words");
        assert_eq!(targets.next_sentence.len(), batch.len(), "sequences and their targets");
        let of = gradients.exclusive(&self.config, &Part::PRETRAINING);
        crew(|| {
            flush_denormals(|| {
                self.forward_taped(batch, dropouts, tape);
                Ok(self.pretraining_backward(batch, targets, weights, dropouts, tape, of))
            })
        })
    }

    fn pretraining_backward(
        &self,
        batch: &Batch,
        targets: PretrainingTargets<'_>,
        weights: PretrainingWeights,
        dropouts: &Dropouts,
        tape: &mut Tape,
        of: BertOf<Exclusive<'_>>,
    ) -> PretrainingLoss {
        let (Some(pooler), Some(masked_lm), Some(next)) =
            (&self.pooler, &self.masked_lm, &self.next_sentence)
        else {
            panic!("a model with all parts of pre-training");
        };
        let BertOf { mut embeddings, blocks, pooler: of_pooler, masked_lm: of_masked, .. } = of;
        let (of_pooler, of_masked) = (of_pooler.expect("cut"), of_masked.expect("cut"));
        let of_next = of.next_sentence.expect("cut");
        let level = self.level();
        let mut loss = PretrainingLoss::default();

        // The masked words.
        let Tape { hidden, masked_lm: words, d_rows, d_hidden, scratch, .. } = &mut *tape;
        gather_rows(hidden.values(), targets.positions, &mut words.hidden);
        masked_lm.forward_taped(words);
        let logits = words.logits.view_mut();
        loss.masked = cross_entropy(level, logits, targets.words, 0.0, weights.masked);
        let MaskedLmOf { transform, norm, bias, decoder } = of_masked;
        let table = decoder.unwrap_or(embeddings.token.reborrow());
        let of_masked = MaskedLmGradients {
            transform: transform.into(),
            norm: norm.into(),
            decoder: LinearGradients { weight: table, bias },
        };
        masked_lm.backward(words, d_rows, of_masked, &mut scratch.linear);
        scatter_add(targets.positions, d_rows.view(), d_hidden.view_mut());

        // The next sentence.
        let (targets, weight) = (targets.next_sentence, weights.next_sentence);
        let of = (of_pooler, of_next);
        let head = (&next.relationship, None);
        loss.next_sentence = sequence_head(pooler, head, batch, targets, weight, tape, of);

        self.backward_taped(batch, dropouts, tape, embeddings, blocks);
        loss
    }

    /// A pass forward and backward of the classifier: the loss of the batch, and added to
    /// `gradients` those of all parameters. `labels` has a class for each sequence, and each loss
    /// counts `weight` in the gradients.
    ///
    /// # Errors
    /// As [`Bert::encode`].
    ///
    /// # Panics
    /// If the model is not [`Bert::trainable`] with a pooler and a classifier, or the labels do not
    /// fit.
    pub fn classification_gradients(
        &self,
        batch: &Batch,
        labels: &[u32],
        weight: f32,
        dropouts: &Dropouts,
        tape: &mut Tape,
        gradients: &mut Parameters,
    ) -> Result<CrossEntropy, Error> {
        self.check(batch)?;
        assert_eq!(labels.len(), batch.len(), "sequences and their labels");
        let of = gradients.exclusive(&self.config, &self.parts());
        crew(|| {
            flush_denormals(|| {
                self.forward_taped(batch, dropouts, tape);
                Ok(self.classification_backward(batch, labels, weight, dropouts, tape, of))
            })
        })
    }

    fn classification_backward(
        &self,
        batch: &Batch,
        labels: &[u32],
        weight: f32,
        dropouts: &Dropouts,
        tape: &mut Tape,
        of: BertOf<Exclusive<'_>>,
    ) -> CrossEntropy {
        let (Some(pooler), Some(classifier)) = (&self.pooler, &self.classifier) else {
            panic!("a model with a pooler and a classifier");
        };
        let BertOf { embeddings, blocks, pooler: of_pooler, classifier: of_classifier, .. } = of;
        let (of_pooler, of_classifier) = (of_pooler.expect("cut"), of_classifier.expect("cut"));
        let head = (&classifier.dense, dropouts.at(Place::Classifier));
        let of = (of_pooler, of_classifier);
        let loss = sequence_head(pooler, head, batch, labels, weight, tape, of);
        self.backward_taped(batch, dropouts, tape, embeddings, blocks);
        loss
    }

    /// The encoder's forward pass, `tape.hidden` its result; `tape.d_hidden`, to which the heads add
    /// their gradients, becomes zero.
    fn forward_taped(&self, batch: &Batch, dropouts: &Dropouts, tape: &mut Tape) {
        let Tape { embedded, blocks, hidden, feed_forward, d_hidden, scratch, .. } = tape;
        let Encoder { embeddings, blocks: layers } = &self.encoder;
        let (n, d_model) = (batch.tokens(), embeddings.d_model());
        d_hidden.resize(n, d_model);
        d_hidden.fill(0.0);
        blocks.resize_with(layers.len(), BlockTape::default);
        // The input of each layer lies on its own tape.
        let first = blocks.first_mut().map_or(&mut *hidden, |tape| &mut tape.x);
        first.resize(self.arithmetic, n, d_model);
        let (ids, types) = (batch.ids(), batch.type_ids());
        embeddings.forward_taped(ids, types, batch.sequences(), embedded, first);
        if let Some(dropout) = dropouts.at(Place::Embeddings) {
            dropout.apply(self.level(), first.values_mut());
            first.convert();
        }
        for (layer, block) in layers.iter().enumerate() {
            let (done, rest) = blocks.split_at_mut(layer + 1);
            let y = rest.first_mut().map_or(&mut *hidden, |tape| &mut tape.x);
            let tape = &mut done[layer];
            block.forward_taped(layer, batch.sequences(), dropouts, tape, feed_forward, scratch, y);
        }
    }

    /// The encoder's backward pass, from `tape.d_hidden`, which is used up.
    fn backward_taped(
        &self,
        batch: &Batch,
        dropouts: &Dropouts,
        tape: &mut Tape,
        of_embeddings: EmbeddingsOf<Exclusive<'_>>,
        of_blocks: Vec<BlockOf<Exclusive<'_>>>,
    ) {
        let Tape { embedded, blocks, d_hidden: d, d_rows, scratch, .. } = tape;
        let sequences = batch.sequences();
        let layers = self.encoder.blocks.iter().zip(blocks).zip(of_blocks).enumerate();
        for (layer, ((block, tape), of)) in layers.rev() {
            let gradients = BlockGradients::from(of);
            block.backward(layer, sequences, dropouts, tape, d, gradients, scratch);
        }
        if let Some(dropout) = dropouts.at(Place::Embeddings) {
            dropout.apply(self.level(), d.view_mut());
        }
        let (ids, types) = (batch.ids(), batch.type_ids());
        let embeddings = &self.encoder.embeddings;
        let sum = (embedded.view(), d_rows);
        embeddings.backward(ids, types, sequences, sum, d.view(), of_embeddings.into());
    }

    /// The losses of a batch without dropout and gradients: for evaluation, by the passes that
    /// inference takes.
    ///
    /// # Errors
    /// As [`Bert::encode`].
    ///
    /// # Panics
    /// If the model lacks a part of pre-training, or the targets do not fit the batch.
    pub fn pretraining_loss(
        &self,
        batch: &Batch,
        targets: PretrainingTargets<'_>,
        workspace: &mut super::Workspace,
    ) -> Result<PretrainingLoss, Error> {
        let (Some(masked_lm), Some(next)) = (&self.masked_lm, &self.next_sentence) else {
            panic!("a model with all parts of pre-training");
        };
        let hidden = self.encode(batch, workspace)?;
        let mut rows = Matrix::default();
        gather_rows(hidden, targets.positions, &mut rows);
        let level = self.level();
        let logits = masked_lm.forward(rows.view());
        let masked = cross_entropy_loss(level, logits.view(), targets.words, 0.0);
        let pooled = self.pool(batch, hidden).expect("a pooler");
        let scores = next.forward(pooled.view());
        let next_sentence = cross_entropy_loss(level, scores.view(), targets.next_sentence, 0.0);
        Ok(PretrainingLoss { masked, next_sentence })
    }
}

/// A head on top of the pooler, forward and backward: the loss of its scores, and the gradients of
/// all of it; that of the hidden states is added to `tape.d_hidden`.
fn sequence_head(
    pooler: &Pooler,
    (head, dropout): (&Linear, Option<Dropout>),
    batch: &Batch,
    targets: &[u32],
    weight: f32,
    tape: &mut Tape,
    (of_pooler, of_head): (LinearOf<Exclusive<'_>>, LinearOf<Exclusive<'_>>),
) -> CrossEntropy {
    let level = head.arithmetic().level();
    let Tape { hidden, pooler: pooled, scores, d_pooled, d_rows, d_hidden, scratch, .. } = tape;
    let firsts = first_rows(batch);
    gather_rows(hidden.values(), &firsts, &mut pooled.first);
    pooler.forward_taped(pooled);
    if let Some(dropout) = dropout {
        dropout.apply(level, pooled.pooled.view_mut());
    }
    scores.resize(batch.len(), head.d_out());
    head.forward(pooled.pooled.view(), scores.view_mut());
    let loss = cross_entropy(level, scores.view_mut(), targets, 0.0, weight);
    d_pooled.resize(batch.len(), head.d_in());
    let d = InputGradient::Set(d_pooled.view_mut());
    let (pooled_view, linear) = (pooled.pooled.view(), &mut scratch.linear);
    head.backward(pooled_view, scores.view(), d, of_head.into(), linear);
    if let Some(dropout) = dropout {
        dropout.apply(level, d_pooled.view_mut());
    }
    pooler.backward(pooled, d_pooled, d_rows, of_pooler.into(), linear);
    scatter_add(&firsts, d_rows.view(), d_hidden.view_mut());
    loss
}

/// The row of each sequence's first token.
///
/// # Panics
/// If a sequence is empty: it has no `[CLS]`.
fn first_rows(batch: &Batch) -> Vec<u32> {
    let first = |rows: std::ops::Range<usize>| {
        assert!(!rows.is_empty(), "a sequence without tokens cannot be learnt from");
        rows.start as u32
    };
    batch.sequences().iter().map(first).collect()
}

/// Some rows of `from`, one after the other.
fn gather_rows(from: Mat<'_>, rows: &[u32], to: &mut Matrix<f32>) {
    to.resize(rows.len(), from.cols());
    for (index, &row) in rows.iter().enumerate() {
        to.row_mut(index).copy_from_slice(from.row(row as usize));
    }
}

fn copy(from: Mat<'_>) -> Matrix<f32> {
    let mut to = Matrix::zeros(from.rows(), from.cols());
    copy_to(from, &mut to);
    to
}

/// Writes `from` to `to`, which has its shape.
pub(super) fn copy_to(from: Mat<'_>, to: &mut Matrix<f32>) {
    share_rows(to.view_mut(), |first, mut to| {
        (0..to.rows()).for_each(|row| to.row_mut(row).copy_from_slice(from.row(first + row)));
    });
}
