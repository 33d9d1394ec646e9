//! The program's results: equal to the library's, in order, whatever the input does.
#![cfg(feature = "cli")]

mod cli_common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use cli_common::{Run, ferrite, folder, run, run_command};
use ferrite_models::bert::Workspace;
use ferrite_models::kernels::{Arithmetic, Level, Precision};
use ferrite_models::tasks::SentenceBatch;
use ferrite_models::tokenizer::{EncodeOptions, Tokenizer};
use ferrite_models::{FillMask, SentenceEncoder};
use serde_json::{Value, json};

/// Texts of all lengths, from nothing to far beyond the limit.
fn texts(count: usize) -> Vec<String> {
    let words = ["the", "fish", "is", "three", "Zebra", "ß", "日本", "e\u{301}t", ",", "🦀", "cat"];
    let text = |n: usize| {
        let words = (0..n * 7 % 29).map(|i| words[(n * n + i * i + i) % words.len()]);
        words.collect::<Vec<_>>().join(" ")
    };
    (0..count).map(text).collect()
}

fn lines(texts: &[String]) -> String {
    texts.iter().map(|text| format!("{text}\n")).collect()
}

fn bits(numbers: impl IntoIterator<Item = f32>) -> Vec<u32> {
    numbers.into_iter().map(f32::to_bits).collect()
}

/// The numbers of a line of `embed`.
fn vector(line: &str) -> Vec<u32> {
    bits(line.split(' ').map(|number| number.parse().unwrap()))
}

fn json_vector(line: &Value) -> Vec<u32> {
    // Each is the shortest decimal of an f32, so that the way over f64 is exact.
    bits(line["embedding"].as_array().unwrap().iter().map(|x| x.to_string().parse().unwrap()))
}

#[test]
fn embeddings_are_the_librarys_bit_for_bit_in_order_at_any_number_of_threads() {
    let texts = texts(4000);
    for name in ["e-cls", "e-max"] {
        let encoder = SentenceEncoder::from_pretrained(folder(name)).unwrap();
        let expected = encoder.embed(&texts).unwrap();
        let cut = expected.truncated.iter().filter(|&&tokens| tokens > 0).count();
        assert!(cut > 0);
        let mut outputs = Vec::new();
        for threads in ["1", "2", "3", "7"] {
            let run = run(name, &["embed", "--threads", threads], lines(&texts)).code(0);
            let said = format!("{cut} of 4000 texts had more than {} tokens", encoder.max_length());
            assert!(run.err.contains(&said), "{}", run.err);
            outputs.push(run.out);
        }
        assert!(outputs.iter().all(|output| *output == outputs[0]));
        assert_eq!(outputs[0].lines().count(), texts.len());
        for (row, line) in outputs[0].lines().enumerate() {
            let expected = bits(expected.vectors.row(row).iter().copied());
            assert_eq!(vector(line), expected, "{name} {row}");
        }
        let run = run(name, &["embed", "--format", "jsonl", "--quiet"], lines(&texts)).code(0);
        assert_eq!(run.err, "");
        for (row, line) in run.json().iter().enumerate() {
            let expected = bits(expected.vectors.row(row).iter().copied());
            assert_eq!(json_vector(line), expected, "{name} {row}");
        }
    }
}

/// What says in which precision to compute, and the one that it says.
const PRECISIONS: [(&[&str], &str, Precision); 6] = [
    (&[], "", Precision::F32),
    (&["--precision", "f32"], "int8", Precision::F32),
    (&["--precision", "bf16"], "", Precision::Bf16),
    (&[], "bf16", Precision::Bf16),
    (&["--precision", "int8"], "bf16", Precision::Int8),
    (&[], "int8", Precision::Int8),
];

/// Runs a verb on a model, told its precision by an option and by the environment.
fn run_in_precision(arguments: &[&str], model: &str, variable: &str, stdin: &str) -> Run {
    let mut command = ferrite(arguments);
    command.arg("--model").arg(folder(model));
    if !variable.is_empty() {
        command.env("FERRITE_PRECISION", variable);
    }
    run_command(&mut command, stdin.as_bytes()).code(0)
}

