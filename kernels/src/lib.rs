//! SIMD kernels for Transformer inference and training on the CPU.
//!
//! Slices and matrices in, slices and matrices out. Every kernel is written once over a small lane
//! trait and runs at the [`Level`] that it is given: portable, AVX2 with FMA, or AVX-512.
//!
//! | theme | what |
//! |---|---|
//! | storage | [`Matrix`], the views [`Mat`] and [`MatMut`], [`Segments`] for packed batches; [`transpose`] |
//! | products | [`matmul`] with [`PackedMatrix`] weights and an [`Epilogue`]; [`Attention`], [`StepAttention`] |
//! | rows | [`softmax`], [`log_softmax`], [`log_sum_exp`], [`top_k`], [`layer_norm`], [`add_layer_norm`], [`layer_norm_backward`], [`cross_entropy`], [`mean_rows`], [`max_rows`], [`column_sums`] |
//! | elements | [`Activation`], forward and backward; [`Dropout`]; [`AdamW`]; exp, tanh, erf, sums and scaling in [`elementwise`] |
//! | tables | [`embedding_sum`], [`gather`], [`scatter_add`] |
//! | threads | [`share_rows`]; products and attention share themselves out |
//!
//! ```
//! use ferrite_kernels::{Activation, Epilogue, Level, Matrix, PackedMatrix, matmul};
//!
//! let level = Level::current();
//! let x = Matrix::from_fn(3, 4, |row, col| (row + col) as f32);
//! let w = Matrix::from_fn(2, 4, |row, col| if row == 0 { 1.0 } else { -(col as f32) });
//! let weight = PackedMatrix::new(level, w.view());
//! let mut y = Matrix::zeros(3, 2);
//! let epilogue = Epilogue::BiasActivation(&[0.5, 0.0], Activation::Relu);
//! matmul(x.view(), &weight, epilogue, y.view_mut());
//! assert_eq!(y.row(1), [10.5, 0.0]);
//! ```
//!
//! How dispatch works: a [`Level`] holds a token that only detection makes. A kernel matches it
//! once and runs its body inside a function compiled for that instruction set. Nothing is chosen
//! at compile time, so one binary serves every CPU of its architecture, and all levels of a machine
//! can be compared in one process.
//!
//! For one level, the bits of a result depend on the operands alone: not on the number of threads,
//! and, row by row, not on the other rows. Error bounds stand with each kernel; `u` is 2^-24.

mod activation;
mod adamw;
#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
mod column_sums;
mod cross_entropy;
mod denormals;
mod dropout;
mod embedding;
mod gemm;
mod layer_norm;
mod level;
mod math;
mod matrix;
mod parallel;
mod peak;
mod pool;
mod precision;
mod rows;
mod simd;
mod softmax;
mod top_k;
mod transpose;

pub mod elementwise;
#[cfg(any(test, feature = "testing"))]
pub mod reference;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use activation::Activation;
pub use adamw::AdamW;
pub use attention::{Attention, AttentionScratch, Mask, StepAttention, VisibleRows};
pub use column_sums::column_sums;
pub use cross_entropy::{CrossEntropy, IGNORED, cross_entropy, cross_entropy_loss};
pub use denormals::flush_denormals;
pub use dropout::Dropout;
pub use embedding::{Lookup, embedding_sum, gather, scatter_add};
pub use gemm::{
    Activations, ColumnScales, Epilogue, Left, MAX_INT8_INPUTS, PackedMatrix, matmul, matmul_into,
};
pub use layer_norm::{add_layer_norm, layer_norm, layer_norm_backward, layer_norm_in_place};
pub use level::{LEVEL_VARIABLE, Level, UnknownLevel};
pub use matrix::{Element, InvalidSegments, Mat, MatMut, Matrix, Segments};
pub use parallel::{crew, join, share_rows, share_rows_with, threads};
pub use peak::{fma_peak, peak};
pub use pool::{max_rows, mean_rows};
pub use precision::{Arithmetic, Precision, UnknownPrecision};
pub use softmax::{log_softmax, softmax};
pub use top_k::{Ranked, log_sum_exp, top_k};
pub use transpose::transpose;
