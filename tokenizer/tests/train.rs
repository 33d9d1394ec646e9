//! Training from texts to files: what comes out is one result, however the texts come in, and is
//! read alike by Ferrite and by the `tokenizers` crate.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use common::{Rng, SENTENCES, WORDS, random_text, vocab};
use ferrite_tokenizer::train::{FILES, PairScore, Stop, Trained};
use ferrite_tokenizer::{EncodeOptions, Error, Tokenizer, TrainerOptions, WordPieceTrainer};
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};

/// Lines of words with endings, some of them with accents or ideographs, punctuated.
fn corpus(lines: usize) -> Vec<String> {
    let endings = ["", "s", "ing", "ed", "er", "é", "ness", "日本", "-"];
    let mut rng = Rng(7);
    let mut line = || {
        let words = (0..rng.below(12)).map(|_| {
            // The product of two is smaller more often, so that some words are frequent.
            let word = WORDS[rng.below(WORDS.len()) * rng.below(WORDS.len()) / WORDS.len()];
            let word = format!("{word}{}{}", rng.pick(&endings), rng.pick(&endings));
            if rng.below(5) == 0 { word.to_uppercase() } else { word }
        });
        words.collect::<Vec<_>>().join(" ") + rng.pick(&[".", "", "!?"])
    };
    (0..lines).map(|_| line()).chain(SENTENCES.iter().map(|&line| line.to_owned())).collect()
}

fn options(vocab_size: usize, score: PairScore) -> TrainerOptions {
    TrainerOptions { vocab_size, score, ..TrainerOptions::default() }
}

fn train(options: TrainerOptions, text: &str) -> Trained {
    let mut trainer = WordPieceTrainer::new(options).expect("valid");
    trainer.feed("corpus", text.as_bytes()).expect("UTF-8");
    trainer.train(|_| ()).expect("has words")
}

/// Hands out a few bytes at a time.
struct Dribble<'a>(&'a [u8], Rng);

impl Read for Dribble<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.1.below(9) == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let length = (1 + self.1.below(50)).min(self.0.len()).min(out.len());
        let (now, later) = self.0.split_at(length);
        out[..length].copy_from_slice(now);
        self.0 = later;
        Ok(length)
    }
}

#[test]
fn the_result_depends_on_the_words_alone() {
    let mut lines = corpus(6000);
    let text = lines.join("\n");
    for score in [PairScore::Count, PairScore::Likelihood] {
        let expected = train(options(600, score), &text);
        assert_eq!((expected.tokens().len(), expected.stop()), (600, Stop::Size));
        for threads in [1, 2, 3, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("few");
            let found = pool.install(|| train(options(600, score), &text));
            assert_eq!(found.tokens(), expected.tokens(), "{threads} threads");
            assert_eq!(found.summary(), expected.summary(), "{threads} threads");
        }
        let mut rng = Rng(11);
        for _ in 0..3 {
            for last in (1..lines.len()).rev() {
                lines.swap(last, rng.below(last + 1));
            }
            let found = train(options(600, score), &lines.join("\n"));
            assert_eq!(found.tokens(), expected.tokens());
        }
        // In several files, by small reads, line by line.
        let (half, mut parts) =
            (lines.len() / 2, WordPieceTrainer::new(options(600, score)).unwrap());
        parts.feed("one", Dribble(lines[..half].join("\n").as_bytes(), Rng(1))).expect("UTF-8");
        lines[half..].iter().for_each(|line| parts.count(line));
        assert_eq!(parts.words(), expected.summary().words);
        assert_eq!(parts.train(|_| ()).expect("has words").tokens(), expected.tokens());
    }
}

#[test]
fn every_word_of_the_corpus_can_be_encoded() {
    let lines = corpus(2000);
    for score in [PairScore::Count, PairScore::Likelihood] {
        for lowercase in [true, false] {
            let options = TrainerOptions { lowercase, ..options(800, score) };
            let trained = train(options, &lines.join("\n"));
            let tokens = trained.tokens();
            assert_eq!(tokens[..5], ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]);
            assert_eq!(tokens.iter().collect::<BTreeSet<_>>().len(), tokens.len());
            let tokenizer = trained.tokenizer().expect("a vocabulary");
            assert_eq!(tokenizer.vocab_size(), tokens.len());
            for line in &lines {
                let encoding = tokenizer.encode(line, None, &EncodeOptions::default()).unwrap();
                assert_eq!(encoding.unknown, 0, "{line:?}");
            }
            if score == PairScore::Count {
                // The most frequent words are tokens.
                for word in ["the", "of", "and", "##ing", "##ness"] {
                    assert!(tokenizer.token_to_id(word).is_some(), "{word}");
                }
            }
        }
    }
}

