//! Pre-training data against a naive form of the reference, and whatever must hold for all of them.

mod pretraining_common;

use std::collections::HashSet;
use std::sync::Arc;

use ferrite_models::data::{
    BatchSize, Corpus, CorpusOptions, DataError, InstanceOptions, Masking, MaskingOptions,
    Position, PretrainingBatch, PretrainingBatches, PretrainingOptions, SentenceRule,
};
use ferrite_models::tokenizer::{EncodeOptions, Tokenizer};
use pretraining_common::{Files, distinct_words, naive, restored, tokenizer};
use proptest::prelude::*;

const CLS: u32 = 2;
const SEP: u32 = 3;
const MASK: u32 = 4;

fn batches(corpus: &Arc<Corpus>, t: &Arc<Tokenizer>, o: PretrainingOptions) -> PretrainingBatches {
    PretrainingBatches::new(Arc::clone(corpus), Arc::clone(t), o).unwrap()
}

fn held_out(corpus: &Arc<Corpus>, t: &Arc<Tokenizer>, o: PretrainingOptions) -> PretrainingBatches {
    PretrainingBatches::held_out(Arc::clone(corpus), Arc::clone(t), o).unwrap()
}

/// The batches whose last sequence is of one of the first epochs, by epoch.
fn epochs(mut batches: PretrainingBatches, epochs: u64) -> Vec<Vec<PretrainingBatch>> {
    let mut all = vec![Vec::new(); epochs as usize];
    loop {
        let batch = batches.next().unwrap().unwrap();
        match all.get_mut(batches.position().epoch as usize) {
            Some(epoch) => epoch.push(batch),
            None => return all,
        }
    }
}

/// Words with pieces, marks and some that are unknown.
const WORDS: [&str; 9] = ["cat", "dog", "cats", "dogs", "catdogs", "the", ".", "fish", "zzz"];

fn small_tokenizer() -> Arc<Tokenizer> {
    tokenizer(["cat", "dog", "the", ".", "fish", "##s", "##dog", "##fish", "mat"])
}

/// Documents of sentences of words; some sentences give no token.
fn documents() -> impl Strategy<Value = Vec<Vec<String>>> {
    let sentence = prop::collection::vec(prop::sample::select(&WORDS[..]), 1..9)
        .prop_map(|words| words.join(" "));
    let sentence = prop_oneof![9 => sentence, 1 => Just("\u{1}".to_owned())];
    prop::collection::vec(prop::collection::vec(sentence, 1..9), 1..9)
}

fn flags() -> impl Strategy<Value = naive::Flags> {
    (any::<u64>(), 1..5_usize, 5..40_usize, 0.0..1.0, 0.0..0.6, 1..9_usize, any::<bool>()).prop_map(
        |(seed, shard_documents, length, short, masked, predictions, words)| naive::Flags {
            seed,
            shard_documents,
            max_seq_length: length,
            short_seq_prob: short,
            masked_lm_prob: masked,
            max_predictions_per_seq: predictions,
            do_whole_word_mask: words,
        },
    )
}

fn options(flags: &naive::Flags, masking: Masking, sequences: usize) -> PretrainingOptions {
    PretrainingOptions {
        seed: flags.seed,
        held_out: 0.0,
        shard_documents: flags.shard_documents as u32,
        batch: BatchSize::Sequences(sequences),
        instances: InstanceOptions {
            max_seq_length: flags.max_seq_length,
            short_seq_prob: flags.short_seq_prob,
        },
        masking: MaskingOptions {
            probability: flags.masked_lm_prob,
            max_predictions: flags.max_predictions_per_seq,
            whole_words: flags.do_whole_word_mask,
            masking,
        },
    }
}

