//! Weights, packed once when they are loaded.

use bytemuck::{cast_slice, cast_slice_mut};

use super::channels::ColumnScales;
use super::epilogue::Dequantize;
use super::form::Form;
use super::kernel::Unit;
use super::panels::{Layout, Panels};
use super::pieces::ordinary;
use super::quantize::RowScale;
use crate::matrix::{Mat, Matrix};
use crate::precision::Arithmetic;
use crate::simd::dispatch;

/// The most inputs of a product of integers: more could overflow a sum of 32 bits.
pub const MAX_INT8_INPUTS: usize = i32::MAX as usize / (255 * 127);

/// A weight matrix W of shape (outputs, inputs), as published checkpoints store it, packed for
/// `y = x Wᵀ` in one [`Arithmetic`].
pub struct PackedMatrix {
    arithmetic: Arithmetic,
    unit: Unit,
    layout: Layout,
    data: Matrix<u8>,
    /// The scale of each output, in int8.
    scales: Vec<f32>,
    /// The sum of each output's integers, where integers of x have a zero in them.
    sums: Vec<i32>,
    /// The scales of columns of x, if there are any.
    columns: Option<ColumnScales>,
}

impl PackedMatrix {
    /// Packs `weight`, of shape (outputs, inputs).
    ///
    /// # Panics
    /// As [`PackedMatrix::from_rows`].
    #[track_caller]
    pub fn new(arithmetic: impl Into<Arithmetic>, weight: Mat<'_>) -> PackedMatrix {
        PackedMatrix::from_rows(arithmetic, weight.rows(), weight.cols(), |row| weight.row(row))
    }

