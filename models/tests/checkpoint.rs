//! Sound checkpoints: numbers, shards, names, and the same verdicts as the `safetensors` crate.

mod common;

use common::{entry, file, file_with, folder, tensors_f32};
use ferrite_models::Error;
use ferrite_models::bert::{BertConfig, Part};
use ferrite_models::checkpoint::{Checkpoint, Dtype, Fate, Ignored, Names, Wanted};
use proptest::prelude::*;
use safetensors::SafeTensors;

const FILE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// All elements of the tensor stored by this name.
fn values(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    let tensor = checkpoint.get(name).unwrap();
    let mut values = vec![f32::NAN; tensor.elements()];
    checkpoint.read(tensor, &mut values).unwrap();
    values
}

#[test]
fn numbers_come_out_whatever_their_type_and_place() {
    let single = 1.5f32.to_le_bytes();
    let double = (-0.1f64).to_le_bytes();
    let half = half::f16::from_f32(-2.0).to_le_bytes();
    let brain = half::bf16::from_f32(3.0).to_le_bytes();
    let data = [&single[..], &double, &half, &brain, &[7]].concat();
    // The header's length decides where the data begin: every alignment.
    for padding in 0..64 {
        let header = format!(
            "{{{},{},{},{},{},{}}}{}",
            entry("single", "F32", &[1, 1], 0, 4),
            entry("double", "F64", &[], 4, 12),
            entry("half", "F16", &[1], 12, 14),
            entry("brain", "BF16", &[1], 14, 16),
            entry("byte", "U8", &[1], 16, 17),
            entry("nothing", "F32", &[3, 0], 17, 17),
            " ".repeat(padding)
        );
        let folder = folder([(FILE, file_with(&header, &data))]);
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        assert_eq!(values(&checkpoint, "single"), [1.5]);
        assert_eq!(values(&checkpoint, "double"), [-0.1]);
        assert_eq!(values(&checkpoint, "half"), [-2.0]);
        assert_eq!(values(&checkpoint, "brain"), [3.0]);
        assert_eq!(values(&checkpoint, "nothing"), [0.0; 0]);
        let byte = checkpoint.get("byte").unwrap();
        assert_eq!((byte.dtype(), byte.bytes(), byte.shape()), (Dtype::U8, 1, &[1][..]));
        let error = checkpoint.read(byte, &mut [0.0]).unwrap_err();
        assert!(matches!(error, Error::WrongDtype { found: Dtype::U8, .. }), "{error}");
    }
}

#[test]
fn shards_are_read_as_one() {
    let index = r#"{"metadata": {"total_size": 24},
        "weight_map": {"a": "one.safetensors", "c": "two.safetensors", "b": "one.safetensors"}}"#;
    let folder = folder([
        (INDEX, index.as_bytes().to_vec()),
        ("one.safetensors", tensors_f32([("a", &[2][..], vec![1.0, 2.0]), ("b", &[1], vec![3.0])])),
        ("two.safetensors", tensors_f32([("c", &[3, 1][..], vec![4.0, 5.0, 6.0])])),
    ]);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(
        checkpoint.tensors().map(|tensor| tensor.name()).collect::<Vec<_>>(),
        ["a", "b", "c"]
    );
    assert_eq!(values(&checkpoint, "b"), [3.0]);
    assert_eq!(values(&checkpoint, "c"), [4.0, 5.0, 6.0]);
    let file = checkpoint.file(checkpoint.get("c").unwrap());
    assert_eq!(file, folder.path().join("two.safetensors"));
    // As `transformers` does, a single file is preferred.
    common::write(folder.path(), FILE, &tensors_f32([("z", &[][..], vec![9.0])]));
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(values(&checkpoint, "z"), [9.0]);
    assert_eq!(checkpoint.tensors().len(), 1);
}

