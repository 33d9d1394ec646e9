//! Positions as sines and cosines.

use ferrite_kernels::Matrix;

/// The position table of shape (positions, d_model):
///
/// ```text
/// PE(pos, 2i)     = sin(pos / 10000^(2i / d_model))
/// PE(pos, 2i + 1) = cos(pos / 10000^(2i / d_model))
/// ```
///
/// Sine and cosine interleaved, as the paper has it (Attention Is All You Need, section 3.5);
/// other systems put all sines before all cosines. For a layer it is the table of an
/// [`Embedding`](crate::Embedding).
pub fn sinusoidal(positions: usize, d_model: usize) -> Matrix<f32> {
    Matrix::from_fn(positions, d_model, |position, column| {
        let exponent = (column / 2 * 2) as f64 / d_model as f64;
        let angle = position as f64 / 10_000f64.powf(exponent);
        (if column % 2 == 0 { angle.sin() } else { angle.cos() }) as f32
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The property the paper chose the function for: a step of k positions is a rotation that
    /// does not depend on the position.
    #[test]
    fn a_step_is_a_rotation() {
        let table = sinusoidal(50, 16);
        for pair in 0..8 {
            let frequency = 1.0 / 10_000f64.powf(2.0 * pair as f64 / 16.0);
            let (sin_k, cos_k) = (7.0 * frequency).sin_cos();
            for position in 0..43 {
                let at = |position: usize, column: usize| f64::from(table.row(position)[column]);
                let (sin, cos) = (at(position, 2 * pair), at(position, 2 * pair + 1));
                let expected = sin * cos_k + cos * sin_k;
                assert!((at(position + 7, 2 * pair) - expected).abs() < 3e-7);
            }
        }
    }

    /// Correctly rounded, but for the error of the f64 angle.
    #[test]
    fn the_table_is_the_reference_rounded() {
        for d_model in [0, 1, 2, 3, 64, 511, 512] {
            let (table, exact) =
                (sinusoidal(5000, d_model), crate::reference::sinusoidal(5000, d_model));
            for (&y, &exact) in table.as_slice().iter().zip(exact.as_slice()) {
                let limit = 0.5 * ferrite_kernels::testing::ulp(exact) + 1e-11;
                assert!((f64::from(y) - exact).abs() <= limit, "{y:e} for {exact:e}");
            }
        }
    }

    #[test]
    fn an_odd_width_ends_with_a_sine() {
        let table = sinusoidal(2, 3);
        assert_eq!(table.row(0), [0.0, 1.0, 0.0]);
        assert_eq!(table.row(1)[2], (1.0 / 10_000f64.powf(2.0 / 3.0)).sin() as f32);
    }
}
