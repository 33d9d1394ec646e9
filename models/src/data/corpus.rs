//! Text files as documents of sentences.
//!
//! [`Corpus::open`] reads every file once, line by line, and keeps 32 bytes a document: where it
//! is, and a hash of it. The text is read again, one document at a time, when it is wanted, so
//! that a corpus may be larger than memory; a file that has changed meanwhile is found out.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::error::DataError;
use super::fingerprint::{Fingerprint, Hasher};
use super::lines::Lines;
use super::random::{Purpose, Random};
use super::sentences::SentenceRule;
use crate::files;

/// What a document is. It never goes beyond the end of its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DocumentRule {
    /// Lines up to a blank one.
    #[default]
    BlankLines,
    /// A file, whatever is blank in it.
    Files,
}

/// How files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorpusOptions {
    /// What a sentence is.
    pub sentences: SentenceRule,
    /// What a document is.
    pub documents: DocumentRule,
    /// The most bytes that a document may have. A longer one goes on as another document, from a
    /// new line if it can, else from behind a space: nothing large is held for want of a blank
    /// line.
    pub document_limit: u32,
}

impl Default for CorpusOptions {
    /// Prose, blank lines between documents of at most 4 MiB.
    fn default() -> CorpusOptions {
        CorpusOptions {
            sentences: SentenceRule::default(),
            documents: DocumentRule::default(),
            document_limit: 4 << 20,
        }
    }
}

/// What was found in the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CorpusReport {
    /// The files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their lines, blank ones too.
    pub lines: u64,
    /// The documents.
    pub documents: u64,
    /// The documents that go on as another one, being longer than the limit.
    pub cut: u64,
    /// Places that are not UTF-8; each is read as U+FFFD.
    pub invalid_utf8: u64,
}

/// An index of the documents in some files, numbered from 0 in the order of the files.
#[derive(Debug)]
pub struct Corpus {
    files: Vec<TextFile>,
    documents: Vec<Document>,
    sentences: SentenceRule,
    fingerprint: Fingerprint,
    report: CorpusReport,
}

#[derive(Debug)]
struct TextFile {
    path: PathBuf,
    /// As many as were read into the index.
    bytes: u64,
}

/// Where a document is.
#[derive(Clone, Copy, Debug)]
struct Document {
    offset: u64,
    /// The number of its first line, from 1.
    line: u64,
    hash: Hasher,
    file: u32,
    bytes: u32,
}

/// The numbers of the documents, in two parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Those to train on, ascending.
    pub training: Vec<u32>,
    /// Those to evaluate on, ascending.
    pub held_out: Vec<u32>,
}

impl Corpus {
    /// Reads these files once and notes where their documents are.
    ///
    /// # Errors
    /// If a file cannot be read or is not a regular one, if there is no document, if a line is
    /// too long and has no space, or if `document_limit` is 0.
    pub fn open<P: AsRef<Path>>(
        paths: impl IntoIterator<Item = P>,
        options: CorpusOptions,
    ) -> Result<Corpus, DataError> {
        if options.document_limit == 0 {
            return Err(DataError::InvalidOption {
                option: "document_limit",
                expected: "a number above 0",
                found: "0".to_owned(),
            });
        }
        let mut index = Index { options, files: vec![], documents: vec![], report: <_>::default() };
        for path in paths {
            index.add(path.as_ref())?;
        }
        let Index { files, mut documents, mut report, .. } = index;
        if documents.is_empty() {
            return Err(DataError::NoDocuments { files: files.len() });
        }
        documents.shrink_to_fit();
        (report.files, report.documents) = (files.len() as u64, documents.len() as u64);
        let mut hasher = Hasher::new();
        hasher.number(match options.sentences {
            SentenceRule::Lines => 0,
            SentenceRule::Split => 1,
        });
        // The other options show in the documents.
        for document in &documents {
            hasher.number(u64::from(document.bytes));
            hasher.number(document.hash.finish().0);
        }
        let (sentences, fingerprint) = (options.sentences, hasher.finish());
        Ok(Corpus { files, documents, sentences, fingerprint, report })
    }

    /// The number of documents, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a corpus has a document")]
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// What was found in the files.
    pub fn report(&self) -> CorpusReport {
        self.report
    }

    /// A hash of all documents' text and of what makes sentences of it. The names of the files
    /// are not in it: a corpus may be moved.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The bytes of a document.
    pub(super) fn bytes(&self, number: u32) -> u64 {
        self.documents[number as usize].bytes.into()
    }

