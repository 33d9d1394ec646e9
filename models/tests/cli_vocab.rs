//! `ferrite vocab train`: the library's vocabulary, wherever the texts come from; and what can go
//! wrong.
#![cfg(feature = "cli")]

mod cli_common;

use std::fs;
use std::path::{Path, PathBuf};

use cli_common::{Run, ferrite, run_command};
use ferrite_models::tokenizer::train::{FILES, PairScore};
use ferrite_models::tokenizer::{Tokenizer, TrainerOptions, WordPieceTrainer};

/// Lines of Latin, Greek and Chinese.
fn lines() -> Vec<String> {
    let words = ["lower", "lowest", "Newest", "wide", "widest", "λόγος", "日本", "end.", "été"];
    let line = |n: usize| {
        let words = (0..n % 7).map(|i| words[(n * n + i * i + i) % words.len()]);
        words.collect::<Vec<_>>().join(" ")
    };
    (0..300).map(line).collect()
}

fn train(out: &Path, arguments: &[&str], stdin: &str) -> Run {
    let mut command = ferrite(&["vocab", "train"]);
    run_command(command.args(arguments).arg("--out").arg(out), stdin.as_bytes())
}

fn contents(folder: &Path) -> Vec<Vec<u8>> {
    FILES.iter().map(|name| fs::read(folder.join(name)).unwrap()).collect()
}

/// A folder for the results, and the files of the corpus in it.
fn corpus() -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let lines = lines();
    let files = lines.chunks(120).enumerate().map(|(index, part)| {
        let path = folder.path().join(format!("part {index}.txt"));
        fs::write(&path, part.join("\n")).unwrap();
        path
    });
    let files = files.collect();
    (folder, files)
}

#[test]
fn the_vocabulary_is_the_librarys_from_files_and_stdin_at_any_number_of_threads() {
    let (folder, files) = corpus();
    let files: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let text = lines().join("\r\n");
    for (index, (arguments, score, lowercase)) in [
        (&["--score", "count"][..], PairScore::Count, true),
        (&["--score", "likelihood", "--lowercase"], PairScore::Likelihood, true),
        (&["--cased"], PairScore::Count, false),
    ]
    .into_iter()
    .enumerate()
    {
        let options =
            TrainerOptions { vocab_size: 36, score, lowercase, ..TrainerOptions::default() };
        let mut trainer = WordPieceTrainer::new(options).unwrap();
        trainer.count(&text);
        let expected = folder.path().join(format!("{index}-library"));
        trainer.train(|_| ()).unwrap().save(&expected).unwrap();
        let expected = contents(&expected);

        let arguments = [arguments, &["--size", "36"]].concat();
        let backwards: Vec<&str> = files.iter().copied().rev().collect();
        for (source, stdin, threads) in
            [(&files[..], "", "1"), (&backwards, "", "3"), (&["-"], &text, "2"), (&[], &text, "5")]
        {
            let out = folder.path().join(format!("{index}-{threads}/deep"));
            let all = [&arguments[..], &["--threads", threads], source].concat();
            let run = train(&out, &all, stdin).code(0);
            assert_eq!(run.out, "");
            assert!(run.err.contains("36 tokens by"), "{}", run.err);
            assert_eq!(contents(&out), expected, "{all:?}");
            assert!(Tokenizer::from_pretrained(&out).unwrap().warnings().is_empty());
        }
    }
}

#[test]
fn the_summary_says_what_happened() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(101);
    let text = format!("lower lower lowest q {long}");
    let run = train(&folder.path().join("a"), &["--limit-alphabet", "6"], &text).code(0);
    for said in [
        "4 words, 3 of them distinct; 8 characters, 6 kept",
        "1 word of more than 100 characters not counted",
        "1 word (1 occurrence) with characters beyond --limit-alphabet 6, to be [UNK]",
        "fewer than --size 30522: every word of the corpus is a token",
        "the longest: lower",
    ] {
        assert!(run.err.contains(said), "{said:?} in {}", run.err);
    }
    let run = train(&folder.path().join("b"), &["--min-frequency", "3"], &text).code(0);
    assert!(run.err.contains("no other pair occurs --min-frequency 3 times"), "{}", run.err);
    let run = train(&folder.path().join("c"), &["--max-words", "2"], &text).code(0);
    assert!(run.err.contains("1 word dropped by --max-words 2"), "{}", run.err);
    let run = train(&folder.path().join("d"), &["--quiet"], &text).code(0);
    assert_eq!((run.out.as_str(), run.err.as_str()), ("", ""));
}

#[test]
fn a_tokenizer_is_replaced_only_if_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    train(&out, &[], "first first").code(0);
    let before = contents(&out);
    let run = train(&out, &[], "second second").code(1);
    assert!(run.err.contains("tokenizer_config.json is already there (--overwrite"), "{}", run.err);
    assert_eq!(contents(&out), before);
    train(&out, &["--overwrite"], "second second").code(0);
    assert!(Tokenizer::from_pretrained(&out).unwrap().token_to_id("second").is_some());
}

#[test]
fn failures_name_the_place() {
    let (folder, files) = corpus();
    let out = folder.path().join("out");
    let missing = folder.path().join("missing");
    let latin1 = folder.path().join("latin1");
    fs::write(&latin1, b"plain caf\xE9").unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let file = path(&files[0]);
    for (arguments, said) in [
        (vec![path(&missing)], "missing: "),
        (vec![path(folder.path())], "a folder, not a file"),
        (vec![file.clone(), path(&latin1)], "latin1: not valid UTF-8 at byte 9"),
        (vec![file.clone(), "--size".into(), "10".into()], "a vocabulary of 10 tokens has no room"),
        (vec![], "the corpus has no words"),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let run = train(&out, &arguments, "").code(1);
        assert!(run.err.contains(said), "{said:?} in {}", run.err);
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "{arguments:?}");
    }
    let run = train(&files[0].join("inner"), &[&file], "").code(1);
    assert!(run.err.contains("part 0.txt"), "{}", run.err);
    // Wrong use.
    for arguments in [
        &["--lowercase", "--cased"][..],
        &["--size", "many"],
        &["--score", "best"],
        &["--min-frequency", "-1"],
    ] {
        train(&out, arguments, "").code(2);
    }
    run_command(&mut ferrite(&["vocab", "train", &file]), b"").code(2);
    run_command(&mut ferrite(&["vocab"]), b"").code(2);
}

#[test]
fn help_has_an_example() {
    let help = run_command(&mut ferrite(&["vocab", "train", "--help"]), b"").code(0).out;
    assert!(help.contains("ferrite vocab train corpus/*.txt --out my-bert"), "{help}");
    for option in ["--size", "--cased", "--min-frequency", "--score", "--limit-alphabet"] {
        assert!(help.contains(option), "{option}");
    }
}
