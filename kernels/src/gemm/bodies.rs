//! The ways to multiply a group of inputs: one for each number format and instruction.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
#[cfg(target_arch = "x86_64")]
use std::mem::transmute;

use super::tile::TileBody;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx512, Avx512Bf16, Avx512Vnni};
use crate::simd::{F32s, Simd};

/// f32: one multiply-add for each input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fma;

impl<S: Simd> TileBody<S> for Fma {
    type Left = S::F32;
    type Right = S::F32;
    type Sum = S::F32;
    const LEFT_BYTES: usize = 4;
    const RIGHT_BYTES: usize = 4;

    #[inline(always)]
    unsafe fn enter<R>(s: S, f: impl FnOnce() -> R) -> R {
        s.vectorize(f)
    }

    #[inline(always)]
    unsafe fn left(s: S, a: *const u8) -> S::F32 {
        // SAFETY: the caller grants four bytes.
        s.splat(unsafe { a.cast::<f32>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn right(s: S, b: *const u8) -> S::F32 {
        // SAFETY: the caller grants a vector.
        unsafe { s.load_ptr(b.cast()) }
    }

    #[inline(always)]
    fn zero(s: S) -> S::F32 {
        s.splat(0.0)
    }

    #[inline(always)]
    unsafe fn add_products(_: S, sum: S::F32, a: S::F32, b: S::F32) -> S::F32 {
        a.mul_add(b, sum)
    }

    #[inline(always)]
    fn stored(_: S, sum: S::F32) -> S::F32 {
        sum
    }

    #[inline(always)]
    fn total(stored: S::F32, sum: S::F32) -> S::F32 {
        stored + sum
    }
}

/// bfloat16 where no instruction multiplies it: weights are widened in registers, the left operand
/// holds floats that were rounded to bfloat16. Every product of two is exact in f32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Widen;

impl<S: Simd> TileBody<S> for Widen {
    type Left = S::F32;
    type Right = S::F32;
    type Sum = S::F32;
    const LEFT_BYTES: usize = 4;
    const RIGHT_BYTES: usize = 2;

    #[inline(always)]
    unsafe fn enter<R>(s: S, f: impl FnOnce() -> R) -> R {
        s.vectorize(f)
    }

    #[inline(always)]
    unsafe fn left(s: S, a: *const u8) -> S::F32 {
        // SAFETY: the caller grants four bytes.
        s.splat(unsafe { a.cast::<f32>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn right(s: S, b: *const u8) -> S::F32 {
        // SAFETY: the caller grants a vector of bfloat16.
        unsafe { s.load_bf16(b.cast()) }
    }

    #[inline(always)]
    fn zero(s: S) -> S::F32 {
        s.splat(0.0)
    }

    #[inline(always)]
    unsafe fn add_products(_: S, sum: S::F32, a: S::F32, b: S::F32) -> S::F32 {
        a.mul_add(b, sum)
    }

    #[inline(always)]
    fn stored(_: S, sum: S::F32) -> S::F32 {
        sum
    }

    #[inline(always)]
    fn total(stored: S::F32, sum: S::F32) -> S::F32 {
        stored + sum
    }
}

/// int8 where no instruction multiplies bytes exactly: both operands become 16 bits wide, weights
/// in registers, and a pair of inputs is one multiply-add of integers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pairs;

impl<S: Simd> TileBody<S> for Pairs {
    type Left = S::Pairs;
    type Right = S::Pairs;
    type Sum = S::I32;
    const LEFT_BYTES: usize = 4;
    const RIGHT_BYTES: usize = 2;

    #[inline(always)]
    unsafe fn enter<R>(s: S, f: impl FnOnce() -> R) -> R {
        s.vectorize(f)
    }

    #[inline(always)]
    unsafe fn left(s: S, a: *const u8) -> S::Pairs {
        // SAFETY: the caller grants four bytes.
        s.splat_pair(unsafe { a.cast::<[i16; 2]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn right(s: S, b: *const u8) -> S::Pairs {
        // SAFETY: the caller grants two bytes for each lane.
        unsafe { s.load_pairs(b.cast()) }
    }

    #[inline(always)]
    fn zero(s: S) -> S::I32 {
        s.zero_i32()
    }

    #[inline(always)]
    unsafe fn add_products(s: S, sum: S::I32, a: S::Pairs, b: S::Pairs) -> S::I32 {
        s.dot_pairs(sum, a, b)
    }

    #[inline(always)]
    fn stored(s: S, sum: S::I32) -> S::F32 {
        s.as_bits(sum)
    }

    #[inline(always)]
    fn total(stored: S::F32, sum: S::F32) -> S::F32 {
        stored.add_int(sum)
    }
}

/// bfloat16 by AVX512-BF16: a pair of inputs is one instruction, which adds the two products one
/// after the other, rounds after each and flushes subnormal numbers.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bf16Dot(pub(crate) Avx512Bf16);

#[cfg(target_arch = "x86_64")]
impl TileBody<Avx512> for Bf16Dot {
    type Left = __m512i;
    type Right = __m512i;
    type Sum = __m512;
    const LEFT_BYTES: usize = 4;
    const RIGHT_BYTES: usize = 4;

    #[inline(always)]
    unsafe fn enter<R>(_: Avx512, f: impl FnOnce() -> R) -> R {
        #[inline]
        #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
        fn enter<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        // SAFETY: the caller vouches for the machine.
        unsafe { enter(f) }
    }

    #[inline(always)]
    unsafe fn left(_: Avx512, a: *const u8) -> __m512i {
        // SAFETY: the caller grants four bytes and the instruction set.
        unsafe { _mm512_set1_epi32(a.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn right(_: Avx512, b: *const u8) -> __m512i {
        // SAFETY: the caller grants a vector and the instruction set.
        unsafe { _mm512_loadu_si512(b.cast()) }
    }

    #[inline(always)]
    fn zero(_: Avx512) -> __m512 {
        // SAFETY: the token proves the instruction set.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn add_products(_: Avx512, sum: __m512, a: __m512i, b: __m512i) -> __m512 {
        // SAFETY: the caller grants the instruction set; the types are 64 bytes without padding.
        unsafe {
            _mm512_dpbf16_ps(
                sum,
                transmute::<__m512i, __m512bh>(a),
                transmute::<__m512i, __m512bh>(b),
            )
        }
    }

    #[inline(always)]
    fn stored(s: Avx512, sum: __m512) -> <Avx512 as Simd>::F32 {
        // SAFETY: the token proves the instruction set; a cast costs none.
        s.as_bits(unsafe { _mm512_castps_si512(sum) })
    }

    #[inline(always)]
    fn total(stored: <Avx512 as Simd>::F32, sum: <Avx512 as Simd>::F32) -> <Avx512 as Simd>::F32 {
        stored + sum
    }
}

/// int8 by AVX512-VNNI: four inputs are one instruction. Its left operand has no sign, and neither
/// have the integers of x: what their zero adds to a sum is taken off again in the epilogue.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vnni(pub(crate) Avx512Vnni);

#[cfg(target_arch = "x86_64")]
impl TileBody<Avx512> for Vnni {
    type Left = __m512i;
    type Right = __m512i;
    type Sum = __m512i;
    const LEFT_BYTES: usize = 4;
    const RIGHT_BYTES: usize = 4;

    #[inline(always)]
    unsafe fn enter<R>(_: Avx512, f: impl FnOnce() -> R) -> R {
        #[inline]
        #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        fn enter<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        // SAFETY: the caller vouches for the machine.
        unsafe { enter(f) }
    }

    #[inline(always)]
    unsafe fn left(_: Avx512, a: *const u8) -> __m512i {
        // SAFETY: the caller grants four bytes and the instruction set.
        unsafe { _mm512_set1_epi32(a.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn right(_: Avx512, b: *const u8) -> __m512i {
        // SAFETY: the caller grants a vector and the instruction set.
        unsafe { _mm512_loadu_si512(b.cast()) }
    }

    #[inline(always)]
    fn zero(s: Avx512) -> __m512i {
        s.zero_i32()
    }

    #[inline(always)]
    unsafe fn add_products(_: Avx512, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the caller grants the instruction set.
        unsafe { _mm512_dpbusd_epi32(sum, a, b) }
    }

    #[inline(always)]
    fn stored(s: Avx512, sum: __m512i) -> <Avx512 as Simd>::F32 {
        s.as_bits(sum)
    }

    #[inline(always)]
    fn total(stored: <Avx512 as Simd>::F32, sum: <Avx512 as Simd>::F32) -> <Avx512 as Simd>::F32 {
        stored.add_int(sum)
    }
}
