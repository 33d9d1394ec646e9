//! BERT: the encoder, and what a checkpoint has on top of it.

use std::path::Path;

use ferrite_kernels::{Arithmetic, Level, MAX_INT8_INPUTS, Mat, Matrix, Precision};
use ferrite_layers::{
    Activation, BertEmbeddings, Embedding, FeedForward, LayerNorm, Linear, Mask, Moments,
    SelfAttention,
};
use ferrite_tokenizer::Tokenizer;

use super::{
    Batch, BertConfig, Block, ClassifierHead, Encoder, MaskedLmHead, NextSentenceHead, Part,
    Pooler, Trace, Workspace,
};
use crate::checkpoint::{Checkpoint, Names};
use crate::config::activation_of;
use crate::error::Error;

/// A BERT (Devlin et al. 2018), ready to run. It is immutable and shared freely between threads;
/// what a pass writes lives in a [`Workspace`].
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use ferrite_models::bert::{Batch, Bert, Workspace};
///
/// let bert = Bert::from_pretrained("bert-base-uncased")?;
/// let batch = Batch::from_ids([&[101, 7592, 102][..], &[101, 102]]);
/// let mut workspace = Workspace::default();
/// let hidden = bert.encode(&batch, &mut workspace)?;
/// assert_eq!(hidden.shape(), (5, 768));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Bert {
    pub(super) config: BertConfig,
    pub(super) arithmetic: Arithmetic,
    pub(super) encoder: Encoder,
    pub(super) pooler: Option<Pooler>,
    pub(super) masked_lm: Option<MaskedLmHead>,
    pub(super) next_sentence: Option<NextSentenceHead>,
    pub(super) classifier: Option<ClassifierHead>,
}

impl Bert {
    /// Loads `config.json` and the weights of a folder, with every part that the weights have:
    /// nothing is made up for parts that they lack.
    ///
    /// # Errors
    /// The first fault of any file: see [`Error`].
    pub fn from_pretrained(folder: impl AsRef<Path>) -> Result<Bert, Error> {
        Bert::from_pretrained_at(Level::try_current()?, folder)
    }

    /// The same, in an arithmetic of choice: the products of the layers and of the masked-LM head
    /// are computed in its precision, those of the pooler and of the next-sentence head, a few for
    /// each sequence, always in f32. A level alone stands for f32 throughout.
    ///
    /// For all-MiniLM-L6-v2 the cosine of a text's vector to that in f32 is 0.9999 or more in bf16,
    /// which takes half the bytes of weights, and 0.995 or more, 0.998 in the mean, in int8, which
    /// takes a quarter.
    ///
    /// ```
    /// use ferrite_models::bert::{Batch, Bert, Workspace};
    /// use ferrite_models::kernels::{Arithmetic, Level, Precision};
    ///
    /// let arithmetic = Arithmetic::new(Level::try_current()?, Precision::Bf16);
    /// let bert = Bert::from_pretrained_at(arithmetic, "tests/oracle/a-pretraining")?;
    /// let batch = Batch::from_ids([&[2, 17, 3][..]]);
    /// let mut workspace = Workspace::default();
    /// assert_eq!(bert.encode(&batch, &mut workspace)?.shape(), (3, 32));
    /// # Ok::<(), ferrite_models::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Bert::from_pretrained`]; and [`Error::Unsupported`] in int8 for a width of more than
    /// [`MAX_INT8_INPUTS`].
    pub fn from_pretrained_at(
        arithmetic: impl Into<Arithmetic>,
        folder: impl AsRef<Path>,
    ) -> Result<Bert, Error> {
        let arithmetic = arithmetic.into();
        let folder = folder.as_ref();
        let config = BertConfig::from_file(folder.join("config.json"))?;
        let checkpoint = Checkpoint::open(folder)?;
        Loader { arithmetic, names: &Names::new(&checkpoint), config: &config }.bert()
    }

    /// The sizes.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// The instruction set level it runs at.
    pub fn level(&self) -> Level {
        self.arithmetic.level()
    }

    /// How its products are computed.
    pub fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    /// The embeddings and layers.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// The pooler, if the weights have one.
    pub fn pooler(&self) -> Option<&Pooler> {
        self.pooler.as_ref()
    }

