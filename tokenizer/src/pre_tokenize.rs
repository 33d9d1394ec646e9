//! Text into words: at white space, and round every punctuation mark.

use crate::charmap::{Byte, CharMap, jamo};
use crate::normalize::{Class, Normalized};
use crate::words::Key;

/// A normalised word on its way to WordPiece.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word<'a> {
    /// Its key, if it is short.
    pub(crate) key: Option<Key>,
    /// Its bytes, UTF-8.
    pub(crate) bytes: &'a [u8],
    /// Its length in characters.
    pub(crate) chars: usize,
    /// Where the bytes come from.
    pub(crate) places: Places<'a>,
}

/// Where the bytes of a word are in the original text.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Places<'a> {
    /// One to one, from here on.
    From(u32),
    /// Each byte as listed.
    Listed(&'a [(u32, u32)]),
}

impl Places<'_> {
    /// The original bytes behind the bytes `start..end` of the word.
    #[inline]
    pub(crate) fn span(self, start: usize, end: usize) -> (u32, u32) {
        match self {
            Self::From(first) => (first + start as u32, first + end as u32),
            Self::Listed(places) => (places[start].0, places[end - 1].1),
        }
    }
}

/// The word being put together, reused.
#[derive(Debug, Default)]
pub(crate) struct WordBuffer {
    bytes: Vec<u8>,
    places: Vec<(u32, u32)>,
    chars: usize,
}

impl WordBuffer {
    fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
        self.chars = 0;
    }

    #[inline]
    fn push(&mut self, c: char, place: (u32, u32)) {
        let mut utf8 = [0; 4];
        let utf8 = c.encode_utf8(&mut utf8).as_bytes();
        self.bytes.extend_from_slice(utf8);
        self.places.extend(std::iter::repeat_n(place, utf8.len()));
        self.chars += 1;
    }

    fn flush(&mut self, emit: &mut impl FnMut(Word<'_>)) {
        if self.chars > 0 {
            emit(Word {
                key: Key::new(&self.bytes),
                bytes: &self.bytes,
                chars: self.chars,
                places: Places::Listed(&self.places),
            });
            self.clear();
        }
    }
}

/// Normalises `text[start..end]` and emits its words, character by character.
///
/// Returns false when it comes to a character whose neighbours matter: what
/// was emitted is void then, and the exact way has to be taken.
#[must_use]
pub(crate) fn stream(
    map: &CharMap,
    text: &str,
    start: usize,
    end: usize,
    buffer: &mut WordBuffer,
    mut emit: impl FnMut(Word<'_>),
) -> bool {
    let bytes = &text.as_bytes()[..end];
    let lowercase = map.rules().lowercase;
    let mut i = start;
    while i < end {
        // Most words are a few letters or digits, then a space or a mark.
        let key = Key::alphanumeric(&bytes[i..], lowercase);
        let next = i + key.len();
        let after = bytes.get(next).map_or(Byte::Space, |&byte| map.byte(byte));
        if key.len() > 0 && matches!(after, Byte::Space | Byte::Alone) {
            let places = Places::From(i as u32);
            emit(Word {
                key: Some(key),
                bytes: &key.bytes()[..key.len()],
                chars: key.len(),
                places,
            });
            i = next;
        }
        match bytes.get(i).map_or(Byte::Space, |&byte| map.byte(byte)) {
            Byte::Space => i += 1,
            Byte::Alone => {
                let byte = &bytes[i..=i];
                let places = Places::From(i as u32);
                emit(Word { key: Key::new(byte), bytes: byte, chars: 1, places });
                i += 1;
            }
            Byte::Word(_) | Byte::Other => match word(map, text, i, end, buffer, &mut emit) {
                Some(next) => i = next,
                None => return false,
            },
        }
    }
    true
}

/// Emits the word at `start`, of any kind, and whatever single characters
/// follow it directly; returns where it ended. `None` as `stream`'s false.
fn word(
    map: &CharMap,
    text: &str,
    start: usize,
    end: usize,
    buffer: &mut WordBuffer,
    emit: &mut impl FnMut(Word<'_>),
) -> Option<usize> {
    let bytes = &text.as_bytes()[..end];
    let mut i = start;
    buffer.clear();
    while i < end
        && let Byte::Word(byte) = map.byte(bytes[i])
    {
        buffer.bytes.push(byte);
        i += 1;
    }
    let chars = i - start;
    if i == end || map.byte(bytes[i]) != Byte::Other {
        // An ASCII word is as long as what it was in the text.
        let places = Places::From(start as u32);
        emit(Word { key: Key::new(&buffer.bytes), bytes: &buffer.bytes, chars, places });
        return Some(i);
    }
    buffer.chars = chars;
    buffer.places.extend((start..i).map(|at| (at as u32, at as u32 + 1)));
    stream_word(map, text, i, end, buffer, emit)
}

/// Goes on from `start` to the end of a word that is not plain ASCII.
fn stream_word(
    map: &CharMap,
    text: &str,
    start: usize,
    end: usize,
    buffer: &mut WordBuffer,
    emit: &mut impl FnMut(Word<'_>),
) -> Option<usize> {
    for (at, c) in text[start..end].char_indices() {
        let at = start + at;
        let next = at + c.len_utf8();
        let place = (at as u32, next as u32);
        let mut put = |buffer: &mut WordBuffer, class| match class {
            Class::To(c) => buffer.push(c, place),
            Class::Alone(c) => {
                buffer.flush(emit);
                buffer.push(c, place);
                buffer.flush(emit);
            }
            _ => buffer.flush(emit),
        };
        match map.class(c) {
            Class::Keep => buffer.push(c, place),
            Class::Drop => {}
            Class::Space => {
                buffer.flush(emit);
                return Some(next);
            }
            class @ (Class::To(_) | Class::Alone(_)) => put(buffer, class),
            Class::Hangul => jamo(c).for_each(|c| buffer.push(c, place)),
            Class::Many(list) => map.list(list).iter().for_each(|&class| put(buffer, class)),
            Class::Exact => return None,
        }
    }
    buffer.flush(emit);
    Some(end)
}

/// Emits the words of `normalized.text[start..end]`.
pub(crate) fn split(
    map: &CharMap,
    normalized: &Normalized,
    start: usize,
    end: usize,
    mut emit: impl FnMut(Word<'_>),
) {
    let text = &normalized.text;
    let mut emit_range = |start: usize, end: usize, chars: usize| {
        if chars > 0 {
            let bytes = &text.as_bytes()[start..end];
            let places = Places::Listed(&normalized.places[start..end]);
            emit(Word { key: Key::new(bytes), bytes, chars, places });
        }
    };
    let (mut first, mut chars) = (start, 0);
    for (at, c) in text[start..end].char_indices() {
        let at = start + at;
        let next = at + c.len_utf8();
        let alone = map.is_punctuation(c);
        if alone || c.is_whitespace() {
            emit_range(first, at, chars);
            emit_range(at, next, usize::from(alone));
            (first, chars) = (next, 0);
        } else {
            chars += 1;
        }
    }
    emit_range(first, end, chars);
}
