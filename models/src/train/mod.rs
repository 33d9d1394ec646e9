//! Training: from parameters and batches to better parameters, and what is kept of a run.
//!
//! - [`Trainer`]: one step after the other, on batches of the caller's own, of a BERT or a Transformer
//! - [`Optimizer`], [`Schedule`]: what a step does with its gradients
//! - [`initialize`], [`initialize_transformer`]: the parameters of a model that has learnt nothing yet
//! - [`PretrainingRun`]: all of it, from texts to a folder that `transformers` opens
//! - [`TranslationRun`]: the same from pairs of sentences to a Transformer; both are a [`Run`] of a
//!   [`Task`]
//! - [`Average`]: the mean of the parameters of a run's last steps
//! - [`store`]: checkpoints that survive a power cut
//! - [`export`], [`export_transformer`], [`carry_over`]: trained parameters to a folder, or to a model with another head
//!
//! Steps of pre-training on one's own batches:
//!
//! ```
//! use ferrite_models::bert::{Batch, BertConfig, Part};
//! use ferrite_models::data::PretrainingBatch;
//! use ferrite_models::kernels::Level;
//! use ferrite_models::train::{Trainer, TrainerOptions, initialize};
//!
//! let config = BertConfig::from_json_str(
//!     r#"{"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
//!         "intermediate_size": 32, "max_position_embeddings": 16, "hidden_dropout_prob": 0.0}"#,
//! )?;
//! let parameters = initialize(&config, &Part::PRETRAINING, 1);
//! let options = TrainerOptions::new(1e-2, 30);
//! let mut trainer = Trainer::new(Level::current(), config, &Part::PRETRAINING, parameters, options)?;
//! // [CLS] 7 [MASK] 9 [SEP] 11 [SEP], where token 2 was 8 and the second part follows the first.
//! let batch = PretrainingBatch {
//!     batch: { let mut b = Batch::default(); b.push(&[2, 7, 4, 9, 3, 11, 3], Some(&[0, 0, 0, 0, 0, 1, 1])); b },
//!     positions: vec![2],
//!     targets: vec![8],
//!     next_sentence: vec![0],
//! };
//! let losses: Vec<f64> = (0..30)
//!     .map(|_| Ok(trainer.pretrain_step(&[batch.clone()])?.loss.masked.mean()))
//!     .collect::<Result<_, ferrite_models::Error>>()?;
//! assert!(losses[29] < losses[0] / 2.0);
//! # Ok::<(), ferrite_models::Error>(())
//! ```

mod average;
mod chart;
mod error;
mod export;
mod folder;
mod initialize;
mod log;
mod memory;
mod optimizer;
mod pretraining;
mod recipe;
mod run;
mod schedule;
pub mod store;
mod task;
mod trained;
mod trainer;
mod translation;

pub use average::Average;
pub use chart::{Chart, Curve};
pub use error::RunError;
pub use export::{carry_over, export, export_transformer, replace_file};
pub use folder::RunFolder;
pub use initialize::{initialize, initialize_transformer, sinusoidal_positions};
pub use log::{Evaluation, StepRecord};
pub use memory::{LargestBatch, Memory};
pub use optimizer::{Optimizer, OptimizerOptions, Update};
pub use pretraining::{Pretraining, PretrainingRun, RunOptions, Scores};
pub use run::Run;
pub use schedule::{Schedule, ScheduleShape};
pub use task::Task;
pub use trained::Trained;
pub use trainer::{Step, Trainer, TrainerOptions};
pub use translation::{Translation, TranslationOptions, TranslationRun, TranslationScores};
