//! Positions as sines and cosines.

use ferrite_kernels::Matrix;

/// Where the sines and cosines of a position stand, and how fast they turn.
///
/// A model is trained with one of them, and knows no other: nothing in its weights tells which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SinusoidLayout {
    /// The paper's (Attention Is All You Need, section 3.5), sine and cosine in turn:
    ///
    /// ```text
    /// PE(pos, 2i)     = sin(pos / 10000^(2i / d_model))
    /// PE(pos, 2i + 1) = cos(pos / 10000^(2i / d_model))
    /// ```
    #[default]
    Interleaved,
    /// The same numbers, all sines before all cosines, as Marian models have them in `transformers`:
    ///
    /// ```text
    /// PE(pos, i)               = sin(pos / 10000^(2i / d_model))
    /// PE(pos, ⌈d_model/2⌉ + i) = cos(pos / 10000^(2i / d_model))
    /// ```
    Halves,
    /// All sines before all cosines, of speeds down to 1 / 10000 itself: those of tensor2tensor, the
    /// authors' own code, and of fairseq. h = ⌊d_model/2⌋; where d_model is odd, its last column is
    /// zero.
    ///
    /// ```text
    /// PE(pos, i)     = sin(pos / 10000^(i / (h - 1)))
    /// PE(pos, h + i) = cos(pos / 10000^(i / (h - 1)))
    /// ```
    Tensor2Tensor,
}

/// The position table of shape (positions, d_model). For a layer it is the table of an
/// [`Embedding`](crate::Embedding).
pub fn sinusoidal(positions: usize, d_model: usize, layout: SinusoidLayout) -> Matrix<f32> {
    Matrix::from_fn(positions, d_model, |position, column| {
        let (function, exponent) = wave(column, d_model, layout);
        function(position as f64 / 10_000f64.powf(exponent)) as f32
    })
}

/// The function in a column, and the exponent of 1 / 10000 that it turns with.
fn wave(column: usize, d_model: usize, layout: SinusoidLayout) -> (fn(f64) -> f64, f64) {
    let zero: fn(f64) -> f64 = |_| 0.0;
    // Sine or cosine, and which of them.
    let (function, i): (fn(f64) -> f64, usize) = match layout {
        SinusoidLayout::Interleaved if column.is_multiple_of(2) => (f64::sin, column / 2),
        SinusoidLayout::Interleaved => (f64::cos, column / 2),
        SinusoidLayout::Halves if column < d_model.div_ceil(2) => (f64::sin, column),
        SinusoidLayout::Halves => (f64::cos, column - d_model.div_ceil(2)),
        SinusoidLayout::Tensor2Tensor if column < d_model / 2 => (f64::sin, column),
        SinusoidLayout::Tensor2Tensor if column < d_model / 2 * 2 => {
            (f64::cos, column - d_model / 2)
        }
        SinusoidLayout::Tensor2Tensor => (zero, 0),
    };
    let exponent = match layout {
        SinusoidLayout::Tensor2Tensor => i as f64 / (d_model / 2).saturating_sub(1).max(1) as f64,
        _ => (2 * i) as f64 / d_model as f64,
    };
    (function, exponent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    const LAYOUTS: [SinusoidLayout; 3] =
        [SinusoidLayout::Interleaved, SinusoidLayout::Halves, SinusoidLayout::Tensor2Tensor];

    /// The property the paper chose the function for: a step of k positions is a rotation that
    /// does not depend on the position.
    #[test]
    fn a_step_is_a_rotation() {
        for layout in LAYOUTS {
            let table = sinusoidal(50, 16, layout);
            for pair in 0..8 {
                let (exponent, columns) = match layout {
                    SinusoidLayout::Interleaved => (pair as f64 / 8.0, (2 * pair, 2 * pair + 1)),
                    SinusoidLayout::Halves => (pair as f64 / 8.0, (pair, 8 + pair)),
                    SinusoidLayout::Tensor2Tensor => (pair as f64 / 7.0, (pair, 8 + pair)),
                };
                let (sin_k, cos_k) = (7.0 / 10_000f64.powf(exponent)).sin_cos();
                for position in 0..43 {
                    let at = |position: usize, column| f64::from(table.row(position)[column]);
                    let (sin, cos) = (at(position, columns.0), at(position, columns.1));
                    let expected = sin * cos_k + cos * sin_k;
                    assert!((at(position + 7, columns.0) - expected).abs() < 3e-7, "{layout:?}");
                }
            }
        }
    }

    /// Correctly rounded, but for the error of the f64 angle.
    #[test]
    fn the_table_is_the_reference_rounded() {
        for layout in LAYOUTS {
            for d_model in [0, 1, 2, 3, 4, 5, 64, 511, 512] {
                let table = sinusoidal(5000, d_model, layout);
                let exact = reference::sinusoidal(5000, d_model, layout);
                for (&y, &exact) in table.as_slice().iter().zip(exact.as_slice()) {
                    let limit = 0.5 * ferrite_kernels::testing::ulp(exact) + 1e-11;
                    let error = (f64::from(y) - exact).abs();
                    assert!(error <= limit, "{layout:?} {d_model}: {y:e} for {exact:e}");
                }
            }
        }
    }

    #[test]
    fn an_odd_width_ends_as_each_layout_says() {
        let slow = 1.0 / 10_000f64.powf(2.0 / 3.0);
        let row = |layout| sinusoidal(2, 3, layout).row(1).to_vec();
        let [sin, cos, slow] = [1f64.sin(), 1f64.cos(), slow.sin()].map(|x| x as f32);
        assert_eq!(row(SinusoidLayout::Interleaved), [sin, cos, slow]);
        assert_eq!(row(SinusoidLayout::Halves), [sin, slow, cos]);
        assert_eq!(row(SinusoidLayout::Tensor2Tensor), [sin, cos, 0.0]);
    }
}
