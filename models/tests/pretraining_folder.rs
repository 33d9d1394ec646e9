//! The folder of a run of pre-training: one run at a time, nothing of value replaced, and what cannot
//! be written is named and costs no checkpoint.

mod pretraining_common;
mod pretraining_run_common;

use std::fs;
use std::path::Path;

use ferrite_models::kernels::Precision;
use ferrite_models::train::store::StoreError;
use ferrite_models::train::{RunError, RunFolder, RunOptions};
use pretraining_run_common::{Setting, end, log, options, steps, straight, text};

/// Asserts that nothing but the folder's lock keeps a run from it.
#[track_caller]
fn assert_in_use(setting: &Setting, folder: &Path, options: &RunOptions) {
    for run in [setting.start(folder, options), setting.resume(folder, options)] {
        match run.unwrap_err() {
            RunError::InUse { folder: named } => assert_eq!(named, folder),
            error => panic!("{error}"),
        }
    }
}

#[test]
fn a_folder_has_one_run_at_a_time() {
    let setting = Setting::new();
    let options = options(Precision::F32, 1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    // It is taken as soon as it is looked at, and given back by whatever ends.
    let looked_at = RunFolder::fresh(path).unwrap();
    assert_in_use(&setting, path, &options);
    drop(looked_at);
    let mut run = setting.start(path, &options).unwrap();
    assert_in_use(&setting, path, &options);
    steps(&mut run, 5);
    assert_in_use(&setting, path, &options);
    // What was refused has done no harm.
    steps(&mut run, 8);
    drop(run);
    let mut refused = options.clone();
    refused.accumulate = 0;
    setting.resume(path, &refused).unwrap_err();
    let run = setting.resume(path, &options).unwrap();
    assert_eq!(run.steps(), 8);
    assert_in_use(&setting, path, &options);
    // Another folder is another matter.
    setting.start(&path.join("inner"), &options).unwrap();
}

#[test]
fn a_run_or_a_model_that_is_there_is_not_replaced() {
    let setting = Setting::new();
    let options = options(Precision::F32, 1);
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    for path in [folder.path(), &missing] {
        match setting.resume(path, &options).unwrap_err() {
            RunError::NothingToResume { folder } => assert_eq!(folder, path),
            error => panic!("{error}"),
        }
    }
    assert!(!missing.exists());
    // One that was stopped before its first checkpoint is none, and its log goes.
    steps(&mut setting.start(folder.path(), &options).unwrap(), 3);
    assert!(!log(folder.path()).is_empty());
    let mut run = setting.start(folder.path(), &options).unwrap();
    assert_eq!(fs::read(folder.path().join("log.jsonl")).unwrap(), b"");
    steps(&mut run, 9);
    drop(run);
    let before = log(folder.path());
    match setting.start(folder.path(), &options).unwrap_err() {
        RunError::AlreadyThere { folder: named, step } => {
            assert_eq!((named.as_path(), step), (folder.path(), 8));
        }
        error => panic!("{error}"),
    }
    assert_eq!(log(folder.path()), before);
    // Nor is a model that is not of a run.
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.safetensors");
    fs::write(&model, "dear").unwrap();
    match setting.start(folder.path(), &options).unwrap_err() {
        RunError::ModelThere { path } => assert_eq!(path, model),
        error => panic!("{error}"),
    }
    assert_eq!(fs::read(&model).unwrap(), b"dear");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_cannot_be_written_is_named_and_the_run_can_go_on() {
    let setting = Setting::new();
    let options = options(Precision::F32, 1);
    let expected = straight(&setting, &options);
    // A folder cannot be made in the place of a file, or below one.
    let file = &setting.files.paths[0];
    for path in [file, &file.join("inner")] {
        for run in [setting.start(path, &options), setting.resume(path, &options)] {
            let error = run.unwrap_err();
            let is_named = match &error {
                RunError::Io { path: named, .. }
                | RunError::Store(StoreError::Io { path: named, .. }) => named.starts_with(file),
                RunError::NothingToResume { folder } => folder == path,
                _ => false,
            };
            assert!(is_named, "{error}");
        }
    }
    assert_eq!(fs::read_to_string(file).unwrap(), text());
    // A folder with folders in it in the place of what is written at step 8, or removed then: the
    // store removes a checkpoint that is damaged or old, but nothing that was never its own.
    for blocked in ["checkpoints/step-00000002", "checkpoints/step-00000008", "loss.svg"] {
        let folder = tempfile::tempdir().unwrap();
        let mut run = setting.start(folder.path(), &options).unwrap();
        steps(&mut run, 7);
        let path = folder.path().join(blocked);
        let _ = fs::remove_file(&path);
        fs::create_dir_all(path.join("inner/deep")).unwrap();
        run.step().unwrap();
        let error = run.save().unwrap_err();
        let in_the_way = match &error {
            RunError::Io { path: named, .. } => named,
            RunError::Store(StoreError::NotRemoved { path: named, .. }) => named,
            _ => panic!("{blocked}: {error}"),
        };
        assert!(in_the_way.join("deep").is_dir() || *in_the_way == path, "{error}");
        drop(run);
        // Whatever it was, the new checkpoint is safe.
        let mut run = setting.resume(folder.path(), &options).unwrap();
        assert_eq!(run.steps(), 8, "{blocked}");
        fs::remove_dir_all(in_the_way).unwrap();
        let found = end(&mut run, folder.path());
        assert!(found.parameters == expected.parameters, "{blocked}");
        assert!(found.moments == expected.moments, "{blocked}");
    }
    for name in ["config.json", "model.safetensors"] {
        let folder = tempfile::tempdir().unwrap();
        let run = setting.start(folder.path(), &options).unwrap();
        let path = folder.path().join(name);
        fs::create_dir_all(path.join("inner")).unwrap();
        match run.export().unwrap_err() {
            RunError::Io { path: named, .. } => assert_eq!(named, path),
            error => panic!("{error}"),
        }
        assert!(!folder.path().join(format!("{name}.partial")).exists());
        fs::remove_dir_all(&path).unwrap();
        run.export().unwrap();
        assert!(path.is_file());
    }
    // The log, when the run begins.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    fs::create_dir(&path).unwrap();
    match setting.start(folder.path(), &options).unwrap_err() {
        RunError::Io { path: named, .. } => assert_eq!(named, path),
        error => panic!("{error}"),
    }
}

#[test]
fn what_was_left_half_written_is_swept_away() {
    let setting = Setting::new();
    let options = options(Precision::F32, 1);
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = ["vocab.txt", "tokenizer.json", "tokenizer_config.json"];
    let names = ["log.jsonl", "loss.svg", "model.safetensors", "config.json"];
    let partial = |name| folder.path().join(format!("{name}.partial"));
    for name in names.into_iter().chain(tokenizer) {
        fs::write(partial(name), "half").unwrap();
    }
    // What somebody else left is not the run's.
    fs::write(partial("notes"), "half").unwrap();
    drop(setting.start(folder.path(), &options).unwrap());
    for name in names.into_iter().chain(tokenizer) {
        assert!(!partial(name).exists(), "{name}");
    }
    assert!(partial("notes").exists());
}
