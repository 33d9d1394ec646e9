//! The tile registers and what the instructions do to them.
//!
//! After the pseudo-code of Intel's Software Developer's Manual, volume 2 (as on
//! felixcloutier.com/x86, pages LDTILECFG, STTILECFG, TILERELEASE, TILEZERO, TILELOADD, TILESTORED,
//! TDPBF16PS and TDPBUSD), palettes 0 and 1. What is modelled:
//!
//! - Tiles of any configured size. What lies outside of it is zero after every write. Sizes,
//!   reserved bytes and combinations of tiles that the manual refuses are refused.
//! - TDPBF16PS: for an element of the result, one chain of fused multiply-adds over the even
//!   elements of K and one over the odd, both begun at +0 and in ascending K; then even + odd; then
//!   the element + that. Each step rounds to nearest, ties to even; denormal inputs count as zero
//!   and denormal results become zero, each with its sign. MXCSR has no part in it. Whether a
//!   result is denormal is judged after rounding to 24 bits with unbounded exponent, as SSE does
//!   it; the manual does not say.
//! - TDPBUSD: sums of four products of bytes, those of `a` without a sign and those of `b` with one,
//!   added to i32 that wrap around.
//!
//! Not modelled: instructions that resume in the middle of a tile after a fault (`start_row`, which
//! must be 0), the state saved on a switch of threads, and the payload of a NaN.

use std::ptr;

/// Eight tile registers and their configuration.
#[derive(Clone, Debug)]
pub struct Machine {
    configured: bool,
    rows: [u8; TILES],
    row_bytes: [u8; TILES],
    tiles: [[[u32; 16]; 16]; TILES],
}

const TILES: usize = 8;

impl Machine {
    /// A machine without a configuration, as a thread begins.
    pub const fn new() -> Machine {
        Machine {
            configured: false,
            rows: [0; TILES],
            row_bytes: [0; TILES],
            tiles: [[[0; 16]; 16]; TILES],
        }
    }

    /// LDTILECFG. `false` if the configuration is refused; then nothing has changed.
    pub fn load_config(&mut self, config: &[u8; 64]) -> bool {
        let [palette, start_row, ..] = *config;
        if palette == 0 {
            // The CPU looks at nothing else.
            self.release();
            return true;
        }
        let mut new = Machine::new();
        new.configured = true;
        for tile in 0..TILES {
            let [bytes, high] = [config[16 + 2 * tile], config[17 + 2 * tile]];
            let rows = config[48 + tile];
            if high != 0 || bytes > 64 || rows > 16 || (bytes == 0) != (rows == 0) {
                return false;
            }
            (new.rows[tile], new.row_bytes[tile]) = (rows, bytes);
        }
        let reserved = [2..16, 32..48, 56..64];
        let clean = reserved.into_iter().all(|range| config[range].iter().all(|&byte| byte == 0));
        if palette != 1 || start_row != 0 || !clean {
            return false;
        }
        *self = new;
        true
    }

    /// STTILECFG.
    pub fn config(&self) -> [u8; 64] {
        let mut config = [0; 64];
        config[0] = u8::from(self.configured);
        for tile in 0..TILES {
            config[16 + 2 * tile] = self.row_bytes[tile];
            config[48 + tile] = self.rows[tile];
        }
        config
    }

    /// TILERELEASE.
    pub fn release(&mut self) {
        *self = Machine::new();
    }

    /// TILEZERO. `false` if `tile` is not configured, as with all that follow.
    pub fn zero(&mut self, tile: usize) -> bool {
        let valid = self.size(tile).is_some();
        if valid {
            self.tiles[tile] = [[0; 16]; 16];
        }
        valid
    }

    /// TILELOADD: row `i` comes from `stride * i` bytes behind `from`.
    ///
    /// # Safety
    /// - The rows of the tile are valid for reading there.
    pub unsafe fn load(&mut self, tile: usize, from: *const u8, stride: isize) -> bool {
        let Some((rows, bytes)) = self.size(tile).filter(|(_, bytes)| bytes % 4 == 0) else {
            return false;
        };
        self.tiles[tile] = [[0; 16]; 16];
        for (i, row) in self.tiles[tile].iter_mut().take(rows).enumerate() {
            let from = from.wrapping_offset(stride.wrapping_mul(i as isize));
            // SAFETY: the caller grants `bytes` there; a row is 64 bytes, and `bytes` no more.
            unsafe { ptr::copy_nonoverlapping(from, row.as_mut_ptr().cast::<u8>(), bytes) };
        }
        true
    }

