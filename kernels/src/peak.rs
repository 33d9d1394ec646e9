//! What the machine could do at most: the yardstick of the benchmarks.

use std::time::Instant;

use crate::gemm::kernel::{Kernel, with_kernel};
use crate::level::Level;
use crate::precision::Arithmetic;

/// Operations per second (a multiply-add is two) that the instruction of `arithmetic` reaches on one
/// core out of registers: FLOP/s, or of int8 OP/s. The best of `runs` runs of a few milliseconds.
pub fn peak(arithmetic: impl Into<Arithmetic>, runs: usize) -> f64 {
    let unit = arithmetic.into().unit();
    let run = |_| {
        let steps = 1 << 19;
        let start = Instant::now();
        let operations = with_kernel!(unit, k => k.peak(steps));
        operations as f64 / start.elapsed().as_secs_f64()
    };
    (0..runs).map(run).fold(0.0, f64::max)
}

/// [`peak`] of f32 multiply-adds.
pub fn fma_peak(level: Level, runs: usize) -> f64 {
    peak(level, runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_reports_a_rate() {
        for arithmetic in Arithmetic::available() {
            assert!(peak(arithmetic, 1) > 1e8, "{arithmetic}");
        }
    }
}
