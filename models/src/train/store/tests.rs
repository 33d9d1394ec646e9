//! Saved and read back; and then everything that can go wrong, at every place where it can.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Value, json};

use super::simulate::Simulated;
use super::*;

/// The content of the checkpoints of these tests: all of it depends on the step, so that a mix of
/// two would show.
struct Content {
    weight: Vec<f32>,
    bias: Vec<f32>,
    state: Value,
}

impl Content {
    fn new(step: u64) -> Content {
        Content {
            weight: (0..300).map(|i| (i as f32).sin() + step as f32).collect(),
            bias: vec![step as f32, -0.0, f32::MIN_POSITIVE / 4.0],
            state: json!({"step": step, "rate": 0.1 / step as f64, "text": "ä".repeat(600)}),
        }
    }

    fn groups(&self) -> Vec<(&str, Vec<TensorView<'_>>)> {
        let weight = TensorView { name: "layer.weight", shape: &[3, 100], data: &self.weight };
        let bias = TensorView { name: "bias", shape: &[3], data: &self.bias };
        let scalar = TensorView { name: "scalar", shape: &[], data: &self.bias[..1] };
        let empty = TensorView { name: "empty", shape: &[0, 7], data: &[] };
        vec![("model", vec![weight, bias, scalar, empty]), ("m", vec![bias]), ("v", vec![])]
    }
}

fn save_step(disk: &impl Disk, root: &Path, step: u64) -> Result<PathBuf, StoreError> {
    let content = Content::new(step);
    save_on(disk, root, 2, step, &content.groups(), &content.state)
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}

/// Asserts that a checkpoint has the content of its step in all its parts; returns the step.
#[track_caller]
fn check(stored: &Stored) -> u64 {
    let content = Content::new(stored.step);
    assert_eq!(stored.state, content.state);
    for (group, tensors) in content.groups() {
        let mut names: Vec<_> = tensors.iter().map(|tensor| tensor.name).collect();
        names.sort_unstable();
        assert_eq!(stored.names(group).unwrap(), names);
        for tensor in tensors {
            let mut found = vec![f32::NAN; tensor.data.len()];
            stored.read(group, tensor.name, tensor.shape, &mut found).unwrap();
            assert_eq!(bits(&found), bits(tensor.data), "{group} {}", tensor.name);
        }
    }
    stored.step
}

fn latest_step(root: &Path) -> Option<u64> {
    latest(root).unwrap().map(|stored| check(&stored))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names = System.list(folder).unwrap();
    names.sort();
    names
}

#[test]
fn the_last_two_are_kept_and_the_newest_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("deep/in/runs");
    assert!(latest(&root).unwrap().is_none());
    for (step, kept) in [
        (1, &["step-00000001"][..]),
        (9, &["step-00000001", "step-00000009"]),
        (10, &["step-00000009", "step-00000010"]),
        (123_456_789, &["step-00000010", "step-123456789"]),
    ] {
        let saved = save_step(&System, &root, step).unwrap();
        assert_eq!(names(&root), kept);
        let stored = latest(&root).unwrap().unwrap();
        assert_eq!((check(&stored), &stored.folder), (step, &saved));
        assert!(stored.skipped.is_empty());
        let parts = ["commit.json", "m.safetensors", "model.safetensors", "state.json"];
        assert_eq!(names(&saved)[..4], parts);
    }
}

#[test]
fn as_many_are_kept_as_are_asked_for_and_each_is_there() {
    let root = tempfile::tempdir().unwrap();
    let save = |keep: usize, step: u64| {
        let content = Content::new(step);
        save_last(root.path(), keep, step, &content.groups(), &content.state).unwrap();
        (1..=9).filter(|&step| at(root.path(), step).is_ok()).collect::<Vec<u64>>()
    };
    let expected: [(u64, &[u64]); 6] = [
        (1, &[1]),
        (2, &[1, 2]),
        (3, &[1, 2, 3]),
        (7, &[2, 3, 7]),
        // Those that are newer are another's, and stay.
        (5, &[2, 3, 5, 7]),
        (8, &[5, 7, 8]),
    ];
    for (step, kept) in expected {
        assert_eq!(save(3, step), kept);
        assert_eq!(check(&at(root.path(), step).unwrap()), step);
    }
    assert_eq!(save(1, 9), [9]);
    fs::write(root.path().join("step-00000009/state.json"), "{}").unwrap();
    assert!(matches!(at(root.path(), 9), Err(StoreError::WrongSize { .. })));
    assert!(matches!(at(root.path(), 4), Err(StoreError::Io { .. })));
    clear(root.path()).unwrap();
    assert!(names(root.path()).is_empty());
    clear(&root.path().join("missing")).unwrap();
}

