//! Masked words, guessed from both sides.

use std::path::Path;

use ferrite_kernels::{Arithmetic, Level, Matrix, Segments, log_softmax};
use ferrite_tokenizer::{EncodeOptions, Encoding, Scratch, Tokenizer};
use rayon::prelude::*;

use crate::bert::{Batch, Bert, Workspace};
use crate::error::Error;

/// Masks whose scores are held at once: one for each word of the vocabulary, which is far more than
/// the encoder holds for a token.
const MASKS_AT_ONCE: usize = 128;

/// A BERT with its masked-LM head and its tokenizer (BERT, section 3.1, task 1).
#[derive(Debug)]
pub struct FillMask {
    bert: Bert,
    tokenizer: Tokenizer,
    mask: u32,
}

/// What could stand where a text has `[MASK]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Blank {
    /// Which text of a pair it is in: 0 or 1.
    pub sequence: u8,
    /// The bytes of that text that the mask takes.
    pub offsets: (usize, usize),
    /// The likeliest words, the best first.
    pub candidates: Vec<Candidate>,
}

/// A word and how likely it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The token's id.
    pub id: u32,
    /// The token.
    pub token: String,
    /// Its probability among all tokens of the vocabulary.
    pub probability: f32,
}

/// Texts with masks, encoded and ready for [`FillMask::fill_batch`].
#[derive(Debug, Default)]
pub struct MaskBatch {
    batch: Batch,
    /// The masks of all texts.
    masks: Vec<MaskPlace>,
    /// Which masks are each text's.
    texts: Segments,
    encoding: Encoding,
    scratch: Scratch,
}

/// Where a mask is.
#[derive(Clone, Copy, Debug)]
struct MaskPlace {
    /// The row of the batch.
    row: usize,
    sequence: u8,
    offsets: (usize, usize),
}

impl MaskBatch {
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

    /// The masks of all texts.
    pub fn masks(&self) -> usize {
        self.masks.len()
    }

    /// Forgets all texts, keeping the memory.
    pub fn clear(&mut self) {
        self.batch.clear();
        self.masks.clear();
        self.texts.clear();
    }
}

impl FillMask {
    /// Loads the model and the tokenizer of a folder.
    ///
    /// # Errors
    /// If a file cannot be read, the weights have no masked-LM head, or the vocabulary has no mask
    /// token or does not fit the embedding table.
    pub fn from_pretrained(folder: impl AsRef<Path>) -> Result<FillMask, Error> {
        FillMask::from_pretrained_at(Level::try_current()?, folder)
    }

    /// The same, in an arithmetic of choice: see [`Bert::from_pretrained_at`].
    ///
    /// # Errors
    /// As [`FillMask::from_pretrained`].
    pub fn from_pretrained_at(
        arithmetic: impl Into<Arithmetic>,
        folder: impl AsRef<Path>,
    ) -> Result<FillMask, Error> {
        let folder = folder.as_ref();
        let tokenizer = Tokenizer::from_pretrained(folder)?;
        let bert = Bert::from_pretrained_at(arithmetic, folder)?;
        bert.check_vocabulary(&tokenizer)?;
        if bert.masked_lm().is_none() {
            return Err(Error::NoHead { folder: folder.to_owned(), head: "masked-LM" });
        }
        let mask =
            tokenizer.mask_id().ok_or_else(|| Error::NoMaskToken { folder: folder.to_owned() })?;
        Ok(FillMask { bert, tokenizer, mask })
    }

