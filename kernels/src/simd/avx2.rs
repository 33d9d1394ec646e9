//! AVX2 with FMA: eight lanes in one of sixteen registers.

use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Neg, Sub};

use super::{F32s, Simd};
use crate::gemm::tile::{Tile, TileBody, tiles};

/// The proof that this machine executes AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// - The CPU and the operating system support AVX2 and FMA.
    pub(crate) unsafe fn assume_supported() -> Avx2 {
        Avx2(())
    }
}

/// Eight lanes.
#[derive(Clone, Copy)]
pub(crate) struct Lanes(__m256);

/// A comparison's answer: all bits of a lane set, or none.
#[derive(Clone, Copy)]
pub(crate) struct Mask(__m256);

/// Calls intrinsics, by the proof that a token or a vector is.
macro_rules! op {
    ($body:expr) => {
        // SAFETY: a token or a vector of this level is in scope or was in the caller's, and both
        // exist only after AVX2 and FMA were detected; the intrinsics used here touch registers alone.
        unsafe { $body }
    };
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn enter<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// The mask of the first `n` lanes, `n` at most 8.
///
/// # Safety
/// - The machine executes AVX2.
#[inline(always)]
unsafe fn prefix(n: usize) -> __m256i {
    const LANES: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let mask: &[i32; 8] = LANES[8 - n..].first_chunk().expect("n is at most 8");
    // SAFETY: the caller grants the instruction set; `mask` is 32 readable bytes.
    unsafe { _mm256_loadu_si256(mask.as_ptr().cast()) }
}

impl Simd for Avx2 {
    type F32 = Lanes;
    type I32 = __m256i;
    type Pairs = __m256i;

    const LANES: usize = 8;
    #[cfg(test)]
    const FUSED: bool = true;
    // 12 accumulators, 2 vectors of the weights and a broadcast leave one register spare. Two
    // loads and six broadcasts feed 12 multiply-adds.
    const TILE_ROWS: usize = 6;
    const TILE_VECTORS: usize = 2;

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        // SAFETY: the token proves that the machine executes what `enter` is compiled for.
        unsafe { enter(f) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Lanes {
        Lanes(op!(_mm256_set1_ps(x)))
    }

    #[inline(always)]
    fn load(self, x: &[f32]) -> Lanes {
        let x: &[f32; 8] = x.first_chunk().expect("a full vector");
        // SAFETY: the token proves the instruction set; `x` is eight readable elements.
        Lanes(unsafe { _mm256_loadu_ps(x.as_ptr()) })
    }

    #[inline(always)]
    fn load_or(self, x: &[f32], fill: f32) -> Lanes {
        // SAFETY: the token proves the instruction set.
        let mask = unsafe { prefix(x.len().min(8)) };
        // SAFETY: the token proves the instruction set; the masked load reads only lanes that lie
        // in `x`.
        let lanes = unsafe { _mm256_maskload_ps(x.as_ptr(), mask) };
        Lanes(op!(_mm256_blendv_ps(_mm256_set1_ps(fill), lanes, _mm256_castsi256_ps(mask))))
    }

    #[inline(always)]
    unsafe fn load_ptr(self, x: *const f32) -> Lanes {
        // SAFETY: the caller grants `LANES` elements.
        Lanes(unsafe { _mm256_loadu_ps(x) })
    }

    #[inline(always)]
    fn prefetch(self, x: *const u8) {
        // SAFETY: a prefetch reads nothing that a program can see, at any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(x.cast()) }
    }

    #[inline(always)]
    fn prefetch_write(self, x: *mut f32) {
        // SAFETY: a prefetch changes nothing that a program can see, at any address.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(x.cast_const().cast()) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, x: *const u16) -> Lanes {
        // SAFETY: the caller grants `LANES` elements.
        let x = unsafe { _mm_loadu_si128(x.cast()) };
        Lanes(op!(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(x)))))
    }

    #[inline(always)]
    unsafe fn load_pairs(self, x: *const i8) -> __m256i {
        // SAFETY: the caller grants `2 * LANES` elements.
        let x = unsafe { _mm_loadu_si128(x.cast()) };
        op!(_mm256_cvtepi8_epi16(x))
    }

    #[inline(always)]
    fn splat_pair(self, pair: [i16; 2]) -> __m256i {
        op!(_mm256_set1_epi32(bytemuck::cast(pair)))
    }

    #[inline(always)]
    fn zero_i32(self) -> __m256i {
        op!(_mm256_setzero_si256())
    }

    #[inline(always)]
    fn dot_pairs(self, sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_add_epi32(sum, _mm256_madd_epi16(a, b)))
    }

    #[inline(always)]
    fn as_bits(self, x: __m256i) -> Lanes {
        Lanes(op!(_mm256_castsi256_ps(x)))
    }

    #[inline(always)]
    unsafe fn tile<B: TileBody<Avx2>>(self, rows: usize, vectors: usize, tile: Tile) {
        // SAFETY: the contract is handed on.
        unsafe { tiles!(self, B, (rows, vectors), tile; [1 2 3 4 5 6] x [1 2]) }
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, $intrinsic:ident) => {
        impl $trait for Lanes {
            type Output = Lanes;
            #[inline(always)]
            fn $method(self, other: Lanes) -> Lanes {
                Lanes(op!($intrinsic(self.0, other.0)))
            }
        }
    };
}
operator!(Add, add, _mm256_add_ps);
operator!(Sub, sub, _mm256_sub_ps);
operator!(Mul, mul, _mm256_mul_ps);
operator!(Div, div, _mm256_div_ps);

