//! The cross-entropy of logits and its gradient.
//!
//! The loss of a row is -sum_c q_c ln p_c, where p is the softmax of the logits and q gives the
//! target 1 - eps and, on top, every class eps / classes: label smoothing, Szegedy et al. 2016,
//! section 7, as PyTorch's `CrossEntropyLoss` has it. With m the largest logit:
//!
//! - loss = ln sum_c e^(x_c - m) - (1 - eps) (x_t - m) - eps / classes sum_c (x_c - m),
//! - its gradient is p - q.

use crate::math::exp;
use crate::parallel::{rows_per_thread, share};
use crate::rows::{map_row, max_of_row, sum_vectors};
use crate::simd::{Simd, dispatch};
use crate::{Level, Mat, MatMut};

/// The target of a row that does not count.
pub const IGNORED: u32 = u32::MAX;

/// What the rows of a batch lost. A mean loss is `loss / counted as f64`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CrossEntropy {
    /// The sum of the losses of the rows that count, in nats.
    pub loss: f64,
    /// The same without label smoothing: the sum of -ln p_t, of which perplexity is computed.
    pub plain: f64,
    /// How many rows count.
    pub counted: usize,
    /// In how many of them the target is the first of the largest logits. A row whose loss is NaN is
    /// none of them, whatever its target.
    pub correct: usize,
}

impl std::ops::AddAssign for CrossEntropy {
    fn add_assign(&mut self, other: CrossEntropy) {
        self.loss += other.loss;
        self.plain += other.plain;
        self.counted += other.counted;
        self.correct += other.correct;
    }
}

impl CrossEntropy {
    /// The mean loss of the rows that count; NaN if there is none.
    pub fn mean(&self) -> f64 {
        self.loss / self.counted as f64
    }

    /// The mean of the rows that count, without label smoothing; NaN if there is none.
    pub fn plain_mean(&self) -> f64 {
        self.plain / self.counted as f64
    }

    /// The part of the rows that count whose target has the largest logit; NaN if there is none.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.counted as f64
    }

    /// The sum over rows, in their order.
    fn of(rows: &[Row]) -> CrossEntropy {
        rows.iter().fold(CrossEntropy::default(), |sum, row| CrossEntropy {
            loss: sum.loss + row.loss,
            plain: sum.plain + row.plain,
            counted: sum.counted + usize::from(row.counts),
            correct: sum.correct + usize::from(row.correct),
        })
    }
}

/// The loss of logits (n, classes) for `targets`, one for each row; and the logits become their
/// gradient, `scale` times that of the sum of the losses. Rows whose target is [`IGNORED`] become
/// zeros.
///
/// For a mean over the rows that count, `scale` is one through their number; for gradients of
/// several batches that are summed, one through the number in all of them.
///
/// The error of a loss is at most 4 u (1 + d), u = 2^-24, where d is the difference of the largest
/// logit and the smallest, or the target if nothing is smoothed; that of an element of the gradient
/// at most 2 ULP + 2e-7, times `scale`. The bits of a row depend on the level and the row alone,
/// and losses are added in the order of the rows: threads share the rows and change nothing.
///
/// A logit of minus infinity is a class that is excluded; as a target, or if anything is smoothed,
/// it costs infinitely much. NaN, plus infinity, or nothing but minus infinity in a row make its
/// loss and its gradient NaN, and its answer wrong.
///
/// # Panics
/// If there is not one target for each row, a target is not a class, or `label_smoothing` is not in
/// [0, 1].
#[track_caller]
pub fn cross_entropy(
    level: Level,
    logits: MatMut<'_>,
    targets: &[u32],
    label_smoothing: f32,
    scale: f32,
) -> CrossEntropy {
    check(logits.shape(), targets, label_smoothing);
    let step = rows_per_thread(logits.rows(), logits.cols());
    let mut rows = vec![Row::default(); logits.rows()];
    let work = (logits, &mut rows[..]);
    share(work, step, 1, &|first, (mut logits, rows): (MatMut<'_>, &mut [Row])| {
        dispatch!(level, s => {
            for (i, row) in rows.iter_mut().enumerate() {
                let (logits, target) = (logits.row_mut(i), targets[first + i]);
                if target == IGNORED {
                    logits.fill(0.0);
                    continue;
                }
                *row = Row::new(s, logits, target as usize, label_smoothing);
                row.replace_by_gradient(s, logits, target as usize, label_smoothing, scale);
            }
        })
    });
    CrossEntropy::of(&rows)
}

