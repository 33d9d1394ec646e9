//! Thousands of translations of changing shape leave flat what is held: its own process, so that
//! nothing else moves it.

mod counting_common;
mod decoding_common;

use counting_common::now;
use decoding_common::Kind;
use ferrite_kernels::testing::Random;
use ferrite_models::kernels::Level;
use ferrite_models::transformer::{DecodeOptions, DecodeWorkspace, MaxLength, Search};

#[test]
fn thousands_of_translations_leave_the_memory_flat() {
    let kind = Kind { pre_norm: false, tied: true, layers: 2, heads: 2, vocabulary: 50, seed: 3 };
    let (model, mut random) = (kind.model(Level::current()), Random::new(1));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let mut workspace = DecodeWorkspace::default();
    let mut after_a_quarter = 0;
    for round in 0..4_000 {
        let sources: Vec<Vec<u32>> = (0..random.below(9))
            .map(|_| (0..random.below(17)).map(|_| random.below(50) as u32).collect())
            .collect();
        let sample = Search::Sample { temperature: 1.0, top_k: None, top_p: 0.9, seed: round };
        let beam = DecodeOptions { n_best: 2, attention: Some(1), ..DecodeOptions::default() };
        let options = match round % 3 {
            0 => DecodeOptions::greedy(),
            1 => beam,
            _ => DecodeOptions { search: sample, ..beam },
        };
        let options = DecodeOptions { max_length: MaxLength::fixed(random.below(20)), ..options };
        pool.install(|| model.translate(&sources, &options, &mut workspace).map(drop)).unwrap();
        if round == 999 {
            after_a_quarter = now();
        }
    }
    let grown = now().saturating_sub(after_a_quarter);
    println!("{} KiB after a thousand, {} KiB more", after_a_quarter >> 10, grown >> 10);
    // A leak of 350 bytes a call would exceed it.
    assert!(grown <= 1 << 20, "{grown} bytes grown");
}
