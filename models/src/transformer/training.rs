//! A Transformer that is trained: the passes forward and backward through all of it.

use ferrite_kernels::{
    Activations, Arithmetic, CrossEntropy, Left, Matrix, Precision, crew, cross_entropy,
    flush_denormals,
};
use ferrite_layers::{FeedForwardCache, InputGradient, LinearGradients, TransformerEmbeddings};

use super::decoder::DecoderTape;
use super::decoder_layer::Memory;
use super::dropout::Side;
use super::encoder::EncoderTape;
use super::encoder_layer::LayerScratch;
use super::model::strips;
use super::parameters::TransformerOf;
use super::{Dropouts, Pairs, Sentences, Transformer, TransformerConfig};
use crate::error::Error;
use crate::parameters::{Exclusive, Parameters};
use crate::residual::copy_to;

/// How the tokens of a batch count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TranslationWeights {
    /// ε_ls (Attention Is All You Need, section 5.4): the share of the truth that goes to all tokens
    /// of the vocabulary alike, the right one among them, as PyTorch has it.
    pub label_smoothing: f32,
    /// What the loss of each target token counts in the gradients: one over their number, where the
    /// loss is their mean; with several batches to a step, over the number in all of them.
    pub token: f32,
}

/// What a backward pass needs of the forward pass, and the memory that both work in. Made once,
/// reused, it grows to what the largest batch needs.
#[derive(Debug, Default)]
pub struct Tape {
    encoder: EncoderTape,
    decoder: DecoderTape,
    memory: Activations,
    hidden: Activations,
    feed_forward: FeedForwardCache,
    logits: Matrix<f32>,
    d_hidden: Matrix<f32>,
    d_memory: Matrix<f32>,
    /// The gradient of a bias that there is not.
    d_no_bias: Vec<f32>,
    scratch: LayerScratch,
}

impl Transformer {
    /// A model to be trained, with these parameters: [`Transformer::update`] takes others,
    /// [`Transformer::gradients`] gives their gradients. Products are computed in `arithmetic`, f32
    /// or bf16.
    ///
    /// # Errors
    /// As [`Transformer::new`].
    ///
    /// # Panics
    /// If the parameters are not those of the configuration, or the precision is int8.
    #[track_caller]
    pub fn trainable(
        arithmetic: impl Into<Arithmetic>,
        config: TransformerConfig,
        parameters: &Parameters,
    ) -> Result<Transformer, Error> {
        let arithmetic = arithmetic.into();
        assert_ne!(arithmetic.precision(), Precision::Int8, "the precision of what is trained");
        Transformer::assemble(arithmetic, config, parameters, true)
    }

    /// Takes these parameters in place of its own.
    ///
    /// # Panics
    /// If they are of another model.
    #[track_caller]
    pub fn update(&mut self, parameters: &Parameters) {
        let of = TransformerOf::cut(&self.config, &mut parameters.cut(self.config.list()));
        let weight = of.generator_weight();
        let bias = match of.bias {
            Some(bias) => bias.row(0).to_vec(),
            None => self.generator.bias().to_vec(),
        };
        self.generator.update(weight, &bias);
        copy_to(of.source, &mut self.source.token.table);
        if let (Some(target), Some(table)) = (&mut self.target, of.target) {
            copy_to(table, &mut target.token.table);
        }
        self.encoder.update(of.encoder, of.encoder_norm);
        self.decoder.update(of.decoder, of.decoder_norm);
    }

