//! The level every CPU has: eight lanes of the `wide` crate, which picks its instructions at
//! compile time (two SSE2 registers on default x86-64, two NEON registers on aarch64).

use std::ops::{Add, Div, Mul, Neg, Sub};

use wide::{f32x8, i8x16, i16x16, i32x8, u32x8};

use super::{F32s, Simd};
use crate::gemm::tile::{Tile, TileBody, tiles};

/// The token of the portable level, which needs no proof.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable(());

impl Portable {
    pub(crate) fn new() -> Portable {
        Portable(())
    }
}

/// Eight lanes.
#[derive(Clone, Copy)]
pub(crate) struct Lanes(f32x8);

impl Simd for Portable {
    type F32 = Lanes;
    type I32 = i32x8;
    type Pairs = i16x16;

    const LANES: usize = 8;
    #[cfg(test)]
    const FUSED: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));
    // One vector is two SSE2 registers: 4 x 1 vectors take 8 of the 16 registers, and leave room
    // for the operands and for the product that is not fused.
    const TILE_ROWS: usize = 4;
    const TILE_VECTORS: usize = 1;

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        f()
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Lanes {
        Lanes(f32x8::splat(x))
    }

    #[inline(always)]
    fn load(self, x: &[f32]) -> Lanes {
        Lanes(f32x8::from(*x.first_chunk::<8>().expect("a full vector")))
    }

    #[inline(always)]
    fn load_or(self, x: &[f32], fill: f32) -> Lanes {
        let mut lanes = [fill; 8];
        let n = x.len().min(8);
        lanes[..n].copy_from_slice(&x[..n]);
        Lanes(f32x8::from(lanes))
    }

    #[inline(always)]
    unsafe fn load_ptr(self, x: *const f32) -> Lanes {
        // SAFETY: the caller grants `LANES` elements; the read needs no alignment.
        Lanes(f32x8::from(unsafe { x.cast::<[f32; 8]>().read_unaligned() }))
    }

    #[inline(always)]
    fn prefetch(self, _: *const u8) {}

    #[inline(always)]
    fn prefetch_write(self, _: *mut f32) {}

    #[inline(always)]
    unsafe fn load_bf16(self, x: *const u16) -> Lanes {
        // SAFETY: the caller grants `LANES` elements; the read needs no alignment.
        let x = unsafe { x.cast::<[u16; 8]>().read_unaligned() };
        Lanes(f32x8::from(x.map(|x| f32::from_bits(u32::from(x) << 16))))
    }

    #[inline(always)]
    unsafe fn load_pairs(self, x: *const i8) -> i16x16 {
        // SAFETY: the caller grants `2 * LANES` elements; the read needs no alignment.
        let x = unsafe { x.cast::<[i8; 16]>().read_unaligned() };
        i16x16::from_i8x16(i8x16::from(x))
    }

    #[inline(always)]
    fn splat_pair(self, pair: [i16; 2]) -> i16x16 {
        bytemuck::cast(i32x8::splat(bytemuck::cast(pair)))
    }

    #[inline(always)]
    fn zero_i32(self) -> i32x8 {
        i32x8::splat(0)
    }

    #[inline(always)]
    fn dot_pairs(self, sum: i32x8, a: i16x16, b: i16x16) -> i32x8 {
        sum + a.dot(b)
    }

    #[inline(always)]
    fn as_bits(self, x: i32x8) -> Lanes {
        Lanes(bytemuck::cast(x))
    }

    #[inline(always)]
    unsafe fn tile<B: TileBody<Portable>>(self, rows: usize, vectors: usize, tile: Tile) {
        // SAFETY: the contract is handed on.
        unsafe { tiles!(self, B, (rows, vectors), tile; [1 2 3 4] x [1]) }
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident) => {
        impl $trait for Lanes {
            type Output = Lanes;
            #[inline(always)]
            fn $method(self, other: Lanes) -> Lanes {
                Lanes($trait::$method(self.0, other.0))
            }
        }
    };
}
operator!(Add, add);
operator!(Sub, sub);
operator!(Mul, mul);
operator!(Div, div);

impl Neg for Lanes {
    type Output = Lanes;
    #[inline(always)]
    fn neg(self) -> Lanes {
        Lanes(-self.0)
    }
}

/// `2^n`, for integral `n` in [-126, 127]: adding 2^23 + 127 leaves `n + 127` in the lowest bits
/// of the mantissa, and a shift makes them the exponent.
#[inline(always)]
fn exp2_int(n: f32x8) -> f32x8 {
    let biased: i32x8 = bytemuck::cast(n + f32x8::splat(8_388_608.0 + 127.0));
    bytemuck::cast(biased << 23)
}

/// The bits of the lanes as integers.
#[inline(always)]
fn bits(x: Lanes) -> i32x8 {
    bytemuck::cast(x.0)
}

impl F32s for Lanes {
    type Mask = f32x8;

    #[inline(always)]
    fn mul_add(self, a: Lanes, b: Lanes) -> Lanes {
        Lanes(self.0.mul_add(a.0, b.0))
    }

