//! Bad input: every broken folder gets the error that is its own, soon, and for little memory.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{entry, file, folder, tensors_f32, write};
use ferrite_models::bert::{Batch, Bert, BertConfig, Workspace};
use ferrite_models::checkpoint::{Checkpoint, HeaderError, Names};
use ferrite_models::kernels::{Arithmetic, LEVEL_VARIABLE, Level, MAX_INT8_INPUTS, Precision};
use ferrite_models::sentence::SentenceModules;
use ferrite_models::{Error, FillMask, SentenceEncoder};

/// Counts the memory of each thread.
struct Counting;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let now = NOW.get() + bytes;
    NOW.set(now);
    PEAK.set(PEAK.get().max(now));
}

// SAFETY: every call goes to the system's allocator unchanged; the counters are cells without
// destructors, which allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The old block may be there until the new one is filled.
        count(size as isize);
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// All that loading a model reads, up to the first fault.
fn load(folder: &Path) -> Result<Checkpoint, Error> {
    let config = BertConfig::from_file(folder.join("config.json"))?;
    SentenceModules::from_folder(folder)?;
    let checkpoint = Checkpoint::open(folder)?;
    let names = Names::new(&checkpoint);
    let report = config.report(&names, &config.parts(&names));
    match report.faults.into_iter().next() {
        Some(fault) => Err(fault),
        None => Ok(checkpoint),
    }
}

const MEBIBYTE: isize = 1 << 20;

/// The result of `load`, which must be there soon and have cost at most this much memory.
fn measured<T>(what: &str, memory: isize, load: impl FnOnce() -> T) -> T {
    let before = NOW.get();
    PEAK.set(before);
    let start = Instant::now();
    let result = load();
    let (taken, peak) = (start.elapsed(), PEAK.get() - before);
    assert!(taken < Duration::from_millis(500), "{what}: {taken:?}");
    assert!(peak <= memory, "{what}: {peak} bytes of memory, {memory} allowed");
    result
}

const CONFIG: (&str, &str) = (
    "config.json",
    r#"{"vocab_size": 2, "hidden_size": 2, "num_hidden_layers": 1, "num_attention_heads": 1,
        "intermediate_size": 1, "max_position_embeddings": 1, "type_vocab_size": 1}"#,
);
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// All tensors that [`CONFIG`] wants, in one file.
fn sound_weights() -> Vec<u8> {
    weights_of(CONFIG.1, |_, _| 1.0)
}

/// All tensors that this configuration wants, in one file, their elements by name and number.
fn weights_of(config: &str, value: impl Fn(&str, usize) -> f32) -> Vec<u8> {
    let config = BertConfig::from_json_str(config).unwrap();
    let wanted = config.tensors(ferrite_models::bert::Part::Encoder);
    tensors_f32(wanted.iter().map(|tensor| {
        let elements = 0..tensor.shape.iter().product();
        let values = elements.map(|element| value(&tensor.name, element)).collect();
        (&*tensor.name, &*tensor.shape, values)
    }))
}

/// The error of a folder with the configuration and this file in place of, or beside, the weights.
fn refused(name: &'static str, content: impl AsRef<[u8]>) -> Error {
    let content = content.as_ref();
    let folder = folder([(CONFIG.0, CONFIG.1.as_bytes()), (name, content)]);
    let memory = MEBIBYTE + 8 * content.len() as isize;
    measured(name, memory, || load(folder.path()).expect_err(name))
}

/// The error of weights with this header and as many bytes of data.
fn header(text: &str, data: usize) -> HeaderError {
    match refused(WEIGHTS, file(text, data)) {
        Error::Header { path, source } => {
            assert!(path.ends_with(WEIGHTS));
            source
        }
        error => panic!("{text}: {error:?}"),
    }
}

#[test]
fn the_sound_folder_is_loaded() {
    let folder = folder([(CONFIG.0, CONFIG.1.as_bytes()), (WEIGHTS, &sound_weights())]);
    assert_eq!(measured("sound", MEBIBYTE, || load(folder.path()).unwrap()).tensors().len(), 21);
}

