//! Text files as they are and should not be: every one gives batches or a typed error that names
//! the place, and nothing panics.

mod pretraining_common;

use std::sync::Arc;

use ferrite_models::Error;
use ferrite_models::data::{
    BatchSize, Corpus, CorpusOptions, DataError, DocumentRule, PretrainingBatch,
    PretrainingBatches, PretrainingOptions,
};
use ferrite_models::tokenizer::Tokenizer;
use pretraining_common::{Files, distinct_words, restored, tokenizer};

const UNK: u32 = 1;

fn words() -> Arc<Tokenizer> {
    tokenizer(["a", "b", "c", "."])
}

fn run(files: &Files, options: PretrainingOptions) -> PretrainingBatches {
    PretrainingBatches::new(files.corpus(), words(), options).unwrap()
}

/// The first sequences of a corpus of these files, unmasked.
fn sequences(texts: &[&[u8]]) -> Vec<Vec<u32>> {
    let files = Files::new(texts);
    let options = PretrainingOptions { batch: BatchSize::Sequences(50), ..Default::default() };
    restored(&run(&files, options).next().unwrap().unwrap())
}

#[test]
fn files_without_text_are_errors() {
    for texts in [&[][..], &[""], &["", "\n"], &["\n \r\n\t\n\u{3000}\n"]] {
        let files = Files::new(texts);
        let error = Corpus::open(&files.paths, CorpusOptions::default()).unwrap_err();
        assert!(matches!(error, DataError::NoDocuments { files } if files == texts.len()));
        assert!(!error.to_string().is_empty());
    }
    // Lines that are not blank, but have no token: control characters are no text.
    for text in [&b"\0\0\n\0"[..], b"\x01", b"\xff\n\xfe", "\u{feff}".as_bytes()] {
        let files = Files::new([text]);
        let mut run = run(&files, PretrainingOptions::default());
        for _ in 0..2 {
            let error = run.next().unwrap().unwrap_err();
            assert!(matches!(error, DataError::NoInstances { documents: 1 }), "{error}");
        }
    }
}

#[test]
fn odd_text_is_read() {
    let plain = sequences(&[b"a b. A c.\n\nc c.\n"]);
    assert!(!plain.is_empty());
    // The same words, with line ends of another system, an empty file, NUL bytes, a mark at the
    // beginning.
    assert_eq!(sequences(&[b"a b. A c.\r\n\r\nc c.\r\n"]), plain);
    assert_eq!(sequences(&[b"", b"a b. A c.\n", b"", b"c c."]), plain);
    assert_eq!(sequences(&[b"a\0 b. A c.\n\nc \0c.\n"]), plain);
    assert_eq!(sequences(&["\u{feff}a b. A c.\n\nc c.\n".as_bytes()]), plain);
    // No blank line: one document, whose random segments are its own.
    assert!(sequences(&[&b"a b. A c.\n".repeat(1000)]).iter().all(|ids| ids.len() <= 128));

    let files = Files::new([&b"a \xff b. \xc3( c\n"[..]]);
    assert_eq!(files.corpus().report().invalid_utf8, 2);
    run(&files, PretrainingOptions::default()).next().unwrap().unwrap();
}

#[test]
fn a_megabyte_without_a_space_is_an_unknown_word() {
    let long = vec![b'x'; 1 << 20];
    for ids in sequences(&[&long, b"a b c"]) {
        assert!(ids.contains(&UNK) || ids.contains(&5), "{ids:?}");
    }
    // With spaces and without an end it is one sentence, cut to what fits.
    let lengths: Vec<usize> =
        sequences(&[&b"a ".repeat(1 << 19), b"b"]).iter().map(Vec::len).collect();
    assert!(lengths.contains(&128), "{lengths:?}");
    // Longer than any document may be.
    let options = CorpusOptions { document_limit: 1 << 19, ..CorpusOptions::default() };
    let files = Files::new([&[b"a\n\n".as_slice(), &long].concat()]);
    let error = Corpus::open(&files.paths, options).unwrap_err();
    assert!(matches!(error, DataError::LineTooLong { line: 3, .. }), "{error}");
    let zero = CorpusOptions { document_limit: 0, ..CorpusOptions::default() };
    let error = Corpus::open(&files.paths, zero).unwrap_err();
    assert!(matches!(error, DataError::InvalidOption { option: "document_limit", .. }));
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let files = Files::new(["a b c."]);
    let missing = files.folder.path().join("missing.txt");
    let open = |path| Corpus::open([&files.paths[0], path], CorpusOptions::default()).unwrap_err();
    let error = open(&missing);
    assert!(matches!(&error, DataError::File(Error::Io { path, .. }) if *path == missing));
    assert!(error.to_string().contains("missing.txt"));
    let folder = files.folder.path().to_owned();
    let error = open(&folder);
    assert!(matches!(&error, DataError::File(Error::NotAFile { path }) if *path == folder));

    let corpus = files.corpus();
    std::fs::remove_file(&files.paths[0]).unwrap();
    let error = corpus.read(0).unwrap_err();
    assert!(matches!(&error, DataError::File(Error::Io { path, .. }) if *path == files.paths[0]));
}