/// A batch of one sequence, as the naive form has it.
fn naive_form(batch: &PretrainingBatch, tokenizer: &Tokenizer) -> naive::Instance {
    assert_eq!(batch.batch.len(), 1);
    let token = |&id: &u32| tokenizer.id_to_token(id).unwrap().to_owned();
    naive::Instance {
        tokens: batch.batch.ids().iter().map(token).collect(),
        segment_ids: batch.batch.type_ids().iter().map(|&id| id as u8).collect(),
        is_random_next: batch.next_sentence == [1],
        masked_lm_positions: batch.positions.iter().map(|&row| row as usize).collect(),
        masked_lm_labels: batch.targets.iter().map(token).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..<_>::default() })]

    /// Three epochs and a bit, sequence by sequence.
    #[test]
    fn sequences_are_those_of_the_naive_reference(
        documents in documents(), flags in flags(), duplicates in 0..3_u32,
    ) {
        let tokenizer = small_tokenizer();
        let masking = match duplicates {
            0 => Masking::Dynamic,
            duplicates => Masking::Static { duplicates },
        };
        let text: Vec<String> = documents.iter().map(|lines| lines.join("\n")).collect();
        let files = Files::new([text.join("\n\n")]);
        let rule = CorpusOptions { sentences: SentenceRule::Lines, ..CorpusOptions::default() };
        let corpus = Arc::new(Corpus::open(&files.paths, rule).unwrap());

        let plain = EncodeOptions { add_special_tokens: false, ..EncodeOptions::default() };
        let tokens = |line: &String| -> naive::Sentence {
            let ids = tokenizer.encode(line, None, &plain).unwrap().ids;
            ids.iter().map(|&id| tokenizer.id_to_token(id).unwrap().to_owned()).collect()
        };
        let tokenized: Vec<naive::Document> = documents.iter().map(|lines| {
            lines.iter().map(tokens).filter(|sentence| !sentence.is_empty()).collect()
        }).collect();
        let vocabulary: Vec<String> = (0..tokenizer.vocab_size() as u32)
            .map(|id| tokenizer.id_to_token(id).unwrap().to_owned()).collect();

        let mut batches = batches(&corpus, &tokenizer, options(&flags, masking, 1));
        for epoch in 0..3 {
            let draw = if duplicates == 0 { epoch } else { epoch % u64::from(duplicates) };
            let shards = naive::epoch(&tokenized, &vocabulary, &flags, draw);
            prop_assert_eq!(batches.shards(), shards.len() as u64);
            if shards.iter().all(Vec::is_empty) {
                let error = batches.next().unwrap().unwrap_err();
                prop_assert!(matches!(error, DataError::NoInstances { .. }), "{}", error);
                break;
            }
            for (shard, instances) in shards.iter().enumerate() {
                for (number, expected) in instances.iter().enumerate() {
                    let batch = batches.next().unwrap().unwrap();
                    prop_assert_eq!(&naive_form(&batch, &tokenizer), expected);
                    let Position { epoch: e, shard: s, instance, .. } = batches.position();
                    prop_assert_eq!((e, s, instance), (epoch, shard as u64, number as u64 + 1));
                }
            }
        }
    }

    /// A new iterator at each position that a run went through gives what came after it.
    #[test]
    fn any_position_continues_the_run(
        documents in documents(), flags in flags(), tokens in any::<bool>(), size in 1..20_usize,
    ) {
        let tokenizer = small_tokenizer();
        let text: Vec<String> = documents.iter().map(|lines| lines.join("\n")).collect();
        let files = Files::new([text.join("\n\n")]);
        let corpus = files.corpus();
        let mut options = options(&flags, Masking::Dynamic, size);
        if tokens {
            options.batch = BatchSize::Tokens(flags.max_seq_length + size * 5);
        }
        let mut run = batches(&corpus, &tokenizer, options);
        let mut positions = Vec::new();
        let mut all = Vec::new();
        for _ in 0..25 {
            positions.push(serde_json::to_string(&run.position()).unwrap());
            match run.next().unwrap() {
                Ok(batch) => all.push(batch),
                Err(DataError::NoInstances { .. }) => return Ok(()),
                Err(error) => panic!("{error}"),
            }
        }
        let mut wanderer = batches(&corpus, &tokenizer, options);
        for (number, position) in positions.iter().enumerate().rev() {
            let position: Position = serde_json::from_str(position).unwrap();
            let mut fresh = batches(&corpus, &tokenizer, options);
            fresh.seek(position).unwrap();
            wanderer.seek(position).unwrap();
            prop_assert_eq!((fresh.position(), wanderer.position()), (position, position));
            for expected in all.iter().skip(number).take(4) {
                prop_assert_eq!(&fresh.next().unwrap().unwrap(), expected);
                prop_assert_eq!(&wanderer.next().unwrap().unwrap(), expected);
            }
        }
    }
}

