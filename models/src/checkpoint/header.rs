//! The header of one safetensors file, believed in nothing.
//!
//! ```text
//! 8 bytes      N, little-endian
//! N bytes      {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
//! the rest     the tensors, without gaps; offsets count from here
//! ```
//!
//! Verdicts are those of the `safetensors` crate (a test compares them), but for these:
//! - a doubled tensor name is an error here, where the crate lets the last one win;
//! - a shape has at most [`RANK_LIMIT`] dimensions, so that no header costs many times its size;
//! - unknown fields of an entry are skipped unread, where the crate first keeps them in memory
//!   and trips over nesting deeper than 128.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::str::Utf8Error;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::dtype::Dtype;
use crate::error::Error;

/// The format's own limit.
const HEADER_LIMIT: u64 = 100_000_000;
/// Far beyond any published tensor.
const RANK_LIMIT: usize = 32;

/// What is wrong with the header of a safetensors file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// A header longer than the format allows.
    #[error("a header of {length} bytes, where at most {HEADER_LIMIT} are allowed")]
    TooLong {
        /// The stated length.
        length: u64,
    },
    /// Bytes that are no text.
    #[error("the header is not UTF-8: {0}")]
    NotUtf8(#[source] Utf8Error),
    /// Text that is no header.
    #[error("the header is not valid: {0}")]
    Json(#[source] serde_json::Error),
    /// One name for two tensors.
    #[error("tensor {tensor:?} is there twice")]
    DuplicateTensor {
        /// The name.
        tensor: String,
    },
    /// A shape that is too long.
    #[error("tensor {tensor:?}: a shape of more than {RANK_LIMIT} dimensions")]
    TooManyDimensions {
        /// The name.
        tensor: String,
    },
    /// A shape whose size is not a number that this machine can count to.
    #[error("tensor {tensor:?}: the size of {dtype} {shape:?} overflows")]
    Overflow {
        /// The name.
        tensor: String,
        /// Its type.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// Elements of less than a byte that do not fill the last one.
    #[error("tensor {tensor:?}: {dtype} {shape:?} is not a whole number of bytes")]
    FractionalBytes {
        /// The name.
        tensor: String,
        /// Its type.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// Offsets that do not fit type and shape.
    #[error(
        "tensor {tensor:?}: {dtype} {shape:?} takes {expected} bytes, its offsets span {found}"
    )]
    WrongSize {
        /// The name.
        tensor: String,
        /// Its type.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<usize>,
        /// What type and shape take.
        expected: usize,
        /// What the offsets span.
        found: usize,
    },
    /// A tensor that ends before it begins.
    #[error("tensor {tensor:?}: begins at {begin} and ends at {end}")]
    Backwards {
        /// The name.
        tensor: String,
        /// Its first offset.
        begin: usize,
        /// Its second.
        end: usize,
    },
    /// A tensor that begins inside the one before.
    #[error("tensor {tensor:?}: begins at {begin}, before {end}, where the one before it ends")]
    Overlap {
        /// The name.
        tensor: String,
        /// Where it begins.
        begin: usize,
        /// Where the one before it ends.
        end: usize,
    },
    /// Bytes that belong to no tensor.
    #[error("tensor {tensor:?}: begins at {begin}, after {end}, where the one before it ends")]
    Hole {
        /// The name.
        tensor: String,
        /// Where it begins.
        begin: usize,
        /// Where the one before it ends.
        end: usize,
    },
}

/// What a header says of one tensor.
#[derive(Debug, Deserialize)]
pub(super) struct Stored {
    pub(super) dtype: Dtype,
    #[serde(deserialize_with = "shape")]
    pub(super) shape: Vec<usize>,
    /// First byte and the one after the last, counted from the end of the header.
    pub(super) data_offsets: (usize, usize),
}

impl Stored {
    /// The size in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.data_offsets.1 - self.data_offsets.0
    }
}

/// The tensors of a file, and where in the file offset 0 is.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) tensors: BTreeMap<String, Stored>,
    pub(super) data_start: u64,
}

/// Reads and checks the header of `file`, which is `size` bytes long. Afterwards every tensor lies
/// inside the file, and they cover it. Nothing is allocated that the file's real size does not
/// justify.
pub(super) fn read(path: &Path, file: &mut File, size: u64) -> Result<Header, Error> {
    let truncated = |expected| Error::Truncated { path: path.to_owned(), expected, actual: size };
    let wrong = |source| Error::Header { path: path.to_owned(), source };

    let Some(rest) = size.checked_sub(8) else { return Err(truncated(8)) };
    let mut length = [0; 8];
    file.seek(SeekFrom::Start(0)).map_err(Error::io(path))?;
    file.read_exact(&mut length).map_err(Error::io(path))?;
    let length = u64::from_le_bytes(length);
    if length > HEADER_LIMIT {
        return Err(wrong(HeaderError::TooLong { length }));
    }
    if length > rest {
        return Err(truncated(8 + length));
    }
    let mut text = vec![0; length as usize];
    file.read_exact(&mut text).map_err(Error::io(path))?;
    let text = str::from_utf8(&text).map_err(|source| wrong(HeaderError::NotUtf8(source)))?;

    let tensors = parse(text).map_err(wrong)?;
    let data_size = check_offsets(&tensors).map_err(wrong)?;
    // Sums of sizes that are in memory or below the limit: u64 holds them.
    let data_start = 8 + length;
    match data_start.checked_add(data_size as u64) {
        Some(expected) if expected == size => Ok(Header { tensors, data_start }),
        Some(expected) if expected < size => {
            Err(Error::TrailingBytes { path: path.to_owned(), expected, actual: size })
        }
        expected => Err(truncated(expected.unwrap_or(u64::MAX))),
    }
}