    /// The bytes of the largest documents together, so many of them.
    pub(super) fn largest(&self, documents: usize) -> u64 {
        let mut bytes: Vec<u32> = self.documents.iter().map(|document| document.bytes).collect();
        if documents < bytes.len() {
            let (largest, ..) = bytes.select_nth_unstable_by(documents, |a, b| b.cmp(a));
            return largest.iter().map(|&bytes| u64::from(bytes)).sum();
        }
        bytes.into_iter().map(u64::from).sum()
    }

    /// The file in which a document is, and the number of its first line, from 1.
    ///
    /// # Panics
    /// If there is no such document.
    pub fn place(&self, number: u32) -> (&Path, u64) {
        let document = &self.documents[number as usize];
        (&self.files[document.file as usize].path, document.line)
    }

    /// Reads a document. What is not UTF-8 becomes U+FFFD.
    ///
    /// # Errors
    /// If the file cannot be read, or is not as it was when the corpus was opened.
    ///
    /// # Panics
    /// If there is no such document.
    pub fn read(&self, number: u32) -> Result<String, DataError> {
        let document = &self.documents[number as usize];
        let TextFile { path, bytes: expected } = &self.files[document.file as usize];
        let (path, line) = (path.clone(), document.line);
        let (mut file, actual) = files::open(&path)?;
        if actual != *expected {
            return Err(DataError::SizeChanged { path, line, expected: *expected, actual });
        }
        let mut text = vec![0; document.bytes as usize];
        let read = file.seek(SeekFrom::Start(document.offset));
        if let Err(source) = read.and_then(|_| file.read_exact(&mut text)) {
            return Err(DataError::Read { path, line, source });
        }
        let mut hash = Hasher::new();
        hash.bytes(&text);
        if hash != document.hash {
            return Err(DataError::ContentChanged { path, line });
        }
        Ok(match String::from_utf8(text) {
            Ok(text) => text,
            Err(invalid) => String::from_utf8_lossy(invalid.as_bytes()).into_owned(),
        })
    }

    /// The sentences of a document's text. None is blank.
    pub fn sentences<'a>(&self, text: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        let rule = self.sentences;
        text.split('\n').flat_map(move |line| rule.split(line))
    }

    /// Decides for each document by itself whether it is held out, with probability `held_out`: by
    /// a random number whose name is the seed and the number of the document. With 0, none is.
    ///
    /// # Errors
    /// If `held_out` is not from 0 to 1, or one of the two parts would have no document, but for
    /// an empty one that was asked for with 0.
    pub fn split(&self, held_out: f64, seed: u64) -> Result<Split, DataError> {
        if !(0.0..1.0).contains(&held_out) {
            return Err(DataError::InvalidOption {
                option: "held_out",
                expected: "a fraction from 0 up to and without 1",
                found: held_out.to_string(),
            });
        }
        let is_held_out =
            |number| Random::new(seed, Purpose::HeldOut, 0, u64::from(number)).chance(held_out);
        let (held, training): (Vec<u32>, Vec<u32>) =
            (0..self.len() as u32).partition(|&number| is_held_out(number));
        let empty =
            |part| Err(DataError::EmptyPart { part, held_out, documents: self.documents.len() });
        match (training.is_empty(), held.is_empty()) {
            (true, _) => empty("for training"),
            (_, true) if held_out > 0.0 => empty("held out"),
            _ => Ok(Split { training, held_out: held }),
        }
    }
}

/// An index while it is made.
struct Index {
    options: CorpusOptions,
    files: Vec<TextFile>,
    documents: Vec<Document>,
    report: CorpusReport,
}

impl Index {
    /// Adds the documents of one more file.
    fn add(&mut self, path: &Path) -> Result<(), DataError> {
        let mut lines = Lines::open(path, self.options.document_limit)?;
        let mut document: Option<Document> = None;
        while let Some(line) = lines.next_piece()? {
            let is_blank = line.is_blank();
            self.report.invalid_utf8 += line.invalid_utf8();
            if is_blank && line.is_whole && self.options.documents == DocumentRule::BlankLines {
                self.end(path, document.take())?;
                continue;
            }
            let bytes = line.bytes.len() as u32;
            let full =
                document.is_some_and(|open| self.options.document_limit - open.bytes < bytes);
            if full {
                self.report.cut += 1;
                self.end(path, document.take())?;
            }
            if document.is_none() && is_blank {
                continue;
            }
            let open = document.get_or_insert(Document {
                offset: line.offset,
                line: line.number,
                hash: Hasher::new(),
                file: self.files.len() as u32,
                bytes: 0,
            });
            open.bytes += bytes;
            open.hash.bytes(line.bytes);
        }
        self.end(path, document)?;
        self.report.bytes += lines.bytes();
        self.report.lines += lines.lines();
        self.files.push(TextFile { path: path.to_owned(), bytes: lines.bytes() });
        Ok(())
    }

