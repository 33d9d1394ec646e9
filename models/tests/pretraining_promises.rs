//! What must hold for all batches: their form, how often a thing is drawn, and which documents are
//! in them.

mod pretraining_common;

use std::collections::HashSet;

use ferrite_models::data::{
    BatchSize, InstanceOptions, MaskingOptions, PretrainingBatch, PretrainingOptions,
};
use pretraining_common::{Distinct, Files, batches, epochs, held_out, restored, small_tokenizer};

const CLS: u32 = 2;
const SEP: u32 = 3;
const MASK: u32 = 4;

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
