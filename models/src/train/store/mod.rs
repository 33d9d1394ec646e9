//! Checkpoints of a training run, which survive a power cut.
//!
//! ```text
//! root/step-00000042/model.safetensors    a file for each group of tensors
//!                    m.safetensors
//!                    v.safetensors
//!                    state.json           what the run needs besides
//!                    commit.json          sizes and digests of all of them
//! root/.tmp-step-00000043/                one that is being written, or was when the power went
//! ```
//!
//! A checkpoint is written into a temporary folder, the commit record last. Each file is synced,
//! then the folder; only then is it renamed, and the folder around it synced. So a checkpoint is
//! there as a whole or not at all, and whatever befalls its bits later is noticed: [`latest`]
//! looks at every one of them. The last two checkpoints are kept, and older ones removed when the
//! new one is safe.
//!
//! All in `root` whose names are of this pattern belongs to the store, and to one run at a time.
//!
//! ```
//! use ferrite_models::train::store::{TensorView, latest, save};
//!
//! let root = tempfile::tempdir()?;
//! let weight = TensorView { name: "weight", shape: &[2, 2], data: &[0.1, 0.2, 0.3, 0.4] };
//! save(root.path(), 42, &[("model", vec![weight])], &serde_json::json!({"epoch": 3}))?;
//!
//! let stored = latest(root.path())?.expect("it was saved");
//! assert_eq!((stored.step, &stored.state["epoch"]), (42, &3.into()));
//! let mut weight = [0.0; 4];
//! stored.read("model", "weight", &[2, 2], &mut weight)?;
//! assert_eq!(weight, [0.1, 0.2, 0.3, 0.4]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod disk;
mod error;
mod record;
#[cfg(test)]
mod simulate;
pub(super) mod tensors;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::bert::Parameters;
use crate::checkpoint::Checkpoint;

use disk::{Disk, System};
pub use error::StoreError;
use record::{Hashed, Part, RECORD, Record};

const STATE: &str = "state.json";
const EXTENSION: &str = ".safetensors";
const TEMPORARY: &str = ".tmp-step-";

/// A tensor to save.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// Its name, unique in its group.
    pub name: &'a str,
    /// Its sizes, row-major.
    pub shape: &'a [usize],
    /// Its elements, as many as the shape has.
    pub data: &'a [f32],
}

/// The tensors of a model, by their canonical names.
pub(super) fn views(of: &Parameters) -> Vec<TensorView<'_>> {
    let tensors = of.tensors().iter();
    tensors
        .map(|tensor| TensorView {
            name: &tensor.name,
            shape: &tensor.shape,
            data: of.tensor(tensor),
        })
        .collect()
}

/// The tensors of a group, by name.
type Group<'t, 'a> = BTreeMap<&'a str, &'t TensorView<'a>>;

