//! Small corpora, and what is made of them.
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod naive;

use std::path::PathBuf;
use std::sync::Arc;

use ferrite_models::data::{
    Corpus, CorpusOptions, PretrainingBatch, PretrainingBatches, PretrainingOptions,
};
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

pub(crate) fn batches(
    corpus: &Arc<Corpus>,
    t: &Arc<Tokenizer>,
    o: PretrainingOptions,
) -> PretrainingBatches {
    PretrainingBatches::new(Arc::clone(corpus), Arc::clone(t), o).unwrap()
}

pub(crate) fn held_out(
    corpus: &Arc<Corpus>,
    t: &Arc<Tokenizer>,
    o: PretrainingOptions,
) -> PretrainingBatches {
    PretrainingBatches::held_out(Arc::clone(corpus), Arc::clone(t), o).unwrap()
}

/// The batches whose last sequence is of one of the first epochs, by epoch.
pub(crate) fn epochs(mut batches: PretrainingBatches, epochs: u64) -> Vec<Vec<PretrainingBatch>> {
    let mut all = vec![Vec::new(); epochs as usize];
    loop {
        let batch = batches.next().unwrap().unwrap();
        match all.get_mut(batches.position().epoch as usize) {
            Some(epoch) => epoch.push(batch),
            None => return all,
        }
    }
}

/// A tokenizer with pieces of words.
pub(crate) fn small_tokenizer() -> Arc<Tokenizer> {
    tokenizer(["cat", "dog", "the", ".", "fish", "##s", "##dog", "##fish", "mat"])
}

/// Two hundred documents of words that occur once each.
pub(crate) struct Distinct {
    _files: Files,
    pub(crate) corpus: Arc<Corpus>,
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// The ids of each document.
    pub(crate) documents: Vec<Vec<u32>>,
    /// For each id the document and the place in it.
    pub(crate) places: Vec<Option<(usize, usize)>>,
}

impl Distinct {
    pub(crate) fn new() -> Distinct {
        let sentences: Vec<usize> = (0..200).map(|number| 1 + number * 7 % 23).collect();
        let (text, words) = distinct_words(&sentences);
        let tokenizer = tokenizer(words.concat());
        let id = |word: &String| tokenizer.token_to_id(word).unwrap();
        let documents: Vec<Vec<u32>> =
            words.iter().map(|document| document.iter().map(id).collect()).collect();
        let mut places = vec![None; tokenizer.vocab_size()];
        for (number, ids) in documents.iter().enumerate() {
            for (place, &id) in ids.iter().enumerate() {
                places[id as usize] = Some((number, place));
            }
        }
        let files = Files::new([text]);
        let corpus = files.corpus();
        Distinct { _files: files, corpus, tokenizer, documents, places }
    }

    /// The document of a run of tokens, and where in it the run begins; it must be one.
    pub(crate) fn find(&self, run: &[u32]) -> (usize, usize) {
        let (document, place) = self.places[run[0] as usize].expect("a word");
        assert_eq!(self.documents[document][place..place + run.len()], *run);
        (document, place)
    }
}