#[test]
fn saved_files_are_read_alike_by_everyone() {
    let lines = corpus(2000);
    for lowercase in [true, false] {
        let mut options = TrainerOptions { lowercase, ..options(700, PairScore::Count) };
        options.special_tokens.push("[unused0]".into());
        let trained = train(options, &lines.join("\n"));
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("a/b");
        trained.save(&inner).expect("saved");
        // Again, over the first.
        trained.save(&inner).expect("saved");
        let mut names: Vec<_> =
            std::fs::read_dir(&inner).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        let mut expected = FILES;
        expected.sort();
        assert_eq!(names, expected);

        let whole = Tokenizer::from_pretrained(&inner).expect("valid");
        assert_eq!(whole.warnings(), [""; 0]);
        let direct = trained.tokenizer().expect("a vocabulary");
        let theirs = tokenizers::Tokenizer::from_file(inner.join("tokenizer.json")).expect("valid");
        std::fs::remove_file(inner.join("tokenizer.json")).unwrap();
        let plain = Tokenizer::from_pretrained(&inner).expect("valid");
        assert_eq!(theirs.get_vocab_size(true), trained.tokens().len());
        for (token, id) in trained.tokens().iter().zip(0..) {
            assert_eq!(theirs.token_to_id(token), Some(id));
            assert_eq!(plain.id_to_token(id), Some(token.as_str()));
        }
        let extra = ["[CLS] Café [MASK]", "日本語 naïve", "unknownŦ [unused0]"].map(String::from);
        for line in lines.iter().chain(&extra) {
            let options = EncodeOptions::default();
            let ours = whole.encode(line, Some("the end"), &options).unwrap();
            let reference = theirs.encode((line.as_str(), "the end"), true).expect("encoded");
            assert_eq!(ours.ids, reference.get_ids(), "{line:?}");
            assert_eq!(direct.encode(line, Some("the end"), &options).unwrap(), ours, "{line:?}");
            // `vocab.txt` does not say that [unused0] is special.
            if !line.contains("[unused0]") {
                assert_eq!(plain.encode(line, Some("the end"), &options).unwrap(), ours);
            }
        }
    }
}

/// Wherever a crash cuts off the replacing of files, the folder has the old tokenizer, none, or the
/// new one.
#[test]
fn files_come_into_their_places_in_an_order_that_can_stop_anywhere() {
    let cased = |lowercase| TrainerOptions { lowercase, ..options(60, PairScore::Count) };
    let [old, new] = [(true, "ab ab Cd cd"), (false, "XY Xy XY zz zz Zz")].map(|(case, text)| {
        let folder = tempfile::tempdir().unwrap();
        train(cased(case), text).save(folder.path()).unwrap();
        folder
    });
    let encode = |tokenizer: &Tokenizer| {
        tokenizer.encode("ab Cd XY zz Zz", None, &EncodeOptions::default()).unwrap()
    };
    let of = |folder: &tempfile::TempDir| encode(&Tokenizer::from_pretrained(folder).unwrap());
    assert_ne!(of(&old), of(&new));
    for replaced in 0..=FILES.len() {
        for begin in [Some(&old), None] {
            let folder = tempfile::tempdir().unwrap();
            for (from, number) in [(begin, FILES.len()), (Some(&new), replaced)] {
                for name in FILES.iter().take(if from.is_some() { number } else { 0 }) {
                    let from = from.unwrap().path().join(name);
                    std::fs::copy(from, folder.path().join(name)).unwrap();
                }
            }
            match (Tokenizer::from_pretrained(&folder), begin) {
                (Ok(found), Some(old)) if replaced < FILES.len() => {
                    assert_eq!(encode(&found), of(old), "{replaced}");
                }
                (Ok(found), _) => assert_eq!(encode(&found), of(&new), "{replaced}"),
                (Err(Error::NoTokenizer { .. }), None) => assert!(replaced < FILES.len()),
                (Err(error), _) => panic!("{replaced}: {error}"),
            }
        }
    }
}

#[test]
fn a_file_that_cannot_be_written_leaves_the_old_ones() {
    let folder = tempfile::tempdir().unwrap();
    train(options(60, PairScore::Count), "ab ab cd").save(folder.path()).unwrap();
    let read = || FILES.map(|name| std::fs::read(folder.path().join(name)).unwrap());
    let before = read();
    // What is written aside is in the way of each file in turn.
    for name in FILES {
        let partial = folder.path().join(format!("{name}.partial"));
        std::fs::create_dir(&partial).unwrap();
        let other = train(options(60, PairScore::Count), "xy xy zz");
        let error = other.save(folder.path()).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert!(read() == before, "{name}");
        std::fs::remove_dir(&partial).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), FILES.len());
    }
}

