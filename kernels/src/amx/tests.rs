//! The kernels against their definition, on the CPU's tile unit or in the emulator.

use std::arch::asm;

use super::{Block, Product, Tiles, peak_bf16, peak_int8, run};
use crate::testing::amx_emulator::token;
use crate::testing::{Edge, Guarded, Random, Tolerance, U};

const SHAPES: [(usize, usize); 4] = [(1, 1), (1, 2), (2, 1), (2, 2)];

impl Product {
    const ALL: [Product; 3] = [Product::Bf16, Product::Int8, Product::Split];

    /// Elements of K to a step.
    fn depth(self) -> usize {
        if self == Product::Int8 { 64 } else { 32 }
    }

    /// Elements of K that lie side by side in a tile row of the right operand.
    fn group(self) -> usize {
        if self == Product::Int8 { 4 } else { 2 }
    }

    /// The pieces of `x` as they lie in memory, the largest piece first.
    fn pieces(self, x: f32) -> Vec<Vec<u8>> {
        match self {
            Product::Bf16 => vec![exact_bf16(x).to_vec()],
            Product::Int8 => vec![vec![x as i32 as u8]],
            Product::Split => {
                let first = nearest_bf16(x);
                let second = nearest_bf16(x - first);
                let third = x - first - second;
                [first, second, third].map(|x| exact_bf16(x).to_vec()).to_vec()
            }
        }
    }
}

fn exact_bf16(x: f32) -> [u8; 2] {
    let [0, 0, low, high] = x.to_le_bytes() else { panic!("{x} is no bf16") };
    [low, high]
}

fn nearest_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
}

/// A product of matrices: `a` (16 rows, k), `b` (k, 16 columns) and, if accumulating, what is added
/// to, all by rows.
#[derive(Clone)]
struct Case {
    product: Product,
    shape: (usize, usize),
    steps: usize,
    a: Vec<f32>,
    b: Vec<f32>,
    c: Option<Vec<f32>>,
}

impl Case {
    fn new(
        product: Product,
        shape: (usize, usize),
        steps: usize,
        accumulate: bool,
        mut value: impl FnMut() -> f32,
    ) -> Case {
        let (m, n, k) = (16 * shape.0, 16 * shape.1, product.depth() * steps);
        let mut values = |n: usize| (0..n).map(|_| value()).collect::<Vec<_>>();
        let (mut a, b) = (values(m * k), values(k * n));
        if product == Product::Int8 {
            // Bytes of the left operand have no sign.
            a.iter_mut().for_each(|x| *x = x.abs());
        }
        Case { product, shape, steps, a, b, c: accumulate.then(|| values(m * n)) }
    }

    fn sizes(&self) -> (usize, usize, usize) {
        (16 * self.shape.0, 16 * self.shape.1, self.product.depth() * self.steps)
    }

    /// Element (i, j) of the result and the sum of the magnitudes that went into it.
    fn exact(&self, i: usize, j: usize) -> (f64, f64) {
        let (_, n, k) = self.sizes();
        let product = |p: usize| f64::from(self.a[i * k + p]) * f64::from(self.b[p * n + j]);
        let start = self.c.as_ref().map_or(0.0, |c| f64::from(c[i * n + j]));
        let sum = start + (0..k).map(product).sum::<f64>();
        (sum, start.abs() + (0..k).map(|p| product(p).abs()).sum::<f64>())
    }

    /// The tile (i, j) of `self` alone, of `shape`.
    fn part(&self, (i, j): (usize, usize), shape: (usize, usize)) -> Case {
        let (_, n, k) = self.sizes();
        let (rows, columns) = (16 * i..16 * (i + shape.0), 16 * j..16 * (j + shape.1));
        let columns = |x: &[f32], rows: std::ops::Range<usize>| -> Vec<f32> {
            rows.flat_map(|row| x[row * n..][columns.clone()].to_vec()).collect()
        };
        let a = self.a[rows.start * k..rows.end * k].to_vec();
        let (b, c) = (columns(&self.b, 0..k), self.c.as_ref().map(|c| columns(c, rows)));
        Case { shape, a, b, c, ..*self }
    }

