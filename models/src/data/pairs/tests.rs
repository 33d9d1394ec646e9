//! Pairs against a naive form that has whole files in memory.

use proptest::prelude::*;

use super::*;

/// Files of a test, gone with it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn tsv(&self, content: &[u8]) -> PairFiles {
        PairFiles::Tsv(self.write("pairs.tsv", content))
    }

    fn json(&self, content: &[u8]) -> PairFiles {
        PairFiles::JsonLines(self.write("pairs.jsonl", content))
    }

    fn lines(&self, source: &[u8], target: &[u8]) -> PairFiles {
        PairFiles::Lines {
            source: self.write("text.de", source),
            target: self.write("text.en", target),
        }
    }
}

fn read_with(files: &PairFiles, options: PairOptions) -> (Vec<Entry>, PairReport) {
    let mut pairs = Pairs::open(files, options).unwrap();
    let entries = pairs.by_ref().map(Result::unwrap).collect();
    (entries, pairs.report())
}

fn read(files: &PairFiles) -> (Vec<Entry>, PairReport) {
    read_with(files, PairOptions::default())
}

fn pair(line: u64, source: &str, target: &str) -> Entry {
    Ok(Pair { source: source.to_owned(), target: target.to_owned(), line })
}

fn fault(entry: &Entry) -> (&PairFault, u64) {
    let rejected = entry.as_ref().unwrap_err();
    (&rejected.fault, rejected.line)
}

#[test]
fn a_mark_and_all_ends_of_lines_are_no_text() {
    let folder = Folder::new();
    let expected = [pair(1, "ä b", "c"), pair(2, "d", "e"), pair(3, "f", "g")];
    let files = folder.tsv("\u{feff}ä b\tc\r\nd \t e\nf\tg".as_bytes());
    assert_eq!(read(&files).0, expected);
    let (source, target) = ("\u{feff}ä b\nd\r\n f", "\u{feff}c\r\ne\ng\r\n");
    assert_eq!(read(&folder.lines(source.as_bytes(), target.as_bytes())).0, expected);
    let files = folder.json(
        "\u{feff}{\"source\": \"ä b\", \"target\": \"c\"}\r\n\
         {\"target\": \"e\\n\", \"id\": [1], \"source\": \"\\u0064\"}\n\
         {\"source\":\"f\",\"target\":\"g\"}"
            .as_bytes(),
    );
    assert_eq!(read(&files).0, expected);
    // A mark is none within the text, and a carriage return no end of a line.
    let files = folder.tsv("a\u{feff}\tb\rc\n\u{feff}d\te\n".as_bytes());
    assert_eq!(read(&files).0, [pair(1, "a\u{feff}", "b\rc"), pair(2, "\u{feff}d", "e")]);
    assert_eq!(read(&folder.tsv(b"")), (vec![], PairReport::default()));
}

