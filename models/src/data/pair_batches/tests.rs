//! Batches of pairs against a naive form of the definition, and whatever must hold for all.

use proptest::prelude::*;

use super::*;

const SPECIAL: SpecialIds = SpecialIds { source_end: 1002, target_start: 1001, target_end: 1003 };

type Texts = Vec<(Vec<u32>, Vec<u32>)>;

/// Pairs of these lengths; no two tokens are the same. Pair `n` is from line `2 n + 1`.
fn texts(lengths: &[(usize, usize)]) -> Texts {
    let mut next = 2000;
    let mut ids = |length| {
        next += length as u32;
        (next - length as u32..next).collect()
    };
    lengths.iter().map(|&(source, target)| (ids(source), ids(target))).collect()
}

fn encoded(texts: &Texts) -> Arc<EncodedPairs> {
    let mut pairs = EncodedPairs::default();
    for (number, (source, target)) in texts.iter().enumerate() {
        pairs.push(source, target, 2 * number as u64 + 1);
    }
    Arc::new(pairs)
}

fn lengths() -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::vec((0..12_usize, 0..12_usize), 1..60)
}

fn options() -> impl Strategy<Value = PairBatchOptions> {
    (any::<u64>(), 4..12_usize, 4..12_usize, 0..40_usize, 1..70_usize).prop_map(
        |(seed, source, target, more, window)| PairBatchOptions {
            seed,
            tokens: source.max(target) + 1 + more,
            max_source_tokens: source,
            max_target_tokens: target,
            window,
            special: SPECIAL,
        },
    )
}

fn fits(text: &(Vec<u32>, Vec<u32>), options: &PairBatchOptions) -> bool {
    let (source, target) = (text.0.len(), text.1.len());
    source > 0
        && target > 0
        && source <= options.max_source_tokens
        && target <= options.max_target_tokens
}

/// Tokens of these pairs, of sources and of targets.
fn tokens(pairs: &[u32], texts: &Texts) -> (usize, usize) {
    let of = |side: fn(&(Vec<u32>, Vec<u32>)) -> usize| {
        pairs.iter().map(|&pair| side(&texts[pair as usize]) + 1).sum()
    };
    (of(|text| text.0.len()), of(|text| text.1.len()))
}

/// The numbers of the pairs of an epoch's batches.
fn naive_epoch(texts: &Texts, options: &PairBatchOptions, epoch: u64) -> Vec<Vec<u32>> {
    let numbers = 0..texts.len() as u32;
    let mut order: Vec<u32> =
        numbers.filter(|&number| fits(&texts[number as usize], options)).collect();
    Random::new(options.seed, Purpose::Pairs, epoch, 0).shuffle(&mut order);
    let mut all = Vec::new();
    for (number, window) in (1..).zip(order.chunks(options.window)) {
        let mut rest = window.to_vec();
        let mut batches = vec![vec![]];
        while !rest.is_empty() {
            let length = |pair: u32| {
                let (source, target) = &texts[pair as usize];
                (target.len(), source.len())
            };
            // The first of the shortest.
            let shortest = (0..rest.len()).min_by_key(|&at| length(rest[at])).unwrap();
            let pair = rest.remove(shortest);
            let last = batches.last_mut().unwrap();
            last.push(pair);
            let (sources, targets) = tokens(last, texts);
            if sources > options.tokens || targets > options.tokens {
                last.pop();
                batches.push(vec![pair]);
            }
        }
        Random::new(options.seed, Purpose::Pairs, epoch, number).shuffle(&mut batches);
        all.extend(batches);
    }
    all
}

fn naive_batch(pairs: &[u32], texts: &Texts) -> PairBatch {
    let chosen = || pairs.iter().map(|&pair| &texts[pair as usize]);
    PairBatch {
        pairs: pairs.to_vec(),
        source_ids: chosen().flat_map(|(source, _)| [&source[..], &[1002]].concat()).collect(),
        sources: Segments::from_lengths(chosen().map(|(source, _)| source.len() + 1)),
        target_input_ids: chosen()
            .flat_map(|(_, target)| [&[1001], &target[..]].concat())
            .collect(),
        target_output_ids: chosen()
            .flat_map(|(_, target)| [&target[..], &[1003]].concat())
            .collect(),
        targets: Segments::from_lengths(chosen().map(|(_, target)| target.len() + 1)),
    }
}

