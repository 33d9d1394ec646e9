//! Measuring on a shared machine, whose clock and load drift: what is compared is measured in turn,
//! and ratios are taken within a turn.

use std::time::Instant;

use ferrite_kernels::{Arithmetic, crew, peak};

/// Seconds that one turn measures, about.
pub const TURN: f64 = 0.01;

/// The middle of the sorted numbers, or the mean of the two in the middle.
///
/// # Panics
/// If there are none.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let last = numbers.len() - 1;
    (numbers[last / 2] + numbers[last.div_ceil(2)]) / 2.0
}

/// Seconds that `run` takes.
pub fn seconds(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

/// How often to call `run` so that it takes about [`TURN`]; it is warm afterwards.
pub fn calls_per_turn(mut run: impl FnMut()) -> usize {
    run();
    let once = seconds(run);
    (TURN / once).ceil().clamp(1.0, 1e6) as usize
}

/// Something measured in turn with the peak of its arithmetic; medians over the rounds.
#[derive(Clone, Copy, Debug)]
pub struct AgainstPeak {
    /// Of one call.
    pub seconds: f64,
    /// Operations per second.
    pub rate: f64,
    /// Operations per second that as many cores could do, were each as fast as one alone.
    pub peak: f64,
    /// The median of the ratios, which need not be the ratio of the medians.
    pub fraction: f64,
}

impl AgainstPeak {
    /// Of rounds that each are (seconds of a call of so many operations, the peak of that round).
    ///
    /// # Panics
    /// If there are none.
    pub fn of_rounds(operations: f64, rounds: &[(f64, f64)]) -> AgainstPeak {
        let over = |f: fn(f64, f64) -> f64| median(rounds.iter().map(|&(s, p)| f(s, p)).collect());
        let seconds = over(|seconds, _| seconds);
        AgainstPeak {
            seconds,
            rate: operations / seconds,
            peak: over(|_, peak| peak),
            fraction: operations / over(|seconds, peak| seconds * peak),
        }
    }
}

/// The peak of `arithmetic` on one core, just now, times the threads of the current rayon pool.
pub fn peak_of_pool(arithmetic: Arithmetic) -> f64 {
    peak(arithmetic, 2) * rayon::current_num_threads() as f64
}

/// Measures `run`, which takes so many operations, in turn with [`peak_of_pool`]. To be called
/// inside the pool, so that entering it is no part of the time; its threads stay together as a
/// [`crew`], as they do for a layer.
pub fn against_peak(
    arithmetic: Arithmetic,
    operations: usize,
    rounds: usize,
    mut run: impl FnMut() + Send,
) -> AgainstPeak {
    let calls = crew(|| calls_per_turn(&mut run));
    let round = |_| {
        let peak = peak_of_pool(arithmetic);
        (seconds(|| crew(|| (0..calls).for_each(|_| run()))) / calls as f64, peak)
    };
    let rounds: Vec<_> = (0..rounds).map(round).collect();
    AgainstPeak::of_rounds(operations as f64, &rounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![5.0]), 5.0);
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![9.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn the_fraction_is_taken_within_rounds() {
        // Half of the peak each time, though the clock doubled in the middle.
        let rounds = [(2.0, 100.0), (1.0, 200.0), (1.0, 200.0)];
        let found = AgainstPeak::of_rounds(100.0, &rounds);
        assert_eq!((found.seconds, found.rate, found.peak), (1.0, 100.0, 200.0));
        assert_eq!(found.fraction, 0.5);
    }
}