    /// The model.
    pub fn bert(&self) -> &Bert {
        &self.bert
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Every mask of a text, or of a pair, each with its `top` likeliest tokens. All masks are
    /// guessed at once, each without knowledge of the others' guesses, as in pre-training.
    ///
    /// # Errors
    /// If the text has no mask, or more tokens than the model has positions.
    pub fn fill(&self, text: &str, pair: Option<&str>, top: usize) -> Result<Vec<Blank>, Error> {
        let mut batch = MaskBatch::default();
        self.push(text, pair, &mut batch)?;
        let mut filled = self.fill_batch(&batch, top, &mut Workspace::default())?;
        Ok(filled.pop().expect("one text"))
    }

    /// Encodes a text, or a pair of texts as one sequence, and adds it to a batch.
    ///
    /// # Errors
    /// If the text has no mask, or more tokens than the model has positions; the batch is then as
    /// before.
    pub fn push(&self, text: &str, pair: Option<&str>, batch: &mut MaskBatch) -> Result<(), Error> {
        let MaskBatch { batch, masks, texts, encoding, scratch } = batch;
        self.tokenizer.encode_into(text, pair, &EncodeOptions::default(), encoding, scratch)?;
        let (tokens, limit) = (encoding.len(), self.bert.config().max_position_embeddings);
        if tokens > limit {
            return Err(Error::TooLong { sequence: batch.len(), tokens, limit });
        }
        let (before, first) = (masks.len(), batch.tokens());
        for position in 0..tokens {
            // The template has no mask, so that each is in one of the texts.
            if let (Some(sequence), true) =
                (encoding.sequence_ids[position], encoding.ids[position] == self.mask)
            {
                let offsets = encoding.offsets[position];
                masks.push(MaskPlace { row: first + position, sequence, offsets });
            }
        }
        if masks.len() == before {
            let mask = self.tokenizer.id_to_token(self.mask).unwrap_or_default().to_owned();
            return Err(Error::NoMask { mask });
        }
        texts.push(masks.len() - before);
        batch.push(&encoding.ids, Some(&encoding.type_ids));
        Ok(())
    }

    /// What [`FillMask::fill`] gives for each text of the batch, to the last bit.
    ///
    /// # Errors
    /// If the tokenizer gives ids that the model does not have.
    pub fn fill_batch(
        &self,
        batch: &MaskBatch,
        top: usize,
        workspace: &mut Workspace,
    ) -> Result<Vec<Vec<Blank>>, Error> {
        let hidden = self.bert.encode(&batch.batch, workspace)?;
        let head = self.bert.masked_lm().expect("checked when the model was loaded");
        let mut blanks = Vec::with_capacity(batch.masks.len());
        for masks in batch.masks.chunks(MASKS_AT_ONCE) {
            let hidden =
                Matrix::from_fn(masks.len(), hidden.cols(), |i, col| hidden.row(masks[i].row)[col]);
            let mut scores = head.forward(hidden.view());
            log_softmax(self.bert.level(), scores.view_mut());
            let blank = |(i, mask): (usize, &MaskPlace)| Blank {
                sequence: mask.sequence,
                offsets: mask.offsets,
                candidates: self.likeliest(scores.row(i), top),
            };
            blanks.par_extend(masks.par_iter().enumerate().map(blank));
        }
        let mut blanks = blanks.into_iter();
        Ok(batch.texts.iter().map(|masks| blanks.by_ref().take(masks.len()).collect()).collect())
    }

    /// The `top` tokens of the vocabulary with the highest scores; of equal ones the lower id.
    /// Rows of the table beyond the vocabulary are no words.
    fn likeliest(&self, log_probabilities: &[f32], top: usize) -> Vec<Candidate> {
        let words = log_probabilities.len().min(self.tokenizer.vocab_size());
        let top = top.min(words);
        let mut ids: Vec<u32> = (0..words as u32).collect();
        let score = |id: u32| log_probabilities[id as usize];
        let order = |&a: &u32, &b: &u32| score(b).total_cmp(&score(a)).then(a.cmp(&b));
        if top > 0 && top < words {
            ids.select_nth_unstable_by(top - 1, order);
        }
        ids.truncate(top);
        ids.sort_by(order);
        let candidate = |id: u32| Candidate {
            id,
            token: self.tokenizer.id_to_token(id).unwrap_or_default().to_owned(),
            probability: score(id).exp(),
        };
        ids.into_iter().map(candidate).collect()
    }
}
