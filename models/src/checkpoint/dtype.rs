//! The element types of safetensors, and how the floating ones become `f32`.

use std::fmt;
use std::io::{self, Read};

use half::{bf16, f16};
use serde::Deserialize;

/// The type of a stored tensor's elements, by its name in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[allow(non_camel_case_types, missing_docs, reason = "the format's own names")]
#[non_exhaustive]
pub enum Dtype {
    BOOL,
    F4,
    F6_E2M3,
    F6_E3M2,
    U8,
    I8,
    F8_E5M2,
    F8_E4M3,
    F8_E8M0,
    F8_E4M3FNUZ,
    F8_E5M2FNUZ,
    I16,
    U16,
    F16,
    BF16,
    I32,
    U32,
    F32,
    C64,
    F64,
    I64,
    U64,
}

impl Dtype {
    /// The size of one element in bits.
    pub fn bits(self) -> usize {
        use Dtype::*;
        match self {
            F4 => 4,
            F6_E2M3 | F6_E3M2 => 6,
            BOOL | U8 | I8 | F8_E5M2 | F8_E4M3 | F8_E8M0 | F8_E4M3FNUZ | F8_E5M2FNUZ => 8,
            I16 | U16 | F16 | BF16 => 16,
            I32 | U32 | F32 => 32,
            C64 | F64 | I64 | U64 => 64,
        }
    }

    /// Whether [`Checkpoint::read`](super::Checkpoint::read) can make `f32` of it.
    pub fn is_readable(self) -> bool {
        matches!(self, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Reads `out.len()` little-endian elements of a readable type and converts them: F16 and BF16
/// exactly, F64 to the nearest.
///
/// # Panics
/// If the type is not readable.
pub(super) fn read_f32(dtype: Dtype, source: &mut impl Read, out: &mut [f32]) -> io::Result<()> {
    match dtype {
        Dtype::F32 => {
            // Read in place; the bytes only need turning on a big-endian machine.
            source.read_exact(bytemuck::cast_slice_mut(out))?;
            if cfg!(target_endian = "big") {
                out.iter_mut().for_each(|x| *x = f32::from_bits(u32::from_le(x.to_bits())));
            }
            Ok(())
        }
        Dtype::F16 => convert(source, out, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::BF16 => convert(source, out, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        Dtype::F64 => convert(source, out, |bytes| f64::from_le_bytes(bytes) as f32),
        other => unreachable!("{other} is not readable"),
    }
}

/// Elements of N bytes by way of a small buffer.
fn convert<const N: usize>(
    source: &mut impl Read,
    out: &mut [f32],
    to_f32: impl Fn([u8; N]) -> f32,
) -> io::Result<()> {
    let mut buffer = [[0; N]; 2048];
    for piece in out.chunks_mut(buffer.len()) {
        let elements = &mut buffer[..piece.len()];
        source.read_exact(elements.as_flattened_mut())?;
        for (x, &bytes) in piece.iter_mut().zip(elements.iter()) {
            *x = to_f32(bytes);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<const N: usize>(dtype: Dtype, elements: &[[u8; N]]) -> Vec<f32> {
        let mut out = vec![f32::NAN; elements.len()];
        read_f32(dtype, &mut elements.as_flattened(), &mut out).unwrap();
        out
    }

    #[test]
    fn every_half_is_widened_exactly() {
        let halves: Vec<[u8; 2]> = (0..=u16::MAX).map(u16::to_le_bytes).collect();
        for (bits, x) in read(Dtype::BF16, &halves).into_iter().enumerate() {
            // bfloat16 is the upper half of a float.
            let expected = f32::from_bits((bits as u32) << 16);
            assert!(x == expected || x.is_nan() && expected.is_nan(), "{bits:#x}: {x}");
        }
        for (bits, x) in read(Dtype::F16, &halves).into_iter().enumerate() {
            let (sign, exponent, fraction) = (bits >> 15, bits >> 10 & 31, bits & 1023);
            let size = match exponent {
                0 => fraction as f32 * 2f32.powi(-24),
                31 if fraction == 0 => f32::INFINITY,
                31 => f32::NAN,
                _ => (1024 + fraction) as f32 * 2f32.powi(exponent as i32 - 25),
            };
            let expected = if sign == 1 { -size } else { size };
            assert!(x == expected || x.is_nan() && expected.is_nan(), "{bits:#x}: {x}");
        }
    }

    #[test]
    fn singles_keep_their_bits_and_doubles_are_rounded() {
        let bits = [0u32, 1, 0x8000_0000, 0x7f80_0000, 0x7fc1_2345, 0x3f80_0001];
        let singles = read(Dtype::F32, &bits.map(u32::to_le_bytes));
        assert_eq!(singles.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), bits);
        let doubles = [0.1f64, -1e300, 1.0 + f64::EPSILON];
        assert_eq!(read(Dtype::F64, &doubles.map(f64::to_le_bytes)), [0.1, f32::NEG_INFINITY, 1.0]);
    }

    #[test]
    fn a_source_that_ends_early_is_an_error() {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F64] {
            let bytes = vec![0; 3000 * dtype.bits() / 8 - 1];
            let mut out = vec![0.0; 3000];
            assert!(read_f32(dtype, &mut &bytes[..], &mut out).is_err(), "{dtype}");
        }
    }
}
