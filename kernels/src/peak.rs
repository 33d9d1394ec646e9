//! What the machine could do at most: the yardstick of the benchmarks.

use std::hint::black_box;
use std::time::Instant;

use crate::level::Level;
use crate::simd::{F32s, Simd, dispatch};

/// Independent sums: more than latency times ports of any CPU so far, and few enough for sixteen
/// registers.
const CHAINS: usize = 12;

/// Multiply-adds per second that one core reaches at `level` out of registers, times two: FLOP/s.
/// The best of `runs` runs of about five milliseconds.
pub fn fma_peak(level: Level, runs: usize) -> f64 {
    let run = |_| {
        let steps = 1 << 20;
        let start = Instant::now();
        let lanes = dispatch!(level, s => chains(s, steps));
        (2 * CHAINS * lanes * steps) as f64 / start.elapsed().as_secs_f64()
    };
    (0..runs).map(run).fold(0.0, f64::max)
}

#[inline(always)]
fn chains<S: Simd>(s: S, steps: usize) -> usize {
    let (a, b) = (s.splat(black_box(0.999)), s.splat(black_box(1e-3)));
    let mut sums = [s.splat(black_box(0.0)); CHAINS];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = sum.mul_add(a, b);
        }
    }
    for sum in sums {
        black_box(sum.reduce_sum());
    }
    S::LANES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_reports_a_rate() {
        for level in Level::available() {
            assert!(fma_peak(level, 1) > 1e8, "{level}");
        }
    }
}
