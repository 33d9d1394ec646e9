//! Bytes become lines, and lines texts. A bad line costs only itself.

use serde::Deserialize;

use crate::options::From;

/// The longest line. A long book has two megabytes; a line without an end must not take all memory.
pub(crate) const MAX_LINE: usize = 16 << 20;

/// A text, alone or with a second one.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) pair: Option<String>,
}

/// A line of the input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// From 1.
    pub(crate) number: u64,
    /// The text, or why there is none.
    pub(crate) text: Result<Text, String>,
}

/// Cuts blocks of bytes, wherever they begin and end, into lines at each `\n`. An empty line is an
/// empty text; what follows the last `\n` is a line unless it is empty.
#[derive(Debug)]
pub(crate) struct Splitter {
    from: From,
    max_line: usize,
    /// The lines that have ended or been given up.
    count: u64,
    /// What there is of the line that has not ended.
    open: Vec<u8>,
    /// Whether that line has been rejected for its length, and is skipped to its end.
    skipping: bool,
}

impl Splitter {
    pub(crate) fn new(from: From) -> Splitter {
        Splitter { from, max_line: MAX_LINE, count: 0, open: Vec::new(), skipping: false }
    }

    /// The lines that end in this block, and one that in it becomes too long.
    pub(crate) fn feed(&mut self, block: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        for piece in block.split_inclusive(|&byte| byte == b'\n') {
            let ended = piece.strip_suffix(b"\n");
            let content = ended.unwrap_or(piece);
            if self.skipping {
                self.skipping = ended.is_none();
            } else if self.open.len() + content.len() > self.max_line {
                self.skipping = ended.is_none();
                self.open = Vec::new();
                let reason = format!("longer than {} bytes", self.max_line);
                lines.push(self.number(Err(reason)));
            } else if ended.is_none() {
                self.open.extend_from_slice(content);
            } else if self.open.is_empty() {
                let text = self.parse(content);
                lines.push(self.number(text));
            } else {
                self.open.extend_from_slice(content);
                lines.push(self.take_open());
            }
        }
        lines
    }

    /// The line that the end of the input ends.
    pub(crate) fn end(&mut self) -> Vec<Line> {
        if self.open.is_empty() { Vec::new() } else { vec![self.take_open()] }
    }

    fn take_open(&mut self) -> Line {
        let content = std::mem::take(&mut self.open);
        let text = self.parse(&content);
        self.number(text)
    }

    fn parse(&self, line: &[u8]) -> Result<Text, String> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is_first = self.count == 0;
        let line = line.strip_prefix(BYTE_ORDER_MARK).filter(|_| is_first).unwrap_or(line);
        parse(line, self.from)
    }

    fn number(&mut self, text: Result<Text, String>) -> Line {
        self.count += 1;
        Line { number: self.count, text }
    }
}

/// U+FEFF, which some editors put before a text.
const BYTE_ORDER_MARK: &[u8] = "\u{FEFF}".as_bytes();

/// The text of a line, or what is wrong with it.
pub(crate) fn parse(line: &[u8], from: From) -> Result<Text, String> {
    let line = std::str::from_utf8(line)
        .map_err(|error| format!("not valid UTF-8 (byte {})", error.valid_up_to() + 1))?;
    match from {
        From::Text => Ok(Text { text: line.to_owned(), pair: None }),
        From::Jsonl => serde_json::from_str(line).map_err(|error| {
            let message = error.to_string();
            // The parser's own place: its line is always the first, its column counts bytes.
            let place = format!(" at line {} column {}", error.line(), error.column());
            let message = message.strip_suffix(&place).unwrap_or(&message);
            format!("not {{\"text\": ...}}: {message} (byte {})", error.column())
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Result<Text, String> {
        Ok(Text { text: text.to_owned(), pair: None })
    }

    /// All lines of an input that comes in blocks of this size.
    fn split(input: &[u8], block: usize, max_line: usize) -> Vec<Line> {
        let mut splitter = Splitter { max_line, ..Splitter::new(From::Text) };
        let mut lines: Vec<Line> =
            input.chunks(block).flat_map(|block| splitter.feed(block)).collect();
        lines.extend(splitter.end());
        lines
    }

    #[test]
    fn lines_are_the_same_whatever_the_blocks() {
        let input = b"\xEF\xBB\xBFone\r\n\n tw\xC3\xB6 \nbad \xFF\n\xEF\xBB\xBFno mark\nlonger than 12\nlast";
        let expected = [
            text("one"),
            text(""),
            text(" twö "),
            Err("not valid UTF-8 (byte 5)".to_owned()),
            text("\u{FEFF}no mark"),
            Err("longer than 12 bytes".to_owned()),
            text("last"),
        ];
        for block in 1..=input.len() {
            let lines = split(input, block, 12);
            assert!(lines.iter().zip(1..).all(|(line, number)| line.number == number));
            let texts: Vec<_> = lines.into_iter().map(|line| line.text).collect();
            assert_eq!(texts, expected, "blocks of {block}");
        }
    }

    #[test]
    fn a_last_line_needs_no_end() {
        for block in [1, 2, 9] {
            assert_eq!(split(b"", block, 9).len(), 0);
            assert_eq!(split(b"\n", block, 9).len(), 1);
            assert_eq!(split(b"a\n", block, 9).len(), 1);
            assert_eq!(split(b"a\n\n", block, 9).len(), 2);
            assert_eq!(split(b"a\nb", block, 9).len(), 2);
        }
    }

    #[test]
    fn a_line_without_end_is_given_up_at_once_and_holds_no_memory() {
        let mut splitter = Splitter { max_line: 100, ..Splitter::new(From::Text) };
        assert_eq!(splitter.feed(&[b'a'; 100]).len(), 0);
        let lines = splitter.feed(b"a");
        assert_eq!(lines, [Line { number: 1, text: Err("longer than 100 bytes".to_owned()) }]);
        for _ in 0..1000 {
            assert_eq!(splitter.feed(&[b'a'; 1000]).len(), 0);
        }
        assert_eq!(splitter.open.capacity(), 0);
        assert_eq!(splitter.feed(b"a\nnext\n"), [Line { number: 2, text: text("next") }]);
        assert_eq!(splitter.end(), []);
    }

    #[test]
    fn records_are_read_and_faults_named() {
        let pair = r#"{"id": 7, "pair": "b", "x": [{}], "text": "a\n\u00e4"}"#;
        let expected = Text { text: "a\nä".to_owned(), pair: Some("b".to_owned()) };
        assert_eq!(parse(pair.as_bytes(), From::Jsonl), Ok(expected));
        assert_eq!(parse(br#"{"text":"a","pair":null}"#, From::Jsonl), text("a"));
        for (line, fault) in [
            ("", "EOF while parsing a value (byte 0)"),
            (r#"{"pair": "b"}"#, "missing field `text` (byte 13)"),
            (r#"{"text": 7}"#, "invalid type: integer `7`, expected a string (byte 10)"),
            (r#"{"text": "a"} {}"#, "trailing characters (byte 15)"),
            (r#"{"text": "a", "text": "b"}"#, "duplicate field `text` (byte 20)"),
            (r#"{"text": "\ud800"}"#, "unexpected end of hex escape (byte 17)"),
        ] {
            let error = parse(line.as_bytes(), From::Jsonl).unwrap_err();
            assert_eq!(error, format!("not {{\"text\": ...}}: {fault}"), "{line}");
        }
    }
}
