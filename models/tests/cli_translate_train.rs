//! `ferrite translate train` and `evaluate`: what is read, what is refused, and runs that are killed.
#![cfg(all(feature = "cli", unix))]

mod cli_common;
mod cli_training_common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use cli_common::{Run, ferrite, run_command};
use cli_training_common::{End, ended, going_on_after, killed_25_times, newest, signal, steps};
use ferrite_kernels::testing::Random;
use ferrite_models::metrics::{Bleu, BleuOptions, Chrf, ChrfOptions};
use tempfile::TempDir;

/// Sentences of a few words, whose translations are the words backwards in capitals.
fn pairs(number: usize) -> Vec<(String, String)> {
    let words = ["amber", "basalt", "chalk", "dune", "ember", "flint", "garnet", "heath"];
    let mut random = Random::new(3);
    let mut pair = |_| {
        let length = 1 + random.below(6);
        let source: Vec<&str> = (0..length).map(|_| words[random.below(words.len())]).collect();
        let target: Vec<String> = source.iter().rev().map(|word| word.to_uppercase()).collect();
        (source.join(" ") + " .", target.join(" ") + " .")
    };
    (0..number).map(&mut pair).collect()
}

fn tsv(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(source, target)| format!("{source}\t{target}\n")).collect()
}

struct Setting {
    folder: TempDir,
    config: PathBuf,
}

impl Setting {
    fn new() -> Setting {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("sizes.json");
        let sizes = r#"{"vocab_size": 90, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1,
            "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32, "max_position_embeddings": 44}"#;
        fs::write(&config, sizes).unwrap();
        Setting { folder, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), content).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    /// The program, training for 40 steps; of two arguments of one name the last counts.
    fn command(&self, out: &Path, more: &[&str]) -> Command {
        let (out, config) = (out.to_str().unwrap(), self.config.to_str().unwrap());
        let mut arguments: Vec<&str> =
            "--vocab-size 90 --steps 40 --batch-tokens 100 --max-length 40 \
            --held-out 0.2 --save-every 4 --evaluate-every 10 --average 3 --average-every 4 --dropout 0.1"
                .split_whitespace()
                .chain(["--out", out, "--config", config])
                .collect();
        for argument in more.chunks(2) {
            match (argument, arguments.iter().position(|known| *known == argument[0])) {
                ([_, value], Some(place)) => arguments[place + 1] = value,
                _ => arguments.extend(argument),
            }
        }
        ferrite(&[&["translate", "train"], &arguments[..]].concat())
    }

    fn run(&self, out: &str, more: &[&str]) -> Run {
        run_command(&mut self.command(&self.path(out), more), b"")
    }
}

