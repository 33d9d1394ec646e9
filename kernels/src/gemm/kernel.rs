//! The kernels of the product: a number format, an instruction that multiplies it, and the shape of
//! what is multiplied at once.

#[cfg(target_arch = "x86_64")]
use super::bodies::{Bf16Dot, Vnni};
use std::hint::black_box;

use super::bodies::{Fma, Pairs, Widen};
#[cfg(target_arch = "x86_64")]
use super::by_tiles::{Bf16, ByTiles, Int8, Pieces};
use super::form::Form;
use super::tile::{Tile, TileBody};
use crate::level::{Level, Token};
use crate::precision::Precision;
#[cfg(target_arch = "x86_64")]
use crate::simd::Avx512;
use crate::simd::{F32s, Portable, Simd};

/// What `multiply` needs to know of a kernel.
pub(crate) trait Kernel: Copy + Send + Sync {
    /// What converts, finishes and stores around it.
    type Lanes: Simd;

    /// The sizes of its tile and of its weights.
    const SHAPE: Shape;

    /// The token of the lanes.
    fn lanes(self) -> Self::Lanes;

    /// Runs `f`, which is marked `#[inline(always)]`, inside a function compiled for the lanes.
    fn enter<R>(self, f: impl FnOnce() -> R) -> R {
        self.lanes().vectorize(f)
    }

    /// Multiplies a tile of `rows` rows by `vectors` vectors, at most a full one.
    ///
    /// # Safety
    /// As [`super::tile::run`], with the sizes of [`Kernel::SHAPE`].
    unsafe fn tile(self, rows: usize, vectors: usize, tile: Tile);

    /// Runs the kernel's instruction out of registers, many times `steps` times, and returns how
    /// many operations that was: the yardstick of benchmarks.
    fn peak(self, steps: usize) -> usize;
}

/// The sizes of a kernel's full tile, and how its weights lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The form of the left operand.
    pub(crate) form: Form,
    /// Rows of a full tile.
    pub(crate) rows: usize,
    /// Every tile has a multiple of this many rows: the left operand has rows behind its last,
    /// whatever they hold, up to the next multiple.
    pub(crate) row_multiple: usize,
    /// Columns of a vector.
    pub(crate) lanes: usize,
    /// Columns of a full tile: a panel's width.
    pub(crate) width: usize,
    /// Inputs that are multiplied by one instruction, and lie side by side in a panel.
    pub(crate) group: usize,
    /// K is filled up with zeros to a multiple of this many inputs, in whole groups.
    pub(crate) multiple: usize,
    /// Bytes of a weight, or of one of its pieces.
    pub(crate) weight_bytes: usize,
    /// Inputs that are summed before the sum is added to the result: the depth of a K block.
    pub(crate) depth: usize,
}

impl Shape {
    /// Bytes of a row of the left operand, filled up, or of one piece of it.
    pub(crate) fn row_bytes(self, cols: usize) -> usize {
        cols.next_multiple_of(self.multiple) * self.form.bytes()
    }

    /// The rows that the left operand has behind its last: a tile may need so many.
    pub(crate) fn slack(self) -> usize {
        self.row_multiple - 1
    }
}

impl Default for Shape {
    /// That of the portable level's floats.
    fn default() -> Shape {
        <ByLanes<Portable, Fma> as Kernel>::SHAPE
    }
}

/// The kernel that runs a body over the lanes of a level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByLanes<S, B>(pub(crate) S, pub(crate) B);

/// How deep a K block is, in bytes of one row of x: 384 floats.
///
/// The depth is part of the definition of a result, the same for every shape and on every path:
/// `((chain over the first block) + (chain over the second)) + ...`. Deep blocks load and store each
/// sum less often; 384 floats divide the sizes of BERTs, a panel (72 KB at AVX-512), the next one
/// and their rows of x and y stay in the second-level cache, and short chains lose less to rounding
/// than one long chain does. Measured on Zen 5: 128 deep reached 88 %, 384 deep 92 % of the
/// multiply-add peak.
const BLOCK_BYTES: usize = 1536;

impl<S: Simd, B: TileBody<S> + Formed> Kernel for ByLanes<S, B> {
    type Lanes = S;

    const SHAPE: Shape = Shape {
        form: B::FORM,
        rows: S::TILE_ROWS,
        row_multiple: 1,
        lanes: S::LANES,
        width: S::LANES * S::TILE_VECTORS,
        group: B::LEFT_BYTES / B::FORM.bytes(),
        multiple: B::LEFT_BYTES / B::FORM.bytes(),
        weight_bytes: B::RIGHT_BYTES * B::FORM.bytes() / B::LEFT_BYTES,
        depth: BLOCK_BYTES / B::FORM.bytes(),
    };