    /// The masked-LM head, if the weights have one.
    pub fn masked_lm(&self) -> Option<&MaskedLmHead> {
        self.masked_lm.as_ref()
    }

    /// The next-sentence head, if the weights have one.
    pub fn next_sentence(&self) -> Option<&NextSentenceHead> {
        self.next_sentence.as_ref()
    }

    /// The classifier of sequences, if the weights have one.
    pub fn classifier(&self) -> Option<&ClassifierHead> {
        self.classifier.as_ref()
    }

    /// The last hidden state of every token, (tokens, hidden_size). The rows of a sequence depend
    /// on that sequence alone, to the last bit.
    ///
    /// # Errors
    /// If an id is not in its table or a sequence has more tokens than the model has positions.
    pub fn encode<'w>(
        &self,
        batch: &Batch,
        workspace: &'w mut Workspace,
    ) -> Result<Mat<'w>, Error> {
        self.check(batch)?;
        Ok(self.encoder.forward(batch, workspace))
    }

    /// All hidden states and, if asked for, all attention maps. The last hidden state has the bits
    /// of [`Bert::encode`].
    ///
    /// # Errors
    /// As [`Bert::encode`].
    pub fn trace(&self, batch: &Batch, attentions: bool) -> Result<Trace, Error> {
        self.check(batch)?;
        Ok(self.encoder.trace(batch, attentions))
    }

    /// The pooled vector of each sequence, (sequences, hidden_size), from the last hidden state of
    /// this batch; `None` if the weights have no pooler. An empty sequence has no `[CLS]`, and is
    /// pooled from zeros.
    ///
    /// # Panics
    /// If `hidden` is not of this batch.
    #[track_caller]
    pub fn pool(&self, batch: &Batch, hidden: Mat<'_>) -> Option<Matrix<f32>> {
        assert_eq!(hidden.rows(), batch.tokens(), "rows of the hidden state of a batch");
        let pooler = self.pooler.as_ref()?;
        let mut first = Matrix::zeros(batch.len(), hidden.cols());
        for (index, tokens) in batch.sequences().iter().enumerate() {
            if !tokens.is_empty() {
                first.row_mut(index).copy_from_slice(hidden.row(tokens.start));
            }
        }
        Some(pooler.forward(first.view()))
    }

    /// Makes sure that every id of a vocabulary has its row in the embedding table. (More rows than
    /// words are common: tables are padded.)
    ///
    /// # Errors
    /// [`Error::VocabularyTooLarge`]
    pub fn check_vocabulary(&self, tokenizer: &Tokenizer) -> Result<(), Error> {
        let (words, rows) = (tokenizer.vocab_size(), self.config.vocab_size);
        if words > rows { Err(Error::VocabularyTooLarge { words, rows }) } else { Ok(()) }
    }

    pub(super) fn check(&self, batch: &Batch) -> Result<(), Error> {
        let limit = self.config.max_position_embeddings;
        for (sequence, tokens) in batch.sequences().iter().enumerate() {
            if tokens.len() > limit {
                return Err(Error::TooLong { sequence, tokens: tokens.len(), limit });
            }
            let tables = [
                ("token", &batch.ids()[tokens.clone()], self.config.vocab_size),
                ("segment", &batch.type_ids()[tokens.clone()], self.config.type_vocab_size),
            ];
            for (table, ids, rows) in tables {
                let wrong = ids.iter().position(|&id| id as usize >= rows);
                if let Some(position) = wrong {
                    let id = ids[position];
                    return Err(Error::IdOutOfRange { table, sequence, position, id, rows });
                }
            }
        }
        Ok(())
    }
}

/// Puts the layers together from the tensors of a checkpoint.
struct Loader<'a> {
    arithmetic: Arithmetic,
    names: &'a Names<'a>,
    config: &'a BertConfig,
}