#[cfg(unix)]
#[test]
fn a_snapshot_of_links_is_read() {
    // The hub's cache: snapshots/<commit>/model.safetensors -> ../../blobs/<hash>.
    let cache = folder([("blobs/abc", tensors_f32([("a", &[1][..], vec![1.0])]))]);
    let snapshot = cache.path().join("snapshots/def");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::os::unix::fs::symlink("../../blobs/abc", snapshot.join(FILE)).unwrap();
    assert_eq!(values(&Checkpoint::open(&snapshot).unwrap(), "a"), [1.0]);
}

#[test]
fn a_file_that_is_cut_after_it_was_opened_is_noticed() {
    let folder = folder([(FILE, tensors_f32([("a", &[2][..], vec![1.0, 2.0])]))]);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let whole = std::fs::metadata(folder.path().join(FILE)).unwrap().len();
    let file = std::fs::OpenOptions::new().write(true).open(folder.path().join(FILE)).unwrap();
    file.set_len(whole - 1).unwrap();
    let error = checkpoint.read(checkpoint.get("a").unwrap(), &mut [0.0; 2]).unwrap_err();
    let Error::Truncated { expected, actual, .. } = error else { panic!("{error}") };
    assert_eq!((expected, actual), (whole, whole - 1));
}

/// A BERT with sizes of one digit.
fn tiny() -> BertConfig {
    BertConfig::from_json_str(
        r#"{"vocab_size": 7, "hidden_size": 4, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 8, "max_position_embeddings": 5}"#,
    )
    .unwrap()
}

/// These tensors, under other names; each has its own number in all elements.
fn stored(wanted: &[Wanted], rename: impl Fn(&str) -> String) -> Vec<u8> {
    let named: Vec<_> = wanted.iter().map(|wanted| rename(&wanted.name)).collect();
    tensors_f32(wanted.iter().zip(&named).enumerate().map(|(i, (wanted, name))| {
        (&**name, &*wanted.shape, vec![i as f32; wanted.shape.iter().product()])
    }))
}

fn wanted(config: &BertConfig, parts: &[Part]) -> Vec<Wanted> {
    parts.iter().flat_map(|&part| config.tensors(part)).collect()
}

#[test]
fn every_spelling_of_the_names_is_understood() {
    let config = tiny();
    let wanted = wanted(&config, &[Part::Encoder, Part::Pooler]);
    let old = |name: &str| {
        name.replace("LayerNorm.weight", "LayerNorm.gamma")
            .replace("LayerNorm.bias", "LayerNorm.beta")
    };
    let spellings: [&dyn Fn(&str) -> String; 4] =
        [&|name| name.to_owned(), &|name| format!("bert.{name}"), &|name| old(name), &|name| {
            format!("bert.{}", old(name))
        }];
    for rename in spellings {
        let folder = folder([(FILE, stored(&wanted, rename))]);
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let names = Names::new(&checkpoint);
        let parts = config.parts(&names);
        assert_eq!(parts, [Part::Encoder, Part::Pooler]);
        let report = config.report(&names, &parts);
        assert!(report.is_loadable(), "{:?}", report.faults);
        let parameters: usize = wanted.iter().map(|x| x.shape.iter().product::<usize>()).sum();
        assert_eq!((report.parameters, report.bytes), (parameters, 4 * parameters));
        for (i, wanted) in wanted.iter().enumerate() {
            let mut out = vec![f32::NAN; wanted.shape.iter().product()];
            names.read(&wanted.name, &wanted.shape, &mut out).unwrap();
            assert!(out.iter().all(|&x| x == i as f32), "{}", wanted.name);
            let (_, fate) = report
                .tensors
                .iter()
                .find(|(tensor, _)| tensor.name() == rename(&wanted.name))
                .unwrap();
            let same = rename(&wanted.name) == wanted.name;
            let expected = if same { Fate::Used } else { Fate::Renamed(wanted.name.clone()) };
            assert_eq!(*fate, expected);
        }
    }
}