proptest! {
    /// Three epochs, batch by batch; in each all pairs come once, within the budget.
    #[test]
    fn batches_are_those_of_the_naive_form(lengths in lengths(), options in options()) {
        let texts = texts(&lengths);
        let fitting: Vec<u32> =
            (0..texts.len() as u32).filter(|&n| fits(&texts[n as usize], &options)).collect();
        let made = PairBatches::new(encoded(&texts), options);
        if fitting.is_empty() {
            let error = made.unwrap_err();
            prop_assert!(matches!(error, DataError::NoPairs { .. }), "{}", error);
            return Ok(());
        }
        let mut batches = made.unwrap();
        prop_assert_eq!(batches.pairs(), fitting.len());
        for epoch in 0..3 {
            prop_assert_eq!((batches.position().epoch, batches.position().window), (epoch, 0));
            let mut seen = Vec::new();
            for expected in naive_epoch(&texts, &options, epoch) {
                prop_assert_eq!(batches.position().epoch, epoch);
                let batch = batches.next().unwrap();
                prop_assert_eq!(&batch, &naive_batch(&expected, &texts));
                prop_assert!(!batch.is_empty());
                prop_assert!(batch.sources.total() <= options.tokens);
                prop_assert!(batch.targets.total() <= options.tokens);
                prop_assert_eq!(batch.sources.total(), batch.source_ids.len());
                prop_assert_eq!(batch.targets.total(), batch.target_input_ids.len());
                prop_assert_eq!(batch.targets.total(), batch.target_output_ids.len());
                seen.extend(batch.pairs);
            }
            seen.sort_unstable();
            prop_assert_eq!(&seen, &fitting);
        }
    }

    /// What is dropped is what does not fit, with its line and lengths.
    #[test]
    fn no_pair_is_lost(lengths in lengths(), options in options()) {
        let texts = texts(&lengths);
        let expected: Vec<DroppedPair> = texts
            .iter()
            .enumerate()
            .filter(|(_, text)| !fits(text, &options))
            .map(|(number, (source, target))| DroppedPair {
                line: 2 * number as u64 + 1,
                source_tokens: source.len(),
                target_tokens: target.len(),
            })
            .collect();
        if let Ok(batches) = PairBatches::new(encoded(&texts), options) {
            prop_assert_eq!(batches.dropped(), &expected[..]);
            prop_assert_eq!(batches.pairs() + expected.len(), texts.len());
        } else {
            prop_assert_eq!(expected.len(), texts.len());
        }
    }

    /// Another iterator at each position that a run went through gives what came after it.
    #[test]
    fn any_position_continues_the_run(lengths in lengths(), options in options()) {
        let pairs = encoded(&texts(&lengths));
        let Ok(mut run) = PairBatches::new(Arc::clone(&pairs), options) else { return Ok(()) };
        let mut went = Vec::new();
        for _ in 0..30 {
            let position = serde_json::to_string(&run.position()).unwrap();
            went.push((position, run.next().unwrap()));
        }
        let mut wanderer = PairBatches::new(pairs, options).unwrap();
        for at in (0..went.len()).rev() {
            wanderer.seek(serde_json::from_str(&went[at].0).unwrap()).unwrap();
            for (position, batch) in went[at..].iter().take(3) {
                prop_assert_eq!(&serde_json::to_string(&wanderer.position()).unwrap(), position);
                prop_assert_eq!(&wanderer.next().unwrap(), batch);
            }
        }
    }
}

fn some_options() -> PairBatchOptions {
    PairBatchOptions {
        tokens: 20,
        max_source_tokens: 9,
        max_target_tokens: 9,
        window: 8,
        ..PairBatchOptions::new(SPECIAL)
    }
}

fn some_texts() -> Texts {
    let lengths: Vec<(usize, usize)> = (0..24).map(|n| (1 + n % 7, 1 + n * 5 % 9)).collect();
    texts(&lengths)
}

/// Another version of anything must give the same.
#[test]
fn batches_never_change() {
    let mut batches = PairBatches::new(encoded(&some_texts()), some_options()).unwrap();
    let first: Vec<Vec<u32>> = batches.by_ref().take(4).map(|batch| batch.pairs).collect();
    assert_eq!(first, [vec![0, 11, 20, 15], vec![14, 5], vec![8, 1], vec![19, 21]]);
    assert_eq!(batches.windows(), 3);
}

#[test]
fn epochs_and_seeds_have_orders_of_their_own() {
    let pairs = encoded(&some_texts());
    let epochs = |options| {
        let mut batches = PairBatches::new(Arc::clone(&pairs), options).unwrap();
        [0, 1].map(|epoch| {
            let mut made = Vec::new();
            while batches.position().epoch == epoch {
                made.push(batches.next().unwrap().pairs);
            }
            made
        })
    };
    let [first, second] = epochs(some_options());
    let [third, _] = epochs(PairBatchOptions { seed: 1, ..some_options() });
    assert!(first != second && first != third && second != third);
}