    #[inline(always)]
    fn lanes(self) -> S {
        self.0
    }

    #[inline(always)]
    unsafe fn tile(self, rows: usize, vectors: usize, tile: Tile) {
        // SAFETY: the contract is handed on; the tokens prove the instruction set.
        unsafe { self.0.tile::<B>(rows, vectors, tile) }
    }

    fn peak(self, steps: usize) -> usize {
        /// A tile of independent sums: more than latency times ports of any CPU so far, and few
        /// enough for sixteen registers. As in a product, an operand that was loaded serves
        /// several instructions: with a load for each, Zen 4 runs three quarters of its `vdpbf16ps`.
        const ROWS: usize = 6;
        const VECTORS: usize = 2;
        let ByLanes(s, _) = self;
        let operand = black_box([0x3f; VECTORS * 64]);
        // SAFETY: the tokens prove the instruction set; a vector of weights is 64 bytes at most, and
        // so are the groups of all rows.
        let sums = unsafe {
            B::enter(
                s,
                #[inline(always)]
                || {
                    let mut right = [B::right(s, operand.as_ptr()); VECTORS];
                    for (vector, right) in right.iter_mut().enumerate() {
                        let offset = vector * S::LANES * B::RIGHT_BYTES;
                        *right = B::right(s, operand.as_ptr().add(offset));
                    }
                    let mut sums = [[B::zero(s); VECTORS]; ROWS];
                    for _ in 0..steps {
                        // Loaded anew, or the products would be computed once for all steps.
                        let operand = black_box(operand.as_ptr());
                        for (row, sums) in sums.iter_mut().enumerate() {
                            let left = B::left(s, operand.add(row * B::LEFT_BYTES));
                            for (sum, &right) in sums.iter_mut().zip(&right) {
                                *sum = B::add_products(s, *sum, left, right);
                            }
                        }
                    }
                    sums.map(
                        #[inline(always)]
                        |row| {
                            row.map(
                                #[inline(always)]
                                |sum| B::stored(s, sum).reduce_sum(),
                            )
                        },
                    )
                },
            )
        };
        black_box(sums);
        2 * ROWS * VECTORS * S::LANES * Self::SHAPE.group * steps
    }
}

/// The form in which a body reads its left operand.
pub(crate) trait Formed {
    const FORM: Form;
}

impl Formed for Fma {
    const FORM: Form = Form::F32;
}
impl Formed for Widen {
    const FORM: Form = Form::RoundedF32;
}
impl Formed for Pairs {
    const FORM: Form = Form::I16;
}
#[cfg(target_arch = "x86_64")]
impl Formed for Bf16Dot {
    const FORM: Form = Form::Bf16;
}
#[cfg(target_arch = "x86_64")]
impl Formed for Vnni {
    const FORM: Form = Form::U8;
}

/// The kernel that serves a precision at a level.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    Fma(Token),
    Widen(Token),
    Pairs(Token),
    #[cfg(target_arch = "x86_64")]
    Bf16Dot(ByLanes<Avx512, Bf16Dot>),
    #[cfg(target_arch = "x86_64")]
    Vnni(ByLanes<Avx512, Vnni>),
    #[cfg(target_arch = "x86_64")]
    PieceTiles(ByTiles<Pieces>),
    #[cfg(target_arch = "x86_64")]
    Bf16Tiles(ByTiles<Bf16>),
    #[cfg(target_arch = "x86_64")]
    Int8Tiles(ByTiles<Int8>),
}

impl Unit {
    /// The best kernel that `level` has for `precision`.
    pub(crate) fn new(level: Level, precision: Precision) -> Unit {
        #[cfg(target_arch = "x86_64")]
        if let Token::Avx512(lanes) = level.0 {
            if let Some(amx) = level.amx() {
                return match precision {
                    Precision::F32 => Unit::PieceTiles(ByTiles(lanes, amx, Pieces)),
                    Precision::Bf16 => Unit::Bf16Tiles(ByTiles(lanes, amx, Bf16)),
                    Precision::Int8 => Unit::Int8Tiles(ByTiles(lanes, amx, Int8)),
                };
            }
            match precision {
                Precision::Bf16 if let Some(bf16) = level.bf16() => {
                    return Unit::Bf16Dot(ByLanes(lanes, Bf16Dot(bf16)));
                }
                Precision::Int8 if let Some(vnni) = level.vnni() => {
                    return Unit::Vnni(ByLanes(lanes, Vnni(vnni)));
                }
                _ => {}
            }
        }
        match precision {
            Precision::F32 => Unit::Fma(level.0),
            Precision::Bf16 => Unit::Widen(level.0),
            Precision::Int8 => Unit::Pairs(level.0),
        }
    }