    fn end(&mut self, path: &Path, document: Option<Document>) -> Result<(), DataError> {
        if let Some(document) = document {
            if self.documents.len() == u32::MAX as usize - 1 {
                let (path, line) = (path.to_owned(), document.line);
                return Err(DataError::TooManyDocuments { path, line });
            }
            self.documents.push(document);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A corpus of these texts, each a file, which are gone when it is returned.
    fn open_with(
        texts: &[&[u8]],
        options: CorpusOptions,
    ) -> (tempfile::TempDir, Result<Corpus, DataError>) {
        let folder = tempfile::tempdir().unwrap();
        let write = |(number, text): (usize, &&[u8])| {
            let path = folder.path().join(format!("{number}.txt"));
            std::fs::write(&path, text).unwrap();
            path
        };
        let paths: Vec<PathBuf> = texts.iter().enumerate().map(write).collect();
        let corpus = Corpus::open(&paths, options);
        (folder, corpus)
    }

    /// All documents, as lines.
    fn documents(corpus: &Corpus) -> Vec<Vec<String>> {
        let lines = |number| {
            let text = corpus.read(number).unwrap();
            corpus.sentences(&text).map(str::to_owned).collect()
        };
        (0..corpus.len() as u32).map(lines).collect()
    }

    /// What `documents` should be, made from whole texts.
    fn naive(texts: &[&[u8]], rule: DocumentRule) -> Vec<Vec<String>> {
        let mut documents = Vec::new();
        for text in texts {
            let mut document: Vec<String> = Vec::new();
            for line in String::from_utf8_lossy(text).split('\n') {
                let line = line.trim();
                if !line.is_empty() {
                    document.push(line.to_owned());
                } else if rule == DocumentRule::BlankLines {
                    documents.push(std::mem::take(&mut document));
                }
            }
            documents.push(document);
        }
        documents.retain(|document| !document.is_empty());
        documents
    }

    const LINES: CorpusOptions = CorpusOptions {
        sentences: SentenceRule::Lines,
        documents: DocumentRule::BlankLines,
        document_limit: 1 << 20,
    };

    /// Bytes that are often something special.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let parts: [&[u8]; 14] = [
            b"\n",
            b"\n",
            b"\n\n",
            b"\r\n",
            b" ",
            b"\t",
            b"a",
            b"Bc. D",
            b"\0",
            b"\xff",
            b"\xe2\x80",
            "é".as_bytes(),
            "\u{2028}".as_bytes(),
            "\u{3000}".as_bytes(),
        ];
        prop::collection::vec(prop::sample::select(parts.to_vec()), 0..40)
            .prop_map(|parts| parts.concat())
    }

    #[test]
    fn a_document_costs_32_bytes() {
        assert_eq!(size_of::<Document>(), 32);
    }

    #[test]
    fn prose_is_split_and_lines_are_not() {
        let text = b"One. Two.\nThree\n\n\n  \t\nMr. Four! Five\r\n";
        let (_folder, corpus) = open_with(&[text], CorpusOptions::default());
        assert_eq!(
            documents(&corpus.unwrap()),
            [vec!["One.", "Two.", "Three"], vec!["Mr. Four!", "Five"]]
        );
        let (folder, corpus) = open_with(&[text, b"\n\nSix"], LINES);
        let corpus = corpus.unwrap();
        assert_eq!(documents(&corpus)[0], ["One. Two.", "Three"]);
        let place = |number| (corpus.place(number).0.to_owned(), corpus.place(number).1);
        assert_eq!(place(1), (folder.path().join("0.txt"), 6));
        assert_eq!(place(2), (folder.path().join("1.txt"), 3));
        let report =
            CorpusReport { files: 2, bytes: 43, lines: 9, documents: 3, cut: 0, invalid_utf8: 0 };
        assert_eq!(corpus.report(), report);
    }

    #[test]
    fn long_documents_are_cut_at_lines_and_long_lines_at_spaces() {
        let options = CorpusOptions { document_limit: 10, ..LINES };
        let (_folder, corpus) = open_with(&[b"abc\ndef\nghi\njkl\nmn op qrs tuv\nw"], options);
        let corpus = corpus.unwrap();
        assert_eq!(
            documents(&corpus),
            [vec!["abc", "def"], vec!["ghi", "jkl"], vec!["mn op qrs"], vec!["tuv", "w"]]
        );
        assert_eq!(corpus.report().cut, 3);
        assert_eq!(corpus.place(3).1, 5);
        let (folder, corpus) = open_with(&[b"a\n\nb\nc 0123456789\n"], options);
        let error = corpus.unwrap_err();
        assert!(matches!(error, DataError::LineTooLong { line: 4, limit: 10, .. }), "{error}");
        let place = format!("{}:4:", folder.path().join("0.txt").display());
        assert!(error.to_string().starts_with(&place), "{error}");
    }