/// The entries of the JSON, names unique.
fn parse(text: &str) -> Result<BTreeMap<String, Stored>, HeaderError> {
    let mut entries = Entries { tensors: BTreeMap::new(), fault: None };
    let mut json = serde_json::Deserializer::from_str(text);
    let parsed = entries.deserialize(&mut json).and_then(|()| json.end());
    match (entries.fault, parsed) {
        (Some(fault), _) => Err(fault),
        (None, Err(source)) => Err(HeaderError::Json(source)),
        (None, Ok(())) => Ok(entries.tensors),
    }
}

/// Collects entries while the JSON is read. A fault that JSON knows nothing of is left here, since
/// the parser's own errors are text.
struct Entries {
    tensors: BTreeMap<String, Stored>,
    fault: Option<HeaderError>,
}

impl<'de> DeserializeSeed<'de> for &mut Entries {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Entries {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut has_metadata = false;
        while let Some(name) = map.next_key::<String>()? {
            self.fault = if name == "__metadata__" {
                map.next_value::<Option<TextMap>>()?;
                let again = std::mem::replace(&mut has_metadata, true);
                again.then_some(HeaderError::DuplicateTensor { tensor: name })
            } else {
                match self.tensors.entry(name) {
                    Entry::Occupied(first) => {
                        Some(HeaderError::DuplicateTensor { tensor: first.key().clone() })
                    }
                    Entry::Vacant(place) => {
                        let tensor = place.key().clone();
                        let stored: &Stored = place.insert(map.next_value()?);
                        let too_many = stored.shape.len() > RANK_LIMIT;
                        too_many.then_some(HeaderError::TooManyDimensions { tensor })
                    }
                }
            };
            if let Some(fault) = &self.fault {
                return Err(A::Error::custom(fault));
            }
        }
        Ok(())
    }
}

/// `__metadata__`: text to text, checked and not kept, since nothing here depends on it.
struct TextMap;

impl<'de> Deserialize<'de> for TextMap {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<TextMap, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = TextMap;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TextMap, A::Error> {
                while map.next_entry::<String, String>()?.is_some() {}
                Ok(TextMap)
            }
        }
        json.deserialize_map(Pairs)
    }
}

/// The sizes of a shape, of which one more than [`RANK_LIMIT`] is kept, to tell that they are too
/// many.
fn shape<'de, D: Deserializer<'de>>(json: D) -> Result<Vec<usize>, D::Error> {
    struct Sizes;
    impl<'de> Visitor<'de> for Sizes {
        type Value = Vec<usize>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of sizes")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<usize>, A::Error> {
            let mut sizes = Vec::new();
            while let Some(size) = list.next_element()? {
                if sizes.len() <= RANK_LIMIT {
                    sizes.push(size);
                }
            }
            Ok(sizes)
        }
    }
    json.deserialize_seq(Sizes)
}

/// Checks that each tensor takes what its type and shape take, and that they follow one another
/// without gap from offset 0. Returns where the last one ends.
fn check_offsets(tensors: &BTreeMap<String, Stored>) -> Result<usize, HeaderError> {
    let mut in_order: Vec<_> = tensors.iter().collect();
    in_order.sort_by_key(|(_, stored)| stored.data_offsets);
    let mut previous_end = 0;
    for (name, stored) in in_order {
        let (begin, end) = stored.data_offsets;
        let tensor = || name.clone();
        if end < begin {
            return Err(HeaderError::Backwards { tensor: tensor(), begin, end });
        }
        if begin < previous_end {
            return Err(HeaderError::Overlap { tensor: tensor(), begin, end: previous_end });
        }
        if begin > previous_end {
            return Err(HeaderError::Hole { tensor: tensor(), begin, end: previous_end });
        }
        let (dtype, shape) = (stored.dtype, || stored.shape.clone());
        let bits = stored.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        let Some(bits) = bits.and_then(|elements| elements.checked_mul(dtype.bits())) else {
            return Err(HeaderError::Overflow { tensor: tensor(), dtype, shape: shape() });
        };
        if bits % 8 != 0 {
            return Err(HeaderError::FractionalBytes { tensor: tensor(), dtype, shape: shape() });
        }
        let (expected, found) = (bits / 8, end - begin);
        if expected != found {
            let (tensor, shape) = (tensor(), shape());
            return Err(HeaderError::WrongSize { tensor, dtype, shape, expected, found });
        }
        previous_end = end;
    }
    Ok(previous_end)
}