/// Saves a checkpoint of `step` under `root`, which is made if it is not there: each group of
/// tensors, for instance the parameters and both moments of Adam, and what else the run needs.
/// Returns the checkpoint's folder.
///
/// A checkpoint of the same step is replaced if it is damaged, and left alone if it is the same.
///
/// # Errors
/// See [`StoreError`]. But for [`StoreError::NotRemoved`], which comes after the new checkpoint is
/// safe, the checkpoints before are then what they were.
pub fn save(
    root: &Path,
    step: u64,
    groups: &[(&str, Vec<TensorView<'_>>)],
    state: &Value,
) -> Result<PathBuf, StoreError> {
    save_last(root, 2, step, groups, state)
}

/// The same, where the last `keep` checkpoints are kept, this one among them.
pub(super) fn save_last(
    root: &Path,
    keep: usize,
    step: u64,
    groups: &[(&str, Vec<TensorView<'_>>)],
    state: &Value,
) -> Result<PathBuf, StoreError> {
    save_on(&System, root, keep, step, groups, state)
}

fn save_on(
    disk: &impl Disk,
    root: &Path,
    keep: usize,
    step: u64,
    groups: &[(&str, Vec<TensorView<'_>>)],
    state: &Value,
) -> Result<PathBuf, StoreError> {
    let groups = check_groups(groups)?;
    make_folder(disk, root)?;
    sweep(disk, root).map_err(|(path, source)| StoreError::Io { path, source })?;

    let saved = root.join(folder_name(step));
    let temporary = root.join(format!("{TEMPORARY}{step:08}"));
    let placed = write_parts(disk, &temporary, step, &groups, state)
        .and_then(|record| put_in_place(disk, root, &temporary, &saved, &record));
    if let Err(error) = placed {
        // What cannot be removed now is swept before the next checkpoint.
        let _ = remove(disk, &temporary);
        return Err(error);
    }
    sweep(disk, root)
        .and_then(|()| remove_older(disk, root, keep, step))
        .map_err(|(path, source)| StoreError::NotRemoved { saved: saved.clone(), path, source })?;
    Ok(saved)
}

/// The groups, by name, each checked.
fn check_groups<'t, 'a>(
    groups: &'t [(&'a str, Vec<TensorView<'a>>)],
) -> Result<BTreeMap<&'a str, Group<'t, 'a>>, StoreError> {
    let mut checked = BTreeMap::new();
    for (name, tensors) in groups {
        let bad = |reason| StoreError::BadName { kind: "group", name: (*name).to_owned(), reason };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)) {
            return Err(bad("it has to be of letters, digits, _ and -"));
        }
        if checked.insert(*name, tensors::check(tensors)?).is_some() {
            return Err(bad("it is there twice"));
        }
    }
    Ok(checked)
}

/// Makes a folder and those around it, unless they are there, so that their names last.
pub(super) fn make(folder: &Path) -> Result<(), StoreError> {
    make_folder(&System, folder)
}

/// Waits until the names in a folder have arrived on the disk.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    System.sync_folder(folder)
}

/// Makes a folder and those around it, so that their names last.
fn make_folder(disk: &impl Disk, path: &Path) -> Result<(), StoreError> {
    let made = match disk.create_folder(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => match parent(path) {
            Some(outer) if outer != path => {
                make_folder(disk, outer)?;
                disk.create_folder(path)
            }
            _ => Err(error),
        },
        made => made,
    };
    made.map_err(StoreError::io(path))?;
    match parent(path) {
        Some(outer) => disk.sync_folder(outer).map_err(StoreError::io(outer)),
        None => Ok(()),
    }
}

/// The folder that a path is in.
fn parent(path: &Path) -> Option<&Path> {
    path.parent().map(|outer| if outer.as_os_str().is_empty() { Path::new(".") } else { outer })
}

/// Writes all files of a checkpoint, the commit record last, and makes them last.
fn write_parts(
    disk: &impl Disk,
    folder: &Path,
    step: u64,
    groups: &BTreeMap<&str, Group<'_, '_>>,
    state: &Value,
) -> Result<Record, StoreError> {
    disk.create_folder(folder).map_err(StoreError::io(folder))?;
    let mut parts = Vec::new();
    for (group, tensors) in groups {
        let name = format!("{group}{EXTENSION}");
        parts.push(write_part(disk, folder, &name, |out| tensors::write(tensors, out))?);
    }
    let state = serde_json::to_vec_pretty(state).expect("a value of JSON");
    parts.push(write_part(disk, folder, STATE, |out| out.write_all(&state))?);
    let record = Record::new(step, parts);
    write_part(disk, folder, RECORD, |out| out.write_all(&record.to_bytes()))?;
    disk.sync_folder(folder).map_err(StoreError::io(folder))?;
    Ok(record)
}

fn write_part<D: Disk>(
    disk: &D,
    folder: &Path,
    name: &str,
    write: impl FnOnce(&mut Hashed<D::File>) -> io::Result<()>,
) -> Result<Part, StoreError> {
    let path = folder.join(name);
    let written = disk.create(&path).and_then(|file| {
        let mut file = Hashed::new(file);
        write(&mut file)?;
        let (file, bytes, sha256) = file.finish();
        disk.sync(file)?;
        Ok(Part { name: name.to_owned(), bytes, sha256 })
    });
    written.map_err(StoreError::io(&path))
}

/// Gives the temporary folder its name.
fn put_in_place(
    disk: &impl Disk,
    root: &Path,
    temporary: &Path,
    saved: &Path,
    record: &Record,
) -> Result<(), StoreError> {
    if steps(disk, root).map_err(StoreError::io(root))?.contains(&record.step) {
        let there = Record::read(disk, saved, record.step)
            .and_then(|there| there.check(disk, saved).map(|()| there));
        match there {
            Ok(there) if there == *record => {
                remove(disk, temporary)
                    .map_err(|(path, source)| StoreError::Io { path, source })?;
                return disk.sync_folder(root).map_err(StoreError::io(root));
            }
            Ok(_) => return Err(StoreError::Exists { path: saved.to_owned() }),
            // It may be sound, then.
            Err(StoreError::Io { path, source }) if source.kind() != ErrorKind::NotFound => {
                return Err(StoreError::Io { path, source });
            }
            // Out of the way, to be swept.
            Err(_) => {
                let aside = root.join(format!("{TEMPORARY}{:08}-damaged", record.step));
                disk.rename(saved, &aside).map_err(StoreError::io(saved))?;
            }
        }
    }
    disk.rename(temporary, saved).map_err(StoreError::io(saved))?;
    disk.sync_folder(root).map_err(StoreError::io(root))
}

/// What could not be removed, and why.
type Left = (PathBuf, io::Error);

/// Removes what was being written when a run came to its end.
fn sweep(disk: &impl Disk, root: &Path) -> Result<(), Left> {
    let names = disk.list(root).map_err(|error| (root.to_owned(), error))?;
    let mut temporary = names.iter().filter(|name| name.starts_with(TEMPORARY));
    temporary.try_for_each(|name| remove(disk, &root.join(name)))
}

/// Removes all checkpoints before `step` but the newest ones that have all their parts: with that
/// of `step` there are `keep`.
fn remove_older(disk: &impl Disk, root: &Path, keep: usize, step: u64) -> Result<(), Left> {
    let steps = steps(disk, root).map_err(|error| (root.to_owned(), error))?;
    let mut kept = 1;
    for older in steps.into_iter().filter(|&older| older < step) {
        let folder = root.join(folder_name(older));
        let has_all = || {
            Record::read(disk, &folder, older)
                .and_then(|record| record.check_sizes(disk, &folder))
                .is_ok()
        };
        if kept < keep && has_all() {
            kept += 1;
        } else {
            remove(disk, &folder)?;
        }
    }
    Ok(())
}

/// Removes a folder of the store.
fn remove(disk: &impl Disk, folder: &Path) -> Result<(), Left> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    for name in disk.list(folder).map_err(at(folder))? {
        let path = folder.join(name);
        disk.remove_file(&path).map_err(at(&path))?;
    }
    disk.remove_folder(folder).map_err(at(folder))
}

/// The name of a checkpoint's folder.
fn folder_name(step: u64) -> String {
    format!("step-{step:08}")
}

/// The steps that there are folders of, the newest first.
fn steps(disk: &impl Disk, root: &Path) -> io::Result<Vec<u64>> {
    let step = |name: &String| {
        let step = name.strip_prefix("step-")?.parse().ok()?;
        (folder_name(step) == *name).then_some(step)
    };
    let mut steps: Vec<u64> = disk.list(root)?.iter().filter_map(step).collect();
    steps.sort_unstable_by(|a, b| b.cmp(a));
    Ok(steps)
}

/// The same, none if there is no such folder.
fn steps_if_any(root: &Path) -> Result<Vec<u64>, StoreError> {
    match steps(&System, root) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        steps => steps.map_err(StoreError::io(root)),
    }
}

