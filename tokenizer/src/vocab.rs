//! The vocabulary: tokens and their ids, and `vocab.txt`.

use crate::error::Error;
use crate::normalize::Dialect;

/// Texts and vocabularies are addressed with 31 bits.
pub(crate) const MAX_BYTES: usize = i32::MAX as usize;

/// Tokens by id. Ids may have holes.
#[derive(Clone, Debug)]
pub(crate) struct Vocab {
    /// All tokens, end to end.
    text: String,
    /// Id and end in `text`, by id.
    entries: Vec<(u32, u32)>,
}

/// What the numbers of a doubled token are, for the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Line,
    Id,
}

impl Vocab {
    /// Every token and every id must be there once only.
    pub(crate) fn new(
        file: &str,
        place: Place,
        mut tokens: Vec<(String, u32)>,
    ) -> Result<Self, Error> {
        tokens.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.cmp(&b.1)));
        if let Some(pair) = tokens.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let number = |id: u32| id as usize + usize::from(place == Place::Line);
            return Err(Error::DoubledToken {
                file: file.into(),
                token: pair[0].0.clone(),
                place: if place == Place::Line { "line" } else { "id" },
                first: number(pair[0].1),
                second: number(pair[1].1),
            });
        }
        tokens.sort_by_key(|&(_, id)| id);
        if let Some(pair) = tokens.windows(2).find(|pair| pair[0].1 == pair[1].1) {
            return Err(Error::DoubledId {
                file: file.into(),
                id: pair[0].1,
                first: pair[0].0.clone(),
                second: pair[1].0.clone(),
            });
        }
        let bytes = tokens.iter().map(|(token, _)| token.len()).sum();
        if bytes > MAX_BYTES {
            return Err(Error::TooLong { bytes, limit: MAX_BYTES });
        }
        let mut text = String::with_capacity(bytes);
        let mut entries = Vec::with_capacity(tokens.len());
        for (token, id) in tokens {
            text.push_str(&token);
            entries.push((id, text.len() as u32));
        }
        Ok(Self { text, entries })
    }

    /// The largest id.
    pub(crate) fn max_id(&self) -> Option<u32> {
        self.entries.last().map(|&(id, _)| id)
    }

    /// The token with this id.
    pub(crate) fn token(&self, id: u32) -> Option<&str> {
        // Without holes below it, id n is entry n.
        let at = match self.entries.get(id as usize) {
            Some(&(found, _)) if found == id => id as usize,
            _ => self.entries.binary_search_by_key(&id, |&(id, _)| id).ok()?,
        };
        Some(self.entry(at).0)
    }

    /// All tokens and ids, by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        (0..self.entries.len()).map(|at| self.entry(at))
    }

    fn entry(&self, at: usize) -> (&str, u32) {
        let start = if at == 0 { 0 } else { self.entries[at - 1].1 };
        let (id, end) = self.entries[at];
        (&self.text[start as usize..end as usize], id)
    }
}

/// Reads `vocab.txt`: a token a line, its id the number of lines before it.
///
/// Lines end at `\n` only (a U+2028 is a token, not a line break). Blank
/// lines count, and leave their id without a token.
pub(crate) fn parse_lines(
    file: &str,
    bytes: &[u8],
    dialect: Dialect,
) -> Result<Vec<(String, u32)>, Error> {
    if bytes.len() > MAX_BYTES {
        return Err(Error::TooLong { bytes: bytes.len(), limit: MAX_BYTES });
    }
    let bytes = bytes.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let mut tokens = Vec::new();
    for (id, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let line = std::str::from_utf8(line)
            .map_err(|_| Error::NotUtf8 { file: file.into(), line: id + 1 })?;
        let token = match dialect {
            Dialect::Google => line.trim(),
            Dialect::HfSlow => line.strip_suffix('\r').unwrap_or(line),
            Dialect::HfFast => line.trim_end(),
        };
        if !token.is_empty() {
            tokens.push((token.to_owned(), id as u32));
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, dialect: Dialect) -> Vec<(String, u32)> {
        parse_lines("v", text.as_bytes(), dialect).expect("valid")
    }

    #[test]
    fn line_rules() {
        let text = "\u{FEFF}[PAD]\r\n a \n\n\u{2028}x\nlast";
        let owned = |v: &[(&str, u32)]| -> Vec<(String, u32)> {
            v.iter().map(|&(t, i)| (t.into(), i)).collect()
        };
        let fast = [("[PAD]", 0), (" a", 1), ("\u{2028}x", 3), ("last", 4)];
        assert_eq!(lines(text, Dialect::HfFast), owned(&fast));
        let slow = [("[PAD]", 0), (" a ", 1), ("\u{2028}x", 3), ("last", 4)];
        assert_eq!(lines(text, Dialect::HfSlow), owned(&slow));
        let google = [("[PAD]", 0), ("a", 1), ("x", 3), ("last", 4)];
        assert_eq!(lines(text, Dialect::Google), owned(&google));
        assert_eq!(lines("a\n", Dialect::HfFast).len(), 1);
        assert_eq!(lines("", Dialect::HfFast).len(), 0);
    }

    #[test]
    fn bad_lines() {
        let error = parse_lines("v.txt", b"a\nb\n\xFF\n", Dialect::HfFast).expect_err("not UTF-8");
        assert_eq!(error.to_string(), "v.txt: line 3 is not valid UTF-8");
        let doubled = lines("a\nb\na\n", Dialect::HfFast);
        let error = Vocab::new("v.txt", Place::Line, doubled).expect_err("doubled");
        assert_eq!(error.to_string(), "v.txt: token \"a\" twice, at line 1 and line 3");
    }

    #[test]
    fn ids_with_holes() {
        let tokens = vec![("a".into(), 7), ("b".into(), u32::MAX), ("c".into(), 0)];
        let vocab = Vocab::new("v", Place::Id, tokens).expect("valid");
        assert_eq!(vocab.token(7), Some("a"));
        assert_eq!(vocab.token(u32::MAX), Some("b"));
        assert_eq!(vocab.token(0), Some("c"));
        assert_eq!(vocab.token(1), None);
        let same = vec![("a".into(), 7), ("b".into(), 7)];
        assert!(matches!(Vocab::new("v", Place::Id, same), Err(Error::DoubledId { id: 7, .. })));
    }
}
