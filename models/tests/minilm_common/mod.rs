//! The real all-MiniLM-L6-v2 and its oracle, `oracle/README.md`.
//!
//! The model comes by its name, as it would for a user, so that fetching it is tested as well;
//! `FERRITE_TEST_MODEL` names a folder to take instead.

use std::path::PathBuf;

use ferrite_models::hub::{self, HubEvent, HubOptions};
use safetensors::SafeTensors;

const NAME: &str = "sentence-transformers/all-MiniLM-L6-v2";

/// The folder of the model.
pub(crate) fn model() -> PathBuf {
    if let Some(folder) = std::env::var_os("FERRITE_TEST_MODEL") {
        return folder.into();
    }
    let report = &mut |event: HubEvent<'_>| {
        if let HubEvent::Message(text) = event {
            eprintln!("{text}");
        }
    };
    hub::resolve(NAME, &HubOptions::from_env(), report).expect("the model can be fetched")
}

fn oracle(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/oracle").join(name);
    std::fs::read(path).expect("the dumps are in the repository")
}

/// The texts of the oracle.
pub(crate) fn texts() -> Vec<String> {
    let lines = String::from_utf8(oracle("texts.jsonl")).unwrap();
    let text = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        value.as_str().or_else(|| value["text"].as_str()).unwrap().to_owned()
    };
    lines.lines().map(text).collect()
}

/// The tensors of the dump as numbers of their type.
pub(crate) fn dump<T, const BYTES: usize>(name: &str, number: fn([u8; BYTES]) -> T) -> Vec<T> {
    let bytes = oracle("minilm_embeddings.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let data = file.tensor(name).unwrap().data();
    data.chunks_exact(BYTES).map(|bytes| number(bytes.try_into().unwrap())).collect()
}
