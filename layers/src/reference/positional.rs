//! Positions as sines and cosines.

use ferrite_kernels::Matrix;

use crate::SinusoidLayout;

/// The position table, (positions, d_model): sine and cosine number i turn by 10000^(-2i / d_model) a
/// position (Attention Is All You Need, section 3.5), or by 10000^(-i / (⌊d_model / 2⌋ - 1))
/// (tensor2tensor). What fills no whole pair is a sine, or zero there.
pub fn sinusoidal(positions: usize, d_model: usize, layout: SinusoidLayout) -> Matrix<f64> {
    let mut table = Matrix::zeros(positions, d_model);
    let half = d_model / 2;
    for position in 0..positions {
        for i in 0..d_model.div_ceil(2) {
            let (power, sine_at, cosine_at) = match layout {
                SinusoidLayout::Interleaved => (2.0 * i as f64 / d_model as f64, 2 * i, 2 * i + 1),
                SinusoidLayout::Halves => {
                    (2.0 * i as f64 / d_model as f64, i, d_model.div_ceil(2) + i)
                }
                SinusoidLayout::Tensor2Tensor if i == half => continue,
                // One pair alone turns by one.
                SinusoidLayout::Tensor2Tensor if half == 1 => (0.0, 0, 1),
                SinusoidLayout::Tensor2Tensor => (i as f64 / (half as f64 - 1.0), i, half + i),
            };
            let (sin, cos) = (position as f64 * (-power * 10_000f64.ln()).exp()).sin_cos();
            table.row_mut(position)[sine_at] = sin;
            if cosine_at < d_model {
                table.row_mut(position)[cosine_at] = cos;
            }
        }
    }
    table
}