#[test]
fn what_is_trained_translates_and_is_evaluated() {
    let setting = Setting::new();
    let pairs = pairs(300);
    let (training, test) = pairs.split_at(250);
    let (training, held_out) =
        (setting.write("pairs.tsv", tsv(training)), setting.write("test.tsv", tsv(test)));
    // What an attempt that came to nothing left out, this run takes.
    fs::create_dir(setting.path("out")).unwrap();
    setting
        .write("out/rejected.txt", "pairs.tsv:1: the source has 7 tokens, and --max-length is 1\n");
    let run =
        setting.run("out", &["--pairs", &training, "--held-out", &held_out, "--rate", "1e-2"]);
    let run = run.code(0);
    assert!(
        run.out.contains("after 40 steps, the mean of the parameters of 3 steps"),
        "{}",
        run.out
    );
    assert!(run.err.contains("250 pairs to train on, 50 held out"), "{}", run.err);
    assert!(!setting.path("out/rejected.txt").exists());
    let model = setting.path("out");
    let model = model.to_str().unwrap();

    let found = setting.path("found.txt");
    let evaluate = ["translate", "evaluate", "--model", model, "--pairs", &held_out];
    let more = ["--format", "jsonl", "--translations", found.to_str().unwrap()];
    let run = run_command(&mut ferrite(&[&evaluate[..], &more].concat()), b"").code(0);
    let scores = &run.json()[0];
    // The numbers are those of the translations that `run` gives.
    let sources: String = test.iter().map(|(source, _)| format!("{source}\n")).collect();
    let translated =
        run_command(&mut ferrite(&["translate", "run", "--model", model]), sources.as_bytes());
    let translated = translated.code(0);
    assert_eq!(fs::read_to_string(found).unwrap(), translated.out);
    let mut bleu = Bleu::new(BleuOptions::default());
    let mut chrf = Chrf::new(ChrfOptions::default());
    for ((_, target), found) in test.iter().zip(translated.out.lines()) {
        bleu.add(found, &[target]);
        chrf.add(found, &[target]);
    }
    assert_eq!(scores["bleu"], bleu.score().score);
    assert_eq!(scores["chrf"], chrf.score().score);
    assert_eq!(scores["bleu_signature"], bleu.signature());
    assert_eq!((&scores["pairs"], &scores["rejected"]), (&50.into(), &0.into()));
    // The loss is that of the last evaluation, which is of the same mean of parameters.
    let log = fs::read_to_string(setting.path("out/log.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(last["averaged"], 3);
    let [logged, now] = [&last["held_out"]["nll"], &scores["loss"]].map(|x| x.as_f64().unwrap());
    assert!((logged / now - 1.0).abs() < 1e-4, "{logged} {now}");
    let text = run_command(&mut ferrite(&evaluate), b"").code(0);
    assert!(text.out.contains(&bleu.signature()), "{}", text.out);
    // A file that cannot be written does not cost the scores.
    let nowhere = setting.path("nowhere/found.txt");
    let more = ["--translations", nowhere.to_str().unwrap()];
    let run = run_command(&mut ferrite(&[&evaluate[..], &more].concat()), b"").code(1);
    assert!(run.out.contains(&bleu.signature()) && run.err.contains("found.txt"), "{}", run.err);
}

#[test]
fn lines_that_are_no_pair_are_named_and_the_rest_is_trained_on() {
    let setting = Setting::new();
    let good = tsv(&pairs(60));
    let long = ". ".repeat(50);
    let bad = [
        b"a source alone\n\n\ta target alone\n".as_slice(),
        b"amber\t[SEP] AMBER\nam\xffber\tAMBER\none\ttwo\tthree\n",
        long.as_bytes(),
        b"\tAMBER\n",
    ]
    .concat();
    let mixed = setting.write("mixed.tsv", [good.as_bytes(), &bad].concat());
    let run = setting.run("mixed", &["--pairs", &mixed, "--steps", "2"]).code(0);
    let rejected = fs::read_to_string(setting.path("mixed/rejected.txt")).unwrap();
    let expected = [
        "61: 2 columns expected, 1 found",
        "62: blank",
        "63: a target without a source",
        "64: the target holds [SEP], which ends or begins sentences",
        "65: byte 3 of the line is not UTF-8",
        "66: 2 columns expected, 3 found",
        "67: the source has 50 tokens, and --max-length is 40",
    ];
    let expected: String = expected.map(|fault| format!("{mixed}:{fault}\n")).concat();
    assert_eq!(rejected, expected);
    assert!(rejected.lines().all(|line| run.err.contains(line)), "{}", run.err);
    assert!(run.err.contains("7 lines left out are listed in"), "{}", run.err);
    let trained = |err: &str| {
        let line = err.lines().find(|line| line.contains("pairs to train on")).unwrap();
        let numbers = line.split(' ').filter_map(|word| word.parse::<usize>().ok());
        numbers.sum::<usize>()
    };
    assert_eq!(trained(&run.err), 60);

    // The same pairs in two files, and as JSON: the same model.
    let half = |side: usize| -> String {
        good.lines().map(|line| format!("{}\n", line.split('\t').nth(side).unwrap())).collect()
    };
    let (source, target) = (setting.write("s.txt", half(0)), setting.write("t.txt", half(1)));
    let json: String = pairs(60)
        .iter()
        .map(|(source, target)| {
            format!("{}\n", serde_json::json!({"target": target, "source": source}))
        })
        .collect();
    let (plain, json) = (setting.write("plain.tsv", &good), setting.write("pairs.jsonl", json));
    let model = |out: &str, input: &[&str]| {
        setting.run(out, &[input, &["--steps", "2"]].concat()).code(0);
        fs::read(setting.path(out).join("model.safetensors")).unwrap()
    };
    let expected = model("plain", &["--pairs", &plain]);
    assert!(model("files", &["--source", &source, "--target", &target]) == expected);
    assert!(model("json", &["--pairs", &json]) == expected);

    // Two files of which one is longer.
    let longer = setting.write("longer.txt", half(0) + "and one\nand two\n");
    let run = setting.run("longer", &["--source", &longer, "--target", &target, "--steps", "1"]);
    let run = run.code(0);
    assert!(
        run.err.contains("longer.txt:61: 2 lines, up to line 62, are beyond the end of"),
        "{}",
        run.err
    );

    // Evaluation names them, too.
    let model = setting.path("plain");
    let model = model.to_str().unwrap();
    let run = run_command(
        &mut ferrite(&["translate", "evaluate", "--model", model, "--pairs", &mixed]),
        b"",
    )
    .code(3);
    assert!(run.out.starts_with("60 pairs, 7 lines left out"), "{}", run.out);
    assert!(
        run.err.contains("the source has 50 tokens, and the model's limit is 43"),
        "{}",
        run.err
    );
    let empty = setting.write("empty.tsv", "\n");
    let arguments = ["translate", "evaluate", "--model", model, "--pairs", &empty];
    let run = run_command(&mut ferrite(&arguments), b"").code(1);
    assert!(run.err.contains("there is no pair to evaluate on"), "{}", run.err);
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    let setting = Setting::new();
    let file = setting.write("pairs.tsv", tsv(&pairs(60)));
    let not_json = setting.write("not.json", "{");
    let config = fs::read_to_string(&setting.config).unwrap();
    let no_epsilon = config.replacen('{', r#"{"layer_norm_eps": 0.0, "#, 1);
    let no_epsilon = setting.write("no-epsilon.json", no_epsilon);
    for (more, code, said) in [
        (&["--steps", "0"][..], 2, "--steps begins at 1"),
        (&["--accumulate", "1048577"], 2, "--accumulate 1048577: above 2^20"),
        (&["--held-out", "1.5"], 2, "--held-out 1.5: not between 0 and 1"),
        (&["--rate", "nan"], 2, "--rate NaN: not a number above 0"),
        (&["--label-smoothing", "1.5"], 2, "--label-smoothing 1.5: not in [0, 1]"),
        (&["--dropout", "1"], 2, "a dropout of 1 is not in [0, 1)"),
        (&["--batch-tokens", "40"], 2, "more than --max-length, 40, is needed"),
        (&["--max-length", "44"], 2, "the model has 44 positions, one of them for the end"),
        (&["--average", "0"], 2, "--average begins at 1"),
        (&["--config", "huge"], 2, "--config takes tiny, small, base, big or a file."),
        (&["--config", &not_json], 2, "not.json"),
        (&["--config", &no_epsilon], 2, "no-epsilon.json: layer_norm_eps: a number above 0"),
        (&["--source", &file, "--target", &file], 2, "cannot be used with"),
        (&["--held-out", "nowhere.tsv"], 1, "nowhere.tsv: No such file"),
        (&["--rate", "1e30", "--steps", "1"], 1, "its parameters or gradients are not finite"),
        (&["--resume"], 1, "no checkpoint to go on from"),
    ] {
        let out = format!("out-{}", more[0]);
        let run = setting.run(&out, &[&["--pairs", &file], more].concat()).code(code);
        assert!(run.err.contains(said) && run.out.is_empty(), "{more:?}: {}", run.err);
        assert!(!setting.path(&out).join("model.safetensors").exists(), "{more:?}");
    }
    let few = setting.write("few.tsv", tsv(&pairs(2)));
    let run = setting.run("few", &["--pairs", &few]).code(1);
    assert!(run.err.contains("no pair is left held out"), "{}", run.err);
    assert!(run.err.contains("A larger --held-out helps"), "{}", run.err);

    // A run goes on only as what it was.
    setting.run("done", &["--pairs", &file, "--steps", "8"]).code(0);
    let run = setting.run("done", &["--pairs", &file, "--steps", "8"]).code(1);
    assert!(run.err.contains("a run is there already, at step 8\n--resume goes on"), "{}", run.err);
    for (more, said) in [
        (["--steps", "9"], "schedule.total"),
        (["--label-smoothing", "0.2"], "label_smoothing"),
        (["--average", "2"], "average.last"),
        (["--held-out", "0.3"], "held-out data"),
        (["--batch-tokens", "99"], "data.tokens"),
    ] {
        let run = setting
            .run("done", &[&["--pairs", &file, "--steps", "8"], &more[..], &["--resume"]].concat());
        let run = run.code(1);
        assert!(run.err.contains(said), "{more:?}: {}", run.err);
    }
    let other = setting.write("other.tsv", tsv(&pairs(61)));
    let run = setting.run("done", &["--pairs", &other, "--steps", "8", "--resume"]).code(1);
    assert!(run.err.contains("that it was begun with"), "{}", run.err);
    setting.run("done", &["--pairs", &file, "--steps", "8", "--resume"]).code(0);
}

#[test]
fn a_run_that_is_killed_25_times_ends_with_the_same_bits() {
    let setting = Setting::new();
    let file = setting.write("pairs.tsv", tsv(&pairs(200)));
    let input = ["--pairs", &*file];
    let start = Instant::now();
    let run = setting.run("straight", &input).code(0);
    let length = start.elapsed();
    let expected = End::of(&setting.path("straight"), &run);
    for name in ["config.json", "model.safetensors", "vocab.txt", "tokenizer.json", "loss.svg"] {
        assert!(expected.has(name), "{name}");
    }
    killed_25_times(setting.folder.path(), &expected, length, |out, arguments| {
        setting.command(out, &[&input[..], arguments].concat())
    });

    // Ctrl-C saves.
    for tries in 0.. {
        assert!(tries < 40, "it always ends before the signal");
        let out = setting.path(&format!("stopped-{tries}"));
        let child = setting.command(&out, &input).spawn().unwrap();
        while steps(&out).is_empty() {
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        signal(&child, "INT");
        let run = ended(child);
        if run.code == Some(0) {
            continue;
        }
        let run = run.code(130);
        let step = newest(&out).expect("it is saved");
        assert!(run.err.contains(&format!("stopped after step {step} of 40")), "{}", run.err);
        let more = [&input[..], &["--resume"]].concat();
        let run = setting.run(&format!("stopped-{tries}"), &more).code(0);
        assert_eq!(going_on_after(&run.err), Some(step));
        End::of(&out, &run).assert_is(&expected, "stopped");
        break;
    }
}
