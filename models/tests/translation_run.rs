//! Runs of translation that stop, are damaged and go on: the bits, those of the mean of parameters
//! among them, are those of the run that nothing happened to.

mod translation_common;

use std::fs;
use std::sync::Arc;

use ferrite_models::checkpoint::Checkpoint;
use ferrite_models::data::{DataError, EncodedPairs};
use ferrite_models::kernels::{Level, Precision};
use ferrite_models::train::store::StoreError;
use ferrite_models::train::{
    Average, Evaluation, RunError, StepRecord, TranslationOptions, TranslationRun,
    TranslationScores,
};
use ferrite_models::transformer::{Batch, Transformer, Workspace};
use translation_common::{
    SAVE_EVERY, STEPS, Setting, WORDS, end, in_threads, options, pairs, steps, straight,
};

/// What a setting is called, and how to change it.
type Change = (&'static str, fn(&mut TranslationOptions));

#[test]
fn a_run_that_stops_after_any_step_ends_with_the_same_bits_and_the_same_log() {
    let setting = Setting::new();
    for (precision, accumulate) in [(Precision::F32, 1), (Precision::F32, 2), (Precision::Bf16, 2)]
    {
        let options = options(precision, accumulate);
        let expected = in_threads(2, || straight(&setting, &options));
        assert_eq!(expected.log.len() as u64, STEPS + STEPS / 3 + 1);
        for stop in 1..=10 {
            let folder = tempfile::tempdir().unwrap();
            in_threads(1, || {
                let mut run = setting.start(folder.path(), &options).unwrap();
                steps(&mut run, stop);
                run.save().unwrap();
                // What is done after the checkpoint and lost, but for its parameters of a mean; and a
                // line that was cut off.
                steps(&mut run, (stop + 3).min(SAVE_EVERY * (stop / SAVE_EVERY + 1) - 1).max(stop));
            });
            let path = folder.path().join("log.jsonl");
            let torn = fs::read_to_string(&path).unwrap() + "{\"step\": 99, \"lo";
            fs::write(&path, torn).unwrap();
            let found = in_threads(1 + stop as usize % 3, || {
                let mut run = setting.resume(folder.path(), &options).unwrap();
                assert_eq!((run.steps(), run.damaged().len()), (stop, 0));
                end(&mut run, folder.path())
            });
            assert!(found == expected, "{precision:?}, {accumulate} batches, stopped at {stop}");
        }
    }
}

#[test]
fn what_is_exported_is_the_naive_mean() {
    let setting = Setting::new();
    for (last, every) in [(3, 3), (1, 5), (4, 1), (99, 5)] {
        let mut options = options(Precision::F32, 1);
        options.average = Some(Average { last, every });
        let folder = tempfile::tempdir().unwrap();
        let mut run = setting.start(folder.path(), &options).unwrap();
        let mut all: Vec<Vec<f32>> = Vec::new();
        assert!(run.evaluate_average().unwrap().is_none());
        while run.steps() < STEPS {
            run.step().unwrap();
            if (STEPS - run.steps()).is_multiple_of(every) {
                all.push(run.trainer().parameters().values().to_vec());
            }
        }
        let kept = &all[all.len().saturating_sub(last)..];
        let mean = |place: usize| -> f32 {
            let sum: f64 = kept.iter().map(|values| f64::from(values[place])).sum();
            (sum / kept.len() as f64) as f32
        };
        run.export().unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let parameters = run.trainer().parameters();
        assert_eq!(checkpoint.tensors().count(), parameters.tensors().len());
        for tensor in parameters.tensors() {
            let mut values = vec![f32::NAN; tensor.range.len()];
            checkpoint.read(checkpoint.get(&tensor.name).unwrap(), &mut values).unwrap();
            let expected: Vec<f32> = tensor.range.clone().map(mean).collect();
            assert_eq!(values, expected, "{last} {every} {}", tensor.name);
        }
        let snapshots = fs::read_dir(folder.path().join("snapshots")).unwrap().count();
        assert_eq!(snapshots, kept.len());

        // What is evaluated is what is exported.
        let evaluation = run.evaluate_average().unwrap().unwrap();
        assert_eq!(evaluation.averaged, Some(kept.len() as u64));
        let model = Transformer::from_pretrained_at(options.arithmetic, folder.path()).unwrap();
        let mut options = options.clone();
        options.average = None;
        let other = tempfile::tempdir().unwrap();
        let mut plain = setting.start(other.path(), &options).unwrap();
        steps(&mut plain, STEPS);
        let is_last_alone = kept.len() == 1;
        assert_eq!(plain.evaluate().unwrap().held_out == evaluation.held_out, is_last_alone);
        assert!(plain.evaluate_average().unwrap().is_none());
        let mut batch = Batch::default();
        batch.push(&[5, 6, 7, 2], &[9, 8, 7, 2], 1);
        model.loss(&batch, 0.0, &mut Workspace::default()).unwrap();
    }
}

/// A run that was killed has parameters of steps that it did not save, in place of older ones: the
/// means are all the same those of the run that nothing happened to.
#[test]
fn means_on_the_way_survive_a_kill() {
    let setting = Setting::new();
    for (last, every) in [(2, 1), (3, 1), (3, 2), (2, 5)] {
        let mut options = options(Precision::F32, 1);
        options.average = Some(Average { last, every });
        let mean = |run: &mut TranslationRun| run.evaluate_average().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut run = setting.start(folder.path(), &options).unwrap();
        let mut expected = vec![mean(&mut run)];
        while run.steps() < STEPS {
            run.step().unwrap();
            expected.push(mean(&mut run));
        }
        for killed in 5..=STEPS {
            let folder = tempfile::tempdir().unwrap();
            let mut run = setting.start(folder.path(), &options).unwrap();
            steps(&mut run, 4);
            while run.steps() < killed {
                run.step().unwrap();
            }
            drop(run);
            let mut run = setting.resume(folder.path(), &options).unwrap();
            assert_eq!(mean(&mut run), expected[4], "{last} {every}, killed at {killed}");
            while run.steps() < STEPS {
                run.step().unwrap();
                assert_eq!(mean(&mut run), expected[run.steps() as usize], "{last} {every}");
            }
        }
    }
}

#[test]
fn a_damaged_snapshot_is_named() {
    let setting = Setting::new();
    let options = options(Precision::F32, 1);
    let folder = tempfile::tempdir().unwrap();
    let mut run = setting.start(folder.path(), &options).unwrap();
    steps(&mut run, STEPS);
    let path = folder.path().join("snapshots/step-00000009/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&path, bytes).unwrap();
    for error in [run.export().unwrap_err(), run.evaluate_average().unwrap_err()] {
        assert!(matches!(&error, RunError::Store(StoreError::Damaged { .. })), "{error}");
        assert!(error.to_string().contains("step-00000009"), "{error}");
    }
    assert!(!folder.path().join("model.safetensors").exists());
}

/// Killed before its first checkpoint, a run leaves parameters that are none of a new one's.
#[test]
fn a_new_run_takes_nothing_over() {
    let setting = Setting::new();
    let options = options(Precision::F32, 1);
    let folder = tempfile::tempdir().unwrap();
    let mut other = options.clone();
    other.trainer.seed += 1;
    let mut run = setting.start(folder.path(), &other).unwrap();
    let begun = run.evaluate().unwrap();
    steps(&mut run, 3);
    drop(run);
    assert!(folder.path().join("snapshots/step-00000003").exists());
    let mut run = setting.start(folder.path(), &options).unwrap();
    let evaluation = run.evaluate().unwrap();
    assert_ne!(evaluation, begun);
    let mut end = end(&mut run, folder.path());
    let first: Evaluation<TranslationScores> = serde_json::from_value(end.log.remove(0)).unwrap();
    assert_eq!(first, evaluation);
    assert!(end == straight(&setting, &options));
}

#[test]
fn what_was_changed_is_named() {
    let setting = Setting::new();
    let begun = options(Precision::F32, 1);
    let folder = tempfile::tempdir().unwrap();
    steps(&mut setting.start(folder.path(), &begun).unwrap(), 5);
    let changes: [Change; 9] = [
        ("accumulate", |o| o.accumulate = 2),
        ("average.last", |o| o.average = Some(Average { last: 4, every: 3 })),
        ("average", |o| o.average = None),
        ("config.dropout", |o| o.config.dropout = 0.2),
        ("data.tokens", |o| o.data.tokens = 91),
        ("label_smoothing", |o| o.trainer.label_smoothing = 0.2),
        ("optimizer.beta2", |o| o.trainer.optimizer.adamw.beta2 = 0.9),
        ("schedule.warmup", |o| o.trainer.schedule.warmup += 1),
        ("seed", |o| o.trainer.seed += 1),
    ];
    for (expected, change) in changes {
        let mut options = begun.clone();
        change(&mut options);
        match setting.resume(folder.path(), &options).unwrap_err() {
            RunError::OtherRecipe { setting, .. } => {
                assert!(setting.starts_with(expected), "{expected} {setting}")
            }
            error => panic!("{expected}: {error}"),
        }
    }
    let other = Arc::new(pairs(100, 14, WORDS, 9));
    let resume = |pairs: &Arc<EncodedPairs>, held_out: &Arc<EncodedPairs>| {
        let (pairs, held_out) = (pairs.clone(), held_out.clone());
        TranslationRun::resume(folder.path(), begun.clone(), pairs, held_out)
    };
    let error = resume(&other, &setting.held_out).unwrap_err();
    assert!(matches!(error, RunError::Data(DataError::OtherData { .. })), "{error}");
    match resume(&setting.pairs, &other).unwrap_err() {
        RunError::OtherRecipe { setting, .. } => assert!(setting.starts_with("held_out")),
        error => panic!("{error}"),
    }
    resume(&setting.pairs, &setting.held_out).unwrap();
}

#[test]
fn options_that_no_run_can_have_are_refused_before_the_first_step() {
    let setting = Setting::new();
    let changes: [Change; 8] = [
        ("accumulate", |o| o.accumulate = 0),
        ("evaluation_batches", |o| o.evaluation_batches = 0),
        ("max_source_tokens and max_target_tokens", |o| o.data.max_source_tokens = 32),
        ("tokens of a batch", |o| o.data.tokens = 12),
        ("window", |o| o.data.window = 0),
        ("special", |o| o.data.special.target_start = 5),
        ("average.last", |o| o.average = Some(Average { last: 0, every: 3 })),
        ("average.every", |o| o.average = Some(Average { last: 3, every: 0 })),
    ];
    for (expected, change) in changes {
        let folder = tempfile::tempdir().unwrap();
        let mut options = options(Precision::F32, 1);
        change(&mut options);
        let error = setting.start(folder.path(), &options).unwrap_err();
        assert!(matches!(error, RunError::Data(_)), "{error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{expected}");
    }
}

/// A token that the model does not have stops the run where it stands.
#[test]
fn a_step_that_cannot_be_taken_leaves_all_as_it_was() {
    let setting = Setting::new();
    let pairs = Arc::new(pairs(100, 14, WORDS + 1, 4));
    let options = options(Precision::F32, 1);
    let folder = tempfile::tempdir().unwrap();
    let held_out = setting.held_out.clone();
    let mut run = TranslationRun::start(folder.path(), options, pairs, held_out).unwrap();
    let error = loop {
        if let Err(error) = run.step() {
            break error;
        }
    };
    assert!(matches!(error, RunError::Model(_)), "{error}");
    let (steps, epoch) = (run.steps(), run.epoch());
    assert_eq!(run.step().unwrap_err().to_string(), error.to_string());
    assert_eq!((run.steps(), run.epoch()), (steps, epoch));
}

#[test]
fn the_log_has_what_was_learnt_and_the_dropped_pairs_are_told() {
    let setting = Setting::new();
    let options = options(Precision::F32, 2);
    let folder = tempfile::tempdir().unwrap();
    let mut run = setting.start(folder.path(), &options).unwrap();
    let too_long = |pairs: &EncodedPairs| -> Vec<u64> {
        let long = (0..pairs.len()).filter(|&number| pairs.get(number).0.len() > 12);
        long.map(|number| pairs.line(number)).collect()
    };
    let lines = |dropped: &[ferrite_models::data::DroppedPair]| -> Vec<u64> {
        dropped.iter().map(|pair| pair.line).collect()
    };
    assert_eq!(lines(run.dropped()), too_long(&setting.pairs));
    assert_eq!(lines(run.held_out_dropped()), too_long(&setting.held_out));
    assert!(!run.dropped().is_empty());
    steps(&mut run, STEPS);
    let text = fs::read_to_string(folder.path().join("log.jsonl")).unwrap();
    let records: Vec<StepRecord<TranslationScores>> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let evaluations: Vec<Evaluation<TranslationScores>> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!((records.len() as u64, evaluations.len() as u64), (STEPS, STEPS / 3));
    for record in &records {
        // Smoothing costs most where the model is sure, and nothing in the mean where it is not.
        assert!(record.scores.loss > 0.0 && record.scores.nll > 0.0, "{record:?}");
        assert!(record.tokens <= 4 * 90 && record.tokens > 90, "{record:?}");
    }
    for evaluation in &evaluations {
        assert_eq!(evaluation.perplexity, evaluation.held_out.nll.exp());
    }
    let svg = fs::read_to_string(folder.path().join("loss.svg")).unwrap();
    assert!(svg.contains("Translation") && svg.matches("stroke-linejoin").count() == 2);
    assert_eq!(run.trainer().model().level(), Level::current());
}
