//! AVX-512 (F, BW, DQ, VL): sixteen lanes in one of thirty-two registers, tails by mask.

use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Neg, Sub};

use super::{F32s, Simd};
use crate::gemm::tile::{Tile, TileBody, tiles};

/// The proof that this machine executes AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// # Safety
    /// - The CPU and the operating system support AVX2, FMA and AVX-512 F, BW, DQ, VL.
    pub(crate) unsafe fn assume_supported() -> Avx512 {
        Avx512(())
    }
}

/// The proof that this machine also executes AVX512-VNNI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512Vnni(());

impl Avx512Vnni {
    /// # Safety
    /// - The CPU and the operating system support AVX512-VNNI and what [`Avx512`] stands for.
    pub(crate) unsafe fn assume_supported() -> Avx512Vnni {
        Avx512Vnni(())
    }
}

/// The proof that this machine also executes AVX512-BF16.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512Bf16(());

impl Avx512Bf16 {
    /// # Safety
    /// - The CPU and the operating system support AVX512-BF16 and what [`Avx512`] stands for.
    pub(crate) unsafe fn assume_supported() -> Avx512Bf16 {
        Avx512Bf16(())
    }
}

/// Sixteen lanes.
#[derive(Clone, Copy)]
pub(crate) struct Lanes(__m512);

/// Calls intrinsics, by the proof that a token or a vector is.
macro_rules! op {
    ($body:expr) => {
        // SAFETY: a token or a vector of this level is in scope, and both exist only after its
        // features were detected; the intrinsics used here touch registers alone.
        unsafe { $body }
    };
}

#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn enter<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// The mask of the first `n` lanes, `n` at most 16.
#[inline(always)]
fn prefix(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

impl Simd for Avx512 {
    type F32 = Lanes;
    type I32 = __m512i;
    type Pairs = __m512i;

    const LANES: usize = 16;
    #[cfg(test)]
    const FUSED: bool = true;
    // 24 accumulators and three vectors of the weights: 11 loads feed 24 multiply-adds, and both
    // 8 and 48 divide the sizes of published BERTs (48 * 16 = 768, 48 * 8 = 384).
    const TILE_ROWS: usize = 8;
    const TILE_VECTORS: usize = 3;

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        // SAFETY: the token proves that the machine executes what `enter` is compiled for.
        unsafe { enter(f) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Lanes {
        Lanes(op!(_mm512_set1_ps(x)))
    }

    #[inline(always)]
    fn load(self, x: &[f32]) -> Lanes {
        let x: &[f32; 16] = x.first_chunk().expect("a full vector");
        // SAFETY: the token proves the instruction set; `x` is sixteen readable elements.
        Lanes(unsafe { _mm512_loadu_ps(x.as_ptr()) })
    }

    #[inline(always)]
    fn load_or(self, x: &[f32], fill: f32) -> Lanes {
        let mask = prefix(x.len().min(16));
        // SAFETY: the token proves the instruction set; the masked load reads only lanes that lie
        // in `x`.
        Lanes(unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(fill), mask, x.as_ptr()) })
    }

    #[inline(always)]
    unsafe fn load_ptr(self, x: *const f32) -> Lanes {
        // SAFETY: the caller grants `LANES` elements.
        Lanes(unsafe { _mm512_loadu_ps(x) })
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
        let x = unsafe { _mm256_loadu_si256(x.cast()) };
        Lanes(op!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(x)))))
    }

    #[inline(always)]
    unsafe fn load_pairs(self, x: *const i8) -> __m512i {
        // SAFETY: the caller grants `2 * LANES` elements.
        let x = unsafe { _mm256_loadu_si256(x.cast()) };
        op!(_mm512_cvtepi8_epi16(x))
    }

    #[inline(always)]
    fn splat_pair(self, pair: [i16; 2]) -> __m512i {
        op!(_mm512_set1_epi32(bytemuck::cast(pair)))
    }

    #[inline(always)]
    fn zero_i32(self) -> __m512i {
        op!(_mm512_setzero_si512())
    }

    #[inline(always)]
    fn dot_pairs(self, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_add_epi32(sum, _mm512_madd_epi16(a, b)))
    }

    #[inline(always)]
    fn as_bits(self, x: __m512i) -> Lanes {
        Lanes(op!(_mm512_castsi512_ps(x)))
    }

    #[inline(always)]
    unsafe fn tile<B: TileBody<Avx512>>(self, rows: usize, vectors: usize, tile: Tile) {
        // SAFETY: the contract is handed on.
        unsafe { tiles!(self, B, (rows, vectors), tile; [1 2 3 4 5 6 7 8] x [1 2 3]) }
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
operator!(Add, add, _mm512_add_ps);
operator!(Sub, sub, _mm512_sub_ps);
operator!(Mul, mul, _mm512_mul_ps);
operator!(Div, div, _mm512_div_ps);

impl Neg for Lanes {
    type Output = Lanes;
    #[inline(always)]
    fn neg(self) -> Lanes {
        Lanes(op!(_mm512_xor_ps(self.0, _mm512_set1_ps(-0.0))))
    }
}

/// The nearest bfloat16 in the lower half of each lane, ties to even; NaN stays NaN. (The instruction
/// for it, of AVX512-BF16, flushes subnormal numbers; this is the same at all levels.)
#[inline(always)]
fn bf16_bits(x: Lanes) -> __m512i {
    op!({
        let bits = _mm512_castps_si512(x.0);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
        let rounded = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, half));
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x.0, x.0);
        _mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fc0))
    })
}

impl F32s for Lanes {
    type Mask = __mmask16;

    #[inline(always)]
    fn mul_add(self, a: Lanes, b: Lanes) -> Lanes {
        Lanes(op!(_mm512_fmadd_ps(self.0, a.0, b.0)))
    }