/// The newest checkpoint under `root` that is whole, every bit of it checked; `None` if there is
/// none at all, or no such folder.
///
/// # Errors
/// If `root` cannot be read, and [`StoreError::NoneWhole`].
pub fn latest(root: &Path) -> Result<Option<Stored>, StoreError> {
    let steps = steps_if_any(root)?;
    let mut skipped = Vec::new();
    for step in steps {
        match Stored::open(root.join(folder_name(step)), step) {
            Ok(stored) => return Ok(Some(Stored { skipped, ..stored })),
            Err(fault) => skipped.push(fault),
        }
    }
    match skipped.is_empty() {
        true => Ok(None),
        false => Err(StoreError::NoneWhole { root: root.to_owned(), faults: skipped }),
    }
}

/// The step of the oldest checkpoint under `root`, whole or not, if there is one.
pub(super) fn oldest(root: &Path) -> Result<Option<u64>, StoreError> {
    Ok(steps_if_any(root)?.pop())
}

/// The checkpoint of a step, every bit of it checked.
pub(super) fn at(root: &Path, step: u64) -> Result<Stored, StoreError> {
    Stored::open(root.join(folder_name(step)), step)
}

/// Removes all checkpoints under `root` before `step`, when `saved` is safe.
pub(super) fn remove_before(root: &Path, step: u64, saved: &Path) -> Result<(), StoreError> {
    let older = steps_if_any(root)?.into_iter().filter(|&older| older < step);
    let removed = older.map(|older| remove(&System, &root.join(folder_name(older))));
    removed.collect::<Result<(), _>>().map_err(|(path, source)| {
        let saved = saved.to_owned();
        StoreError::NotRemoved { saved, path, source }
    })
}

