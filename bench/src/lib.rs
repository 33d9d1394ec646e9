//! Benchmarks of Ferrite, with its peers side by side.
//!
//! Every benchmark checks its answer before it is timed, uses the shapes of real models, and
//! compares with what the machine could do, measured in the same run. Absolute times mean little
//! on shared machines; ratios within a run are what counts.
//!
//! - `cargo run --release -p ferrite-bench --bin limits`: in a few minutes, how far each kernel and
//!   whole encoders are from what this machine can do, as tables and as JSON
//! - `cargo bench -p ferrite-bench --bench gemm`: matrix products in each precision and the fraction
//!   of the peak; with `--features peers` also the crates `gemm` and `matrixmultiply` in f32
//! - `--bench rowwise`: softmax, LayerNorm, GELU beside a copy of the same bytes
//! - `--bench encoder`: whole encoders; with `--features peers` also candle and rten
//! - `--bench tokenizer`: with `--features peers` also the crate `tokenizers`
//! - `cargo run --release -p ferrite-bench --bin encoder`: one encoder, timings as JSON, the
//!   Ferrite side of `bench/peers/peers.py`, which times PyTorch, ONNX Runtime and OpenVINO
//! - `cargo run --release -p ferrite-bench --bin decoding`: a Transformer that translates, the Ferrite
//!   side of `bench/peers/decoding.py`, which times CTranslate2
//! - `--bin batches`, `--bin pair_batches`: what Ferrite trains on, for `bench/peers/pretraining.py`
//!   and `bench/peers/translation.py`

#![forbid(unsafe_code)]

use ferrite_kernels::Matrix;

pub mod product;
pub mod random_bert;
pub mod timing;

pub use product::PRODUCTS;
pub use timing::median;

/// Numbers like those of activations and weights: uniform in [-1, 1), from a counter.
pub fn uniform(rows: usize, cols: usize, seed: u64) -> Matrix<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    Matrix::from_fn(rows, cols, |_, _| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    })
}