#[test]
fn whatever_is_wrong_has_its_line_and_its_file() {
    let folder = Folder::new();
    let files = folder.tsv(b"a\tb\n\n\tb\na\t \na\na\tb\tc\na\t\xff\n\t\t\nc\td\n");
    let (entries, report) = read(&files);
    assert_eq!((&entries[0], &entries[8]), (&pair(1, "a", "b"), &pair(9, "c", "d")));
    let faults: Vec<String> =
        entries[1..8].iter().map(|entry| entry.as_ref().unwrap_err().to_string()).collect();
    let path = folder.0.path().join("pairs.tsv");
    let expected = [
        "2: blank",
        "3: a target without a source",
        "4: a source without a target",
        "5: 2 columns expected, 1 found",
        "6: 2 columns expected, 3 found",
        "7: byte 3 of the line is not UTF-8",
        "8: blank",
    ];
    assert_eq!(faults, expected.map(|text| format!("{}:{text}", path.display())));
    assert_eq!((report.lines, report.pairs, report.rejected()), (9, 2, 7));
    assert_eq!(
        report.to_string(),
        "9 lines: 2 pairs, 2 blank, 1 without a source, 1 without a target, \
         2 without two columns, 1 not UTF-8"
    );

    let (entries, _) = read(&folder.lines(b"a\n\nc\n\n\xff\nf\n", b"a\nb\n \n\nd\n\xff\n"));
    let names: Vec<&str> = entries[1..]
        .iter()
        .map(|entry| entry.as_ref().unwrap_err().path.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(names, ["text.de", "text.en", "text.de", "text.de", "text.en"]);
    let faults: Vec<_> = entries[1..].iter().map(fault).collect();
    let invalid = PairFault::InvalidUtf8 { byte: 1 };
    assert_eq!(
        faults,
        [
            (&PairFault::NoSource, 2),
            (&PairFault::NoTarget, 3),
            (&PairFault::Blank, 4),
            (&invalid, 5),
            (&invalid, 6)
        ]
    );
}

#[test]
fn lines_beyond_the_end_of_the_other_file_are_counted() {
    let folder = Folder::new();
    for (source, target, name) in
        [("a\nb\nc\nd\n", "A\n", "text.de"), ("a", "A\nb\n\nd", "text.en")]
    {
        let (entries, report) = read(&folder.lines(source.as_bytes(), target.as_bytes()));
        assert_eq!((entries.len(), &entries[0]), (2, &pair(1, "a", "A")));
        let rejected = entries[1].as_ref().unwrap_err();
        assert_eq!((rejected.line, rejected.path.ends_with(name)), (2, true));
        let message = rejected.to_string();
        assert!(message.contains(": 3 lines, up to line 4, are beyond the end of "), "{message}");
        assert_eq!((report.lines, report.pairs, report.unpaired), (4, 1, 3));
    }
}

#[test]
fn json_that_is_none_or_another_is_rejected() {
    let folder = Folder::new();
    for (line, expected) in [
        ("{\"source\": \"a\", \"target\"}", "column 25: expected `:`"),
        (
            "{\"source\": \"a\", \"target\": 7}",
            "column 27: invalid type: integer `7`, expected a string",
        ),
        ("{\"source\": \"a\", \"target\": \"b\"} x", "column 32: trailing characters"),
        (
            "{\"source\": \"a\", \"source\": \"b\", \"target\": \"c\"}",
            "column 24: duplicate field `source`",
        ),
        ("{\"source\": \"\\ud800\", \"target\": \"b\"}", "column 19: unexpected end of hex escape"),
        ("[\"a\", \"b\"]", "column 1: an object expected"),
        ("null", "column 1: an object expected"),
        ("{\"source\": \"a\"", "column 14: EOF while parsing an object"),
        ("{\"source\": \"a\"}", "a source without a target"),
        ("{\"target\": \"a\", \"source\": null}", "a target without a source"),
        ("{}", "blank"),
        ("  ", "blank"),
    ] {
        let content = format!("{line}\n{{\"source\": \"s\", \"target\": \"t\"}}\n");
        let (entries, _) = read(&folder.json(content.as_bytes()));
        assert_eq!(entries[0].as_ref().unwrap_err().fault.to_string(), expected, "{line}");
        assert_eq!(entries[1], pair(2, "s", "t"));
    }
    let deep = format!("{{\"x\": {}", "[".repeat(100_000));
    let (entries, report) = read(&folder.json(deep.as_bytes()));
    assert!(matches!(fault(&entries[0]), (PairFault::Json { .. }, 1)));
    assert_eq!((report.lines, report.json), (1, 1));
}

#[test]
fn long_lines_are_passed_over() {
    let folder = Folder::new();
    let options = PairOptions { line_limit: 8 };
    // Of 7 bytes and the end, of 8, of many, and of 8 without an end.
    let files = folder.tsv(b"abc\tefg\nabcd\tfgh\nabcdefghijklmnopq rstuvw\tx y\na\tb\nabcd\tefg");
    let (entries, report) = read_with(&files, options);
    assert_eq!(entries[0], pair(1, "abc", "efg"));
    for (at, line) in [(1, 2), (2, 3)] {
        assert_eq!(fault(&entries[at]), (&PairFault::TooLong { limit: 8 }, line));
    }
    assert_eq!(entries[3..], [pair(4, "a", "b"), pair(5, "abcd", "efg")]);
    assert_eq!((report.lines, report.pairs, report.too_long), (5, 3, 2));
    let (entries, report) = read_with(&folder.tsv(b"a\tb\nabcd\tefgh"), options);
    assert_eq!(fault(&entries[1]), (&PairFault::TooLong { limit: 8 }, 2));
    assert_eq!(report.lines, 2);
    let (entries, _) = read_with(&folder.lines(b"a\nb\n", b"0123456789\nc\n"), options);
    assert!(entries[0].as_ref().unwrap_err().path.ends_with("text.en"));
    assert_eq!(entries[1], pair(2, "b", "c"));
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let folder = Folder::new();
    let here = folder.write("here", b"a\n");
    let missing = folder.0.path().join("missing");
    for files in [
        PairFiles::Tsv(missing.clone()),
        PairFiles::JsonLines(folder.0.path().to_owned()),
        PairFiles::Lines { source: here.clone(), target: missing.clone() },
        PairFiles::Lines { source: missing, target: here.clone() },
    ] {
        let error = Pairs::open(&files, PairOptions::default()).unwrap_err();
        assert!(matches!(error, DataError::File(_)), "{error}");
    }
    let error = Pairs::open(&PairFiles::Tsv(here), PairOptions { line_limit: 0 }).unwrap_err();
    assert!(matches!(error, DataError::InvalidOption { option: "line_limit", .. }), "{error}");
}

/// The lines of a file and what is wrong with them.
fn naive_lines(bytes: &[u8], limit: u32) -> Vec<Result<String, PairFault>> {
    let mut lines = Vec::new();
    for (number, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        if line.len() > limit as usize {
            lines.push(Err(PairFault::TooLong { limit }));
            continue;
        }
        lines.push(match String::from_utf8(line.to_vec()) {
            Ok(mut text) => {
                if number == 0 && text.starts_with('\u{feff}') {
                    text.remove(0);
                }
                Ok(text)
            }
            Err(error) => {
                Err(PairFault::InvalidUtf8 { byte: error.utf8_error().valid_up_to() + 1 })
            }
        });
    }
    lines
}

fn naive_sides(source: &str, target: &str) -> Sides {
    match [source.trim(), target.trim()] {
        ["", ""] => Err(PairFault::Blank),
        ["", _] => Err(PairFault::NoSource),
        [_, ""] => Err(PairFault::NoTarget),
        [source, target] => Ok((source.to_owned(), target.to_owned())),
    }
}

fn naive_tsv(line: &str) -> Sides {
    let columns: Vec<&str> = line.split('\t').collect();
    match columns[..] {
        _ if columns.iter().all(|column| column.trim().is_empty()) => Err(PairFault::Blank),
        [source, target] => naive_sides(source, target),
        _ => Err(PairFault::Columns { found: columns.len() }),
    }
}

/// What is wrong with JSON is for the reader to say.
fn naive_json(line: &str) -> Sides {
    let other = || PairFault::Json { column: 0, message: String::new() };
    if line.trim().is_empty() {
        return Err(PairFault::Blank);
    }
    let Ok(serde_json::Value::Object(object)) = serde_json::from_str(line) else {
        return Err(other());
    };
    let side = |name| match object.get(name) {
        None | Some(serde_json::Value::Null) => Ok(String::new()),
        Some(serde_json::Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(other()),
    };
    naive_sides(&side("source")?, &side("target")?)
}

/// What a reader should give for these lines.
fn assert_read(
    files: &PairFiles,
    limit: u32,
    expected: &[(Sides, &Path)],
) -> Result<(), TestCaseError> {
    let (mut found, report) = read_with(files, PairOptions { line_limit: limit });
    for entry in &mut found {
        if let Err(RejectedPair { fault: PairFault::Json { column, message }, .. }) = entry {
            prop_assert!(*column > 0 && !message.is_empty());
            (*column, *message) = (0, String::new());
        }
    }
    let mut wanted = Vec::new();
    let mut counts = PairReport::default();
    for (line, (sides, path)) in (1..).zip(expected) {
        wanted.push(match sides.clone() {
            Ok((source, target)) => Ok(Pair { source, target, line }),
            Err(fault) => Err(RejectedPair { path: path.to_path_buf(), line, fault }),
        });
        counts.lines += 1;
        match sides {
            Ok(_) => counts.pairs += 1,
            Err(PairFault::Blank) => counts.blank += 1,
            Err(PairFault::NoSource) => counts.no_source += 1,
            Err(PairFault::NoTarget) => counts.no_target += 1,
            Err(PairFault::Columns { .. }) => counts.columns += 1,
            Err(PairFault::InvalidUtf8 { .. }) => counts.invalid_utf8 += 1,
            Err(PairFault::Json { .. }) => counts.json += 1,
            Err(PairFault::TooLong { .. }) => counts.too_long += 1,
            Err(PairFault::Unpaired { lines, .. }) => {
                counts.lines += lines - 1;
                counts.unpaired += lines;
            }
        }
    }
    prop_assert_eq!(found, wanted);
    prop_assert_eq!(report, counts);
    Ok(())
}

/// Bytes of a file that is half in order.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let pieces: [&[u8]; 14] = [
        b"a",
        b"b c",
        b"\t",
        b"\t",
        b"\n",
        b"\n",
        b"\r\n",
        b"\r",
        b" ",
        b"\xff",
        b"\xc3",
        "\u{feff}".as_bytes(),
        "é\u{3000}".as_bytes(),
        b"a long one\tand another",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..30)
        .prop_map(|pieces| pieces.concat())
}

