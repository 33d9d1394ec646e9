//! A BERT that is trained: its layers beside parameters that lie in one piece, and the passes
//! forward and backward through all of it.

use ferrite_kernels::{
    Arithmetic, CrossEntropy, Dropout, Mat, Matrix, Precision, crew, cross_entropy,
    cross_entropy_loss, flush_denormals, scatter_add,
};
use ferrite_layers::{
    Activations, BertEmbeddings, FeedForwardCache, InputGradient, Linear, LinearGradients,
};

use super::dropout::{Dropouts, Place};
use super::heads::{ClassifierHead, MaskedLmGradients, MaskedLmTape, PoolerTape};
use super::parameters::{BertOf, EmbeddingsOf, MaskedLmOf};
use super::{
    Batch, Bert, BertConfig, Block, BlockTape, Encoder, MaskedLmHead, NextSentenceHead, Part,
    Pooler,
};
use crate::assembly::{Assembly, update_linear, update_norm};
use crate::config::activation_of;
use crate::error::Error;
use crate::parameters::{Exclusive, LinearOf, Parameters, Shared};
use crate::residual::copy_to;
use crate::transformer::{EncoderLayerOf, LayerScratch};

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
    scratch: LayerScratch,
}

impl Bert {
    /// A model to be trained, with these parts and parameters: [`Bert::update`] takes others,
    /// [`Bert::pretraining_gradients`] and [`Bert::classification_gradients`] give their gradients.
    /// Products are computed in `arithmetic`, f32 or bf16, those of the heads of sequences in f32.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for an activation that there is not, [`Error::InvalidValue`] for a
    /// configuration that no model has or none can be trained with.
    ///
    /// # Panics
    /// If the parameters are not those of the configuration and its parts, or the precision is int8.
    #[track_caller]
    pub fn trainable(
        arithmetic: impl Into<Arithmetic>,
        config: BertConfig,
        parts: &[Part],
        parameters: &Parameters,
    ) -> Result<Bert, Error> {
        let arithmetic = arithmetic.into();
        assert_ne!(arithmetic.precision(), Precision::Int8, "the precision of what is trained");
        config.check_training("config.json".as_ref())?;
        let activation = activation_of(&config.hidden_act, "hidden_act", "config.json".as_ref())?;
        let of = parameters.shared(&config, parts);
        let epsilon = config.layer_norm_eps;
        let layers = Assembly { arithmetic, trained: true, epsilon };
        // Heads of sequences are small, and stay in f32.
        let heads = Assembly { arithmetic: arithmetic.level().into(), ..layers };
        let EmbeddingsOf { token, position, segment, norm } = of.embeddings;
        let embeddings = BertEmbeddings {
            token: layers.embedding(token),
            segment: layers.embedding(segment),
            position: layers.embedding(position),
            norm: layers.norm(norm),
            level: arithmetic.level(),
        };
        let blocks = of.blocks.into_iter();
        let block = |of| Block::new(of, config.num_attention_heads, activation, &layers);
        let masked_lm = |of: MaskedLmOf<Shared<'_>>| MaskedLmHead {
            transform: layers.linear(of.transform),
            activation,
            norm: layers.norm(of.norm),
            decoder: Linear::trainable(arithmetic, of.decoder.unwrap_or(token), of.bias),
        };
        let head = |of| heads.linear(of);
        Ok(Bert {
            arithmetic,
            encoder: Encoder { embeddings, blocks: blocks.map(block).collect() },
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
    #[track_caller]
    pub fn update(&mut self, parameters: &Parameters) {
        let parts = self.parts();
        let of = parameters.shared(&self.config, &parts);
        let EmbeddingsOf { token, position, segment, norm } = of.embeddings;
        let embeddings = &mut self.encoder.embeddings;
        copy_to(token, &mut embeddings.token.table);
        copy_to(position, &mut embeddings.position.table);
        copy_to(segment, &mut embeddings.segment.table);
        update_norm(&mut embeddings.norm, norm);
        self.encoder.blocks.iter_mut().zip(of.blocks).for_each(|(block, of)| block.update(of));
        if let (Some(head), Some(of)) = (&mut self.pooler, of.pooler) {
            update_linear(&mut head.dense, of);
        }
        if let (Some(head), Some(of)) = (&mut self.masked_lm, of.masked_lm) {
            update_linear(&mut head.transform, of.transform);
            update_norm(&mut head.norm, of.norm);
            head.decoder.update(of.decoder.unwrap_or(token), of.bias);
        }
        if let (Some(head), Some(of)) = (&mut self.next_sentence, of.next_sentence) {
            update_linear(&mut head.relationship, of);
        }
        if let (Some(head), Some(of)) = (&mut self.classifier, of.classifier) {
            update_linear(&mut head.dense, of);
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
    /// If the model is not [`Bert::trainable`] with all parts of pre-training, the gradients are of
    /// another one, or the targets do not fit the batch.
    #[track_caller]
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
        let of = gradients.exclusive(&self.config, &self.parts());
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
    /// If the model is not [`Bert::trainable`] with a pooler and a classifier, the gradients are of
    /// another one, or the labels do not fit.
    #[track_caller]
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
        hidden.resize(self.arithmetic, n, d_model);
        let (ids, types) = (batch.ids(), batch.type_ids());
        embeddings.forward_taped(ids, types, batch.sequences(), embedded, hidden);
        if let Some(dropout) = dropouts.at(Place::Embeddings) {
            dropout.apply(self.level(), hidden.values_mut());
            hidden.convert();
        }
        for (layer, (block, tape)) in layers.iter().zip(blocks).enumerate() {
            let drop = dropouts.layer(layer);
            block.forward_taped(hidden, batch.sequences(), &drop, tape, feed_forward, scratch);
        }
    }

    /// The encoder's backward pass, from `tape.d_hidden`, which is used up.
    fn backward_taped(
        &self,
        batch: &Batch,
        dropouts: &Dropouts,
        tape: &mut Tape,
        of_embeddings: EmbeddingsOf<Exclusive<'_>>,
        of_blocks: Vec<EncoderLayerOf<Exclusive<'_>>>,
    ) {
        let Tape { embedded, blocks, d_hidden: d, d_rows, scratch, .. } = tape;
        let sequences = batch.sequences();
        let layers = self.encoder.blocks.iter().zip(blocks).zip(of_blocks).enumerate();
        for (layer, ((block, tape), of)) in layers.rev() {
            block.backward(sequences, &dropouts.layer(layer), tape, d, of.into(), scratch);
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
