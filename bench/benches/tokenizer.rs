//! Lines of text to ids, one thread; with `--features peers` beside the crate `tokenizers`, release
//! 1.0.0-rc.3, whose ids are compared with Ferrite's first.
//!
//! `FERRITE_TEST_MODEL` names a folder with a published BERT's `tokenizer.json`, and
//! `FERRITE_BENCH_TEXT` a file of real text. Without them the vocabulary is that of the tokenizer's
//! tests, and the lines are made up: words with the frequencies of a language, some with endings
//! that have to be cut off, some capital, with punctuation.

use std::time::Duration;

use criterion::{Criterion, Throughput};
use ferrite_tokenizer::{EncodeOptions, Encoding, Scratch, Tokenizer};

#[path = "../../tokenizer/tests/common/mod.rs"]
mod common;

use common::{ENDINGS, Rng, WORDS};

fn main() {
    let mut criterion = Criterion::default()
        .measurement_time(Duration::from_secs(5))
        .warm_up_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args();
    let file = match std::env::var("FERRITE_TEST_MODEL") {
        Ok(dir) => {
            let path = std::path::Path::new(&dir).join("tokenizer.json");
            std::fs::read_to_string(path).expect("a readable tokenizer.json")
        }
        Err(_) => common::tokenizer_json().to_string(),
    };
    let lines = lines();
    let bytes: usize = lines.iter().map(String::len).sum();
    let tokenizer = Tokenizer::from_json_str(&file).expect("a BERT tokenizer");
    #[cfg(feature = "peers")]
    let peer = peer::Peer::load(&file, &tokenizer, &lines);

    let mut group = criterion.benchmark_group("tokenizer");
    group.throughput(Throughput::Bytes(bytes as u64));
    let options = EncodeOptions::default();
    group.bench_function("ferrite encode_into", |b| {
        let (mut out, mut scratch) = (Encoding::default(), Scratch::new());
        b.iter(|| {
            let mut tokens = 0;
            for line in &lines {
                let result = tokenizer.encode_into(line, None, &options, &mut out, &mut scratch);
                result.expect("encodes");
                tokens += out.len();
            }
            tokens
        });
    });
    group.bench_function("ferrite encode", |b| {
        b.iter(|| {
            let encode = |line: &String| tokenizer.encode(line, None, &options).expect("encodes");
            lines.iter().map(|line| encode(line).len()).sum::<usize>()
        });
    });
    #[cfg(feature = "peers")]
    peer.bench(&mut group, &lines);
    group.finish();
    criterion.final_summary();
}

/// The lines to encode, two megabytes or what the file has.
fn lines() -> Vec<String> {
    if let Ok(file) = std::env::var("FERRITE_BENCH_TEXT") {
        let text = std::fs::read_to_string(file).expect("a readable text");
        return text.lines().map(str::to_owned).collect();
    }
    let mut rng = Rng(11);
    (0..30_000).map(|_| line(&mut rng)).collect()
}

fn line(rng: &mut Rng) -> String {
    let mut line = String::new();
    for i in 0..6 + rng.below(16) {
        // The nth word comes about once where the first comes n times (Zipf's law).
        let n = (WORDS.len() as f64).powf(rng.next() as f64 / u64::MAX as f64);
        let word = WORDS[(n as usize - 1).min(WORDS.len() - 1)];
        let (head, tail) = word.split_at(1);
        if i == 0 {
            line.push_str(&head.to_uppercase());
        } else {
            line.push(' ');
            line.push_str(head);
        }
        line.push_str(tail);
        if rng.below(8) == 0 {
            line.push_str(rng.pick(ENDINGS));
        }
        if rng.below(12) == 0 {
            line.push_str(rng.pick(&[",", ";", ":", "'s", " -"]));
        }
    }
    line.push('.');
    line
}

#[cfg(feature = "peers")]
mod peer {
    use criterion::{BenchmarkGroup, measurement::WallTime};
    use ferrite_tokenizer::{EncodeOptions as Options, Tokenizer};
    use tokenizers::pipeline::{EncodeOptions, Override, PipelineTokenizer};

    pub(crate) struct Peer {
        tokenizer: PipelineTokenizer,
        options: EncodeOptions,
    }

    impl Peer {
        /// Loads the same file and compares the ids of every line.
        pub(crate) fn load(file: &str, ours: &Tokenizer, lines: &[String]) -> Self {
            let canonical = tokenizers::canonicalize_str(file).expect("a tokenizer.json");
            let tokenizer = tokenizers::from_json(&canonical).expect("a BERT tokenizer");
            let options = EncodeOptions {
                padding: Override::Off,
                truncation: Override::Off,
                ..EncodeOptions::default()
            };
            let peer = Self { tokenizer, options };
            let mut differ = 0;
            for line in lines {
                let expected = ours.encode(line, None, &Options::default()).expect("encodes").ids;
                let same = peer.ids(line).eq(expected);
                // Its Unicode tables are newer: see the tests of ferrite-tokenizer.
                assert!(same || !line.is_ascii(), "ids differ for {line:?}");
                differ += usize::from(!same);
            }
            println!("the ids of {} lines are equal, of {differ} not", lines.len() - differ);
            peer
        }

        fn ids(&self, line: &str) -> impl Iterator<Item = u32> {
            let encodings = self.tokenizer.encode(line, &self.options).wait().expect("encodes");
            encodings.into_iter().flat_map(|e| e.ids().to_vec()).map(|token| token.id())
        }

        pub(crate) fn bench(&self, group: &mut BenchmarkGroup<'_, WallTime>, lines: &[String]) {
            group.bench_function("tokenizers encode", |b| {
                b.iter(|| {
                    let mut tokens = 0;
                    for line in lines {
                        let encodings = self.tokenizer.encode(line.as_str(), &self.options);
                        tokens += encodings.wait().expect("encodes")[0].len();
                    }
                    tokens
                });
            });
            // Without special tokens, since its reused buffer takes no others.
            let options = EncodeOptions { add_special_tokens: false, ..self.options.clone() };
            group.bench_function("tokenizers encode_into", |b| {
                let mut out = Vec::new();
                b.iter(|| {
                    let mut tokens = 0;
                    for line in lines {
                        out.clear();
                        self.tokenizer.encode_into(line, &options, &mut out).expect("encodes");
                        tokens += out.len();
                    }
                    tokens
                });
            });
        }
    }
}
