//! Scales of the columns of x, which move what rounding costs from x to the weights.

use std::sync::Arc;

use crate::matrix::Mat;

/// Scales of the columns of x in an int8 product `y = x Wᵀ`: x is divided by them before it is
/// rounded, and the columns of W are multiplied by them before they are. The product is the same,
/// but where a few columns of x are far larger than the others, less is lost of the others (Xiao et
/// al., SmoothQuant, 2022).
///
/// They are between 2^-16 and 2^16, and a number of x that they make infinite makes its row no number.
/// Whoever makes x and whoever reads it hold the same ones: see
/// [`Activations::scale_columns`](crate::Activations::scale_columns) and
/// [`PackedMatrix::from_scaled_rows`](crate::PackedMatrix::from_scaled_rows). A clone costs nothing.
#[derive(Clone, Debug)]
pub struct ColumnScales {
    /// What columns of x are multiplied by.
    factors: Arc<[f32]>,
}

/// The largest factor, and the inverse of the smallest, against columns of zeros and the like.
const LIMIT: f32 = 65_536.0;

impl ColumnScales {
    /// The scales that share the loss between x, whose columns have these magnitudes, and the
    /// weights that are multiplied with it, each of shape (outputs, columns of x):
    /// `sqrt(magnitude / max |column of W|)`, after which both are equally large.
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
        let factor = |(x, w): (&f32, &f32)| {
            let factor = (w / x).sqrt();
            if factor.is_nan() { 1.0 } else { factor.clamp(1.0 / LIMIT, LIMIT) }
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
