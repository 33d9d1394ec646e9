//! The register tile: a few rows times a few vectors of columns, summed over one K block.
//!
//! There is one loop for all number formats. What differs is how a group of neighbouring inputs is
//! multiplied: see [`TileBody`].

use crate::simd::{F32s, Simd};

/// Bytes of a cache line.
const LINE: usize = 64;

/// Groups that are taken together. Pointers are computed once for all of them, and what is decoded besides the sums is less: where the core has
/// another thread, that is what binds. Measured on such a core of Zen 3, at AVX2: 60 to 80 % of the
/// multiply-add peak one by one, 84 to 90 % so.
const TOGETHER: usize = 4;

/// The operands of one register tile: `c[r][j] (+)= sum_k a[r][k] * b[k][j]`, with `j` over all
/// lanes of the tile's vectors. K goes in groups of the body's size.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// How many groups of inputs each sum has.
    pub(crate) groups: usize,
    /// The first element of the left operand, whose inputs lie side by side.
    pub(crate) a: *const u8,
    /// Bytes from one row of `a` to the next.
    pub(crate) a_row_stride: usize,
    /// The first group of the right operand: the group of one column after that of another.
    pub(crate) b: *const u8,
    /// Bytes from one group of `b` to the next.
    pub(crate) b_group_stride: usize,
    /// Element (0, 0) of the result: floats, or the bits of integers.
    pub(crate) c: *mut f32,
    /// Elements from one row of `c` to the next.
    pub(crate) c_row_stride: usize,
    /// Whether the sums are added to `c`; else they overwrite it, and `c` is not read.
    pub(crate) accumulate: bool,
    /// What will be needed next: lines of it are asked for with each group. Need not be readable.
    pub(crate) ahead: *const u8,
    /// Bytes of it to each group.
    pub(crate) ahead_stride: usize,
    /// Bytes from one piece of the left operand to the next, where it has pieces.
    pub(crate) a_piece: usize,
    /// Bytes from one piece of the right operand to the next.
    pub(crate) b_piece: usize,
}

/// How a group of inputs is multiplied at one level.
pub(crate) trait TileBody<S: Simd>: Copy + Send + Sync {
    /// A group of the left operand, in all lanes.
    type Left: Copy;
    /// A group of the right operand for each lane.
    type Right: Copy;
    /// A sum for each lane.
    type Sum: Copy;

    /// Bytes of a group of the left operand.
    const LEFT_BYTES: usize;
    /// Bytes of a group of the right operand, for one column.
    const RIGHT_BYTES: usize;

    /// Runs `f`, which is marked `#[inline(always)]`, inside a function compiled for what this
    /// body's methods need.
    ///
    /// # Safety
    /// - The machine executes it.
    unsafe fn enter<R>(s: S, f: impl FnOnce() -> R) -> R;

    /// # Safety
    /// - `a` is valid for reading `LEFT_BYTES`, and the machine executes what this body needs.
    unsafe fn left(s: S, a: *const u8) -> Self::Left;

    /// # Safety
    /// - `b` is valid for reading `RIGHT_BYTES * S::LANES`, and the machine executes what this body
    ///   needs.
    unsafe fn right(s: S, b: *const u8) -> Self::Right;

    /// Nothing summed yet.
    fn zero(s: S) -> Self::Sum;

    /// The sum with the products of one more group.
    ///
    /// # Safety
    /// - The machine executes what this body needs.
    unsafe fn add_products(s: S, sum: Self::Sum, a: Self::Left, b: Self::Right) -> Self::Sum;

    /// The sum as it is stored: floats, or the bits of integers.
    fn stored(s: S, sum: Self::Sum) -> S::F32;

    /// The total of two stored sums.
    fn total(stored: S::F32, sum: S::F32) -> S::F32;
}

/// Runs a tile of `ROWS` rows and `VECTORS` vectors. Each element is one chain over its groups in
/// ascending order, whatever the shape of the tile: the same bits at every shape.
///
/// # Safety
/// - The machine executes what `B` needs.
/// - `a` is valid for reading `groups * B::LEFT_BYTES` at `r * a_row_stride`, for all `r < ROWS`.
/// - `b` is valid for reading `VECTORS * S::LANES * B::RIGHT_BYTES` at `g * b_group_stride`, for all
///   `g < groups`.
/// - `c` is valid for writing `VECTORS * S::LANES` elements at `r * c_row_stride`, and for reading
///   them if `accumulate` is set; nobody else uses these elements meanwhile.
#[inline(always)]
pub(crate) unsafe fn run<S: Simd, B: TileBody<S>, const ROWS: usize, const VECTORS: usize>(
    s: S,
    tile: Tile,
) {
    // SAFETY: the contract is handed on.
    unsafe {
        B::enter(
            s,
            #[inline(always)]
            || match tile.ahead_stride {
                stride if stride <= LINE / TOGETHER => sum_tile::<S, B, ROWS, VECTORS, 0>(s, tile),
                stride if stride <= LINE => sum_tile::<S, B, ROWS, VECTORS, 1>(s, tile),
                stride if stride <= 2 * LINE => sum_tile::<S, B, ROWS, VECTORS, 2>(s, tile),
                _ => sum_tile::<S, B, ROWS, VECTORS, 3>(s, tile),
            },
        )
    }
}