#[test]
fn files_are_those_of_the_safetensors_crate_and_of_checkpoint() {
    let root = tempfile::tempdir().unwrap();
    let saved = save_step(&System, root.path(), 5).unwrap();
    let content = Content::new(5);
    for (group, tensors) in content.groups() {
        let bytes = fs::read(saved.join(format!("{group}.safetensors"))).unwrap();
        let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(theirs.len(), tensors.len());
        for tensor in tensors {
            let found = theirs.tensor(tensor.name).unwrap();
            assert_eq!((found.dtype(), found.shape()), (safetensors::Dtype::F32, tensor.shape));
            let expected: Vec<u8> = tensor.data.iter().flat_map(|x| x.to_le_bytes()).collect();
            assert_eq!(found.data(), expected);
        }
        let (header, _) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!((header + 8) % 64, 0);
    }
    let checkpoint = Checkpoint::open(&saved).unwrap();
    assert_eq!(checkpoint.tensors().len(), 4);
}

#[test]
fn every_bit_of_numbers_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let numbers = [0, 1, 0x8000_0000, 0x7f80_0000, 0xff80_0001, 0x7fc1_2345].map(f32::from_bits);
    let tensor = TensorView { name: "x", shape: &[6], data: &numbers };
    let floats: Vec<f64> = (1..2000)
        .map(|i| f64::from_bits(0x3ff1_2345_6789_abcd_u64.wrapping_mul(i) % (1 << 62)))
        .collect();
    let state = json!({"floats": floats, "seed": u64::MAX, "low": i64::MIN});
    save(root.path(), 0, &[("model", vec![tensor])], &state).unwrap();
    let stored = latest(root.path()).unwrap().unwrap();
    let mut found = [0.0; 6];
    stored.read("model", "x", &[6], &mut found).unwrap();
    assert_eq!(bits(&found), bits(&numbers));
    assert_eq!(stored.state, state);
    for (float, found) in floats.iter().zip(stored.state["floats"].as_array().unwrap()) {
        assert_eq!(found.as_f64().unwrap().to_bits(), float.to_bits());
    }
}

#[test]
fn wrong_requests_are_typed_errors() {
    let root = tempfile::tempdir().unwrap();
    save_step(&System, root.path(), 5).unwrap();
    let stored = latest(root.path()).unwrap().unwrap();
    let read = |group, name, shape: &[usize]| {
        let mut into = vec![0.0; shape.iter().product()];
        stored.read(group, name, shape, &mut into).unwrap_err()
    };
    assert!(matches!(read("w", "bias", &[3]), StoreError::Missing { kind: "group", .. }));
    assert!(matches!(read("v", "bias", &[3]), StoreError::Missing { kind: "tensor", .. }));
    let error = read("m", "bias", &[1, 3]);
    assert!(matches!(error, StoreError::WrongShape { .. }));
    assert!(
        error.to_string().contains("m.safetensors: \"bias\": shape [1, 3] expected, [3] found")
    );
    assert!(matches!(stored.names("w"), Err(StoreError::Missing { .. })));

    let tensor = |name| TensorView { name, shape: &[2], data: &[1.0, 2.0] };
    let three = TensorView { shape: &[3], ..tensor("x") };
    let huge = TensorView { shape: &[usize::MAX, 2], ..tensor("x") };
    for groups in [vec![("model", vec![three])], vec![("model", vec![huge])]] {
        let error = save(root.path(), 6, &groups, &json!(0)).unwrap_err();
        assert!(matches!(error, StoreError::NotTheShape { elements: 2, .. }), "{error}");
    }
    for groups in [
        vec![("model", vec![tensor("x"), tensor("x")])],
        vec![("model", vec![tensor("__metadata__")])],
        vec![("m", vec![]), ("m", vec![])],
        vec![("", vec![])],
        vec![("../m", vec![])],
        vec![("m.v", vec![])],
    ] {
        let error = save(root.path(), 6, &groups, &json!(0)).unwrap_err();
        assert!(matches!(error, StoreError::BadName { .. }), "{error}");
    }
    assert_eq!(names(root.path()), ["step-00000005"]);
}