/// Removes all checkpoints under `root`, if there is such a folder.
pub(super) fn clear(root: &Path) -> Result<(), StoreError> {
    if !root.exists() {
        return Ok(());
    }
    let steps = steps_if_any(root)?;
    sweep(&System, root)
        .and_then(|()| {
            steps.into_iter().try_for_each(|step| remove(&System, &root.join(folder_name(step))))
        })
        .map_err(|(path, source)| StoreError::Io { path, source })
}

/// A checkpoint that is whole.
#[derive(Debug)]
pub struct Stored {
    /// The step that it is of.
    pub step: u64,
    /// What was saved besides tensors.
    pub state: Value,
    /// Its folder.
    pub folder: PathBuf,
    /// What is wrong with newer ones, the newest first.
    pub skipped: Vec<StoreError>,
    groups: BTreeMap<String, Checkpoint>,
}

impl Stored {
    fn open(folder: PathBuf, step: u64) -> Result<Stored, StoreError> {
        let record = Record::read(&System, &folder, step)?;
        record.check(&System, &folder)?;
        let mut groups = BTreeMap::new();
        for part in &record.files {
            if let Some(group) = part.name.strip_suffix(EXTENSION) {
                let tensors = Checkpoint::open_file(&folder.join(&part.name))?;
                groups.insert(group.to_owned(), tensors);
            }
        }
        let path = folder.join(STATE);
        let state = std::fs::read(&path).map_err(StoreError::io(&path))?;
        let state =
            serde_json::from_slice(&state).map_err(|source| StoreError::State { path, source })?;
        Ok(Stored { step, state, folder, skipped: Vec::new(), groups })
    }

    /// The names of the tensors of a group, sorted.
    ///
    /// # Errors
    /// [`StoreError::Missing`], the group.
    pub fn names(&self, group: &str) -> Result<Vec<&str>, StoreError> {
        Ok(self.group(group)?.tensors().map(|tensor| tensor.name()).collect())
    }

    /// Reads a tensor into memory of its size. The bits are those that were saved.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::WrongShape`], or the file cannot be read.
    ///
    /// # Panics
    /// If `into` has another number of elements than `shape`.
    #[track_caller]
    pub fn read(
        &self,
        group: &str,
        name: &str,
        shape: &[usize],
        into: &mut [f32],
    ) -> Result<(), StoreError> {
        let elements: usize = shape.iter().product();
        assert_eq!(into.len(), elements, "{name}: {shape:?} into {}", into.len());
        let tensors = self.group(group)?;
        let path = || self.folder.join(format!("{group}{EXTENSION}"));
        let tensor = tensors.get(name).ok_or_else(|| StoreError::Missing {
            path: path(),
            kind: "tensor",
            name: name.to_owned(),
        })?;
        if tensor.shape() != shape {
            return Err(StoreError::WrongShape {
                path: path(),
                tensor: name.to_owned(),
                expected: shape.to_vec(),
                found: tensor.shape().to_vec(),
            });
        }
        Ok(tensors.read(tensor, into)?)
    }

    fn group(&self, group: &str) -> Result<&Checkpoint, StoreError> {
        self.groups.get(group).ok_or_else(|| StoreError::Missing {
            path: self.folder.clone(),
            kind: "group",
            name: group.to_owned(),
        })
    }
}