#[test]
fn lossy_text_counts_as_the_text_that_it_is_read_as() {
    let text =
        b"caf\xE9 au lait, caf\xE9\xE2\x80 au\xFFlait\n\xC3\xA9t\xC3\xA9 \xF0\x9F".repeat(50);
    let mut lossy = WordPieceTrainer::new(options(60, PairScore::Count)).unwrap();
    lossy.feed_lossy("mixed", Dribble(&text, Rng(3))).unwrap();
    let mut replaced = WordPieceTrainer::new(options(60, PairScore::Count)).unwrap();
    replaced.count(&String::from_utf8_lossy(&text));
    let (lossy, replaced) = (lossy.train(|_| ()).unwrap(), replaced.train(|_| ()).unwrap());
    assert_eq!(lossy.tokens(), replaced.tokens());
    assert_eq!(lossy.summary(), replaced.summary());
    assert!(lossy.tokens().iter().all(|token| !token.contains('\u{FFFD}')));
}

#[test]
fn an_end_before_the_size_is_explained() {
    let whole =
        train(TrainerOptions { min_frequency: 1, ..options(100, PairScore::Count) }, "ab ab cd");
    assert_eq!((whole.stop(), whole.tokens().len()), (Stop::Whole, 5 + 4 + 2 + 2));
    let rare = train(options(100, PairScore::Count), "ab ab cd");
    assert_eq!((rare.stop(), rare.summary().merges), (Stop::Rare, 1));
    assert_eq!(rare.tokens()[5..], ["a", "b", "c", "d", "##b", "##d", "ab"]);
    let mut seen = Vec::new();
    let mut trainer = WordPieceTrainer::new(options(100, PairScore::Count)).unwrap();
    trainer.count("ab ab cd");
    trainer.train(|progress| seen.push((progress.tokens, progress.wanted))).unwrap();
    assert_eq!(seen, [(11, 100), (12, 100)]);
}

