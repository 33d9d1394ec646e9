//! The register blocks of the tile unit: up to 2 x 2 tiles of the result, summed over all of K in
//! one `asm!`, since nothing else may keep a tile register.
//!
//! Registers: the result's tile (r, j) is tmm(2r + j), the left operand's tile r is tmm(4 + r),
//! the right operand's tile j is tmm(6 + j). A 2 x 2 block loads four tiles for four products;
//! split into three pieces it loads fourteen for twenty-four.
//!
//! Loads stand between products, so that the two units work at the same time, and each gap between
//! products asks for its part of what the caller will need next.

use std::arch::asm;
use std::mem::offset_of;

use super::Tiles;

/// The operands of one register block of `ROWS` x `COLUMNS` tiles, each a tile of 16 x 16 results.
/// A K step is one tile of K: 64 bytes of each row of the left operand, 32 bf16 or 64 int8.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// How many K steps.
    pub(crate) steps: usize,
    /// The left operand, row by row: K step `s` of a row begins at `64 * s` bytes.
    pub(crate) a: *const u8,
    /// Bytes from one row of `a` to the next.
    pub(crate) a_stride: usize,
    /// The right operand, a panel of tile rows: each has, for one group of K (2 bf16 or 4 int8),
    /// the group of every column, side by side. K step `s` begins at tile row `16 * s`, the tile of
    /// columns `j` at `64 * j` bytes.
    pub(crate) b: *const u8,
    /// Bytes from one tile row of `b` to the next.
    pub(crate) b_stride: usize,
    /// The result, f32 or i32, row by row.
    pub(crate) c: *mut u8,
    /// Bytes from one row of `c` to the next.
    pub(crate) c_stride: usize,
    /// Whether the products are added to `c`; else they overwrite it, and `c` is not read.
    pub(crate) accumulate: bool,
    /// What will be needed next: brought into the second-level cache meanwhile, line by line. Need
    /// not be readable.
    pub(crate) ahead: *const u8,
    /// How many bytes of that to each K step.
    pub(crate) ahead_step: usize,
    /// Bytes from one bf16 piece of `a` to the next; [`split`] alone looks at it.
    pub(crate) a_piece: usize,
    /// Bytes from one bf16 piece of `b` to the next; [`split`] alone looks at it.
    pub(crate) b_piece: usize,
}

/// What is multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Product {
    /// [`bf16`].
    Bf16,
    /// [`int8`].
    Int8,
    /// [`split`].
    Split,
}

/// Runs a block of `rows` x `columns` tiles, each 1 or 2.
///
/// # Safety
/// That of [`bf16`], [`int8`] or [`split`], whichever `product` names.
///
/// # Panics
/// At any other shape.
pub(crate) unsafe fn run(
    tiles: &Tiles,
    product: Product,
    (rows, columns): (usize, usize),
    block: &Block,
) {
    macro_rules! shape {
        ($rows:literal, $columns:literal) => {
            // SAFETY: the contract is handed on.
            unsafe {
                match product {
                    Product::Bf16 => bf16::<$rows, $columns>(tiles, block),
                    Product::Int8 => int8::<$rows, $columns>(tiles, block),
                    Product::Split => split::<$rows, $columns>(tiles, block),
                }
            }
        };
    }
    match (rows, columns) {
        (1, 1) => shape!(1, 1),
        (1, 2) => shape!(1, 2),
        (2, 1) => shape!(2, 1),
        (2, 2) => shape!(2, 2),
        _ => unreachable!("no block of {rows} x {columns} tiles"),
    }
}

/// What the `asm!` reads from memory, having fewer registers than a block has numbers.
#[repr(C)]
struct Fixed {
    c: *mut u8,
    c_stride: usize,
    accumulate: usize,
    /// Bytes from one K step of `b` to the next.
    b_step: usize,
    /// Bytes to ask for at each gap between products.
    gap: usize,
    a_piece: usize,
    b_piece: usize,
}

impl Fixed {
    fn new(block: &Block, gaps: usize) -> Fixed {
        Fixed {
            c: block.c,
            c_stride: block.c_stride,
            accumulate: usize::from(block.accumulate),
            b_step: 16 * block.b_stride,
            gap: block.ahead_step.div_ceil(gaps),
            a_piece: block.a_piece,
            b_piece: block.b_piece,
        }
    }
}