    /// The bits of the result, by rows. All operands lie at faulting pages, their strides are
    /// `padding` longer than need be, and what must not be read is NaN, or -1 in i32 and i8.
    fn run(&self, tiles: &Tiles, edge: Edge, padding: usize, ahead_step: usize) -> Vec<u32> {
        let (m, n, k) = self.sizes();
        let group = self.product.group();
        let (a_row, row) = (64 * self.steps, 4 * n);
        let (a_stride, stride) = (a_row + padding, row + padding);
        let a_piece = span(m, a_stride, a_row) + padding;
        let b_piece = span(k / group, stride, row) + padding;
        let pieces = self.product.pieces(0.0).len();

        let mut a = Bytes::new(span(pieces, a_piece, span(m, a_stride, a_row)), edge);
        let mut b = Bytes::new(span(pieces, b_piece, span(k / group, stride, row)), edge);
        let mut c = Bytes::new(span(m, stride, row), edge);
        for (i, &x) in self.a.iter().enumerate() {
            for (piece, bytes) in self.product.pieces(x).iter().enumerate() {
                a.put(piece * a_piece + (i / k) * a_stride + (i % k) * bytes.len(), bytes);
            }
        }
        for (i, &x) in self.b.iter().enumerate() {
            let (p, j) = (i / n, i % n);
            for (piece, bytes) in self.product.pieces(x).iter().enumerate() {
                let at = piece * b_piece + (p / group) * stride + 4 * j;
                b.put(at + p % group * bytes.len(), bytes);
            }
        }
        for (i, &x) in self.c.iter().flatten().enumerate() {
            let bytes = match self.product {
                Product::Int8 => (x as i32).to_le_bytes(),
                _ => x.to_le_bytes(),
            };
            c.put((i / n) * stride + i % n * 4, &bytes);
        }

        let before = c.bytes().to_vec();
        let block = Block {
            steps: self.steps,
            a: a.start(),
            a_stride,
            b: b.start(),
            b_stride: stride,
            c: c.start(),
            c_stride: stride,
            accumulate: self.c.is_some(),
            // Behind the guard: must not be read.
            ahead: c.start().wrapping_add(before.len()),
            ahead_step,
            a_piece,
            b_piece,
        };
        // SAFETY: the operands were laid out as the block says.
        unsafe { run(tiles, self.product, self.shape, &block) };
        let after = c.bytes();
        for (at, (after, before)) in after.iter().zip(&before).enumerate() {
            assert!(at % stride < row || after == before, "written between rows, at {at}");
        }
        let element = |i: usize| after[(i / n) * stride + i % n * 4..].first_chunk().unwrap();
        (0..m * n).map(|i| u32::from_le_bytes(*element(i))).collect()
    }
}

/// Bytes of `rows` rows, `stride` apart, of `row` bytes each.
fn span(rows: usize, stride: usize, row: usize) -> usize {
    rows.checked_sub(1).map_or(0, |rows| rows * stride + row)
}

/// `len` bytes that begin or end (but for three bytes) at a faulting page.
struct Bytes {
    guarded: Guarded,
    start: usize,
    len: usize,
}

impl Bytes {
    fn new(len: usize, edge: Edge) -> Bytes {
        let mut guarded = Guarded::nan(len.div_ceil(4), edge);
        guarded.fill(f32::from_bits(!0));
        let start = if edge == Edge::End { guarded.len() * 4 - len } else { 0 };
        Bytes { guarded, start, len }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        let all: &mut [u8] = bytemuck::cast_slice_mut(&mut self.guarded);
        all[self.start..][..self.len][at..][..bytes.len()].copy_from_slice(bytes);
    }

    fn bytes(&self) -> &[u8] {
        let all: &[u8] = bytemuck::cast_slice(&self.guarded);
        &all[self.start..][..self.len]
    }

    fn start(&mut self) -> *mut u8 {
        self.guarded.as_mut_ptr().cast::<u8>().wrapping_add(self.start)
    }
}

/// Every product at every shape, depth and edge, with and without accumulation.
fn for_each_case(mut test: impl FnMut(Product, (usize, usize), usize, bool, Edge)) {
    for product in Product::ALL {
        for shape in SHAPES {
            for steps in 0..=5 {
                for accumulate in [false, true] {
                    for edge in Edge::BOTH {
                        test(product, shape, steps, accumulate, edge);
                    }
                }
            }
        }
    }
}