impl Loader<'_> {
    fn bert(&self) -> Result<Bert, Error> {
        let parts = self.config.parts(self.names);
        // Shapes first: no memory is taken for a table that the file does not hold.
        if let Some(fault) = self.config.report(self.names, &parts).faults.into_iter().next() {
            return Err(fault);
        }
        self.check_precision()?;
        let has = |part| parts.contains(&part);
        let encoder = self.encoder()?;
        let masked_lm = has(Part::MaskedLm).then(|| self.masked_lm(&encoder)).transpose()?;
        Ok(Bert {
            config: self.config.clone(),
            arithmetic: self.arithmetic,
            encoder,
            pooler: has(Part::Pooler).then(|| self.pooler()).transpose()?,
            masked_lm,
            next_sentence: has(Part::NextSentence).then(|| self.next_sentence()).transpose()?,
            classifier: has(Part::Classifier).then(|| self.classifier()).transpose()?,
        })
    }

    /// Sums of 32 bits hold so many products of integers and no more.
    fn check_precision(&self) -> Result<(), Error> {
        let BertConfig { hidden_size, intermediate_size, .. } = *self.config;
        let sizes = [("hidden_size", hidden_size), ("intermediate_size", intermediate_size)];
        for (field, size) in sizes {
            if self.arithmetic.precision() == Precision::Int8 && size > MAX_INT8_INPUTS {
                return Err(Error::Unsupported {
                    path: self.names.checkpoint().folder().join("config.json"),
                    field,
                    found: size.to_string(),
                    supported: "at most 66311 in int8",
                });
            }
        }
        Ok(())
    }

    fn encoder(&self) -> Result<Encoder, Error> {
        let config = self.config;
        let d_model = config.hidden_size;
        let table = |name: &str, rows: usize| {
            let table = self.names.matrix(&format!("embeddings.{name}.weight"), rows, d_model)?;
            Ok::<_, Error>(Embedding { table })
        };
        let mut embeddings = BertEmbeddings {
            token: table("word_embeddings", config.vocab_size)?,
            segment: table("token_type_embeddings", config.type_vocab_size)?,
            position: table("position_embeddings", config.max_position_embeddings)?,
            norm: self.norm("embeddings.LayerNorm")?,
            level: self.arithmetic.level(),
        };
        let mut expected = self.expected(&embeddings);
        let mut blocks: Vec<Block> = Vec::with_capacity(config.num_hidden_layers);
        for layer in 0..config.num_hidden_layers {
            let before =
                blocks.last_mut().map_or(&mut embeddings.norm, |b| &mut b.feed_forward_norm);
            let block = self.block(layer, before, &mut expected)?;
            blocks.push(block);
        }
        Ok(Encoder { embeddings, blocks })
    }

    /// What to expect of the embeddings, where somebody asks: in int8.
    fn expected(&self, of: &BertEmbeddings) -> Option<Moments> {
        let [token, segment, position] =
            [&of.token, &of.segment, &of.position].map(|of| of.table.view());
        (self.arithmetic.precision() == Precision::Int8).then(|| {
            let sum = Moments::of_rows(token).plus(&Moments::of_rows(segment));
            sum.plus(&Moments::of_rows(position)).layer_norm(&of.norm)
        })
    }

    /// The layer. `before` is the norm whose output it reads, `expected` what to expect of that, and
    /// then of the layer's own output.
    fn block(
        &self,
        layer: usize,
        before: &mut LayerNorm,
        expected: &mut Option<Moments>,
    ) -> Result<Block, Error> {
        let (d_model, d_ff) = (self.config.hidden_size, self.config.intermediate_size);
        let arithmetic = self.arithmetic;
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        let weight = |part: &str, d_out, d_in| self.weight(&name(part), d_out, d_in);
        let query = weight("attention.self.query", d_model, d_model)?;
        let key = weight("attention.self.key", d_model, d_model)?;
        let value = weight("attention.self.value", d_model, d_model)?;
        let output = weight("attention.output.dense", d_model, d_model)?;
        let inner = weight("intermediate.dense", d_ff, d_model)?;
        let outer = weight("output.dense", d_model, d_ff)?;
        let mut attention_norm = self.norm(&name("attention.output.LayerNorm"))?;
        let feed_forward_norm = self.norm(&name("output.LayerNorm"))?;
        let activation = self.activation()?;

        if let Some(x) = expected {
            let next = |x: &Moments, of: &Weight| x.linear(of.matrix.view(), &of.bias);
            before.balance(&x.magnitudes(), &[&query, &key, &value].map(|of| of.matrix.view()));
            // As if each token attended to itself alone: others would make the context smaller.
            let attended = next(&next(x, &value), &output);
            let a = x.clone().plus(&attended).layer_norm(&attention_norm);
            attention_norm.balance(&a.magnitudes(), &[inner.matrix.view()]);
            let fed_forward = next(&next(&a, &inner).activation(activation), &outer);
            *x = a.plus(&fed_forward).layer_norm(&feed_forward_norm);
        }
        let qkv = [&query, &key, &value].map(Weight::part);
        Ok(Block {
            attention: SelfAttention {
                qkv: Linear::after(arithmetic, before, &qkv),
                output: output.pack(arithmetic),
                heads: self.config.num_attention_heads,
                mask: Mask::Full,
            },
            feed_forward: FeedForward {
                inner: Linear::after(arithmetic, &attention_norm, &[inner.part()]),
                outer: outer.pack(arithmetic),
                activation,
            },
            attention_norm,
            feed_forward_norm,
        })
    }

    fn pooler(&self) -> Result<Pooler, Error> {
        let level = self.arithmetic.level();
        let d_model = self.config.hidden_size;
        Ok(Pooler { dense: self.linear_at(level, "pooler.dense", d_model, d_model)? })
    }

    fn masked_lm(&self, encoder: &Encoder) -> Result<MaskedLmHead, Error> {
        let (d_model, words) = (self.config.hidden_size, self.config.vocab_size);
        let bias = self.names.vector("cls.predictions.bias", words)?;
        let own_table;
        let table = if self.config.tie_word_embeddings {
            encoder.embeddings.token.table.view()
        } else {
            own_table = self.names.matrix("cls.predictions.decoder.weight", words, d_model)?;
            own_table.view()
        };
        Ok(MaskedLmHead {
            transform: self.linear("cls.predictions.transform.dense", d_model, d_model)?,
            activation: self.activation()?,
            norm: self.norm("cls.predictions.transform.LayerNorm")?,
            decoder: Linear::new(self.arithmetic, table, &bias),
        })
    }

    fn next_sentence(&self) -> Result<NextSentenceHead, Error> {
        let (level, d_model) = (self.arithmetic.level(), self.config.hidden_size);
        let relationship = self.linear_at(level, "cls.seq_relationship", 2, d_model)?;
        Ok(NextSentenceHead { relationship })
    }

    fn classifier(&self) -> Result<ClassifierHead, Error> {
        let (level, d_model) = (self.arithmetic.level(), self.config.hidden_size);
        let dense = self.linear_at(level, "classifier", self.config.num_labels(), d_model)?;
        Ok(ClassifierHead { dense })
    }

    fn activation(&self) -> Result<Activation, Error> {
        let path = self.names.checkpoint().folder().join("config.json");
        activation_of(&self.config.hidden_act, "hidden_act", &path)
    }

    fn linear(&self, name: &str, d_out: usize, d_in: usize) -> Result<Linear, Error> {
        self.linear_at(self.arithmetic, name, d_out, d_in)
    }

    fn linear_at(
        &self,
        arithmetic: impl Into<Arithmetic>,
        name: &str,
        d_out: usize,
        d_in: usize,
    ) -> Result<Linear, Error> {
        Ok(self.weight(name, d_out, d_in)?.pack(arithmetic))
    }

    fn weight(&self, name: &str, d_out: usize, d_in: usize) -> Result<Weight, Error> {
        let matrix = self.names.matrix(&format!("{name}.weight"), d_out, d_in)?;
        let bias = self.names.vector(&format!("{name}.bias"), d_out)?;
        Ok(Weight { matrix, bias })
    }

    fn norm(&self, name: &str) -> Result<LayerNorm, Error> {
        let d_model = self.config.hidden_size;
        let gamma = self.names.vector(&format!("{name}.weight"), d_model)?;
        let beta = self.names.vector(&format!("{name}.bias"), d_model)?;
        Ok(LayerNorm::new(self.arithmetic.level(), gamma, beta, self.config.layer_norm_eps))
    }
}

/// A linear layer as a checkpoint has it.
struct Weight {
    matrix: Matrix,
    bias: Vec<f32>,
}

impl Weight {
    fn part(&self) -> (Mat<'_>, &[f32]) {
        (self.matrix.view(), &self.bias)
    }

    fn pack(&self, arithmetic: impl Into<Arithmetic>) -> Linear {
        Linear::new(arithmetic, self.matrix.view(), &self.bias)
    }
}
