//! What happens to a sum before it leaves for memory.

use std::ops::Range;

use crate::activation::Activation;
use crate::matrix::Mat;
use crate::rows::for_each_vector;
use crate::simd::{F32s, Simd};

/// What happens to a sum before it leaves for memory.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Epilogue<'a> {
    /// `y = x Wᵀ`
    Store,
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
    /// The scale of the row.
    pub(crate) row: f32,
    /// The scale of each column.
    pub(crate) columns: &'a [f32],
    /// What each column's sums have too much; empty if nothing.
    pub(crate) excess: &'a [i32],
}

impl Dequantize<'_> {
    /// `y = (y - excess) * (row * column)`, where `y` holds the bits of integers.
    #[inline(always)]
    fn apply<S: Simd>(&self, s: S, cols: Range<usize>, y: &mut [f32]) {
        let columns = &self.columns[cols.clone()];
        let excess: &[f32] = match self.excess {
            [] => &[],
            excess => bytemuck::cast_slice(&excess[cols]),
        };
        let row = s.splat(self.row);
        for_each_vector(
            s,
            y.len(),
            #[inline(always)]
            |at| {
                let mut sum = s.load_or(&y[at.clone()], 0.0);
                if !excess.is_empty() {
                    sum = sum.sub_int(s.load_or(&excess[at.clone()], 0.0));
                }
                let scale = row * s.load_or(&columns[at.clone()], 0.0);
                (sum.int_to_float() * scale).store_prefix(&mut y[at]);
            },
        );
    }
}

impl Epilogue<'_> {
    #[track_caller]
    pub(crate) fn check(&self, rows: usize, cols: usize) {
        let (bias, residual) = match *self {
            Epilogue::Store => (None, None),
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
        if let Some(dequantize) = dequantize {
            dequantize.apply(s, cols.clone(), y);
        }
        match self {
            Epilogue::Store => {}
            Epilogue::Bias(bias) => {
                for (y, b) in y.chunks_mut(S::LANES).zip(bias[cols].chunks(S::LANES)) {
                    (s.load_or(y, 0.0) + s.load_or(b, 0.0)).store_prefix(y);
                }
            }
            Epilogue::BiasActivation(bias, f) => {
                for (y, b) in y.chunks_mut(S::LANES).zip(bias[cols].chunks(S::LANES)) {
                    f.apply_vector(s, s.load_or(y, 0.0) + s.load_or(b, 0.0)).store_prefix(y);
                }
            }
            Epilogue::BiasResidual(bias, residual) => {
                let residual = residual.row(row)[cols.clone()].chunks(S::LANES);
                let operands = bias[cols].chunks(S::LANES).zip(residual);
                for (y, (b, r)) in y.chunks_mut(S::LANES).zip(operands) {
                    (s.load_or(y, 0.0) + s.load_or(b, 0.0) + s.load_or(r, 0.0)).store_prefix(y);
                }
            }
        }
    }
}
