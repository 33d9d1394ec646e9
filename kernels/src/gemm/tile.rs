//! The register tile: a few rows times a few vectors of columns, summed over one K block.

use crate::simd::{F32s, Simd};

/// The operands of one register tile: `c[r][j] (+)= sum_k a[r][k] * b[k][j]`, with `j` over all
/// lanes of the tile's vectors. Strides are in elements.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// How many products each sum has.
    pub(crate) depth: usize,
    /// Element (0, 0) of the left operand, whose `k` lie side by side.
    pub(crate) a: *const f32,
    /// From one row of `a` to the next.
    pub(crate) a_row_stride: usize,
    /// Element (0, 0) of the right operand; its columns lie side by side.
    pub(crate) b: *const f32,
    /// From one `k` of `b` to the next.
    pub(crate) b_depth_stride: usize,
    /// Element (0, 0) of the result.
    pub(crate) c: *mut f32,
    /// From one row of `c` to the next.
    pub(crate) c_row_stride: usize,
    /// Whether the sums are added to `c`; else they overwrite it, and `c` is not read.
    pub(crate) accumulate: bool,
    /// What will be needed next: a line of it is asked for with each `k`. Need not be readable.
    pub(crate) ahead: *const f32,
    /// From one such line to the next.
    pub(crate) ahead_stride: usize,
}

/// Runs a tile of `ROWS` rows and `VECTORS` vectors. Each element is one chain of multiply-adds in
/// ascending `k`, whatever the shape of the tile: the same bits at every shape.
///
/// # Safety
/// - `a` is valid for reading at `r * a_row_stride + k`, for all `r < ROWS` and
///   `k < depth`.
/// - `b` is valid for reading `VECTORS * S::LANES` elements at `k * b_depth_stride`, `k < depth`.
/// - `c` is valid for writing `VECTORS * S::LANES` elements at `r * c_row_stride`, and for reading
///   them if `accumulate` is set; nobody else uses these elements meanwhile.
#[inline(always)]
pub(crate) unsafe fn run<S: Simd, const ROWS: usize, const VECTORS: usize>(s: S, tile: Tile) {
    s.vectorize(
        #[inline(always)]
        || {
            let Tile { depth, a_row_stride, b_depth_stride, ahead_stride, .. } = tile;
            let (mut a, mut b, mut ahead) = (tile.a, tile.b, tile.ahead);
            // A result that lies beyond the second-level cache is there by the time it is written.
            for r in 0..ROWS {
                for j in 0..VECTORS {
                    s.prefetch_write(tile.c.wrapping_add(r * tile.c_row_stride + j * S::LANES));
                }
            }
            let mut sums = [[s.splat(0.0); VECTORS]; ROWS];
            for _ in 0..depth {
                s.prefetch(ahead);
                ahead = ahead.wrapping_add(ahead_stride);
                // SAFETY: this is one `k` of the operands, which the caller grants. The pointers
                // step past the last `k` with `wrapping_add` and are not read there.
                unsafe {
                    let mut right = [s.splat(0.0); VECTORS];
                    for j in 0..VECTORS {
                        right[j] = s.load_ptr(b.add(j * S::LANES));
                    }
                    for r in 0..ROWS {
                        let left = s.splat(*a.add(r * a_row_stride));
                        for j in 0..VECTORS {
                            sums[r][j] = left.mul_add(right[j], sums[r][j]);
                        }
                    }
                }
                a = a.wrapping_add(1);
                b = b.wrapping_add(b_depth_stride);
            }
            for r in 0..ROWS {
                for j in 0..VECTORS {
                    // SAFETY: the caller grants these elements of `c`.
                    unsafe {
                        let c = tile.c.add(r * tile.c_row_stride + j * S::LANES);
                        let sum = match tile.accumulate {
                            true => s.load_ptr(c) + sums[r][j],
                            false => sums[r][j],
                        };
                        sum.store_ptr(c);
                    }
                }
            }
        },
    )
}

/// Runs the tile of the given shape, one of the listed numbers of rows by one of the listed numbers
/// of vectors: `tiles!(s, (rows, vectors), tile; [1 2] x [1])`.
macro_rules! tiles {
    ($s:expr, ($rows:expr, $vectors:expr), $tile:expr; [$($r:literal)+] x $widths:tt) => {
        match $rows {
            $($r => tiles!(@vectors $s, $vectors, $tile; $r x $widths),)+
            rows => unreachable!("no tile of {rows} rows at this level"),
        }
    };
    (@vectors $s:expr, $vectors:expr, $tile:expr; $r:literal x [$($v:literal)+]) => {
        match $vectors {
            $($v => $crate::gemm::tile::run::<Self, $r, $v>($s, $tile),)+
            vectors => unreachable!("no tile of {vectors} vectors at this level"),
        }
    };
}
pub(crate) use tiles;