    #[inline(always)]
    fn min(self, other: Lanes) -> Lanes {
        // Not `fast_min`: off x86 it treats NaN otherwise.
        Self::select(self.lt(other), self, other)
    }

    #[inline(always)]
    fn max(self, other: Lanes) -> Lanes {
        // Not `fast_max`: off x86 it treats NaN otherwise.
        Self::select(other.lt(self), self, other)
    }

    #[inline(always)]
    fn abs(self) -> Lanes {
        Lanes(self.0.abs())
    }

    #[inline(always)]
    fn sqrt(self) -> Lanes {
        Lanes(self.0.sqrt())
    }

    #[inline(always)]
    fn round(self) -> Lanes {
        // Beyond 1.5 * 2^23 the spacing of f32 is one, so the addition rounds to an integer.
        let magic = f32x8::splat(12_582_912.0);
        Lanes((self.0 + magic) - magic)
    }

    #[inline(always)]
    fn scale2(self, n: Lanes) -> Lanes {
        // Two steps, since 2^n itself may be out of range; only the second can round.
        let half = Lanes(n.0 * f32x8::splat(0.5)).round().0;
        Lanes(self.0 * exp2_int(half) * exp2_int(n.0 - half))
    }

    #[inline(always)]
    fn copysign(self, sign: Lanes) -> Lanes {
        let sign_bit = f32x8::splat(-0.0);
        Lanes((sign.0 & sign_bit) | self.0.abs())
    }

    #[inline(always)]
    fn lt(self, other: Lanes) -> f32x8 {
        self.0.simd_lt(other.0)
    }

    #[inline(always)]
    fn select(mask: f32x8, yes: Lanes, no: Lanes) -> Lanes {
        Lanes(mask.bitselect(yes.0, no.0))
    }

    #[inline(always)]
    fn store_prefix(self, out: &mut [f32]) {
        let n = out.len().min(8);
        out[..n].copy_from_slice(&self.0.to_array()[..n]);
    }

    #[inline(always)]
    unsafe fn store_ptr(self, out: *mut f32) {
        // SAFETY: the caller grants all lanes; the write needs no alignment.
        unsafe { out.cast::<[f32; 8]>().write_unaligned(self.0.to_array()) }
    }

    #[inline(always)]
    fn reduce_sum(self) -> f32 {
        let [a, b, c, d, e, f, g, h] = self.0.to_array();
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }

    #[inline(always)]
    fn reduce_max(self) -> f32 {
        self.0.to_array().into_iter().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a })
    }

    #[inline(always)]
    fn sub_int(self, other: Lanes) -> Lanes {
        Lanes(bytemuck::cast(bits(self) - bits(other)))
    }

    #[inline(always)]
    fn add_int(self, other: Lanes) -> Lanes {
        Lanes(bytemuck::cast(bits(self) + bits(other)))
    }

    #[inline(always)]
    fn mul_int(self, other: Lanes) -> Lanes {
        Lanes(bytemuck::cast(bits(self) * bits(other)))
    }

    #[inline(always)]
    fn xor_int(self, other: Lanes) -> Lanes {
        Lanes(self.0 ^ other.0)
    }

    #[inline(always)]
    fn shift_right_int(self, n: u32) -> Lanes {
        let x: u32x8 = bytemuck::cast(self.0);
        Lanes(bytemuck::cast(x >> n))
    }

    #[inline(always)]
    fn int_to_float(self) -> Lanes {
        Lanes(bits(self).round_float())
    }

    #[inline(always)]
    fn round_bf16(self) -> Lanes {
        let x: u32x8 = bytemuck::cast(self.0);
        let rounded = (x + u32x8::splat(0x7fff) + ((x >> 16) & u32x8::splat(1))) >> 16 << 16;
        let nan = self.0.simd_ne(self.0);
        Lanes(nan.bitselect(f32x8::splat(f32::NAN), bytemuck::cast(rounded)))
    }

    #[inline(always)]
    fn pair_bf16(self, odd: Lanes) -> Lanes {
        let even: u32x8 = bytemuck::cast(self.round_bf16().0);
        let odd: u32x8 = bytemuck::cast(odd.round_bf16().0);
        Lanes(bytemuck::cast(odd | (even >> 16)))
    }

    #[inline(always)]
    fn store_bf16(self, out: &mut [u16]) {
        let rounded: [u32; 8] = bytemuck::cast(self.round_bf16().0);
        out.iter_mut().zip(rounded).for_each(|(out, x)| *out = (x >> 16) as u16);
    }

    #[inline(always)]
    fn store_bytes(self, out: &mut [u8]) {
        out.iter_mut().zip(self.0.to_array()).for_each(|(out, x)| *out = x as i32 as u8);
    }

    #[inline(always)]
    fn store_i16(self, out: &mut [i16]) {
        out.iter_mut().zip(self.0.to_array()).for_each(|(out, x)| *out = x as i32 as i16);
    }
}
