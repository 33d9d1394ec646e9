//! What happens to a sum before it leaves for memory.

use std::ops::Range;

use super::quantize::RowScale;
use crate::activation::Activation;
use crate::matrix::Mat;
use crate::rows::map_vectors;
use crate::simd::{F32s, Simd};

/// What happens to a sum before it leaves for memory.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Epilogue<'a> {
    /// `y = x Wᵀ`
    Store,
    /// `y = y + x Wᵀ`: each sum begins with what is there, or has it added at its end, by precision.
    Add,
    /// `y = x Wᵀ + b`
    Bias(&'a [f32]),
    /// `y = f(x Wᵀ + b)`
    BiasActivation(&'a [f32], Activation),
    /// `y = x Wᵀ + b + r`, the residual `r` of the shape of `y`.
    BiasResidual(&'a [f32], Mat<'a>),
}

/// How sums of integers become floats.
#[derive(Clone, Copy)]
pub(crate) struct Dequantize<'a> {
    /// The scale and the zero of the row of x.
    pub(crate) row: RowScale,
    /// The scale of each output.
    pub(crate) scales: &'a [f32],
    /// The sum of each output's weights, of which sums have zero times too much; empty where zero
    /// was taken off before.
    pub(crate) sums: &'a [i32],
}

impl Epilogue<'_> {
    #[track_caller]
    pub(crate) fn check(&self, rows: usize, cols: usize) {
        let (bias, residual) = match *self {
            Epilogue::Store | Epilogue::Add => (None, None),
            Epilogue::Bias(bias) | Epilogue::BiasActivation(bias, _) => (Some(bias), None),
            Epilogue::BiasResidual(bias, residual) => (Some(bias), Some(residual)),
        };
        if let Some(bias) = bias {
            assert_eq!(bias.len(), cols, "elements of the bias of a {rows} x {cols} product");
        }
        if let Some(residual) = residual {
            assert_eq!(residual.shape(), (rows, cols), "shape of the residual of a product");
        }
    }

    /// Finishes the sums `y` of one row and the columns `cols`; integers become floats first.
    #[inline(always)]
    pub(crate) fn finish<S: Simd>(
        self,
        s: S,
        dequantize: Option<Dequantize<'_>>,
        row: usize,
        cols: Range<usize>,
        y: &mut [f32],
    ) {
        let Some(of) = dequantize else {
            return self.finish_floats(
                s,
                row,
                cols,
                y,
                #[inline(always)]
                |_, sum| sum,
            );
        };
        let (scales, row_scale) = (&of.scales[cols.clone()], s.splat(of.row.scale));
        let zero = s.splat(f32::from_bits(of.row.zero as u32));
        let weights: &[f32] = match of.sums {
            [] => &[],
            sums => bytemuck::cast_slice(&sums[cols.clone()]),
        };
        self.finish_floats(
            s,
            row,
            cols,
            y,
            #[inline(always)]
            |at, sum| {
                let sum = match weights {
                    [] => sum,
                    // All of them fit: see `MAX_INT8_INPUTS`.
                    weights => sum.sub_int(s.load_or(&weights[at.clone()], 0.0).mul_int(zero)),
                };
                sum.int_to_float() * (row_scale * s.load_or(&scales[at], 0.0))
            },
        );
    }

    /// The same with `sum(range, vector)` to make a vector of floats of what is in a range of `y`.
    #[inline(always)]
    fn finish_floats<S: Simd>(
        self,
        s: S,
        row: usize,
        cols: Range<usize>,
        y: &mut [f32],
        sum: impl Fn(Range<usize>, S::F32) -> S::F32,
    ) {
        match self {
            Epilogue::Store | Epilogue::Add => map_vectors(s, y, sum),
            Epilogue::Bias(bias) => {
                let bias = &bias[cols];
                map_vectors(
                    s,
                    y,
                    #[inline(always)]
                    |at, y| sum(at.clone(), y) + s.load_or(&bias[at], 0.0),
                );
            }
            Epilogue::BiasActivation(bias, f) => {
                let bias = &bias[cols];
                f.apply_to(
                    s,
                    y,
                    #[inline(always)]
                    |at, y| sum(at.clone(), y) + s.load_or(&bias[at], 0.0),
                );
            }
            Epilogue::BiasResidual(bias, residual) => {
                let (bias, residual) = (&bias[cols.clone()], &residual.row(row)[cols]);
                map_vectors(
                    s,
                    y,
                    #[inline(always)]
                    |at, y| {
                        let biased = sum(at.clone(), y) + s.load_or(&bias[at.clone()], 0.0);
                        biased + s.load_or(&residual[at], 0.0)
                    },
                );
            }
        }
    }
}
