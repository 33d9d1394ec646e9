//! Masked words, guessed from both sides.

use std::path::Path;

use ferrite_kernels::{Level, Matrix, log_softmax};
use ferrite_tokenizer::{EncodeOptions, Encoding, Scratch, Tokenizer};

use crate::bert::{Batch, Bert, Workspace};
use crate::error::Error;

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
    /// The bytes of the text that the mask takes.
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

impl FillMask {
    /// Loads the model and the tokenizer of a folder.
    ///
    /// # Errors
    /// If a file cannot be read, the weights have no masked-LM head, or the vocabulary has no mask
    /// token or does not fit the embedding table.
    pub fn from_pretrained(folder: impl AsRef<Path>) -> Result<FillMask, Error> {
        FillMask::from_pretrained_at(Level::current(), folder)
    }

    /// The same, at a level of choice.
    ///
    /// # Errors
    /// As [`FillMask::from_pretrained`].
    pub fn from_pretrained_at(level: Level, folder: impl AsRef<Path>) -> Result<FillMask, Error> {
        let folder = folder.as_ref();
        let tokenizer = Tokenizer::from_pretrained(folder)?;
        let bert = Bert::from_pretrained_at(level, folder)?;
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
        let mut encoding = Encoding::default();
        let options = EncodeOptions::default();
        self.tokenizer.encode_into(text, pair, &options, &mut encoding, &mut Scratch::new())?;
        let is_mask = |&position: &usize| encoding.ids[position] == self.mask;
        let masked: Vec<usize> = (0..encoding.len()).filter(is_mask).collect();
        if masked.is_empty() {
            let mask = self.tokenizer.id_to_token(self.mask).unwrap_or_default().to_owned();
            return Err(Error::NoMask { mask });
        }
        let mut batch = Batch::default();
        batch.push(&encoding.ids, Some(&encoding.type_ids));
        let mut workspace = Workspace::default();
        let hidden = self.bert.encode(&batch, &mut workspace)?;
        let hidden =
            Matrix::from_fn(masked.len(), hidden.cols(), |i, col| hidden.row(masked[i])[col]);
        let head = self.bert.masked_lm().expect("checked when the model was loaded");
        let mut scores = head.forward(hidden.view());
        log_softmax(self.bert.level(), scores.view_mut());
        let blanks = masked.iter().enumerate().map(|(i, &position)| Blank {
            offsets: encoding.offsets[position],
            candidates: self.likeliest(scores.row(i), top),
        });
        Ok(blanks.collect())
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