/// The `asm!` of a kernel: `c` is loaded or zeroed, `$step` runs for each K step, `c` is stored.
/// In `$step`, `{a}` and `{a1}` are the rows of the first and of the second row tile, `{b}` the
/// panel, `{sa}` and `{sb}` their strides; `{t1}` and `{t2}` are `a_piece` and `b_piece`.
macro_rules! kernel {
    ($block:ident, $gaps:expr, $rows:ident x $columns:ident, { $($step:expr,)+ }) => {{
        const { assert!(matches!($rows, 1 | 2) && matches!($columns, 1 | 2)) };
        let fixed = Fixed::new($block, $gaps);
        // SAFETY: `&Tiles` proves the instructions and that the tiles are 16 rows of 64 bytes. Tile
        // loads and stores touch what the caller grants; prefetches touch nothing that a program
        // can see. No other memory than `fixed` is read.
        unsafe {
            asm!(
                "mov {a1}, [{fixed} + {C}]",
                "mov {t1}, [{fixed} + {C_STRIDE}]",
                "mov {t2}, {t1}",
                "shl {t2}, 4",
                "add {t2}, {a1}",
                "cmp qword ptr [{fixed} + {ACCUMULATE}], 0",
                "je 2f",
                "tileloadd tmm0, [{a1} + {t1}]",
                ".if {COLUMNS} == 2",
                "tileloadd tmm1, [{a1} + {t1} + 64]",
                ".endif",
                ".if {ROWS} == 2",
                "tileloadd tmm2, [{t2} + {t1}]",
                ".if {COLUMNS} == 2",
                "tileloadd tmm3, [{t2} + {t1} + 64]",
                ".endif",
                ".endif",
                "jmp 3f",
                "2:",
                "tilezero tmm0",
                ".if {COLUMNS} == 2",
                "tilezero tmm1",
                ".endif",
                ".if {ROWS} == 2",
                "tilezero tmm2",
                ".if {COLUMNS} == 2",
                "tilezero tmm3",
                ".endif",
                ".endif",
                "3:",
                "test {steps}, {steps}",
                "jz 5f",
                "mov {a1}, {sa}",
                "shl {a1}, 4",
                "add {a1}, {a}",
                "mov {t1}, [{fixed} + {A_PIECE}]",
                "mov {t2}, [{fixed} + {B_PIECE}]",
                ".p2align 5",
                "4:",
                $($step,)+
                "dec {steps}",
                "jnz 4b",
                "5:",
                "mov {a1}, [{fixed} + {C}]",
                "mov {t1}, [{fixed} + {C_STRIDE}]",
                "tilestored [{a1} + {t1}], tmm0",
                ".if {COLUMNS} == 2",
                "tilestored [{a1} + {t1} + 64], tmm1",
                ".endif",
                ".if {ROWS} == 2",
                "mov {t2}, {t1}",
                "shl {t2}, 4",
                "add {t2}, {a1}",
                "tilestored [{t2} + {t1}], tmm2",
                ".if {COLUMNS} == 2",
                "tilestored [{t2} + {t1} + 64], tmm3",
                ".endif",
                ".endif",
                ROWS = const $rows,
                COLUMNS = const $columns,
                C = const offset_of!(Fixed, c),
                C_STRIDE = const offset_of!(Fixed, c_stride),
                ACCUMULATE = const offset_of!(Fixed, accumulate),
                B_STEP = const offset_of!(Fixed, b_step),
                GAP = const offset_of!(Fixed, gap),
                A_PIECE = const offset_of!(Fixed, a_piece),
                B_PIECE = const offset_of!(Fixed, b_piece),
                fixed = in(reg) &raw const fixed,
                steps = inout(reg) $block.steps => _,
                a = inout(reg) $block.a => _,
                sa = in(reg) $block.a_stride,
                b = inout(reg) $block.b => _,
                sb = in(reg) $block.b_stride,
                // What was asked for ends at `ahead`; the gaps move `until` on.
                ahead = inout(reg) $block.ahead => _,
                until = inout(reg) $block.ahead => _,
                a1 = out(reg) _,
                t1 = out(reg) _,
                t2 = out(reg) _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }};
}

/// A gap between products: asks for the lines up to `{until}`, which moves on. The pace is even
/// whatever the number of lines to a K step, which need not be whole.
macro_rules! gap {
    () => {
        concat!(
            "add {until}, [{fixed} + {GAP}]\n",
            "cmp {ahead}, {until}\n",
            "jae 7f\n",
            "6:\n",
            "prefetcht1 [{ahead}]\n",
            "add {ahead}, 64\n",
            "cmp {ahead}, {until}\n",
            "jb 6b\n",
            "7:",
        )
    };
}

/// The K step of operands in one piece, with `$product` the instruction.
macro_rules! whole {
    ($name:ident, $product:literal, $(#[$doc:meta])+) => {
        $(#[$doc])+
        pub(crate) unsafe fn $name<const ROWS: usize, const COLUMNS: usize>(
            _: &Tiles,
            block: &Block,
        ) {
            kernel!(block, ROWS * COLUMNS, ROWS x COLUMNS, {
                "tileloadd tmm4, [{a} + {sa}]",
                "tileloadd tmm6, [{b} + {sb}]",
                "add {a}, 64",
                concat!($product, " tmm0, tmm4, tmm6"),
                gap!(),
                ".if {COLUMNS} == 2",
                "tileloadd tmm7, [{b} + {sb} + 64]",
                concat!($product, " tmm1, tmm4, tmm7"),
                gap!(),
                ".endif",
                "add {b}, [{fixed} + {B_STEP}]",
                ".if {ROWS} == 2",
                "tileloadd tmm5, [{a1} + {sa}]",
                "add {a1}, 64",
                concat!($product, " tmm2, tmm5, tmm6"),
                gap!(),
                ".if {COLUMNS} == 2",
                concat!($product, " tmm3, tmm5, tmm7"),
                gap!(),
                ".endif",
                ".endif",
            })
        }
    };
}

whole! {
    bf16, "tdpbf16ps",
    /// Products of bf16, summed in f32.
    ///
    /// To each K step, an element of `c` has two chains of 16 multiply-adds, one of the even `k`
    /// and one of the odd, both begun at zero; they are added to one another, then to `c`. Every
    /// rounding is to nearest, denormals count as zero. Its bits depend on neither the shape of the
    /// block nor the other elements.
    ///
    /// # Safety
    /// - `a` is valid for reading `64 * steps` bytes at `a_stride * i`, for all `i < 16 * ROWS`.
    /// - `b` is valid for reading `64 * COLUMNS` bytes at `b_stride * i`, for all `i < 16 * steps`.
    /// - `c` is valid for writing `64 * COLUMNS` bytes at `c_stride * i`, for all `i < 16 * ROWS`,
    ///   and for reading them if `accumulate` is set; nobody else uses these bytes meanwhile.
}

whole! {
    int8, "tdpbusd",
    /// Products of bytes, those of `a` without a sign and those of `b` with one, summed in i32, which
    /// wraps around.
    ///
    /// # Safety
    /// That of [`bf16`].
}

/// A K step's product of all tiles of one pair of pieces, and then the loads of the next piece of
/// the right operand, to which `$move` moves `{b}`. The first tile's load overlaps with
/// the products of the second.
macro_rules! then_load_b {
    ($move:literal) => {
        concat!(
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            ".if {ROWS} == 2\n",
            "tdpbf16ps tmm2, tmm5, tmm6\n",
            ".endif\n",
            $move,
            "\n",
            "tileloadd tmm6, [{b} + {sb}]\n",
            ".if {COLUMNS} == 2\n",
            "tdpbf16ps tmm1, tmm4, tmm7\n",
            ".if {ROWS} == 2\n",
            "tdpbf16ps tmm3, tmm5, tmm7\n",
            ".endif\n",
            "tileloadd tmm7, [{b} + {sb} + 64]\n",
            ".endif",
        )
    };
}

/// The same with the next piece of the left operand, one step of `{t1}` away for each `$move`.
macro_rules! then_load_a {
    ($($move:literal),+) => {
        concat!(
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            ".if {COLUMNS} == 2\n",
            "tdpbf16ps tmm1, tmm4, tmm7\n",
            ".endif\n",
            $($move, " {a}, {t1}\n",)+
            "tileloadd tmm4, [{a} + {sa}]\n",
            ".if {ROWS} == 2\n",
            "tdpbf16ps tmm2, tmm5, tmm6\n",
            ".if {COLUMNS} == 2\n",
            "tdpbf16ps tmm3, tmm5, tmm7\n",
            ".endif\n",
            $($move, " {a1}, {t1}\n",)+
            "tileloadd tmm5, [{a1} + {sa}]\n",
            ".endif",
        )
    };
}

/// Products of f32, each of both operands the sum of three bf16 pieces, the largest first: to each
/// K step, the products of the pieces (0, 2), (0, 1), (1, 1), (1, 0), (2, 0), (0, 0), each as
/// [`bf16`] does it. Those left out are below the rounding of f32.
///
/// The order goes through the pairs by changing one piece at a time, and ends with the largest
/// product, so that the small ones are added up first. It is the same at every shape, hence the
/// bits of an element are too.
///
/// # Safety
/// That of [`bf16`], for each piece `p < 3` of `a` at `a_piece * p` and of `b` at `b_piece * p`.
pub(crate) unsafe fn split<const ROWS: usize, const COLUMNS: usize>(_: &Tiles, block: &Block) {
    // The walk begins at the last piece of `b` and returns there.
    let b = block.b.wrapping_add(2 * block.b_piece);
    let block = &Block { b, ..*block };
    kernel!(block, 6, ROWS x COLUMNS, {
        "tileloadd tmm4, [{a} + {sa}]",
        "tileloadd tmm6, [{b} + {sb}]",
        ".if {ROWS} == 2",
        "tileloadd tmm5, [{a1} + {sa}]",
        ".endif",
        ".if {COLUMNS} == 2",
        "tileloadd tmm7, [{b} + {sb} + 64]",
        ".endif",
        then_load_b!("sub {b}, {t2}"),
        gap!(),
        then_load_a!("add"),
        gap!(),
        then_load_b!("sub {b}, {t2}"),
        gap!(),
        then_load_a!("add"),
        gap!(),
        then_load_a!("sub", "sub"),
        gap!(),
        "tdpbf16ps tmm0, tmm4, tmm6",
        "add {a}, 64",
        "add {b}, [{fixed} + {B_STEP}]",
        ".if {COLUMNS} == 2",
        "tdpbf16ps tmm1, tmm4, tmm7",
        ".endif",
        "lea {b}, [{b} + 2*{t2}]",
        ".if {ROWS} == 2",
        "add {a1}, 64",
        "tdpbf16ps tmm2, tmm5, tmm6",
        ".if {COLUMNS} == 2",
        "tdpbf16ps tmm3, tmm5, tmm7",
        ".endif",
        ".endif",
        gap!(),
    })
}

/// `steps` rounds of six independent products out of registers, more than the unit's latency
/// needs, as the yardstick of the benchmarks.
macro_rules! peak {
    ($name:ident, $product:literal, $operations:literal, $(#[$doc:meta])+) => {
        $(#[$doc])+
        pub(crate) fn $name(_: &Tiles, steps: usize) -> u64 {
            // 1.0 in bf16; some number in int8.
            static ONES: [u16; 32] = [0x3F80; 32];
            // SAFETY: `&Tiles` proves the instructions and that the tiles are 16 rows of 64 bytes.
            // A stride of zero loads the 64 bytes of `ONES` into every row.
            unsafe {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "tilezero tmm4",
                    "tilezero tmm5",
                    "tileloadd tmm6, [{ones} + {zero}]",
                    "tileloadd tmm7, [{ones} + {zero}]",
                    "test {steps}, {steps}",
                    "jz 3f",
                    "2:",
                    concat!($product, " tmm0, tmm6, tmm7"),
                    concat!($product, " tmm1, tmm6, tmm7"),
                    concat!($product, " tmm2, tmm6, tmm7"),
                    concat!($product, " tmm3, tmm6, tmm7"),
                    concat!($product, " tmm4, tmm6, tmm7"),
                    concat!($product, " tmm5, tmm6, tmm7"),
                    "dec {steps}",
                    "jnz 2b",
                    "3:",
                    steps = inout(reg) steps => _,
                    ones = in(reg) &raw const ONES,
                    zero = in(reg) 0usize,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(readonly, nostack),
                );
            }
            6 * $operations * steps as u64
        }
    };
}

peak! {
    peak_bf16, "tdpbf16ps", 16_384,
    /// `steps` rounds of six independent bf16 products out of registers, more than the latency of
    /// one needs. Returns the number of floating-point operations: 16,384 a product.
}

peak! {
    peak_int8, "tdpbusd", 32_768,
    /// The same with int8 products; returns the number of integer operations, 32,768 a product.
}
