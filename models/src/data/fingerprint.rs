//! A number that tells whether two runs read the same things.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A 64-bit hash of a corpus, and of the settings under which it is read. It finds accidents, a
/// file that was edited or an option that was forgotten; nobody is kept from making two corpora
/// with one hash. Written as 16 hexadecimal digits, also in JSON, where many programs round large
/// numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub(crate) u64);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A text that is no fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a fingerprint of 16 hexadecimal digits")]
pub struct InvalidFingerprint {
    /// The text.
    pub text: String,
}

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Fingerprint, InvalidFingerprint> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u64::from_str_radix(text, 16) {
            Ok(hash) if digits => Ok(Fingerprint(hash)),
            _ => Err(InvalidFingerprint { text: text.to_owned() }),
        }
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fingerprint, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// FNV-1a with 64 bits (Fowler, Noll, Vo): each byte is added by exclusive or, then all is
/// multiplied by a prime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hasher(u64);

impl Hasher {
    /// Of nothing.
    pub(crate) fn new() -> Hasher {
        Hasher(0xcbf2_9ce4_8422_2325)
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    /// Length first, so that two texts are not one.
    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }

    pub(crate) fn finish(self) -> Fingerprint {
        Fingerprint(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(bytes: &[u8]) -> u64 {
        let mut hasher = Hasher::new();
        hasher.bytes(bytes);
        hasher.finish().0
    }

    /// From the list of test vectors in the draft of the hash's authors.
    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn texts_come_back_and_nothing_else_is_one() {
        let fingerprint = Fingerprint(0x0000_1234_5678_9abc);
        let json = serde_json::to_string(&fingerprint).unwrap();
        assert_eq!(json, r#""0000123456789abc""#);
        assert_eq!(serde_json::from_str::<Fingerprint>(&json).unwrap(), fingerprint);
        for text in
            ["", "+000123456789abc", "123456789abc", "0000123456789abcd", "x000123456789abc"]
        {
            assert!(text.parse::<Fingerprint>().is_err(), "{text:?}");
        }
    }
}