#[test]
fn embeddings_are_the_librarys_in_each_precision() {
    let texts = texts(100);
    for (options, variable, precision) in PRECISIONS {
        let arithmetic = Arithmetic::new(Level::current(), precision);
        let encoder = SentenceEncoder::from_pretrained_at(arithmetic, folder("e-max")).unwrap();
        let expected = encoder.embed(&texts).unwrap().vectors;
        let arguments = [&["embed"], options].concat();
        let run = run_in_precision(&arguments, "e-max", variable, &lines(&texts));
        assert_eq!(run.lines().len(), texts.len());
        for (row, line) in run.lines().into_iter().enumerate() {
            let expected = bits(expected.row(row).iter().copied());
            assert_eq!(vector(line), expected, "{options:?} {variable:?} {row}");
        }
    }
}

#[test]
fn candidates_are_the_librarys_in_each_precision() {
    let text = "the [MASK] is three";
    let mut different = Vec::new();
    for (options, variable, precision) in PRECISIONS {
        let arithmetic = Arithmetic::new(Level::current(), precision);
        let model = FillMask::from_pretrained_at(arithmetic, folder("a-pretraining")).unwrap();
        let expected = model.fill(text, None, 4).unwrap().swap_remove(0).candidates;
        let arguments = [&["fill-mask", "--format", "jsonl", "--top", "4"], options].concat();
        let line = &run_in_precision(&arguments, "a-pretraining", variable, text).json()[0];
        let found = line["masks"][0]["candidates"].as_array().unwrap();
        let found = found.iter().map(|word| {
            let probability: f32 = word["probability"].to_string().parse().unwrap();
            (word["id"].as_u64().unwrap(), probability)
        });
        let expected: Vec<_> =
            expected.iter().map(|word| (u64::from(word.id), word.probability)).collect();
        assert_eq!(found.collect::<Vec<_>>(), expected, "{options:?} {variable:?}");
        if !different.contains(&expected) {
            different.push(expected);
        }
    }
    // Each precision has numbers of its own, or the options would not show.
    assert_eq!(different.len(), Precision::ALL.len());
}

#[test]
fn texts_come_from_arguments_files_stdin_and_records_alike() {
    let all = ["the cat", "", "-", "three fish"];
    let stdin = run("e-cls", &["embed"], "the cat\n\n-\nthree fish").code(0);
    assert_eq!(stdin.lines().len(), 4);
    let dash = run("e-cls", &["embed", "-"], "the cat\r\n\r\n-\r\nthree fish\r\n").code(0);
    assert_eq!(dash.out, stdin.out);
    let mut command = ferrite(&["embed", "--model"]);
    command.arg(folder("e-cls")).arg("--").args(all);
    assert_eq!(run_command(&mut command, b"").code(0).out, stdin.out);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "the cat\n\n-\nthree fish\n").unwrap();
    let path = file.path().to_str().unwrap();
    assert_eq!(run("e-cls", &["embed", "--input", path], "").code(0).out, stdin.out);
    let records: String =
        all.iter().map(|text| format!("{}\n", json!({"id": 7, "text": text}))).collect();
    let run = run("e-cls", &["embed", "--from", "jsonl"], records).code(0);
    assert_eq!(run.out, stdin.out);
}

#[test]
fn pairs_are_one_sequence() {
    let encoder = SentenceEncoder::from_pretrained(folder("e-max")).unwrap();
    let mut batch = SentenceBatch::default();
    encoder.push("the cat", Some("three fish"), &mut batch).unwrap();
    let expected = encoder.embed_batch(&batch, &mut Workspace::default()).unwrap();
    let record = r#"{"text": "the cat", "label": [1], "pair": "three fish"}"#;
    let run = run("e-max", &["embed", "--from", "jsonl", record], "").code(0);
    assert_eq!(vector(run.lines()[0]), bits(expected.row(0).iter().copied()));
}

#[test]
fn tokens_are_the_librarys() {
    let texts = texts(3000);
    for name in ["a-pretraining", "c-masked-lm-sharded"] {
        let tokenizer = Tokenizer::from_pretrained(folder(name)).unwrap();
        for specials in [true, false] {
            let options = EncodeOptions { add_special_tokens: specials, ..Default::default() };
            let mut arguments = vec!["tokenize", "--format", "jsonl"];
            arguments.extend((!specials).then_some("--no-special-tokens"));
            let run = run(name, &arguments, lines(&texts)).code(0);
            let output = run.json();
            assert_eq!(output.len(), texts.len());
            for (text, line) in texts.iter().zip(output) {
                let encoding = tokenizer.encode(text, None, &options).unwrap();
                let token = |&id: &u32| tokenizer.id_to_token(id).unwrap();
                let tokens: Vec<&str> = encoding.ids.iter().map(token).collect();
                let expected =
                    json!({"ids": encoding.ids, "tokens": tokens, "offsets": encoding.offsets});
                assert_eq!(line, expected, "{text:?}");
            }
        }
    }
}

