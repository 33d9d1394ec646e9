//! Dropout (Srivastava et al. 2014) with masks that nobody keeps.
//!
//! Whether an element falls is a pure function of (seed, step, place, row, column). So a backward
//! pass applies the same `Dropout` to its gradient, and the mask is there again; and neither the
//! order of the work, nor the threads, nor the level changes it.
//!
//! A row's key is a 64-bit mix of all but the column, and the 32 bits of an element an integer hash
//! of key and column: independent for all tests that training could make, not for cryptography.

use crate::simd::{F32s, Simd, dispatch};
use crate::{Level, MatMut, share_rows};

/// Sets elements to zero, each with probability `rate`, and multiplies the others by
/// 1 / (1 - rate), so that the expectation stays.
///
/// ```
/// use ferrite_kernels::{Dropout, Level, Matrix};
///
/// let dropout = Dropout { rate: 0.5, seed: 7, step: 100, place: 3 };
/// let mut x = Matrix::from_fn(2, 50, |_, _| 1.0);
/// dropout.apply(Level::current(), x.view_mut());
/// assert!(x.as_slice().iter().all(|&x| x == 0.0 || x == 2.0));
/// let mut gradient = Matrix::from_fn(2, 50, |_, _| 1.0);
/// dropout.apply(Level::current(), gradient.view_mut());
/// assert_eq!(gradient, x);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The probability of zero, in [0, 1), to the next multiple of 2^-24. Zero changes nothing.
    pub rate: f32,
    /// The seed of the training.
    pub seed: u64,
    /// The step of the training: each has masks of its own.
    pub step: u64,
    /// The place in the model: each has masks of its own.
    pub place: u64,
}

/// Elements whose bits are computed together: the lanes of the widest level.
const GROUP: usize = 16;

impl Dropout {
    /// Applies the mask to `x`, whose first row is row 0. Threads share the rows.
    ///
    /// An element that falls is zero whatever it was, NaN too.
    ///
    /// # Panics
    /// If the rate is not in [0, 1).
    #[track_caller]
    pub fn apply(&self, level: Level, x: MatMut<'_>) {
        assert!((0.0..1.0).contains(&self.rate), "a dropout rate of {}", self.rate);
        if self.rate == 0.0 {
            return;
        }
        share_rows(x, |first, mut x| {
            dispatch!(level, s => {
                for row in 0..x.rows() {
                    self.apply_row(s, (first + row) as u64, x.row_mut(row));
                }
            })
        });
    }

    /// Applies the mask of row `row` to `x`. The rate is in [0, 1).
    #[inline(always)]
    pub(crate) fn apply_row<S: Simd>(&self, s: S, row: u64, x: &mut [f32]) {
        if self.rate == 0.0 {
            return;
        }
        let key = self.key(row);
        // Of 2^24 values, all of which f32 has.
        let fallen = s.splat(self.rate * (1 << 24) as f32);
        let factor = s.splat((1.0 / (1.0 - f64::from(self.rate))) as f32);
        let zero = s.splat(0.0);
        for (group, x) in x.chunks_mut(GROUP).enumerate() {
            let mut bits = [0; GROUP];
            for (lane, bits) in bits.iter_mut().enumerate() {
                *bits = hash(key, (group * GROUP + lane) as u32) >> 8;
            }
            let bits: &[f32; GROUP] = bytemuck::cast_ref(&bits);
            for (x, bits) in x.chunks_mut(S::LANES).zip(bits.chunks_exact(S::LANES)) {
                let number = s.load(bits).int_to_float();
                let kept = s.load_or(x, 0.0) * factor;
                S::F32::select(number.lt(fallen), zero, kept).store_prefix(x);
            }
        }
    }

    /// The key of a row. Each word is mixed before the next one joins it, so that no two of them
    /// can stand for each other.
    #[inline(always)]
    fn key(&self, row: u64) -> u64 {
        let words = [self.seed, self.step, self.place, row];
        words.into_iter().fold(0, |key, word| mix((key ^ word).wrapping_add(0x9E37_79B9_7F4A_7C15)))
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): each bit of the result depends on all of
/// `z`.
#[inline(always)]
fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// 32 bits for a column: two rounds of shift and multiplication (with Wellons' constants of least
/// bias), one half of the key before each. Operations on 32 bits alone, which every level does in
/// its lanes.
#[inline(always)]
fn hash(key: u64, column: u32) -> u32 {
    let x = column.wrapping_add(key as u32);
    let x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D).wrapping_add((key >> 32) as u32);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests;
