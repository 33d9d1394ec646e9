//! Criterion benchmarks of Ferrite, with its peers side by side.
#![forbid(unsafe_code)]
