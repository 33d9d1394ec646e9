//! The Transformer: embeddings, encoder, decoder, generator.

use std::ops::Range;
use std::path::Path;

use ferrite_kernels::{
    Activations, Arithmetic, CrossEntropy, Left, Level, MAX_INT8_INPUTS, Mat, Matrix, Precision,
    crew, cross_entropy_loss, flush_denormals,
};
use ferrite_layers::{Embedding, Linear, TransformerEmbeddings, sinusoidal};

use super::decoder_layer::{DecoderLayerCache, Memory};
use super::encoder_layer::EncoderLayerCache;
use super::parameters::TransformerOf;
use super::{Decoder, Encoder, Pairs, Sentences, TransformerConfig};
use crate::assembly::Assembly;
use crate::checkpoint::{Checkpoint, LoadReport, Names, Wanted};
use crate::error::Error;
use crate::parameters::{Cut, Parameters, Shared};

/// A Transformer (Vaswani et al. 2017), ready to run. It is immutable and shared freely between
/// threads; what a pass writes lives in a [`Workspace`].
///
/// ```
/// use ferrite_models::kernels::Level;
/// use ferrite_models::train::initialize_transformer;
/// use ferrite_models::transformer::{Batch, Transformer, TransformerConfig, Workspace};
///
/// let config = TransformerConfig::tiny(100);
/// let parameters = initialize_transformer(&config, 1);
/// let transformer = Transformer::new(Level::current(), config, &parameters)?;
/// let mut batch = Batch::default();
/// batch.push(&[17, 18, 2], &[40, 2], 1);
/// let mut workspace = Workspace::default();
/// assert_eq!(transformer.forward(&batch, &mut workspace)?.shape(), (2, 100));
/// # Ok::<(), ferrite_models::Error>(())
/// ```
#[derive(Debug)]
pub struct Transformer {
    pub(super) config: TransformerConfig,
    pub(super) arithmetic: Arithmetic,
    /// Of source tokens, or of all.
    pub(super) source: TransformerEmbeddings,
    /// Of target tokens, where they have a table of their own.
    pub(super) target: Option<TransformerEmbeddings>,
    pub(super) encoder: Encoder,
    pub(super) decoder: Decoder,
    pub(super) generator: Linear,
}

/// The memory that a pass works in. Made once, reused, it grows to what the largest batch needs and
/// no further.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    pub(super) memory: Activations,
    pub(super) hidden: Activations,
    encoder: EncoderLayerCache,
    pub(super) decoder: DecoderLayerCache,
    pub(super) logits: Matrix<f32>,
}

/// The rows whose logits are there at once: those of all would be the largest matrix of all.
const STRIP: usize = 1024;

impl Transformer {
    /// The model with these parameters, to run. Products are computed in `arithmetic`.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] and [`Error::Unsupported`] for a configuration that is none.
    ///
    /// # Panics
    /// If the parameters are not those of the configuration.
    #[track_caller]
    pub fn new(
        arithmetic: impl Into<Arithmetic>,
        config: TransformerConfig,
        parameters: &Parameters,
    ) -> Result<Transformer, Error> {
        Transformer::assemble(arithmetic.into(), config, parameters, false)
    }

    /// Loads `config.json` and the weights of a folder, in an arithmetic of choice; a level alone
    /// stands for f32.
    ///
    /// # Errors
    /// The first fault of any file: see [`Error`].
    pub fn from_pretrained_at(
        arithmetic: impl Into<Arithmetic>,
        folder: impl AsRef<Path>,
    ) -> Result<Transformer, Error> {
        let folder = folder.as_ref();
        let config = TransformerConfig::from_file(folder.join("config.json"))?;
        let checkpoint = Checkpoint::open(folder)?;
        let names = Names::new(&checkpoint);
        // Shapes first: no memory is taken for a table that the file does not hold.
        let wanted = |of: crate::parameters::Tensor| Wanted { name: of.name, shape: of.shape };
        let wanted: Vec<Wanted> = config.tensors().into_iter().map(wanted).collect();
        if let Some(fault) = LoadReport::new(&names, &wanted).faults.into_iter().next() {
            return Err(fault);
        }
        let mut parameters = config.zeros();
        parameters.read_all(&names)?;
        Transformer::new(arithmetic, config, &parameters)
    }