#[test]
fn tokens_of_pairs_say_which_text_they_are_of() {
    let record = r#"{"text": "the cat", "pair": "is"}"#;
    let line = run("a-pretraining", &["tokenize", "--format", "jsonl", "--from", "jsonl"], record);
    let line = &line.code(0).json()[0];
    assert_eq!(line["tokens"], json!(["[CLS]", "the", "cat", "[SEP]", "is", "[SEP]"]));
    assert_eq!(line["type_ids"], json!([0, 0, 0, 0, 1, 1]));
    assert_eq!(line["offsets"], json!([[0, 0], [0, 3], [4, 7], [0, 0], [0, 2], [0, 0]]));
    let run = run("a-pretraining", &["tokenize", "the cat", "", "is"], "").code(0);
    assert_eq!(run.out, "[CLS] the cat [SEP]\n[CLS] [SEP]\n[CLS] is [SEP]\n");
}

#[test]
fn candidates_are_the_librarys() {
    let texts: Vec<String> =
        texts(200).iter().map(|text| format!("{text} [MASK] the [MASK]")).collect();
    for name in ["a-pretraining", "c-masked-lm-sharded"] {
        let model = FillMask::from_pretrained(folder(name)).unwrap();
        let arguments = ["fill-mask", "--format", "jsonl", "--top", "3"];
        let run1 = run(name, &arguments, lines(&texts)).code(0);
        let output = run1.json();
        assert_eq!(output.len(), texts.len());
        let one = run(name, &[&arguments[..], &["--threads", "1"]].concat(), lines(&texts)).code(0);
        assert_eq!(one.out, run1.out);
        for (text, line) in texts.iter().zip(output) {
            let expected = model.fill(text, None, 3).unwrap();
            let masks = line["masks"].as_array().unwrap();
            assert_eq!(masks.len(), 2);
            for (mask, expected) in masks.iter().zip(expected) {
                assert_eq!(mask["offsets"], json!(expected.offsets));
                let found = mask["candidates"].as_array().unwrap();
                assert_eq!(found.len(), 3);
                for (found, expected) in found.iter().zip(expected.candidates) {
                    assert_eq!(found["id"], expected.id);
                    assert_eq!(found["token"], expected.token);
                    let probability: f32 = found["probability"].to_string().parse().unwrap();
                    assert_eq!(probability.to_bits(), expected.probability.to_bits());
                }
            }
        }
    }
}

#[test]
fn masks_of_pairs_say_which_text_they_are_in() {
    let record = r#"{"text": "the [MASK]", "pair": "[MASK]"}"#;
    let arguments = ["fill-mask", "--format", "jsonl", "--from", "jsonl", record];
    let masks = &run("a-pretraining", &arguments, "").code(0).json()[0]["masks"];
    let place = |n: usize| (&masks[n]["sequence"], &masks[n]["offsets"]);
    assert_eq!(place(0), (&json!(0), &json!([4, 10])));
    assert_eq!(place(1), (&json!(1), &json!([0, 6])));
}

#[test]
fn candidates_can_be_read() {
    let model = FillMask::from_pretrained(folder("a-pretraining")).unwrap();
    let text = "the [MASK] is [MASK]";
    let expected = model.fill(text, None, 5).unwrap();
    let words = expected.iter().map(|blank| {
        let words = blank.candidates.iter();
        words.map(|word| format!("{} {:.4}", word.token, word.probability)).collect::<Vec<_>>()
    });
    let expected: Vec<String> = words.map(|words| words.join(", ")).collect();
    let run = run("a-pretraining", &["fill-mask", text], "").code(0);
    assert_eq!(run.out, expected.join(" | ") + "\n");
}

