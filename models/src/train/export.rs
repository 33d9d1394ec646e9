//! A folder that `transformers` opens, of what was trained.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use ferrite_kernels::elementwise;

use super::RunError;
use super::folder::{MODEL, sync_names};
use crate::bert::{BertConfig, Parameters};

/// Writes `config.json` and `model.safetensors`, with the names of tensors that `transformers` looks
/// for, into a folder, which is made if it is not there. Each file replaces one of its name in one
/// step, once it is safe on the disk. The tokenizer's files are the caller's to add.
///
/// # Errors
/// [`RunError::Io`], with the file.
pub fn export(folder: &Path, config: &BertConfig, parameters: &Parameters) -> Result<(), RunError> {
    fs::create_dir_all(folder).map_err(RunError::io(folder))?;
    let mut config = config.clone();
    config.architectures = vec![architecture(parameters).to_owned()];
    let json = serde_json::to_string_pretty(&config).expect("strings and numbers");
    replace(&folder.join("config.json"), |file| file.write_all(json.as_bytes()))?;
    replace(&folder.join(MODEL), |file| write_tensors(file, parameters))
}

/// The class of `transformers` that has these tensors.
fn architecture(parameters: &Parameters) -> &'static str {
    let has = |name: &str| parameters.get(name).is_some();
    match () {
        () if has("classifier.weight") => "BertForSequenceClassification",
        () if has("cls.seq_relationship.weight") => "BertForPreTraining",
        () if has("cls.predictions.bias") => "BertForMaskedLM",
        () => "BertModel",
    }
}

/// The safetensors format: the length of a header, the header, the numbers.
fn write_tensors(file: &mut impl Write, parameters: &Parameters) -> std::io::Result<()> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), serde_json::json!({"format": "pt"}));
    let mut end = 0;
    for tensor in parameters.tensors() {
        let start = end;
        end += 4 * tensor.range.len();
        let entry = serde_json::json!({
            "dtype": "F32", "shape": tensor.shape, "data_offsets": [start, end],
        });
        header.insert(tensor.stored_name(), entry);
    }
    let mut header = serde_json::to_vec(&header)?;
    // The numbers begin at a multiple of their size.
    header.resize(header.len().next_multiple_of(8), b' ');
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    for tensor in parameters.tensors() {
        for part in parameters.tensor(tensor).chunks(1 << 16) {
            let bytes: Vec<u8> = part.iter().flat_map(|x| x.to_le_bytes()).collect();
            file.write_all(&bytes)?;
        }
    }
    Ok(())
}

/// Writes a file aside, sees it safe on the disk, and puts it in its place.
pub(super) fn replace(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<(), RunError> {
    let mut name = path.file_name().expect("a file has a name").to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let attempt = || {
        let mut file = BufWriter::new(File::create(&partial)?);
        write(&mut file)?;
        file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&partial, path)?;
        sync_names(path)
    };
    attempt().map_err(|source| {
        let _ = fs::remove_file(&partial);
        RunError::Io { path: path.to_owned(), source }
    })
}

/// What a model with other parts begins with: the tensors of the same name from `trained`, the rest
/// from `fresh`. So a classifier takes over the encoder and the pooler of pre-training.
///
/// # Panics
/// If tensors of one name have different shapes.
#[track_caller]
pub fn carry_over(trained: &Parameters, mut fresh: Parameters) -> Parameters {
    let known: HashMap<_, _> =
        trained.tensors().iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    for tensor in fresh.tensors().to_vec() {
        if let Some(from) = known.get(tensor.name.as_str()) {
            assert_eq!(from.shape, tensor.shape, "shape of {}", tensor.name);
            fresh.values_mut()[tensor.range].copy_from_slice(trained.tensor(from));
        }
    }
    fresh
}

/// Whether all numbers are finite.
pub(super) fn is_finite(parameters: &Parameters) -> bool {
    let level = ferrite_kernels::Level::current();
    elementwise::sum_of_squares_shared(level, parameters.values()).is_finite()
}
