//! The forms in which kernels read their left operand, and how rows of floats get into them.

use std::ops::Range;

use bytemuck::{cast_slice, cast_slice_mut};

use super::pieces::{PIECES, ordinary, split};
use super::quantize::{RowScale, no_number, quantize_row, quantize_weights};
use crate::rows::for_each_vector;
use crate::simd::{F32s, Simd};

/// A form of the left operand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// Floats as they are: nothing is converted.
    #[default]
    F32,
    /// Floats that were rounded to bfloat16.
    RoundedF32,
    /// bfloat16.
    Bf16,
    /// The integers q in [0, 255] of [`super::quantize`], in 8 bits.
    U8,
    /// The same minus the row's zero, in 16 bits.
    I16,
    /// Weights alone: integers in [-127, 127], in 8 bits.
    I8,
    /// Floats as the sum of three bfloat16: all of the largest pieces, then all of the second, then
    /// all of the third. In place of a scale each row has zero if it is ordinary, and NaN if it has
    /// to be multiplied otherwise: see [`super::pieces`].
    Pieces,
}

impl Form {
    /// Bytes of an element, or of a piece of one.
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Form::F32 | Form::RoundedF32 => 4,
            Form::Bf16 | Form::I16 | Form::Pieces => 2,
            Form::U8 | Form::I8 => 1,
        }
    }

    /// How many pieces an element has.
    pub(crate) const fn pieces(self) -> usize {
        if matches!(self, Form::Pieces) { PIECES } else { 1 }
    }

    /// Whether sums are those of integers, with a scale for each row.
    pub(crate) const fn scaled(self) -> bool {
        matches!(self, Form::U8 | Form::I16)
    }

    /// Whether something about a row has to be known before any part of it is of use.
    pub(crate) const fn by_rows(self) -> bool {
        self.scaled() || matches!(self, Form::Pieces)
    }

    /// Whether integers of a row have its zero in them, and sums too much because of it.
    pub(crate) const fn has_zero(self) -> bool {
        matches!(self, Form::U8)
    }

    /// Converts `x`, a row or a part of one, of a form that does not go by rows. `out` has
    /// [`Form::bytes`] for each element, and is aligned to them.
    #[inline(always)]
    pub(crate) fn convert<S: Simd>(self, s: S, x: &[f32], out: &mut [u8]) {
        match self {
            Form::F32 => out.copy_from_slice(cast_slice(x)),
            Form::RoundedF32 => {
                let out = &mut cast_slice_mut::<_, f32>(out)[..x.len()];
                for_each_vector(
                    s,
                    x.len(),
                    #[inline(always)]
                    |at| s.load_or(&x[at.clone()], 0.0).round_bf16().store_prefix(&mut out[at]),
                );
            }
            Form::Bf16 => {
                let out = &mut cast_slice_mut::<_, u16>(out)[..x.len()];
                for_each_vector(
                    s,
                    x.len(),
                    #[inline(always)]
                    |at| s.load_or(&x[at.clone()], 0.0).store_bf16(&mut out[at]),
                );
            }
            _ => unreachable!("{self:?} is converted by rows"),
        }
    }

    /// The form in which the weights of a product are held, before they are packed: where rows of
    /// x are widened beforehand, weights are widened in registers.
    pub(crate) const fn of_weights(self) -> Form {
        match self {
            Form::RoundedF32 => Form::Bf16,
            Form::U8 | Form::I16 => Form::I8,
            other => other,
        }
    }

    /// Converts a whole row of any form, and returns what there is to know of it. `out` has room for
    /// the row, or for each of its pieces. Where sums are of integers, columns are multiplied by
    /// `factors` first, if there are any.
    #[inline(always)]
    pub(crate) fn convert_row<S: Simd>(
        self,
        s: S,
        x: &[f32],
        factors: &[f32],
        out: &mut [u8],
    ) -> RowScale {
        let scale = |scale| RowScale { scale, zero: 0.0 };
        match self {
            Form::F32 | Form::RoundedF32 | Form::Bf16 => {
                self.convert(s, x, out);
                scale(0.0)
            }
            Form::Pieces => {
                let piece = out.len() / PIECES;
                let (p0, rest) = cast_slice_mut::<_, u16>(out).split_at_mut(piece / 2);
                let (p1, p2) = rest.split_at_mut(piece / 2);
                split(s, x, [p0, p1, p2]);
                scale(if ordinary(s, x) { 0.0 } else { f32::NAN })
            }
            Form::I8 => quantize_weights(s, x, out),
            Form::U8 | Form::I16 if factors.is_empty() => self.quantize(
                s,
                x.len(),
                #[inline(always)]
                |at| s.load_or(&x[at], 0.0),
                out,
            ),
            Form::U8 | Form::I16 => {
                let factors = &factors[..x.len()];
                self.quantize(
                    s,
                    x.len(),
                    #[inline(always)]
                    |at| s.load_or(&x[at.clone()], 0.0) * s.load_or(&factors[at], 0.0),
                    out,
                )
            }
        }
    }

    /// Writes the integers of a row of `n` numbers of which `load` gives vectors.
    #[inline(always)]
    fn quantize<S: Simd>(
        self,
        s: S,
        n: usize,
        load: impl Fn(Range<usize>) -> S::F32 + Copy,
        out: &mut [u8],
    ) -> RowScale {
        let scale = if self.has_zero() {
            let bytes = &mut out[..n];
            quantize_row(
                s,
                n,
                load,
                #[inline(always)]
                |at, q, zero| (q + zero).store_bytes(&mut bytes[at]),
            )
        } else {
            let integers = &mut cast_slice_mut::<_, i16>(out)[..n];
            quantize_row(
                s,
                n,
                load,
                #[inline(always)]
                |at, q, _| q.store_i16(&mut integers[at]),
            )
        };
        scale.unwrap_or_else(|| no_number(out))
    }
}
