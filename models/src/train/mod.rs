//! Training runs, and what is kept of them.
//!
//! - [`store`]: checkpoints that survive a power cut

pub mod store;
