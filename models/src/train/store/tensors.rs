//! Tensors of `f32` as a safetensors file, written as a stream.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::TensorView;
use super::error::StoreError;

/// Numbers that are turned into bytes at once.
const BLOCK: usize = 1 << 14;

/// The tensors of a group, by name, each checked.
pub(super) fn check<'t, 'a>(
    tensors: &'t [TensorView<'a>],
) -> Result<BTreeMap<&'a str, &'t TensorView<'a>>, StoreError> {
    let mut by_name = BTreeMap::new();
    for tensor in tensors {
        let name = tensor.name;
        let bad = |reason| StoreError::BadName { kind: "tensor", name: name.to_owned(), reason };
        if name == "__metadata__" {
            return Err(bad("the format keeps that name for itself"));
        }
        if by_name.insert(name, tensor).is_some() {
            return Err(bad("it is there twice"));
        }
        let elements = tensor.shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
        if elements != Some(tensor.data.len()) {
            return Err(StoreError::NotTheShape {
                tensor: name.to_owned(),
                elements: tensor.data.len(),
                shape: tensor.shape.to_vec(),
            });
        }
    }
    Ok(by_name)
}

/// Writes the file: the length of the header, the header, the data in the order of the names.
pub(in crate::train) fn write(
    tensors: &BTreeMap<&str, &TensorView<'_>>,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut header = Map::new();
    // What `transformers` asks for.
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut end = 0;
    for (&name, tensor) in tensors {
        let begin = end;
        end += size_of_val(tensor.data);
        let entry = json!({"dtype": "F32", "shape": tensor.shape, "data_offsets": [begin, end]});
        header.insert(name.to_owned(), entry);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    // So that the data are aligned for whoever maps the file.
    header.resize((8 + header.len()).next_multiple_of(64) - 8, b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    let mut bytes = Vec::with_capacity(4 * BLOCK);
    for block in tensors.values().flat_map(|tensor| tensor.data.chunks(BLOCK)) {
        bytes.clear();
        bytes.extend(block.iter().flat_map(|x| x.to_le_bytes()));
        out.write_all(&bytes)?;
    }
    Ok(())
}
