//! Thousands of batches of changing shape, learnt and evaluated, leave flat what is held: its own
//! process, so that nothing else moves it.

mod counting_common;

use counting_common::now;
use ferrite_kernels::testing::Random;
use ferrite_models::kernels::Level;
use ferrite_models::train::{Trainer, TrainerOptions, initialize_transformer};
use ferrite_models::transformer::{Batch, Transformer, TransformerConfig, Workspace};

#[test]
fn four_thousand_batches_leave_the_memory_flat() {
    for mut config in [TransformerConfig::tiny(50), TransformerConfig::tiny(50).pre_norm()] {
        (config.d_model, config.encoder_ffn_dim, config.decoder_ffn_dim) = (32, 64, 64);
        let parameters = initialize_transformer(&config, 1);
        let transformer = Transformer::trainable(Level::current(), config, &parameters).unwrap();
        let options = TrainerOptions::transformer(32, 1000, 4000);
        let mut trainer = Trainer::of(transformer, parameters, options);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let (mut batch, mut workspace, mut random) =
            (Batch::default(), Workspace::default(), Random::new(1));
        let mut after_a_thousand = 0;
        for round in 0..4_000 {
            batch.clear();
            for _ in 0..1 + random.below(8) {
                let mut ids = || -> Vec<u32> {
                    (0..random.below(17)).map(|_| random.below(50) as u32).collect()
                };
                batch.push(&ids(), &ids(), 1);
            }
            pool.install(|| {
                trainer.translate_step(std::slice::from_ref(&batch)).unwrap();
                trainer.model().forward(&batch, &mut workspace).map(drop).unwrap();
            });
            if round == 999 {
                after_a_thousand = now();
            }
        }
        let grown = now().saturating_sub(after_a_thousand);
        println!("{} KiB after a thousand, {} KiB more", after_a_thousand >> 10, grown >> 10);
        // All shapes have been seen by then; a leak of 350 bytes a batch would exceed it.
        assert!(grown <= 1 << 20, "{grown} bytes grown");
    }
}