    /// TILESTORED: row `i` goes to `stride * i` bytes behind `to`.
    ///
    /// # Safety
    /// - The rows of the tile are valid for writing there.
    pub unsafe fn store(&self, tile: usize, to: *mut u8, stride: isize) -> bool {
        let Some((rows, bytes)) = self.size(tile).filter(|(_, bytes)| bytes % 4 == 0) else {
            return false;
        };
        for (i, row) in self.tiles[tile].iter().take(rows).enumerate() {
            let to = to.wrapping_offset(stride.wrapping_mul(i as isize));
            // SAFETY: the caller grants `bytes` there; a row is 64 bytes, and `bytes` no more.
            unsafe { ptr::copy_nonoverlapping(row.as_ptr().cast::<u8>(), to, bytes) };
        }
        true
    }

    /// TDPBF16PS c, a, b.
    pub fn multiply_bf16(&mut self, c: usize, a: usize, b: usize) -> bool {
        self.multiply(c, a, b, |c, row, columns| {
            let mut sums = [[0.0; 2]; 16];
            for (&x, b) in row.iter().zip(columns) {
                for (sums, &y) in sums.iter_mut().zip(b) {
                    sums[0] = multiply_add(even(x), even(y), sums[0]);
                    sums[1] = multiply_add(odd(x), odd(y), sums[1]);
                }
            }
            for (c, [even, odd]) in c.iter_mut().zip(sums) {
                let sum = multiply_add(even, 1.0, odd);
                *c = multiply_add(f32::from_bits(*c), 1.0, sum).to_bits();
            }
        })
    }

    /// TDPBUSD c, a, b.
    pub fn multiply_int8(&mut self, c: usize, a: usize, b: usize) -> bool {
        self.multiply(c, a, b, |c, row, columns| {
            for (x, b) in row.iter().zip(columns) {
                for (c, y) in c.iter_mut().zip(b) {
                    for (x, y) in x.to_le_bytes().into_iter().zip(y.to_le_bytes()) {
                        let product = i32::from(x) * i32::from(y as i8);
                        *c = c.wrapping_add(product as u32);
                    }
                }
            }
        })
    }

    /// Calls `row(c, a, b)` with each row of `c`, that of `a`, and all rows of `b`, each of its
    /// configured size.
    fn multiply(
        &mut self,
        c: usize,
        a: usize,
        b: usize,
        row: impl Fn(&mut [u32], &[u32], &[[u32; 16]]),
    ) -> bool {
        let (Some(size_c), Some(size_a), Some(size_b)) = (self.size(c), self.size(a), self.size(b))
        else {
            return false;
        };
        let whole = [size_c, size_a, size_b].iter().all(|(_, bytes)| bytes % 4 == 0);
        let ((m, n), (k, n_b)) = ((size_c.0, size_c.1 / 4), (size_b.0, size_b.1 / 4));
        let fits = m == size_a.0 && k == size_a.1 / 4 && n == n_b;
        if !whole || !fits || c == a || a == b || b == c {
            return false;
        }
        let mut result = [[0; 16]; 16];
        for i in 0..m {
            result[i][..n].copy_from_slice(&self.tiles[c][i][..n]);
            row(&mut result[i][..n], &self.tiles[a][i][..k], &self.tiles[b][..k]);
        }
        self.tiles[c] = result;
        true
    }

    /// Rows and bytes a row of a configured tile.
    fn size(&self, tile: usize) -> Option<(usize, usize)> {
        let rows = usize::from(*self.rows.get(tile)?);
        (rows > 0).then_some((rows, usize::from(self.row_bytes[tile])))
    }
}

impl Default for Machine {
    fn default() -> Machine {
        Machine::new()
    }
}

/// The first bf16 of a pair.
fn even(pair: u32) -> f32 {
    f32::from_bits(pair << 16)
}

/// The second.
fn odd(pair: u32) -> f32 {
    f32::from_bits(pair & 0xFFFF_0000)
}

/// a * b + c in f32 with one rounding, denormals as zero on both sides. `a` and `b` have 24 bits
/// at most, so that their product is exact in f64.
pub(super) fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (flush_input(a) * flush_input(b), flush_input(c));
    let sum = product + c;
    if !sum.is_finite() {
        return sum as f32;
    }
    // Rounded to odd: whatever `sum` has lost (Knuth's TwoSum) lives on in its last bit, so that
    // rounding it once more to 24 bits gives what rounding the exact sum would.
    let virtual_c = sum - product;
    let lost = (product - (sum - virtual_c)) + (c - virtual_c);
    let bits = sum.to_bits();
    let odd = match lost != 0.0 && bits & 1 == 0 {
        true if (lost > 0.0) == (sum > 0.0) => f64::from_bits(bits.wrapping_add(1)),
        true => f64::from_bits(bits.wrapping_sub(1)),
        false => sum,
    };
    // Multiplied by 2^64, what is denormal rounds as though the exponent had no end.
    let unbounded = (odd * 2f64.powi(64)) as f32;
    match unbounded.abs() < 2f32.powi(-126 + 64) {
        true => 0f32.copysign(unbounded),
        false => odd as f32,
    }
}

fn flush_input(x: f32) -> f64 {
    f64::from(if x.is_subnormal() { 0f32.copysign(x) } else { x })
}