#[test]
fn positions_elsewhere_are_refused() {
    let texts = some_texts();
    let mut batches = PairBatches::new(encoded(&texts), some_options()).unwrap();
    batches.next();
    let here = batches.position();
    let mut changed = some_texts();
    changed[3].1[0] += 1;
    for other in [
        PairBatches::new(encoded(&changed), some_options()).unwrap(),
        PairBatches::new(encoded(&texts), PairBatchOptions { seed: 1, ..some_options() }).unwrap(),
        PairBatches::new(encoded(&texts), PairBatchOptions { tokens: 21, ..some_options() })
            .unwrap(),
        PairBatches::new(encoded(&texts), PairBatchOptions { window: 9, ..some_options() })
            .unwrap(),
        PairBatches::new(
            encoded(&texts),
            PairBatchOptions { max_target_tokens: 8, ..some_options() },
        )
        .unwrap(),
        PairBatches::new(
            encoded(&texts),
            PairBatchOptions {
                special: SpecialIds { target_start: 1, ..SPECIAL },
                ..some_options()
            },
        )
        .unwrap(),
    ] {
        let error = batches.seek(other.position()).unwrap_err();
        assert!(matches!(error, DataError::OtherData { .. }), "{error}");
    }
    for nowhere in [
        PairPosition { window: 3, ..here },
        PairPosition { batch: 8, ..here },
        PairPosition { batch: u64::MAX, ..here },
        PairPosition { epoch: u64::MAX, ..here },
        PairPosition { epoch: 5, batch: 8, ..here },
    ] {
        let error = batches.seek(nowhere).unwrap_err();
        assert!(matches!(error, DataError::NoSuchPairs { position } if position == nowhere));
        assert_eq!(batches.position(), here);
    }
    let mut fresh = PairBatches::new(encoded(&texts), some_options()).unwrap();
    fresh.next();
    assert!(batches.take(20).eq(fresh.take(20)));
}

#[test]
fn options_out_of_range_are_refused() {
    let options = some_options();
    for (options, name) in [
        (PairBatchOptions { tokens: 9, ..options }, "tokens of a batch"),
        (PairBatchOptions { tokens: 1 << 32, ..options }, "tokens of a batch"),
        (PairBatchOptions { window: 0, ..options }, "window"),
        (
            PairBatchOptions { max_source_tokens: 0, ..options },
            "max_source_tokens and max_target_tokens",
        ),
        (
            PairBatchOptions { max_target_tokens: 0, ..options },
            "max_source_tokens and max_target_tokens",
        ),
        (
            PairBatchOptions { max_target_tokens: usize::MAX, ..options },
            "max_source_tokens and max_target_tokens",
        ),
    ] {
        match PairBatches::new(encoded(&some_texts()), options).unwrap_err() {
            DataError::InvalidOption { option, .. } => assert_eq!(option, name),
            error => panic!("{error}"),
        }
    }
    // The longest pair fits exactly.
    let tight = PairBatchOptions { tokens: 10, ..options };
    assert!(PairBatches::new(encoded(&some_texts()), tight).is_ok());
    let error = PairBatches::new(Arc::default(), options).unwrap_err();
    assert!(matches!(error, DataError::NoPairs { pairs: 0 }), "{error}");
}

/// From files to batches.
#[test]
fn text_becomes_batches() {
    use std::io::Write;

    use crate::data::{PairFiles, PairOptions, Pairs};
    use ferrite_tokenizer::{EncodeOptions, Tokenizer, VocabOptions};

    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "cat\tdog cat\n\u{1}\tdog\ndog\n").unwrap();
    let vocabulary = "[PAD] [UNK] [CLS] [SEP] [MASK] cat dog";
    let tokenizer = Tokenizer::from_vocab(vocabulary.split(' '), VocabOptions::default()).unwrap();
    let plain = EncodeOptions { add_special_tokens: false, ..EncodeOptions::default() };
    let mut pairs = EncodedPairs::default();
    let mut read =
        Pairs::open(&PairFiles::Tsv(file.path().to_owned()), PairOptions::default()).unwrap();
    for pair in read.by_ref().flat_map(Result::unwrap) {
        let [source, target] = [&pair.source, &pair.target]
            .map(|text| tokenizer.encode(text, None, &plain).unwrap().ids);
        pairs.push(&source, &target, pair.line);
    }
    let special = SpecialIds { source_end: 3, target_start: 2, target_end: 3 };
    let mut batches = PairBatches::new(Arc::new(pairs), PairBatchOptions::new(special)).unwrap();
    let batch = batches.next().unwrap();
    assert_eq!(batch.source_ids, [5, 3]);
    assert_eq!(batch.target_input_ids, [2, 6, 5]);
    assert_eq!(batch.target_output_ids, [6, 5, 3]);
    // The control character is no token, and one line had no tab.
    assert_eq!(batches.dropped()[0].to_string(), "line 2: 0 source tokens, 1 target tokens");
    assert_eq!((read.report().pairs, read.report().columns), (2, 1));
}