    /// A pass forward and backward: the loss of the batch, and added to `gradients` those of the
    /// parameters. `loss` of it is the sum over target tokens, `counted` their number, so that its
    /// mean is over target tokens; the smoothed loss of a perfect model is not zero.
    ///
    /// For one level and precision the bits depend on the batch, the parameters and the dropout, not
    /// on threads or on what was in memory.
    ///
    /// # Errors
    /// As [`Transformer::encode`].
    ///
    /// # Panics
    /// If the model is not [`Transformer::trainable`], the gradients are of another one, the label
    /// smoothing is not in [0, 1], or ids and sentences do not fit each other.
    #[track_caller]
    pub fn gradients<'a>(
        &self,
        pairs: impl Into<Pairs<'a>>,
        weights: TranslationWeights,
        dropouts: &Dropouts,
        tape: &mut Tape,
        gradients: &mut Parameters,
    ) -> Result<CrossEntropy, Error> {
        let pairs = pairs.into();
        self.check(pairs)?;
        let of = TransformerOf::cut(&self.config, &mut gradients.cut_mut(self.config.list()));
        crew(|| {
            flush_denormals(|| {
                self.forward_taped(pairs, dropouts, tape);
                Ok(self.backward_taped(pairs, weights, dropouts, tape, of))
            })
        })
    }

    /// The forward pass up to the generator: `tape.memory` of the encoder, `tape.hidden` of the
    /// decoder.
    fn forward_taped(&self, pairs: Pairs<'_>, dropouts: &Dropouts, tape: &mut Tape) {
        let Tape { encoder, decoder, memory, hidden, feed_forward: cache, scratch, .. } = tape;
        let Pairs { source, inputs, .. } = pairs;
        self.embed_dropped(&self.source, source, dropouts, Side::Encoder, memory);
        let sequences = source.sequences;
        self.encoder.forward_taped(memory, sequences, dropouts, encoder, cache, scratch);
        self.embed_dropped(self.target_embeddings(), inputs, dropouts, Side::Decoder, hidden);
        let memory = Memory { hidden: memory, sequences };
        let sequences = inputs.sequences;
        self.decoder.forward_taped(hidden, sequences, memory, dropouts, decoder, cache, scratch);
    }

    fn embed_dropped(
        &self,
        embeddings: &TransformerEmbeddings,
        tokens: Sentences<'_>,
        dropouts: &Dropouts,
        side: Side,
        x: &mut Activations,
    ) {
        self.embed(embeddings, tokens, x);
        if let Some(dropout) = dropouts.embeddings(side) {
            dropout.apply(self.level(), x.values_mut());
        }
        x.convert();
    }

    fn backward_taped(
        &self,
        pairs: Pairs<'_>,
        weights: TranslationWeights,
        dropouts: &Dropouts,
        tape: &mut Tape,
        mut of: TransformerOf<Exclusive<'_>>,
    ) -> CrossEntropy {
        let level = self.level();
        let Pairs { source, inputs, .. } = pairs;
        let loss = self.generator_backward(pairs, weights, tape, &mut of);

        let Tape { encoder, decoder, memory, d_hidden, d_memory, scratch, .. } = tape;
        let memory = Memory { hidden: memory, sequences: source.sequences };
        let (sequences, d) = (inputs.sequences, (&mut *d_hidden, &mut *d_memory));
        let (layers, norm) = (of.decoder, of.decoder_norm);
        self.decoder.backward(sequences, memory, dropouts, decoder, d, (layers, norm), scratch);
        if let Some(dropout) = dropouts.embeddings(Side::Decoder) {
            dropout.apply(level, d_hidden.view_mut());
        }
        let table = of.target.unwrap_or(of.source.reborrow());
        self.target_embeddings().backward(inputs.ids, d_hidden.view_mut(), table);

        let layers = (of.encoder, of.encoder_norm);
        self.encoder.backward(source.sequences, dropouts, encoder, d_memory, layers, scratch);
        if let Some(dropout) = dropouts.embeddings(Side::Encoder) {
            dropout.apply(level, d_memory.view_mut());
        }
        self.source.backward(source.ids, d_memory.view_mut(), of.source);
        loss
    }

    /// The loss, and the way back through the generator: `tape.d_hidden` becomes the gradient of what
    /// the decoder gave. Logits go strip by strip, since all of them would be larger than all else.
    fn generator_backward(
        &self,
        pairs: Pairs<'_>,
        weights: TranslationWeights,
        tape: &mut Tape,
        of: &mut TransformerOf<Exclusive<'_>>,
    ) -> CrossEntropy {
        let Tape { hidden, logits, d_hidden, d_no_bias, scratch, .. } = tape;
        let TranslationWeights { label_smoothing, token } = weights;
        let mut weight = match (&mut of.generator, &mut of.target) {
            (Some(own), _) => own.reborrow(),
            (None, Some(target)) => target.reborrow(),
            (None, None) => of.source.reborrow(),
        };
        d_no_bias.resize(self.generator.d_out(), 0.0);
        let bias = of.bias.as_mut().map_or(&mut d_no_bias[..], |bias| bias.row_mut(0));
        d_hidden.resize(hidden.rows(), hidden.cols());
        let mut loss = CrossEntropy::default();
        for rows in strips(hidden.rows()) {
            logits.resize(rows.len(), self.generator.d_out());
            let x = Left::from(&*hidden).row_range(rows.clone());
            self.generator.forward(x, logits.view_mut());
            let outputs = &pairs.outputs[rows.clone()];
            loss += cross_entropy(self.level(), logits.view_mut(), outputs, label_smoothing, token);
            self.generator.backward(
                hidden.values().row_range(rows.clone()),
                logits.view(),
                InputGradient::Set(d_hidden.view_mut().row_range(rows)),
                LinearGradients { weight: weight.reborrow(), bias: &mut *bias },
                &mut scratch.linear,
            );
        }
        loss
    }
}
