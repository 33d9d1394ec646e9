//! Texts to vectors.

use std::borrow::Cow;
use std::path::Path;

use ferrite_kernels::elementwise::{l2_normalize, scale};
use ferrite_kernels::{Arithmetic, Level, Mat, Matrix, max_rows, mean_rows};
use ferrite_tokenizer::{EncodeOptions, Encoding, Scratch, Tokenizer, Truncation};

use crate::bert::{Batch, Bert, Workspace};
use crate::error::Error;
use crate::sentence::{Pooling, SentenceModules};

/// Tokens that are encoded at once. More gain nothing, and cost memory.
const BATCH_TOKENS: usize = 8192;

/// A vector shorter than this is not scaled up to length one, as in PyTorch.
const NORM_EPSILON: f32 = 1e-12;

/// A model that turns texts into vectors: tokenizer, BERT, pooling and what follows, as a folder of
/// sentence-transformers says; a plain BERT folder gives the mean of the last hidden state.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use ferrite_models::SentenceEncoder;
///
/// let encoder = SentenceEncoder::from_pretrained("all-MiniLM-L6-v2")?;
/// let vectors = encoder.embed(&["A cat sits on the mat.", "Ein Kater sitzt da."])?.vectors;
/// let similarity: f32 = vectors.row(0).iter().zip(vectors.row(1)).map(|(a, b)| a * b).sum();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SentenceEncoder {
    bert: Bert,
    tokenizer: Tokenizer,
    modules: SentenceModules,
    options: EncodeOptions,
}

/// The vectors of some texts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embeddings {
    /// A row for each text, in their order.
    pub vectors: Matrix<f32>,
    /// For each text how many of its tokens were beyond the model's limit and are not in its
    /// vector.
    pub truncated: Vec<usize>,
    /// For each text how many of its words the vocabulary does not know.
    pub unknown: Vec<usize>,
}

/// A text, alone or with a second one, encoded and ready for [`SentenceEncoder::embed_batch`].
#[derive(Debug, Default)]
pub struct SentenceBatch {
    batch: Batch,
    truncated: Vec<usize>,
    unknown: Vec<usize>,
    encoding: Encoding,
    scratch: Scratch,
}

impl SentenceBatch {
    /// The number of texts.
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// The tokens of all texts.
    pub fn tokens(&self) -> usize {
        self.batch.tokens()
    }

    /// For each text how many of its tokens were beyond the limit.
    pub fn truncated(&self) -> &[usize] {
        &self.truncated
    }

    /// For each text how many of its words the vocabulary does not know.
    pub fn unknown(&self) -> &[usize] {
        &self.unknown
    }

    /// Forgets all texts, keeping the memory.
    pub fn clear(&mut self) {
        self.batch.clear();
        self.truncated.clear();
        self.unknown.clear();
    }
}

impl SentenceEncoder {
    /// Loads the model, the tokenizer and the modules of a folder.
    ///
    /// # Errors
    /// If a file cannot be read, asks for what is not supported, or does not fit the others.
    pub fn from_pretrained(folder: impl AsRef<Path>) -> Result<SentenceEncoder, Error> {
        SentenceEncoder::from_pretrained_at(Level::try_current()?, folder)
    }

    /// The same, in an arithmetic of choice: see [`Bert::from_pretrained_at`].
    ///
    /// # Errors
    /// As [`SentenceEncoder::from_pretrained`].
    pub fn from_pretrained_at(
        arithmetic: impl Into<Arithmetic>,
        folder: impl AsRef<Path>,
    ) -> Result<SentenceEncoder, Error> {
        let modules = SentenceModules::from_folder(folder)?;
        let folder = &modules.transformer;
        let tokenizer = Tokenizer::from_pretrained(folder)?;
        let bert = Bert::from_pretrained_at(arithmetic, folder)?;
        bert.check_vocabulary(&tokenizer)?;
        let truncation = Some(Truncation::new(modules.max_length(bert.config(), &tokenizer)?));
        let options = EncodeOptions { truncation, ..EncodeOptions::default() };
        Ok(SentenceEncoder { bert, tokenizer, modules, options })
    }

