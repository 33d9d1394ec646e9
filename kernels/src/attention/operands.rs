//! The operands of attention's products, in the form in which a kernel reads them. It multiplies
//! floats, or pairs of bfloat16: in both a group of the right operand is four bytes.

use bytemuck::{cast_slice, cast_slice_mut};

use crate::gemm::form::Form;
use crate::gemm::kernel::Kernel;
use crate::gemm::multiply::multiply;
use crate::gemm::panels::{Layout, Panels};
use crate::matrix::{Mat, MatMut};
use crate::rows::for_each_vector;
use crate::simd::{F32s, Simd};

/// The 32-bit words of a packed right operand.
pub(super) fn packed_len<K: Kernel>(outputs: usize, inputs: usize) -> usize {
    Layout::new(K::SHAPE, outputs, inputs).len() * K::SHAPE.weight_bytes / 4
}

/// The floats that `rows` converted rows of a left operand take.
pub(super) fn converted_len<K: Kernel>(rows: usize, inputs: usize) -> usize {
    match K::SHAPE.form {
        Form::F32 => 0,
        _ => rows.next_multiple_of(K::SHAPE.row_multiple) * K::SHAPE.row_bytes(inputs) / 4,
    }
}

/// Packs a right operand whose outputs are the rows of `w`, each element times `scale`. `converted`
/// has room for a row.
#[inline(always)]
pub(super) fn pack_outputs<K: Kernel>(
    k: K,
    w: Mat<'_>,
    scale: f32,
    converted: &mut [u8],
    packed: &mut [u32],
) {
    let s = k.lanes();
    let layout = Layout::at(k, w.rows(), w.cols());
    for output in 0..w.rows() {
        let row = w.row(output);
        match K::SHAPE.form {
            Form::F32 => {
                let groups = row.iter().map(|&x| (x * scale).to_bits());
                layout.pack_groups(output, groups, packed);
            }
            _ => {
                let bytes = K::SHAPE.row_bytes(w.cols());
                let halves: &mut [u16] = cast_slice_mut(&mut converted[..bytes]);
                halves[w.cols()..].fill(0);
                let factor = s.splat(scale);
                for_each_vector(
                    s,
                    w.cols(),
                    #[inline(always)]
                    |at| {
                        let x = s.load_or(&row[at.clone()], 0.0) * factor;
                        x.store_bf16(&mut halves[at]);
                    },
                );
                let pairs: &[u32] = cast_slice(halves);
                layout.pack_groups(output, pairs.iter().copied(), packed);
            }
        }
    }
    layout.clear_tail(packed);
}

/// Packs a right operand whose inputs are the rows of `w`.
#[inline(always)]
pub(super) fn pack_inputs<K: Kernel>(k: K, w: Mat<'_>, packed: &mut [u32]) {
    let s = k.lanes();
    Layout::at(k, w.cols(), w.rows()).pack_transposed(
        packed,
        #[inline(always)]
        |input, cols, out| match K::SHAPE.form {
            Form::F32 => out.copy_from_slice(cast_slice(&w.row(input)[cols])),
            _ if input >= w.rows() => out.fill(0),
            _ => {
                let even = &w.row(input)[cols.clone()];
                let odd = if input + 1 < w.rows() { &w.row(input + 1)[cols] } else { &[] };
                let out: &mut [f32] = cast_slice_mut(out);
                for_each_vector(
                    s,
                    even.len(),
                    #[inline(always)]
                    |at| {
                        let odd = match odd {
                            [] => s.splat(0.0),
                            odd => s.load_or(&odd[at.clone()], 0.0),
                        };
                        let pair = s.load_or(&even[at.clone()], 0.0).pair_bf16(odd);
                        pair.store_prefix(&mut out[at]);
                    },
                );
            }
        },
    );
}

/// Rows as the left operand of a kernel: as they are, or in `converted`.
#[inline(always)]
pub(super) fn left<'a, K: Kernel>(k: K, x: Mat<'a>, converted: &'a mut [u8]) -> Mat<'a, u8> {
    if K::SHAPE.form == Form::F32 {
        return x.as_bytes();
    }
    let bytes = K::SHAPE.row_bytes(x.cols());
    for row in 0..x.rows() {
        convert::<K>(k.lanes(), x.row(row), &mut converted[row * bytes..(row + 1) * bytes]);
    }
    converted_rows::<K>(converted, x.rows(), x.cols())
}

/// The first rows of `converted`, as many as whole tiles have: what lies behind the last is left
/// over from other rows.
#[inline(always)]
pub(super) fn converted_rows<K: Kernel>(converted: &[u8], rows: usize, cols: usize) -> Mat<'_, u8> {
    let bytes = K::SHAPE.row_bytes(cols);
    Mat::new(converted, rows.next_multiple_of(K::SHAPE.row_multiple), bytes, bytes)
}

/// A row in the kernel's form, filled up with zeros.
#[inline(always)]
pub(super) fn convert<K: Kernel>(s: K::Lanes, x: &[f32], out: &mut [u8]) {
    let form = K::SHAPE.form;
    let (row, rest) = out.split_at_mut(x.len() * form.bytes());
    form.convert(s, x, row);
    rest.fill(0);
}

/// `out = x w`, or added to it, for a left operand and a packed one of `inputs` inputs.
#[inline(always)]
pub(super) fn product<K: Kernel>(
    k: K,
    x: Mat<'_, u8>,
    packed: &[u32],
    inputs: usize,
    add: bool,
    out: MatMut<'_>,
) {
    let layout = Layout::at(k, out.cols(), inputs);
    let words = layout.len() * K::SHAPE.weight_bytes / 4;
    let panels = Panels { layout, data: cast_slice(&packed[..words]) };
    multiply(
        k,
        x,
        panels,
        0..layout.panels(),
        add,
        out,
        #[inline(always)]
        |_, _, _| {},
    );
}
