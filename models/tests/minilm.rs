//! The real all-MiniLM-L6-v2 on 1,000 texts, against PyTorch in f64; see `oracle/README.md`.
#![cfg(feature = "hub")]

mod minilm_common;

use ferrite_kernels::testing::{Random, for_each_level};
use ferrite_models::SentenceEncoder;
use ferrite_models::bert::Workspace;
use ferrite_models::kernels::{Arithmetic, Level, Precision};
use ferrite_models::tokenizer::{EncodeOptions, Tokenizer, Truncation};
use minilm_common::{dump, model, texts};

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
    let texts: Vec<String> = texts().into_iter().step_by(7).collect();
    for precision in Precision::ALL {
        let arithmetic = Arithmetic::new(Level::current(), precision);
        let encoder = SentenceEncoder::from_pretrained_at(arithmetic, model()).unwrap();
        check_bits(&encoder, &texts);
    }
}

/// Embeds the texts shuffled, in batches of random sizes, on 1, 2, 3 and 5 threads.
fn check_bits(encoder: &SentenceEncoder, texts: &[String]) {
    let expected = encoder.embed(texts).unwrap().vectors;
    let arithmetic = encoder.bert().arithmetic();
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
                assert_eq!(actual, expected, "{arithmetic}, {threads} threads, text {i}");
            }
            rest = others;
        }
    }
}