/// The shard with the error is made in the background; what was made before is still given, and
/// when the file is as it was, the run goes on as if nothing had been.
#[test]
fn a_file_that_changes_under_a_run_is_an_error_and_the_run_goes_on() {
    let (text, words) = distinct_words(&[6; 40]);
    let tokenizer = tokenizer(words.concat());
    let files = Files::new([&text, "\n\n\nw1 w2 w3\n"]);
    let options = PretrainingOptions {
        shard_documents: 4,
        batch: BatchSize::Sequences(3),
        ..Default::default()
    };
    let fresh = || PretrainingBatches::new(files.corpus(), tokenizer.clone(), options).unwrap();
    let expected: Vec<PretrainingBatch> = fresh().take(100).map(Result::unwrap).collect();

    // All at once: a file that is half written would be seen as it is.
    let replace = |text: &str| {
        let new = files.folder.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &files.paths[0]).unwrap();
    };
    let shrunk = text[..text.len() / 2].to_owned();
    let grown = format!("{text}\nmore\n");
    let other = text.replace('w', "v");
    for (number, changed) in [shrunk, grown, other, String::new()].into_iter().enumerate() {
        let mut run = fresh();
        let mut got: Vec<_> = (0..2 + number).map(|_| run.next().unwrap().unwrap()).collect();
        replace(&changed);
        let error = loop {
            let before = run.position();
            match run.next().unwrap() {
                Ok(batch) => got.push(batch),
                Err(error) => {
                    assert_eq!(run.position(), before);
                    break error;
                }
            }
            assert!(got.len() < 50, "the change was not seen");
        };
        let named = format!("{}:", files.paths[0].display());
        assert!(error.to_string().starts_with(&named), "{error}");
        match error {
            DataError::SizeChanged { expected, actual, line, .. } => {
                assert_ne!(changed.len(), text.len());
                assert_eq!((expected, actual), (text.len() as u64, changed.len() as u64));
                assert_eq!(line % 7, 1);
            }
            DataError::ContentChanged { line, .. } => {
                assert_eq!(changed.len(), text.len());
                assert_eq!(line % 7, 1);
            }
            error => panic!("{error}"),
        }
        assert!(run.next().unwrap().is_err());
        replace(&text);
        got.extend(run.take(40).map(Result::unwrap));
        assert_eq!(got, expected[..got.len()]);
    }
}

#[test]
fn a_run_that_is_dropped_waits_for_nobody() {
    let text = "a b c. A b c.\n\n".repeat(20_000);
    let files = Files::new([text]);
    let options = PretrainingOptions { shard_documents: 10_000, ..Default::default() };
    let mut run = run(&files, options);
    run.next().unwrap().unwrap();
    // The second shard is being made: it is given up, or done.
    let started = std::time::Instant::now();
    drop(run);
    assert!(started.elapsed().as_secs() < 10);
}

#[test]
fn a_file_may_be_a_document() {
    let files = Files::new(["a.\n\nB.\n", "\n\n c.\n"]);
    let options = CorpusOptions { documents: DocumentRule::Files, ..CorpusOptions::default() };
    let corpus = Corpus::open(&files.paths, options).unwrap();
    assert_eq!(corpus.len(), 2);
    let text = corpus.read(0).unwrap();
    assert_eq!(corpus.sentences(&text).collect::<Vec<_>>(), ["a.", "B."]);
}
