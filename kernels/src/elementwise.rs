//! Sums and products, element by element, norms, and the functions of a slice.

use crate::Level;
use crate::parallel::{rows_per_thread, share};
use crate::rows::{for_each_vector, map_row, sum_vectors};
use crate::simd::{F32s, Simd, dispatch};
use crate::{MatMut, math};

/// `x += y`.
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn add(level: Level, x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "add: lengths of the summands");
    dispatch!(level, s => for_each_vector(
        s,
        x.len(),
        #[inline(always)]
        |at| {
            let sum = s.load_or(&x[at.clone()], 0.0) + s.load_or(&y[at.clone()], 0.0);
            sum.store_prefix(&mut x[at]);
        },
    ))
}

/// `x *= factor`.
pub fn scale(level: Level, x: &mut [f32], factor: f32) {
    dispatch!(level, s => scale_row(s, x, factor))
}

#[inline(always)]
fn scale_row<S: Simd>(s: S, x: &mut [f32], factor: f32) {
    let factor = s.splat(factor);
    map_row(
        s,
        x,
        #[inline(always)]
        |x| x * factor,
    );
}

/// The sum of squares, within (ceil(log2 n) + 16) u of it, u = 2^-24, as long as a block of 512
/// squares does not overflow f32 (so for |x| up to 1e17).
pub fn sum_of_squares(level: Level, x: &[f32]) -> f64 {
    dispatch!(level, s => sum_of_squares_row(s, x))
}

#[inline(always)]
fn sum_of_squares_row<S: Simd>(s: S, x: &[f32]) -> f64 {
    sum_vectors(
        s,
        x.len(),
        #[inline(always)]
        |at| {
            let x = s.load_or(&x[at], 0.0);
            x * x
        },
    )
}

/// Elements whose squares one thread adds.
const PIECE: usize = 64 * 1024;

/// [`sum_of_squares`] of many numbers, such as all gradients of a tensor, by several threads, with
/// the same bound: pieces of 65,536 elements are summed each by itself and added in order, whoever
/// takes them.
///
/// NaN gives NaN, an infinity or a magnitude above 1e19 gives infinity: a sum that is not finite
/// shows gradients that are not.
pub fn sum_of_squares_shared(level: Level, x: &[f32]) -> f64 {
    let mut sums = vec![0.0; x.len().div_ceil(PIECE)];
    let step = rows_per_thread(sums.len(), PIECE);
    share(&mut sums[..], step, 1, &|first, sums: &mut [f64]| {
        for (sum, piece) in sums.iter_mut().zip(x[first * PIECE..].chunks(PIECE)) {
            *sum = sum_of_squares(level, piece);
        }
    });
    sums.iter().sum()
}

/// Divides every row of `x` by its Euclidean norm, or by `eps` if that is larger: what PyTorch calls
/// `F.normalize`, with `eps` 1e-12. Each element is within 16 u of the exact one, u = 2^-24, for
/// rows whose largest element is between 1e-16 and 1e17.
pub fn l2_normalize(level: Level, mut x: MatMut<'_>, eps: f32) {
    dispatch!(level, s => {
        for row in 0..x.rows() {
            let row = x.row_mut(row);
            let norm = sum_of_squares_row(s, row).sqrt().max(f64::from(eps));
            scale_row(s, row, (1.0 / norm) as f32);
        }
    })
}

/// Defines the slice form of a function of `math`.
macro_rules! map_function {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub fn $name(level: Level, x: &mut [f32]) {
            dispatch!(level, s => map_row(
                s,
                x,
                #[inline(always)]
                |x| math::$name(s, x),
            ))
        }
    };
}

map_function! {
    /// Replaces every element of `x` by e^x, within 1 ULP (1.25 at the portable level). Infinite
    /// beyond 88.72, denormal below -87.3, zero below -103.97; NaN stays NaN.
    exp
}
map_function! {
    /// Replaces every element of `x` by its hyperbolic tangent, within 3 ULP; NaN stays NaN.
    tanh
}
map_function! {
    /// Replaces every element of `x` by erf x, the error function, within 2 ULP; NaN stays NaN.
    erf
}

#[cfg(test)]
mod tests;
