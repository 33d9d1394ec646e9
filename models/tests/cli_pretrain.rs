//! `ferrite pretrain`: what it refuses, and what becomes of a run that cannot write.
#![cfg(all(feature = "cli", unix))]

mod cli_common;
mod cli_training_common;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use cli_common::{Run, run_command};
use cli_training_common::{End, SAVE_EVERY, STEPS, Setting, ended, newest, signal, steps, text};
use ferrite_models::data::{Corpus, CorpusOptions};
use serde_json::Value;

/// Asserts the exit code and what the message says and ends with: what to do.
#[track_caller]
fn assert_refused(run: Run, code: i32, said: &str, advice: &str) {
    let run = run.code(code);
    assert_eq!(run.out, "");
    assert!(run.err.contains(said), "{said:?} in {}", run.err);
    assert!(run.err.trim_end().ends_with(advice), "{advice:?} at the end of {}", run.err);
}

#[test]
fn a_run_leaves_a_model_that_the_other_verbs_take() {
    let setting = Setting::new();
    let out = setting.path("deep/out");
    let run = setting.run(&out, &["--format", "jsonl"]).code(0);
    let [evaluation] = &run.json()[..] else { panic!("{}", run.out) };
    assert_eq!(evaluation["step"], STEPS);
    assert!(evaluation["held_out"]["masked_loss"].as_f64().unwrap() > 0.0);
    assert_eq!(steps(&out), [STEPS - SAVE_EVERY, STEPS]);
    // transformers cuts texts where this says.
    let tokenizer = fs::read(out.join("tokenizer_config.json")).unwrap();
    let tokenizer: Value = serde_json::from_slice(&tokenizer).unwrap();
    assert_eq!(tokenizer["model_max_length"], 32);
    let out = out.to_str().unwrap();
    let guess = ["fill-mask", "--model", out, "--format", "jsonl", "iron [MASK] chalk."];
    let guess = run_command(&mut cli_common::ferrite(&guess), b"").code(0);
    assert_eq!(guess.json()[0]["masks"][0]["candidates"].as_array().unwrap().len(), 5);
    let inspect = ["inspect", "--model", out, "--format", "jsonl"];
    let inspect = run_command(&mut cli_common::ferrite(&inspect), b"").code(0);
    assert!(inspect.err.is_empty(), "{}", inspect.err);
    // Nothing but the result where nothing else is wanted.
    let run = setting.run(&setting.path("quiet"), &["--quiet"]).code(0);
    assert_eq!(run.err, "");
    assert!(
        run.out.starts_with("after 60 steps, on documents that were held out\n"),
        "{}",
        run.out
    );
}