#[test]
fn a_file_cut_at_any_byte_says_what_is_missing() {
    let whole = sound_weights();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap());
    for length in 0..whole.len() {
        let error = refused(WEIGHTS, &whole[..length]);
        let Error::Truncated { path, expected, actual } = &error else { panic!("{error}") };
        assert!(path.ends_with(WEIGHTS));
        assert_eq!(*actual, length as u64);
        // What can be known of the full size by then.
        let known = match length as u64 {
            0..8 => 8,
            length if length < header => header,
            _ => whole.len() as u64,
        };
        assert_eq!(*expected, known, "{length}");
    }
    let error = refused(WEIGHTS, [&whole[..], &[0]].concat());
    assert!(matches!(error, Error::TrailingBytes { expected, actual, .. }
        if expected == whole.len() as u64 && actual == expected + 1));
}

#[test]
fn a_flipped_bit_in_the_header_never_changes_a_shape() {
    let whole = tensors_f32([("a", &[3, 2][..], vec![1.0; 6]), ("b", &[2], vec![2.0; 2])]);
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let folder = folder([(WEIGHTS, &whole)]);
    let shapes = |checkpoint: &Checkpoint| {
        let sizes = checkpoint.tensors().map(|tensor| (tensor.shape().to_owned(), tensor.bytes()));
        let mut sizes: Vec<_> = sizes.collect();
        sizes.sort();
        sizes
    };
    let sound = shapes(&Checkpoint::open(folder.path()).unwrap());
    let mut opened = 0;
    for bit in 0..8 * header {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        write(folder.path(), WEIGHTS, &damaged);
        if let Ok(checkpoint) = measured("bit", MEBIBYTE, || Checkpoint::open(folder.path())) {
            opened += 1;
            assert_eq!(shapes(&checkpoint), sound, "bit {bit}");
        }
    }
    // The letters of a name may become others; nearly all else is noticed.
    assert!(opened > 0 && opened < header, "{opened}");
}

#[test]
fn lying_header_lengths_are_refused_before_memory_is_taken() {
    let rest = &sound_weights()[8..];
    for length in [u64::MAX, u64::MAX - 7, 1 << 63, 1 << 32, 100_000_001] {
        let error = refused(WEIGHTS, [&length.to_le_bytes()[..], rest].concat());
        assert!(
            matches!(error, Error::Header { source: HeaderError::TooLong { length: l }, .. } if l == length),
            "{error}"
        );
    }
    for length in [100_000_000, rest.len() as u64 + 1] {
        let error = refused(WEIGHTS, [&length.to_le_bytes()[..], rest].concat());
        assert!(matches!(error, Error::Truncated { expected, .. } if expected == length + 8));
    }
}

#[test]
fn offsets_that_do_not_cover_the_file_once_are_refused() {
    let two = |first: &str, second: &str| format!("{{{first},{second}}}");
    let a = entry("a", "F32", &[2], 0, 8);
    let overlap = header(&two(&a, &entry("b", "F32", &[2], 4, 12)), 12);
    assert!(matches!(overlap, HeaderError::Overlap { tensor, begin: 4, end: 8 } if tensor == "b"));
    // One inside the other, and one twice.
    let inside = header(&two(&a, &entry("b", "F32", &[1], 4, 8)), 8);
    assert!(matches!(inside, HeaderError::Overlap { .. }));
    let same = header(&two(&a, &entry("b", "F32", &[2], 0, 8)), 8);
    assert!(matches!(same, HeaderError::Overlap { tensor, begin: 0, end: 8 } if tensor == "b"));
    let hole = header(&two(&a, &entry("b", "F32", &[2], 12, 20)), 20);
    assert!(matches!(hole, HeaderError::Hole { tensor, begin: 12, end: 8 } if tensor == "b"));
    let late = header(&format!("{{{}}}", entry("a", "F32", &[1], 1, 5)), 5);
    assert!(matches!(late, HeaderError::Hole { begin: 1, end: 0, .. }));
    let backwards = header(&format!("{{{}}}", entry("a", "F32", &[0], 8, 0)), 8);
    assert!(matches!(backwards, HeaderError::Backwards { begin: 8, end: 0, .. }));
    for (shape, end) in [(&[3][..], 8), (&[], 8), (&[2, 2], 8), (&[2, 0], 8), (&[2], 7)] {
        let wrong = header(&format!("{{{}}}", entry("a", "F32", shape, 0, end)), end);
        assert!(matches!(wrong, HeaderError::WrongSize { found, .. } if found == end));
    }
    let beyond =
        refused(WEIGHTS, file(&format!("{{{}}}", entry("a", "U8", &[1 << 40], 0, 1 << 40)), 8));
    assert!(matches!(beyond, Error::Truncated { expected, .. } if expected > 1 << 40));
    let farthest = usize::MAX;
    let beyond = refused(
        WEIGHTS,
        file(&format!("{{{}}}", entry("a", "U8", &[farthest / 8], 0, farthest / 8)), 8),
    );
    assert!(matches!(beyond, Error::Truncated { .. }), "{beyond}");
}

