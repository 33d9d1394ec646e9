//! Runs of pre-training that stop, are damaged and go on: the bits are those of the run that nothing
//! happened to.

mod pretraining_common;
mod pretraining_run_common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferrite_models::Error;
use ferrite_models::bert::{Batch, Bert, Workspace};
use ferrite_models::checkpoint::Checkpoint;
use ferrite_models::data::{BatchSize, Corpus, CorpusOptions, DataError, Masking};
use ferrite_models::kernels::{Arithmetic, Level, Precision};
use ferrite_models::tokenizer::Tokenizer;
use ferrite_models::train::store::StoreError;
use ferrite_models::train::{PretrainingRun, RunError, RunOptions, StepRecord};
use pretraining_common::tokenizer;
use pretraining_run_common::{
    SAVE_EVERY, STEPS, Setting, end, in_threads, options, steps, straight, text, words,
};
use tempfile::TempDir;

/// What a setting is called, and how to change it.
type Change = (&'static str, fn(&mut RunOptions));

#[test]
fn a_run_that_stops_after_any_step_ends_with_the_same_bits_and_the_same_log() {
    let setting = Setting::new();
    for (precision, accumulate) in [(Precision::F32, 1), (Precision::F32, 2), (Precision::Bf16, 2)]
    {
        let options = options(precision, accumulate);
        let expected = in_threads(2, || straight(&setting, &options));
        // The log has what happened, once and in order.
        let order: Vec<(u64, bool)> = expected
            .log
            .iter()
            .map(|line| (line["step"].as_u64().unwrap(), line.get("held_out").is_some()))
            .collect();
        let naive: Vec<(u64, bool)> = (1..=STEPS)
            .flat_map(|step| [Some((step, false)), (step % 3 == 0).then_some((step, true))])
            .flatten()
            .collect();
        assert_eq!(order, naive);
        for stop in 1..=10 {
            let folder = tempfile::tempdir().unwrap();
            in_threads(1, || {
                let mut run = setting.start(folder.path(), &options).unwrap();
                steps(&mut run, stop);
                run.save().unwrap();
                // What is done after the checkpoint and lost, and a line that was cut off.
                steps(&mut run, (stop + 2).min(SAVE_EVERY * (stop / SAVE_EVERY + 1) - 1).max(stop));
            });
            let path = folder.path().join("log.jsonl");
            let torn = fs::read_to_string(&path).unwrap() + "{\"step\": 99, \"masked_lo";
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

/// Stops with checkpoints of the steps 4 and 8.
fn stopped(setting: &Setting, options: &RunOptions) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    steps(&mut setting.start(folder.path(), options).unwrap(), 9);
    folder
}

fn checkpoint(folder: &Path, step: u64, file: &str) -> PathBuf {
    folder.join(format!("checkpoints/step-{step:08}/{file}"))
}

#[test]
fn a_damaged_checkpoint_is_told_of_and_the_one_before_is_taken() {
    let setting = Setting::new();
    let options = options(Precision::F32, 1);
    let expected = straight(&setting, &options);
    for file in ["model.safetensors", "v.safetensors", "state.json", "commit.json"] {
        for torn in [true, false] {
            let folder = stopped(&setting, &options);
            let path = checkpoint(folder.path(), 8, file);
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            if torn {
                bytes.truncate(middle)
            } else {
                bytes[middle] ^= 4
            }
            fs::write(&path, bytes).unwrap();
            let mut run = setting.resume(folder.path(), &options).unwrap();
            assert_eq!(run.steps(), 4, "{file}");
            let [damaged] = run.damaged() else { panic!("{:?}", run.damaged()) };
            assert!(damaged.to_string().contains("step-00000008"), "{damaged}");
            assert!(end(&mut run, folder.path()) == expected, "{file}, torn: {torn}");
        }
    }
    // Both of them: no new run begins in silence.
    let folder = stopped(&setting, &options);
    for step in [4, 8] {
        fs::remove_file(checkpoint(folder.path(), step, "m.safetensors")).unwrap();
    }
    for error in [setting.start(folder.path(), &options), setting.resume(folder.path(), &options)] {
        let error = error.unwrap_err();
        assert!(matches!(error, RunError::Store(StoreError::NoneWhole { .. })), "{error}");
    }
}

#[test]
fn what_was_changed_is_named() {
    let setting = Setting::new();
    let begun = options(Precision::F32, 1);
    let folder = stopped(&setting, &begun);
    let changes: [Change; 10] = [
        ("accumulate", |o| o.accumulate = 2),
        ("batch.sequences", |o| o.data.batch = BatchSize::Sequences(7)),
        ("config.hidden_dropout_prob", |o| o.config.hidden_dropout_prob = 0.2),
        ("data.pairs.max_seq_length", |o| o.data.instances.max_seq_length = 23),
        ("data.words.static", |o| o.data.masking.masking = Masking::Static { duplicates: 2 }),
        ("data.held_out", |o| o.data.held_out = 0.21),
        ("optimizer.weight_decay", |o| o.trainer.optimizer.adamw.weight_decay = 0.1),
        ("precision", |o| {
            o.arithmetic = Arithmetic::new(Level::current(), Precision::Bf16);
        }),
        ("schedule.total", |o| o.trainer.schedule.total += 1),
        ("seed", |o| o.trainer.seed += 1),
    ];
    for (expected, change) in changes {
        let mut options = begun.clone();
        change(&mut options);
        match setting.resume(folder.path(), &options).unwrap_err() {
            RunError::OtherRecipe { setting, saved, now, .. } => {
                assert_eq!(setting, expected);
                assert_ne!(saved, now);
            }
            error => panic!("{expected}: {error}"),
        }
    }
    let other_data = |corpus: &Arc<Corpus>, tokenizer: &Arc<Tokenizer>| {
        let (corpus, tokenizer) = (corpus.clone(), tokenizer.clone());
        let error = PretrainingRun::resume(folder.path(), begun.clone(), corpus, tokenizer);
        let error = error.unwrap_err();
        assert!(matches!(error, RunError::Data(DataError::OtherData { .. })), "{error}");
    };
    let mut words = words();
    words.swap(3, 5);
    other_data(&setting.corpus, &tokenizer(words));
    let path = setting.files.folder.path().join("other.txt");
    fs::write(&path, text().replacen("w9", "w8", 1)).unwrap();
    let corpus = Corpus::open([&path], CorpusOptions::default()).unwrap();
    other_data(&Arc::new(corpus), &setting.tokenizer);
    // A text of the same content by another name is the same.
    fs::write(&path, text()).unwrap();
    let corpus = Arc::new(Corpus::open([&path], CorpusOptions::default()).unwrap());
    let tokenizer = setting.tokenizer.clone();
    PretrainingRun::resume(folder.path(), begun.clone(), corpus, tokenizer).unwrap();
}

#[test]
fn options_that_no_run_can_have_are_refused_before_the_first_step() {
    let setting = Setting::new();
    let changes: [Change; 7] = [
        ("accumulate", |o| o.accumulate = 0),
        ("evaluation_batches", |o| o.evaluation_batches = 0),
        ("held out", |o| o.data.held_out = 0.0),
        ("held_out", |o| o.data.held_out = 2.0),
        ("max_seq_length", |o| o.data.instances.max_seq_length = 33),
        ("max_seq_length", |o| o.data.instances.max_seq_length = 4),
        ("sequences of a batch", |o| o.data.batch = BatchSize::Sequences(0)),
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

/// A text that changes while it is read stops the run where it stands, and not beyond.
#[test]
fn a_step_without_data_leaves_all_as_it_was() {
    let setting = Setting::new();
    let options = options(Precision::F32, 2);
    let expected = straight(&setting, &options);
    let folder = tempfile::tempdir().unwrap();
    let mut run = setting.start(folder.path(), &options).unwrap();
    let whole = fs::read(&setting.files.paths[0]).unwrap();
    let mut failed = 0;
    fs::write(&setting.files.paths[0], "gone").unwrap();
    while run.steps() < STEPS {
        let before = run.steps();
        match run.step() {
            Ok(_) => {}
            Err(RunError::Data(DataError::SizeChanged { .. })) => {
                failed += 1;
                assert_eq!(run.steps(), before);
                fs::write(&setting.files.paths[0], &whole).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(failed > 0);
    let bits: Vec<u32> = run.trainer().parameters().values().iter().map(|x| x.to_bits()).collect();
    assert!(bits == expected.parameters);
}

/// A vocabulary with more words than the model is refused before a folder has anything of the run.
#[test]
fn words_that_the_model_has_not_are_an_error() {
    let setting = Setting::new();
    let mut options = options(Precision::F32, 1);
    options.config.vocab_size = 74;
    let folder = tempfile::tempdir().unwrap();
    let error = setting.start(folder.path(), &options).unwrap_err();
    let expected = Error::VocabularyTooLarge { words: 75, rows: 74 };
    assert_eq!(error.to_string(), expected.to_string());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// What no model can be trained with is found before a folder has anything of the run.
#[test]
fn settings_that_nothing_is_learnt_with_are_errors() {
    let setting = Setting::new();
    type Set = fn(&mut RunOptions);
    let settings: [(&str, Set); 9] = [
        ("hidden_dropout_prob", |of| of.config.hidden_dropout_prob = 1.0),
        ("attention_probs_dropout_prob", |of| of.config.attention_probs_dropout_prob = f32::NAN),
        ("initializer_range", |of| of.config.initializer_range = f32::INFINITY),
        ("layer_norm_eps", |of| of.config.layer_norm_eps = 0.0),
        ("type_vocab_size", |of| of.config.type_vocab_size = 1),
        ("epsilon", |of| of.trainer.optimizer.adamw.epsilon = 0.0),
        ("peak", |of| of.trainer.schedule.peak = f32::NAN),
        ("accumulate", |of| of.accumulate = 0),
        ("accumulate", |of| of.accumulate = (1 << 20) + 1),
    ];
    for (name, set) in settings {
        let mut options = options(Precision::F32, 1);
        set(&mut options);
        let folder = tempfile::tempdir().unwrap();
        let error = setting.start(folder.path(), &options).unwrap_err();
        assert!(matches!(error, RunError::Model(_) | RunError::Data(_)), "{error}");
        assert!(error.to_string().contains(name), "{name}: {error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{name}");
    }
}

/// Steps that are skipped one after the other count on where a run goes on.
#[test]
fn a_run_that_goes_on_without_hope_ends_no_later() {
    let setting = Setting::new();
    let mut options = options(Precision::F32, 1);
    // The squares of the parameters are finite, and those of their gradients are not.
    options.config.initializer_range = 1e16;
    options.trainer.schedule.total = 200;
    let folder = tempfile::tempdir().unwrap();
    let mut run = setting.start(folder.path(), &options).unwrap();
    for _ in 0..60 {
        assert!(run.step().unwrap().skipped);
    }
    run.save().unwrap();
    drop(run);
    let mut run = setting.resume(folder.path(), &options).unwrap();
    for _ in 60..99 {
        assert!(run.step().unwrap().skipped);
    }
    let error = run.step().unwrap_err();
    assert!(matches!(error, RunError::Diverged { skipped: 100, steps: 100 }), "{error}");
}

#[test]
fn what_is_exported_is_the_model() {
    let setting = Setting::new();
    for precision in [Precision::F32, Precision::Bf16] {
        let options = options(precision, 1);
        let folder = tempfile::tempdir().unwrap();
        let mut run = setting.start(folder.path(), &options).unwrap();
        steps(&mut run, STEPS);
        run.export().unwrap();
        let bert = Bert::from_pretrained_at(options.arithmetic, folder.path()).unwrap();
        let mut batch = Batch::default();
        batch.push(&[2, 9, 4, 30, 3, 61, 4, 3], Some(&[0, 0, 0, 0, 0, 1, 1, 1]));
        batch.push(&[2, 4, 3, 74, 3], Some(&[0, 0, 0, 1, 1]));
        let logits = |bert: &Bert| {
            let mut workspace = Workspace::default();
            let hidden = bert.encode(&batch, &mut workspace).unwrap();
            let words = bert.masked_lm().unwrap().forward(hidden);
            let pooled = bert.pool(&batch, hidden).unwrap();
            [words.as_slice(), pooled.as_slice()].concat()
        };
        let (loaded, trained) = (logits(&bert), logits(run.trainer().bert()));
        let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x * x)).sum::<f64>();
        let error = norm(&mut loaded.iter().zip(&trained).map(|(x, y)| x - y)).sqrt();
        let size = norm(&mut trained.iter().copied()).sqrt();
        println!("{precision:?}: logits off by {:.1e} of themselves", error / size);
        // In f32 the same bits; in bf16 training keeps the pooler in f32, and loading does not.
        assert!(error <= if precision == Precision::F32 { 0.0 } else { 0.01 * size });

        // Each tensor, by its name, is the trainer's.
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let parameters = run.trainer().parameters();
        assert_eq!(checkpoint.tensors().count(), parameters.tensors().len());
        for tensor in parameters.tensors() {
            let stored = checkpoint.get(&tensor.stored_name()).unwrap();
            let mut values = vec![f32::NAN; tensor.range.len()];
            checkpoint.read(stored, &mut values).unwrap();
            assert_eq!(values, parameters.tensor(tensor), "{}", tensor.name);
        }

        let steps: Vec<StepRecord> = fs::read_to_string(folder.path().join("log.jsonl"))
            .unwrap()
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        assert_eq!(steps.len() as u64, STEPS);
        assert!(steps.iter().all(|step| step.seconds >= 0.0 && step.tokens > 0 && !step.skipped));
        let svg = fs::read_to_string(folder.path().join("loss.svg")).unwrap();
        assert_well_formed(&svg);
        assert_eq!(svg.matches("stroke-linejoin").count(), 2, "two curves");
    }
}

/// XML of elements, attributes in double quotes, and text.
fn assert_well_formed(xml: &str) {
    let (mut open, mut rest) = (Vec::new(), xml.trim_end());
    assert!(rest.starts_with("<svg ") && rest.ends_with("</svg>"));
    while let Some(start) = rest.find('<') {
        let text = &rest[..start];
        assert!(!text.contains('>'), "{text}");
        for entity in text.split('&').skip(1) {
            assert!(["amp;", "lt;", "gt;"].iter().any(|known| entity.starts_with(known)), "{text}");
        }
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name)),
            None => {
                let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
                let attributes = attributes.trim_end_matches('/');
                assert!(attributes.matches('"').count() % 2 == 0 && !attributes.contains('<'));
                let mut names: Vec<&str> = attributes
                    .split('"')
                    .step_by(2)
                    .map(str::trim)
                    .filter(|n| !n.is_empty())
                    .collect();
                assert!(names.iter().all(|name| name.ends_with('=')), "{tag}");
                let count = names.len();
                names.sort_unstable();
                names.dedup();
                assert_eq!(names.len(), count, "an attribute twice: {tag}");
                if !tag.ends_with('/') {
                    open.push(name);
                }
            }
        }
        assert!(!open.is_empty() || rest.is_empty(), "one root");
    }
    assert!(open.is_empty() && rest.is_empty());
}