    #[test]
    fn the_fingerprint_is_of_the_documents_and_the_rules() {
        let of = |texts: &[&[u8]], options| open_with(texts, options).1.unwrap().fingerprint();
        let one = of(&[b"a\nb\n\nc\n"], LINES);
        assert_eq!(one, of(&[b"\n\na\nb\n\n\n", b"c\n"], LINES));
        for other in [
            of(&[b"a\nb\n\nd\n"], LINES),
            of(&[b"a\n\nb\nc\n"], LINES),
            of(&[b"c\n\na\nb\n"], LINES),
            of(&[b"a\nb\n\nc\n"], CorpusOptions { sentences: SentenceRule::Split, ..LINES }),
            of(&[b"a\nb\n\nc\n"], CorpusOptions { documents: DocumentRule::Files, ..LINES }),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn parts_are_of_the_size_that_was_asked_for() {
        let text = "x\n\n".repeat(10_000);
        let (_folder, corpus) = open_with(&[text.as_bytes()], LINES);
        let corpus = corpus.unwrap();
        let split = corpus.split(0.02, 1).unwrap();
        // Five standard deviations of a binomial: 5 * sqrt(10,000 * 0.02 * 0.98).
        assert!((split.held_out.len() as i64 - 200).abs() < 70, "{}", split.held_out.len());
        assert_eq!(corpus.split(0.02, 1).unwrap(), split);
        assert_ne!(corpus.split(0.02, 2).unwrap(), split);
        assert_eq!(corpus.split(0.0, 1).unwrap().training.len(), 10_000);
        // A part of which nothing is left is an error, whoever wants the other.
        for (held_out, empty) in [(1e-9, "held out"), (1.0 - 1e-9, "for training")] {
            match corpus.split(held_out, 1).unwrap_err() {
                DataError::EmptyPart { part, documents: 10_000, .. } => assert_eq!(part, empty),
                error => panic!("{error}"),
            }
        }
        // More held out is more, not others.
        let more = corpus.split(0.1, 1).unwrap().held_out;
        assert!(split.held_out.iter().all(|number| more.binary_search(number).is_ok()));
    }

    proptest! {
        #[test]
        fn documents_are_those_of_the_naive_form(
            texts in prop::collection::vec(bytes(), 1..4), files in any::<bool>(),
        ) {
            let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
            let rule = if files { DocumentRule::Files } else { DocumentRule::BlankLines };
            let (_folder, corpus) = open_with(&texts, CorpusOptions { documents: rule, ..LINES });
            let expected = naive(&texts, rule);
            if expected.is_empty() {
                let error = corpus.unwrap_err();
                prop_assert!(matches!(error, DataError::NoDocuments { .. }), "{}", error);
                return Ok(());
            }
            let corpus = corpus.unwrap();
            prop_assert_eq!(documents(&corpus), &expected[..]);
            let replaced: usize =
                texts.iter().map(|text| String::from_utf8_lossy(text).matches('\u{fffd}').count()).sum();
            let report = CorpusReport {
                files: texts.len() as u64,
                bytes: texts.concat().len() as u64,
                lines: texts.iter().map(|text| text.split_inclusive(|&b| b == b'\n').count() as u64).sum(),
                documents: expected.len() as u64,
                cut: 0,
                invalid_utf8: replaced as u64,
            };
            prop_assert_eq!(corpus.report(), report);
        }

        /// However short documents must be, no word is lost; or one is longer than a document.
        #[test]
        fn cutting_loses_nothing(text in bytes(), limit in 1..20_u32) {
            let (_folder, corpus) = open_with(&[&text], CorpusOptions { document_limit: limit, ..LINES });
            // A word and the space behind it have to fit.
            let words = text.split_inclusive(u8::is_ascii_whitespace);
            let longest = words.map(<[u8]>::len).max().unwrap_or(0);
            match corpus {
                Err(DataError::LineTooLong { .. }) => prop_assert!(longest > limit as usize),
                Err(DataError::NoDocuments { .. }) => {
                    prop_assert!(naive(&[&text], DocumentRule::BlankLines).is_empty());
                }
                Err(error) => panic!("{error}"),
                Ok(corpus) => {
                    prop_assert!(longest <= limit as usize);
                    prop_assert!(corpus.documents.iter().all(|document| document.bytes <= limit));
                    let words = |text: &str| -> Vec<String> {
                        text.split_whitespace().map(str::to_owned).collect()
                    };
                    let found = documents(&corpus).concat().join(" ");
                    prop_assert_eq!(words(&found), words(&String::from_utf8_lossy(&text)));
                }
            }
        }
    }
}