    #[track_caller]
    pub(super) fn assemble(
        arithmetic: Arithmetic,
        config: TransformerConfig,
        parameters: &Parameters,
        trained: bool,
    ) -> Result<Transformer, Error> {
        let path = Path::new("config.json");
        if trained { config.check_training(path) } else { config.check(path) }?;
        check_precision(&config, arithmetic, path)?;
        let activation = config.activation(path)?;
        let assembly = Assembly { arithmetic, trained, epsilon: config.layer_norm_eps };
        let of = TransformerOf::cut(&config, &mut parameters.cut(config.list()));
        let embeddings = |table| TransformerEmbeddings {
            token: assembly.embedding(table),
            position: Embedding {
                table: sinusoidal(
                    config.max_position_embeddings,
                    config.d_model,
                    config.position_layout,
                ),
            },
            scale: config.embedding_scale(),
            level: arithmetic.level(),
        };
        let (weight, none) = (of.generator_weight(), vec![0.0; config.target_vocab_size()]);
        let bias = of.bias.map_or(&none[..], |bias| bias.row(0));
        let generator = if trained { Linear::trainable } else { Linear::new };
        Ok(Transformer {
            arithmetic,
            source: embeddings(of.source),
            target: of.target.map(embeddings),
            encoder: Encoder::new(of.encoder, of.encoder_norm, &config, activation, &assembly),
            decoder: Decoder::new(of.decoder, of.decoder_norm, &config, activation, &assembly),
            generator: generator(arithmetic, weight, bias),
            config,
        })
    }