#[test]
fn matrices_and_rows_are_filled() {
    let folder = folder([(
        FILE,
        tensors_f32([
            ("bert.q", &[1, 2][..], vec![1.0, 2.0]),
            ("bert.k", &[1, 2], vec![3.0, 4.0]),
            ("bert.b", &[2], vec![5.0, 6.0]),
        ]),
    )]);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let names = Names::new(&checkpoint);
    assert_eq!(names.matrix("k", 1, 2).unwrap().row(0), [3.0, 4.0]);
    assert_eq!(names.vector("b", 2).unwrap(), [5.0, 6.0]);
    // Two tensors into one matrix.
    let mut fused = ferrite_kernels::Matrix::zeros(2, 2);
    names.read("k", &[1, 2], fused.row_mut(1)).unwrap();
    names.read("q", &[1, 2], fused.row_mut(0)).unwrap();
    assert_eq!(fused.as_slice(), [1.0, 2.0, 3.0, 4.0]);
    assert!(matches!(names.vector("q", 2), Err(Error::WrongShape { .. })));
}

#[test]
fn a_report_tells_the_fate_of_every_tensor() {
    let config = tiny();
    let mut tensors = wanted(&config, &[Part::Encoder, Part::MaskedLm]);
    tensors.retain(|wanted| wanted.name != "encoder.layer.1.output.dense.bias");
    let shape =
        &mut tensors.iter_mut().find(|x| x.name == "encoder.layer.0.intermediate.dense.weight");
    shape.as_mut().unwrap().shape = vec![8, 5];
    for (name, shape) in [
        ("cls.predictions.decoder.weight", &[7, 4][..]),
        ("cls.predictions.decoder.bias", &[7]),
        ("embeddings.position_ids", &[1, 5]),
        ("classifier.weight", &[2, 4]),
        ("encoder.layer.2.output.dense.bias", &[4]),
        ("embeddings.LayerNorm.gamma", &[4]),
        ("optimizer.step", &[]),
    ] {
        tensors.push(Wanted { name: name.to_owned(), shape: shape.to_owned() });
    }
    let folder = folder([(FILE, stored(&tensors, str::to_owned))]);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let names = Names::new(&checkpoint);
    let parts = config.parts(&names);
    assert_eq!(parts, [Part::Encoder, Part::MaskedLm]);
    let report = config.report(&names, &parts);
    assert_eq!(report.tensors.len(), checkpoint.tensors().len());

    let fate = |name: &str| &report.tensors.iter().find(|(x, _)| x.name() == name).unwrap().1;
    let tied = |to| Fate::Ignored(Ignored::Tied(to));
    for (name, expected) in [
        ("embeddings.word_embeddings.weight", Fate::Used),
        ("cls.predictions.bias", Fate::Used),
        ("cls.predictions.decoder.weight", tied("embeddings.word_embeddings.weight")),
        ("cls.predictions.decoder.bias", tied("cls.predictions.bias")),
        ("embeddings.position_ids", Fate::Ignored(Ignored::Constant)),
        ("classifier.weight", Fate::Ignored(Ignored::OtherHead)),
        ("encoder.layer.2.output.dense.bias", Fate::Unexpected),
        ("optimizer.step", Fate::Unexpected),
        ("encoder.layer.0.intermediate.dense.weight", Fate::WrongShape(vec![8, 4])),
        ("embeddings.LayerNorm.gamma", Fate::Doubled),
        ("embeddings.LayerNorm.weight", Fate::Doubled),
    ] {
        assert_eq!(*fate(name), expected, "{name}");
    }
    // All faults, in the order of the model.
    let [doubled, shape, missing] = &report.faults[..] else { panic!("{:?}", report.faults) };
    assert!(matches!(doubled, Error::DuplicateTensor { tensor, other, .. }
        if tensor == "embeddings.LayerNorm.weight" && other == "embeddings.LayerNorm.gamma"));
    assert!(matches!(shape, Error::WrongShape { tensor, expected, found, .. }
        if tensor == "encoder.layer.0.intermediate.dense.weight"
            && (&expected[..], &found[..]) == (&[8, 4], &[8, 5])));
    assert!(matches!(missing, Error::MissingTensor { tensor, expected, .. }
        if tensor == "encoder.layer.1.output.dense.bias" && expected[..] == [4]));
}

