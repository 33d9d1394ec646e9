//! The program on models that are not sound, wrong use, and what it says of itself.
#![cfg(feature = "cli")]

mod cli_common;

use std::collections::BTreeMap;
use std::path::Path;

use cli_common::{Run, copy, copy_into, ferrite, folder, run, run_command};
use ferrite_models::kernels::{Arithmetic, Level, MAX_INT8_INPUTS, Precision};
use serde_json::{Value, json};

fn inspect(folder: &Path, format: &str) -> Run {
    run_command(ferrite(&["inspect", "--format", format, "--model"]).arg(folder), b"")
}

/// How many tensors had which fate.
fn fates(report: &Value) -> BTreeMap<String, usize> {
    let mut fates = BTreeMap::new();
    for tensor in report["tensors"].as_array().unwrap() {
        *fates.entry(tensor["fate"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    fates
}

fn faults(report: &Value) -> Vec<&str> {
    report["faults"].as_array().unwrap().iter().map(|fault| fault.as_str().unwrap()).collect()
}

/// Changes a field of the folder's `config.json`.
fn set(folder: &Path, field: &str, value: Value) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config[field] = value;
    std::fs::write(path, config.to_string()).unwrap();
}

#[test]
fn sound_models_are_valid_and_every_tensor_has_a_fate() {
    for (name, expected, parts) in [
        ("a-pretraining", json!({"renamed": 39, "used": 7}), 4),
        ("b-base", json!({"used": 39}), 2),
        ("c-masked-lm-sharded", json!({"renamed": 37, "used": 5}), 2),
        ("d-old-names", json!({"renamed": 41, "used": 5, "ignored": 3}), 4),
        ("e-cls", json!({"used": 21}), 1),
    ] {
        let report = &inspect(&folder(name), "jsonl").code(0).json()[0];
        assert_eq!(json!(fates(report)), expected, "{name}");
        assert_eq!(report["parts"].as_array().unwrap().len(), parts, "{name}");
        assert_eq!(report["faults"], json!([]));
        let text = inspect(&folder(name), "text").code(0);
        for tensor in report["tensors"].as_array().unwrap() {
            assert!(text.out.contains(tensor["name"].as_str().unwrap()), "{name}");
        }
        assert!(text.out.ends_with("verdict    valid\n"), "{}", text.out);
    }
}

#[test]
fn sizes_and_costs_are_right() {
    let report = &inspect(&folder("e-cls"), "json").code(0).json()[0];
    // 1 layer, width 16, inner width 24.
    assert_eq!(report["cost"]["linear_flops_per_token"], 2 * (4 * 16 * 16 + 2 * 16 * 24));
    assert_eq!(report["cost"]["attention_flops_per_token_and_length"], 4 * 16);
    let embeddings = (108 + 24 + 2 + 2) * 16;
    let layer = 4 * (16 * 16 + 16) + (16 * 24 + 24) + (24 * 16 + 16) + 4 * 16;
    assert_eq!(report["parameters"], embeddings + layer);
    assert_eq!(report["bytes"], 4 * (embeddings + layer));
    // 96 + 24 outputs of the layer have a scale and a correction in int8.
    let (weights, outputs) = (4 * 16 * 16 + 2 * 16 * 24, 5 * 16 + 24);
    let bytes = json!({"f32": 4 * weights, "bf16": 2 * weights, "int8": weights + 8 * outputs});
    assert_eq!(report["product_bytes"], bytes);
    let text = inspect(&folder("e-cls"), "text").code(0).out;
    let line = "products   read about 7,168 bytes in f32, 3,584 in bf16, 2,624 in int8\n";
    assert!(text.contains(line), "{text}");
    let sentence = json!({"pooling": ["cls"], "normalize": false, "max_length": 16});
    assert_eq!(report["sentence"], sentence);
    assert_eq!(report["tokenizer"]["tokens"], 108);
}

#[test]
fn all_faults_are_found_and_not_only_the_first() {
    // A feed-forward network of another width: six tensors of each layer but one have other shapes.
    let wider = copy("a-pretraining");
    set(wider.path(), "intermediate_size", json!(65));
    set(wider.path(), "num_hidden_layers", json!(3));
    std::fs::write(wider.path().join("tokenizer.json"), "{").unwrap();
    let report = &inspect(wider.path(), "jsonl").code(4).json()[0];
    let expected = json!({"renamed": 33, "used": 7, "wrong shape": 6, "missing": 16});
    assert_eq!(json!(fates(report)), expected);
    assert_eq!(faults(report).len(), 6 + 16 + 1, "{:#?}", faults(report));

    let text = inspect(wider.path(), "text").code(4).out;
    assert!(text.contains("wrong shape: [65, 32] expected"), "{text}");
    assert!(text.contains("fault      "), "{text}");
    assert!(text.ends_with("verdict    not valid: 23 faults\n"), "{text}");
}

#[test]
fn what_is_there_is_shown_whatever_is_missing() {
    let shard = copy("c-masked-lm-sharded");
    std::fs::remove_file(shard.path().join("model-00002-of-00003.safetensors")).unwrap();
    let report = &inspect(shard.path(), "jsonl").code(4).json()[0];
    assert!(fates(report)["renamed"] > 0 && fates(report)["missing"] > 0);
    assert!(faults(report)[0].contains("model-00002-of-00003.safetensors"));

    let other = copy("a-pretraining");
    set(other.path(), "model_type", json!("roberta"));
    let report = &inspect(other.path(), "jsonl").code(4).json()[0];
    assert_eq!(fates(report)["unknown"], 46);
    assert_eq!(faults(report).len(), 1);
    assert!(faults(report)[0].contains("roberta"));
    assert_eq!(report["tokenizer"]["tokens"], 108);

    let words = copy("a-pretraining");
    set(words.path(), "vocab_size", json!(100));
    let report = &inspect(words.path(), "jsonl").code(4).json()[0];
    assert!(faults(report).iter().any(|fault| fault.contains("108 tokens")));

    let truncated = copy("b-base");
    let weights = truncated.path().join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() - 1]).unwrap();
    let report = &inspect(truncated.path(), "jsonl").code(4).json()[0];
    assert!(faults(report)[0].contains("truncated"), "{:?}", faults(report));

    let empty = tempfile::tempdir().unwrap();
    let report = &inspect(empty.path(), "jsonl").code(4).json()[0];
    assert_eq!(faults(report).len(), 3);
}