#[test]
fn similarities_are_a_table_of_cosines() {
    let stdin = "the cat\n\u{FFFD}\nthree fish\nthe cat\n";
    let table = run("e-max", &["embed", "--similarity"], stdin).code(0);
    let lines = table.lines();
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>()[..2], ["1", "1.00"]);
    assert!(lines[4].ends_with("the cat"));
    let rows = run("e-max", &["embed", "--similarity", "--format", "jsonl"], stdin).code(0).json();
    let cosine = |i: usize, j: usize| rows[i]["similarity"][j].as_f64().unwrap();
    let encoder = SentenceEncoder::from_pretrained(folder("e-max")).unwrap();
    let vectors = encoder.embed(&stdin.lines().collect::<Vec<_>>()).unwrap().vectors;
    for i in 0..4 {
        assert_eq!(rows[i]["line"], i + 1);
        for j in 0..4 {
            // This folder's vectors have length 1.
            let dot = vectors.row(i).iter().zip(vectors.row(j)).map(|(&a, &b)| a * b).sum::<f32>();
            assert!((cosine(i, j) - f64::from(dot)).abs() < 1e-6);
        }
    }
}

#[test]
fn similarities_leave_out_rejected_texts() {
    let long = "the ".repeat(30);
    let stdin = format!("the cat\n{long}\nis\n");
    let arguments = ["embed", "--similarity", "--on-truncate", "error", "--format", "jsonl"];
    let rows = run("e-cls", &arguments, &stdin).code(3).json();
    let lines: Vec<&Value> = rows.iter().map(|row| &row["line"]).collect();
    assert_eq!(lines, [1, 3]);
    assert!(rows.iter().all(|row| row["similarity"].as_array().unwrap().len() == 2));
    let many = "the\n".repeat(1001);
    let run = run("e-cls", &["embed", "--similarity"], many).code(2);
    assert!(run.out.is_empty() && run.err.contains("at most 1000 texts"), "{}", run.err);
}

#[test]
fn a_bad_line_costs_only_itself() {
    let good = run("e-cls", &["embed", "--format", "jsonl"], "the\ncat\n").code(0);
    let (the, cat) = (good.lines()[0], good.lines()[1]);

    let run1 = run("e-cls", &["embed", "--format", "jsonl"], b"the\nbad \xFF\ncat\n").code(3);
    let rejection = r#"{"error":"not valid UTF-8 (byte 5)","line":2}"#;
    assert_eq!(run1.lines(), [the, rejection, cat]);
    assert_eq!(run1.err, "ferrite: line 2: not valid UTF-8 (byte 5)\n");

    let stdin = b"{\"text\": \"the\"}\n{\"text\": \"x\n\n{\"pair\": \"x\"}\n[1]\n{\"text\": \"\xFF\"}\n{\"text\": \"cat\"}\n";
    let run2 = run("e-cls", &["embed", "--format", "jsonl", "--from", "jsonl"], stdin).code(3);
    assert_eq!(run2.lines().len(), 7);
    assert_eq!((run2.lines()[0], run2.lines()[6]), (the, cat));
    for (line, number) in run2.json()[1..6].iter().zip(2..) {
        assert_eq!(line["line"], number);
        let said = format!("ferrite: line {number}: {}\n", line["error"].as_str().unwrap());
        assert!(run2.err.contains(&said), "{}", run2.err);
    }

    let text = run("e-cls", &["embed"], b"the\nbad \xFF\ncat\n").code(3);
    assert_eq!(text.lines()[1], "");
    assert_eq!(text.lines().len(), 3);
    let tokens = run("e-cls", &["tokenize"], b"the\nbad \xFF\ncat\n").code(3);
    assert_eq!(tokens.out, "[CLS] the [SEP]\n\n[CLS] cat [SEP]\n");
    for verb in ["embed", "tokenize", "fill-mask"] {
        let run = run("a-pretraining", &[verb, "--format", "jsonl"], b"\xFF\n\xFF").code(3);
        assert_eq!(run.json().iter().map(|line| &line["line"]).collect::<Vec<_>>(), [1, 2]);
    }
    let long = "the ".repeat(80);
    let stdin = format!("no mask\nthe [MASK]\n{long}[MASK]\n");
    let masks = run("a-pretraining", &["fill-mask", "--format", "jsonl"], stdin).code(3).json();
    assert_eq!(masks[0], json!({"error": "the text has no [MASK]", "line": 1}));
    assert_eq!(masks[1]["masks"].as_array().unwrap().len(), 1);
    let too_long = json!({"error": "83 tokens, and the model takes 64", "line": 3});
    assert_eq!(masks[2], too_long);
}

#[test]
fn a_line_that_never_ends_costs_only_itself() {
    let mut stdin = b"the\n".to_vec();
    stdin.resize(stdin.len() + (16 << 20) + 1, b'a');
    stdin.extend_from_slice(b"\ncat\n");
    let run = run("e-cls", &["tokenize", "--format", "jsonl"], stdin).code(3);
    let lines = run.json();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[1], json!({"error": "longer than 16777216 bytes", "line": 2}));
    assert_eq!(lines[2]["tokens"], json!(["[CLS]", "cat", "[SEP]"]));
}