    #[inline(always)]
    fn min(self, other: Lanes) -> Lanes {
        Lanes(op!(_mm512_min_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn max(self, other: Lanes) -> Lanes {
        Lanes(op!(_mm512_max_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn abs(self) -> Lanes {
        Lanes(op!(_mm512_abs_ps(self.0)))
    }

    #[inline(always)]
    fn sqrt(self) -> Lanes {
        Lanes(op!(_mm512_sqrt_ps(self.0)))
    }

    #[inline(always)]
    fn round(self) -> Lanes {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        Lanes(op!(_mm512_roundscale_ps::<NEAREST>(self.0)))
    }

    #[inline(always)]
    fn scale2(self, n: Lanes) -> Lanes {
        Lanes(op!(_mm512_scalef_ps(self.0, n.0)))
    }

    #[inline(always)]
    fn copysign(self, sign: Lanes) -> Lanes {
        op!({
            let sign = _mm512_and_ps(_mm512_set1_ps(-0.0), sign.0);
            Lanes(_mm512_or_ps(sign, self.abs().0))
        })
    }

    #[inline(always)]
    fn lt(self, other: Lanes) -> __mmask16 {
        op!(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, other.0))
    }

    #[inline(always)]
    fn select(mask: __mmask16, yes: Lanes, no: Lanes) -> Lanes {
        Lanes(op!(_mm512_mask_blend_ps(mask, no.0, yes.0)))
    }

    #[inline(always)]
    fn store_prefix(self, out: &mut [f32]) {
        let mask = prefix(out.len().min(16));
        // SAFETY: the vector proves the instruction set; the masked store writes only lanes that
        // lie in `out`.
        unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), mask, self.0) }
    }

    #[inline(always)]
    unsafe fn store_ptr(self, out: *mut f32) {
        // SAFETY: the caller grants all lanes.
        unsafe { _mm512_storeu_ps(out, self.0) }
    }

    #[inline(always)]
    fn reduce_sum(self) -> f32 {
        op!({
            let upper = _mm512_extractf32x8_ps::<1>(self.0);
            let x = _mm256_add_ps(_mm512_castps512_ps256(self.0), upper);
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        })
    }

    #[inline(always)]
    fn reduce_max(self) -> f32 {
        op!({
            let upper = _mm512_extractf32x8_ps::<1>(self.0);
            let x = _mm256_max_ps(_mm512_castps512_ps256(self.0), upper);
            let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
        })
    }

    #[inline(always)]
    fn sub_int(self, other: Lanes) -> Lanes {
        op!({
            let (x, y) = (_mm512_castps_si512(self.0), _mm512_castps_si512(other.0));
            Lanes(_mm512_castsi512_ps(_mm512_sub_epi32(x, y)))
        })
    }

    #[inline(always)]
    fn add_int(self, other: Lanes) -> Lanes {
        op!({
            let (x, y) = (_mm512_castps_si512(self.0), _mm512_castps_si512(other.0));
            Lanes(_mm512_castsi512_ps(_mm512_add_epi32(x, y)))
        })
    }

    #[inline(always)]
    fn mul_int(self, other: Lanes) -> Lanes {
        op!({
            let (x, y) = (_mm512_castps_si512(self.0), _mm512_castps_si512(other.0));
            Lanes(_mm512_castsi512_ps(_mm512_mullo_epi32(x, y)))
        })
    }

    #[inline(always)]
    fn xor_int(self, other: Lanes) -> Lanes {
        Lanes(op!(_mm512_xor_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn shift_right_int(self, n: u32) -> Lanes {
        op!({
            let n = _mm512_set1_epi32(n as i32);
            Lanes(_mm512_castsi512_ps(_mm512_srlv_epi32(_mm512_castps_si512(self.0), n)))
        })
    }

    #[inline(always)]
    fn int_to_float(self) -> Lanes {
        Lanes(op!(_mm512_cvtepi32_ps(_mm512_castps_si512(self.0))))
    }

    #[inline(always)]
    fn round_bf16(self) -> Lanes {
        Lanes(op!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(bf16_bits(self)))))
    }

    #[inline(always)]
    fn pair_bf16(self, odd: Lanes) -> Lanes {
        op!({
            let odd = _mm512_slli_epi32::<16>(bf16_bits(odd));
            Lanes(_mm512_castsi512_ps(_mm512_or_si512(odd, bf16_bits(self))))
        })
    }

    #[inline(always)]
    fn store_bf16(self, out: &mut [u16]) {
        let mask = prefix(out.len().min(16));
        // SAFETY: the vector proves the instruction set; the masked store writes only lanes that
        // lie in `out`.
        unsafe { _mm512_mask_cvtepi32_storeu_epi16(out.as_mut_ptr().cast(), mask, bf16_bits(self)) }
    }

    #[inline(always)]
    fn store_bytes(self, out: &mut [u8]) {
        let mask = prefix(out.len().min(16));
        // SAFETY: the vector proves the instruction set; the masked store writes only lanes that
        // lie in `out`.
        unsafe {
            let x = _mm512_cvtps_epi32(self.0);
            _mm512_mask_cvtepi32_storeu_epi8(out.as_mut_ptr().cast(), mask, x)
        }
    }

    #[inline(always)]
    fn store_i16(self, out: &mut [i16]) {
        let mask = prefix(out.len().min(16));
        // SAFETY: the vector proves the instruction set; the masked store writes only lanes that
        // lie in `out`.
        unsafe {
            let x = _mm512_cvtps_epi32(self.0);
            _mm512_mask_cvtepi32_storeu_epi16(out.as_mut_ptr(), mask, x)
        }
    }
}
