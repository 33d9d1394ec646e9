//! The tile unit of Intel's CPUs, AMX: products of 16 x 16 results with one instruction.
//!
//! - [`permitted`] says whether this process may use it.
//! - [`Amx`] is the proof of that; [`Tiles`] is a thread's configured tile registers.
//! - [`Block`] is the work of one register block, which [`run`] does for each [`Product`]: of bf16,
//!   of signed bytes, and of f32 as three bf16 pieces.
//!
//! The intrinsics of Rust are not stable, so the kernels are `asm!`. On a machine without AMX the
//! tests run the same instructions in an emulator, see `testing/amx_emulator.rs`.

mod config;
mod detect;
mod tile;

#[cfg(all(test, target_os = "linux"))]
mod tests;

pub(crate) use config::{Amx, Tiles};
pub(crate) use detect::permitted;
pub(crate) use tile::{Block, Product, peak_bf16, peak_int8, run};
