//! Floats as integers of 8 bits, and the numbers that turn them back.
//!
//! A row of weights is `scale q` with q in [-127, 127]. A row of activations is `scale (q - zero)`
//! with q in [0, 255]: activations lie to one side more often than not, and a range of their own
//! from the least to the largest leaves no half of the integers unused. Zero is in the range and is
//! held exactly, so that a row may be all of one sign.

use std::ops::Range;

use crate::rows::for_each_vector;
use crate::simd::{F32s, Simd};

/// How the integers of a row stand for its numbers: `x = scale (q - zero)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RowScale {
    /// Zero for a row of zeros, NaN for one with a NaN or an infinity.
    pub(crate) scale: f32,
    /// An integer in [0, 255].
    pub(crate) zero: f32,
}

/// A row of weights: the nearest integers to `x / scale`, ties to even, with `scale = max |x| / 127`.
#[inline(always)]
pub(super) fn quantize_weights<S: Simd>(s: S, x: &[f32], out: &mut [u8]) -> RowScale {
    let extremes = extremes(
        s,
        x.len(),
        #[inline(always)]
        |at| s.load_or(&x[at], 0.0),
    );
    let Some((least, most)) = extremes else { return no_number(out) };
    let (scale, inverse) = steps(127.0, f64::from(most.max(-least)));
    let (factor, out) = (s.splat(inverse), &mut out[..x.len()]);
    for_each_vector(
        s,
        x.len(),
        #[inline(always)]
        |at| (s.load_or(&x[at.clone()], 0.0) * factor).round().store_bytes(&mut out[at]),
    );
    RowScale { scale, zero: 0.0 }
}

/// A row of activations of which `load` gives vectors, zero beyond its end: the nearest integers to
/// `x / scale + zero`, ties of `x / scale` to even, with `scale = (most - least) / 255`, where most
/// and least are the largest and the smallest of the row's numbers and zero, and `zero` the nearest
/// integer to `-least / scale`. `store` gets them without `zero`, and with it in a vector.
#[inline(always)]
pub(super) fn quantize_row<S: Simd>(
    s: S,
    n: usize,
    load: impl Fn(Range<usize>) -> S::F32 + Copy,
    mut store: impl FnMut(Range<usize>, S::F32, S::F32),
) -> Option<RowScale> {
    let (least, most) = extremes(s, n, load)?;
    let (scale, inverse) = steps(255.0, f64::from(most) - f64::from(least));
    let zero = (-least * inverse).round_ties_even();
    // The nearest integer to the largest number is one too many where both ends were ties.
    let (factor, offset, limit) = (s.splat(inverse), s.splat(zero), s.splat(255.0 - zero));
    for_each_vector(
        s,
        n,
        #[inline(always)]
        |at| store(at.clone(), (load(at) * factor).round().min(limit), offset),
    );
    Some(RowScale { scale, zero })
}

/// What stands for a row with a NaN or an infinity.
pub(super) fn no_number(out: &mut [u8]) -> RowScale {
    out.fill(0);
    RowScale { scale: f32::NAN, zero: 0.0 }
}

/// A `count`th of `range`, and its inverse. Both are zero where the inverse overflows: a row so
/// small is as good as zero.
fn steps(count: f64, range: f64) -> (f32, f32) {
    let inverse = (count / range) as f32;
    if inverse.is_finite() { ((range / count) as f32, inverse) } else { (0.0, 0.0) }
}

/// The least and the largest of zero and `n` numbers, `None` if one of these is no number or
/// infinite.
#[inline(always)]
fn extremes<S: Simd>(s: S, n: usize, load: impl Fn(Range<usize>) -> S::F32) -> Option<(f32, f32)> {
    // Side by side, so that none waits for its last instruction.
    let mut parts = [Extremes::<S>::new(s); 4];
    let mut start = 0;
    while start + parts.len() * S::LANES <= n {
        for part in &mut parts {
            part.take(s, load(start..start + S::LANES));
            start += S::LANES;
        }
    }
    for_each_vector(
        s,
        n - start,
        #[inline(always)]
        |at| parts[0].take(s, load(start + at.start..start + at.end)),
    );
    let [a, b, c, d] = parts;
    let poison = ((a.poison + b.poison) + (c.poison + d.poison)).reduce_sum();
    let least = -a.least.min(b.least).min(c.least.min(d.least));
    let most = a.most.max(b.most).max(c.most.max(d.most));
    (poison == 0.0).then(|| (-least.reduce_max(), most.reduce_max()))
}