/// With each group asks for `AHEAD` lines of what comes next: more than one where so few rows pass over
/// a panel that one is not enough, and memory has to keep up with the sums; none is one line for all
/// groups that are taken together.
///
/// # Safety
/// As [`run`], and it runs inside [`TileBody::enter`].
#[inline(always)]
unsafe fn sum_tile<
    S: Simd,
    B: TileBody<S>,
    const ROWS: usize,
    const VECTORS: usize,
    const AHEAD: usize,
>(
    s: S,
    tile: Tile,
) {
    let (mut a, mut b, mut ahead) = (tile.a, tile.b, tile.ahead);
    // A result that lies beyond the second-level cache is there by the time it is written.
    for r in 0..ROWS {
        for j in 0..VECTORS {
            s.prefetch_write(tile.c.wrapping_add(r * tile.c_row_stride + j * S::LANES));
        }
    }
    let mut sums = [[B::zero(s); VECTORS]; ROWS];
    for _ in 0..tile.groups / TOGETHER {
        if AHEAD == 0 {
            s.prefetch(ahead);
        }
        for group in 0..TOGETHER {
            for line in 0..AHEAD {
                s.prefetch(ahead.wrapping_add(line * LINE));
            }
            ahead = ahead.wrapping_add(tile.ahead_stride);
            let a = a.wrapping_add(group * B::LEFT_BYTES);
            // SAFETY: this is one group of the operands, which the caller grants. The pointers step
            // past the last group with `wrapping_add` and are not read there.
            unsafe { add_group::<S, B, ROWS, VECTORS>(s, &mut sums, a, tile.a_row_stride, b) }
            b = b.wrapping_add(tile.b_group_stride);
        }
        a = a.wrapping_add(TOGETHER * B::LEFT_BYTES);
    }
    for _ in 0..tile.groups % TOGETHER {
        // SAFETY: as above.
        unsafe { add_group::<S, B, ROWS, VECTORS>(s, &mut sums, a, tile.a_row_stride, b) }
        (a, b) = (a.wrapping_add(B::LEFT_BYTES), b.wrapping_add(tile.b_group_stride));
    }
    for r in 0..ROWS {
        for j in 0..VECTORS {
            // SAFETY: the caller grants these elements of `c`.
            unsafe {
                let c = tile.c.add(r * tile.c_row_stride + j * S::LANES);
                let sum = B::stored(s, sums[r][j]);
                let sum = if tile.accumulate { B::total(s.load_ptr(c), sum) } else { sum };
                sum.store_ptr(c);
            }
        }
    }
}

/// Adds the products of one group to the sums.
///
/// # Safety
/// - `a` and `b` are valid for reading a group of a tile of that shape, and it runs inside
///   [`TileBody::enter`].
#[inline(always)]
unsafe fn add_group<S: Simd, B: TileBody<S>, const ROWS: usize, const VECTORS: usize>(
    s: S,
    sums: &mut [[B::Sum; VECTORS]; ROWS],
    a: *const u8,
    a_row_stride: usize,
    b: *const u8,
) {
    // SAFETY: the contract is handed on.
    unsafe {
        let right: [B::Right; VECTORS] = std::array::from_fn(
            #[inline(always)]
            |j| B::right(s, b.add(j * S::LANES * B::RIGHT_BYTES)),
        );
        for r in 0..ROWS {
            let left = B::left(s, a.add(r * a_row_stride));
            for j in 0..VECTORS {
                sums[r][j] = B::add_products(s, sums[r][j], left, right[j]);
            }
        }
    }
}

/// Runs the tile of the given shape, one of the listed numbers of rows by one of the listed numbers
/// of vectors: `tiles!(s, Body, (rows, vectors), tile; [1 2] x [1])`.
macro_rules! tiles {
    ($s:expr, $b:ident, ($rows:expr, $vectors:expr), $tile:expr; [$($r:literal)+] x $widths:tt) => {
        match $rows {
            $($r => tiles!(@vectors $s, $b, $vectors, $tile; $r x $widths),)+
            rows => unreachable!("no tile of {rows} rows at this level"),
        }
    };
    (@vectors $s:expr, $b:ident, $vectors:expr, $tile:expr; $r:literal x [$($v:literal)+]) => {
        match $vectors {
            $($v => $crate::gemm::tile::run::<Self, $b, $r, $v>($s, $tile),)+
            vectors => unreachable!("no tile of {vectors} vectors at this level"),
        }
    };
}
pub(crate) use tiles;
