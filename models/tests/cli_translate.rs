//! `ferrite translate`: the quickstart's translator, and what it makes of texts.
#![cfg(feature = "cli")]

mod cli_common;

use std::path::Path;
use std::process::Output;

use cli_common::{ferrite, quickstart, run_command};
use serde_json::Value;

fn said(run: &Output) -> String {
    String::from_utf8_lossy(&run.stderr).into_owned()
}

fn two_steps(out: &Path) -> Output {
    let mut command = ferrite(&["translate", "quickstart", "--steps", "2", "--out"]);
    command.arg(out).output().unwrap()
}

/// The whole of it, to the quality that README promises.
#[test]
fn a_small_transformer_learns_numbers_and_dates() {
    let own = tempfile::tempdir().unwrap();
    let (verb, folder) = (["translate", "quickstart"], own.path().join("numbers"));
    let (report, out) = quickstart(&verb, "FERRITE_TEST_TRANSLATE", folder);
    let number = |name: &str| report[name].as_f64().unwrap();
    assert_eq!(number("unseen"), 1000.0);
    assert!(number("right") >= 980.0, "{report}");
    assert!(number("bleu") >= 98.0, "{report}");

    // What is translated from stdin is what was reported.
    let test = std::fs::read_to_string(out.join("test.tsv")).unwrap();
    let pairs: Vec<(&str, &str)> =
        test.lines().map(|line| line.split_once('\t').unwrap()).collect();
    let mut english = String::new();
    pairs.iter().for_each(|(source, _)| english.extend([source, "\n"]));
    let model = out.to_str().unwrap();
    let run =
        run_command(&mut ferrite(&["translate", "run", "--model", model]), english.as_bytes());
    assert_eq!(run.code, Some(0), "{}", run.err);
    let right = run.out.lines().zip(&pairs).filter(|(found, (_, german))| found == german).count();
    assert_eq!(right as f64, number("right"));
    assert!(std::fs::read_to_string(out.join("attention.svg")).unwrap().contains("Februar"));
}

/// Of a model that has learnt next to nothing.
#[test]
fn translations_come_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("numbers");
    let run = two_steps(&out);
    assert_eq!(run.status.code(), Some(0), "{}", said(&run));
    let again = two_steps(&out);
    assert_eq!(again.status.code(), Some(1));
    assert!(said(&again).contains("--overwrite"), "{}", said(&again));

    let model = out.to_str().unwrap();
    let translate = |more: &[&str], input: &[u8]| {
        let arguments = [&["translate", "run", "--model", model], more].concat();
        run_command(&mut ferrite(&arguments), input)
    };
    // A long line, one that is no text and one with the end in its middle cost only themselves.
    let long = "one ".repeat(200);
    let input =
        [b"one\n\nbad \xff\n".as_slice(), long.as_bytes(), b"\none [SEP] two\ntwo\n"].concat();
    let run = translate(&["--n-best", "2", "--format", "jsonl"], &input);
    assert_eq!(run.code, Some(3), "{}", run.err);
    let lines: Vec<Value> =
        run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 6);
    for index in [0, 5] {
        let found = lines[index]["translations"].as_array().unwrap();
        assert_eq!(found.len(), 2, "{}", lines[index]);
        let [first, second] = [0, 1].map(|rank: usize| found[rank]["score"].as_f64().unwrap());
        assert!(first >= second && first <= 0.0, "{first} {second}");
    }
    // A blank line has nothing to translate.
    let blank = lines[1]["translations"].as_array().unwrap();
    assert_eq!((blank.len(), &blank[0]["text"]), (1, &"".into()), "{}", lines[1]);
    assert_eq!(
        (&blank[0]["tokens"], &blank[0]["is_finished"]),
        (&Value::Array(vec![]), &true.into())
    );
    assert!(lines[2]["error"].is_string() && lines[3]["error"].is_string(), "{}", run.out);
    assert!(run.err.contains("line 4"), "{}", run.err);
    assert_eq!(lines[4]["error"], "the text holds [SEP], which ends or begins sentences");
    // Alone or with others, the same.
    let alone = translate(&["--n-best", "2", "--format", "jsonl"], b"two\n");
    assert_eq!(alone.out.trim(), run.out.lines().last().unwrap());

    let run = translate(&["--n-best", "3"], b"one\ntwo\n");
    assert_eq!((run.code, run.out.lines().count()), (Some(0), 6), "{}", run.err);
    let sample = ["--sample", "--n-best", "2", "--top-k", "5", "--seed"];
    let draw = |seed| translate(&[&sample[..], &[seed]].concat(), b"one\n").out;
    assert_eq!(draw("1"), draw("1"));
    assert_ne!(draw("1"), draw("2"));
    // Known before a model is looked for.
    for (wrong, said) in [
        (&["--beam", "2", "--n-best", "3"][..], "--n-best 3: at most the width 2 expected"),
        (&["--beam", "1000000"], "--beam 1000000: at most 1024 expected"),
        (&["--alpha=-1"], "--alpha -1: an alpha from 0 to 10 expected"),
        (&["--sample", "--temperature", "0"], "--temperature 0: a number above 0 expected"),
        (&["--sample", "--top-k", "0"], "--top-k 0: at least 1 expected"),
        (&["--top-k", "3"], "--sample"),
    ] {
        let arguments = [&["translate", "run", "--model", "nowhere"], wrong].concat();
        let run = run_command(&mut ferrite(&arguments), b"one\n");
        assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{wrong:?}: {}", run.err);
        assert!(run.err.contains(said), "{said:?} in {}", run.err);
    }
    let nowhere =
        ferrite(&["translate", "run", "--model", "nowhere/at-all", "x"]).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(4));
}