/// The extremes of zero and some numbers, lane by lane.
#[derive(Clone, Copy)]
struct Extremes<S: Simd> {
    least: S::F32,
    most: S::F32,
    /// Zero as long as all numbers are finite.
    poison: S::F32,
}

impl<S: Simd> Extremes<S> {
    #[inline(always)]
    fn new(s: S) -> Extremes<S> {
        let zero = s.splat(0.0);
        Extremes { least: zero, most: zero, poison: zero }
    }

    #[inline(always)]
    fn take(&mut self, s: S, x: S::F32) {
        self.least = x.min(self.least);
        self.most = x.max(self.most);
        // Zero times anything finite is zero.
        self.poison = x.mul_add(s.splat(0.0), self.poison);
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::cast_slice_mut;
    use proptest::prelude::*;

    use super::*;
    use crate::gemm::form::Form;
    use crate::level::Level;
    use crate::simd::dispatch;
    use crate::testing::{Random, for_each_level};

    /// The integers without their zero, and how they stand for numbers.
    fn quantize(level: Level, x: &[f32]) -> (Vec<f32>, RowScale) {
        let mut bytes = vec![7u8; x.len()];
        let mut wide = vec![7i16; x.len()];
        let (of_bytes, of_wide) = dispatch!(level, s => (
            Form::U8.convert_row(s, x, &[], &mut bytes),
            Form::I16.convert_row(s, x, &[], cast_slice_mut(&mut wide)),
        ));
        let same = of_bytes == of_wide || of_bytes.scale.is_nan() && of_wide.scale.is_nan();
        assert!(same, "{of_bytes:?} {of_wide:?}");
        let integers: Vec<f32> = bytes.iter().map(|&q| f32::from(q) - of_bytes.zero).collect();
        assert!(wide.iter().map(|&q| f32::from(q)).eq(integers.iter().copied()));
        (integers, of_bytes)
    }

    /// Each number is within half a step of what stands for it, a step being a 255th of the range.
    #[track_caller]
    fn check(level: Level, x: &[f32]) {
        let (integers, RowScale { scale, zero }) = quantize(level, x);
        let least = x.iter().fold(0.0f32, |least, &x| least.min(x));
        let most = x.iter().fold(0.0f32, |most, &x| most.max(x));
        let step = (f64::from(most) - f64::from(least)) / 255.0;
        assert!((f64::from(scale) - step).abs() <= 1e-7 * step, "{scale} for {step}");
        assert!(zero.fract() == 0.0 && (0.0..=255.0).contains(&zero), "{zero}");
        for (&x, q) in x.iter().zip(integers) {
            // (Beyond the half: the roundings of the scale, of its inverse and of the quotient.)
            let off = (f64::from(x) - f64::from(scale) * f64::from(q)).abs();
            assert!(off <= (0.5 + 1e-4) * step, "{level}: {q} for {x} in steps of {step}");
            assert!(x != 0.0 || q == 0.0, "zero is exact");
        }
    }

    #[test]
    fn numbers_are_within_half_a_step() {
        for_each_level(|level| {
            let mut random = Random::new(1);
            for n in (0..=35).chain([63, 64, 65, 127, 384, 771]) {
                for (from, to) in [(-1.0, 1.0), (0.0, 1e5), (-3.0, 0.1), (4.0, 5.0), (-5.0, -4.0)] {
                    check(level, &random.vector(n, from, to));
                }
            }
            // Both ends are ties, and rounding both up would make an integer too many.
            for ties in 0..255 {
                check(level, &[0.0, 254.5 - ties as f32, -0.5 - ties as f32]);
            }
        });
    }

    #[test]
    fn what_is_no_number_makes_the_row_none() {
        for_each_level(|level| {
            for n in [1, 16, 17, 70] {
                for at in [0, n / 2, n - 1] {
                    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                        let mut x = vec![1.0; n];
                        x[at] = bad;
                        let (integers, scale) = quantize(level, &x);
                        assert!(scale.scale.is_nan() && integers.iter().all(|&q| q == 0.0));
                    }
                }
            }
        });
    }

    proptest! {
        #[test]
        fn any_numbers_are_within_half_a_step(
            x in prop::collection::vec(-1e3f32..1e3, 0..100),
            scale in -30i32..30,
            shift in -2e3f32..2e3,
        ) {
            let x: Vec<f32> = x.iter().map(|x| (x + shift) * 2f32.powi(scale)).collect();
            for level in Level::available() {
                check(level, &x);
            }
        }
    }
}
