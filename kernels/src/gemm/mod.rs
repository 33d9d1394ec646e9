//! Matrix products `y = x Wᵀ` with packed weights and fused epilogues.
//!
//! From the inside out: `tile` keeps a few rows times a few vectors of sums in registers;
//! `multiply` runs tiles so that operands come from the caches; `matmul` shares the work out to
//! threads. [`PackedMatrix`] holds weights in the order in which tiles read them; `panels` defines
//! that order.

mod matmul;
pub(crate) mod multiply;
mod packed;
pub(crate) mod panels;
pub(crate) mod tile;

pub use matmul::{Epilogue, matmul};
pub use packed::PackedMatrix;

#[cfg(test)]
mod tests;