impl Neg for Lanes {
    type Output = Lanes;
    #[inline(always)]
    fn neg(self) -> Lanes {
        Lanes(op!(_mm256_xor_ps(self.0, _mm256_set1_ps(-0.0))))
    }
}

/// `2^n`, for integral `n` in [-126, 127].
#[inline(always)]
fn exp2_int(n: Lanes) -> Lanes {
    op!({
        let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n.0), _mm256_set1_epi32(127));
        Lanes(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased)))
    })
}

/// The nearest bfloat16 in the lower half of each lane, ties to even; NaN stays NaN.
#[inline(always)]
fn bf16_bits(x: Lanes) -> __m256i {
    op!({
        let bits = _mm256_castps_si256(x.0);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
        let rounded = _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, half));
        let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x.0, x.0));
        _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0), nan)
    })
}

/// The lowest 16 bits of each lane.
#[inline(always)]
fn low_halves(x: __m256i) -> [i16; 8] {
    let halves = op!({
        let x = _mm256_and_si256(x, _mm256_set1_epi32(0xffff));
        let (low, high) = (_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
        _mm_packus_epi32(low, high)
    });
    // SAFETY: both are sixteen bytes without padding.
    unsafe { std::mem::transmute(halves) }
}

impl F32s for Lanes {
    type Mask = Mask;

    #[inline(always)]
    fn mul_add(self, a: Lanes, b: Lanes) -> Lanes {
        Lanes(op!(_mm256_fmadd_ps(self.0, a.0, b.0)))
    }

    #[inline(always)]
    fn min(self, other: Lanes) -> Lanes {
        Lanes(op!(_mm256_min_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn max(self, other: Lanes) -> Lanes {
        Lanes(op!(_mm256_max_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn abs(self) -> Lanes {
        Lanes(op!(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0)))
    }

    #[inline(always)]
    fn sqrt(self) -> Lanes {
        Lanes(op!(_mm256_sqrt_ps(self.0)))
    }

    #[inline(always)]
    fn round(self) -> Lanes {
        Lanes(op!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0)))
    }

    #[inline(always)]
    fn scale2(self, n: Lanes) -> Lanes {
        // Two steps, since 2^n itself may be out of range; only the second can round.
        let half = Lanes(op!(_mm256_mul_ps(n.0, _mm256_set1_ps(0.5)))).round();
        self * exp2_int(half) * exp2_int(n - half)
    }

    #[inline(always)]
    fn copysign(self, sign: Lanes) -> Lanes {
        op!({
            let sign = _mm256_and_ps(_mm256_set1_ps(-0.0), sign.0);
            Lanes(_mm256_or_ps(sign, self.abs().0))
        })
    }

    #[inline(always)]
    fn lt(self, other: Lanes) -> Mask {
        Mask(op!(_mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0)))
    }

    #[inline(always)]
    fn select(mask: Mask, yes: Lanes, no: Lanes) -> Lanes {
        Lanes(op!(_mm256_blendv_ps(no.0, yes.0, mask.0)))
    }

    #[inline(always)]
    fn store_prefix(self, out: &mut [f32]) {
        // SAFETY: the vector proves the instruction set.
        let mask = unsafe { prefix(out.len().min(8)) };
        // SAFETY: the vector proves the instruction set; the masked store writes only lanes that
        // lie in `out`.
        unsafe { _mm256_maskstore_ps(out.as_mut_ptr(), mask, self.0) }
    }

    #[inline(always)]
    unsafe fn store_ptr(self, out: *mut f32) {
        // SAFETY: the caller grants all lanes.
        unsafe { _mm256_storeu_ps(out, self.0) }
    }

    #[inline(always)]
    fn reduce_sum(self) -> f32 {
        op!({
            let x = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        })
    }

    #[inline(always)]
    fn reduce_max(self) -> f32 {
        op!({
            let x = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
        })
    }

    #[inline(always)]
    fn sub_int(self, other: Lanes) -> Lanes {
        op!({
            let (x, y) = (_mm256_castps_si256(self.0), _mm256_castps_si256(other.0));
            Lanes(_mm256_castsi256_ps(_mm256_sub_epi32(x, y)))
        })
    }

    #[inline(always)]
    fn add_int(self, other: Lanes) -> Lanes {
        op!({
            let (x, y) = (_mm256_castps_si256(self.0), _mm256_castps_si256(other.0));
            Lanes(_mm256_castsi256_ps(_mm256_add_epi32(x, y)))
        })
    }

    #[inline(always)]
    fn mul_int(self, other: Lanes) -> Lanes {
        op!({
            let (x, y) = (_mm256_castps_si256(self.0), _mm256_castps_si256(other.0));
            Lanes(_mm256_castsi256_ps(_mm256_mullo_epi32(x, y)))
        })
    }

    #[inline(always)]
    fn xor_int(self, other: Lanes) -> Lanes {
        Lanes(op!(_mm256_xor_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn shift_right_int(self, n: u32) -> Lanes {
        op!({
            let n = _mm256_set1_epi32(n as i32);
            Lanes(_mm256_castsi256_ps(_mm256_srlv_epi32(_mm256_castps_si256(self.0), n)))
        })
    }

    #[inline(always)]
    fn int_to_float(self) -> Lanes {
        Lanes(op!(_mm256_cvtepi32_ps(_mm256_castps_si256(self.0))))
    }

    #[inline(always)]
    fn round_bf16(self) -> Lanes {
        Lanes(op!(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(bf16_bits(self)))))
    }

    #[inline(always)]
    fn pair_bf16(self, odd: Lanes) -> Lanes {
        op!({
            let odd = _mm256_slli_epi32::<16>(bf16_bits(odd));
            Lanes(_mm256_castsi256_ps(_mm256_or_si256(odd, bf16_bits(self))))
        })
    }

    #[inline(always)]
    fn store_bf16(self, out: &mut [u16]) {
        let n = out.len().min(8);
        out[..n].copy_from_slice(bytemuck::cast_slice(&low_halves(bf16_bits(self))[..n]));
    }

    #[inline(always)]
    fn store_bytes(self, out: &mut [u8]) {
        let halves = low_halves(op!(_mm256_cvtps_epi32(self.0)));
        out.iter_mut().zip(halves).for_each(|(out, x)| *out = x as u8);
    }

    #[inline(always)]
    fn store_i16(self, out: &mut [i16]) {
        let n = out.len().min(8);
        out[..n].copy_from_slice(&low_halves(op!(_mm256_cvtps_epi32(self.0)))[..n]);
    }
}
