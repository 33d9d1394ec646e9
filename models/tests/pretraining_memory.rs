//! A corpus may be larger than memory: what is held is an index and two shards. Its own process,
//! whose memory is counted on all threads.

mod counting_common;
mod pretraining_common;

use std::sync::Arc;

use counting_common::{forget_peak, now, peak};
use ferrite_models::data::{Corpus, CorpusOptions, PretrainingBatches, PretrainingOptions};
use pretraining_common::{Files, tokenizer};

const DOCUMENTS: usize = 10_000;

#[test]
fn a_corpus_is_an_index_and_two_shards() {
    ten_thousand_documents_are_an_index();
    huge_documents_take_what_was_said();
}

/// As many documents as a shard may have are not held where that is too many bytes.
fn huge_documents_take_what_was_said() {
    let document = "the cat sat. The dog ran.\n".repeat(3000) + "\n";
    let files = Files::new([document.repeat(300)]);
    let corpus = files.corpus();
    let tokenizer = tokenizer(["the", "cat", "dog", "sat", "ran", "."]);
    let options = PretrainingOptions { shard_bytes: 1 << 20, ..Default::default() };
    let said = options.memory(&corpus) as usize;
    let before = forget_peak();
    let mut batches = PretrainingBatches::new(corpus, tokenizer, options).unwrap();
    assert!((23..=24).contains(&batches.shards()), "{}", batches.shards());
    while batches.position().shard < 8 {
        batches.next().unwrap().unwrap();
    }
    let held = peak() - before;
    println!("{held} in use for shards, {said} said");
    assert!(held <= said && held >= said / 4, "{held} in use for shards, {said} said");
}

fn ten_thousand_documents_are_an_index() {
    let document = "the cat sat. The dog ran.\n".repeat(80) + "\n";
    let text = document.repeat(DOCUMENTS);
    let bytes = text.len();
    let files = Files::new([text]);
    let tokenizer = tokenizer(["the", "cat", "dog", "sat", "ran", "."]);

    let before = forget_peak();
    let corpus = Arc::new(Corpus::open(&files.paths, CorpusOptions::default()).unwrap());
    assert_eq!(corpus.len(), DOCUMENTS);
    let index = now() - before;
    let opening = peak() - before;
    println!("{bytes} bytes of text, {index} held, {opening} while it was read");
    assert!(index < DOCUMENTS * 32 + 4096, "{index}");
    // A list that grows is there twice, three times in size; and buffers.
    assert!(opening < DOCUMENTS * 32 * 4 + (1 << 18), "{opening}");

    let options = PretrainingOptions { shard_documents: 64, ..Default::default() };
    let mut batches = PretrainingBatches::new(corpus, tokenizer, options).unwrap();
    forget_peak();
    let mut shards = 0;
    while shards < 8 {
        batches.next().unwrap().unwrap();
        shards = batches.position().shard;
    }
    let running = peak() - before;
    println!("{running} in use during {shards} shards");
    // A shard is 64 * 560 tokens, some 300 KB as tokens and twice that as sequences.
    assert!(running < bytes / 4, "{running} of {bytes}");
}
