//! The forms in which kernels read their left operand, and how rows of floats get into them.

use bytemuck::{cast_slice, cast_slice_mut};

use super::pieces::{PIECES, ordinary, split};
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
    /// Integers in [-127, 127] and a scale for each row, in 16 bits.
    I16,
    /// The same plus 128, in 8 bits.
    U8,
    /// The same as in [`Form::I16`], in 8 bits.
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
        matches!(self, Form::I16 | Form::U8 | Form::I8)
    }

    /// Whether something about a row has to be known before any part of it is of use.
    pub(crate) const fn by_rows(self) -> bool {
        self.scaled() || matches!(self, Form::Pieces)
    }

    /// What is added to each integer.
    pub(crate) const fn offset(self) -> i32 {
        if matches!(self, Form::U8) { 128 } else { 0 }
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
            Form::I16 | Form::U8 => Form::I8,
            other => other,
        }
    }

    /// Converts a whole row of any form, and returns what there is to know of it.
    #[inline(always)]
    pub(crate) fn convert_any<S: Simd>(self, s: S, x: &[f32], out: &mut [u8]) -> f32 {
        if self.by_rows() {
            return self.convert_row(s, x, out);
        }
        self.convert(s, x, out);
        0.0
    }

    /// Converts a whole row of a form that goes by rows, and returns what there is to know of it.
    /// `out` has room for the row, or for each of its pieces.
    #[inline(always)]
    fn convert_row<S: Simd>(self, s: S, x: &[f32], out: &mut [u8]) -> f32 {
        if self != Form::Pieces {
            return self.quantize(s, x, out);
        }
        let piece = out.len() / PIECES;
        let (p0, rest) = cast_slice_mut::<_, u16>(out).split_at_mut(piece / 2);
        let (p1, p2) = rest.split_at_mut(piece / 2);
        split(s, x, [p0, p1, p2]);
        if ordinary(s, x) { 0.0 } else { f32::NAN }
    }

    /// Converts a whole row and returns its scale: the nearest integers to `x / scale`, ties to
    /// even, with `scale = max |x| / 127`. The scale of a row of zeros is zero, that of a row with a
    /// NaN or an infinity is NaN.
    #[inline(always)]
    fn quantize<S: Simd>(self, s: S, x: &[f32], out: &mut [u8]) -> f32 {
        let (largest, finite) = magnitude(s, x);
        if !finite {
            out.fill(0);
            return f32::NAN;
        }
        // A row so small that the inverse overflows is as good as zero.
        let inverse = 127.0 / largest;
        let inverse = if inverse.is_finite() { inverse } else { 0.0 };
        let scale = if inverse == 0.0 { 0.0 } else { largest / 127.0 };
        let factor = s.splat(inverse);
        match self {
            Form::U8 | Form::I8 => {
                let out = &mut out[..x.len()];
                let offset = s.splat(self.offset() as f32);
                for_each_vector(
                    s,
                    x.len(),
                    #[inline(always)]
                    |at| {
                        let q = (s.load_or(&x[at.clone()], 0.0) * factor).round();
                        (q + offset).store_bytes(&mut out[at]);
                    },
                );
            }
            Form::I16 => {
                let out = &mut cast_slice_mut::<_, i16>(out)[..x.len()];
                for_each_vector(
                    s,
                    x.len(),
                    #[inline(always)]
                    |at| {
                        let q = (s.load_or(&x[at.clone()], 0.0) * factor).round();
                        q.store_i16(&mut out[at]);
                    },
                );
            }
            _ => unreachable!("{self:?} has no scales"),
        }
        scale
    }
}

/// The largest magnitude in `x`, and whether all of it is finite.
#[inline(always)]
fn magnitude<S: Simd>(s: S, x: &[f32]) -> (f32, bool) {
    let zero = s.splat(0.0);
    let (mut largest, mut poison) = ([zero; 4], [zero; 4]);
    let mut turn = 0;
    for_each_vector(
        s,
        x.len(),
        #[inline(always)]
        |at| {
            let x = s.load_or(&x[at], 0.0);
            largest[turn] = x.abs().max(largest[turn]);
            // Zero times anything finite is zero.
            poison[turn] = x.mul_add(zero, poison[turn]);
            turn = (turn + 1) % 4;
        },
    );
    let [a, b, c, d] = largest;
    let largest = a.max(b).max(c.max(d)).reduce_max();
    let [a, b, c, d] = poison;
    (largest, ((a + b) + (c + d)).reduce_sum() == 0.0)
}
