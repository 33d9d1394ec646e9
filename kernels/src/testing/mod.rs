//! What the tests of this crate and of the crates above it share; behind the feature `testing`.
//!
//! - [`for_each_level`] runs a test at every level of the machine and says which are missing.
//! - [`for_each_arithmetic`] does so with every kernel of products, [`all_arithmetics`] has those
//!   of the tile unit as well, emulated if need be.
//! - [`Guarded`] is memory that faults one element before its beginning and one after its end.
//! - [`Tolerance`] compares with an exact result, element by element, and reports the worst case.
//! - [`check_gradient`] compares a gradient with central differences.
//! - [`same_on_any_threads`] runs a kernel in pools of several sizes and compares what it gives.
//! - [`Random`] makes the same numbers on every machine.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub mod amx_emulator;
mod gradient;
mod guard;
mod levels;
mod random;
mod threads;
mod tolerance;

pub use gradient::check_gradient;
pub use guard::{Edge, Guarded};
pub use levels::{
    REQUIRE_LEVEL_VARIABLE, all_arithmetics, emulated_arithmetics, for_each_arithmetic,
    for_each_level,
};
pub use random::Random;
pub use threads::same_on_any_threads;
pub use tolerance::{Tolerance, U, max_ulps, ulp};

/// Row lengths to test: all up to two vectors and one of every level, and those around the sizes
/// where a kernel's loop changes, up to a vocabulary.
pub fn lengths() -> Vec<usize> {
    let around = [48, 64, 96, 128, 256, 512, 768, 1024].into_iter().flat_map(|n| n - 1..=n + 1);
    (0..=35).chain(around).chain([3072, 30_522]).collect()
}
