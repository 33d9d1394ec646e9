//! Bad files, hostile text, odd settings: errors with names, linear time.

mod common;

use std::time::{Duration, Instant};

use common::{SENTENCES, SPECIALS, added, tokenizer_json, vocab};
use ferrite_tokenizer::{
    Direction, EncodeOptions, Encoding, Error, Scratch, Strategy, Tokenizer, Truncation,
    VocabOptions,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn load(edit: impl Fn(&mut Value)) -> Result<Tokenizer, Error> {
    let mut file = tokenizer_json();
    edit(&mut file);
    Tokenizer::from_json_str(&file.to_string())
}

fn message(edit: impl Fn(&mut Value)) -> String {
    load(edit).expect_err("refused").to_string()
}

#[test]
fn other_components_are_refused_by_name() {
    for (part, value, found) in [
        ("model", json!({"type": "BPE", "vocab": {}, "merges": []}), "BPE"),
        ("model", json!({"vocab": {}, "merges": []}), "BPE"),
        ("model", json!({"type": "Unigram", "vocab": [["a", -1.5]], "unk_id": 0}), "Unigram"),
        ("normalizer", json!({"type": "Lowercase"}), "Lowercase"),
        (
            "normalizer",
            json!({"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}]}),
            "Sequence",
        ),
        ("pre_tokenizer", json!({"type": "Whitespace"}), "Whitespace"),
        ("pre_tokenizer", json!(null), "null"),
        ("post_processor", json!({"type": "RobertaProcessing", "sep": ["a", 1]}), "Roberta"),
        ("decoder", json!({"type": "ByteLevel"}), "ByteLevel"),
        ("version", json!("2.0"), "2.0"),
    ] {
        let error = load(|file| file[part] = value.clone()).expect_err("refused");
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(part) && text.contains(found), "{text}");
    }
}

#[test]
fn unknown_keys_and_missing_parts_are_fine() {
    load(|file| {
        file["future"] = json!({"a": [1]});
        file["normalizer"]["future"] = json!([null]);
        file["model"]["future"] = json!("x");
        file["added_tokens"][0]["future"] = json!(1);
        file["padding"] = json!({"strategy": {"Fixed": 128}, "anything": true});
    })
    .expect("loads");
    for part in ["version", "truncation", "padding", "decoder", "post_processor", "normalizer"] {
        load(|file| file[part] = Value::Null).expect(part);
        load(|file| drop(file.as_object_mut().expect("an object").remove(part))).expect(part);
    }
    load(|file| {
        let bert = file["normalizer"].take();
        file["normalizer"] = json!({"type": "Sequence", "normalizers": [bert]});
    })
    .expect("a sequence of one");
}

#[test]
fn contradictions_are_named() {
    let text = tokenizer_json().to_string().replacen("\"vocab\":{", "\"vocab\":{\"the\":99999,", 1);
    let error = Tokenizer::from_json_str(&text).expect_err("doubled token");
    assert!(matches!(&error, Error::DoubledToken { token, second: 99999, .. } if token == "the"));

    let edit = |file: &mut Value| file["model"]["vocab"]["new"] = 7.into();
    assert!(message(edit).contains("id 7 belongs to both"));
    let edit = |file: &mut Value| file["model"]["unk_token"] = "[NONE]".into();
    assert!(message(edit).contains("unknown token \"[NONE]\" is not in the vocabulary"));
    let edit = |file: &mut Value| {
        file["post_processor"]["special_tokens"]["[SEP]"]["ids"] = json!([123_456]);
    };
    assert!(message(edit).contains("no token has the id 123456"));
    let edit = |file: &mut Value| file["post_processor"]["special_tokens"] = json!({});
    assert!(message(edit).contains("[CLS] is not in special_tokens"));
    let edit = |file: &mut Value| file["post_processor"]["pair"] = json!([]);
    assert!(message(edit).contains("sequence A 0 times"));
    let edit = |file: &mut Value| {
        file["added_tokens"].as_array_mut().expect("a list").push(added("<new>", 7, &[]));
    };
    assert!(message(edit).contains("id 7 belongs to both"));
    let edit = |file: &mut Value| file["added_tokens"][0]["id"] = 4_000_000_000u32.into();
    let tokenizer = load(edit).expect("loads");
    assert_eq!(tokenizer.pad_id(), Some(0));
    assert!(tokenizer.warnings()[0].contains("\"[PAD]\" the id 4000000000"));
}

/// A long list of ids, named often.
#[test]
fn a_template_does_not_multiply_what_a_file_holds() {
    let edit = |file: &mut Value| {
        file["post_processor"]["special_tokens"]["[SEP]"]["ids"] = json!(vec![0; 1000]);
        let slot = json!({"SpecialToken": {"id": "[SEP]", "type_id": 0}});
        let single = file["post_processor"]["single"].as_array_mut().expect("a list");
        single.extend(vec![slot; 1000]);
    };
    let text = message(edit);
    assert!(text.contains("special tokens, at most 1024 are possible"), "{text}");
}

#[test]
fn many_added_tokens_load_in_linear_time() {
    let edit = |file: &mut Value| {
        let list = file["added_tokens"].as_array_mut().expect("a list");
        list.extend((0..50_000).map(|i| added(&format!("<{i}>"), 1_000_000 + i, &[])));
    };
    let start = Instant::now();
    let tokenizer = load(edit).expect("loads");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(tokenizer.token_to_id("<49999>"), Some(1_049_999));
    assert_eq!(tokenizer.token_to_id("<50000>"), None);
}

#[test]
fn white_space_that_another_added_token_has_taken() {
    for (left, right) in [(&["normalized"][..], &[][..]), (&[], &["normalized", "lstrip"])] {
        for text in ["x ", "x  ", "x   y", " x x "] {
            let flags = [left, &["normalized", "rstrip"]].concat();
            let right = [right, &["normalized"]].concat();
            let tokenizer = load(|file| {
                let list = file["added_tokens"].as_array_mut().expect("a list");
                list.push(added("x", 1_000_000, &flags));
                list.push(added(" ", 1_000_001, &right));
            })
            .expect("loads");
            let encoding = tokenizer.encode(text, None, &EncodeOptions::default());
            for (start, end) in encoding.expect("encodes").offsets {
                assert!(text.get(start..end).is_some(), "{text:?}: {start}..{end}");
            }
        }
    }
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_refused_and_not_read() {
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["tokenizer.json", "vocab.txt", "tokenizer_config.json"] {
        let path = dir.path().join(name);
        std::os::unix::fs::symlink("/dev/zero", &path).expect("linked");
        let error = Tokenizer::from_pretrained(dir.path()).expect_err("endless");
        assert!(matches!(&error, Error::NotAFile { path: p } if *p == path), "{error}");
        std::fs::remove_file(path).expect("removed");
    }
    let path = dir.path().join("vocab.txt");
    let file = std::fs::File::create(&path).expect("created");
    file.set_len(1 << 40).expect("a hole");
    let error = Tokenizer::from_pretrained(dir.path()).expect_err("too large");
    assert!(matches!(error, Error::TooLarge { bytes: 0x100_0000_0000, .. }), "{error}");
}

#[test]
fn not_json_and_not_text() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("tokenizer.json");
    assert!(matches!(Tokenizer::from_pretrained(dir.path()), Err(Error::NoTokenizer { .. })));
    assert!(matches!(Tokenizer::from_json_file(&path), Err(Error::Io { .. })));
    let text = tokenizer_json().to_string();
    for end in (0..text.len()).step_by(97).filter(|&end| text.is_char_boundary(end)) {
        std::fs::write(&path, &text[..end]).expect("written");
        let error = Tokenizer::from_pretrained(dir.path()).expect_err("cut off");
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
    }
    std::fs::write(&path, b"{\n\n\"a\": \"\xFF\"}").expect("written");
    let error = Tokenizer::from_pretrained(dir.path()).expect_err("not UTF-8");
    assert!(matches!(error, Error::NotUtf8 { line: 3, .. }), "{error}");
    let deep = format!("{{\"model\":{}", "[".repeat(1_000_000));
    assert!(matches!(Tokenizer::from_json_str(&deep), Err(Error::Json { .. })));

    let path = dir.path().join("vocab.txt");
    for (bytes, expected) in [
        (&b"[UNK]\n[CLS]\n[SEP]\na\nb\xFF\n"[..], "line 5 is not valid UTF-8"),
        (b"[UNK]\n[CLS]\n[SEP]\na\nb\na\n", "\"a\" twice, at line 4 and line 6"),
        (b"[CLS]\n[SEP]\na\n", "unknown token \"[UNK]\""),
        (b"[UNK]\n[SEP]\na\n", "classification token \"[CLS]\""),
        (b"", "unknown token"),
    ] {
        std::fs::write(&path, bytes).expect("written");
        let error = Tokenizer::from_vocab_file(&path, VocabOptions::default()).expect_err("bad");
        let text = error.to_string();
        assert!(text.contains("vocab.txt") && text.contains(expected), "{text}");
    }
}

#[test]
fn a_folder_with_a_vocabulary() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("ok");
    write("vocab.txt", "<u>\r\n<c>\r\n<s>\r\n\r\nCafé\r\n,\r\n");
    write("special_tokens_map.json", r#"{"cls_token": {"content": "<c>", "lstrip": false}}"#);
    write("added_tokens.json", r#"{"<x>": 6, "<y>": 9}"#);
    write(
        "tokenizer_config.json",
        r#"{"do_lower_case": false, "unk_token": "<u>", "sep_token": "<s>", "never_split": ["a"],
            "model_max_length": 1000000000000000019884624838656, "clean_up_tokenization_spaces": false}"#,
    );
    let tokenizer = Tokenizer::from_pretrained(dir.path()).expect("loads");
    let encoding = tokenizer.encode("Café, cafe<x>", None, &EncodeOptions::default());
    assert_eq!(encoding.expect("encodes").ids, [1, 4, 5, 0, 6, 2]);
    assert_eq!(tokenizer.decode(&[4, 5], true).expect("decodes"), "Café ,");
    assert_eq!(
        tokenizer.decode(&[3], true).expect_err("a hole").to_string(),
        "no token has the id 3"
    );
    assert_eq!((tokenizer.cls_id(), tokenizer.sep_id()), (Some(1), Some(2)));
    assert_eq!((tokenizer.mask_id(), tokenizer.unk_id()), (None, Some(0)));
    assert_eq!(tokenizer.vocab_size(), 8);
    assert_eq!(tokenizer.warnings().len(), 2, "{:?}", tokenizer.warnings());

    // A tokenizer.json overrules all of it, and says so.
    write("tokenizer.json", &tokenizer_json().to_string());
    let tokenizer = Tokenizer::from_pretrained(dir.path()).expect("loads");
    assert_eq!(tokenizer.token_to_id("[CLS]"), Some(2));
    assert!(tokenizer.warnings()[0].contains("do_lower_case = false"));
}

/// Every length, stride, strategy and number of special tokens.
#[test]
fn truncation_never_underflows() {
    let tokens: Vec<&str> = SPECIALS.into_iter().chain(["a"]).collect();
    let bert = Tokenizer::from_vocab(tokens, VocabOptions::default()).expect("valid");
    let plain = load(|file| file["post_processor"] = Value::Null).expect("valid");
    let (mut out, mut scratch) = (Encoding::default(), Scratch::new());
    let texts = ["", "a", "a a a a a a a", "a a a a a a a a a a a a a a a a a a a a a a a a a"];
    let mut done = 0;
    for tokenizer in [&bert, &plain] {
        for max_length in 0..20 {
            for stride in 0..20 {
                for (first, second) in texts
                    .iter()
                    .flat_map(|a| texts.iter().map(Some).chain([None]).map(move |b| (a, b)))
                {
                    for strategy in
                        [Strategy::LongestFirst, Strategy::OnlyFirst, Strategy::OnlySecond]
                    {
                        for (direction, specials) in [
                            (Direction::Left, true),
                            (Direction::Right, true),
                            (Direction::Right, false),
                        ] {
                            let truncation = Truncation { max_length, strategy, direction, stride };
                            let options = EncodeOptions {
                                add_special_tokens: specials,
                                truncation: Some(truncation),
                                overflowing: true,
                            };
                            let second = second.copied();
                            let result = tokenizer.encode_into(
                                first,
                                second,
                                &options,
                                &mut out,
                                &mut scratch,
                            );
                            match result {
                                Ok(()) => {
                                    done += 1;
                                    assert!(out.len() <= max_length);
                                    assert!(out.overflowing.iter().all(|o| o.len() <= max_length));
                                    let all = first.len().div_ceil(2)
                                        + second.map_or(0, |text| text.len().div_ceil(2));
                                    let kept = out.word_ids.iter().flatten().count();
                                    assert_eq!(kept + out.truncated, all);
                                    assert_eq!(out.overflowing.is_empty(), out.truncated == 0);
                                }
                                Err(
                                    Error::MaxLengthTooSmall { .. }
                                    | Error::StrideTooLarge { .. }
                                    | Error::CannotTruncate { .. },
                                ) => {}
                                Err(error) => panic!("{error}"),
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(done > 10_000, "{done}");
}

#[test]
fn too_many_windows_are_refused() {
    let tokens: Vec<&str> = SPECIALS.into_iter().chain(["a"]).collect();
    let tokenizer = Tokenizer::from_vocab(tokens, VocabOptions::default()).expect("valid");
    let text = "a ".repeat(100_000);
    let truncation = Some(Truncation::new(5));
    let options = EncodeOptions { truncation, overflowing: true, ..EncodeOptions::default() };
    let result = tokenizer.encode(&text, Some(&text), &options);
    assert!(matches!(result, Err(Error::TooManyWindows { .. })));
    assert_eq!(tokenizer.encode(&text, None, &options).expect("fine").overflowing.len(), 33_333);
}

#[test]
fn hostile_text() {
    let tokenizer = load(|_| {}).expect("valid");
    let options = EncodeOptions::default();
    for unit in
        ["\u{301}", "\u{302E}", "\u{1D165}\u{301}", "\0", "\u{FEFF}", " ", "[", "[MASK]", "가", "Σ"]
    {
        let text = unit.repeat(1_000_000 / unit.len());
        let encoding = tokenizer.encode(&text, None, &options).expect("encodes");
        assert!(encoding.offsets.iter().all(|&(start, end)| text.get(start..end).is_some()));
    }
}

/// The fastest of several runs, since machines are noisy; and how many tokens.
fn time(tokenizer: &Tokenizer, text: &str) -> (Duration, usize) {
    let (mut out, mut scratch) = (Encoding::default(), Scratch::new());
    let run = |_| {
        let start = Instant::now();
        let options = EncodeOptions::default();
        tokenizer.encode_into(text, None, &options, &mut out, &mut scratch).expect("encodes");
        start.elapsed()
    };
    let time = (0..9).map(run).min().expect("nine runs");
    (time, out.len())
}

/// Half a megabyte of one character, or of a word that fits almost, takes no
/// more than four times as long as of prose with as many tokens; words are of any
/// length.
#[test]
fn linear_time() {
    let long = format!("{}{}", "a".repeat(200), "b");
    let tokens: Vec<String> = vocab()
        .into_iter()
        .chain([long.clone(), format!("##{long}"), "##aaaaaaaa".into()])
        .collect();
    let options = VocabOptions { max_chars_per_word: Some(usize::MAX), ..VocabOptions::default() };
    let tokenizer = Tokenizer::from_vocab(tokens, options).expect("valid");
    let bytes = |unit: &str, bytes: usize| unit.repeat(bytes / unit.len());
    let (prose, prose_tokens) = time(&tokenizer, &bytes(SENTENCES[2], 1 << 19));
    for unit in ["a", "é", "中", "!", "ж", "\u{302E}", &long[1..], " ", "a\u{301}"] {
        let (large, small) = (bytes(unit, 1 << 19), bytes(unit, 1 << 16));
        let mut seen = String::new();
        let is_linear = || {
            let (large, tokens) = time(&tokenizer, &large);
            let (small, _) = time(&tokenizer, &small);
            seen = format!("{large:?} for {tokens}, an eighth in {small:?}");
            // Where every byte is a token there is more to write.
            let prose = prose * 4 * tokens.div_ceil(prose_tokens) as u32;
            // An eighth of it: a twentieth of the time leaves room for caches and
            // noise, quadratic would be a sixty-fourth.
            large < prose + Duration::from_millis(10) && large < small * 24
        };
        // Other tests run meanwhile, and other programs: once has to be enough.
        assert!(
            std::iter::repeat_with(is_linear).take(5).any(|linear| linear),
            "{unit:?}: {seen}, prose {prose:?} for {prose_tokens}"
        );
    }
}

/// Random small files of tokens, flags and templates with random text: they
/// are refused or they work.
fn odd_file() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::strategy::Strategy as _;
    let string = "[a-c#\\[\\] é中]{0,4}";
    let flags =
        proptest::sample::subsequence(vec!["single_word", "lstrip", "rstrip", "normalized"], 0..=4);
    (
        proptest::collection::btree_map(string, 0..12u32, 0..12),
        proptest::collection::vec((string, 0..14u32, flags), 0..4),
        "[#a]{0,2}",
        0..6usize,
        any::<[bool; 4]>(),
    )
        .prop_map(|(mut tokens, list, prefix, max, switches)| {
            tokens.insert("[UNK]".into(), 12);
            let list: Vec<Value> = list.iter().map(|(t, id, flags)| added(t, *id, flags)).collect();
            json!({
                "added_tokens": list,
                "normalizer": {
                    "type": "BertNormalizer", "clean_text": switches[0],
                    "handle_chinese_chars": switches[1], "strip_accents": switches[2],
                    "lowercase": switches[3]
                },
                "pre_tokenizer": {"type": "BertPreTokenizer"},
                "decoder": {"type": "WordPiece", "prefix": prefix, "cleanup": true},
                "model": {
                    "type": "WordPiece", "continuing_subword_prefix": prefix,
                    "max_input_chars_per_word": max, "vocab": tokens
                }
            })
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn odd_files_and_texts(file in odd_file(), texts in proptest::collection::vec("[a-cA-C#\\[\\] é中\u{301}\0]{0,12}|.{0,8}", 4)) {
        if let Ok(tokenizer) = Tokenizer::from_json_str(&file.to_string()) {
            for text in &texts {
                let encoding = tokenizer.encode(text, Some(text), &EncodeOptions::default())
                    .expect("encodes");
                for &(start, end) in &encoding.offsets {
                    prop_assert!(text.get(start..end).is_some());
                }
                tokenizer.decode(&encoding.ids, false).expect("known ids");
            }
        }
    }
}
