//! `model.safetensors.index.json`: which shard has which tensor.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use crate::error::Error;
use crate::files;

/// What an index may have: a million tensors.
const INDEX_LIMIT: u64 = 100_000_000;
/// Far beyond any published model: each one is a file to open, or a fault to report.
const SHARD_LIMIT: usize = 10_000;

/// The file's form; its `metadata` holds nothing that the shards do not say better.
#[derive(Deserialize)]
struct IndexFile {
    weight_map: WeightMap,
}

/// Each shard's path, and the tensors that it must have.
pub(super) fn read(path: &Path, folder: &Path) -> Result<Vec<(PathBuf, Vec<String>)>, Error> {
    let shards = read_map(path)?.into_iter();
    shards.map(|(name, tensors)| Ok((files::plain_name(folder, &name, path)?, tensors))).collect()
}

/// The names of the shards, each a plain one.
#[cfg(feature = "hub")]
pub(crate) fn shard_names(path: &Path) -> Result<Vec<String>, Error> {
    let names = read_map(path)?.into_keys();
    names.map(|name| files::plain_name(Path::new(""), &name, path).map(|_| name)).collect()
}

fn read_map(path: &Path) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let content = files::read(path, INDEX_LIMIT)?;
    let index: IndexFile = serde_json::from_slice(&content)
        .map_err(|source| Error::Json { path: path.to_owned(), source })?;
    Ok(index.weight_map.0)
}

/// Tensors by shard. A tensor that is listed twice is found when the shards are: each has to have
/// it.
struct WeightMap(BTreeMap<String, Vec<String>>);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<WeightMap, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = WeightMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from tensor names to file names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
                let mut shards: BTreeMap<String, Vec<String>> = BTreeMap::new();
                while let Some((tensor, shard)) = map.next_entry::<String, String>()? {
                    shards.entry(shard).or_default().push(tensor);
                    if shards.len() > SHARD_LIMIT {
                        return Err(A::Error::custom(format_args!(
                            "more than {SHARD_LIMIT} files"
                        )));
                    }
                }
                for (shard, tensors) in &mut shards {
                    tensors.sort();
                    if let Some(pair) = tensors.windows(2).find(|pair| pair[0] == pair[1]) {
                        let tensor = &pair[0];
                        return Err(A::Error::custom(format_args!(
                            "{tensor:?} is mapped to {shard:?} twice"
                        )));
                    }
                }
                Ok(WeightMap(shards))
            }
        }
        json.deserialize_map(Pairs)
    }
}