/// The loss of [`cross_entropy`], to the same bits, without a gradient: for evaluation.
///
/// # Panics
/// As [`cross_entropy`].
#[track_caller]
pub fn cross_entropy_loss(
    level: Level,
    logits: Mat<'_>,
    targets: &[u32],
    label_smoothing: f32,
) -> CrossEntropy {
    check(logits.shape(), targets, label_smoothing);
    let step = rows_per_thread(logits.rows(), logits.cols());
    let mut rows = vec![Row::default(); logits.rows()];
    share(&mut rows[..], step, 1, &|first, rows: &mut [Row]| {
        dispatch!(level, s => {
            for (i, row) in rows.iter_mut().enumerate() {
                let target = targets[first + i];
                if target != IGNORED {
                    let logits = logits.row(first + i);
                    *row = Row::new(s, logits, target as usize, label_smoothing);
                }
            }
        })
    });
    CrossEntropy::of(&rows)
}

#[track_caller]
fn check((rows, classes): (usize, usize), targets: &[u32], label_smoothing: f32) {
    assert_eq!(targets.len(), rows, "cross_entropy: the targets and the rows of the logits");
    assert!(
        (0.0..=1.0).contains(&label_smoothing),
        "cross_entropy: a label smoothing of {label_smoothing}"
    );
    let wrong = |&target: &u32| target != IGNORED && target as usize >= classes;
    if let Some(row) = targets.iter().position(wrong) {
        panic!("cross_entropy: target {} of row {row} is not below {classes}", targets[row]);
    }
}

/// What is known of a row: nothing but zeros if it does not count.
#[derive(Clone, Copy, Default)]
struct Row {
    /// The largest logit.
    max: f32,
    /// The sum of e^(x - max).
    sum: f64,
    loss: f64,
    plain: f64,
    counts: bool,
    correct: bool,
}

impl Row {
    #[inline(always)]
    fn new<S: Simd>(s: S, logits: &[f32], target: usize, smoothing: f32) -> Row {
        let max = max_of_row(s, logits);
        let offset = s.splat(max);
        let sum = sum_vectors(
            s,
            logits.len(),
            #[inline(always)]
            |at| exp(s, s.load_or(&logits[at], f32::NEG_INFINITY) - offset),
        );
        let distance = f64::from(logits[target]) - f64::from(max);
        let smoothing = f64::from(smoothing);
        let plain = sum.ln() - distance;
        let mut loss = sum.ln();
        // A distance may be infinite, and zero times infinity is NaN.
        if smoothing < 1.0 {
            loss -= (1.0 - smoothing) * distance;
        }
        if smoothing > 0.0 {
            let distances = sum_vectors(
                s,
                logits.len(),
                #[inline(always)]
                |at| s.load_or(&logits[at], max) - offset,
            );
            loss -= smoothing / logits.len() as f64 * distances;
        }
        // The first of the largest: all those before it are smaller.
        let first = target == 0 || max_of_row(s, &logits[..target]) < max;
        let correct = logits[target] == max && first && !loss.is_nan();
        Row { max, sum, loss, plain, counts: true, correct }
    }

    /// Replaces each logit by scale (p_c - q_c).
    #[inline(always)]
    fn replace_by_gradient<S: Simd>(
        self,
        s: S,
        logits: &mut [f32],
        target: usize,
        smoothing: f32,
        scale: f32,
    ) {
        let (smoothing, scale) = (f64::from(smoothing), f64::from(scale));
        let offset = s.splat(self.max);
        let factor = s.splat((scale / self.sum) as f32);
        let everywhere = s.splat((scale * smoothing / logits.len() as f64) as f32);
        map_row(
            s,
            logits,
            #[inline(always)]
            |x| exp(s, x - offset) * factor - everywhere,
        );
        logits[target] -= (scale * (1.0 - smoothing)) as f32;
    }
}

#[cfg(test)]
mod tests;
