//! A stream of bytes as texts of about a mebibyte, cut where a word ends anyway.

use std::io::Read;

use crate::error::Error;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// Bytes without white space after which a text is cut all the same, between two characters.
const LIMIT: usize = 16 * CHUNK;

/// The texts of one reader.
pub(super) struct Chunks<R> {
    reader: R,
    /// What errors call it.
    name: String,
    /// What was read beyond the last text.
    rest: Vec<u8>,
    /// Where in the stream that begins.
    offset: u64,
    ended: bool,
    /// Whether what is not UTF-8 is replaced.
    lossy: bool,
}

impl<R: Read> Chunks<R> {
    pub(super) fn new(name: &str, reader: R) -> Self {
        Self { reader, name: name.into(), rest: Vec::new(), offset: 0, ended: false, lossy: false }
    }

    /// The same, but what is not UTF-8 becomes U+FFFD.
    pub(super) fn lossy(name: &str, reader: R) -> Self {
        Self { lossy: true, ..Self::new(name, reader) }
    }

    /// The next text; `None` at the end.
    ///
    /// # Errors
    ///
    /// The reader's own, and bytes that are not UTF-8 unless they are replaced.
    pub(super) fn next(&mut self) -> Result<Option<String>, Error> {
        let mut bytes = std::mem::take(&mut self.rest);
        let end = loop {
            let before = bytes.len();
            if !self.ended {
                let more = self.reader.by_ref().take(CHUNK as u64).read_to_end(&mut bytes);
                let more =
                    more.map_err(|source| Error::Io { path: self.name.clone().into(), source })?;
                self.ended = more < CHUNK;
            }
            if self.ended {
                break bytes.len();
            }
            // What was there before has been searched, or is what followed the last space.
            let space = bytes[before..].iter().rposition(u8::is_ascii_whitespace);
            if let Some(space) = space {
                break before + space + 1;
            }
            if bytes.len() >= LIMIT {
                let is_start = |byte: &u8| byte & 0xC0 != 0x80;
                let start = bytes[bytes.len() - 4..].iter().rposition(is_start);
                break start.map_or(bytes.len(), |start| bytes.len() - 4 + start);
            }
        };
        self.rest = bytes.split_off(end);
        if bytes.is_empty() {
            return Ok(None);
        }
        match String::from_utf8(bytes) {
            Ok(text) => {
                self.offset += text.len() as u64;
                Ok(Some(text))
            }
            Err(error) if self.lossy => {
                self.offset += error.as_bytes().len() as u64;
                Ok(Some(String::from_utf8_lossy(error.as_bytes()).into_owned()))
            }
            Err(error) => {
                let offset = self.offset + error.utf8_error().valid_up_to() as u64;
                Err(Error::CorpusNotUtf8 { file: self.name.clone(), offset })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<String>, Error> {
        let mut chunks = Chunks::new("corpus", bytes);
        std::iter::from_fn(|| chunks.next().transpose()).collect()
    }

    #[test]
    fn the_texts_are_the_stream_cut_at_white_space() {
        let line = "größer als 日本 und\tso weiter ";
        let text = line.repeat(3 * CHUNK / line.len() + 1);
        let chunks = all(text.as_bytes()).expect("valid");
        assert!(chunks.len() >= 3);
        assert_eq!(chunks.concat(), text);
        for chunk in &chunks[..chunks.len() - 1] {
            assert!(chunk.ends_with(|c: char| c.is_ascii_whitespace()));
        }
        assert_eq!(all(b"").expect("valid"), [""; 0]);
        assert_eq!(all(b"one\n\ntwo").expect("valid"), ["one\n\ntwo"]);
    }

    #[test]
    fn a_text_without_white_space_is_cut_between_characters() {
        let text = "日本".repeat(2 * LIMIT / 6 + 5);
        let chunks = all(text.as_bytes()).expect("valid");
        assert_eq!(chunks.len(), 3);
        assert!(chunks.iter().all(|chunk| chunk.len() <= LIMIT));
        assert_eq!(chunks.concat(), text);
    }

    #[test]
    fn a_byte_that_is_no_text_is_found() {
        for at in [0, 17, CHUNK - 1, CHUNK, 2 * CHUNK + 3, 3 * CHUNK - 1] {
            let mut bytes = b"word ".repeat(3 * CHUNK / 5 + 1);
            bytes[at] = 0xFF;
            match all(&bytes) {
                Err(Error::CorpusNotUtf8 { file, offset }) => {
                    assert_eq!((file.as_str(), offset), ("corpus", at as u64));
                }
                other => panic!("{at}: {other:?}"),
            }
        }
        // A character that the end of the file cuts.
        let error = all("word é".as_bytes().split_last().expect("not empty").1).unwrap_err();
        assert_eq!(error.to_string(), "corpus: not valid UTF-8 at byte 5");
        // Nothing but the inside of characters.
        assert!(all(&vec![0x80; LIMIT + 1]).is_err());
    }
}