    /// The sizes.
    pub fn config(&self) -> &TransformerConfig {
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

    /// The encoder's layers.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// The decoder's layers.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// d_model to the target's tokens: a score for each, before softmax (section 3.4).
    pub fn generator(&self) -> &Linear {
        &self.generator
    }

    /// The embeddings of the source's tokens.
    pub fn source_embeddings(&self) -> &TransformerEmbeddings {
        &self.source
    }

    /// The embeddings of the target's tokens.
    pub fn target_embeddings(&self) -> &TransformerEmbeddings {
        self.target.as_ref().unwrap_or(&self.source)
    }

    /// What the decoder attends to, (source tokens, d_model). The rows of a sentence depend on that
    /// sentence alone, to the last bit.
    ///
    /// # Errors
    /// If an id is not in its table or a sentence has more tokens than the model has positions.
    ///
    /// # Panics
    /// If ids and sentences do not fit each other.
    #[track_caller]
    pub fn encode<'w>(
        &self,
        source: Sentences<'_>,
        workspace: &'w mut Workspace,
    ) -> Result<&'w Activations, Error> {
        self.check_source(source)?;
        crew(|| flush_denormals(|| self.run_encoder(source, workspace)));
        Ok(&workspace.memory)
    }

    /// The scores, before softmax, of each token of the target's vocabulary at each place of the
    /// target, (target tokens, vocabulary). Those of a pair depend on that pair alone, to the last
    /// bit.
    ///
    /// # Errors
    /// As [`Transformer::encode`].
    ///
    /// # Panics
    /// As there.
    #[track_caller]
    pub fn forward<'a, 'w>(
        &self,
        pairs: impl Into<Pairs<'a>>,
        workspace: &'w mut Workspace,
    ) -> Result<Mat<'w>, Error> {
        let pairs = pairs.into();
        self.check(pairs)?;
        crew(|| {
            flush_denormals(|| {
                self.run(pairs, workspace);
                let Workspace { hidden, logits, .. } = &mut *workspace;
                logits.resize(hidden.rows(), self.generator.d_out());
                self.generator.forward(&*hidden, logits.view_mut());
            });
        });
        Ok(workspace.logits.view())
    }

    /// How much of each source token the decoder takes for each of the target, in one of its layers:
    /// for each pair a matrix of shape (h * target tokens, source tokens), the heads one below the
    /// other. What it should say is not looked at: rows belong to the places where it says it.
    ///
    /// # Errors
    /// As [`Transformer::encode`].
    ///
    /// # Panics
    /// As there, and if there is no such layer.
    #[track_caller]
    pub fn attention_maps<'a>(
        &self,
        pairs: impl Into<Pairs<'a>>,
        layer: usize,
        workspace: &mut Workspace,
    ) -> Result<Vec<Matrix<f32>>, Error> {
        let pairs = pairs.into();
        self.check(pairs)?;
        let run = || {
            let Pairs { source, inputs, .. } = pairs;
            self.run_encoder(source, workspace);
            let Workspace { memory, hidden, decoder, .. } = workspace;
            self.embed(self.target_embeddings(), inputs, hidden);
            hidden.convert();
            let memory = Memory { hidden: memory, sequences: source.sequences };
            self.decoder.cross_attention_maps(layer, hidden, inputs.sequences, memory, decoder)
        };
        Ok(crew(|| flush_denormals(run)))
    }

    /// The loss of a batch without dropout and gradients: see [`Transformer::gradients`]. What
    /// perplexity is computed of is the loss without label smoothing.
    ///
    /// # Errors
    /// As [`Transformer::encode`].
    ///
    /// # Panics
    /// As there.
    #[track_caller]
    pub fn loss<'a>(
        &self,
        pairs: impl Into<Pairs<'a>>,
        label_smoothing: f32,
        workspace: &mut Workspace,
    ) -> Result<CrossEntropy, Error> {
        let pairs = pairs.into();
        self.check(pairs)?;
        let mut loss = CrossEntropy::default();
        crew(|| {
            flush_denormals(|| {
                self.run(pairs, workspace);
                let Workspace { hidden, logits, .. } = &mut *workspace;
                for rows in strips(hidden.rows()) {
                    logits.resize(rows.len(), self.generator.d_out());
                    let x = Left::from(&*hidden).row_range(rows.clone());
                    self.generator.forward(x, logits.view_mut());
                    let outputs = &pairs.outputs[rows];
                    let logits = logits.view();
                    loss += cross_entropy_loss(self.level(), logits, outputs, label_smoothing);
                }
            });
        });
        Ok(loss)
    }

    /// The decoder's output in `workspace.hidden`.
    fn run(&self, pairs: Pairs<'_>, workspace: &mut Workspace) {
        let Pairs { source, inputs, .. } = pairs;
        self.run_encoder(source, workspace);
        let Workspace { memory, hidden, decoder, .. } = workspace;
        self.embed(self.target_embeddings(), inputs, hidden);
        hidden.convert();
        let memory = Memory { hidden: memory, sequences: source.sequences };
        self.decoder.forward(hidden, inputs.sequences, memory, decoder);
    }

    pub(super) fn run_encoder(&self, source: Sentences<'_>, workspace: &mut Workspace) {
        let Workspace { memory, encoder, .. } = workspace;
        self.embed(&self.source, source, memory);
        memory.convert();
        self.encoder.forward(memory, source.sequences, encoder);
    }

    /// What goes into the first layer, not yet converted for products.
    pub(super) fn embed(
        &self,
        embeddings: &TransformerEmbeddings,
        Sentences { ids, sequences }: Sentences<'_>,
        x: &mut Activations,
    ) {
        x.resize(self.arithmetic, ids.len(), self.config.d_model);
        embeddings.forward(ids, sequences, x.values_mut());
    }

    #[track_caller]
    pub(super) fn check(&self, Pairs { source, inputs, outputs }: Pairs<'_>) -> Result<(), Error> {
        let sentences = (source.sequences.len(), inputs.sequences.len());
        assert_eq!(sentences.0, sentences.1, "sentences of the source and of the target");
        assert_eq!(outputs.len(), inputs.ids.len(), "tokens to say and tokens to read");
        self.check_source(source)?;
        let rows = self.config.target_vocab_size();
        self.check_sentences("target token", inputs, rows)?;
        self.check_sentences("target token", Sentences { ids: outputs, ..inputs }, rows)
    }

    #[track_caller]
    pub(super) fn check_source(&self, source: Sentences<'_>) -> Result<(), Error> {
        self.check_sentences("source token", source, self.config.vocab_size)
    }

    #[track_caller]
    fn check_sentences(
        &self,
        table: &'static str,
        Sentences { ids, sequences }: Sentences<'_>,
        rows: usize,
    ) -> Result<(), Error> {
        assert_eq!(ids.len(), sequences.total(), "token ids and the length of their sentences");
        let limit = self.config.max_position_embeddings;
        for (sequence, tokens) in sequences.iter().enumerate() {
            if tokens.len() > limit {
                return Err(Error::TooLong { sequence, tokens: tokens.len(), limit });
            }
            let ids = &ids[tokens];
            if let Some(position) = ids.iter().position(|&id| id as usize >= rows) {
                let id = ids[position];
                return Err(Error::IdOutOfRange { table, sequence, position, id, rows });
            }
        }
        Ok(())
    }
}

/// The rows of a matrix, strip by strip.
pub(super) fn strips(rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..rows).step_by(STRIP).map(move |start| start..rows.min(start + STRIP))
}

impl<'a> TransformerOf<Shared<'a>> {
    /// The generator's weight, whosever it is.
    pub(super) fn generator_weight(&self) -> <Shared<'a> as Cut>::Matrix {
        self.generator.or(self.target).unwrap_or(self.source)
    }
}

/// Sums of 32 bits hold so many products of integers and no more.
fn check_precision(
    config: &TransformerConfig,
    arithmetic: Arithmetic,
    path: &Path,
) -> Result<(), Error> {
    for (field, size) in [
        ("d_model", config.d_model),
        ("encoder_ffn_dim", config.encoder_ffn_dim),
        ("decoder_ffn_dim", config.decoder_ffn_dim),
    ] {
        if arithmetic.precision() == Precision::Int8 && size > MAX_INT8_INPUTS {
            let (path, found) = (path.to_owned(), size.to_string());
            let supported = "at most 66311 in int8";
            return Err(Error::Unsupported { path, field, found, supported });
        }
    }
    Ok(())
}