#[test]
fn products_of_integers_are_exact() {
    let tiles = Tiles::new(token());
    let mut random = Random::new(1);
    let (mut case_number, mut checked) = (0, 0);
    for_each_case(|product, shape, steps, accumulate, edge| {
        // Sums stay below 2^24, and the split integers have two pieces.
        let limit = match product {
            Product::Bf16 => 256,
            Product::Int8 => 127,
            Product::Split => 300,
        };
        let case = Case::new(product, shape, steps, accumulate, || random.integers(1, limit)[0]);
        case_number += 1;
        let padding = [0, 4, 7, 64, 65, 12][case_number % 6];
        let ahead_step = [0, 16, 200, 2048][case_number % 4];
        let result = case.run(&tiles, edge, padding, ahead_step);
        let (m, n, _) = case.sizes();
        for i in 0..m {
            for j in 0..n {
                let bits = result[i * n + j];
                let value = match product {
                    Product::Int8 => f64::from(bits as i32),
                    _ => f64::from(f32::from_bits(bits)),
                };
                assert_eq!(value, case.exact(i, j).0, "{product:?} {shape:?} {steps} ({i}, {j})");
                checked += 1;
            }
        }
    });
    println!("{case_number} cases, {checked} elements");
}

/// Integers of twenty bits have three pieces. With factors of -1, 0 and 1, so few of them not zero
/// that sums stay below 2^24, a product that was left out or done twice shows.
#[test]
fn all_pieces_of_either_side_count() {
    let tiles = Tiles::new(token());
    let mut random = Random::new(5);
    for shape in SHAPES {
        for steps in 1..=5 {
            for long_a in [true, false] {
                let mut case = Case::new(Product::Split, shape, steps, false, || 0.0);
                let (m, n, k) = case.sizes();
                let (long, short) = match long_a {
                    true => (&mut case.a, &mut case.b),
                    false => (&mut case.b, &mut case.a),
                };
                long.fill_with(|| random.integers(1, (1 << 20) - 1)[0]);
                for i in 0..short.len() {
                    let (p, line) = if long_a { (i / n, i % n) } else { (i % k, i / k) };
                    if p % 16 == line % 16 {
                        short[i] = random.integers(1, 1)[0];
                    }
                }
                let result = case.run(&tiles, Edge::End, 12, 0);
                for i in 0..m * n {
                    let value = f64::from(f32::from_bits(result[i]));
                    assert_eq!(value, case.exact(i / n, i % n).0, "{shape:?} {steps} {i}");
                }
            }
        }
    }
}

/// The largest products and sums: 255 is no -1 in the left operand, and -128 has no counterpart in
/// the right.
#[test]
fn bytes_have_their_signs_at_their_ends() {
    let tiles = Tiles::new(token());
    let mut left = [255.0, 128.0, 127.0, 255.0, 0.0].into_iter().cycle();
    let mut right = [-128.0, 127.0, -128.0, -1.0, 0.0].into_iter().cycle();
    let mut case = Case::new(Product::Int8, (2, 2), 3, true, || right.next().unwrap());
    case.a.fill_with(|| left.next().unwrap());
    let result = case.run(&tiles, Edge::End, 0, 0);
    for (i, &bits) in result.iter().enumerate() {
        assert_eq!(f64::from(bits as i32), case.exact(i / 32, i % 32).0);
    }
}

/// gamma_k with as many roundings as a chain of multiply-adds has: bf16 by its definition (18 to a
/// step of 32), and f32 in pieces because that is the promise of an f32 product.
#[test]
fn errors_are_within_those_of_a_chain_of_multiply_adds() {
    let tiles = Tiles::new(token());
    let mut random = Random::new(2);
    let mut tolerances = [Tolerance::new("bf16"), Tolerance::new("f32 in three pieces")];
    for_each_case(|product, shape, steps, accumulate, edge| {
        let (tolerance, round) = match product {
            Product::Bf16 => (&mut tolerances[0], nearest_bf16 as fn(f32) -> f32),
            Product::Int8 => return,
            Product::Split => (&mut tolerances[1], (|x| x) as fn(f32) -> f32),
        };
        let case = Case::new(product, shape, steps, accumulate, || round(normal(&mut random)));
        let result = case.run(&tiles, edge, 20, 96);
        let (m, n, k) = case.sizes();
        let gamma = k as f64 * U / (1.0 - k as f64 * U);
        for i in 0..m {
            for j in 0..n {
                let (exact, magnitude) = case.exact(i, j);
                let describe = || format!("{shape:?}, {steps} steps, ({i}, {j})");
                let value = f32::from_bits(result[i * n + j]);
                tolerance.check(value, exact, gamma * magnitude, describe);
            }
        }
    });
    for tolerance in tolerances {
        tolerance.finish();
    }
}

