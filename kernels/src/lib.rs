//! SIMD kernels for Transformer inference and training on the CPU.
