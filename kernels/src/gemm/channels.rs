//! Scales of the columns of x, which move what rounding costs from x to the weights.

use std::sync::Arc;

use crate::matrix::Mat;

/// Scales of the columns of x in an int8 product `y = x Wᵀ`: x is divided by them before it is
/// rounded, and the columns of W are multiplied by them before they are. The product is the same,
/// but where a few columns of x are far larger than the others, less is lost of the others (Xiao et
/// al., SmoothQuant, 2022).
///
/// They are powers of two, so that nothing but the rounding to integers is different. Whoever makes
/// x and whoever reads it hold the same ones: see
/// [`Activations::scale_columns`](crate::Activations::scale_columns) and
/// [`PackedMatrix::from_scaled_rows`](crate::PackedMatrix::from_scaled_rows). A clone costs nothing.
#[derive(Clone, Debug)]
pub struct ColumnScales {
    /// What columns of x are multiplied by.
    factors: Arc<[f32]>,
}

/// The exponent of the largest and of the smallest scale, against what is no number or far away.
const LIMIT: f32 = 16.0;

impl ColumnScales {
    /// The scales that share the loss between x, whose columns have these magnitudes, and the
    /// weights that are multiplied with it, each of shape (outputs, columns of x): the powers of two
    /// next to `magnitude^alpha / max |column of W|^(1 - alpha)`.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn balance(magnitudes: &[f32], weights: &[Mat<'_>]) -> ColumnScales {
        let mut largest = vec![0.0f32; magnitudes.len()];
        for weight in weights {
            assert_eq!(weight.cols(), magnitudes.len(), "columns of a weight and of x");
            for row in 0..weight.rows() {
                let pairs = largest.iter_mut().zip(weight.row(row));
                pairs.for_each(|(largest, w)| *largest = largest.max(w.abs()));
            }
        }
        let env = |n: &str, d: f32| std::env::var(n).ok().map_or(d, |x| x.parse().unwrap());
        let alpha = env("ALPHA", 0.45);
        let factor = |(x, w): (&f32, &f32)| {
            let exponent = (1.0 - alpha) * w.log2() - alpha * x.log2();
            let exponent = if exponent.is_nan() { 0.0 } else { exponent };
            let exponent = if env("ROUND", 1.0) > 0.0 { exponent.round() } else { exponent };
            exponent.clamp(-LIMIT, LIMIT).exp2()
        };
        ColumnScales { factors: magnitudes.iter().zip(&largest).map(factor).collect() }
    }

    /// What columns of x are multiplied by, and columns of W divided by.
    pub(crate) fn factors(&self) -> &[f32] {
        &self.factors
    }
}

impl PartialEq for ColumnScales {
    fn eq(&self, other: &ColumnScales) -> bool {
        Arc::ptr_eq(&self.factors, &other.factors) || self.factors == other.factors
    }
}
