//! The derivatives of the activation functions.

use super::{Activation, relu};
use crate::math::{exp, normal_cdf_lower, tanh};
use crate::parallel::{rows_per_thread, share};
use crate::rows::for_each_vector;
use crate::simd::{F32s, Simd, dispatch};
use crate::{Level, MatMut};

impl Activation {
    /// The backward pass of h = f(u), in one pass over both: `u` becomes h, with the bits of
    /// [`Activation::apply_rows`], and `dh` becomes du = dh f'(u). So a forward pass keeps u alone.
    ///
    /// The error of f'(u) is at most 4 ULP or 4e-7, whichever is larger; that of [`Relu`] is exactly
    /// 0 or 1, and 0 at 0. Each has its limit at the infinities, and NaN stays NaN. Threads share
    /// the rows.
    ///
    /// [`Relu`]: Activation::Relu
    ///
    /// # Panics
    /// If the shapes differ.
    #[track_caller]
    pub fn backward(self, level: Level, u: MatMut<'_>, dh: MatMut<'_>) {
        assert_eq!(u.shape(), dh.shape(), "Activation::backward: shapes of u and of dh");
        let step = rows_per_thread(u.rows(), u.cols());
        share((u, dh), step, 1, &|_, (mut u, mut dh): (MatMut<'_>, MatMut<'_>)| {
            dispatch!(level, s => {
                for row in 0..u.rows() {
                    self.backward_row(s, u.row_mut(row), dh.row_mut(row));
                }
            })
        });
    }

    #[inline(always)]
    fn backward_row<S: Simd>(self, s: S, u: &mut [f32], dh: &mut [f32]) {
        // One loop for each function, not one choice for each vector.
        macro_rules! map {
            ($activation:ident) => {
                for_each_vector(
                    s,
                    u.len(),
                    #[inline(always)]
                    |at| {
                        let x = s.load_or(&u[at.clone()], 0.0);
                        let (h, slope) = Activation::$activation.with_slope(s, x);
                        h.store_prefix(&mut u[at.clone()]);
                        let dh = &mut dh[at];
                        (s.load_or(dh, 0.0) * slope).store_prefix(dh);
                    },
                )
            };
        }
        match self {
            Activation::Gelu => map!(Gelu),
            Activation::GeluTanh => map!(GeluTanh),
            Activation::Relu => map!(Relu),
            Activation::Tanh => map!(Tanh),
        }
    }

    /// The images of the lanes of `x` and the derivatives there. What both need, the compiler
    /// computes once.
    #[inline(always)]
    fn with_slope<S: Simd>(self, s: S, x: S::F32) -> (S::F32, S::F32) {
        let slope = match self {
            Activation::Gelu => gelu_slope(s, x),
            Activation::GeluTanh => gelu_tanh_slope(s, x),
            Activation::Relu => relu_slope(s, x),
            Activation::Tanh => tanh_slope(s, x),
        };
        (self.apply_vector(s, x), slope)
    }
}

/// 1 for positive x, else 0.
#[inline(always)]
fn relu_slope<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let zero = s.splat(0.0);
    // Elsewhere the image is zero, or NaN.
    S::F32::select(zero.lt(x), s.splat(1.0), relu(s, x).abs() * zero)
}

/// Phi(x) + x phi(x), where Phi(x) = 1 - Phi(-x) and phi is the density.
#[inline(always)]
fn gelu_slope<S: Simd>(s: S, x: S::F32) -> S::F32 {
    /// 1 / sqrt(2 pi).
    const PEAK: f32 = 0.398_942_3;
    let lower = normal_cdf_lower(s, s.splat(-12.0).max(-x.abs()));
    let cdf = S::F32::select(x.lt(s.splat(0.0)), lower, s.splat(1.0) - lower);
    // Beyond 15 the density is zero: with the limit, the product at infinity as well.
    let near = s.splat(-15.0).max(s.splat(15.0).min(x));
    let density = exp(s, near * near * s.splat(-0.5)) * s.splat(PEAK);
    near.mul_add(density, cdf)
}

/// q + x q (1 - q) t' with q = 1 / (1 + e^(-t)) and t = 2 sqrt(2/pi) (x + 0.044715 x^3).
#[inline(always)]
fn gelu_tanh_slope<S: Simd>(s: S, x: S::F32) -> S::F32 {
    /// -2 sqrt(2/pi), and 0.044715 times it: as in the forward pass.
    const LINEAR: f32 = -1.595_769_2;
    const CUBIC: f32 = -0.071_354_814;
    let one = s.splat(1.0);
    // As in the forward pass below; above, the power is zero.
    let x = s.splat(-11.0).max(x);
    let power = exp(s, x * (x * x).mul_add(s.splat(CUBIC), s.splat(LINEAR)));
    let q = one / (one + power);
    // 1 - q cancels where q is large, and the power overflows where q is small.
    let rest = S::F32::select(x.lt(s.splat(0.0)), one - q, power * q);
    let near = s.splat(11.0).min(x);
    let inner = near * (near * near).mul_add(s.splat(-3.0 * CUBIC), s.splat(-LINEAR));
    (q * rest).mul_add(inner, q)
}

/// 1 - tanh^2 x, as a product that does not round before it subtracts.
#[inline(always)]
fn tanh_slope<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let h = tanh(s, x);
    (s.splat(1.0) - h) * (s.splat(1.0) + h)
}

#[cfg(test)]
mod tests;
