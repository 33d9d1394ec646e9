//! The matrix products of real models, and the check of their answers.

use ferrite_kernels::{Matrix, Precision};

/// The matrix products of BERT-base and MiniLM: (n, d_out, d_in).
pub const PRODUCTS: [(usize, usize, usize); 11] = [
    (1, 768, 768),
    (1, 3072, 768),
    (16, 768, 768),
    (128, 768, 768),
    (128, 2304, 768),
    (128, 3072, 768),
    (128, 768, 3072),
    (4096, 768, 768),
    (4096, 768, 3072),
    (128, 1536, 384),
    (128, 384, 1536),
];

/// Compares a few elements of `y = x Wᵀ + bias` with f64, within what the precision allows.
///
/// # Panics
/// If one of them is too far away.
pub fn check(precision: Precision, x: &Matrix, w: &Matrix, bias: f64, y: &Matrix) {
    for i in 0..37 {
        let (row, col) = (i * 7919 % x.rows(), i * 104_729 % w.rows());
        let (x, w) = (x.row(row), w.row(col));
        let products = x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w));
        let (sum, magnitude) = products.fold((bias, 0.0), |(s, m), p| (s + p, m + p.abs()));
        let limit = 1e-6 * magnitude + rounding(precision, x, w, magnitude);
        let error = (f64::from(y.row(row)[col]) - sum).abs();
        assert!(error <= limit, "{precision}: element ({row}, {col}) is off by {error}");
    }
}

/// How far x wᵀ may move when both operands are rounded to `precision`; `magnitude` is |x| |w|ᵀ.
fn rounding(precision: Precision, x: &[f32], w: &[f32], magnitude: f64) -> f64 {
    match precision {
        Precision::F32 => 0.0,
        Precision::Bf16 => {
            let u = 1.0 / 256.0;
            (2.0 * u + u * u) * magnitude
        }
        Precision::Int8 => {
            let sum = |x: &[f32]| x.iter().map(|&x| f64::from(x.abs())).sum::<f64>();
            let largest = |x: &[f32]| x.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            let half_step = |x: &[f32]| f64::from(largest(x)) / 254.0;
            let both = half_step(x) * half_step(w) * x.len() as f64;
            half_step(w) * sum(x) + half_step(x) * sum(w) + both
        }
        _ => panic!("no tolerance for {precision}"),
    }
}

#[cfg(test)]
mod tests {
    use ferrite_kernels::{Activations, Arithmetic, Epilogue, Level, PackedMatrix, matmul};

    use super::*;
    use crate::uniform;

    fn product(precision: Precision) -> [Matrix; 3] {
        let (x, w) = (uniform(5, 384, 1), uniform(70, 384, 2));
        let arithmetic = Arithmetic::new(Level::current(), precision);
        let mut y = Matrix::zeros(5, 70);
        let ready = Activations::from_rows(arithmetic, x.view());
        let packed = PackedMatrix::new(arithmetic, w.view());
        matmul(&ready, &packed, Epilogue::Bias(&[0.5; 70]), y.view_mut());
        [x, w, y]
    }

    #[test]
    fn products_pass() {
        for precision in Precision::ALL {
            let [x, w, y] = product(precision);
            check(precision, &x, &w, 0.5, &y);
        }
    }

    #[test]
    fn wrong_products_do_not() {
        for precision in Precision::ALL {
            let [x, w, y] = product(precision);
            let shifted = Matrix::from_fn(5, 70, |row, col| y.row(row)[(col + 1) % 70]);
            let verdict = std::panic::catch_unwind(|| check(precision, &x, &w, 0.5, &shifted));
            assert!(verdict.is_err(), "{precision}");
        }
        // What is right in bf16 is wrong in f32.
        let [x, w, y] = product(Precision::Bf16);
        assert!(std::panic::catch_unwind(|| check(Precision::F32, &x, &w, 0.5, &y)).is_err());
    }
}
