//! Dropout (Srivastava et al. 2014) with masks that nobody keeps.
//!
//! Whether an element falls is a pure function of (seed, step, place, row, column). So a backward
//! pass applies the same `Dropout` to its gradient, and the mask is there again; and neither the
//! order of the work, nor the threads, nor the level changes it.
//!
//! A row's key is a 64-bit mix of all but the column, and the 32 bits of an element an integer hash
//! of key and column: independent for all tests that training could make, not for cryptography.

use crate::rows::map_vectors;
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

/// The lanes' numbers, up to the widest level.
const LANES: [u32; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

impl Dropout {
    /// Applies the mask to `x`, whose first row is row 0. Threads share the rows.
    ///
    /// An element that falls is zero whatever it was, NaN too.
    ///
    /// # Panics
    /// If the rate is not in [0, 1).
    #[track_caller]
    pub fn apply(&self, level: Level, x: MatMut<'_>) {
        share_rows(x, |first, x| self.apply_from(level, first, x));
    }

    /// Applies the mask to `x`, whose first row is row `first`: a part of what [`Dropout::apply`]
    /// treats as a whole, by this thread alone.
    ///
    /// # Panics
    /// As there.
    #[track_caller]
    pub fn apply_from(&self, level: Level, first: usize, mut x: MatMut<'_>) {
        assert!((0.0..1.0).contains(&self.rate), "a dropout rate of {}", self.rate);
        if self.rate == 0.0 {
            return;
        }
        dispatch!(level, s => {
            for row in 0..x.rows() {
                self.apply_row(s, (first + row) as u64, x.row_mut(row));
            }
        })
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
        let key = [key as u32, (key >> 32) as u32].map(|half| splat_int(s, half));
        let lanes: &[f32; LANES.len()] = bytemuck::cast_ref(&LANES);
        let lanes = s.load(lanes);
        map_vectors(
            s,
            x,
            #[inline(always)]
            |at, x| {
                let column = splat_int(s, at.start as u32).add_int(lanes);
                let number = hash(s, key, column).shift_right_int(8).int_to_float();
                S::F32::select(number.lt(fallen), zero, x * factor)
            },
        );
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

/// The bits of `x` in all lanes.
#[inline(always)]
fn splat_int<S: Simd>(s: S, x: u32) -> S::F32 {
    s.splat(f32::from_bits(x))
}

/// 32 bits for each column: two rounds of shift and multiplication (with Wellons' constants of
/// least bias), one half of the key before each.
#[inline(always)]
fn hash<S: Simd>(s: S, [low, high]: [S::F32; 2], column: S::F32) -> S::F32 {
    let x = column.add_int(low);
    let x = x.xor_int(x.shift_right_int(16)).mul_int(splat_int(s, 0x7FEB_352D)).add_int(high);
    let x = x.xor_int(x.shift_right_int(15)).mul_int(splat_int(s, 0x846C_A68B));
    x.xor_int(x.shift_right_int(16))
}

#[cfg(test)]
mod tests;