#[test]
fn shapes_that_overflow_are_refused() {
    let huge = usize::MAX;
    for shape in
        [&[huge, 2][..], &[2, huge], &[1 << 32, 1 << 32], &[huge], &[1 << 63, 2, 0], &[1 << 62]]
    {
        let error = header(&format!("{{{}}}", entry("a", "F32", shape, 0, 8)), 8);
        assert!(matches!(error, HeaderError::Overflow { .. }), "{shape:?}: {error}");
    }
    // Larger than any usize: no longer a number for the parser.
    let text = r#"{"a":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,4]}}"#;
    assert!(matches!(header(text, 4), HeaderError::Json(_)));
    let half_bytes = header(&format!("{{{}}}", entry("a", "F4", &[3], 0, 1)), 1);
    assert!(matches!(half_bytes, HeaderError::FractionalBytes { .. }));
    let long = header(&format!("{{{}}}", entry("a", "U8", &[1; 100_000], 0, 1)), 1);
    assert!(matches!(long, HeaderError::TooManyDimensions { tensor } if tensor == "a"));
}

#[test]
fn doubled_names_are_refused() {
    let doubled = |name: &str, text: String| match header(&text, 8) {
        HeaderError::DuplicateTensor { tensor } => assert_eq!(tensor, name),
        error => panic!("{text}: {error}"),
    };
    let (a, b) = (entry("a", "F32", &[1], 0, 4), entry("a", "F32", &[1], 4, 8));
    doubled("a", format!("{{{a},{b}}}"));
    // The same name in other letters.
    doubled("a", format!("{{{a},{}}}", b.replace("\"a\"", "\"\\u0061\"")));
    doubled("__metadata__", format!("{{\"__metadata__\":{{}},{a},\"__metadata__\":{{}}}}"));
    let field = r#"{"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}}"#;
    assert!(matches!(header(field, 4), HeaderError::Json(_)));
}