#[test]
fn texts_beyond_the_limit_are_cut_or_rejected_as_asked() {
    let stdin = format!("the\n{}\ncat\n", "the ".repeat(20));
    let embed = |what| run("e-cls", &["embed", "--on-truncate", what], &stdin);
    let warn = embed("warn").code(0);
    assert_eq!(
        warn.err,
        "ferrite: 1 of 3 texts had more than 16 tokens and lost the rest, 6 tokens in all (the \
         first: line 2)\n"
    );
    let keep = embed("keep").code(0);
    assert_eq!((keep.out, keep.err), (warn.out.clone(), String::new()));
    let error = embed("error").code(3);
    assert_eq!(error.err, "ferrite: line 2: 22 tokens, and the model takes 16\n");
    assert_eq!(error.lines(), [warn.lines()[0], "", warn.lines()[2]]);
}

#[test]
fn unknown_words_are_told() {
    let run = run("e-cls", &["embed"], "the\nthe 日本 🦀\n").code(0);
    assert!(
        run.err.contains("in 1 of 2 texts not in the vocabulary (the first: line 2)"),
        "{}",
        run.err
    );
}

/// The program, waiting for lines.
struct Conversation {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Conversation {
    fn start(arguments: &[&str], model: &str) -> Conversation {
        let mut command = ferrite(arguments);
        command.arg("--model").arg(folder(model)).stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Conversation { child, stdin, stdout }
    }

    fn say(&mut self, line: &str) {
        self.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    /// Ends the input. The exit code, and what is on stderr.
    fn end(mut self) -> (Option<i32>, String) {
        self.stdin = None;
        let mut err = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        (self.child.wait().unwrap().code(), err)
    }
}

#[test]
fn a_line_is_answered_before_the_next_is_written() {
    for (verb, model, line) in [
        ("embed", "e-cls", "the cat\n"),
        ("tokenize", "e-cls", "the cat\n"),
        ("fill-mask", "a-pretraining", "the [MASK]\n"),
    ] {
        let mut program = Conversation::start(&[verb], model);
        // A line in two pieces is one line.
        let (head, tail) = line.split_at(3);
        program.say(head);
        program.say(tail);
        let first = program.hear();
        assert!(first.len() > 10, "{verb}: {first:?}");
        for _ in 0..50 {
            program.say(line);
            assert_eq!(program.hear(), first, "{verb}");
        }
        assert_eq!(program.end(), (Some(0), String::new()), "{verb}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    for verb in ["embed", "tokenize"] {
        let mut program = Conversation::start(&[verb], "e-cls");
        let mut stdin = program.stdin.take().unwrap();
        // Ends when the program has: then the pipe breaks on this side, too.
        let writer =
            std::thread::spawn(
                move || {
                    while stdin.write_all(b"the cat is three fish\n").is_ok() {}
                },
            );
        assert!(!program.hear().is_empty());
        let Conversation { mut child, stdout, .. } = program;
        drop(stdout);
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!((child.wait().unwrap().code(), &*err), (Some(0), ""), "{verb}");
        writer.join().unwrap();
    }
}

/// The most memory that the process has had so far, in bytes.
#[cfg(target_os = "linux")]
fn peak_memory(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
}

#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow_with_the_input() {
    for verb in ["embed", "tokenize"] {
        let mut program = Conversation::start(&[verb, "--quiet", "--threads", "2"], "e-cls");
        let texts = lines(&texts(1000));
        let process = program.child.id();
        let mut peaks = Vec::new();
        for part in [20, 200] {
            let mut stdin = program.stdin.take().unwrap();
            let texts = texts.clone();
            let writer = std::thread::spawn(move || {
                (0..part).for_each(|_| stdin.write_all(texts.as_bytes()).unwrap());
                stdin
            });
            (0..part * 1000).for_each(|_| assert!(!program.hear().is_empty()));
            program.stdin = Some(writer.join().unwrap());
            peaks.push(peak_memory(process));
        }
        assert_eq!(program.end(), (Some(0), String::new()));
        // The texts of the second part are some 12 MB, their results more.
        println!("{verb}: peaks of {peaks:?} bytes");
        assert!(peaks[1] < peaks[0] + (8 << 20), "{verb}: {peaks:?}");
    }
}
