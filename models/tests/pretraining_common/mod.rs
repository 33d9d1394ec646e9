//! Small corpora, and what is made of them.
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod naive;

use std::path::PathBuf;
use std::sync::Arc;

use ferrite_models::data::{Corpus, CorpusOptions, PretrainingBatch};
use ferrite_models::tokenizer::{Tokenizer, VocabOptions};
use tempfile::TempDir;

/// Files in a folder of their own.
pub(crate) struct Files {
    pub(crate) folder: TempDir,
    pub(crate) paths: Vec<PathBuf>,
}

impl Files {
    pub(crate) fn new<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> Files {
        let folder = tempfile::tempdir().unwrap();
        let write = |(number, text): (usize, T)| {
            let path = folder.path().join(format!("{number}.txt"));
            std::fs::write(&path, text).unwrap();
            path
        };
        let paths = texts.into_iter().enumerate().map(write).collect();
        Files { folder, paths }
    }

    pub(crate) fn corpus(&self) -> Arc<Corpus> {
        Arc::new(Corpus::open(&self.paths, CorpusOptions::default()).unwrap())
    }
}

/// The special tokens and these words.
pub(crate) fn tokenizer<T: Into<String>>(words: impl IntoIterator<Item = T>) -> Arc<Tokenizer> {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
    let vocabulary = special.into_iter().chain(words.into_iter().map(Into::into));
    Arc::new(Tokenizer::from_vocab(vocabulary, VocabOptions::default()).unwrap())
}

/// The text of documents whose words are `w0`, `w1`, ... and occur once each: `documents[d]` is the
/// number of sentences, each has from 1 to 7 words.
pub(crate) fn distinct_words(documents: &[usize]) -> (String, Vec<Vec<String>>) {
    let (mut text, mut words, mut next) = (String::new(), Vec::new(), 0);
    for (number, &sentences) in documents.iter().enumerate() {
        let mut document = Vec::new();
        for sentence in 0..sentences {
            let length = 1 + (number * 31 + sentence * 17) % 7;
            let line: Vec<String> = (next..next + length).map(|n| format!("w{n}")).collect();
            next += length;
            text.push_str(&line.join(" "));
            text.push('\n');
            document.extend(line);
        }
        text.push('\n');
        words.push(document);
    }
    (text, words)
}

/// The ids of a batch's sequences as they were before they were masked.
pub(crate) fn restored(batch: &PretrainingBatch) -> Vec<Vec<u32>> {
    let mut ids = batch.batch.ids().to_vec();
    for (&row, &target) in batch.positions.iter().zip(&batch.targets) {
        ids[row as usize] = target;
    }
    batch.batch.sequences().iter().map(|rows| ids[rows].to_vec()).collect()
}