#[test]
fn what_inspect_calls_valid_can_be_loaded_and_what_not_cannot() {
    let silu = copy("a-pretraining");
    set(silu.path(), "hidden_act", json!("silu"));
    let modules = copy("e-cls");
    std::fs::write(modules.path().join("modules.json"), "[]").unwrap();
    let short = copy("e-cls");
    let limit = short.path().join("sentence_bert_config.json");
    std::fs::write(limit, r#"{"max_seq_length": 1}"#).unwrap();
    for (broken, said) in [
        (silu.path(), r#"hidden_act: "silu" is not supported; supported: gelu,"#),
        (modules.path(), "modules.json: type"),
        (short.path(), "sentence_bert_config.json: max_seq_length: room for the 2 special"),
    ] {
        let run = inspect(broken, "text").code(4);
        assert!(run.out.contains(said), "{}", run.out);
        let mut embed = ferrite(&["embed", "the", "--model"]);
        run_command(embed.arg(broken), b"").code(4);
    }
}

#[test]
fn models_that_cannot_be_had_or_used_end_with_advice() {
    for (arguments, said) in [
        (["embed", "--model", "./nowhere", "x"], "neither an existing folder nor"),
        (["embed", "--model", "someone/nothing", "x"], "HF_HUB_OFFLINE"),
        (["tokenize", "--model", "../x", "x"], "config.json, model.safetensors"),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let run = run_command(ferrite(&arguments).env("HF_HUB_CACHE", cache.path()), b"").code(4);
        assert!(run.out.is_empty() && run.err.contains(said), "{}", run.err);
    }
    let run = run("e-cls", &["fill-mask", "the [MASK]"], "").code(4);
    assert!(run.err.contains("masked-LM") && run.err.contains("bert-base-uncased"), "{}", run.err);
    let broken = copy("a-pretraining");
    std::fs::remove_file(broken.path().join("model.safetensors")).unwrap();
    let run = run_command(ferrite(&["embed", "x", "--model"]).arg(broken.path()), b"").code(4);
    assert!(run.err.contains("ferrite inspect --model"), "{}", run.err);
}

#[test]
fn results_that_are_no_numbers_are_rejected() {
    for (name, arguments) in
        [("e-cls", ["embed", "the"]), ("a-pretraining", ["fill-mask", "[MASK]"])]
    {
        let damaged = copy(name);
        let weights = damaged.path().join("model.safetensors");
        let mut bytes = std::fs::read(&weights).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[header..]
            .chunks_exact_mut(4)
            .for_each(|x| x.copy_from_slice(&f32::NAN.to_le_bytes()));
        std::fs::write(&weights, bytes).unwrap();
        let mut command = ferrite(&[&arguments[..], &["--format", "jsonl"]].concat());
        let run = run_command(command.arg("--model").arg(damaged.path()), b"").code(3);
        assert!(run.json()[0]["error"].as_str().unwrap().contains("weights"), "{}", run.out);
    }
}

#[test]
fn a_name_is_found_in_the_hubs_cache() {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let cache = tempfile::tempdir().unwrap();
    let model = cache.path().join("models--someone--tiny");
    copy_into(&folder("e-cls"), &model.join("snapshots").join(commit));
    std::fs::create_dir_all(model.join("refs")).unwrap();
    std::fs::write(model.join("refs/main"), commit).unwrap();
    let mut command = ferrite(&["embed", "the cat", "--model", "someone/tiny"]);
    let named = run_command(command.env("HF_HUB_CACHE", cache.path()), b"").code(0);
    assert_eq!(named.out, run("e-cls", &["embed", "the cat"], "").code(0).out);
}

#[test]
fn wrong_use_and_failures_have_their_codes() {
    for arguments in [
        &[][..],
        &["dance"],
        &["embed", "--threads", "0"],
        &["embed", "--format", "xml"],
        &["embed", "--input", "x", "y"],
        &["fill-mask", "--top", "0"],
        &["inspect", "--cpu", "--model", "x"],
    ] {
        let run = run_command(&mut ferrite(arguments), b"").code(2);
        assert!(run.out.is_empty() && run.err.contains("--help"), "{}", run.err);
    }
    let mut level = ferrite(&["inspect", "--model"]);
    level.arg(folder("e-cls")).env("FERRITE_LEVEL", "sse9");
    let run1 = run_command(&mut level, b"").code(2);
    assert!(run1.err.contains("sse9") && run1.err.contains("avx512"), "{}", run1.err);
    for input in ["/no/such/file", env!("CARGO_MANIFEST_DIR")] {
        let run = run("e-cls", &["embed", "--input", input], "").code(1);
        assert!(run.err.contains(input), "{}", run.err);
    }
}

#[test]
fn the_level_can_be_capped() {
    let mut level = ferrite(&["inspect", "--format", "jsonl", "--threads", "3", "--model"]);
    level.arg(folder("e-cls")).env("FERRITE_LEVEL", "portable");
    let report = &run_command(&mut level, b"").code(0).json()[0];
    assert_eq!(report["machine"]["level"], "portable");
    assert_eq!(report["machine"]["threads"], 3);
}

#[test]
fn a_precision_that_does_not_exist_is_wrong_use() {
    for verb in ["embed", "fill-mask"] {
        let option = run_command(&mut ferrite(&[verb, "--precision", "fp8", "x"]), b"").code(2);
        let variable =
            run_command(ferrite(&[verb, "x"]).env("FERRITE_PRECISION", "fp8"), b"").code(2);
        for Run { out, err, .. } in [option, variable] {
            assert!(out.is_empty() && err.contains("fp8"), "{err}");
            let known = |precision: Precision| err.contains(precision.name());
            assert!(Precision::ALL.into_iter().all(known), "{err}");
        }
    }
}

/// Runs `inspect --cpu` with three threads, asking for this level.
fn inspect_cpu(format: &str, level: Option<&str>) -> Run {
    // There is nowhere to get a model from.
    let cache = tempfile::tempdir().unwrap();
    let mut command = ferrite(&["inspect", "--cpu", "--threads", "3", "--format", format]);
    command.env("HF_HOME", cache.path()).env("HF_HUB_CACHE", cache.path());
    command.env("XDG_CACHE_HOME", cache.path()).env("PATH", "");
    match level {
        Some(level) => command.env("FERRITE_LEVEL", level),
        None => command.env_remove("FERRITE_LEVEL"),
    };
    let run = run_command(&mut command, b"").code(0);
    assert_eq!(run.err, "");
    run
}

#[test]
fn what_is_chosen_on_this_cpu_is_what_the_library_says() {
    let levels = Level::available();
    let own = Level::detect(None).unwrap();
    let names = |levels: &[Level]| levels.iter().map(|level| level.name()).collect::<Vec<_>>();
    for (place, &level) in levels.iter().enumerate() {
        let report = &inspect_cpu("jsonl", Some(level.name())).json()[0];
        assert_eq!(report["level"], level.name());
        assert_eq!(report["levels"], json!(names(&levels)));
        assert_eq!(report["missing"], json!(Level::missing()));
        assert_eq!(
            (&report["threads"], &report["architecture"]),
            (&json!(3), &json!(std::env::consts::ARCH))
        );
        let products = report["products"].as_array().unwrap();
        assert_eq!(products.len(), Precision::ALL.len());
        let text = inspect_cpu("text", Some(level.name())).out;
        for (products, precision) in products.iter().zip(Precision::ALL) {
            let instruction = Arithmetic::new(level, precision).instruction();
            assert_eq!(products["precision"], precision.name());
            assert_eq!(products["level"], level.name());
            assert_eq!(products["instruction"], instruction);
            // A kernel of this level or one below, with that instruction, and none above it is.
            let kernel = products["kernel"].as_str().unwrap();
            let its_place = levels.iter().position(|level| level.name() == kernel).unwrap();
            let kernels = Arithmetic::available();
            let is_one = |level: &Level| kernels.contains(&Arithmetic::new(*level, precision));
            assert!(its_place <= place && is_one(&levels[its_place]), "{kernel} {level}");
            assert!(!levels[its_place + 1..=place].iter().any(is_one), "{kernel} {level}");
            assert_eq!(Arithmetic::new(levels[its_place], precision).instruction(), instruction);
            let line = format!("{:<10} {instruction}, the kernel of {kernel}\n", precision.name());
            assert!(text.contains(&line), "{text}");
        }
        let is_asked_for = text.contains(&format!("level      {level}, by FERRITE_LEVEL\n"));
        assert_eq!(is_asked_for, level != own, "{text}");
    }
    let chosen = &inspect_cpu("json", None).json()[0];
    assert_eq!(chosen["level"], own.name());
    let highest = levels.last().unwrap();
    let text = inspect_cpu("text", None).out;
    let is_said = text.contains(&format!("level      {own}, faster on this CPU than {highest}\n"));
    assert_eq!(is_said, own != *highest, "{text}");
    // The same as what stands beside a model.
    let beside = &inspect(&folder("e-cls"), "jsonl").code(0).json()[0]["machine"];
    assert_eq!(beside["cpu"], chosen["cpu"]);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn an_x86_cpu_has_a_name() {
    let report = &inspect_cpu("jsonl", None).json()[0];
    let name = report["cpu"].as_str().unwrap();
    assert!(name.len() > 3 && !name.contains(char::is_control) && name == name.trim(), "{name:?}");
    let text = inspect_cpu("text", None).out;
    assert!(text.starts_with(&format!("cpu        {name} (x86_64)\nthreads    3\n")), "{text}");
}

#[test]
fn sizes_that_int8_cannot_take_are_told() {
    let wide = copy("a-pretraining");
    set(wide.path(), "intermediate_size", json!(MAX_INT8_INPUTS + 1));
    let report = &inspect(wide.path(), "jsonl").code(4).json()[0];
    let warning = json!("intermediate_size: 66312, and int8 takes at most 66311");
    assert!(report["warnings"].as_array().unwrap().contains(&warning), "{}", report["warnings"]);
    set(wide.path(), "intermediate_size", json!(MAX_INT8_INPUTS));
    let report = &inspect(wide.path(), "jsonl").code(4).json()[0];
    assert!(!report["warnings"].as_array().unwrap().contains(&warning));
}

#[test]
fn each_verb_tells_its_options_and_the_exit_codes() {
    let input = ["[TEXT]", "--input", "--from", "--model", "--format", "--threads", "--quiet"];
    for (verb, own) in [
        ("embed", &["--similarity", "--on-truncate", "--precision", "FERRITE_PRECISION"][..]),
        ("tokenize", &["--no-special-tokens"]),
        ("fill-mask", &["--top", "--precision"]),
        ("inspect", &["--cpu"]),
    ] {
        let help = run_command(&mut ferrite(&[verb, "--help"]), b"").code(0).out;
        let common = if verb == "inspect" { &input[3..] } else { &input[..] };
        for option in common.iter().chain(own).chain(&["Exit codes", "FERRITE_LEVEL"]) {
            assert!(help.contains(option), "{verb} has {option}: {help}");
        }
        assert!(run_command(&mut ferrite(&["--help"]), b"").code(0).out.contains(verb));
    }
}

#[test]
fn names_from_files_do_not_reach_the_terminal_raw() {
    let evil = copy("b-base");
    let path = evil.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = str::from_utf8(&bytes[8..8 + length]).unwrap();
    let name = "embeddings.LayerNorm.bias";
    assert!(header.contains(name));
    let header = header.replace(name, r"\u001b]0;owned\u0007\u009b2J");
    let mut renamed = (header.len() as u64).to_le_bytes().to_vec();
    renamed.extend_from_slice(header.as_bytes());
    renamed.extend_from_slice(&bytes[8 + length..]);
    std::fs::write(path, renamed).unwrap();
    let run = inspect(evil.path(), "text").code(4);
    assert!(run.out.contains(r"\u{1b}]0;owned\u{7}\u{9b}2J"), "{}", run.out);
    assert!(!run.out.contains(|c: char| c.is_control() && c != '\n'), "{:?}", run.out);

    set(evil.path(), "model_type", json!("\u{1b}[2J"));
    let run = run_command(ferrite(&["embed", "x", "--model"]).arg(evil.path()), b"").code(4);
    assert!(run.err.contains(r"\u{1b}[2J"), "{}", run.err);
    assert!(!run.err.contains(|c: char| c.is_control() && c != '\n'), "{:?}", run.err);
}
