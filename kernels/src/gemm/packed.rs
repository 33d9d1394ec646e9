//! Weights, packed once when they are loaded.

use super::panels::{Layout, Panels};
use crate::level::Level;
use crate::matrix::{Mat, Matrix};

/// A weight matrix W of shape (outputs, inputs), as published checkpoints store it, packed for
/// `y = x Wᵀ` at one level.
pub struct PackedMatrix {
    level: Level,
    layout: Layout,
    data: Matrix<f32>,
}

impl PackedMatrix {
    /// Packs `weight`, of shape (outputs, inputs), for products at `level`.
    pub fn new(level: Level, weight: Mat<'_>) -> PackedMatrix {
        PackedMatrix::from_rows(level, weight.rows(), weight.cols(), |row| weight.row(row))
    }

    /// Packs the weight whose row `i` is `row(i)`: several matrices can so become one without a
    /// copy in between.
    ///
    /// # Panics
    /// If a row does not have `inputs` elements.
    #[track_caller]
    pub fn from_rows<'a>(
        level: Level,
        outputs: usize,
        inputs: usize,
        row: impl Fn(usize) -> &'a [f32],
    ) -> PackedMatrix {
        let layout = Layout::new(level, outputs, inputs);
        let mut data = Matrix::zeros(1, layout.len());
        for output in 0..outputs {
            assert_eq!(row(output).len(), inputs, "elements in row {output} of a weight");
            layout.pack_row(output, row(output), 1.0, data.as_mut_slice());
        }
        PackedMatrix { level, layout, data }
    }

    /// The level whose tiles read this.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The rows of W, columns of y.
    pub fn outputs(&self) -> usize {
        self.layout.outputs
    }

    /// The columns of W and of x.
    pub fn inputs(&self) -> usize {
        self.layout.inputs
    }

    /// The weight unpacked again, of shape (outputs, inputs).
    pub fn unpack(&self) -> Matrix<f32> {
        let mut weight = Matrix::zeros(self.outputs(), self.inputs());
        for p in 0..self.layout.panels() {
            let (start, width) = (self.layout.start(p), self.layout.width(p));
            for block in self.layout.blocks() {
                let rows = self.panels().block(block, p).chunks_exact(width);
                for (k, row) in rows.enumerate() {
                    let valid = &row[..width.min(self.outputs() - start)];
                    for (column, &x) in valid.iter().enumerate() {
                        weight.row_mut(start + column)[block.0 + k] = x;
                    }
                }
            }
        }
        weight
    }

    pub(crate) fn panels(&self) -> Panels<'_> {
        Panels { layout: self.layout, data: self.data.as_slice() }
    }
}

impl std::fmt::Debug for PackedMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackedMatrix {} x {} ({})", self.outputs(), self.inputs(), self.level)
    }
}

#[cfg(test)]
mod tests {
    use super::super::panels::DEPTH;
    use super::*;

    #[test]
    fn packing_loses_nothing() {
        for level in Level::available() {
            for outputs in [0, 1, 7, 8, 16, 47, 48, 49, 100] {
                for inputs in [0, 1, 5, DEPTH - 1, DEPTH, DEPTH + 1, 2 * DEPTH + 3] {
                    let weight = Matrix::from_fn(outputs, inputs, |r, c| (r * inputs + c) as f32);
                    let packed = PackedMatrix::new(level, weight.view());
                    assert_eq!(packed.unpack(), weight, "{level} {outputs} x {inputs}");
                }
            }
        }
    }

    #[test]
    fn both_ways_of_packing_agree() {
        for level in Level::available() {
            for (outputs, inputs) in [(1, 1), (5, 3), (48, 129), (77, 256), (16, 0)] {
                let weight = Matrix::from_fn(outputs, inputs, |r, c| (r * inputs + c) as f32);
                let transposed = Matrix::from_fn(inputs, outputs, |r, c| weight.row(c)[r]);
                let packed = PackedMatrix::new(level, weight.view());
                let mut data = vec![f32::NAN; packed.layout.len()];
                packed.layout.pack_transposed(transposed.view(), &mut data);
                assert_eq!(data, packed.data.as_slice(), "{level} {outputs} x {inputs}");
                let mut data = vec![f32::NAN; packed.layout.len()];
                for row in 0..outputs {
                    packed.layout.pack_row(row, weight.row(row), 1.0, &mut data);
                }
                packed.layout.clear_tail(&mut data);
                assert_eq!(data, packed.data.as_slice(), "{level} {outputs} x {inputs}");
            }
        }
    }
}