#[test]
fn faults_are_typed() {
    let new = |options| WordPieceTrainer::new(options);
    let empty = new(TrainerOptions::default()).unwrap().train(|_| ());
    assert!(matches!(empty, Err(Error::EmptyCorpus)));
    let mut blank = new(TrainerOptions::default()).unwrap();
    blank.count(" \n\t\u{AD}");
    assert!(matches!(blank.train(|_| ()), Err(Error::EmptyCorpus)));

    let mut small = new(options(11, PairScore::Count)).unwrap();
    small.count("abc abd");
    let error = small.train(|_| ()).unwrap_err();
    assert!(matches!(error, Error::VocabTooSmall { size: 11, specials: 5, letters: 7 }), "{error}");

    let mut trainer = new(TrainerOptions::default()).unwrap();
    let error = trainer.feed("latin1.txt", &b"caf\xE9 au lait"[..]).unwrap_err();
    assert_eq!(error.to_string(), "latin1.txt: not valid UTF-8 at byte 3");
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }
    assert_eq!(trainer.feed("disk", Broken).unwrap_err().to_string(), "disk: gone");

    for (specials, token) in [
        (&["[PAD]", "[UNK]", "[CLS]", "[SEP]"][..], "[MASK]"),
        (&["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[CLS]"], "[CLS]"),
        (&["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ""], ""),
        (&["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a b"], "a b"),
    ] {
        let special_tokens = specials.iter().map(|&token| token.into()).collect();
        match new(TrainerOptions { special_tokens, ..TrainerOptions::default() }) {
            Err(Error::BadSpecialToken { token: found, .. }) => assert_eq!(found, token),
            other => panic!("{specials:?}: {other:?}"),
        }
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = train(TrainerOptions::default(), "ab").save(file.path().join("x")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
}

#[test]
fn limits_are_kept_and_reported() {
    let long = "x".repeat(101);
    let text = format!("{long} {long} {} ab ab żb", "y".repeat(100));
    let options = TrainerOptions {
        limit_alphabet: 3,
        strip_accents: Some(false),
        ..options(50, PairScore::Count)
    };
    let trained = train(options.clone(), &text);
    let summary = trained.summary();
    assert_eq!((summary.words, summary.distinct_words, summary.long_words), (4, 3, 2));
    assert_eq!((summary.characters, summary.alphabet), (4, 3));
    assert_eq!((summary.left_out_words, summary.left_out_occurrences), (1, 1));
    assert!(!trained.tokens().iter().any(|token| token.contains(['x', 'ż'])));

    // Four words at most: then three stay, the most frequent and of equals the first.
    let mut bounded = WordPieceTrainer::new(TrainerOptions { max_words: 4, ..options }).unwrap();
    bounded.count("a a b b d d c c");
    assert_eq!(bounded.distinct_words(), 4);
    bounded.count("e a");
    assert_eq!(bounded.distinct_words(), 3);
    let trained = bounded.train(|_| ()).unwrap();
    let summary = trained.summary();
    assert_eq!((summary.words, summary.distinct_words, summary.dropped_words), (10, 3, 2));
    assert_eq!(summary.characters, 5);
    assert_eq!(trained.tokens()[5..], ["a", "b", "c"]);
}

/// 200,000 distinct words and 20,000 tokens. It takes seconds, where counting anew before each
/// merge would take hours.
#[test]
fn large_vocabularies_are_made_at_once() {
    let mut rng = Rng(3);
    let mut words = BTreeSet::new();
    let syllables: Vec<String> = (0..800)
        .map(|_| {
            let letter =
                |rng: &mut Rng| (b'a' + (rng.below(26) * rng.below(26) / 26) as u8) as char;
            (0..2 + rng.below(3)).map(|_| letter(&mut rng)).collect()
        })
        .collect();
    while words.len() < 200_000 {
        let mut syllable = || &*syllables[rng.below(800) * rng.below(800) / 800];
        let word = [syllable(), syllable(), syllable()].concat();
        words.insert(word);
    }
    let mut words: Vec<String> = words.into_iter().collect();
    for last in (1..words.len()).rev() {
        words.swap(last, rng.below(last + 1));
    }
    // The frequencies of Zipf's law.
    let line = |(rank, word): (usize, String)| format!("{word} ").repeat(1 + 200_000 / (rank + 1));
    let text: String = words.into_iter().enumerate().map(line).collect();
    for score in [PairScore::Count, PairScore::Likelihood] {
        let trained = train(options(20_000, score), &text);
        assert_eq!(trained.tokens().len(), 20_000);
        assert_eq!(trained.summary().distinct_words, 200_000);
    }
}

/// The words of a line as the `tokenizers` crate has them.
fn reference_words(line: &str, lowercase: bool) -> Vec<String> {
    let mut line = NormalizedString::from(line);
    BertNormalizer::new(true, true, None, lowercase).normalize(&mut line).expect("normalised");
    let mut line = PreTokenizedString::from(line);
    BertPreTokenizer.pre_tokenize(&mut line).expect("split");
    let words = line.get_splits(OffsetReferential::Original, OffsetType::Byte).into_iter();
    words.map(|(word, _, _)| word.to_owned()).collect()
}

#[test]
fn words_and_characters_are_those_of_the_tokenizers_crate() {
    let (vocab, mut rng) = (vocab(), Rng(5));
    let mut lines: Vec<String> = (0..20_000).map(|_| random_text(&mut rng, &vocab)).collect();
    lines.extend(corpus(1000));
    for lowercase in [true, false] {
        let mut words: BTreeMap<String, u64> = BTreeMap::new();
        let mut long = 0;
        for word in lines.iter().flat_map(|line| reference_words(line, lowercase)) {
            if word.chars().count() > 100 {
                long += 1;
            } else {
                *words.entry(word).or_default() += 1;
            }
        }
        let characters: BTreeSet<char> = words.keys().flat_map(|word| word.chars()).collect();
        let inside: BTreeSet<char> = words.keys().flat_map(|word| word.chars().skip(1)).collect();
        let options = TrainerOptions {
            lowercase,
            min_frequency: u64::MAX,
            limit_alphabet: usize::MAX,
            ..options(1 << 20, PairScore::Count)
        };
        // A line of these may have line breaks in it; they end words all the same.
        let trained = train(options, &lines.join("\n"));
        let summary = trained.summary();
        assert_eq!(summary.words, words.values().sum::<u64>());
        assert_eq!((summary.distinct_words, summary.long_words), (words.len(), long));
        let expected = characters.iter().map(char::to_string);
        let expected: Vec<_> = expected.chain(inside.iter().map(|c| format!("##{c}"))).collect();
        assert_eq!(trained.tokens()[5..], expected);
    }
}

#[test]
fn the_bound_on_memory_is_the_same_at_any_number_of_threads() {
    let lines = corpus(3000);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("few");
        let options = TrainerOptions { max_words: 1000, ..options(500, PairScore::Count) };
        let mut trainer = WordPieceTrainer::new(options).expect("valid");
        pool.install(|| {
            for part in lines.chunks(500) {
                trainer.feed("part", part.join("\n").as_bytes()).expect("UTF-8");
                assert!(trainer.distinct_words() <= 1000);
            }
        });
        trainer.train(|_| ()).expect("has words")
    };
    let expected = run(1);
    assert!(expected.summary().dropped_words > 1000);
    // What is frequent is not touched by it.
    assert!(expected.tokens().contains(&"the".to_owned()));
    for threads in [2, 3, 5] {
        let found = run(threads);
        assert_eq!(found.tokens(), expected.tokens());
        assert_eq!(found.summary(), expected.summary());
    }
}
