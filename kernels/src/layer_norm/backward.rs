//! The gradients of layer normalisation.
//!
//! With z the normalised row, y = z gamma + beta and g = dy gamma:
//!
//! - dx = (g - mean(g) - z mean(g z)) / sqrt(var + eps),
//! - d_gamma = sum of dy z over the rows, d_beta = sum of dy.

use super::Moments;
use crate::column_sums::{BLOCK, add_row};
use crate::parallel::{Divide, rows_per_thread, share};
use crate::rows::{for_each_vector, sum_vectors};
use crate::simd::{F32s, Simd, dispatch};
use crate::{Level, Mat, MatMut, Matrix};

/// The backward pass of [`layer_norm`](super::layer_norm): from `x`, what was normalised, and `dy`
/// it writes `dx`, and adds to `d_gamma` and `d_beta`. `x` is all that a forward pass has to keep:
/// its moments are computed again, to the same bits.
///
/// With r = 1 + |mean| / sd of a row, the error of each element of `dx` is at most 4 u r times
/// max|dy gamma| (1 + max z²) / sd, u = 2^-24. `d_gamma` and `d_beta` are summed as by
/// [`column_sums`](crate::column_sums), and have its bound with 8 r u for each term on top.
///
/// The bits of a row of `dx` depend on the level and the row alone, those of `d_gamma` and `d_beta`
/// on all rows, and nothing on the number of threads.
///
/// # Panics
/// If the shapes of `x`, `dy` and `dx` differ, or `gamma`, `d_gamma` or `d_beta` is not as long as
/// a row.
#[track_caller]
pub fn layer_norm_backward(
    level: Level,
    x: Mat<'_>,
    gamma: &[f32],
    eps: f32,
    dy: Mat<'_>,
    dx: MatMut<'_>,
    d_gamma: &mut [f32],
    d_beta: &mut [f32],
) {
    let (rows, cols) = x.shape();
    assert_eq!(x.shape(), dy.shape(), "layer_norm_backward: shapes of x and of dy");
    assert_eq!(x.shape(), dx.shape(), "layer_norm_backward: shapes of x and of dx");
    assert!(
        gamma.len() == cols && d_gamma.len() == cols && d_beta.len() == cols,
        "layer_norm_backward: rows of {cols} elements with {} of gamma, {} of d_gamma, {} of d_beta",
        gamma.len(),
        d_gamma.len(),
        d_beta.len()
    );
    // One row of sums for each block of rows: those of d_gamma, then those of d_beta.
    let mut sums = Matrix::zeros(rows.div_ceil(BLOCK), 2 * cols);
    let work = (dx, Blocks(sums.view_mut()));
    share(work, rows_per_thread(rows, cols), BLOCK, &|first, (mut dx, Blocks(mut sums))| {
        dispatch!(level, s => {
            for row in 0..dx.rows() {
                let (d_gamma, d_beta) = sums.row_mut(row / BLOCK).split_at_mut(cols);
                let (x, dy) = (x.row(first + row), dy.row(first + row));
                backward_row(s, x, gamma, eps, dy, dx.row_mut(row), d_gamma, d_beta);
            }
        })
    });
    dispatch!(level, s => {
        for block in 0..sums.rows() {
            let (gamma, beta) = sums.row(block).split_at(cols);
            add_row(s, d_gamma, gamma);
            add_row(s, d_beta, beta);
        }
    })
}

/// A row for each block of rows.
struct Blocks<'a>(MatMut<'a>);

impl Divide for Blocks<'_> {
    fn items(&self) -> usize {
        self.0.rows() * BLOCK
    }

    fn divide(self, items: usize) -> (Self, Self) {
        let (a, b) = self.0.split_rows(items / BLOCK);
        (Blocks(a), Blocks(b))
    }
}

#[inline(always)]
fn backward_row<S: Simd>(
    s: S,
    x: &[f32],
    gamma: &[f32],
    eps: f32,
    dy: &[f32],
    dx: &mut [f32],
    d_gamma: &mut [f32],
    d_beta: &mut [f32],
) {
    // One length for all, so that one check of the bounds serves for all.
    let n = x.len();
    let (gamma, dy, dx) = (&gamma[..n], &dy[..n], &mut dx[..n]);
    let (d_gamma, d_beta) = (&mut d_gamma[..n], &mut d_beta[..n]);
    let Moments { mean, inverse_sd } = Moments::of_row(s, x, eps);
    let (center, factor) = (s.splat(mean), s.splat(inverse_sd));
    let sum_g = sum_vectors(
        s,
        n,
        #[inline(always)]
        |at| {
            let dy = s.load_or(&dy[at.clone()], 0.0);
            (s.load_or(&d_beta[at.clone()], 0.0) + dy).store_prefix(&mut d_beta[at.clone()]);
            dy * s.load_or(&gamma[at], 0.0)
        },
    );
    let sum_gz = sum_vectors(
        s,
        n,
        #[inline(always)]
        |at| {
            let z = (s.load_or(&x[at.clone()], mean) - center) * factor;
            let term = s.load_or(&dy[at.clone()], 0.0) * z;
            (s.load_or(&d_gamma[at.clone()], 0.0) + term).store_prefix(&mut d_gamma[at.clone()]);
            term * s.load_or(&gamma[at], 0.0)
        },
    );
    let mean_g = s.splat((sum_g / n as f64) as f32);
    let mean_gz = s.splat((sum_gz / n as f64) as f32);
    for_each_vector(
        s,
        n,
        #[inline(always)]
        |at| {
            let z = (s.load_or(&x[at.clone()], mean) - center) * factor;
            let g = s.load_or(&dy[at.clone()], 0.0) * s.load_or(&gamma[at.clone()], 0.0);
            let dx_over_factor = (-z).mul_add(mean_gz, g - mean_g);
            (dx_over_factor * factor).store_prefix(&mut dx[at]);
        },
    );
}

#[cfg(test)]
mod tests;