#[test]
fn wrong_use_is_told_before_anything_is_written() {
    let setting = Setting::new();
    let out = setting.path("out");
    for (arguments, said) in [
        (&["--steps", "0"][..], "--steps begins at 1"),
        (&["--steps", "many"], "invalid value 'many' for '--steps <N>'"),
        (&["--batch", "0"], "--batch begins at 1"),
        (&["--batch", "-3"], "'-3'"),
        (&["--batch", "9999999999"], "2^32 tokens and more"),
        (&["--accumulate", "0"], "--accumulate begins at 1"),
        (&["--evaluation-batches", "0"], "--evaluation-batches begins at 1"),
        (&["--evaluate-every", "0"], "--evaluate-every begins at 1"),
        (&["--save-every", "0"], "--save-every begins at 1"),
        (&["--static-masks", "0"], "--static-masks begins at 1"),
        (&["--held-out", "0"], "--held-out 0: not between 0 and 1"),
        (&["--held-out", "1"], "--held-out 1: not between 0 and 1"),
        (&["--held-out", "nan"], "--held-out NaN: not between 0 and 1"),
        (&["--max-length", "4"], "--max-length 4: at least 5"),
        (&["--max-length", "33"], "--max-length 33: the model has 32 positions"),
        (&["--rate", "0"], "--rate 0: not a number above 0"),
        (&["--rate", "inf"], "--rate inf: not a number above 0"),
        (&["--dropout", "1"], "a dropout of 1 is not in [0, 1)"),
        (&["--threads", "0"], "'--threads <N>'"),
        (&["--seed", "1.5"], "'--seed <N>'"),
        (&["--precision", "int8"], "[possible values: f32, bf16]"),
        (&["--schedule", "cosine"], "[possible values: linear, google, constant]"),
        (&["--config", "huge"], "--config huge: neither tiny, mini, small, medium, base, nor "),
        (&["--vocab", ".", "--cased"], "cannot be used with"),
    ] {
        let run = setting.run(&out, arguments).code(2);
        assert!(run.err.contains(said) && run.out.is_empty(), "{said:?} in {}", run.err);
        assert!(!out.exists(), "{arguments:?}");
    }
    // What can run and cannot be pre-trained.
    for (field, said) in [
        (r#""type_vocab_size": 1"#, "type_vocab_size: at least 2, for pairs of segments expected"),
        (r#""layer_norm_eps": 0"#, "layer_norm_eps: a number above 0 expected"),
    ] {
        let config = setting.path("untrainable.json");
        let sizes = fs::read_to_string(&setting.config).unwrap();
        fs::write(&config, sizes.replacen('{', &format!("{{{field}, "), 1)).unwrap();
        let run = setting.run(&out, &["--config", config.to_str().unwrap()]).code(2);
        assert!(run.err.contains("untrainable.json: "), "{}", run.err);
        assert!(run.err.contains(said) && !out.exists(), "{said:?} in {}", run.err);
    }
    for arguments in [&["pretrain", "--out", "x"][..], &["pretrain", "x"], &["pretrain"]] {
        run_command(&mut cli_common::ferrite(arguments), b"").code(2);
    }
    // What does not fit is known when the vocabulary is, and before any of it is taken.
    let run = setting.run(&out, &["--batch", "100000000"]);
    let advice = "take a smaller --batch, with --accumulate, or a shorter --max-length";
    assert_refused(run, 2, "that is more than the ", advice);
    assert!(!out.join("model.safetensors").exists());
}

#[test]
fn a_corpus_that_no_run_can_be_made_of_is_refused() {
    let setting = Setting::new();
    let out = setting.path("out");
    let more = "A larger --held-out helps, or more documents: blank lines, or files, end them.";
    let has_text = "Give files with text.";
    for (corpus, said, advice) in [
        ("", "no document in 1 file: nothing but blank lines", has_text),
        ("\n \n\r\n\n", "no document in 1 file: nothing but blank lines", has_text),
        ("\u{1}\u{2}\n\n\u{1}", "", "the corpus has no words to learn from"),
        (&text(1), "no document is left", more),
        (&text(2), "no document is left", more),
    ] {
        fs::write(&setting.corpus, corpus).unwrap();
        assert_refused(setting.run(&out, &[]), 1, said, advice);
        assert!(steps(&out).is_empty());
        // A vocabulary that was made of it stays, and serves the next attempt; else there is nothing.
        match out.join("vocab.txt").exists() {
            true => fs::remove_dir_all(&out).unwrap(),
            false => assert!(!out.exists(), "{corpus:?}"),
        }
    }
    for (path, said) in
        [("missing.txt", "missing.txt: No such file"), (".", "/.: not a regular file")]
    {
        let path = setting.path(path);
        let mut command = setting.command(&out, &[]);
        let run = run_command(command.arg(&path), b"").code(1);
        assert!(run.err.contains(said), "{said:?} in {}", run.err);
    }
    fs::write(&setting.corpus, text(60)).unwrap();
    let run = setting.run(&out, &["--vocab-size", "9"]).code(1);
    assert!(run.err.contains("a vocabulary of 9 tokens has no room"), "{}", run.err);
    // None of it stands in the way of what is right.
    setting.run(&out, &[]).code(0);
}

/// The text of held-out documents changes while a run goes on: steps do not read it, the evaluation
/// does. What was learnt until then is saved.
#[test]
fn an_evaluation_that_cannot_be_done_costs_no_step() {
    let setting = Setting::new();
    let out = setting.path("out");
    let many = ["--steps", "100000", "--save-every", "100000", "--evaluate-every", "150"];
    let child = setting.command(&out, &many).spawn().unwrap();
    while !fs::read(out.join("log.jsonl")).is_ok_and(|log| log.contains(&b'\n')) {
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
    let corpus = Corpus::open([&setting.corpus], CorpusOptions::default()).unwrap();
    let text = fs::read_to_string(&setting.corpus).unwrap();
    let mut file = File::options().write(true).open(&setting.corpus).unwrap();
    for &number in &corpus.split(0.1, 1).unwrap().held_out {
        let line = corpus.place(number).1 as usize - 1;
        let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
        file.seek(SeekFrom::Start(start as u64)).unwrap();
        file.write_all(b"X").unwrap();
    }
    let run = ended(child);
    assert_refused(run, 1, "the file changed: the document here is another one", "another one");
    assert_eq!(newest(&out), Some(150));
}

/// A vocabulary is made of the text as the corpus reads it, of whatever encoding.
#[test]
fn text_that_is_not_utf8_gives_a_vocabulary_and_a_run() {
    let setting = Setting::new();
    let mut bytes = fs::read(&setting.corpus).unwrap();
    bytes.splice(0..0, *b"caf\xE9 au lait.\n");
    bytes.extend(b"\n\xFF\xFE amber\n");
    fs::write(&setting.corpus, bytes).unwrap();
    let run = setting.run(&setting.path("out"), &[]).code(0);
    assert!(run.err.contains("; 3 places not in UTF-8"), "{}", run.err);
}

#[test]
fn a_vocabulary_is_taken_as_it_is_and_not_replaced() {
    let setting = Setting::new();
    let expected = setting.straight();
    let with_vocabulary = |out: &Path, folder: &Path| {
        let mut arguments = setting.arguments(out);
        let place = arguments.iter().position(|argument| argument == "--vocab-size").unwrap();
        arguments[place] = "--vocab".to_owned();
        arguments[place + 1] = folder.to_str().unwrap().to_owned();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run_command(&mut cli_common::ferrite(&arguments), b"")
    };
    let (out, straight) = (setting.path("out"), setting.path("straight"));
    let run = with_vocabulary(&out, &straight).code(0);
    End::of(&out, &run).assert_is(&expected, "the vocabulary of another run");
    let missing = setting.path("missing");
    let run = with_vocabulary(&setting.path("none"), &missing).code(1);
    assert!(run.err.contains(missing.to_str().unwrap()), "{}", run.err);

    // The tokenizer of someone else in the folder of the run.
    let other = setting.path("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("vocab.txt"), "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\niron\n").unwrap();
    let before = fs::read(other.join("vocab.txt")).unwrap();
    let said = "vocab.txt: of another tokenizer than this run's";
    let advice = format!("--vocab {} takes that one; or take another --out.", other.display());
    assert_refused(setting.run(&other, &[]), 1, said, &advice);
    assert_refused(with_vocabulary(&other, &straight), 1, said, &advice);
    assert_eq!(fs::read(other.join("vocab.txt")).unwrap(), before);
    with_vocabulary(&other, &other).code(0);
    assert_eq!(fs::read(other.join("vocab.txt")).unwrap(), before);
}

#[test]
fn a_run_that_is_there_is_neither_replaced_nor_continued_in_another_way() {
    let setting = Setting::new();
    let expected = setting.straight();
    let out = setting.path("out");
    let run = setting.run(&out, &["--resume"]);
    assert_refused(run, 1, "no checkpoint to go on from", "Without --resume a new run begins.");
    assert!(!out.exists());

    let step = setting.killed(&out, 2);
    let run = setting.run(&out, &[]);
    let said = format!("a run is there already, at step {step}");
    assert_refused(run, 1, &said, "--resume goes on with it; or take another --out.");
    for (arguments, said) in [
        (["--steps", "61"], "begun with schedule.total = 60, and now it is 61"),
        (["--batch", "9"], "batch.sequences = 8, and now it is 9"),
        (["--seed", "2"], "data.seed = 1, and now it is 2"),
        (["--precision", "bf16"], "precision = \"f32\", and now it is \"bf16\""),
        (["--config", "tiny"], "config."),
    ] {
        let arguments = [&arguments[..], &["--resume"]].concat();
        let run = setting.run(&out, &arguments);
        assert_refused(run, 1, said, "Give the options that it was begun with.");
    }
    let whole = fs::read_to_string(&setting.corpus).unwrap();
    fs::write(&setting.corpus, whole.replacen("iron", "icon", 1)).unwrap();
    let advice = "Give the texts and the vocabulary that it was begun with.";
    assert_refused(setting.run(&out, &["--resume"]), 1, "text, vocabulary or settings", advice);
    fs::write(&setting.corpus, whole).unwrap();

    // Two processes in one folder: the second goes away, and does no harm.
    let mut first = setting.command(&out, &["--resume"]).spawn().unwrap();
    let mut said = BufReader::new(first.stderr.take().unwrap());
    said.read_line(&mut String::new()).unwrap();
    signal(&first, "STOP");
    assert!(first.try_wait().unwrap().is_none());
    for more in [&["--resume"][..], &[]] {
        let run = setting.run(&out, more);
        assert_refused(run, 1, "another process trains there", "another process trains there");
    }
    signal(&first, "CONT");
    said.read_to_string(&mut String::new()).unwrap();
    End::of(&out, &ended(first).code(0)).assert_is(&expected, "the first of two processes");

    fs::remove_dir_all(out.join("checkpoints")).unwrap();
    let run = setting.run(&out, &[]);
    assert_refused(run, 1, "model.safetensors: a model is there already", "Take another --out.");
}

/// A run on a disk where no file has more than `blocks` of half a KiB: the name of the file that ends
/// it.
fn run_short_of_room(inner: &Command, blocks: u32) -> String {
    let mut command = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    command.args(["-c", &script]).arg(inner.get_program()).args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = run_command(&mut command, b"").code(1);
    let (path, _) = run.err.split_once(": File too large").expect("what the system says");
    let (_, path) = path.rsplit_once("ferrite: ").unwrap();
    println!("{blocks}: {path}");
    assert!(Path::new(path).is_absolute(), "{}", run.err);
    path.rsplit_once('/').unwrap().1.to_owned()
}

#[test]
fn a_full_disk_costs_no_checkpoint() {
    let setting = Setting::new();
    let expected = setting.straight();
    let out = setting.path("out");
    let mut step = setting.killed(&out, 2);
    let mut named = BTreeSet::new();
    for blocks in [0, 1, 8, 16, 30] {
        named.insert(run_short_of_room(&setting.command(&out, &["--resume"]), blocks));
        let now = newest(&out).unwrap();
        assert!(now >= step, "{step}, and then {now}");
        step = now;
    }
    assert!(named.contains("log.jsonl") && named.contains("m.safetensors"), "{named:?}");
    let run = setting.run(&out, &["--resume"]).code(0);
    End::of(&out, &run).assert_is(&expected, "room again");

    // In the middle of the log, before there is a checkpoint; and with nothing at all.
    let late = setting.path("late");
    let command = setting.command(&late, &["--save-every", "1000"]);
    assert_eq!(run_short_of_room(&command, 0), "tokenizer_config.json");
    assert_eq!(run_short_of_room(&command, 20), "log.jsonl");
    assert!(fs::metadata(late.join("log.jsonl")).unwrap().len() > 9_000);
    let run = setting.run(&late, &[]).code(0);
    End::of(&late, &run).assert_is(&expected, "begun anew");

    // A device that is full takes the place of stdout.
    let mut command = setting.command(&out, &["--resume"]);
    command.stdout(File::options().write(true).open("/dev/full").unwrap());
    let run = ended(command.spawn().unwrap()).code(1);
    assert!(run.err.contains("stdout: No space left on device"), "{}", run.err);
}

#[test]
fn what_cannot_be_written_is_named_and_the_run_goes_on_when_it_can() {
    let setting = Setting::new();
    let expected = setting.straight();
    // A file where a folder should be, below a file, and a place where nobody makes folders.
    let inner = setting.corpus.join("inner");
    for out in [setting.corpus.as_path(), &inner, Path::new("/proc/ferrite")] {
        for more in [&[][..], &["--resume"]] {
            let run = setting.run(out, more).code(1);
            let named = out.to_str().unwrap();
            assert!(run.err.starts_with("ferrite: ") && run.err.contains(named), "{}", run.err);
        }
    }
    assert_eq!(fs::read_to_string(&setting.corpus).unwrap(), text(60));
    // A folder where a file should be, from the start or later; nothing is lost by it.
    for (name, is_late) in [
        ("vocab.txt", false),
        ("tokenizer.json", false),
        ("checkpoints", false),
        ("log.jsonl", false),
        ("loss.svg", false),
        ("config.json", false),
        ("model.safetensors", true),
        ("log.jsonl", true),
        ("loss.svg", true),
        ("config.json", true),
    ] {
        let out = setting.path(&format!("{name}-{is_late}"));
        let resume = if is_late { &["--resume"][..] } else { &[] };
        if is_late {
            setting.killed(&out, 1);
        }
        let path = out.join(name);
        let _ = fs::remove_file(&path);
        if name == "checkpoints" {
            fs::create_dir_all(&out).unwrap();
            fs::write(&path, "").unwrap();
        } else {
            fs::create_dir_all(path.join("inner")).unwrap();
        }
        let run = setting.run(&out, resume).code(1);
        assert!(run.err.contains(path.to_str().unwrap()), "{name}: {}", run.err);
        if name == "checkpoints" { fs::remove_file(&path) } else { fs::remove_dir_all(&path) }
            .unwrap();
        let resume = if steps(&out).is_empty() { &[][..] } else { &["--resume"] };
        let run = setting.run(&out, resume).code(0);
        let what = format!("{name}, later: {is_late}");
        if (name, is_late) == ("log.jsonl", true) {
            // The steps before are not in it any more, which only it and the picture show.
            assert_eq!(fs::read(out.join("model.safetensors")).unwrap(), expected_model(&setting));
        } else {
            End::of(&out, &run).assert_is(&expected, &what);
        }
    }
}

fn expected_model(setting: &Setting) -> Vec<u8> {
    fs::read(setting.path("straight/model.safetensors")).unwrap()
}

#[test]
fn every_step_is_in_the_log_once() {
    let setting = Setting::new();
    setting.straight();
    let log = fs::read_to_string(setting.path("straight/log.jsonl")).unwrap();
    let records: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |is_evaluation: bool| -> Vec<u64> {
        let records =
            records.iter().filter(|record| record["held_out"].is_object() == is_evaluation);
        records.map(|record| record["step"].as_u64().unwrap()).collect()
    };
    assert_eq!(of(false), (1..=STEPS).collect::<Vec<_>>());
    assert_eq!(of(true), [15, 30, 45, 60]);
}
