//! Matrix products `y = x Wᵀ` with packed weights and fused epilogues.
//!
//! From the inside out: a register `tile` keeps a few rows times a few vectors of sums; its
//! `bodies` are the ways to multiply a group of inputs; a `kernel` is a body at a level, with the
//! sizes of its tile; `multiply` runs tiles so that operands come from the caches; `matmul` shares
//! the work out to threads.
//!
//! [`PackedMatrix`] holds weights in the order in which tiles read them, which `panels` defines;
//! [`Activations`] hold rows in the `form` in which a kernel reads them; an [`Epilogue`] finishes
//! sums before they leave for memory. How floats become integers is in `quantize`, and what evens out
//! their columns before that in `channels`.

mod activations;
pub(crate) mod bodies;
#[cfg(target_arch = "x86_64")]
mod by_tiles;
mod channels;
mod epilogue;
pub(crate) mod form;
pub(crate) mod kernel;
mod matmul;
pub(crate) mod multiply;
mod packed;
pub(crate) mod panels;
mod pieces;
mod quantize;
mod repack;
pub(crate) mod tile;

pub use activations::{Activations, Left};
pub use channels::ColumnScales;
pub use epilogue::Epilogue;
pub(crate) use kernel::Unit;
pub use matmul::{matmul, matmul_into};
pub use packed::{MAX_INT8_INPUTS, PackedMatrix};

#[cfg(test)]
mod tests;