    /// Packs the weight whose row `i` is `row(i)`: several matrices can so become one without a
    /// copy in between.
    ///
    /// In int8 each row becomes the nearest integers to `row / scale`, with `scale = max |row| /
    /// 127`; one with a NaN or an infinity makes its outputs NaN.
    ///
    /// # Panics
    /// If a row does not have `inputs` elements, or in int8 there are more of them than
    /// [`MAX_INT8_INPUTS`].
    #[track_caller]
    pub fn from_rows<'a>(
        arithmetic: impl Into<Arithmetic>,
        outputs: usize,
        inputs: usize,
        row: impl Fn(usize) -> &'a [f32],
    ) -> PackedMatrix {
        PackedMatrix::from_scaled_rows(arithmetic, None, outputs, inputs, row)
    }

    /// The same for products with [`Activations`](crate::Activations) whose columns are divided by
    /// these scales: in int8 the columns of the weight are multiplied by them. (With other
    /// activations the product is the same, but they are converted for it anew.) Other precisions
    /// have no scales.
    ///
    /// # Panics
    /// As [`PackedMatrix::from_rows`], and if there is not a scale for each input.
    #[track_caller]
    pub fn from_scaled_rows<'a>(
        arithmetic: impl Into<Arithmetic>,
        columns: Option<&ColumnScales>,
        outputs: usize,
        inputs: usize,
        row: impl Fn(usize) -> &'a [f32],
    ) -> PackedMatrix {
        let arithmetic = arithmetic.into();
        let mut unit = arithmetic.unit();
        if unit.shape().form == Form::Pieces {
            let has_pieces = |output| dispatch!(arithmetic.level(), s => ordinary(s, row(output)));
            if !(0..outputs).all(has_pieces) {
                unit = unit.without_pieces();
            }
        }
        let shape = unit.shape();
        let layout = Layout::new(shape, outputs, inputs);
        let mut data = Matrix::<u8>::zeros(1, layout.len() * shape.weight_bytes);
        let (mut scales, mut sums) = (Vec::new(), Vec::new());
        let columns = columns.filter(|_| shape.form.scaled());
        let factors = columns.map(ColumnScales::factors);
        if shape.form.scaled() {
            assert!(inputs <= MAX_INT8_INPUTS, "{inputs} inputs of an int8 product");
            assert!(factors.is_none_or(|all| all.len() == inputs), "scales of columns, and inputs");
        }
        let mut divided = Vec::new();
        // A row of W in the form of a left operand, which holds the same numbers.
        let form = shape.form.of_weights();
        let mut converted = Matrix::<u8>::zeros(form.pieces(), inputs * form.bytes());
        for output in 0..outputs {
            let row = row(output);
            assert_eq!(row.len(), inputs, "elements in row {output} of a weight");
            let row = match factors {
                None => row,
                Some(factors) => {
                    divided.clear();
                    divided.extend(row.iter().zip(factors).map(|(w, factor)| w / factor));
                    &divided
                }
            };
            let out = converted.as_mut_slice();
            let about = dispatch!(arithmetic.level(), s => form.convert_row(s, row, &[], out));
            for piece in 0..form.pieces() {
                let (row, packed) = (converted.row(piece), data.as_mut_slice());
                match form.bytes() {
                    4 => layout.pack_row::<u32>(
                        output,
                        piece,
                        cast_slice(row),
                        cast_slice_mut(packed),
                    ),
                    2 => layout.pack_row::<u16>(
                        output,
                        piece,
                        cast_slice(row),
                        cast_slice_mut(packed),
                    ),
                    _ => layout.pack_row::<u8>(output, piece, row, packed),
                }
            }
            if shape.form.scaled() {
                scales.push(about.scale);
            }
            if shape.form.has_zero() {
                sums.push(converted.row(0).iter().map(|&q| i32::from(q as i8)).sum());
            }
        }
        let columns = columns.cloned();
        PackedMatrix { arithmetic, unit, layout, data, scales, sums, columns }
    }

    /// How its products are computed.
    pub fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    /// The rows of W, columns of y.
    pub fn outputs(&self) -> usize {
        self.layout.outputs
    }

    /// The columns of W and of x.
    pub fn inputs(&self) -> usize {
        self.layout.inputs
    }

    /// The bytes that a product reads.
    pub fn bytes(&self) -> usize {
        self.data.as_slice().len() + 4 * (self.scales.len() + self.sums.len())
    }

    /// The weight unpacked again, of shape (outputs, inputs): the numbers that products compute
    /// with.
    pub fn unpack(&self) -> Matrix<f32> {
        let mut weight = Matrix::zeros(self.outputs(), self.inputs());
        let mut integers = vec![0i8; self.inputs()];
        let mut halves = vec![0u16; self.inputs()];
        let packed = self.data.as_slice();
        for output in 0..self.outputs() {
            let row = weight.row_mut(output);
            match self.unit().shape().form {
                Form::F32 => self.layout.unpack_row::<f32>(output, 0, cast_slice(packed), row),
                Form::RoundedF32 | Form::Bf16 | Form::Pieces => {
                    // The smallest first: sums of pieces are exact in this order.
                    for piece in (0..self.layout.pieces()).rev() {
                        let halves = &mut halves;
                        self.layout.unpack_row::<u16>(output, piece, cast_slice(packed), halves);
                        let widen = |half: u16| f32::from_bits(u32::from(half) << 16);
                        row.iter_mut().zip(halves).for_each(|(x, half)| *x += widen(*half));
                    }
                }
                Form::U8 | Form::I16 | Form::I8 => {
                    self.layout.unpack_row::<i8>(output, 0, cast_slice(packed), &mut integers);
                    let scale = self.scales[output];
                    row.iter_mut().zip(&integers).for_each(|(x, &q)| *x = f32::from(q) * scale);
                    if let Some(columns) = &self.columns {
                        row.iter_mut().zip(columns.factors()).for_each(|(x, factor)| *x *= factor);
                    }
                }
            }
        }
        weight
    }

    pub(crate) fn unit(&self) -> Unit {
        self.unit
    }

    /// The scales of columns that it was packed with.
    pub(crate) fn columns(&self) -> Option<&ColumnScales> {
        self.columns.as_ref()
    }

    /// Changes the shape; what it holds is unspecified until all of it is filled.
    pub(super) fn reshape(&mut self, inputs: usize, outputs: usize) {
        self.layout = Layout::new(self.unit.shape(), outputs, inputs);
        self.data.resize(1, self.layout.len() * self.unit.shape().weight_bytes);
    }

    /// How the packed bytes lie, the bytes, and how many of them an element has.
    pub(super) fn layout_and_data(&mut self) -> (Layout, &mut [u8], usize) {
        (self.layout, self.data.as_mut_slice(), self.unit.shape().weight_bytes)
    }

    #[cfg(test)]
    pub(super) fn same_bytes(&self, other: &PackedMatrix) -> bool {
        let all = |of: &PackedMatrix| {
            (of.outputs(), of.inputs(), of.scales.clone(), of.sums.clone(), of.bytes())
        };
        all(self) == all(other) && self.data.as_slice() == other.data.as_slice()
    }

    pub(crate) fn panels(&self) -> Panels<'_> {
        Panels { layout: self.layout, data: self.data.as_slice() }
    }

    /// How the sums of a row with this scale become floats, in int8.
    pub(crate) fn dequantize(&self, row: RowScale) -> Dequantize<'_> {
        Dequantize { row, scales: &self.scales, sums: &self.sums }
    }
}

