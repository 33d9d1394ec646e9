//! In which numbers products are computed.

use std::fmt;
use std::str::FromStr;

use crate::gemm::Unit;
use crate::gemm::form::Form;
use crate::level::Level;

/// The numbers that the weights of products, and what they are multiplied with, are held in. Sums,
/// norms, softmax and everything else is f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Precision {
    /// Single precision: each product's error is within that of a chain of f32 multiply-adds.
    #[default]
    F32,
    /// bfloat16: weights and left operands keep 8 bits of each number, and half of the bytes.
    Bf16,
    /// Integers of 8 bits, a quarter of the bytes: each output of a weight has a scale of its own,
    /// each row of the left operand a scale and a zero, so that it goes from its least number to its
    /// largest. Columns may have scales as well: see [`ColumnScales`](crate::ColumnScales). Sums are
    /// exact, and so the same at all levels.
    Int8,
}

impl Precision {
    /// All of them, the most exact first.
    pub const ALL: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Int8];

    /// `f32`, `bf16` or `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Int8 => "int8",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no precision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPrecision {
    name: String,
}

impl fmt::Display for UnknownPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no precision; use f32, bf16 or int8", self.name)
    }
}

impl std::error::Error for UnknownPrecision {}

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(name: &str) -> Result<Precision, UnknownPrecision> {
        let found = Precision::ALL.into_iter().find(|known| known.name() == name);
        found.ok_or_else(|| UnknownPrecision { name: name.to_owned() })
    }
}

/// How products are computed: in a precision, with the instructions of a level. A [`Level`] alone
/// stands for f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arithmetic {
    level: Level,
    precision: Precision,
}

impl Arithmetic {
    /// This precision at this level.
    pub fn new(level: Level, precision: Precision) -> Arithmetic {
        Arithmetic { level, precision }
    }

    /// What a model is trained with fastest at this level: bf16 where an instruction multiplies it.
    /// Elsewhere f32, as widened numbers take as many multiply-adds, and have to be converted besides.
    pub fn for_training(level: Level) -> Arithmetic {
        let precision = match Unit::new(level, Precision::Bf16) {
            Unit::Widen(_) => Precision::F32,
            _ => Precision::Bf16,
        };
        Arithmetic { level, precision }
    }

    /// The precision of products.
    pub fn precision(self) -> Precision {
        self.precision
    }

    /// The level of everything.
    pub fn level(self) -> Level {
        self.level
    }

    /// The instruction that multiplies, such as `vpdpbusd`.
    pub fn instruction(self) -> &'static str {
        self.unit().name()
    }

    /// Each kernel of products that this machine can run, once: at the lowest level that has it.
    pub fn available() -> Vec<Arithmetic> {
        let mut all: Vec<Arithmetic> = Vec::new();
        for precision in Precision::ALL {
            let from = all.len();
            for level in Level::available() {
                let new = Arithmetic { level, precision };
                if !all[from..].iter().any(|old| old.kernel() == new.kernel()) {
                    all.push(new);
                }
            }
        }
        all
    }

    /// The arithmetic of the products in [`Attention`](crate::Attention), the yardstick for it. Its
    /// operands change with each sequence: they are multiplied as floats, or as bfloat16 where the
    /// precision allows it and an instruction does it.
    pub fn of_attention(self) -> Arithmetic {
        let unit = Unit::for_attention(self.level, self.precision);
        let kernel = (unit.name(), self.level.lanes());
        let found = Arithmetic::available().into_iter().find(|known| known.kernel() == kernel);
        found.expect("what this level can run is available")
    }

    /// The bytes that a weight takes in a [`PackedMatrix`](crate::PackedMatrix), but for what fills
    /// up its last panel.
    pub fn weight_bytes(self) -> usize {
        let shape = self.unit().shape();
        shape.weight_bytes * shape.form.pieces()
    }

    /// The bytes that an element of [`Activations`](crate::Activations) takes besides its float:
    /// none where products read floats as they are.
    pub fn converted_bytes(self) -> usize {
        match self.unit().shape().form {
            Form::F32 => 0,
            form => form.bytes() * form.pieces(),
        }
    }

    pub(crate) fn unit(self) -> Unit {
        Unit::new(self.level, self.precision)
    }

    /// What tells kernels apart.
    fn kernel(self) -> (&'static str, &'static str) {
        (self.instruction(), self.level.lanes())
    }
}

impl From<Level> for Arithmetic {
    fn from(level: Level) -> Arithmetic {
        Arithmetic { level, precision: Precision::F32 }
    }
}

impl fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.precision, self.level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Matrix, PackedMatrix};

    #[test]
    fn names_are_read_back() {
        for precision in Precision::ALL {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        let error = "fp8".parse::<Precision>().unwrap_err();
        assert!(error.to_string().contains("\"fp8\""), "{error}");
    }

    #[test]
    fn attention_multiplies_floats_or_bfloat16() {
        for level in Level::available() {
            for precision in Precision::ALL {
                let of = Arithmetic::new(level, precision).of_attention();
                let unit = Unit::for_attention(level, precision);
                assert_eq!((of.instruction(), of.level.lanes()), (unit.name(), level.lanes()));
                assert_ne!(of.precision, Precision::Int8);
                assert!(precision != Precision::F32 || of.instruction() == "multiply-add");
            }
        }
    }

    #[test]
    fn training_is_in_f32_where_bfloat16_is_widened() {
        for level in Level::available() {
            let widened = Arithmetic::new(level, Precision::Bf16).instruction().contains("widened");
            let expected = if widened { Precision::F32 } else { Precision::Bf16 };
            assert_eq!(Arithmetic::for_training(level), Arithmetic::new(level, expected));
        }
    }

    #[test]
    fn a_packed_matrix_has_the_bytes_of_its_weights() {
        // Whole panels at every level.
        const SIDE: usize = 384;
        let weight = Matrix::zeros(SIDE, SIDE);
        for arithmetic in Arithmetic::available() {
            let bytes = PackedMatrix::new(arithmetic, weight.view()).bytes();
            // Scales, where there are any, are fewer than the weights.
            assert_eq!(bytes / (SIDE * SIDE), arithmetic.weight_bytes(), "{arithmetic}");
        }
    }

    #[test]
    fn every_precision_has_a_kernel_at_every_width_of_lanes() {
        let all = Arithmetic::available();
        println!("kernels here: {all:?}");
        for precision in Precision::ALL {
            for level in Level::available() {
                let lanes = |of: &Arithmetic| {
                    of.precision == precision && of.level.lanes() == level.lanes()
                };
                assert!(all.iter().any(lanes), "{precision} {level}");
            }
        }
    }
}
