//! The lane operations that every kernel is written in, and their back ends.
//!
//! A kernel is an ordinary function `#[inline(always)] fn k<S: Simd>(s: S, ...)` that mentions no
//! architecture. `dispatch!(level, s => k(s, ...))` matches the level once and runs the kernel
//! inside one function compiled for that instruction set.
//!
//! Three rules make this fast and sound:
//! - Everything between `dispatch!` and the intrinsics is `#[inline(always)]`: a function that is
//!   not inlined is compiled for the baseline CPU, and its vectors travel through memory.
//! - A closure handed to another thread is a function of its own, so threads go outside and
//!   `dispatch!` inside.
//! - Vectors are made only by a token, and a token only by detection. Whoever holds a vector may
//!   therefore run the instructions of its level.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use std::ops::{Add, Div, Mul, Neg, Sub};

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::{Avx512, Avx512Bf16, Avx512Vnni};
pub(crate) use portable::Portable;

/// A token for one instruction set: the proof that the machine executes it.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// The native vector of `f32`.
    type F32: F32s;

    /// As many `i32` as there are lanes.
    type I32: Copy;

    /// A pair of `i16` for each lane.
    type Pairs: Copy;

    /// Lanes of a vector.
    const LANES: usize;

    /// Whether `mul_add` rounds once. Where it does not, error bounds count one rounding more.
    #[cfg(test)]
    const FUSED: bool;

    /// Rows of the matrix product's full register tile.
    const TILE_ROWS: usize;

    /// Vectors across the matrix product's full register tile.
    const TILE_VECTORS: usize;

    /// Runs `f` inside a function compiled for this instruction set. `f` must be marked
    /// `#[inline(always)]`; use `dispatch!`, which does so.
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F32;

    /// The first `LANES` elements of `x`.
    ///
    /// # Panics
    /// If `x` is shorter.
    fn load(self, x: &[f32]) -> Self::F32;

    /// The first elements of `x`, at most `LANES`; lanes beyond its end are `fill`.
    fn load_or(self, x: &[f32], fill: f32) -> Self::F32;

    /// # Safety
    /// - `x` is valid for reading `LANES` elements; no alignment is needed.
    unsafe fn load_ptr(self, x: *const f32) -> Self::F32;

    /// Asks for the cache line at `x`, which need not be readable, to come to the second-level cache.
    fn prefetch(self, x: *const u8);

    /// Asks for the cache line at `x`, which will be written and need not be writable yet.
    fn prefetch_write(self, x: *mut f32);

    /// `LANES` numbers in bfloat16, widened.
    ///
    /// # Safety
    /// - `x` is valid for reading `LANES` elements; no alignment is needed.
    unsafe fn load_bf16(self, x: *const u16) -> Self::F32;

    /// Two bytes for each lane, widened.
    ///
    /// # Safety
    /// - `x` is valid for reading `2 * LANES` elements; no alignment is needed.
    unsafe fn load_pairs(self, x: *const i8) -> Self::Pairs;

    /// The same pair in all lanes.
    fn splat_pair(self, pair: [i16; 2]) -> Self::Pairs;

    /// Zero in all lanes.
    fn zero_i32(self) -> Self::I32;

    /// `sum + a[0] b[0] + a[1] b[1]`, lane by lane, modulo 2^32.
    fn dot_pairs(self, sum: Self::I32, a: Self::Pairs, b: Self::Pairs) -> Self::I32;

    /// The integers as the bits of floats: of no meaning as numbers.
    fn as_bits(self, x: Self::I32) -> Self::F32;

    /// Runs the tile of `B` with that many rows and vectors. Each back end lists the shapes that
    /// fit its registers.
    ///
    /// # Safety
    /// As [`crate::gemm::tile::TileBody::run`].
    unsafe fn tile<B: crate::gemm::tile::TileBody<Self>>(
        self,
        rows: usize,
        vectors: usize,
        tile: crate::gemm::tile::Tile,
    );
}

