//! The kernels of the tile unit.

use super::form::Form;
use super::kernel::{Kernel, Shape};
use super::tile::Tile;
use crate::amx::{Amx, Block, Product, Tiles, peak_bf16, peak_int8, run};
use crate::simd::{Avx512, Simd};

/// Rows and columns of a tile of the result; bytes of a row of an operand's tile.
const SIDE: usize = 16;
const ROW_BYTES: usize = 64;

/// A number format of the tile unit.
pub(crate) trait TileFormat: Copy + Send + Sync {
    /// The form of the left operand.
    const FORM: Form;
    /// What the unit multiplies.
    const PRODUCT: Product;
    /// The depth of a K block: the panel stays in the first-level cache, the rows of x come from
    /// the second. Measured on Sapphire Rapids, for 512 bytes of each row in bf16 and 256 of each
    /// piece in f32 by pieces.
    const DEPTH: usize;
}

/// bfloat16.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bf16;

impl TileFormat for Bf16 {
    const FORM: Form = Form::Bf16;
    const PRODUCT: Product = Product::Bf16;
    const DEPTH: usize = 256;
}

/// Bytes: those of x without a sign, those of the weights with one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Int8;

impl TileFormat for Int8 {
    const FORM: Form = Form::U8;
    const PRODUCT: Product = Product::Int8;
    const DEPTH: usize = 512;
}

/// f32 as the sum of three bfloat16: see [`super::pieces`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pieces;

impl TileFormat for Pieces {
    const FORM: Form = Form::Pieces;
    const PRODUCT: Product = Product::Split;
    const DEPTH: usize = 128;
}

/// The kernel that multiplies 2 x 2 tiles of a format.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByTiles<F>(pub(crate) Avx512, pub(crate) Amx, pub(crate) F);

impl<F: TileFormat> Kernel for ByTiles<F> {
    type Lanes = Avx512;

    const SHAPE: Shape = Shape {
        form: F::FORM,
        rows: 2 * SIDE,
        row_multiple: SIDE,
        lanes: SIDE,
        width: 2 * SIDE,
        group: 4 / F::FORM.bytes(),
        multiple: ROW_BYTES / F::FORM.bytes(),
        weight_bytes: F::FORM.bytes(),
        depth: F::DEPTH,
    };

    #[inline(always)]
    fn lanes(self) -> Avx512 {
        self.0
    }

    #[inline(always)]
    fn enter<R>(self, f: impl FnOnce() -> R) -> R {
        let _tiles = Tiles::new(self.1);
        self.0.vectorize(f)
    }

    #[inline(always)]
    unsafe fn tile(self, rows: usize, vectors: usize, tile: Tile) {
        let block = Block {
            steps: tile.groups / SIDE,
            a: tile.a,
            a_stride: tile.a_row_stride,
            b: tile.b,
            b_stride: tile.b_group_stride,
            c: tile.c.cast(),
            c_stride: tile.c_row_stride * size_of::<f32>(),
            accumulate: tile.accumulate,
            ahead: tile.ahead,
            ahead_step: tile.ahead_stride * SIDE,
            a_piece: tile.a_piece,
            b_piece: tile.b_piece,
        };
        // SAFETY: the contract is handed on: `rows` is one or two tiles, a vector is a tile wide,
        // and sixteen groups are a tile deep.
        unsafe { run(&Tiles::new(self.1), F::PRODUCT, (rows / SIDE, vectors), &block) }
    }

    fn peak(self, steps: usize) -> usize {
        let tiles = Tiles::new(self.1);
        // A tile product takes as long as a few dozen vector instructions.
        let operations = match F::PRODUCT {
            Product::Int8 => peak_int8(&tiles, steps / 16),
            Product::Bf16 => peak_bf16(&tiles, steps / 16),
            // Six products of pieces make one of floats.
            Product::Split => peak_bf16(&tiles, steps / 16) / 6,
        };
        operations as usize
    }
}
