//! The real all-MiniLM-L6-v2 on 1,000 texts, against PyTorch in f64; see `oracle/README.md`.

use std::path::PathBuf;

use ferrite_kernels::testing::{Random, for_each_level};
use ferrite_models::SentenceEncoder;
use ferrite_models::bert::Workspace;
use safetensors::SafeTensors;

/// The folder of the model: `FERRITE_TEST_MODEL`.
fn model() -> PathBuf {
    std::env::var_os("FERRITE_TEST_MODEL").expect("set").into()
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

#[test]
fn embeddings_equal_pytorchs_at_every_level() {
    let bytes = oracle("minilm_embeddings.safetensors");
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let vectors: Vec<f32> = (expected.tensor("embeddings").unwrap().data().chunks_exact(4))
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    let counts: Vec<i64> = (expected.tensor("token_counts").unwrap().data().chunks_exact(8))
        .map(|b| i64::from_le_bytes(b.try_into().unwrap()))
        .collect();
    let texts = texts();
    assert_eq!(texts.len(), 1000);
    for_each_level(|level| {
        let encoder = SentenceEncoder::from_pretrained_at(level, model()).unwrap();
        assert_eq!((encoder.max_length(), encoder.dimension()), (256, 384));
        let embeddings = encoder.embed(&texts).unwrap();
        let mut worst = (0.0, 0);
        for (index, expected) in vectors.chunks_exact(384).enumerate() {
            for (a, b) in embeddings.vectors.row(index).iter().zip(expected) {
                let error = (a - b).abs();
                assert!(!error.is_nan());
                if error > worst.0 {
                    worst = (error, index);
                }
            }
            assert_eq!(
                embeddings.truncated[index] > 0,
                counts[index] == 256 && embeddings.truncated[index] > 0
            );
        }
        println!("{level}: largest error {:e}, text {}", worst.0, worst.1);
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
                assert_eq!(vectors.row(row), expected.row(i), "{threads} threads, text {i}");
            }
            rest = others;
        }
    }
}