/// A vector of `f32`.
pub(crate) trait F32s:
    Copy
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// The answer of a comparison, lane by lane.
    type Mask: Copy;

    /// `self * a + b`, with one rounding where the instruction set fuses.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// The smaller; if either is NaN, `other`.
    fn min(self, other: Self) -> Self;
    /// The larger; if either is NaN, `other`.
    fn max(self, other: Self) -> Self;
    /// The absolute value.
    fn abs(self) -> Self;
    /// The square root, correctly rounded; NaN below zero.
    fn sqrt(self) -> Self;
    /// The nearest integer, ties to even, for magnitudes below 2^22.
    fn round(self) -> Self;
    /// `self * 2^n` with one rounding, for integral `n` in [-252, 254] and finite `self` in
    /// [2^-1, 2^2] or NaN.
    fn scale2(self, n: Self) -> Self;
    /// The magnitude of `self` with the sign of `sign`.
    fn copysign(self, sign: Self) -> Self;
    /// `self < other`, false for NaN.
    fn lt(self, other: Self) -> Self::Mask;
    /// `yes` where the mask is set, `no` elsewhere.
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;
    /// Writes as many lanes as `out` has elements, at most all.
    fn store_prefix(self, out: &mut [f32]);
    /// # Safety
    /// - `out` is valid for writing all lanes; no alignment is needed.
    unsafe fn store_ptr(self, out: *mut f32);
    /// The sum of the lanes, halves added to halves: a fixed tree.
    fn reduce_sum(self) -> f32;
    /// The largest lane, of lanes without NaN.
    fn reduce_max(self) -> f32;
    /// Of lanes that hold the bits of `i32`: the difference, modulo 2^32, as such bits.
    fn sub_int(self, other: Self) -> Self;
    /// Of lanes that hold the bits of `i32`: the sum, modulo 2^32, as such bits.
    fn add_int(self, other: Self) -> Self;
    /// Of lanes that hold the bits of `u32`: the product, modulo 2^32, as such bits.
    fn mul_int(self, other: Self) -> Self;
    /// The bits that differ.
    fn xor_int(self, other: Self) -> Self;
    /// Of lanes that hold the bits of `u32`: the quotient by `2^n`, `n` below 32, as such bits.
    fn shift_right_int(self, n: u32) -> Self;
    /// Of lanes that hold the bits of `i32`: the nearest float, ties to even.
    fn int_to_float(self) -> Self;
    /// The nearest bfloat16, ties to even; NaN stays NaN.
    fn round_bf16(self) -> Self;
    /// The bits of two bfloat16 in each lane, the nearest to `self` below those to `odd`: of no
    /// meaning as a number.
    fn pair_bf16(self, odd: Self) -> Self;
    /// Writes the nearest bfloat16, as [`F32s::round_bf16`], of as many lanes as `out` has
    /// elements, at most all.
    fn store_bf16(self, out: &mut [u16]);
    /// Of lanes that are integers in [-128, 255]: writes the lowest byte of as many as `out` has
    /// elements, at most all. Other lanes give some byte.
    fn store_bytes(self, out: &mut [u8]);
    /// Of lanes that are integers in [-2^15, 2^15): writes as many as `out` has elements, at most
    /// all. Other lanes give some number.
    fn store_i16(self, out: &mut [i16]);
}

/// Runs an expression at a level: `dispatch!(level, s => kernel(s, x))`.
macro_rules! dispatch {
    ($level:expr, $s:ident => $body:expr) => {
        match $level.0 {
            $crate::level::Token::Portable($s) => $crate::simd::Simd::vectorize(
                $s,
                #[inline(always)]
                || $body,
            ),
            #[cfg(target_arch = "x86_64")]
            $crate::level::Token::Avx2($s) => $crate::simd::Simd::vectorize(
                $s,
                #[inline(always)]
                || $body,
            ),
            #[cfg(target_arch = "x86_64")]
            $crate::level::Token::Avx512($s) => $crate::simd::Simd::vectorize(
                $s,
                #[inline(always)]
                || $body,
            ),
        }
    };
}
pub(crate) use dispatch;

#[cfg(test)]
mod tests;
