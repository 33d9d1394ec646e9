//! Model folders, sound and not, made in code.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::path::Path;

use tempfile::TempDir;

/// A safetensors file: this header, and this many bytes 0, 1, 2, ... after it.
pub(crate) fn file(header: &str, data: usize) -> Vec<u8> {
    file_with(header, &(0..data).map(|i| i as u8).collect::<Vec<_>>())
}

/// A safetensors file: this header and these bytes.
pub(crate) fn file_with(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// One entry of a header.
pub(crate) fn entry(name: &str, dtype: &str, shape: &[usize], begin: usize, end: usize) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{begin},{end}]}}"#)
}

/// A safetensors file of F32 tensors in this order.
pub(crate) fn tensors_f32<'a>(
    tensors: impl IntoIterator<Item = (&'a str, &'a [usize], Vec<f32>)>,
) -> Vec<u8> {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (name, shape, values) in tensors {
        let begin = data.len();
        data.extend(values.iter().flat_map(|x| x.to_le_bytes()));
        entries.push(entry(name, "F32", shape, begin, data.len()));
    }
    file_with(&format!("{{{}}}", entries.join(",")), &data)
}

/// A folder with these files.
pub(crate) fn folder<C: AsRef<[u8]>>(
    files: impl IntoIterator<Item = (&'static str, C)>,
) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        write(folder.path(), name, content.as_ref());
    }
    folder
}

/// A file in a folder, which may be a deep one.
pub(crate) fn write(folder: &Path, name: &str, content: &[u8]) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}
