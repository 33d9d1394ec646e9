//! What several verbs are told, and in what forms they take and give data.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ferrite_models::kernels::{Arithmetic, Level, Precision};
use serde::Serialize;

/// Where the texts come from.
#[derive(Args)]
pub(crate) struct InputOptions {
    /// The texts; if there is none, or only `-`, stdin is read, one text a line
    #[arg(value_name = "TEXT")]
    pub(crate) texts: Vec<String>,

    /// Read the texts from a file, one a line
    #[arg(long, value_name = "FILE", conflicts_with = "texts")]
    pub(crate) input: Option<PathBuf>,

    /// What a line is: a text, or {"text": ..., "pair": ...} (other keys are ignored)
    #[arg(long, value_name = "FORM", value_enum, default_value_t = From::Text)]
    pub(crate) from: From,
}

/// What a line of input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum From {
    /// A text.
    Text,
    /// An object of JSON.
    Jsonl,
}

/// What is written for a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Something to read.
    Text,
    /// An object of JSON on one line.
    #[value(alias = "json")]
    Jsonl,
}

impl Format {
    /// What stands in the place of a result that there is not, so that line n of the output stays
    /// that of line n of the input.
    pub(crate) fn rejection(self, line: u64, reason: &str) -> Vec<u8> {
        match self {
            Format::Text => b"\n".to_vec(),
            Format::Jsonl => json_line(&serde_json::json!({ "error": reason, "line": line })),
        }
    }

    /// A report in this form: its text, or all of it as JSON.
    pub(crate) fn report<R: Serialize>(self, report: &R, text: impl Fn(&R) -> String) -> Vec<u8> {
        match self {
            Format::Text => text(report).into_bytes(),
            Format::Jsonl => json_line(report),
        }
    }
}

/// A value as a line of JSON.
pub(crate) fn json_line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("numbers, strings, and lists of them");
    line.push(b'\n');
    line
}

/// How a model computes.
#[derive(Args)]
pub(crate) struct ArithmeticOptions {
    /// The numbers that the products of the layers and of the masked-LM head are computed with
    #[arg(long, value_name = "NUMBERS", value_enum, env = "FERRITE_PRECISION")]
    #[arg(default_value_t = Numbers::F32)]
    precision: Numbers,
}

impl ArithmeticOptions {
    /// The precision asked for, at the level of this process.
    pub(crate) fn arithmetic(&self) -> Arithmetic {
        let precision = match self.precision {
            Numbers::F32 => Precision::F32,
            Numbers::Bf16 => Precision::Bf16,
            Numbers::Int8 => Precision::Int8,
        };
        Arithmetic::new(Level::current(), precision)
    }
}

/// The names of precisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Numbers {
    /// 4 bytes a weight; as near to the exact numbers as PyTorch's f32
    F32,
    /// 2 bytes a weight; a cosine of 0.9999 or more to the vectors in f32 (all-MiniLM-L6-v2)
    Bf16,
    /// 1 byte a weight; a cosine of 0.995 or more to the vectors in f32 (all-MiniLM-L6-v2)
    Int8,
}

/// How a training computes.
#[derive(Args)]
pub(crate) struct TrainingArithmeticOptions {
    /// The numbers that products are computed with; parameters are f32 in any case [default: f32; of
    /// quickstart bf16, where the CPU multiplies it faster]
    #[arg(long, value_name = "NUMBERS", value_enum, env = "FERRITE_PRECISION")]
    precision: Option<TrainingNumbers>,
}

impl TrainingArithmeticOptions {
    /// The precision asked for, or else f32, at the level of this process.
    pub(crate) fn arithmetic(&self) -> Arithmetic {
        self.asked().unwrap_or_else(|| Level::current().into())
    }

    /// The precision asked for, or else the one that is fastest here.
    pub(crate) fn arithmetic_or_fastest(&self) -> Arithmetic {
        self.asked().unwrap_or_else(|| Arithmetic::for_training(Level::current()))
    }

    fn asked(&self) -> Option<Arithmetic> {
        let precision = match self.precision? {
            TrainingNumbers::F32 => Precision::F32,
            TrainingNumbers::Bf16 => Precision::Bf16,
        };
        Some(Arithmetic::new(Level::current(), precision))
    }
}

/// The names of precisions that one can train in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TrainingNumbers {
    /// f32 throughout
    F32,
    /// bf16 products, f32 sums
    Bf16,
}

/// What to do with texts that are longer than the model's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnTruncate {
    /// Cut them, and say how many there were
    Warn,
    /// Reject them, as a bad line
    Error,
    /// Cut them without a word
    Keep,
}

/// Numbers, each in the shortest form that reads back as the same `f32`.
pub(crate) fn write_numbers(numbers: &[f32], separator: &[u8], out: &mut Vec<u8>) {
    for (index, number) in numbers.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(separator);
        }
        serde_json::to_writer(&mut *out, number).expect("a vector takes everything");
    }
}
