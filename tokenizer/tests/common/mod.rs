//! What the tests share: a vocabulary, tokenizer files, random text.
//!
//! Set `FERRITE_TEST_MODEL` to a folder with a published BERT's
//! `tokenizer.json` to run the comparisons with that one too, and
//! `FERRITE_TEST_TEXT` to a file of real text to add its lines.
#![allow(dead_code, reason = "each test file uses a part of it")]

use serde_json::{Value, json};

/// Small, seeded, the same everywhere (Steele et al., SplitMix64).
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

pub(crate) const WORDS: &[&str] = &[
    "the",
    "of",
    "and",
    "to",
    "in",
    "a",
    "is",
    "that",
    "for",
    "it",
    "was",
    "on",
    "with",
    "he",
    "be",
    "by",
    "at",
    "this",
    "have",
    "from",
    "or",
    "had",
    "not",
    "but",
    "what",
    "all",
    "were",
    "when",
    "we",
    "there",
    "can",
    "an",
    "your",
    "which",
    "their",
    "said",
    "if",
    "do",
    "will",
    "each",
    "about",
    "how",
    "up",
    "out",
    "them",
    "then",
    "she",
    "many",
    "some",
    "so",
    "these",
    "would",
    "other",
    "into",
    "has",
    "more",
    "her",
    "two",
    "like",
    "him",
    "see",
    "time",
    "could",
    "no",
    "make",
    "than",
    "first",
    "been",
    "its",
    "who",
    "now",
    "people",
    "my",
    "made",
    "over",
    "did",
    "down",
    "only",
    "way",
    "find",
    "use",
    "may",
    "water",
    "long",
    "little",
    "very",
    "after",
    "words",
    "called",
    "just",
    "where",
    "most",
    "know",
    "model",
    "token",
    "iron",
    "core",
    "memory",
    "matrix",
    "vector",
    "paper",
    "language",
    "attention",
    "is",
    "need",
    "do",
    "don't",
];

pub(crate) const ENDINGS: &[&str] = &[
    "s", "ed", "ing", "er", "est", "ly", "ness", "tion", "able", "ize", "ful", "less", "ment",
    "ism", "ist", "al", "ic", "ous", "ive", "en", "un", "re", "th", "on", "in", "at", "or", "it",
];

/// First and last letters of the scripts in the vocabulary.
const SCRIPTS: &[(char, char)] = &[
    ('\u{A1}', '\u{24F}'),
    ('\u{370}', '\u{3FF}'),
    ('\u{400}', '\u{45F}'),
    ('\u{5D0}', '\u{5EA}'),
    ('\u{621}', '\u{64A}'),
    ('\u{904}', '\u{939}'),
    ('\u{E01}', '\u{E30}'),
    ('\u{1100}', '\u{1112}'),
    ('\u{1161}', '\u{1175}'),
    ('\u{11A8}', '\u{11C2}'),
    ('\u{3041}', '\u{3096}'),
    ('\u{30A1}', '\u{30FA}'),
    ('\u{4E00}', '\u{4E7F}'),
    ('\u{AC00}', '\u{AC20}'),
    ('\u{1F600}', '\u{1F64F}'),
];

pub(crate) const SPECIALS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// A vocabulary of some thousand pieces.
pub(crate) fn vocab() -> Vec<String> {
    let mut tokens: Vec<String> = SPECIALS.iter().map(|t| t.to_string()).collect();
    let mut add = |token: String| {
        if !tokens.contains(&token) {
            tokens.push(token);
        }
    };
    let letters = SCRIPTS.iter().flat_map(|&(first, last)| first..=last);
    // Not all of them, so that words of every script can be unknown too.
    for c in ('!'..='~').chain(letters.filter(|&c| c as u32 % 7 != 3)) {
        add(c.to_string());
        if c as u32 % 5 != 1 {
            add(format!("##{c}"));
        }
    }
    let mut rng = Rng(1);
    for word in WORDS.iter().filter(|word| !word.contains('\'')) {
        add(word.to_string());
        let mut capital = word.to_string();
        capital[..1].make_ascii_uppercase();
        add(capital);
        add(format!("##{word}"));
        add(format!("{word}{}", rng.pick(ENDINGS)));
        add(format!("##{}{}", &word[..1], rng.pick(ENDINGS)));
    }
    for ending in ENDINGS {
        add(format!("##{ending}"));
    }
    for _ in 0..400 {
        let len = 2 + rng.below(6);
        let piece: String = (0..len).map(|_| rng.pick(&['a', 'b', 'e', 'é', 'ж', '中'])).collect();
        add(if rng.below(2) == 0 { piece } else { format!("##{piece}") });
    }
    tokens
}

/// A `tokenizer.json` as it is published, over [`vocab`].
pub(crate) fn tokenizer_json() -> Value {
    let vocab = vocab();
    let ids: serde_json::Map<String, Value> =
        vocab.iter().zip(0u32..).map(|(token, id)| (token.clone(), id.into())).collect();
    let added: Vec<Value> = SPECIALS.iter().zip(0u32..).map(|(t, id)| added(t, id, &[])).collect();
    let special = |id: &str, type_id: u32| json!({"SpecialToken": {"id": id, "type_id": type_id}});
    let sequence = |id: &str, type_id: u32| json!({"Sequence": {"id": id, "type_id": type_id}});
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0)],
            "pair": [
                special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0),
                sequence("B", 1), special("[SEP]", 1)
            ],
            "special_tokens": {
                "[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}
            }
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": ids
        }
    })
}