#[test]
fn either_of_two_tied_tensors_will_do() {
    let config = tiny();
    let tensors = wanted(&config, &[Part::Encoder, Part::MaskedLm]);
    let swap = |name: &str| match name {
        "embeddings.word_embeddings.weight" => "cls.predictions.decoder.weight".to_owned(),
        "cls.predictions.bias" => "cls.predictions.decoder.bias".to_owned(),
        name => format!("bert.{name}").replace("bert.cls", "cls"),
    };
    let folder = folder([(FILE, stored(&tensors, swap))]);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let names = Names::new(&checkpoint);
    let report = config.report(&names, &config.parts(&names));
    assert!(report.is_loadable(), "{:?}", report.faults);
    assert_eq!(names.matrix("embeddings.word_embeddings.weight", 7, 4).unwrap().row(6), [0.0; 4]);
}

#[test]
fn an_untied_matrix_is_wanted() {
    let mut config = tiny();
    config.tie_word_embeddings = false;
    let names: Vec<_> = config.tensors(Part::MaskedLm).into_iter().map(|x| x.name).collect();
    assert!(names.contains(&"cls.predictions.decoder.weight".to_owned()));
}

#[test]
fn sound_shards_of_a_broken_folder_are_seen() {
    let index = r#"{"weight_map": {"a": "one", "b": "two", "c": "three", "d": "one"}}"#;
    let folder = folder([
        (INDEX, index.as_bytes().to_vec()),
        ("one", tensors_f32([("a", &[1][..], vec![1.0])])),
        ("two", tensors_f32([("b", &[1][..], vec![1.0])])[..20].to_vec()),
    ]);
    let (checkpoint, faults) = Checkpoint::open_lenient(folder.path()).unwrap();
    assert_eq!(checkpoint.tensors().map(|tensor| tensor.name()).collect::<Vec<_>>(), ["a"]);
    let [promised, gone, cut] = &faults[..] else { panic!("{faults:?}") };
    assert!(matches!(promised, Error::NotInShard { tensor, .. } if tensor == "d"));
    assert!(matches!(gone, Error::Io { path, .. } if path.ends_with("three")));
    assert!(matches!(cut, Error::Truncated { path, .. } if path.ends_with("two")));
}

/// Whether both accept a file, or both refuse it; and if they accept, whether they agree.
fn same_verdict(bytes: &[u8]) {
    let folder = folder([(FILE, bytes)]);
    let (ours, theirs) = (Checkpoint::open(folder.path()), SafeTensors::deserialize(bytes));
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(ours.tensors().len(), theirs.len());
            for tensor in ours.tensors() {
                let view = theirs.tensor(tensor.name()).unwrap();
                assert_eq!(tensor.shape(), view.shape());
                assert_eq!(tensor.dtype().to_string(), view.dtype().to_string());
                assert_eq!(tensor.bytes(), view.data().len());
                if tensor.dtype() == Dtype::F32 {
                    let theirs: Vec<u8> = view.data().to_vec();
                    let ours = values(&ours, tensor.name());
                    assert_eq!(
                        ours.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>(),
                        theirs
                    );
                }
            }
        }
        (Err(_), Err(_)) => {}
        (ours, theirs) => {
            let text = String::from_utf8_lossy(bytes).into_owned();
            panic!("ours: {ours:?}\ntheirs: {:?}\n{text:?}", theirs.map(|_| ()))
        }
    }
}