#[test]
fn headers_that_are_no_headers_are_refused() {
    let deep = format!(r#"{{"a":{}"#, "[".repeat(1_000_000));
    let deep_objects = r#"{"a":"#.repeat(200_000);
    for text in [
        "",
        "x",
        "null",
        "[]",
        "{",
        "{\"a\":1}",
        "{\"a\":{}}",
        "{} {}",
        r#"{"__metadata__":{"format":1}}"#,
        r#"{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1e0],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}"#,
        &deep,
        &deep_objects,
    ] {
        assert!(matches!(header(text, 4), HeaderError::Json(_)));
    }
    let mut not_text = file("{\"?\":1}", 4);
    not_text[10] = 0xff;
    let error = refused(WEIGHTS, not_text);
    assert!(matches!(error, Error::Header { source: HeaderError::NotUtf8(_), .. }));
}

#[test]
fn deep_nesting_needs_no_deep_stack() {
    let brackets = "[".repeat(1_000_000);
    let closed = format!("{brackets}{}", "]".repeat(1_000_000));
    let skipped =
        format!(r#"{{"a":{{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":{closed}}}}}"#);
    let small = |work: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new().stack_size(256 << 10).spawn(work).unwrap().join().unwrap()
    };
    small(Box::new(move || {
        // Deep, but in a field that is not looked at.
        let folder = folder([(WEIGHTS, file(&skipped, 4))]);
        assert_eq!(Checkpoint::open(folder.path()).unwrap().tensors().len(), 1);
        for text in [&brackets, &closed] {
            assert!(matches!(header(&format!(r#"{{"a":{text}}}"#), 4), HeaderError::Json(_)));
            for name in ["config.json", INDEX, "modules.json", "sentence_bert_config.json"] {
                assert!(matches!(refused(name, text), Error::Json { .. }), "{name}");
            }
            let list = format!(r#"[{{"path":"","type":{text}}}]"#);
            assert!(matches!(refused("modules.json", list), Error::Json { .. }));
        }
        // An unknown key of the configuration may be anything that is JSON.
        assert!(BertConfig::from_json_str(&format!(r#"{{"x":{closed}}}"#)).is_ok());
    }));
}

#[test]
fn a_header_costs_at_most_eight_times_its_size() {
    // Many tensors, as small as they can be written.
    let entries: Vec<_> = (0..40_000).map(|i| entry(&format!("{i:x}"), "U8", &[0], 0, 0)).collect();
    let bytes = file(&format!("{{{}}}", entries.join(",")), 0);
    let tensors = folder([(WEIGHTS, &bytes)]);
    let memory = MEBIBYTE + 8 * bytes.len() as isize;
    let checkpoint = measured("tensors", memory, || Checkpoint::open(tensors.path()).unwrap());
    assert_eq!(checkpoint.tensors().len(), 40_000);

    let zeros = format!("[{}0]", "0,".repeat(1 << 20));
    for text in [
        format!(r#"{{"__metadata__":{{{}"a":""}}}}"#, r#""b":"","#.repeat(200_000)),
        format!(r#"{{"a":{{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":{zeros}}}}}"#),
    ] {
        let bytes = file(&text, 0);
        let folder = folder([(WEIGHTS, &bytes)]);
        let memory = MEBIBYTE + 8 * bytes.len() as isize;
        measured("skipped", memory, || Checkpoint::open(folder.path()).unwrap());
    }
    for name in ["config.json", INDEX, "modules.json", "1_Pooling/config.json"] {
        refused(name, &zeros);
    }
    let memory = MEBIBYTE + 8 * zeros.len() as isize;
    let config = format!(r#"{{"x":{zeros}}}"#);
    measured("config", memory, || BertConfig::from_json_str(&config).unwrap());
}

#[test]
fn indices_that_mislead_are_refused() {
    let shard = tensors_f32([("a", &[1][..], vec![1.0])]);
    let open = |index: &str| {
        let folder = folder([
            (CONFIG.0, CONFIG.1.as_bytes()),
            (INDEX, index.as_bytes()),
            ("inner/one.safetensors", &shard),
            ("one.safetensors", &shard),
            ("two.safetensors", &shard),
        ]);
        // The target of a walk out of the folder is there and sound.
        write(folder.path(), "model/placeholder", b"");
        measured(index, MEBIBYTE, || load(folder.path()).expect_err(index))
    };
    for name in [
        "../one.safetensors",
        "/etc/passwd",
        "inner/one.safetensors",
        "./one.safetensors",
        "..",
        ".",
        "",
        "inner/../one.safetensors",
        "inner\\\\one.safetensors",
        "C:one.safetensors",
        "one.safetensors\\u0000",
        "one.safetensors/",
    ] {
        let error = open(&format!(r#"{{"weight_map": {{"a": "{name}"}}}}"#));
        assert!(
            matches!(&error, Error::UnsafePath { path, .. } if path.ends_with(INDEX)),
            "{error}"
        );
    }
    let missing = open(r#"{"weight_map": {"a": "three.safetensors"}}"#);
    assert!(matches!(missing, Error::Io { path, .. } if path.ends_with("three.safetensors")));
    let folder_as_shard = open(r#"{"weight_map": {"a": "inner"}}"#);
    assert!(matches!(folder_as_shard, Error::NotAFile { path } if path.ends_with("inner")));
    let promised = open(r#"{"weight_map": {"b": "one.safetensors"}}"#);
    assert!(matches!(promised, Error::NotInShard { tensor, .. } if tensor == "b"));
    let in_two = open(r#"{"weight_map": {"a": "one.safetensors", "a": "two.safetensors"}}"#);
    assert!(matches!(in_two, Error::DuplicateTensor { tensor, .. } if tensor == "a"));
    let twice = open(r#"{"weight_map": {"a": "one.safetensors", "a": "one.safetensors"}}"#);
    assert!(matches!(twice, Error::Json { .. }));
    for index in ["", "{}", "[]", r#"{"weight_map": {"a": 1}}"#, r#"{"weight_map": []}"#] {
        assert!(matches!(open(index), Error::Json { .. }), "{index}");
    }
    let none = open(r#"{"weight_map": {}}"#);
    assert!(matches!(none, Error::MissingTensor { .. }));
}

#[test]
fn folders_without_weights_are_told_so() {
    let error = refused("README.md", "");
    assert!(matches!(error, Error::NoWeights { other: None, .. }));
    let error = refused("pytorch_model.bin", "");
    assert!(matches!(error, Error::NoWeights { other: Some("pytorch_model.bin"), .. }));
    let error = Checkpoint::open("no/such/folder").unwrap_err();
    assert!(matches!(error, Error::Io { path, .. } if path == Path::new("no/such/folder")));
    let error = load(Path::new("no/such/folder")).unwrap_err();
    assert!(matches!(error, Error::Io { path, .. } if path.ends_with("config.json")));
}

#[test]
fn what_is_not_a_file_is_not_read() {
    let folder = folder([(CONFIG.0, CONFIG.1), ("model.safetensors/x", "")]);
    assert!(matches!(load(folder.path()), Err(Error::NotAFile { .. })));
}

#[cfg(unix)]
#[test]
fn a_device_without_end_is_not_read() {
    let folder = folder([(CONFIG.0, CONFIG.1)]);
    std::os::unix::fs::symlink("/dev/zero", folder.path().join(WEIGHTS)).unwrap();
    assert!(matches!(load(folder.path()), Err(Error::NotAFile { .. })));
}

#[test]
fn oversized_configurations_are_not_read() {
    let folder = folder([("config.json", "")]);
    let config = std::fs::File::create(folder.path().join("config.json")).unwrap();
    config.set_len(1 << 40).unwrap();
    let error = measured("config", MEBIBYTE, || load(folder.path()).unwrap_err());
    assert!(matches!(error, Error::TooLarge { bytes, .. } if bytes == 1 << 40));
}

#[test]
fn models_of_other_families_are_refused_by_name() {
    let roberta = r#"{"model_type": "roberta", "vocab_size": 50265}"#;
    let error = refused("config.json", roberta);
    assert!(matches!(error, Error::WrongModelType { found, .. } if found == "roberta"));
}

#[test]
fn sizes_of_the_configuration_are_not_believed() {
    // Terabytes, if they were.
    let config = r#"{"vocab_size": 200000000, "hidden_size": 1048576, "num_attention_heads": 16,
        "intermediate_size": 4194304, "num_hidden_layers": 1000}"#;
    let folder = folder([("config.json", config.as_bytes()), (WEIGHTS, &sound_weights())]);
    let error = measured("config", 16 * MEBIBYTE, || load(folder.path()).unwrap_err());
    assert!(
        matches!(error, Error::WrongShape { expected, .. } if expected == [200000000, 1048576])
    );
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let names = Names::new(&checkpoint);
    let name = "embeddings.word_embeddings.weight";
    let error =
        measured("matrix", MEBIBYTE, || names.matrix(name, 200000000, 1048576).unwrap_err());
    assert!(matches!(error, Error::WrongShape { .. }));
}

/// More integers of 8 bits than a sum of 32 bits holds products of.
#[test]
fn sizes_beyond_what_int8_can_sum_are_refused_in_int8_alone() {
    let sized = |intermediate_size: usize| {
        let size = format!(r#""intermediate_size": {intermediate_size}"#);
        let config = CONFIG.1.replace(r#""intermediate_size": 1"#, &size);
        // The sums of the last product are as large as they can be, one in each direction.
        let is_down = |name: &str, element| {
            name.ends_with(".0.output.dense.weight") && element >= intermediate_size
        };
        let weights =
            weights_of(&config, |name, element| if is_down(name, element) { -1.0 } else { 1.0 });
        folder([("config.json", config.as_bytes()), (WEIGHTS, &weights)])
    };
    let load = |precision, folder: &Path| {
        Bert::from_pretrained_at(Arithmetic::new(Level::current(), precision), folder)
    };
    let beyond = sized(MAX_INT8_INPUTS + 1);
    let error = load(Precision::Int8, beyond.path()).unwrap_err();
    assert!(
        matches!(&error, Error::Unsupported { field: "intermediate_size", found, .. }
            if *found == (MAX_INT8_INPUTS + 1).to_string()),
        "{error}"
    );
    assert!(error.to_string().contains(&format!("at most {MAX_INT8_INPUTS}")), "{error}");
    for precision in [Precision::F32, Precision::Bf16] {
        load(precision, beyond.path()).unwrap();
    }
    let largest = sized(MAX_INT8_INPUTS);
    let bert = load(Precision::Int8, largest.path()).unwrap();
    let mut workspace = Workspace::default();
    let hidden = bert.encode(&Batch::from_ids([&[0][..]]), &mut workspace).unwrap();
    // Normalised, they are 1 and -1, and the norm adds 1. A sum that ran over has the other sign.
    assert!(hidden.row(0).iter().zip([2.0, 0.0]).all(|(x, y)| (x - y).abs() < 1e-3), "{hidden:?}");
}

#[test]
fn integers_are_no_weights() {
    let mut weights = sound_weights();
    let dtype = weights.windows(3).position(|bytes| bytes == b"F32").unwrap();
    weights[dtype] = b'I';
    let error = refused(WEIGHTS, weights);
    assert!(matches!(error, Error::WrongDtype { tensor, .. } if tensor.starts_with("embeddings")));
}

#[test]
fn names_with_control_characters_are_shown_escaped() {
    let evil = |begin| entry(r"\u001b[2J", "F32", &[1], begin, begin + 4);
    let doubled = format!("{{{},{}}}", evil(0), evil(4));
    for error in [
        refused(WEIGHTS, file(&doubled, 8)),
        refused(INDEX, r#"{"weight_map": {"\u001b[2J": "a", "\u001b[2J": "a"}}"#),
        refused(INDEX, r#"{"weight_map": {"a": "\u001b[2J.safetensors"}}"#),
    ] {
        let text = error.to_string();
        assert!(text.contains(r"\u{1b}[2J") && !text.contains('\x1b'), "{text:?}");
    }
}

#[test]
fn an_index_of_very_many_files_is_refused() {
    let pairs: Vec<_> = (0..10_001)
        .map(|n| format!(r#""encoder.layer.{n}.attention.query.weight": "{n}.safetensors""#))
        .collect();
    let error = refused(INDEX, format!(r#"{{"weight_map": {{{}}}}}"#, pairs.join(",")));
    assert!(error.to_string().contains("more than 10000 files"), "{error}");
    // One less is looked for, and only the first that is missing is an error to load.
    let error = refused(INDEX, format!(r#"{{"weight_map": {{{}}}}}"#, pairs[1..].join(",")));
    assert!(matches!(error, Error::Io { .. }), "{error}");
}

#[test]
fn a_level_that_does_not_exist_is_an_error() {
    // A process has one level, so that this test runs itself in another one.
    const NAME: &str = "a_level_that_does_not_exist_is_an_error";
    if std::env::var_os(LEVEL_VARIABLE).is_some_and(|level| level == "nonsense") {
        for error in [
            Bert::from_pretrained(".").unwrap_err(),
            FillMask::from_pretrained(".").unwrap_err(),
            SentenceEncoder::from_pretrained(".").unwrap_err(),
        ] {
            assert!(matches!(error, Error::Level(_)), "{error}");
            assert!(error.to_string().contains("nonsense"), "{error}");
        }
        return;
    }
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    let run = again.args(["--exact", NAME]).env(LEVEL_VARIABLE, "nonsense").output().unwrap();
    let out = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && out.contains("1 passed"), "{out}");
}