fn json_lines() -> impl Strategy<Value = Vec<u8>> {
    let lines = [
        "{\"source\": \"a\", \"target\": \"b\"}",
        "{\"target\": \" é \", \"source\": \"\\u00e9\\t\"}",
        "{\"source\": \"a\", \"more\": {\"target\": 1}}",
        "{\"source\": \" \", \"target\": \"b\"}",
        "{\"source\": 1, \"target\": \"b\"}",
        "{\"source\": null}",
        "{\"source\": \"a\", ",
        "[\"a\", \"b\"]",
        "7",
        " ",
        "",
        "\u{feff}",
    ];
    let end = prop::sample::select(vec!["\n", "\n", "\n", "\r\n", ""]);
    prop::collection::vec((prop::sample::select(lines.to_vec()), end), 0..12).prop_map(|lines| {
        lines.into_iter().flat_map(|(line, end)| [line, end]).collect::<String>().into_bytes()
    })
}

fn limit() -> impl Strategy<Value = u32> {
    prop_oneof![1 => 1..40_u32, 2 => Just(1 << 20)]
}

proptest! {
    #[test]
    fn columns_are_those_of_the_naive_form(content in bytes(), limit in limit()) {
        let folder = Folder::new();
        let files = folder.tsv(&content);
        let path = folder.0.path().join("pairs.tsv");
        let lines = naive_lines(&content, limit).into_iter();
        let expected: Vec<_> = lines
            .map(|line| (line.and_then(|line| naive_tsv(&line)), path.as_path()))
            .collect();
        assert_read(&files, limit, &expected)?;
    }

    #[test]
    fn json_lines_are_those_of_the_naive_form(content in json_lines(), limit in limit()) {
        let folder = Folder::new();
        let files = folder.json(&content);
        let path = folder.0.path().join("pairs.jsonl");
        let lines = naive_lines(&content, limit).into_iter();
        let expected: Vec<_> = lines
            .map(|line| (line.and_then(|line| naive_json(&line)), path.as_path()))
            .collect();
        assert_read(&files, limit, &expected)?;
    }

    #[test]
    fn lines_of_two_files_are_those_of_the_naive_form(
        source in bytes(), target in bytes(), limit in limit(),
    ) {
        let folder = Folder::new();
        let files = folder.lines(&source, &target);
        let paths = ["text.de", "text.en"].map(|name| folder.0.path().join(name));
        let [sources, targets] = [&source, &target].map(|bytes| naive_lines(bytes, limit));
        let mut expected = Vec::new();
        for (source, target) in sources.iter().zip(&targets) {
            expected.push(match (source, target) {
                (Err(fault), _) => (Err(fault.clone()), paths[0].as_path()),
                (_, Err(fault)) => (Err(fault.clone()), paths[1].as_path()),
                (Ok(source), Ok(target)) => {
                    let sides = naive_sides(source, target);
                    let in_target = sides == Err(PairFault::NoTarget);
                    (sides, paths[usize::from(in_target)].as_path())
                }
            });
        }
        let (shorter, longer) =
            (sources.len().min(targets.len()), sources.len().max(targets.len()));
        if shorter < longer {
            let in_target = usize::from(targets.len() == longer);
            let lines = (longer - shorter) as u64;
            let other = paths[1 - in_target].clone();
            let fault = PairFault::Unpaired { last: longer as u64, lines, other };
            expected.push((Err(fault), paths[in_target].as_path()));
        }
        assert_read(&files, limit, &expected)?;
    }
}