#[test]
fn a_step_is_saved_once_unless_it_is_damaged() {
    let root = tempfile::tempdir().unwrap();
    save_step(&System, root.path(), 4).unwrap();
    let saved = save_step(&System, root.path(), 5).unwrap();
    // The same again is no fault.
    assert_eq!(save_step(&System, root.path(), 5).unwrap(), saved);
    let error = save(root.path(), 5, &[("model", vec![])], &json!(0)).unwrap_err();
    assert!(matches!(error, StoreError::Exists { .. }), "{error}");
    assert_eq!(latest_step(root.path()), Some(5));
    fs::write(saved.join("state.json"), b"{}").unwrap();
    let stored = latest(root.path()).unwrap().unwrap();
    assert_eq!(check(&stored), 4);
    assert!(matches!(stored.skipped[..], [StoreError::WrongSize { .. }]));
    save_step(&System, root.path(), 5).unwrap();
    assert_eq!(latest_step(root.path()), Some(5));
    assert_eq!(names(root.path()), ["step-00000004", "step-00000005"]);
}

#[test]
fn only_what_is_the_stores_is_swept() {
    let root = tempfile::tempdir().unwrap();
    let foreign = [".tmp-other", "notes.txt", "step-5", "step-x", "tmp-step-00000001"];
    for name in foreign {
        fs::create_dir(root.path().join(name)).unwrap();
        fs::write(root.path().join(name).join("file"), b"kept").unwrap();
    }
    for name in [".tmp-step-00000003", ".tmp-step-00000007"] {
        fs::create_dir(root.path().join(name)).unwrap();
        fs::write(root.path().join(name).join("model.safetensors"), b"cut off").unwrap();
    }
    save_step(&System, root.path(), 7).unwrap();
    let mut expected: Vec<_> = foreign.to_vec();
    expected.push("step-00000007");
    expected.sort_unstable();
    assert_eq!(names(root.path()), expected);
    assert_eq!(latest_step(root.path()), Some(7));
}

#[test]
fn a_damaged_one_before_the_new_one_does_not_count_as_kept() {
    let root = tempfile::tempdir().unwrap();
    save_step(&System, root.path(), 1).unwrap();
    let second = save_step(&System, root.path(), 2).unwrap();
    fs::remove_file(second.join("m.safetensors")).unwrap();
    save_step(&System, root.path(), 3).unwrap();
    assert_eq!(names(root.path()), ["step-00000001", "step-00000003"]);
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let root = tempfile::tempdir().unwrap();
    let tensor = TensorView { name: "w", shape: &[5], data: &[1.0, 2.0, 3.0, 4.0, 5.0] };
    let groups = [("model", vec![tensor]), ("m", vec![tensor])];
    let old = save(root.path(), 1, &groups, &json!({"old": true})).unwrap();
    let saved = save(root.path(), 2, &groups, &json!({"old": false})).unwrap();
    let mut flips = 0;
    for name in names(&saved) {
        let path = saved.join(&name);
        let sound = fs::read(&path).unwrap();
        let check = |bytes: &[u8], what: &dyn Fn() -> String| {
            fs::write(&path, bytes).unwrap();
            let stored = latest(root.path()).unwrap().unwrap();
            assert_eq!((stored.step, stored.skipped.len()), (1, 1), "{name}: {}", what());
            assert!(stored.skipped[0].to_string().contains(&name));
        };
        for bit in 0..8 * sound.len() {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            check(&bytes, &|| format!("bit {bit}"));
            flips += 1;
        }
        for length in 0..sound.len() {
            check(&sound[..length], &|| format!("cut at {length}"));
        }
        check(&[&sound[..], b"\n"].concat(), &|| "one byte more".to_owned());
        fs::remove_file(&path).unwrap();
        assert_eq!(latest(root.path()).unwrap().unwrap().step, 1, "{name} missing");
        fs::write(&path, sound).unwrap();
        assert_eq!(latest(root.path()).unwrap().unwrap().step, 2);
    }
    assert!(flips > 5000, "{flips}");
    // If none is whole, that is said.
    for folder in [&old, &saved] {
        fs::remove_file(folder.join("state.json")).unwrap();
    }
    match latest(root.path()) {
        Err(StoreError::NoneWhole { faults, .. }) => assert_eq!(faults.len(), 2),
        other => panic!("{other:?}"),
    }
}

