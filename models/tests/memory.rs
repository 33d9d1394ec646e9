//! Ten thousand batches of changing shape leave the resident size flat: its own process, so that
//! nothing else moves it.
#![cfg(target_os = "linux")]

mod resident_common;

use std::path::PathBuf;

use ferrite_kernels::testing::Random;
use ferrite_models::bert::{Batch, Bert, Workspace};
use resident_common::resident;

#[test]
fn ten_thousand_batches_leave_the_resident_size_flat() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/a-pretraining");
    let bert = Bert::from_pretrained(folder).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let (mut batch, mut workspace, mut random) =
        (Batch::default(), Workspace::default(), Random::new(1));
    let mut after_a_hundred = 0;
    for round in 0..10_000 {
        batch.clear();
        for _ in 0..1 + random.below(40) {
            let ids: Vec<u32> = (0..random.below(65)).map(|_| random.below(108) as u32).collect();
            batch.push(&ids, None);
        }
        pool.install(|| bert.encode(&batch, &mut workspace).map(drop)).unwrap();
        if round == 99 {
            after_a_hundred = resident();
        }
    }
    let grown = resident().saturating_sub(after_a_hundred);
    println!(
        "{} KiB after a hundred batches, {} KiB more after 10,000",
        after_a_hundred >> 10,
        grown >> 10
    );
    // One batch more of each size class is 40 * 64 tokens * some 200 floats = 2 MiB; a leak of 250
    // bytes a batch would exceed it.
    assert!(grown <= 2 << 20, "{grown} bytes grown");
}
