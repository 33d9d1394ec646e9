//! Activation functions, element by element.

mod backward;

use std::ops::Range;

use crate::math::{exp, normal_cdf_lower, tanh};
use crate::rows::map_vectors;
use crate::simd::{F32s, Simd, dispatch};
use crate::{Level, MatMut};

/// An element-wise activation function. Each maps NaN to NaN, and each has its limits at the
/// infinities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Activation {
    /// x Phi(x), the Gaussian error linear unit (Hendrycks and Gimpel 2016), which is
    /// x/2 (1 + erf(x / sqrt 2)): within 4 ULP or 1e-7, whichever is larger, and without the
    /// cancellation of the second form, so that its tail falls to zero as it should. The
    /// activation of BERT.
    Gelu,
    /// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the same paper's approximation ("gelu_new"):
    /// within 4 ULP or 1e-7, whichever is larger.
    GeluTanh,
    /// max(x, 0), exactly. The activation of the Transformer (Vaswani et al. 2017, section 3.3).
    Relu,
    /// tanh x, within 3 ULP. The activation of BERT's pooler.
    Tanh,
}

impl Activation {
    /// Replaces every element of `x` by its image.
    pub fn apply(self, level: Level, x: &mut [f32]) {
        dispatch!(level, s => self.apply_row(s, x))
    }

    /// Replaces every element of the rows of `x` by its image.
    pub fn apply_rows(self, level: Level, mut x: MatMut<'_>) {
        dispatch!(level, s => {
            for row in 0..x.rows() {
                self.apply_row(s, x.row_mut(row));
            }
        })
    }

    /// Replaces every element of `x` by its image.
    #[inline(always)]
    pub(crate) fn apply_row<S: Simd>(self, s: S, x: &mut [f32]) {
        self.apply_to(
            s,
            x,
            #[inline(always)]
            |_, x| x,
        );
    }

    /// Replaces each vector of `x` by the image of `input(its range, itself)`.
    #[inline(always)]
    pub(crate) fn apply_to<S: Simd>(
        self,
        s: S,
        x: &mut [f32],
        input: impl Fn(Range<usize>, S::F32) -> S::F32,
    ) {
        // One loop for each function, not one choice for each vector.
        macro_rules! map {
            ($activation:ident) => {
                map_vectors(
                    s,
                    x,
                    #[inline(always)]
                    |at, x| Activation::$activation.apply_vector(s, input(at, x)),
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

    /// The images of the lanes of `x`.
    #[inline(always)]
    pub(crate) fn apply_vector<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        match self {
            Activation::Gelu => gelu(s, x),
            Activation::GeluTanh => gelu_tanh(s, x),
            Activation::Relu => relu(s, x),
            Activation::Tanh => tanh(s, x),
        }
    }
}

/// max(x, 0); in this order NaN and -0 pass.
#[inline(always)]
fn relu<S: Simd>(s: S, x: S::F32) -> S::F32 {
    s.splat(0.0).max(x)
}

/// x Phi(x) = max(x, 0) - |x| Phi(-|x|), since Phi(x) = 1 - Phi(-x): exact in either tail.
#[inline(always)]
fn gelu<S: Simd>(s: S, x: S::F32) -> S::F32 {
    // Beyond 12 the second term is zero: with the limit, at infinity as well.
    let b = s.splat(-12.0).max(-x.abs());
    b.mul_add(normal_cdf_lower(s, b), relu(s, x))
}

/// x / (1 + e^(-2u)) with u = sqrt(2/pi) (x + 0.044715 x^3), since (1 + tanh u) / 2 is
/// 1 / (1 + e^(-2u)).
#[inline(always)]
fn gelu_tanh<S: Simd>(s: S, x: S::F32) -> S::F32 {
    /// -2 sqrt(2/pi), and 0.044715 times it.
    const LINEAR: f32 = -1.595_769_2;
    const CUBIC: f32 = -0.071_354_814;
    // Below -11 the power is infinite and the result zero: with the limit, at -infinity as well.
    let x = s.splat(-11.0).max(x);
    let power = exp(s, x * (x * x).mul_add(s.splat(CUBIC), s.splat(LINEAR)));
    x / (s.splat(1.0) + power)
}

#[cfg(test)]
mod tests;