#[test]
fn records_of_others_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let saved = save_step(&System, root.path(), 7).unwrap();
    let record = Record::read(&System, &saved, 7).unwrap();
    let fault = |record: &Record| {
        fs::write(saved.join(RECORD), record.to_bytes()).unwrap();
        match latest(root.path()).unwrap_err() {
            StoreError::NoneWhole { mut faults, .. } => faults.remove(0).to_string(),
            other => panic!("{other}"),
        }
    };
    let files = || -> Vec<Part> {
        let copy = |part: &Part| Part {
            name: part.name.clone(),
            bytes: part.bytes,
            sha256: part.sha256.clone(),
        };
        record.files.iter().map(copy).collect()
    };
    assert!(fault(&Record { version: 2, step: 7, files: files() }).contains("another version"));
    assert!(fault(&Record::new(8, files())).contains("another step"));
    let mut outside = files();
    outside[0].name = "../m.safetensors".to_owned();
    assert!(fault(&Record::new(7, outside)).contains("outside the folder"));
    // Parts that are what the record says, and not what they should be.
    for (name, said) in
        [("m.safetensors", "m.safetensors: truncated"), ("state.json", "state.json: ")]
    {
        let sound = fs::read(saved.join(name)).unwrap();
        fs::write(saved.join(name), b"{").unwrap();
        let mut parts = files();
        let part = parts.iter_mut().find(|part| part.name == name).unwrap();
        let mut digest = Hashed::new(io::sink());
        digest.write_all(b"{").unwrap();
        (_, part.bytes, part.sha256) = digest.finish();
        let fault = fault(&Record::new(7, parts));
        assert!(fault.contains(said), "{fault}");
        fs::write(saved.join(name), sound).unwrap();
    }
    fs::write(saved.join(RECORD), record.to_bytes()).unwrap();
    assert_eq!(latest_step(root.path()), Some(7));
    // A folder with another step's name.
    fs::rename(&saved, root.path().join("step-00000009")).unwrap();
    assert!(matches!(latest(root.path()), Err(StoreError::NoneWhole { .. })));
}

/// Faults that a system call may have. The interrupted one is tried again by whoever writes.
const FAULTS: [ErrorKind; 5] = [
    ErrorKind::StorageFull,
    ErrorKind::PermissionDenied,
    ErrorKind::QuotaExceeded,
    ErrorKind::Other,
    ErrorKind::Interrupted,
];

#[test]
fn a_fault_at_any_call_leaves_the_old_or_the_new_one() {
    let root = Path::new("/run/checkpoints");
    let calls = {
        let disk = Simulated::new();
        prepared(&disk, root);
        let before = disk.calls();
        save_step(&disk, root, 3).unwrap();
        disk.calls() - before
    };
    assert!(calls > 40, "{calls}");
    let (mut saved, mut failed, mut left) = (0, 0, 0);
    for fault in FAULTS {
        for n in 1..=calls {
            let disk = Simulated::new();
            prepared(&disk, root);
            disk.fail(n, fault);
            let result = save_step(&disk, root, 3);
            let folder = tempfile::tempdir().unwrap();
            disk.export(folder.path());
            let found = latest_step(&folder.path().join("run/checkpoints")).unwrap();
            match &result {
                Ok(_) => assert_eq!((found, saved += 1), (3, ()), "{fault} at {n}"),
                Err(StoreError::NotRemoved { .. }) => {
                    assert_eq!((found, left += 1), (3, ()), "{fault} at {n}");
                }
                Err(StoreError::Io { path, .. }) => {
                    assert!(path.starts_with(root.parent().unwrap()), "{path:?}");
                    // If the last sync fails, the new one has its name already.
                    assert!(found == 2 || found == 3, "{fault} at {n}: {found}");
                    failed += 1;
                }
                Err(other) => panic!("{fault} at {n}: {other}"),
            }
            // And the next one can be saved: what is left over is not in the way.
            save_step(&disk, root, 4).unwrap();
            let folder = tempfile::tempdir().unwrap();
            disk.export(folder.path());
            let root = folder.path().join("run/checkpoints");
            assert_eq!(latest_step(&root), Some(4));
            assert_eq!(names(&root).len(), 2, "{fault} at {n}: {:?}", names(&root));
        }
    }
    assert!(saved > 0 && failed > 4 * 20 && left > 0, "{saved} {failed} {left}");
}