/// An entry of `added_tokens` with the named flags set; `special` unless
/// `normalized` is.
pub(crate) fn added(content: &str, id: u32, flags: &[&str]) -> Value {
    let flag = |name| flags.contains(&name);
    json!({
        "id": id, "content": content, "single_word": flag("single_word"),
        "lstrip": flag("lstrip"), "rstrip": flag("rstrip"), "normalized": flag("normalized"),
        "special": !flag("normalized")
    })
}

/// Tokenizer files of every kind that is supported, by name.
pub(crate) fn models() -> Vec<(String, String)> {
    let mut models = Vec::new();
    let mut add = |name: &str, edit: &dyn Fn(&mut Value)| {
        let mut file = tokenizer_json();
        edit(&mut file);
        models.push((name.to_owned(), file.to_string()));
    };
    let size = vocab().len() as u32;
    add("uncased", &|_| {});
    add("cased", &|file| file["normalizer"]["lowercase"] = false.into());
    add("cased, accents stripped", &|file| {
        file["normalizer"]["lowercase"] = false.into();
        file["normalizer"]["strip_accents"] = true.into();
    });
    add("uncased, accents kept", &|file| file["normalizer"]["strip_accents"] = false.into());
    add("not cleaned", &|file| {
        file["normalizer"]["clean_text"] = false.into();
        file["normalizer"]["handle_chinese_chars"] = false.into();
    });
    add("BertProcessing", &|file| {
        file["post_processor"] =
            json!({"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]});
    });
    add("short words, another prefix", &|file| {
        file["model"]["max_input_chars_per_word"] = 7.into();
        file["model"]["continuing_subword_prefix"] = "e".into();
    });
    add("added tokens", &|file| {
        let list = file["added_tokens"].as_array_mut().expect("a list");
        list[4] = added("[MASK]", 4, &["lstrip"]);
        list.push(added("time", 5, &["single_word"]));
        list.push(added("Café", size, &["normalized"]));
        list.push(added("<both>", size + 1, &["lstrip", "rstrip"]));
        list.push(added("the中", size + 2, &["normalized", "single_word", "rstrip"]));
        list.push(added("[MASK][MASK]", size + 3, &[]));
        list.push(added("e", size + 4, &["single_word", "lstrip", "normalized"]));
        let word = file["model"]["vocab"]["time"].as_u64().expect("in the vocabulary");
        file["added_tokens"][5]["id"] = word.into();
        let letter = file["model"]["vocab"]["e"].as_u64().expect("in the vocabulary");
        file["added_tokens"][10]["id"] = letter.into();
    });
    match std::env::var("FERRITE_TEST_MODEL") {
        Ok(dir) => {
            let file = std::path::Path::new(&dir).join("tokenizer.json");
            eprintln!("FERRITE_TEST_MODEL: {}", file.display());
            let text = std::fs::read_to_string(file).expect("a readable tokenizer.json");
            models.push(("FERRITE_TEST_MODEL".into(), text));
        }
        Err(_) => eprintln!("FERRITE_TEST_MODEL is not set: only the tests' own vocabulary"),
    }
    models
}

/// Sentences in many languages, and the oddities of text.
pub(crate) const SENTENCES: &[&str] = &[
    "",
    " ",
    "Ferrite reads a text, cuts it into pieces, and looks each piece up.",
    "It's 3.14159, isn't it? I'd say \"yes\" (don't you?) — e-mail me@example.org!",
    "Das Mädchen fährt über die Straße; ÄÖÜ sind Umlaute.",
    "Où est la bibliothèque ? Là-bas, près de l'église, à côté du café.",
    "El niño comió una piña en la montaña. ¿Dónde está?",
    "Żółty ślimak pełznie po źdźble trawy.",
    "Быстрая лиса перепрыгнула через ленивую собаку. Ёлка, йод.",
    "Ο ΓΡΗΓΟΡΟΣ σκύλος ΤΡΕΧΕΙ στους δρόμους. ΟΔΟΣ.",
    "השועל המהיר קופץ מעל הכלב. שָׁלוֹם",
    "الثعلب السريع يقفز فوق الكلب. مُحَمَّدٌ",
    "तेज़ लोमड़ी आलसी कुत्ते के ऊपर कूदती है।",
    "หมาจิ้งจอกกระโดดข้ามสุนัข",
    "빠른 여우가 게으른 개를 뛰어넘는다. 각",
    "素早い狐はのろまな犬を飛び越える。カタカナ、ひらがな。",
    "敏捷的狐狸跳过懒狗。中文English混排。",
    "Nhanh như chớp, con cáo nhảy qua con chó lười.",
    "İSTANBUL ısı ǅ ﬁ ß ẞ",
    "👩‍👩‍👧‍👦 family, 🏳️‍🌈 flag, 👍🏽 skin, 🇩🇪 country",
    "e\u{301}e\u{323}\u{302} a\u{302E}\u{301} \u{1D15E}\u{334} \u{344}x",
    "x\u{0}y\u{FFFD}z\u{AD}w\u{200B}v\u{200D}u\u{E000}t\u{FEFF}s\u{378}r",
    "a\u{A0}b\u{2003}c\u{2028}d\u{2029}e\u{3000}f\u{85}g\u{B}h\u{C}i\u{1C}j\u{180E}k",
    "\u{2B820}\u{2B91F}\u{2B920}\u{20000}\u{2F800}\u{F900}\u{3400}",
    "[CLS] the [MASK] is [MASK][MASK] [SEP] [mask] [ MASK ] x[MASK]y  [MASK]\u{3000}[UNK]",
    "A Café, a cafe\u{301}, the中  x, theme中, thetime time's time_ e é  <both>  <BOTH> e",
    "##ing ## # the##ing",
    "donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichenverschlussschraubengewindegangmesser",
];

/// Real lines: this crate's own files, and `FERRITE_TEST_TEXT`.
pub(crate) fn real_lines() -> Vec<String> {
    let mut text = [
        include_str!("../../../LICENSE-APACHE"),
        include_str!("../../src/normalize.rs"),
        include_str!("../../src/wordpiece.rs"),
        include_str!("mod.rs"),
    ]
    .join("\n");
    if let Ok(file) = std::env::var("FERRITE_TEST_TEXT") {
        text.push_str(&std::fs::read_to_string(file).expect("a readable text"));
    }
    text.lines().map(str::to_owned).collect()
}

const SPACES: &[&str] =
    &[" ", " ", " ", "  ", "\t", "\n", "\r\n", "\u{A0}", "\u{3000}", "\u{2028}", "\u{200B}", ""];

/// A random text: words of the vocabulary, every script, marks, syllables,
/// ideographs, joined emoji, controls, specials, long words.
pub(crate) fn random_text(rng: &mut Rng, vocab: &[String]) -> String {
    let mut text = String::new();
    for _ in 0..rng.below(14) {
        random_part(rng, vocab, &mut text);
        if rng.below(3) > 0 {
            text.push_str(rng.pick(SPACES));
        }
    }
    text
}

fn random_part(rng: &mut Rng, vocab: &[String], text: &mut String) {
    let mut chars = |rng: &mut Rng, first: u32, last: u32, most: usize| {
        for _ in 0..=rng.below(most) {
            let c = first + rng.below((last - first + 1) as usize) as u32;
            text.extend(char::from_u32(c));
        }
    };
    match rng.below(24) {
        0..=5 => {
            let word = rng.pick(WORDS);
            match rng.below(4) {
                0 => text.push_str(&word.to_uppercase()),
                1 => text.push_str(&format!("{word}{}", rng.pick(ENDINGS))),
                _ => text.push_str(word),
            }
        }
        6 => text.push_str(vocab[rng.below(vocab.len())].trim_start_matches("##")),
        7 => text.push_str(&vocab[rng.below(vocab.len())]),
        8 => {
            let (first, last) = rng.pick(SCRIPTS);
            chars(rng, first as u32, last as u32, 6);
        }
        9 => chars(rng, 0x20, 0x7E, 8),
        10 => chars(rng, 0, 0x24F, 4),
        11 => {
            let block = 0x300 + rng.below(0xFD) as u32 * 0x100;
            chars(rng, block, block + 0xFF, 5);
        }
        12 => {
            let block = 0x10000 + rng.below(0x210) as u32 * 0x100;
            chars(rng, block, block + 0xFF, 4);
        }
        13 => {
            chars(rng, 0x61, 0x7A, 2);
            chars(rng, 0x300, 0x36F, 3);
        }
        14 => chars(rng, 0xAC00, 0xD7A3, 3),
        15 => chars(rng, 0x4E00, 0x9FFF, 3),
        16 => text.push_str(rng.pick(&["👩‍👧", "🏳️‍🌈", "👍🏽", "e\u{301}", "ﬁ", "İ", "Σ", "ΣΑΣ"])),
        17 => text.push_str(rng.pick(&SPECIALS)),
        18 => {
            text.push_str(rng.pick(&["time", "Café", "CAFE\u{301}", "<both>", "the中", "e", "E"]))
        }
        19 => {
            // Marks that stay, and those that move past each other.
            let marks = ['\u{302E}', '\u{1D165}', '\u{1D16D}', '\u{334}', '\u{323}', '\u{301}'];
            let marks = [&marks[..], &['\u{1D15E}', '\u{E9}', '\u{16FF0}', '\u{3099}']].concat();
            text.push('a');
            (0..rng.below(5)).for_each(|_| text.push(rng.pick(&marks)));
        }
        20 => text.push_str(&rng.pick(WORDS).repeat(rng.below(40))),
        21 => chars(rng, 0x1F300, 0x1FAFF, 3),
        22 => chars(rng, 0, 0x10FFFF, 3),
        _ => text.push_str(rng.pick(SENTENCES)),
    }
}
