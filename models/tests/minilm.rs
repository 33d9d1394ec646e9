//! The real all-MiniLM-L6-v2 on 1,000 texts, against PyTorch in f64; see `oracle/README.md`.
//!
//! The model comes by its name, as it would for a user, so that fetching it is tested as well;
//! `FERRITE_TEST_MODEL` names a folder to take instead.
#![cfg(feature = "hub")]

use std::path::PathBuf;

use ferrite_kernels::testing::{Random, for_each_level};
use ferrite_models::SentenceEncoder;
use ferrite_models::bert::Workspace;
use ferrite_models::hub::{self, HubEvent, HubOptions};
use ferrite_models::tokenizer::{EncodeOptions, Tokenizer, Truncation};
use safetensors::SafeTensors;

const NAME: &str = "sentence-transformers/all-MiniLM-L6-v2";

/// The folder of the model.
fn model() -> PathBuf {
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

fn texts() -> Vec<String> {
    let lines = String::from_utf8(oracle("texts.jsonl")).unwrap();
    let text = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        value.as_str().or_else(|| value["text"].as_str()).unwrap().to_owned()
    };
    lines.lines().map(text).collect()
}

/// The tensors of the dump as numbers of their type.
fn dump<T, const BYTES: usize>(name: &str, number: fn([u8; BYTES]) -> T) -> Vec<T> {
    let bytes = oracle("minilm_embeddings.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let data = file.tensor(name).unwrap().data();
    data.chunks_exact(BYTES).map(|bytes| number(bytes.try_into().unwrap())).collect()
}

#[test]
fn ids_equal_those_of_transformers() {
    let tokenizer = Tokenizer::from_pretrained(model()).unwrap();
    let options =
        EncodeOptions { truncation: Some(Truncation::new(256)), ..EncodeOptions::default() };
    let ids = dump("ids", i32::from_le_bytes);
    let mut rest = &ids[..];
    let counts = dump("token_counts", i64::from_le_bytes);
    for (text, count) in texts().iter().zip(counts) {
        let (expected, others) = rest.split_at(count as usize);
        let encoding = tokenizer.encode(text, None, &options).unwrap();
        assert!(encoding.ids.iter().map(|&id| id as i32).eq(expected.iter().copied()), "{text:?}");
        rest = others;
    }
    assert!(rest.is_empty());
}

#[test]
fn embeddings_equal_pytorchs_at_every_level() {
    let vectors = dump("embeddings", f32::from_le_bytes);
    let texts = texts();
    assert_eq!((texts.len(), vectors.len()), (1000, 384_000));
    for_each_level(|level| {
        let encoder = SentenceEncoder::from_pretrained_at(level, model()).unwrap();
        assert_eq!((encoder.max_length(), encoder.dimension()), (256, 384));
        let embeddings = encoder.embed(&texts).unwrap();
        assert_eq!(embeddings.truncated.iter().filter(|&&dropped| dropped > 0).count(), 92);
        let mut worst = (0.0, 0);
        for (index, expected) in vectors.chunks_exact(384).enumerate() {
            for (actual, expected) in embeddings.vectors.row(index).iter().zip(expected) {
                let error = (actual - expected).abs();
                if error.is_nan() || error > worst.0 {
                    worst = (error, index);
                }
            }
        }
        println!("{level}: largest error {:e}, in text {}", worst.0, worst.1);
        assert!(worst.0 <= 2e-6, "{level}: {worst:?}");
    });
}

#[test]
fn bits_depend_on_neither_order_nor_company_nor_threads() {
    let encoder = SentenceEncoder::from_pretrained(model()).unwrap();
    let texts: Vec<String> = texts().into_iter().step_by(7).collect();
    let expected = encoder.embed(&texts).unwrap().vectors;
    let mut random = Random::new(5);
    for threads in [1, 2, 3, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut order: Vec<usize> = (0..texts.len()).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, random.below(i + 1));
        }
        let mut workspace = Workspace::default();
        let mut rest = &order[..];
        while !rest.is_empty() {
            let (some, others) = rest.split_at((1 + random.below(40)).min(rest.len()));
            let mut batch = Default::default();
            some.iter().for_each(|&i| encoder.push(&texts[i], None, &mut batch).unwrap());
            let vectors = pool.install(|| encoder.embed_batch(&batch, &mut workspace)).unwrap();
            for (row, &i) in some.iter().enumerate() {
                let bits = |vector: &[f32]| vector.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                let (actual, expected) = (bits(vectors.row(row)), bits(expected.row(i)));
                assert_eq!(actual, expected, "{threads} threads, text {i}");
            }
            rest = others;
        }
    }
}
