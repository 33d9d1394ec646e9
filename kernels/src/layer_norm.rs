//! Layer normalisation (Ba, Kiros, Hinton 2016): y = (x - mean) / sqrt(var + eps) * gamma + beta,
//! with mean and (biased) variance of each row.

mod backward;

pub use backward::layer_norm_backward;

use crate::rows::{for_each_vector, sum_vectors};
use crate::simd::{F32s, Simd, dispatch};
use crate::{Level, Mat, MatMut};

/// Normalises the rows of `x` into `out`.
///
/// The error of each element is at most 16 u (1 + |mean| / sd) times the scale of its row's output,
/// max(|gamma (x - mean) / sd|, |beta|) or 1, u = 2^-24: mean and variance are computed in two
/// passes over the row, so a mean of a million standard deviations costs what it must and no more.
/// Rows with |x| up to 1e17 give finite results. The result of a row depends on the level and the
/// row alone.
///
/// # Panics
/// If the shapes of `x` and `out` differ, or `gamma` or `beta` is not as long as a row.
#[track_caller]
pub fn layer_norm(
    level: Level,
    x: Mat<'_>,
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
    mut out: MatMut<'_>,
) {
    assert_eq!(x.shape(), out.shape(), "layer_norm: shapes of the input and of the output");
    check_parameters(x.cols(), gamma, beta);
    dispatch!(level, s => {
        for row in 0..x.rows() {
            let x = x.row(row);
            let moments = Moments::of_row(s, x, eps);
            // One length for all, so that one check of the bounds serves for all.
            let (gamma, beta) = (&gamma[..x.len()], &beta[..x.len()]);
            let out = &mut out.row_mut(row)[..x.len()];
            for_each_vector(
                s,
                x.len(),
                #[inline(always)]
                |at| {
                    let y = s.load_or(&x[at.clone()], 0.0);
                    moments.normalize(s, y, gamma, beta, at.clone()).store_prefix(&mut out[at]);
                },
            );
        }
    })
}

/// Replaces each row of `x` by its layer norm: the bits of [`layer_norm`].
///
/// # Panics
/// If `gamma` or `beta` is not as long as a row.
#[track_caller]
pub fn layer_norm_in_place(level: Level, mut x: MatMut<'_>, gamma: &[f32], beta: &[f32], eps: f32) {
    check_parameters(x.cols(), gamma, beta);
    dispatch!(level, s => {
        for row in 0..x.rows() {
            let x = x.row_mut(row);
            Moments::of_row(s, x, eps).normalize_row(s, x, gamma, beta);
        }
    })
}

/// Replaces each row of `x` by the layer norm of `x + residual`, reading both once: "Add & Norm" of
/// Vaswani et al. 2017, section 3.1. The bits are those of an addition followed by [`layer_norm`].
///
/// # Panics
/// If the shapes of `x` and `residual` differ, or `gamma` or `beta` is not as long as a row.
#[track_caller]
pub fn add_layer_norm(
    level: Level,
    mut x: MatMut<'_>,
    residual: Mat<'_>,
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
) {
    assert_eq!(x.shape(), residual.shape(), "add_layer_norm: shapes of the two summands");
    check_parameters(x.cols(), gamma, beta);
    dispatch!(level, s => {
        for row in 0..x.rows() {
            add_layer_norm_row(s, x.row_mut(row), residual.row(row), gamma, beta, eps);
        }
    })
}

#[track_caller]
fn check_parameters(cols: usize, gamma: &[f32], beta: &[f32]) {
    assert!(
        gamma.len() == cols && beta.len() == cols,
        "layer norm of rows of {cols} elements with {} of gamma and {} of beta",
        gamma.len(),
        beta.len()
    );
}

/// What a row is normalised by.
#[derive(Clone, Copy)]
pub(crate) struct Moments {
    pub(crate) mean: f32,
    /// 1 / sqrt(var + eps).
    pub(crate) inverse_sd: f32,
}

impl Moments {
    /// The moments of `x`, in two passes.
    #[inline(always)]
    pub(crate) fn of_row<S: Simd>(s: S, x: &[f32], eps: f32) -> Moments {
        let sum = sum_vectors(
            s,
            x.len(),
            #[inline(always)]
            |at| s.load_or(&x[at], 0.0),
        );
        Moments::of_row_with_sum(s, x, sum, eps)
    }

    /// The moments of `x`, of which the sum is known.
    #[inline(always)]
    fn of_row_with_sum<S: Simd>(s: S, x: &[f32], sum: f64, eps: f32) -> Moments {
        let n = x.len() as f64;
        let mean = (sum / n) as f32;
        let center = s.splat(mean);
        let squares = sum_vectors(
            s,
            x.len(),
            #[inline(always)]
            |at| {
                // Lanes beyond the end hold the mean, so their deviation is zero.
                let deviation = s.load_or(&x[at], mean) - center;
                deviation * deviation
            },
        );
        Moments { mean, inverse_sd: (1.0 / (squares / n + f64::from(eps)).sqrt()) as f32 }
    }

    /// The normalised elements of the vector `x`, which lies at `at` in its row.
    #[inline(always)]
    fn normalize<S: Simd>(
        self,
        s: S,
        x: S::F32,
        gamma: &[f32],
        beta: &[f32],
        at: std::ops::Range<usize>,
    ) -> S::F32 {
        let y = (x - s.splat(self.mean)) * s.splat(self.inverse_sd);
        y.mul_add(s.load_or(&gamma[at.clone()], 0.0), s.load_or(&beta[at], 0.0))
    }

    /// Normalises `x` in place.
    #[inline(always)]
    fn normalize_row<S: Simd>(self, s: S, x: &mut [f32], gamma: &[f32], beta: &[f32]) {
        for_each_vector(
            s,
            x.len(),
            #[inline(always)]
            |at| {
                let y = s.load_or(&x[at.clone()], 0.0);
                self.normalize(s, y, gamma, beta, at.clone()).store_prefix(&mut x[at]);
            },
        );
    }
}

/// Replaces `x` by the layer norm of `x + residual`; see [`add_layer_norm`].
#[inline(always)]
pub(crate) fn add_layer_norm_row<S: Simd>(
    s: S,
    x: &mut [f32],
    residual: &[f32],
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
) {
    // One length for all, so that one check of the bounds serves for all.
    let n = x.len();
    let (residual, gamma, beta) = (&residual[..n], &gamma[..n], &beta[..n]);
    let sum = sum_vectors(
        s,
        n,
        #[inline(always)]
        |at| {
            let y = s.load_or(&x[at.clone()], 0.0) + s.load_or(&residual[at.clone()], 0.0);
            y.store_prefix(&mut x[at]);
            y
        },
    );
    Moments::of_row_with_sum(s, x, sum, eps).normalize_row(s, x, gamma, beta);
}

#[cfg(test)]
mod tests;
