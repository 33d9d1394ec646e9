//! Packing again and again: weights after each step of an optimizer, activations as the right
//! operand of a gradient.
//!
//! Reading order is the packed one, so that each thread writes one piece of memory from front to
//! back; a right operand whose rows are inputs is copied as it is, one whose rows are outputs is
//! transposed on the way, a panel at a time.

use std::ops::Range;

use bytemuck::{Pod, cast_slice_mut};

use super::form::Form;
use super::packed::PackedMatrix;
use super::panels::Layout;
use crate::matrix::{Mat, Matrix};
use crate::parallel::{join, worthwhile};
use crate::precision::Arithmetic;
use crate::rows::for_each_vector;
use crate::simd::{F32s, Simd, dispatch};
use crate::transpose::{transpose, transpose_here};

/// Below this many elements a second thread costs more than it brings.
const WORTH_A_THREAD: usize = 64 * 1024;

impl PackedMatrix {
    /// A weight without outputs and inputs, to be packed later.
    pub fn empty(arithmetic: impl Into<Arithmetic>) -> PackedMatrix {
        PackedMatrix::from_rows(arithmetic, 0, 0, |_| &[])
    }

    /// Packs another weight, (outputs, inputs), in place of this one, in the memory of this one as
    /// far as it suffices; on the current rayon pool. What it holds then is what
    /// [`PackedMatrix::new`] makes.
    ///
    /// # Panics
    /// As [`PackedMatrix::from_rows`].
    #[track_caller]
    pub fn repack(&mut self, weight: Mat<'_>) {
        if self.repacks_in_place() {
            self.reshape(weight.cols(), weight.rows());
            self.fill_all(Source::Outputs(weight));
        } else {
            *self = self.packed_anew(weight);
        }
    }

    /// The same of the transpose of `weight`, (inputs, outputs): with W itself for `dx = dy W`, with
    /// x for `dW = dyᵀ x`.
    ///
    /// # Panics
    /// As [`PackedMatrix::from_rows`].
    #[track_caller]
    pub fn repack_transposed(&mut self, weight: Mat<'_>) {
        if self.repacks_in_place() {
            self.reshape(weight.rows(), weight.cols());
            self.fill_all(Source::Inputs(weight));
        } else {
            let mut transposed = Matrix::zeros(weight.cols(), weight.rows());
            transpose(weight, transposed.view_mut());
            *self = self.packed_anew(transposed.view());
        }
    }

    /// Another weight, with the scales of columns of this one.
    #[track_caller]
    fn packed_anew(&self, weight: Mat<'_>) -> PackedMatrix {
        let (rows, cols) = weight.shape();
        let row = |row| weight.row(row);
        PackedMatrix::from_scaled_rows(self.arithmetic(), self.columns(), rows, cols, row)
    }

    /// Whether each element is packed without regard to the others.
    fn repacks_in_place(&self) -> bool {
        !self.arithmetic().unit().shape().form.by_rows()
    }

    fn fill_all(&mut self, source: Source<'_>) {
        let arithmetic = self.arithmetic();
        let pairs = self.unit().shape().form == Form::Bf16;
        let (layout, data, bytes) = self.layout_and_data();
        let chunks = Chunks { layout, bytes };
        let threads = worthwhile(layout.len(), WORTH_A_THREAD);
        let step = chunks.len().div_ceil(threads).max(1);
        let fill = |chunk: usize, out: &mut [u8]| {
            let (block, panel) = chunks.at(chunk);
            dispatch!(arithmetic.level(), s => match (bytes, pairs) {
                (4, _) => source.fill(s, layout, block, panel, cast_slice_mut::<_, f32>(out)),
                (_, true) => source.fill(s, layout, block, panel, cast_slice_mut::<_, Pair>(out)),
                _ => source.fill(s, layout, block, panel, cast_slice_mut::<_, Half>(out)),
            })
        };
        chunks.share(0..chunks.len(), data, step, &fill);
    }
}

/// The pieces of packed memory that are filled one by one: a panel in a K block.
#[derive(Clone, Copy)]
struct Chunks {
    layout: Layout,
    bytes: usize,
}

impl Chunks {
    fn len(self) -> usize {
        self.layout.blocks().count() * self.layout.panels()
    }

    fn at(self, chunk: usize) -> ((usize, usize), usize) {
        let panels = self.layout.panels();
        let block = self.layout.blocks().nth(chunk / panels).expect("a block of the layout");
        (block, chunk % panels)
    }

    /// Where a chunk begins, in bytes.
    fn start(self, chunk: usize) -> usize {
        if chunk == self.len() {
            return self.layout.len() * self.bytes;
        }
        let (block, panel) = self.at(chunk);
        self.layout.offset(block, panel) * self.bytes
    }

    /// Halves the chunks until at most `step` are left, and fills each of those.
    fn share(
        self,
        chunks: Range<usize>,
        data: &mut [u8],
        step: usize,
        fill: &(impl Fn(usize, &mut [u8]) + Sync),
    ) {
        if chunks.len() > step {
            let middle = chunks.start + chunks.len() / 2;
            let (front, back) = data.split_at_mut(self.start(middle) - self.start(chunks.start));
            join(
                || self.share(chunks.start..middle, front, step, fill),
                || self.share(middle..chunks.end, back, step, fill),
            );
            return;
        }
        let mut rest = data;
        for chunk in chunks {
            let (own, others) = rest.split_at_mut(self.start(chunk + 1) - self.start(chunk));
            fill(chunk, own);
            rest = others;
        }
    }
}