impl std::fmt::Debug for PackedMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (outputs, inputs) = (self.outputs(), self.inputs());
        write!(f, "PackedMatrix {outputs} x {inputs} ({})", self.arithmetic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::Level;
    use crate::precision::Precision;

    /// Integers that every precision holds exactly, the largest of them in each row.
    fn weight(outputs: usize, inputs: usize) -> Matrix<f32> {
        let value =
            |r: usize, c: usize| if c == 0 { 127.0 } else { ((r * 31 + c * 7) % 128) as f32 };
        Matrix::from_fn(outputs, inputs, value)
    }

    #[test]
    fn packing_loses_nothing() {
        for arithmetic in Arithmetic::available() {
            for outputs in [0, 1, 7, 8, 16, 47, 48, 49, 100] {
                for inputs in [0, 1, 5, 383, 384, 385, 771, 1537] {
                    let weight = weight(outputs, inputs);
                    let packed = PackedMatrix::new(arithmetic, weight.view());
                    assert_eq!(packed.unpack(), weight, "{arithmetic} {outputs} x {inputs}");
                }
            }
        }
    }

    /// Floats and pairs of bfloat16, as attention packs them.
    #[test]
    fn all_ways_of_packing_agree() {
        for arithmetic in Arithmetic::available() {
            for (outputs, inputs) in [(1, 1), (5, 3), (48, 129), (77, 257), (16, 0)] {
                let weight = weight(outputs, inputs);
                let packed = PackedMatrix::new(arithmetic, weight.view());
                let layout = packed.layout;
                let bits = |x: f32| u32::from(half::bf16::from_f32(x).to_bits());
                let group = |row: usize, k: usize| match packed.unit().shape().form {
                    Form::F32 => weight.row(row)[k].to_bits(),
                    _ => {
                        bits(weight.row(row)[k])
                            | weight.row(row).get(k + 1).map_or(0, |&x| bits(x) << 16)
                    }
                };
                let step = packed.unit().shape().group;
                if !matches!(packed.unit().shape().form, Form::F32 | Form::Bf16) {
                    continue;
                }
                let expected: &[u32] = cast_slice(packed.data.as_slice());
                let mut data = vec![u32::MAX; expected.len()];
                layout.pack_transposed(&mut data, |k, columns, out: &mut [u32]| {
                    columns.zip(out).for_each(|(column, out)| *out = group(column, k));
                });
                assert_eq!(data, expected, "{arithmetic} {outputs} x {inputs}");
                let mut data = vec![u32::MAX; expected.len()];
                for row in 0..outputs {
                    let groups = (0..inputs).step_by(step).map(|k| group(row, k));
                    layout.pack_groups(row, groups, &mut data);
                }
                layout.clear_tail(&mut data);
                assert_eq!(data, expected, "{arithmetic} {outputs} x {inputs}");
            }
        }
    }

    #[test]
    fn what_int8_cannot_hold_is_near_or_not_a_number() {
        let arithmetic = Arithmetic::new(Level::current(), Precision::Int8);
        let rows = [[1.0, -0.31, 0.0], [0.0; 3], [1e-45, 0.0, 0.0], [f32::INFINITY, 1.0, 2.0]];
        let unpacked = PackedMatrix::from_rows(arithmetic, 4, 3, |row| &rows[row]).unpack();
        for (x, exact) in unpacked.row(0).iter().zip(rows[0]) {
            assert!((x - exact).abs() <= 0.5 / 127.0 * 1.001, "{x} for {exact}");
        }
        assert_eq!([unpacked.row(1), unpacked.row(2)], [[0.0; 3]; 2]);
        assert!(unpacked.row(3).iter().all(|x| x.is_nan()));
    }
}
