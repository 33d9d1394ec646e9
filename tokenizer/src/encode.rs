//! Text to ids: the pipeline, truncation and assembly.

use std::ops::Range;

use crate::added::Part;
use crate::error::Error;
use crate::normalize::Normalized;
use crate::pre_tokenize::{Places, Word, WordBuffer, split, stream};
use crate::template::{Slot, Template};
use crate::tokenizer::Tokenizer;
use crate::truncate::{Truncation, check_windows};
use crate::vocab::MAX_BYTES;
use crate::wordpiece::Piece;

/// How to encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Whether to add the special tokens of the template, `[CLS]` and `[SEP]`.
    pub add_special_tokens: bool,
    /// Where to cut; `None` keeps everything. A file's own setting is not
    /// applied by itself: see [`Tokenizer::file_truncation`].
    pub truncation: Option<Truncation>,
    /// Whether to return what was cut as further windows.
    pub overflowing: bool,
}

impl Default for EncodeOptions {
    /// With special tokens, nothing cut.
    fn default() -> Self {
        Self { add_special_tokens: true, truncation: None, overflowing: false }
    }
}

/// An encoded text or pair. The lists are parallel, an entry a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// The ids.
    pub ids: Vec<u32>,
    /// The segment of each token, 0 or 1 in BERT's templates.
    pub type_ids: Vec<u8>,
    /// The bytes of the original text (of its own sequence) that a token
    /// stands for; `(0, 0)` for the template's special tokens.
    pub offsets: Vec<(usize, usize)>,
    /// Whether the template added the token. A `[MASK]` written in the text
    /// is text.
    pub special_tokens_mask: Vec<bool>,
    /// The number of the word in its sequence; punctuation marks, ideographs
    /// and added tokens are words of their own. `None` for special tokens.
    pub word_ids: Vec<Option<u32>>,
    /// 0 or 1, which sequence the token is of. `None` for special tokens.
    pub sequence_ids: Vec<Option<u8>>,
    /// The windows over what was cut, if asked for.
    pub overflowing: Vec<Encoding>,
    /// How many tokens of the text were cut.
    pub truncated: usize,
    /// How many words of this encoding became the unknown token.
    pub unknown: usize,
}

impl Encoding {
    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    fn clear(&mut self, spare: &mut Vec<Encoding>) {
        self.ids.clear();
        self.type_ids.clear();
        self.offsets.clear();
        self.special_tokens_mask.clear();
        self.word_ids.clear();
        self.sequence_ids.clear();
        spare.append(&mut self.overflowing);
        self.truncated = 0;
        self.unknown = 0;
    }
}

/// A token of the text before it is assembled with others.
#[derive(Clone, Copy, Debug)]
struct Token {
    id: u32,
    start: u32,
    end: u32,
    /// The word's number; the top bit says that it is unknown.
    word: u32,
}

const UNKNOWN: u32 = 1 << 31;

/// Memory for [`Tokenizer::encode_into`], reused from call to call.
#[derive(Debug, Default)]
pub struct Scratch {
    tokens: [Vec<Token>; 2],
    sequence: SequenceScratch,
    /// Overflowing encodings of earlier calls.
    spare: Vec<Encoding>,
}

#[derive(Debug, Default)]
struct SequenceScratch {
    buffer: WordBuffer,
    pieces: Vec<Piece>,
    normalized: Normalized,
}

impl Scratch {
    /// Nothing yet; it grows with the texts.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Tokenizer {
    /// Encodes a text, or a pair of texts.
    ///
    /// # Errors
    ///
    /// A text of 2 GiB, or a truncation that cannot be done: see [`Error`].
    pub fn encode(
        &self,
        text: &str,
        pair: Option<&str>,
        options: &EncodeOptions,
    ) -> Result<Encoding, Error> {
        let mut out = Encoding::default();
        self.encode_into(text, pair, options, &mut out, &mut Scratch::new())?;
        Ok(out)
    }

