//! A folder as `transformers` has it: `config.json` and `model.safetensors`.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use ferrite_models::Error;
use ferrite_models::bert::{BertConfig, Parameters};
use serde_json::{Map, Value, json};

/// Writes the configuration and the parameters of a model into a folder that is there, each file
/// aside first and then renamed.
///
/// # Errors
/// [`Error::Io`], with the file.
pub(super) fn save(folder: &Path, config: &BertConfig, of: &Parameters) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(config).expect("numbers and strings");
    write(&folder.join("config.json"), |out| out.write_all(text.as_bytes()))?;
    write(&folder.join("model.safetensors"), |out| tensors(of, out))
}

/// Writes a file in one step: it is there as a whole, or as it was before.
///
/// # Errors
/// [`Error::Io`], with the file.
pub(super) fn write(
    path: &Path,
    content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), Error> {
    let partial = path.with_added_extension("partial");
    let write = || {
        let mut out = BufWriter::new(File::create(&partial)?);
        content(&mut out)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&partial, path)
    };
    write().map_err(|source| {
        // What is left of it is of no use; that it cannot be removed is not the error to tell.
        let _ = fs::remove_file(&partial);
        Error::Io { path: path.to_owned(), source }
    })
}

/// The safetensors format: the length of the header, the header, the data in the order of their
/// places, all of it little-endian.
fn tensors(of: &Parameters, out: &mut impl Write) -> io::Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut end = 0;
    for tensor in of.tensors() {
        let begin = end;
        end += size_of_val(of.tensor(tensor));
        let place = json!({"dtype": "F32", "shape": tensor.shape, "data_offsets": [begin, end]});
        header.insert(tensor.stored_name(), place);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    // So that the data are aligned for whoever maps the file.
    header.resize((8 + header.len()).next_multiple_of(64) - 8, b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for tensor in of.tensors() {
        for value in of.tensor(tensor) {
            out.write_all(&value.to_le_bytes())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrite_models::bert::Part;
    use ferrite_models::train::initialize;
    use safetensors::SafeTensors;

    use crate::quickstart::recipe;

    #[test]
    fn the_safetensors_crate_reads_every_tensor() {
        let folder = tempfile::tempdir().unwrap();
        let config = recipe::classifier(100);
        let parameters = initialize(&config, &Part::ALL, 1);
        save(folder.path(), &config, &parameters).unwrap();
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
        let error = write(&path, |_| Err(io::ErrorKind::StorageFull.into())).unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
