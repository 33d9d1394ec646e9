//! BERT's tokenizer: normalisation, pre-tokenisation, WordPiece.
//!
//! A text goes through four steps.
//!
//! 1. **Added tokens** such as `[MASK]`, where they are written in the text.
//! 2. **Normalisation**: control characters removed, ideographs set apart, and
//!    for uncased models accents stripped and letters lower-cased.
//! 3. **Pre-tokenisation** into words, at white space and round punctuation.
//! 4. **WordPiece**: each word into the longest pieces of the vocabulary, from
//!    the left; a word that cannot be spelled becomes `[UNK]` as a whole.
//!
//! Then the special tokens of the template are put around it.
//!
//! ```
//! use ferrite_tokenizer::{EncodeOptions, Tokenizer, Truncation, VocabOptions};
//!
//! let vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "caf", "##e", "##s", "open", "."];
//! let tokenizer = Tokenizer::from_vocab(vocab, VocabOptions::default())?;
//!
//! let encoding = tokenizer.encode("The Cafés open?", None, &EncodeOptions::default())?;
//! assert_eq!(encoding.ids, [2, 4, 5, 6, 7, 8, 1, 3]);
//! // Offsets are bytes of the text as it was given: é is two of them.
//! assert_eq!(encoding.offsets[3], (7, 9));
//! assert_eq!(&"The Cafés open?"[7..9], "é");
//! // Nothing is lost in silence: one word, the question mark, is unknown.
//! assert_eq!((encoding.unknown, encoding.truncated), (1, 0));
//! assert_eq!(tokenizer.decode(&encoding.ids, true)?, "the cafes open");
//!
//! // A pair, in six tokens at most.
//! let truncation = Some(Truncation::new(6));
//! let options = EncodeOptions { truncation, ..EncodeOptions::default() };
//! let pair = tokenizer.encode("the cafes", Some("open."), &options)?;
//! assert_eq!(pair.ids, [2, 4, 5, 3, 8, 3]);
//! assert_eq!(pair.type_ids, [0, 0, 0, 0, 1, 1]);
//! assert_eq!(pair.truncated, 3);
//! # Ok::<(), ferrite_tokenizer::Error>(())
//! ```
//!
//! [`Tokenizer::from_pretrained`] reads a published folder, be it with
//! `tokenizer.json` or `vocab.txt`. There are three readings of the rules,
//! listed at [`Dialect`]; a `tokenizer.json` means that of the `tokenizers`
//! crate, and ids and offsets are equal to that crate's, release 0.22, on
//! every code point. Padding is never added: Ferrite packs sequences.
//!
//! # Where it departs from the `tokenizers` crate
//!
//! - What that crate panics on is a typed [`Error`]: a stride as long as a
//!   window, a length shorter than the special tokens.
//! - Files that contradict themselves are refused: doubled tokens or ids, a
//!   missing unknown token, a template with a token that is not there.
//! - [`Tokenizer::decode`] refuses ids that no token has, instead of leaving
//!   them out.
//! - Overflowing windows are made on request only, and listed once each.
//! - Whether a letter touches a `single_word` token is decided with today's
//!   Unicode. An added token that normalisation empties is not looked for.
//!
//! Its rewrite, 1.0.0-rc.3, takes decompositions and punctuation from newer
//! Unicode tables than 0.22 and so gives other ids for characters that are
//! younger than 2016.
//!
//! # Training
//!
//! [`train`] makes a vocabulary from a corpus: see [`WordPieceTrainer`].
//!
//! # Time
//!
//! All steps take time linear in the text, whatever the text and vocabulary.
//! For many texts, [`Tokenizer::encode_into`] reuses its memory.
#![forbid(unsafe_code)]

mod added;
mod charmap;
mod decode;
mod encode;
mod error;
mod files;
mod frozen;
mod json;
mod normalize;
mod pages;
mod pre_tokenize;
mod template;
mod tokenizer;
pub mod train;
mod trie;
mod truncate;
mod unicode;
mod vocab;
mod wordpiece;
mod words;

pub use added::AddedToken;
pub use encode::{EncodeOptions, Encoding, Scratch};
pub use error::Error;
pub use normalize::{Dialect, Rules};
pub use tokenizer::{Tokenizer, VocabOptions};
pub use train::{TrainerOptions, WordPieceTrainer};
pub use truncate::{Direction, Strategy, Truncation};