const DTYPES: [(&str, usize); 22] = [
    ("BOOL", 8),
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("U8", 8),
    ("I8", 8),
    ("F8_E5M2", 8),
    ("F8_E4M3", 8),
    ("F8_E8M0", 8),
    ("F8_E4M3FNUZ", 8),
    ("F8_E5M2FNUZ", 8),
    ("I16", 16),
    ("U16", 16),
    ("F16", 16),
    ("BF16", 16),
    ("I32", 32),
    ("U32", 32),
    ("F32", 32),
    ("C64", 64),
    ("F64", 64),
    ("I64", 64),
    ("U64", 64),
];

/// A header that is right, and one small edit to it or its offsets.
fn headers() -> impl Strategy<Value = (String, usize)> {
    let tensor = (0..DTYPES.len(), prop::collection::vec(0..5usize, 0..4));
    let edits = prop::sample::select(vec![0i64, 0, 0, 0, 1, -1, 4, -4]);
    let tail = prop::sample::select(vec!["", "", "", " ", "\n\t ", "x", "\0", "}", ",", "null"]);
    (prop::collection::vec((tensor, edits.clone(), edits), 0..6), tail).prop_map(
        |(tensors, tail)| {
            let (mut entries, mut end) = (Vec::new(), 0i64);
            for (i, ((dtype, shape), shift_begin, shift_end)) in tensors.into_iter().enumerate() {
                let (dtype, bits) = DTYPES[dtype];
                let begin = end;
                end += (shape.iter().product::<usize>() * bits / 8) as i64;
                entries.push(format!(
                r#""t{i}": {{"dtype": "{dtype}", "shape": {shape:?}, "data_offsets": [{}, {}]}}"#,
                begin + shift_begin,
                end + shift_end
            ));
            }
            entries.reverse();
            (format!("{{{}}}{tail}", entries.join(", ")), end.max(0) as usize)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn verdicts_are_those_of_the_safetensors_crate((header, data) in headers(), cut in 0..3usize) {
        same_verdict(&file(&header, (data + 1).saturating_sub(cut)));
    }

    #[test]
    fn verdicts_agree_on_damaged_files(
        (header, data) in headers(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = file(&header, data);
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        same_verdict(&bytes);
    }
}

#[test]
fn verdicts_agree_on_odd_headers() {
    let entry = entry("a", "F32", &[1], 0, 4);
    for header in [
        "{}",
        " {}",
        "\n\t{} \r",
        "[]",
        "null",
        "",
        "{",
        "{}{}",
        r#"{"__metadata__":{}}"#,
        r#"{"__metadata__":null}"#,
        r#"{"__metadata__":{"a":"b"}}"#,
        r#"{"__metadata__":{"a":1}}"#,
        r#"{"__metadata__":{"a":null}}"#,
        r#"{"__metadata__":[]}"#,
        r#"{"a":{}}"#,
        r#"{"a":null}"#,
        r#"{"a":["F32",[1],[0,4]]}"#,
        r#"{"a":["F32",[1],[0,4],0]}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":[{"x":[]}]}}"#,
        r#"{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"f32","shape":[1],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":{"0":1},"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}"#,
        r#"{"a":{"dtype":"F32","shape":null,"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","data_offsets":[0,4]}}"#,
        r#"{"\u0061":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
        r#"{"":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
        r#"{"\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
        &format!("{{{entry},}}"),
        &format!("{{{entry}}}"),
        &format!("\u{feff}{{{entry}}}"),
    ] {
        for data in [0, 4] {
            same_verdict(&file(header, data));
        }
    }
    // The differences that the module's documentation tells: a doubled name, and a long shape.
    let long = common::entry("a", "F32", &[1; 33], 0, 4);
    for header in [format!("{{{entry},{entry}}}"), format!("{{{long}}}")] {
        let bytes = file(&header, 4);
        assert!(SafeTensors::deserialize(&bytes).is_ok());
        let folder = folder([(FILE, bytes)]);
        assert!(matches!(Checkpoint::open(folder.path()), Err(Error::Header { .. })), "{header}");
    }
}
