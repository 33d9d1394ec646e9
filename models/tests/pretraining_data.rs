//! Pre-training data against a naive form of the reference, and whatever must hold for all of them.

mod pretraining_common;

use std::sync::Arc;

use ferrite_models::data::{
    BatchSize, Corpus, CorpusOptions, DataError, InstanceOptions, Masking, MaskingOptions,
    Position, PretrainingBatch, PretrainingBatches, PretrainingOptions, SentenceRule,
};
use ferrite_models::tokenizer::{EncodeOptions, Tokenizer, VocabOptions};
use pretraining_common::{
    Distinct, Files, batches, distinct_words, epochs, held_out, naive, small_tokenizer, tokenizer,
};
use proptest::prelude::*;

/// Words with pieces, marks and some that are unknown.
const WORDS: [&str; 9] = ["cat", "dog", "cats", "dogs", "catdogs", "the", ".", "fish", "zzz"];

/// Documents of sentences of words; some sentences give no token.
fn documents() -> impl Strategy<Value = Vec<Vec<String>>> {
    let sentence = prop::collection::vec(prop::sample::select(&WORDS[..]), 1..9)
        .prop_map(|words| words.join(" "));
    let sentence = prop_oneof![9 => sentence, 1 => Just("\u{1}".to_owned())];
    prop::collection::vec(prop::collection::vec(sentence, 1..9), 1..9)
}

fn flags() -> impl Strategy<Value = naive::Flags> {
    let shards = (1..5_usize, prop_oneof![Just(1 << 20), 1..300_usize]);
    (any::<u64>(), shards, 5..40_usize, 0.0..1.0, 0.0..0.6, 1..9_usize, any::<bool>()).prop_map(
        |(seed, shards, length, short, masked, predictions, words)| naive::Flags {
            seed,
            shard_documents: shards.0,
            shard_bytes: shards.1,
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
        shard_bytes: flags.shard_bytes as u32,
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

        // Each with its last line end, if it has one.
        let bytes: Vec<usize> = (1..=text.len())
            .map(|n| text[n - 1].len() + usize::from(n < text.len()))
            .collect();

        let mut batches = batches(&corpus, &tokenizer, options(&flags, masking, 1));
        for epoch in 0..3 {
            let draw = if duplicates == 0 { epoch } else { epoch % u64::from(duplicates) };
            let shards = naive::epoch(&tokenized, &bytes, &vocabulary, &flags, draw);
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
                    prop_assert_eq!(batches.shards(), shards.len() as u64);
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
    // None of them has a capital letter: rules differ whether they show or not.
    let words = words.concat();
    let vocabulary = tokenizer(words.clone());
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
        PretrainingOptions { shard_bytes: 9, ..options },
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
    let more = [words, vec!["more".to_owned()]].concat();
    refused(batches(&corpus, &tokenizer(more), options));
    let cased = VocabOptions { lowercase: false, ..VocabOptions::default() };
    let tokens = (0..vocabulary.vocab_size()).map(|id| vocabulary.id_to_token(id as u32).unwrap());
    let cased = Arc::new(Tokenizer::from_vocab(tokens, cased).unwrap());
    refused(batches(&corpus, &cased, options));
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
        ("shard_bytes", PretrainingOptions { shard_bytes: 0, ..base }),
        ("held_out", PretrainingOptions { held_out: 1.0, ..base }),
        ("held_out", PretrainingOptions { held_out: f64::NAN, ..base }),
        ("sequences of a batch", PretrainingOptions { batch: BatchSize::Sequences(0), ..base }),
        (
            "sequences of a batch",
            PretrainingOptions { batch: BatchSize::Sequences(usize::MAX), ..base },
        ),
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