/// A matrix to be packed.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// Its rows are outputs.
    Outputs(Mat<'a>),
    /// Its rows are inputs.
    Inputs(Mat<'a>),
}

impl Source<'_> {
    /// Fills a panel in a K block.
    #[inline(always)]
    fn fill<S: Simd, G: Group<S>>(
        self,
        s: S,
        layout: Layout,
        (first, depth): (usize, usize),
        panel: usize,
        out: &mut [G],
    ) {
        let inputs = first..layout.inputs.min(first + depth);
        let column = layout.start(panel);
        let columns = column..layout.outputs.min(column + layout.width(panel));
        let turned;
        let rows = match self {
            Source::Inputs(of) => of.row_range(inputs).col_range(columns.clone()),
            Source::Outputs(of) => {
                let mut turn = Matrix::zeros(inputs.len(), columns.len());
                transpose_here(of.row_range(columns.clone()).col_range(inputs), turn.view_mut());
                turned = turn;
                turned.view()
            }
        };
        let none = [0.0; 0];
        for (group, out) in out.chunks_exact_mut(layout.width(panel)).enumerate() {
            let row = |input: usize| if input < rows.rows() { rows.row(input) } else { &none };
            let (valid, rest) = out.split_at_mut(columns.len());
            G::fill(s, std::array::from_fn(|i| row(group * G::INPUTS + i)), valid);
            rest.fill(G::zeroed());
        }
    }
}

/// What one output has of a group of inputs.
trait Group<S: Simd>: Pod {
    /// The inputs of a group.
    const INPUTS: usize;

    /// The groups of some outputs: `rows` are the inputs, empty beyond the last one.
    fn fill(s: S, rows: [&[f32]; 2], out: &mut [Self]);
}

impl<S: Simd> Group<S> for f32 {
    const INPUTS: usize = 1;

    #[inline(always)]
    fn fill(_: S, [row, _]: [&[f32]; 2], out: &mut [f32]) {
        match row {
            [] => out.fill(0.0),
            row => out.copy_from_slice(row),
        }
    }
}

/// A bfloat16, where weights are widened in registers.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
struct Half(u16);

impl<S: Simd> Group<S> for Half {
    const INPUTS: usize = 1;

    #[inline(always)]
    fn fill(s: S, [row, _]: [&[f32]; 2], out: &mut [Half]) {
        let out: &mut [u16] = cast_slice_mut(out);
        match row {
            [] => out.fill(0),
            row => Form::Bf16.convert(s, row, cast_slice_mut(out)),
        }
    }
}

/// Two bfloat16, the even input below the odd.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
struct Pair(u32);

impl<S: Simd> Group<S> for Pair {
    const INPUTS: usize = 2;

    #[inline(always)]
    fn fill(s: S, [even, odd]: [&[f32]; 2], out: &mut [Pair]) {
        let out: &mut [f32] = cast_slice_mut(out);
        for_each_vector(
            s,
            out.len(),
            #[inline(always)]
            |at| {
                let or_zeros = |row: &[f32]| match row {
                    [] => s.splat(0.0),
                    row => s.load_or(&row[at.clone()], 0.0),
                };
                or_zeros(even).pair_bf16(or_zeros(odd)).store_prefix(&mut out[at.clone()]);
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, for_each_arithmetic};

    #[test]
    fn repacked_is_what_packing_makes() {
        for_each_arithmetic(|arithmetic| {
            let mut packed = PackedMatrix::empty(arithmetic);
            let mut transposed = PackedMatrix::empty(arithmetic);
            let mut random = Random::new(1);
            for outputs in [0, 1, 7, 16, 33, 48, 49, 100, 200] {
                for inputs in [0, 1, 2, 5, 383, 385, 771, 1537] {
                    let numbers = random.vector(outputs * inputs, -1.0, 1.0);
                    let w = Matrix::from_slice(outputs, inputs, &numbers);
                    let wt = Matrix::from_fn(inputs, outputs, |r, c| w.row(c)[r]);
                    let expected = PackedMatrix::new(arithmetic, w.view());
                    packed.repack(w.view());
                    transposed.repack_transposed(wt.view());
                    let case = format!("{arithmetic} {outputs} x {inputs}");
                    assert!(packed.same_bytes(&expected), "{case}");
                    assert!(transposed.same_bytes(&expected), "{case}, transposed");
                }
            }
        });
    }

    #[test]
    fn threads_fill_what_one_fills() {
        let w = Matrix::from_slice(300, 1000, &Random::new(2).vector(300_000, -1.0, 1.0));
        for_each_arithmetic(|arithmetic| {
            let expected = PackedMatrix::new(arithmetic, w.view());
            for threads in [1, 2, 3, 5] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut packed = PackedMatrix::empty(arithmetic);
                pool.install(|| packed.repack(w.view()));
                assert!(packed.same_bytes(&expected), "{arithmetic} {threads}");
            }
        });
    }
}
