//! What a choice among the logits of a row needs: the logarithm of their sum of exponentials, and
//! the largest of them.

use std::cmp::Ordering;

use crate::Level;
use crate::math::exp;
use crate::rows::{max_of_row, sum_vectors};
use crate::simd::{Simd, dispatch};

/// An element of a row and its place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// The place, from 0.
    pub index: u32,
    /// The element.
    pub value: f32,
}

impl Ranked {
    /// The order of [`top_k`]: larger elements first, of equal ones the earlier first.
    fn order(&self, other: &Ranked) -> Ordering {
        other.value.total_cmp(&self.value).then(self.index.cmp(&other.index))
    }
}

/// Elements that are passed over at once if none of them is large enough.
const BLOCK: usize = 128;

/// Up to this many are kept in order while the row is read; more are sorted afterwards.
const FEW: usize = 64;

/// `ln Σ e^x`: what turns a logit into a log-probability, `x - log_sum_exp`.
///
/// The error is at most 4 u (1 + |m|), with the maximum m and u = 2^-24; it is not less than m, up to
/// that. Of a row of nothing but minus infinity, or of nothing, it is minus infinity; NaN or plus
/// infinity anywhere make it NaN. The bits depend on the level and the row alone.
pub fn log_sum_exp(level: Level, x: &[f32]) -> f64 {
    dispatch!(level, s => {
        let max = max_of_row(s, x);
        // The difference of two infinities would be NaN.
        let offset = if max == f32::NEG_INFINITY { 0.0 } else { max };
        let vector = s.splat(offset);
        let sum = sum_vectors(
            s,
            x.len(),
            #[inline(always)]
            |at| exp(s, s.load_or(&x[at], f32::NEG_INFINITY) - vector),
        );
        f64::from(offset) + sum.ln()
    })
}

/// Writes the `k` largest elements of `x` to `out`, the largest first, of equal ones the earlier
/// first. Minus infinity and NaN are never among them, so there may be fewer.
///
/// ```
/// use ferrite_kernels::{Level, top_k};
///
/// let mut best = Vec::new();
/// top_k(Level::current(), &[0.5, 2.0, f32::NEG_INFINITY, 2.0, 1.0], 3, &mut best);
/// assert_eq!(best.iter().map(|one| one.index).collect::<Vec<_>>(), [1, 3, 4]);
/// ```
///
/// # Panics
/// If `x` has more than 2^32 elements.
#[track_caller]
pub fn top_k(level: Level, x: &[f32], k: usize, out: &mut Vec<Ranked>) {
    assert!(u32::try_from(x.len()).is_ok(), "{} elements to choose from", x.len());
    out.clear();
    if k == 0 {
        return;
    }
    if k > FEW {
        let counts = |value: f32| value > f32::NEG_INFINITY;
        let all = x.iter().enumerate().filter(|&(_, &value)| counts(value));
        out.extend(all.map(|(index, &value)| Ranked { index: index as u32, value: value + 0.0 }));
        if k < out.len() {
            out.select_nth_unstable_by(k, Ranked::order);
            out.truncate(k);
        }
        return out.sort_unstable_by(Ranked::order);
    }
    // What an element has to exceed: those that come later lose to their equals.
    let mut least = f32::NEG_INFINITY;
    for start in (0..x.len()).step_by(BLOCK) {
        let block = &x[start..x.len().min(start + BLOCK)];
        if dispatch!(level, s => max_of_row(s, block)) <= least {
            continue;
        }
        for (i, &value) in block.iter().enumerate() {
            if value > least {
                let place = out.partition_point(|one| one.value >= value);
                out.truncate(k - 1);
                // (Zeros of either sign are equal; a plus is what they add up to.)
                out.insert(place, Ranked { index: (start + i) as u32, value: value + 0.0 });
                if out.len() == k {
                    least = out[k - 1].value;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