    /// The model.
    pub fn bert(&self) -> &Bert {
        &self.bert
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The elements of a vector.
    pub fn dimension(&self) -> usize {
        self.modules.pooling.len() * self.bert.config().hidden_size
    }

    /// The most tokens of a text that count; the rest is cut, and reported.
    pub fn max_length(&self) -> usize {
        self.options.truncation.map_or(usize::MAX, |truncation| truncation.max_length)
    }

    /// A vector for each text. A text's vector depends on that text alone, to the last bit.
    ///
    /// All of a text is tokenized, to count what is cut, so that time and memory grow with its
    /// length: who takes texts from strangers limits their size first.
    ///
    /// # Errors
    /// If a text cannot be tokenized (2 GiB and more).
    pub fn embed(&self, texts: &[impl AsRef<str>]) -> Result<Embeddings, Error> {
        let mut batch = SentenceBatch::default();
        let mut workspace = Workspace::default();
        let mut embeddings = Embeddings {
            vectors: Matrix::zeros(texts.len(), self.dimension()),
            ..Embeddings::default()
        };
        let mut first = 0;
        for (index, text) in texts.iter().enumerate() {
            self.push(text.as_ref(), None, &mut batch)?;
            if batch.tokens() >= BATCH_TOKENS || index + 1 == texts.len() {
                let vectors = self.embed_batch(&batch, &mut workspace)?;
                for row in 0..vectors.rows() {
                    embeddings.vectors.row_mut(first + row).copy_from_slice(vectors.row(row));
                }
                embeddings.truncated.extend_from_slice(batch.truncated());
                embeddings.unknown.extend_from_slice(batch.unknown());
                first = index + 1;
                batch.clear();
            }
        }
        Ok(embeddings)
    }

    /// Encodes a text, or a pair of texts as one sequence, and adds it to a batch. Like
    /// [`SentenceEncoder::embed`] it tokenizes all of a text, however little of it counts.
    ///
    /// # Errors
    /// If it cannot be tokenized; the batch is then as before.
    pub fn push(
        &self,
        text: &str,
        pair: Option<&str>,
        batch: &mut SentenceBatch,
    ) -> Result<(), Error> {
        let SentenceBatch { batch, truncated, unknown, encoding, scratch } = batch;
        let text = self.prepare(text);
        let pair = pair.map(|pair| self.lower(pair.into()));
        self.tokenizer.encode_into(&text, pair.as_deref(), &self.options, encoding, scratch)?;
        batch.push(&encoding.ids, Some(&encoding.type_ids));
        truncated.push(encoding.truncated);
        unknown.push(encoding.unknown);
        Ok(())
    }

    /// A text with the folder's prompt before it.
    fn prepare<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let prompted = self.modules.default_prompt.as_ref().map(|prompt| prompt.clone() + text);
        self.lower(prompted.map_or(Cow::Borrowed(text), Cow::Owned))
    }

    fn lower<'a>(&self, text: Cow<'a, str>) -> Cow<'a, str> {
        if self.modules.do_lower_case { text.to_lowercase().into() } else { text }
    }

    /// A row for each text of the batch.
    ///
    /// # Errors
    /// If the tokenizer gives ids that the model does not have.
    pub fn embed_batch(
        &self,
        batch: &SentenceBatch,
        workspace: &mut Workspace,
    ) -> Result<Matrix<f32>, Error> {
        let hidden = self.bert.encode(&batch.batch, workspace)?;
        let level = self.bert.level();
        let mut vectors = Matrix::zeros(batch.len(), self.dimension());
        for (index, tokens) in batch.batch.sequences().iter().enumerate() {
            let tokens = hidden.row_range(tokens);
            let parts = vectors.row_mut(index).chunks_exact_mut(hidden.cols());
            for (pooling, out) in self.modules.pooling.iter().zip(parts) {
                pool(level, *pooling, tokens, out);
            }
        }
        if self.modules.normalize {
            l2_normalize(level, vectors.view_mut(), NORM_EPSILON);
        }
        Ok(vectors)
    }
}

/// One vector for the tokens of a text.
fn pool(level: Level, pooling: Pooling, tokens: Mat<'_>, out: &mut [f32]) {
    match pooling {
        Pooling::Cls if tokens.rows() > 0 => out.copy_from_slice(tokens.row(0)),
        Pooling::Cls => out.fill(0.0),
        Pooling::Max => max_rows(level, tokens, out),
        Pooling::Mean => mean_rows(level, tokens, out),
        Pooling::MeanSqrtLen => {
            mean_rows(level, tokens, out);
            scale(level, out, (tokens.rows() as f32).sqrt());
        }
    }
}
