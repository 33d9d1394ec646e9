//! The lines of a file, one at a time, none of them longer than a limit.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::error::DataError;
use crate::files;

/// The lines of a file. Of those longer than a limit there are pieces, or nothing: it is read by
/// [`next_piece`](Lines::next_piece) or by [`next_line`](Lines::next_line), not by both.
#[derive(Debug)]
pub(super) struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    limit: u32,
    /// The last piece, and what was read of the next one.
    buffer: Vec<u8>,
    /// The bytes of the last piece.
    piece: usize,
    /// Where the next piece begins, and in which line, from 1.
    offset: u64,
    number: u64,
    /// Whether the next piece begins its line.
    line_begins: bool,
}

/// A line with its end, or a piece of one.
pub(super) struct Line<'a> {
    pub(super) bytes: &'a [u8],
    /// Where it begins in its file.
    pub(super) offset: u64,
    /// The number of the line, from 1.
    pub(super) number: u64,
    /// Whether it is no piece.
    pub(super) is_whole: bool,
}

impl Line<'_> {
    /// Whether there is nothing but white space.
    pub(super) fn is_blank(&self) -> bool {
        str::from_utf8(self.bytes).is_ok_and(|text| text.trim_start().is_empty())
    }

    /// The number of places that are not UTF-8.
    pub(super) fn invalid_utf8(&self) -> u64 {
        let chunks = self.bytes.utf8_chunks();
        chunks.filter(|chunk| !chunk.invalid().is_empty()).count() as u64
    }
}

impl Lines {
    pub(super) fn open(path: &Path, limit: u32) -> Result<Lines, DataError> {
        let (file, _) = files::open(path)?;
        let path = path.to_owned();
        let reader = BufReader::with_capacity(1 << 16, file);
        let (buffer, piece, offset, number) = (Vec::new(), 0, 0, 1);
        Ok(Lines { path, reader, limit, buffer, piece, offset, number, line_begins: true })
    }

    /// The next line or, of a line of more than `limit` bytes, the next piece: up to and with the
    /// last space in as many bytes. Pieces end behind ASCII, and so split no character.
    pub(super) fn next_piece(&mut self) -> Result<Option<Line<'_>>, DataError> {
        self.buffer.drain(..self.piece);
        let limit = self.limit as usize;
        let room = (limit - self.buffer.len()) as u64;
        let read = self.reader.by_ref().take(room).read_until(b'\n', &mut self.buffer);
        read.map_err(|source| self.error(source))?;
        let ends = self.buffer.ends_with(b"\n");
        self.piece = self.buffer.len();
        if !ends && self.piece == limit && !self.at_end()? {
            let space = self.buffer.iter().rposition(|byte| byte.is_ascii_whitespace());
            let Some(space) = space else {
                let (path, line) = (self.path.clone(), self.number);
                return Err(DataError::LineTooLong { path, line, limit: self.limit });
            };
            self.piece = space + 1;
        }
        if self.piece == 0 {
            return Ok(None);
        }
        let line = Line {
            bytes: &self.buffer[..self.piece],
            offset: self.offset,
            number: self.number,
            is_whole: self.line_begins && self.piece == self.buffer.len(),
        };
        self.offset += self.piece as u64;
        self.number += u64::from(ends);
        self.line_begins = ends;
        Ok(Some(line))
    }

    /// The next line; of one of more than `limit` bytes with its end, the first of them: it is not
    /// whole, and the rest of it is passed over.
    pub(super) fn next_line(&mut self) -> Result<Option<Line<'_>>, DataError> {
        self.buffer.clear();
        let room = u64::from(self.limit);
        let read = self.reader.by_ref().take(room).read_until(b'\n', &mut self.buffer);
        let mut bytes = read.map_err(|source| self.error(source))?;
        if bytes == 0 {
            return Ok(None);
        }
        let is_whole =
            self.buffer.ends_with(b"\n") || bytes < self.limit as usize || self.at_end()?;
        if !is_whole {
            bytes += self.reader.skip_until(b'\n').map_err(|source| self.error(source))?;
        }
        let line = Line { bytes: &self.buffer, offset: self.offset, number: self.number, is_whole };
        self.offset += bytes as u64;
        self.number += 1;
        Ok(Some(line))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes of all pieces so far.
    pub(super) fn bytes(&self) -> u64 {
        self.offset
    }

    /// The number of lines so far.
    pub(super) fn lines(&self) -> u64 {
        self.number - u64::from(self.line_begins)
    }

    fn at_end(&mut self) -> Result<bool, DataError> {
        let next = self.reader.fill_buf().map(<[u8]>::is_empty);
        next.map_err(|source| self.error(source))
    }

    fn error(&self, source: io::Error) -> DataError {
        DataError::Read { path: self.path.clone(), line: self.number, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a line of megabytes no more is held than the limit.
    #[test]
    fn long_lines_are_not_held() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let long = "é ".repeat(1 << 20);
        std::fs::write(file.path(), format!("a\n{long}\nb\n{long}")).unwrap();
        let mut lines = Lines::open(file.path(), 100).unwrap();
        let mut found = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            found.push((line.number, line.offset, line.bytes.len(), line.is_whole));
        }
        let bytes = long.len() as u64;
        assert_eq!(
            found,
            [
                (1, 0, 2, true),
                (2, 2, 100, false),
                (3, bytes + 3, 2, true),
                (4, bytes + 5, 100, false)
            ]
        );
        assert_eq!((lines.lines(), lines.bytes()), (4, 2 * bytes + 5));
        assert!(lines.buffer.capacity() <= 200, "{}", lines.buffer.capacity());
    }
}