/// Two checkpoints, and a folder that a cut has left behind.
fn prepared(disk: &Simulated, root: &Path) {
    save_step(disk, root, 1).unwrap();
    save_step(disk, root, 2).unwrap();
    let temporary = root.join(".tmp-step-00000003");
    disk.create_folder(&temporary).unwrap();
    let mut file = disk.create(&temporary.join("m.safetensors")).unwrap();
    file.write_all(b"cut off").unwrap();
}

/// Small, seeded, the same everywhere (Steele et al., SplitMix64).
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((u128::from(z ^ (z >> 31)) * n as u128) >> 64) as usize
    }
}

#[test]
fn a_power_cut_after_any_change_leaves_the_old_or_the_new_one() {
    let root = Path::new("/checkpoints");
    let disk = Simulated::new();
    // How many changes there were when each step was safe.
    let mut safe = vec![(0, 0)];
    for step in 1..=4 {
        save_step(&disk, root, step).unwrap();
        safe.push((disk.operations(), step));
    }
    let mut rng = Rng(1);
    let mut newest = [0; 5];
    for count in 0..=disk.operations() {
        let sure = safe.iter().rev().find(|(changes, _)| *changes <= count).unwrap().1;
        for trial in 0..20 {
            let mut coin = |n: usize| match trial {
                // All that may be lost is lost, or nothing is, or some of it.
                0 => 0,
                1 => n - 1,
                _ => rng.below(n),
            };
            let folder = tempfile::tempdir().unwrap();
            disk.cut(count, &mut coin, folder.path());
            let root = folder.path().join("checkpoints");
            let found = latest_step(&root).unwrap_or(0);
            assert!(
                found == sure || found == sure + 1,
                "{count}, {trial}: {found}, {sure} is safe"
            );
            newest[(found - sure) as usize] += 1;
            // And the run goes on. On the real disk, whose syncs take their time.
            if trial == 2 && count % 8 == 0 {
                save_step(&System, &root, found + 1).unwrap();
                assert_eq!(latest_step(&root), Some(found + 1));
            }
        }
    }
    assert!(newest[0] > 100 && newest[1] > 20, "{newest:?}");
}

/// The simulation can tell: a store that does not sync is caught.
#[test]
fn a_power_cut_shows_what_was_not_synced() {
    let disk = Simulated::new();
    disk.create_folder(Path::new("/a")).unwrap();
    disk.sync_folder(Path::new("/")).unwrap();
    let mut file = disk.create(Path::new("/a/x")).unwrap();
    file.write_all(&[7; 2000]).unwrap();
    disk.sync_folder(Path::new("/a")).unwrap();
    let mut seen = [0; 3];
    let mut rng = Rng(2);
    for _ in 0..200 {
        let folder = tempfile::tempdir().unwrap();
        disk.cut(disk.operations(), &mut |n| rng.below(n), folder.path());
        let content = fs::read(folder.path().join("a/x")).unwrap();
        seen[0] += usize::from(content == [7; 2000]);
        seen[1] += usize::from(content.len() < 2000);
        seen[2] += usize::from(content.contains(&0));
    }
    assert!(seen.iter().all(|&count| count > 0), "{seen:?}");
    // The name without a sync of its folder.
    let file = disk.create(Path::new("/a/y")).unwrap();
    disk.sync(file).unwrap();
    let there = (0..100).filter(|_| {
        let folder = tempfile::tempdir().unwrap();
        disk.cut(disk.operations(), &mut |n| rng.below(n), folder.path());
        folder.path().join("a/y").exists()
    });
    assert!((1..100).contains(&there.count()));
}