/// Normally distributed with variance 1, near enough: the sum of twelve uniform numbers.
fn normal(random: &mut Random) -> f32 {
    random.vector(12, -0.5, 0.5).iter().sum()
}

#[test]
fn bits_do_not_depend_on_the_shape() {
    let tiles = Tiles::new(token());
    let mut random = Random::new(3);
    for product in Product::ALL {
        for accumulate in [false, true] {
            let value = |x: f32| match product {
                Product::Bf16 => nearest_bf16(x),
                Product::Int8 => (30.0 * x).round(),
                Product::Split => x,
            };
            let new = || value(normal(&mut random));
            let case = Case::new(product, (2, 2), 3, accumulate, new);
            let whole = case.run(&tiles, Edge::End, 0, 0);
            for shape in SHAPES {
                for i in 0..=2 - shape.0 {
                    for j in 0..=2 - shape.1 {
                        let part = case.part((i, j), shape).run(&tiles, Edge::End, 0, 0);
                        let width = 16 * shape.1;
                        for (at, &bits) in part.iter().enumerate() {
                            let (row, column) = (16 * i + at / width, 16 * j + at % width);
                            assert_eq!(bits, whole[32 * row + column], "{product:?} {shape:?}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn the_yardsticks_count_their_operations() {
    let tiles = Tiles::new(token());
    assert_eq!((peak_bf16(&tiles, 0), peak_int8(&tiles, 0)), (0, 0));
    assert_eq!(peak_bf16(&tiles, 3), 3 * 6 * 2 * 16 * 16 * 32);
    assert_eq!(peak_int8(&tiles, 2), 2 * 6 * 2 * 16 * 16 * 64);
}

/// Whether this thread has a configuration, as the CPU (or the emulator) sees it.
fn configured() -> bool {
    token();
    let mut config = [0u8; 64];
    // SAFETY: the token says that it can be executed; it writes 64 bytes.
    unsafe { asm!("sttilecfg [{}]", in(reg) &raw mut config, options(nostack)) };
    config[0] != 0
}

#[test]
fn tiles_are_released_by_the_last_to_go() {
    let check = || {
        assert!(!configured());
        let outer = Tiles::new(token());
        assert!(configured());
        drop(Tiles::new(token()));
        assert!(configured());
        // The outer one still computes.
        let mut ones = std::iter::repeat(1.0);
        let case = Case::new(Product::Bf16, (2, 2), 1, false, || ones.next().unwrap());
        assert_eq!(case.run(&outer, Edge::Start, 0, 0), [32f32.to_bits(); 32 * 32]);
        drop(outer);
        assert!(!configured());
        assert!({
            let _again = Tiles::new(token());
            configured()
        });
        assert!(!configured());
    };
    check();
    std::thread::scope(|scope| {
        let _mine = Tiles::new(token());
        for _ in 0..4 {
            scope.spawn(check);
        }
        assert!(configured());
    });
    assert!(!configured());
}

#[test]
fn tiles_are_released_on_unwinding() {
    let unwound = std::panic::catch_unwind(|| {
        let _outer = Tiles::new(token());
        let _inner = Tiles::new(token());
        assert!(!configured(), "thrown with the tiles in use");
    });
    assert!(unwound.is_err());
    assert!(!configured());
}

/// Does not compile if `Tiles` can go to another thread: there would be two implementations.
#[test]
fn tiles_stay_on_their_thread() {
    trait Stays<Which> {
        fn stays() -> bool {
            true
        }
    }
    struct Sent;
    impl<T> Stays<()> for T {}
    impl<T: Send> Stays<Sent> for T {}
    assert!(<Tiles as Stays<_>>::stays());
}
