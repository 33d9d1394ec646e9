//! Positions as sines and cosines.

use ferrite_kernels::Matrix;

/// The position table, (positions, d_model): pair i of columns turns by 10000^(-2i / d_model) a
/// position (Attention Is All You Need, section 3.5).
pub fn sinusoidal(positions: usize, d_model: usize) -> Matrix<f64> {
    let mut table = Matrix::zeros(positions, d_model);
    for position in 0..positions {
        for i in 0..d_model.div_ceil(2) {
            let turn = (-(2.0 * i as f64 / d_model as f64) * 10_000f64.ln()).exp();
            let (sin, cos) = (position as f64 * turn).sin_cos();
            table.row_mut(position)[2 * i] = sin;
            if 2 * i + 1 < d_model {
                table.row_mut(position)[2 * i + 1] = cos;
            }
        }
    }
    table
}
