//! Transformer layers on hand-written SIMD kernels.
#![forbid(unsafe_code)]
