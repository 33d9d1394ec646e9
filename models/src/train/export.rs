//! A folder that `transformers` opens, of what was trained.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use serde::Serialize;

use super::folder::{MODEL, sync_names};
use super::{RunError, store};
use crate::bert::BertConfig;
use crate::parameters::{Parameters, Tensor};
use crate::transformer::TransformerConfig;

/// Writes `config.json` and `model.safetensors`, with the names of tensors that `transformers` looks
/// for, into a folder, which is made if it is not there. Each file replaces one of its name in one
/// step, once it is safe on the disk. The tokenizer's files are the caller's to add.
///
/// # Errors
/// [`RunError::Io`], with the file.
pub fn export(folder: &Path, config: &BertConfig, parameters: &Parameters) -> Result<(), RunError> {
    let mut config = config.clone();
    config.architectures = vec![architecture(parameters).to_owned()];
    write_folder(folder, &config, parameters, Tensor::stored_name)
}

/// The same of a Transformer: a folder that [`Transformer::from_pretrained_at`] opens, with the names
/// of Marian models.
///
/// # Errors
/// As [`export`].
///
/// [`Transformer::from_pretrained_at`]: crate::transformer::Transformer::from_pretrained_at
pub fn export_transformer(
    folder: &Path,
    config: &TransformerConfig,
    parameters: &Parameters,
) -> Result<(), RunError> {
    write_folder(folder, config, parameters, |tensor| tensor.name.clone())
}

fn write_folder(
    folder: &Path,
    config: &impl Serialize,
    parameters: &Parameters,
    name: impl Fn(&Tensor) -> String,
) -> Result<(), RunError> {
    fs::create_dir_all(folder).map_err(RunError::io(folder))?;
    let json = serde_json::to_string_pretty(config).expect("strings and numbers");
    replace_file(&folder.join("config.json"), |file| file.write_all(json.as_bytes()))?;
    replace_file(&folder.join(MODEL), |file| {
        let names: Vec<String> = parameters.tensors().iter().map(name).collect();
        let views = store::views(parameters);
        let by_name = names.iter().map(String::as_str).zip(&views).collect();
        store::tensors::write(&by_name, file)
    })
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

/// Writes a file aside, as `<name>.partial` in the same folder, sees it safe on the disk, and puts it in
/// its place: it is there as a whole, or as it was before, also if the machine stops. When this returns
/// without an error the new one is on the disk under its name.
///
/// # Errors
/// [`RunError::Io`], with the file; what was written aside is removed. If the last thing fails, to wait
/// for the folder, the new file is in its place, and may not last.
///
/// # Panics
/// If the path ends without a name.
pub fn replace_file(
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
        // What is left of it is of no use; that it cannot be removed is not the error to tell.
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

#[cfg(test)]
mod tests {
    use std::io;

    use safetensors::SafeTensors;

    use super::*;
    use crate::bert::Part;
    use crate::train::initialize;

    #[test]
    fn the_safetensors_crate_reads_every_tensor() {
        let folder = tempfile::tempdir().unwrap();
        let labels = ["yes", "no", "unknown"].map(str::to_owned);
        let config = BertConfig {
            vocab_size: 100,
            hidden_size: 128,
            num_hidden_layers: 3,
            num_attention_heads: 4,
            intermediate_size: 512,
            max_position_embeddings: 64,
            id2label: Some((0..).zip(labels).collect()),
            ..BertConfig::default()
        };
        let parameters = initialize(&config, &Part::ALL, 1);
        export(folder.path(), &config, &parameters).unwrap();
        let bytes = fs::read(folder.path().join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.len(), parameters.tensors().len());
        for tensor in parameters.tensors() {
            let found = file.tensor(&tensor.stored_name()).unwrap();
            assert_eq!(found.shape(), tensor.shape);
            let values: Vec<u8> =
                parameters.tensor(tensor).iter().flat_map(|value| value.to_le_bytes()).collect();
            assert!(found.data() == values, "{}", tensor.name);
        }
        let read = BertConfig::from_file(folder.path().join("config.json")).unwrap();
        assert_eq!(read.id2label, config.id2label);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_failure_names_the_file_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let error = replace_file(&path, |_| Err(io::ErrorKind::StorageFull.into())).unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
