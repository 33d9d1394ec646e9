//! What the tests of this crate and of the models share; behind the feature `testing`.
//!
//! - [`assert_same_bits`] holds a layer to the promise that a sequence's result depends on that
//!   sequence alone.
//! - [`Bounded`] follows an f64 reference and, beside it, how far f32 may be from it.
//! - [`random`] makes the parameters of reference layers.

mod bounded;
pub mod random;
mod same_bits;

pub use bounded::Bounded;
pub use same_bits::{THREADS, assert_same_bits, in_pool};