    /// [`encode`](Self::encode) into an encoding that is overwritten. Once
    /// `out` and `scratch` have grown to the longest text, nothing is
    /// allocated. After an error `out` is unspecified.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_into(
        &self,
        text: &str,
        pair: Option<&str>,
        options: &EncodeOptions,
        out: &mut Encoding,
        scratch: &mut Scratch,
    ) -> Result<(), Error> {
        let Scratch { tokens: [first, second], sequence, spare } = scratch;
        out.clear(spare);
        self.sequence(text, first, sequence)?;
        second.clear();
        if let Some(pair) = pair {
            self.sequence(pair, second, sequence)?;
        }
        let template = if pair.is_some() { &self.pair } else { &self.single };
        let assembly =
            Assembly { template, specials: options.add_special_tokens, tokens: [first, second] };

        let Some(truncation) = options.truncation else {
            assembly.write([0..first.len(), 0..second.len()], out);
            return Ok(());
        };
        let specials = if options.add_special_tokens { template.specials() } else { 0 };
        let lengths = (first.len(), pair.map(|_| second.len()));
        let room = truncation.room(self.dialect(), specials, lengths.0, lengths.1)?;
        let kept = [truncation.kept(first.len(), room.0), truncation.kept(second.len(), room.1)];
        out.truncated = first.len() + second.len() - kept[0].len() - kept[1].len();
        assembly.write(kept, out);
        if options.overflowing && out.truncated > 0 {
            assembly.overflow(&truncation, room, out, spare)?;
        }
        Ok(())
    }

    /// The tokens of one sequence.
    fn sequence(
        &self,
        text: &str,
        tokens: &mut Vec<Token>,
        scratch: &mut SequenceScratch,
    ) -> Result<(), Error> {
        if text.len() > MAX_BYTES {
            return Err(Error::TooLong { bytes: text.len(), limit: MAX_BYTES });
        }
        tokens.clear();
        // English has a token to four bytes or so.
        tokens.reserve(text.len() / 4);
        let mut words = 0;
        self.added.split_written(text, |part| match part {
            Part::Token(id, range) => {
                let (start, end) = (range.start as u32, range.end as u32);
                tokens.push(Token { id, start, end, word: words });
                words += 1;
            }
            Part::Text(range) => self.text(text, range, &mut words, tokens, scratch),
        });
        Ok(())
    }

    /// The tokens of a part of a text in which no added token is written.
    fn text(
        &self,
        text: &str,
        Range { start, end }: Range<usize>,
        words: &mut u32,
        tokens: &mut Vec<Token>,
        scratch: &mut SequenceScratch,
    ) {
        let SequenceScratch { buffer, pieces, normalized } = scratch;
        if !self.added.need_normalized_text() {
            let before = (tokens.len(), *words);
            let emit = |word: Word<'_>| self.word(word, words, tokens, pieces);
            if stream(&self.map, text, start, end, buffer, emit) {
                return;
            }
            tokens.truncate(before.0);
            *words = before.1;
        }
        self.map.normalize(text, start..end, normalized);
        self.added.split_normalized(&normalized.text, |part| match part {
            Part::Token(id, range) => {
                let places = Places::Listed(&normalized.places);
                let (start, end) = places.span(range.start, range.end);
                tokens.push(Token { id, start, end, word: *words });
                *words += 1;
            }
            Part::Text(range) => {
                let emit = |word: Word<'_>| self.word(word, words, tokens, pieces);
                split(&self.map, normalized, range.start, range.end, emit);
            }
        });
    }

    /// The tokens of one word.
    #[inline]
    fn word(
        &self,
        word: Word<'_>,
        words: &mut u32,
        tokens: &mut Vec<Token>,
        pieces: &mut Vec<Piece>,
    ) {
        if let Some(id) = word.key.and_then(|key| self.words.get(&key)) {
            let (start, end) = word.places.span(0, word.bytes.len());
            tokens.push(Token { id, start, end, word: *words });
        } else if self.wordpiece.encode(word.bytes, word.chars, pieces) {
            let mut at = 0;
            for piece in pieces.iter() {
                let (start, end) = word.places.span(at, at + piece.len as usize);
                tokens.push(Token { id: piece.id, start, end, word: *words });
                at += piece.len as usize;
            }
        } else {
            let (start, end) = word.places.span(0, word.bytes.len());
            tokens.push(Token { id: self.unknown, start, end, word: *words | UNKNOWN });
        }
        *words += 1;
    }
}

/// Puts tokens and special tokens together.
struct Assembly<'a> {
    template: &'a Template,
    /// Whether the special tokens are wanted.
    specials: bool,
    tokens: [&'a [Token]; 2],
}

impl Assembly<'_> {
    /// Appends the given ranges of both sequences, as the template has it.
    fn write(&self, ranges: [Range<usize>; 2], out: &mut Encoding) {
        let len = ranges[0].len() + ranges[1].len() + self.template.specials();
        out.ids.reserve(len);
        out.type_ids.reserve(len);
        out.offsets.reserve(len);
        out.special_tokens_mask.reserve(len);
        out.word_ids.reserve(len);
        out.sequence_ids.reserve(len);
        for slot in &self.template.slots {
            match *slot {
                Slot::Special { ref ids, type_id } if self.specials => {
                    for &id in ids {
                        out.ids.push(id);
                        out.type_ids.push(type_id);
                        out.offsets.push((0, 0));
                        out.special_tokens_mask.push(true);
                        out.word_ids.push(None);
                        out.sequence_ids.push(None);
                    }
                }
                Slot::Special { .. } => {}
                Slot::Sequence { which, type_id } => {
                    let tokens = &self.tokens[which as usize][ranges[which as usize].clone()];
                    let len = out.len() + tokens.len();
                    out.ids.extend(tokens.iter().map(|token| token.id));
                    out.type_ids.resize(len, type_id);
                    let offset = |token: &Token| (token.start as usize, token.end as usize);
                    out.offsets.extend(tokens.iter().map(offset));
                    out.special_tokens_mask.resize(len, false);
                    out.word_ids.extend(tokens.iter().map(|token| Some(token.word & !UNKNOWN)));
                    out.sequence_ids.resize(len, Some(which));
                    out.unknown += tokens.iter().filter(|token| token.word & UNKNOWN != 0).count();
                }
            }
        }
    }

    /// Writes every combination of windows but the first into
    /// `out.overflowing`: those of the leading sequence outside, so that its
    /// later windows come before the later ones of the other beside its first.
    fn overflow(
        &self,
        truncation: &Truncation,
        room: (usize, usize),
        out: &mut Encoding,
        spare: &mut Vec<Encoding>,
    ) -> Result<(), Error> {
        let windows = [
            truncation.windows(self.tokens[0].len(), room.0)?,
            truncation.windows(self.tokens[1].len(), room.1)?,
        ];
        let counts = windows.map(|windows| windows.count());
        check_windows(counts[0].saturating_mul(counts[1]), room.0 + room.1)?;
        let outer = usize::from(self.template.second_leads());
        let total = self.tokens[0].len() + self.tokens[1].len();
        for i in (1..counts[outer]).chain([0]) {
            for j in usize::from(i == 0)..counts[1 - outer] {
                let mut ranges = [windows[outer].get(i), windows[1 - outer].get(j)];
                ranges.rotate_left(outer);
                let mut window = spare.pop().unwrap_or_default();
                window.clear(&mut Vec::new());
                window.truncated = total - ranges[0].len() - ranges[1].len();
                self.write(ranges, &mut window);
                out.overflowing.push(window);
            }
        }
        Ok(())
    }
}