/// Two hundred documents of words that occur once each.
struct Distinct {
    _files: Files,
    corpus: Arc<Corpus>,
    tokenizer: Arc<Tokenizer>,
    /// The ids of each document.
    documents: Vec<Vec<u32>>,
    /// For each id the document and the place in it.
    places: Vec<Option<(usize, usize)>>,
}

impl Distinct {
    fn new() -> Distinct {
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
    fn find(&self, run: &[u32]) -> (usize, usize) {
        let (document, place) = self.places[run[0] as usize].expect("a word");
        assert_eq!(self.documents[document][place..place + run.len()], *run);
        (document, place)
    }
}

#[test]
fn batches_keep_their_promises() {
    let distinct = Distinct::new();
    for (batch, whole_words) in [(BatchSize::Sequences(8), false), (BatchSize::Tokens(200), true)] {
        let options = PretrainingOptions {
            shard_documents: 16,
            batch,
            instances: InstanceOptions { max_seq_length: 40, short_seq_prob: 0.1 },
            masking: MaskingOptions { max_predictions: 5, whole_words, ..Default::default() },
            ..Default::default()
        };
        let mut run = batches(&distinct.corpus, &distinct.tokenizer, options);
        let mut carried = 0;
        for _ in 0..400 {
            let made = run.next().unwrap().unwrap();
            let PretrainingBatch { batch: packed, positions, targets, next_sentence } = &made;
            match batch {
                BatchSize::Sequences(n) => assert_eq!(packed.len(), n),
                BatchSize::Tokens(n) => {
                    assert!(packed.tokens() <= n && packed.tokens() + 40 > n - 1);
                    // Full: the first sequence of the next batch would not have fitted.
                    let first = packed.sequences().range(0).len();
                    assert!(carried == 0 || carried + first > n);
                    carried = packed.tokens();
                }
            }
            assert_eq!(next_sentence.len(), packed.len());
            assert_eq!(positions.len(), targets.len());
            assert!(positions.windows(2).all(|pair| pair[0] < pair[1]));
            for (sequence, ids) in restored(&made).iter().enumerate() {
                let rows = packed.sequences().range(sequence);
                assert!((5..=40).contains(&ids.len()));
                let specials: Vec<usize> =
                    (0..ids.len()).filter(|&i| ids[i] == CLS || ids[i] == SEP).collect();
                let [0, middle, end] = specials[..] else { panic!("{ids:?}") };
                assert_eq!((ids[0], ids[middle], ids[end], end), (CLS, SEP, SEP, ids.len() - 1));
                let types = &packed.type_ids()[rows.clone()];
                assert!(types.iter().enumerate().all(|(i, &id)| id == u32::from(i > middle)));

                // Nothing but words is masked: the specials are where they were.
                let masked: Vec<usize> = positions
                    .iter()
                    .map(|&row| row as usize)
                    .filter(|row| rows.contains(row))
                    .map(|row| row - rows.start)
                    .collect();
                assert!(masked.iter().all(|place| !specials.contains(place)));
                let share = ids.len() as f64 * 0.15;
                let wanted = (share.round_ties_even() as usize).clamp(1, 5);
                assert_eq!(masked.len(), wanted.min(ids.len() - 3));

                // The words are runs of the text, so that nothing else was changed.
                let a = distinct.find(&ids[1..middle]);
                let b = distinct.find(&ids[middle + 1..end]);
                if next_sentence[sequence] == 0 {
                    // What is cut is cut at the ends of the segments.
                    assert!(a.0 == b.0 && b.1 >= a.1 + middle - 1);
                }
            }
        }
    }
}

/// Bounds are five standard deviations of a binomial.
fn assert_rate(hits: usize, all: usize, p: f64, what: &str) {
    let deviation = (all as f64 * p * (1.0 - p)).sqrt();
    let off = (hits as f64 - all as f64 * p) / deviation;
    assert!(off.abs() < 5.0, "{what}: {hits} of {all}, {off} deviations from {p}");
}

#[test]
fn masks_are_as_frequent_as_they_should_be() {
    let distinct = Distinct::new();
    // 0.15 of 40 is whole; short_seq_prob 0 leaves few sequences that are not of 40.
    let options = PretrainingOptions {
        batch: BatchSize::Sequences(16),
        instances: InstanceOptions { max_seq_length: 40, short_seq_prob: 0.0 },
        ..Default::default()
    };
    let run = batches(&distinct.corpus, &distinct.tokenizer, options);
    let (mut full, mut full_masked, mut tokens) = (0, 0, 0);
    let (mut masked, mut masks, mut kept, mut specials) = (0, 0, 0, 0);
    let (mut choices, mut random) = (0, 0);
    for batch in run.take(2000) {
        let batch = batch.unwrap();
        for (sequence, rows) in batch.batch.sequences().iter().enumerate() {
            let here = batch.positions.iter().filter(|&&row| rows.contains(&(row as usize)));
            tokens += rows.len();
            if rows.len() == 40 {
                full += 1;
                full_masked += here.count();
            }
            choices += 1;
            random += batch.next_sentence[sequence] as usize;
        }
        for (&row, &target) in batch.positions.iter().zip(&batch.targets) {
            let id = batch.batch.ids()[row as usize];
            masked += 1;
            masks += usize::from(id == MASK);
            kept += usize::from(id == target);
            specials += usize::from(id < 5 && id != MASK);
        }
    }
    assert!(full > 5000, "{full}");
    assert_eq!(full_masked, full * 6);
    assert!((masked as f64 / tokens as f64 - 0.15).abs() < 0.01, "{masked} of {tokens}");
    let words = distinct.tokenizer.vocab_size() as f64;
    assert_rate(masks, masked, 0.8 + 0.1 / words, "[MASK]");
    assert_rate(kept, masked, 0.1 + 0.1 / words, "kept");
    assert_rate(specials, masked, 0.1 * 4.0 / words, "specials by chance");
    // A last sentence alone makes a random pair, so that more than half are.
    let share = random as f64 / choices as f64;
    assert!((0.5..0.75).contains(&share), "{share}");
}

#[test]
fn half_of_the_pairs_that_have_a_choice_are_random() {
    // One document of many sentences: no more than one lone sentence in hundreds of pairs.
    let text: String = (0..20_000).map(|_| "cat dog fish .\n").collect();
    let files = Files::new([text + "\n" + &"the mat\n".repeat(20_000)]);
    let options = PretrainingOptions { batch: BatchSize::Sequences(1000), ..Default::default() };
    let mut run = batches(&files.corpus(), &small_tokenizer(), options);
    let (mut all, mut random) = (0, 0);
    for _ in 0..6 {
        let batch = run.next().unwrap().unwrap();
        all += batch.batch.len();
        random += batch.next_sentence.iter().sum::<u32>() as usize;
        for (sequence, ids) in restored(&batch).iter().enumerate() {
            let middle = ids.iter().position(|&id| id == SEP).unwrap();
            let kind = |id: u32| matches!(id, 7 | 13);
            let same = kind(ids[1]) == kind(ids[middle + 1]);
            assert!(same || batch.next_sentence[sequence] == 1);
        }
    }
    assert_rate(random, all, 0.5, "random next sentences");
}

#[test]
fn whole_words_are_whole() {
    let text: String = (0..200)
        .map(|n| format!("the catdogs fish dogs catfish {}\n", "cat ".repeat(n % 5)))
        .collect();
    let files = Files::new([text]);
    let tokenizer = small_tokenizer();
    let continues = |id: u32| tokenizer.id_to_token(id).unwrap().starts_with("##");
    let masking = MaskingOptions { whole_words: true, probability: 0.3, ..Default::default() };
    let instances = InstanceOptions { max_seq_length: 48, short_seq_prob: 0.1 };
    let options = PretrainingOptions { masking, instances, ..Default::default() };
    let (mut whole, mut single) = (0, 0);
    for batch in batches(&files.corpus(), &tokenizer, options).take(50) {
        let batch = batch.unwrap();
        let masked: HashSet<usize> = batch.positions.iter().map(|&row| row as usize).collect();
        let ids = restored(&batch).concat();
        for row in 1..ids.len() {
            // A piece behind a special token lost its head, which is another word's.
            if continues(ids[row]) && ids[row - 1] != SEP && ids[row - 1] != CLS {
                assert_eq!(masked.contains(&row), masked.contains(&(row - 1)), "{:?}", &ids);
                whole += usize::from(masked.contains(&row));
            } else {
                single += usize::from(masked.contains(&row));
            }
        }
    }
    assert!(whole > 500 && single > 500, "{whole} {single}");
}

#[test]
fn held_out_documents_are_never_trained_on() {
    let distinct = Distinct::new();
    let options = PretrainingOptions {
        held_out: 0.1,
        shard_documents: 50,
        instances: InstanceOptions { max_seq_length: 200, short_seq_prob: 0.0 },
        ..Default::default()
    };
    let documents = |batches: &[PretrainingBatch]| -> HashSet<usize> {
        let ids = batches.iter().flat_map(|batch| restored(batch).concat());
        ids.filter_map(|id| distinct.places[id as usize]).map(|(document, _)| document).collect()
    };
    let run = batches(&distinct.corpus, &distinct.tokenizer, options);
    let split = distinct.corpus.split(0.1, options.seed).unwrap();
    assert_eq!(run.documents(), split.training.len());
    let trained: Vec<_> = epochs(run, 3).concat();
    let fixed = || -> Vec<PretrainingBatch> {
        let batches = held_out(&distinct.corpus, &distinct.tokenizer, options);
        batches.collect::<Result<_, _>>().unwrap()
    };
    let evaluated = fixed();
    assert_eq!(evaluated, fixed());
    let numbers = |list: &[u32]| list.iter().map(|&n| n as usize).collect::<HashSet<_>>();
    assert_eq!(documents(&trained), numbers(&split.training));
    assert_eq!(documents(&evaluated), numbers(&split.held_out));
    assert!(numbers(&split.training).is_disjoint(&numbers(&split.held_out)));
    assert_eq!(split.training.len() + split.held_out.len(), 200);
    assert!((5..=40).contains(&split.held_out.len()), "{}", split.held_out.len());

    // The end is an end, also after seeking; and from a position all the rest comes.
    let mut batches = held_out(&distinct.corpus, &distinct.tokenizer, options);
    batches.next().unwrap().unwrap();
    let second = batches.position();
    assert_eq!(batches.by_ref().count(), evaluated.len() - 1);
    assert!(batches.next().is_none() && batches.next().is_none());
    let end = batches.position();
    batches.seek(second).unwrap();
    assert_eq!(batches.next().unwrap().unwrap(), evaluated[1]);
    batches.seek(end).unwrap();
    assert!(batches.next().is_none());
}

#[test]
fn runs_are_equal_and_epochs_are_not() {
    let distinct = Distinct::new();
    let all = |options, count| -> Vec<PretrainingBatch> {
        let run = batches(&distinct.corpus, &distinct.tokenizer, options).take(count);
        run.map(Result::unwrap).collect()
    };
    let options = PretrainingOptions { shard_documents: 30, ..Default::default() };
    let run = all(options, 60);
    assert_eq!(run, all(options, 60));
    assert_ne!(run, all(PretrainingOptions { seed: 1, ..options }, 60));

    // Batches of one sequence end where epochs do.
    let one = PretrainingOptions { batch: BatchSize::Sequences(1), ..options };
    let by_epoch = |masking| {
        let masking = MaskingOptions { masking, ..MaskingOptions::default() };
        let options = PretrainingOptions { masking, ..one };
        epochs(batches(&distinct.corpus, &distinct.tokenizer, options), 5)
    };
    let dynamic = by_epoch(Masking::Dynamic);
    let fixed = by_epoch(Masking::Static { duplicates: 2 });
    for (a, b) in (0..5).flat_map(|a| (0..a).map(move |b| (a, b))) {
        assert_ne!(dynamic[a], dynamic[b]);
        assert_eq!(fixed[a] == fixed[b], a % 2 == b % 2, "{a} {b}");
    }
    assert_eq!(dynamic[..2], fixed[..2]);
}

/// What makes the data makes the fingerprint, and nothing else does.
#[test]
fn positions_of_other_data_are_refused() {
    let (text, words) = distinct_words(&[3; 20]);
    let files = Files::new([&text[..]]);
    let tokenizer_of = |words: Vec<String>| tokenizer(words);
    let vocabulary = tokenizer_of(words.concat());
    let options = PretrainingOptions { held_out: 0.2, ..Default::default() };
    let start = batches(&files.corpus(), &vocabulary, options).position();

    let moved = Files::new([&text[..]]);
    let larger = PretrainingOptions { batch: BatchSize::Tokens(5000), ..options };
    batches(&moved.corpus(), &vocabulary, larger).seek(start).unwrap();

    let refused = |mut other: PretrainingBatches| {
        let error = other.seek(start).unwrap_err();
        assert!(matches!(error, DataError::OtherData { .. }), "{error}");
    };
    let corpus = files.corpus();
    let (instances, masking) = (options.instances, options.masking);
    for other in [
        PretrainingOptions { seed: 1, ..options },
        PretrainingOptions { held_out: 0.3, ..options },
        PretrainingOptions { shard_documents: 9, ..options },
        PretrainingOptions {
            instances: InstanceOptions { max_seq_length: 64, ..instances },
            ..options
        },
        PretrainingOptions {
            instances: InstanceOptions { short_seq_prob: 0.2, ..instances },
            ..options
        },
        PretrainingOptions { masking: MaskingOptions { probability: 0.2, ..masking }, ..options },
        PretrainingOptions { masking: MaskingOptions { max_predictions: 7, ..masking }, ..options },
        PretrainingOptions { masking: MaskingOptions { whole_words: true, ..masking }, ..options },
        PretrainingOptions {
            masking: MaskingOptions { masking: Masking::Static { duplicates: 2 }, ..masking },
            ..options
        },
    ] {
        refused(batches(&corpus, &vocabulary, other));
    }
    refused(held_out(&corpus, &vocabulary, options));
    let more = [words.concat(), vec!["more".to_owned()]].concat();
    refused(batches(&corpus, &tokenizer_of(more), options));
    refused(batches(&Files::new([text.replace("w7 ", "w8 ")]).corpus(), &vocabulary, options));
    let lines = CorpusOptions { sentences: SentenceRule::Lines, ..CorpusOptions::default() };
    let lines = Arc::new(Corpus::open(&files.paths, lines).unwrap());
    refused(batches(&lines, &vocabulary, options));
}

#[test]
fn positions_that_are_not_there_are_errors() {
    let distinct = Distinct::new();
    let options = PretrainingOptions { shard_documents: 50, ..Default::default() };
    let mut run = batches(&distinct.corpus, &distinct.tokenizer, options);
    let start = run.position();
    assert_eq!(run.shards(), 4);
    for bad in [
        Position { shard: 4, ..start },
        Position { shard: u64::MAX, ..start },
        Position { epoch: u64::MAX, ..start },
    ] {
        let error = run.seek(bad).unwrap_err();
        assert!(matches!(error, DataError::NoSuchPosition { position } if position == bad));
        assert_eq!(run.position(), start);
    }
    let bad = Position { instance: 1 << 40, epoch: 7, ..start };
    run.seek(bad).unwrap();
    for _ in 0..2 {
        let error = run.next().unwrap().unwrap_err();
        assert!(matches!(error, DataError::NoSuchPosition { position } if position == bad));
        assert!(error.to_string().contains("instance 1099511627776 in shard 0 of epoch 7"));
    }
    run.seek(start).unwrap();
    run.next().unwrap().unwrap();
    for json in ["{}", r#"{"epoch":0,"shard":0,"instance":-1,"fingerprint":"0000000000000000"}"#] {
        assert!(serde_json::from_str::<Position>(json).is_err());
    }
    let json =
        serde_json::to_string(&Position { epoch: 1, shard: 2, instance: 3, ..start }).unwrap();
    let expected =
        format!(r#"{{"epoch":1,"shard":2,"instance":3,"fingerprint":"{}"}}"#, start.fingerprint);
    assert_eq!(json, expected);
}

#[test]
fn settings_that_cannot_be_are_errors() {
    let distinct = Distinct::new();
    let base = PretrainingOptions::default();
    let (instances, masking) = (base.instances, base.masking);
    let with = |max_seq_length, short_seq_prob| PretrainingOptions {
        instances: InstanceOptions { max_seq_length, short_seq_prob },
        ..base
    };
    let masked = |masking| PretrainingOptions { masking, ..base };
    for (option, options) in [
        ("max_seq_length", with(4, 0.1)),
        ("max_seq_length", with(usize::MAX, 0.1)),
        ("short_seq_prob", with(128, 1.5)),
        ("short_seq_prob", with(128, f64::NAN)),
        ("probability", masked(MaskingOptions { probability: -0.1, ..masking })),
        ("max_predictions", masked(MaskingOptions { max_predictions: 0, ..masking })),
        (
            "duplicates",
            masked(MaskingOptions { masking: Masking::Static { duplicates: 0 }, ..masking }),
        ),
        ("shard_documents", PretrainingOptions { shard_documents: 0, ..base }),
        ("held_out", PretrainingOptions { held_out: 1.0, ..base }),
        ("held_out", PretrainingOptions { held_out: f64::NAN, ..base }),
        ("sequences of a batch", PretrainingOptions { batch: BatchSize::Sequences(0), ..base }),
        (
            "tokens of a batch",
            PretrainingOptions { batch: BatchSize::Tokens(instances.max_seq_length - 1), ..base },
        ),
    ] {
        let (corpus, tokenizer) = (distinct.corpus.clone(), distinct.tokenizer.clone());
        let error = PretrainingBatches::new(corpus, tokenizer, options).unwrap_err();
        let named =
            matches!(error, DataError::InvalidOption { option: name, .. } if name == option);
        assert!(named && error.to_string().starts_with(option), "{option}: {error}");
    }

    // A vocabulary without a mask token; nothing held out, or everything.
    let bare =
        Tokenizer::from_vocab(["[UNK]", "[CLS]", "[SEP]", "w0"], Default::default()).unwrap();
    let error = PretrainingBatches::new(distinct.corpus.clone(), Arc::new(bare), base).unwrap_err();
    assert!(matches!(error, DataError::NoToken { role: "mask" }), "{error}");
    let empty = |options| {
        let (corpus, tokenizer) = (distinct.corpus.clone(), distinct.tokenizer.clone());
        match PretrainingBatches::held_out(corpus, tokenizer, options).unwrap_err() {
            DataError::EmptyPart { part, .. } => part,
            error => panic!("{error}"),
        }
    };
    assert_eq!(empty(base), "held out");
    assert_eq!(empty(PretrainingOptions { held_out: 1e-9, ..base }), "held out");
    assert_eq!(empty(PretrainingOptions { held_out: 1.0 - 1e-9, ..base }), "for training");
}
