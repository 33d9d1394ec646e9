//! A checkpoint of the size of a small model's, 30 MB: whatever bit of it changes, and wherever it is
//! cut off, is noticed. (That every bit of a tiny one is, the store's own tests show.)

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ferrite_kernels::testing::Random;
use ferrite_models::train::store::{StoreError, Stored, TensorView, latest, save};
use serde_json::json;

/// Numbers of each group: 10 MB.
const ROWS: usize = 2560;
const COLUMNS: usize = 1024;

/// The files of a checkpoint and their sizes.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.path(), entry.metadata().unwrap().len()))
        .collect();
    files.sort();
    files
}

/// Flips a bit of a file.
fn flip(path: &Path, byte: u64, bit: u32) {
    let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut found = [0];
    file.seek(SeekFrom::Start(byte)).unwrap();
    file.read_exact(&mut found).unwrap();
    file.seek(SeekFrom::Start(byte)).unwrap();
    file.write_all(&[found[0] ^ 1 << bit]).unwrap();
}

/// The newest checkpoint that is whole, and what is wrong with the one that is newer.
fn skipped(root: &Path) -> (Stored, StoreError) {
    let mut stored = latest(root).unwrap().expect("there is one");
    assert_eq!((stored.step, stored.skipped.len()), (1, 1), "it is not noticed");
    let fault = stored.skipped.remove(0);
    (stored, fault)
}

#[test]
fn two_hundred_flipped_bits_and_a_hundred_cuts_of_30_mb_are_found() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let mut random = Random::new(30);
    let small = TensorView { name: "weight", shape: &[2], data: &[1.0, 2.0] };
    let groups = ["model", "m", "v"].map(|group| (group, vec![small]));
    save(root, 1, &groups, &json!({"step": 1})).unwrap();
    let numbers: Vec<Vec<f32>> = (0..3).map(|_| random.vector(ROWS * COLUMNS, -1.0, 1.0)).collect();
    let view = |data| TensorView { name: "weight", shape: &[ROWS, COLUMNS], data };
    let groups: Vec<_> = ["model", "m", "v"]
        .into_iter()
        .zip(numbers.iter().map(|numbers| vec![view(numbers)]))
        .collect();
    let folder = save(root, 2, &groups, &json!({"step": 2})).unwrap();
    let files = files(&folder);
    let bytes: u64 = files.iter().map(|(_, size)| size).sum();
    assert!(bytes > 30_000_000 && files.len() == 5, "{files:?}");

    let mut of_files = vec![0; files.len()];
    for trial in 0..200 {
        // Anywhere in all of it; and every tenth in the small files, too.
        let mut place = random.bits() % bytes;
        let mut file = 0;
        while place >= files[file].1 {
            place -= files[file].1;
            file += 1;
        }
        if trial % 10 == 0 {
            file = if trial % 20 == 0 { 0 } else { 3 };
            assert!(files[file].1 < 4096, "{files:?}");
            place = random.bits() % files[file].1;
        }
        let (path, bit) = (&files[file].0, random.below(8) as u32);
        of_files[file] += 1;
        flip(path, place, bit);
        let (older, fault) = skipped(root);
        let is_named = match &fault {
            StoreError::Damaged { path: named, .. } => named == path,
            StoreError::BadRecord { path: named, .. } => named == path,
            _ => false,
        };
        assert!(is_named, "bit {bit} of byte {place} of {}: {fault}", path.display());
        let mut weight = [0.0; 2];
        older.read("m", "weight", &[2], &mut weight).unwrap();
        assert_eq!(weight, small.data);
        flip(path, place, bit);
    }
    println!("{of_files:?} bits of {files:?}");
    assert!(of_files.iter().all(|&count| count > 5), "{of_files:?}");

    for trial in 0..100 {
        let (path, size) = &files[trial % files.len()];
        let cut = random.bits() % size;
        let mut end = vec![0; (size - cut) as usize];
        let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        file.seek(SeekFrom::Start(cut)).unwrap();
        file.read_exact(&mut end).unwrap();
        file.set_len(cut).unwrap();
        let fault = skipped(root).1;
        let is_named = match &fault {
            StoreError::WrongSize { path: named, expected, found } => {
                named == path && (*expected, *found) == (*size, cut)
            }
            StoreError::BadRecord { path: named, .. } => named == path,
            _ => false,
        };
        assert!(is_named, "{} cut at {cut}: {fault}", path.display());
        file.seek(SeekFrom::Start(cut)).unwrap();
        file.write_all(&end).unwrap();
    }

    // All is as it was: it is the damage that was found, and nothing else.
    let stored = latest(root).unwrap().unwrap();
    assert_eq!((stored.step, stored.skipped.len()), (2, 0));
    let mut found = vec![f32::NAN; ROWS * COLUMNS];
    for (group, expected) in ["model", "m", "v"].into_iter().zip(&numbers) {
        stored.read(group, "weight", &[ROWS, COLUMNS], &mut found).unwrap();
        assert!(found == *expected, "{group}");
    }
}