    /// The kernel of attention in `precision`: its operands change with each sequence, and are
    /// worth packing in bfloat16 where an instruction multiplies it, but neither in pieces nor in
    /// integers, whose scales would have to be found first.
    pub(crate) fn for_attention(level: Level, precision: Precision) -> Unit {
        match (precision, Unit::new(level, Precision::Bf16)) {
            (Precision::F32, _) | (_, Unit::Widen(_)) => Unit::Fma(level.0),
            (_, bf16) => bf16,
        }
    }

    /// The kernel for weights that this one cannot take: numbers that have no pieces.
    pub(crate) fn without_pieces(self) -> Unit {
        match self {
            #[cfg(target_arch = "x86_64")]
            Unit::PieceTiles(ByTiles(lanes, ..)) => Unit::Fma(Token::Avx512(lanes)),
            other => other,
        }
    }

    pub(crate) fn shape(self) -> Shape {
        with_kernel!(self, k => shape_of(k))
    }

    /// The instruction that does the work.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Unit::Fma(_) => "multiply-add",
            Unit::Widen(_) => "multiply-add of widened bf16",
            Unit::Pairs(_) => "pmaddwd",
            #[cfg(target_arch = "x86_64")]
            Unit::Bf16Dot(_) => "vdpbf16ps",
            #[cfg(target_arch = "x86_64")]
            Unit::Vnni(_) => "vpdpbusd",
            #[cfg(target_arch = "x86_64")]
            Unit::PieceTiles(_) => "six tdpbf16ps",
            #[cfg(target_arch = "x86_64")]
            Unit::Bf16Tiles(_) => "tdpbf16ps",
            #[cfg(target_arch = "x86_64")]
            Unit::Int8Tiles(_) => "tdpbusd",
        }
    }
}

fn shape_of<K: Kernel>(_: K) -> Shape {
    K::SHAPE
}

/// Runs an expression with the kernel of a unit: `with_kernel!(unit, k => run(k, x))`.
macro_rules! with_kernel {
    ($unit:expr, $k:ident => $body:expr) => {
        match $unit {
            $crate::gemm::kernel::Unit::Fma(token) => {
                $crate::gemm::kernel::with_kernel!(@lanes token, Fma, $k => $body)
            }
            $crate::gemm::kernel::Unit::Widen(token) => {
                $crate::gemm::kernel::with_kernel!(@lanes token, Widen, $k => $body)
            }
            $crate::gemm::kernel::Unit::Pairs(token) => {
                $crate::gemm::kernel::with_kernel!(@lanes token, Pairs, $k => $body)
            }
            #[cfg(target_arch = "x86_64")]
            $crate::gemm::kernel::Unit::Bf16Dot($k) => $body,
            #[cfg(target_arch = "x86_64")]
            $crate::gemm::kernel::Unit::Vnni($k) => $body,
            #[cfg(target_arch = "x86_64")]
            $crate::gemm::kernel::Unit::PieceTiles($k) => $body,
            #[cfg(target_arch = "x86_64")]
            $crate::gemm::kernel::Unit::Bf16Tiles($k) => $body,
            #[cfg(target_arch = "x86_64")]
            $crate::gemm::kernel::Unit::Int8Tiles($k) => $body,
        }
    };
    (@lanes $token:expr, $body_type:ident, $k:ident => $body:expr) => {
        match $token {
            $crate::level::Token::Portable(s) => {
                let $k = $crate::gemm::kernel::ByLanes(s, $crate::gemm::bodies::$body_type);
                $body
            }
            #[cfg(target_arch = "x86_64")]
            $crate::level::Token::Avx2(s) => {
                let $k = $crate::gemm::kernel::ByLanes(s, $crate::gemm::bodies::$body_type);
                $body
            }
            #[cfg(target_arch = "x86_64")]
            $crate::level::Token::Avx512(s) => {
                let $k = $crate::gemm::kernel::ByLanes(s, $crate::gemm::bodies::$body_type);
                $body
            }
        }
    };
}
pub(crate) use with_kernel;
