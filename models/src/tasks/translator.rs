//! Texts in one language to texts in another.

use std::path::Path;

use ferrite_kernels::{Arithmetic, Level, Matrix};
use ferrite_tokenizer::{EncodeOptions, Tokenizer};

use crate::data::control_token;
use crate::error::Error;
use crate::transformer::{DecodeOptions, DecodeWorkspace, Hypothesis, Transformer};

/// A Transformer with its tokenizer, one for both languages.
///
/// ```
/// use ferrite_models::kernels::Level;
/// use ferrite_models::tasks::Translator;
/// use ferrite_models::tokenizer::{TrainerOptions, WordPieceTrainer};
/// use ferrite_models::train::initialize_transformer;
/// use ferrite_models::transformer::{DecodeOptions, DecodeWorkspace, Transformer, TransformerConfig};
///
/// let mut trainer = WordPieceTrainer::new(TrainerOptions::default())?;
/// trainer.count("ein Hund und eine Katze a dog and a cat");
/// let tokenizer = trainer.train(|_| ())?.tokenizer()?;
/// // It has learnt nothing yet.
/// let config = TransformerConfig::tiny(tokenizer.vocab_size());
/// let parameters = initialize_transformer(&config, 1);
/// let transformer = Transformer::new(Level::current(), config, &parameters)?;
/// let translator = Translator::new(transformer, tokenizer)?;
/// let source = translator.encode("ein Hund")?;
/// let options = DecodeOptions::default();
/// let found = translator.translate(&[source], &options, &mut DecodeWorkspace::default())?;
/// let (text, best) = (&found[0][0].text, &found[0][0].hypothesis);
/// assert!(best.score <= 0.0, "{text}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Translator {
    transformer: Transformer,
    tokenizer: Tokenizer,
}

/// A text, as the encoder reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Its tokens, and the end.
    pub ids: Vec<u32>,
    /// How many of its words the vocabulary does not know.
    pub unknown: usize,
}

impl AsRef<[u32]> for Source {
    fn as_ref(&self) -> &[u32] {
        &self.ids
    }
}

/// What was found for a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Translated {
    /// The text.
    pub text: String,
    /// Its tokens and their score.
    pub hypothesis: Hypothesis,
}

impl Translated {
    /// Nothing but the end, which took all that there is of the source: its end.
    fn blank(options: &DecodeOptions) -> Translated {
        let hypothesis = Hypothesis {
            tokens: Vec::new(),
            score: 0.0,
            log_probability: 0.0,
            is_finished: true,
            attention: options.attention.map(|_| Matrix::from_fn(1, 1, |_, _| 1.0)),
        };
        Translated { text: String::new(), hypothesis }
    }
}

impl Translator {
    /// A translator of a model and its tokenizer.
    ///
    /// # Errors
    /// [`Error::VocabularyTooLarge`] if the tokenizer has tokens that the model has not.
    pub fn new(transformer: Transformer, tokenizer: Tokenizer) -> Result<Translator, Error> {
        let config = transformer.config();
        let words = tokenizer.vocab_size();
        let rows = config.vocab_size.min(config.target_vocab_size());
        if words > rows {
            return Err(Error::VocabularyTooLarge { words, rows });
        }
        Ok(Translator { transformer, tokenizer })
    }

    /// Loads the model and the tokenizer of a folder.
    ///
    /// # Errors
    /// If a file cannot be read, or the tokenizer has tokens that the model has not.
    pub fn from_pretrained(folder: impl AsRef<Path>) -> Result<Translator, Error> {
        Translator::from_pretrained_at(Level::try_current()?, folder)
    }

    /// The same, in an arithmetic of choice: see [`Transformer::from_pretrained_at`].
    ///
    /// # Errors
    /// As [`Translator::from_pretrained`].
    pub fn from_pretrained_at(
        arithmetic: impl Into<Arithmetic>,
        folder: impl AsRef<Path>,
    ) -> Result<Translator, Error> {
        let folder = folder.as_ref();
        let tokenizer = Tokenizer::from_pretrained(folder)?;
        Translator::new(Transformer::from_pretrained_at(arithmetic, folder)?, tokenizer)
    }

    /// The model.
    pub fn transformer(&self) -> &Transformer {
        &self.transformer
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// A text as the encoder reads it.
    ///
    /// # Errors
    /// [`Error::TooLong`] if it has more tokens than the model has positions; then nothing of it is
    /// translated, since half a sentence is none. [`Error::ControlToken`] if it holds `[SEP]` or the
    /// like, as no text does that a translator learns from. [`Error::Tokenizer`] for a text of 2 GiB.
    pub fn encode(&self, text: &str) -> Result<Source, Error> {
        let options = EncodeOptions { add_special_tokens: false, ..EncodeOptions::default() };
        let encoding = self.tokenizer.encode(text, None, &options)?;
        let (mut ids, unknown) = (encoding.ids, encoding.unknown);
        if let Some(token) = control_token(&self.tokenizer, &ids) {
            return Err(Error::ControlToken { token: token.to_owned() });
        }
        let config = self.transformer.config();
        ids.push(config.eos_token_id);
        let limit = config.max_position_embeddings;
        if ids.len() > limit {
            return Err(Error::TooLong { sequence: 0, tokens: ids.len(), limit });
        }
        Ok(Source { ids, unknown })
    }

    /// The translations of some texts: for each, in their order, the best first, as many as
    /// [`DecodeOptions::n_best`] says or fewer. That of a text without a token, such as a blank line,
    /// is the empty one, whatever the model would say: it has learnt from no such pair.
    ///
    /// # Errors
    /// As [`Transformer::translate`].
    pub fn translate<S: AsRef<[u32]>>(
        &self,
        sources: &[S],
        options: &DecodeOptions,
        workspace: &mut DecodeWorkspace,
    ) -> Result<Vec<Vec<Translated>>, Error> {
        let blank = [self.transformer.config().eos_token_id];
        let texts = sources.iter().map(AsRef::as_ref).filter(|&source: &&[u32]| source != blank);
        let texts: Vec<&[u32]> = texts.collect();
        let mut found = self.transformer.translate(&texts, options, workspace)?.into_iter();
        let translated = |hypothesis: Hypothesis| {
            // A model may have more tokens than its tokenizer.
            let known = |id: &u32| self.tokenizer.id_to_token(*id).is_some();
            let ids: Vec<u32> = hypothesis.tokens.iter().copied().filter(known).collect();
            Ok(Translated { text: self.tokenizer.decode(&ids, true)?, hypothesis })
        };
        let mut all = |source: &S| match source.as_ref() == blank {
            true => Ok(vec![Translated::blank(options)]),
            false => found.next().into_iter().flatten().map(translated).collect(),
        };
        sources.iter().map(&mut all).collect()
    }
}
