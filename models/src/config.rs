//! What the configuration files of all models share.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use ferrite_layers::Activation;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::Error;

/// The names of the variants of [`HiddenAct`], for messages.
pub(crate) const HIDDEN_ACTS: &str = "gelu, gelu_new, gelu_pytorch_tanh, relu, tanh";

/// The activation of a feed-forward network, as configuration files call it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HiddenAct {
    /// x Phi(x), with the error function.
    #[default]
    Gelu,
    /// GELU by the tanh formula.
    #[serde(rename = "gelu_new", alias = "gelu_pytorch_tanh")]
    GeluTanh,
    /// max(x, 0).
    Relu,
    /// The hyperbolic tangent.
    Tanh,
    /// A name that is not supported: whoever reads a configuration file refuses it.
    #[serde(untagged)]
    Other(String),
}

/// Makes sure that a file is of one of these families, or of none: another one's fields may have other
/// types.
pub(crate) fn of_family(
    path: &Path,
    json: &[u8],
    families: &'static [&'static str],
) -> Result<Option<String>, Error> {
    #[derive(Deserialize)]
    struct Family {
        model_type: Option<String>,
    }
    let family: Family = serde_json::from_slice(json)
        .map_err(|source| Error::Json { path: path.to_owned(), source })?;
    match family.model_type {
        Some(found) if !families.contains(&&*found) => {
            Err(Error::WrongModelType { path: path.to_owned(), expected: families[0], found })
        }
        family => Ok(family),
    }
}

/// The keys that are none of these fields, as text: a tree of values would take many times the
/// file's size.
pub(crate) fn extra(
    path: &Path,
    json: &[u8],
    fields: &[&str],
) -> Result<BTreeMap<String, Box<RawValue>>, Error> {
    let mut parser = serde_json::Deserializer::from_slice(json);
    let extra = Extra(fields).deserialize(&mut parser);
    extra.map_err(|source| Error::Json { path: path.to_owned(), source })
}

struct Extra<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Extra<'_> {
    type Value = BTreeMap<String, Box<RawValue>>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Extra<'_> {
    type Value = BTreeMap<String, Box<RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut extra = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            if self.0.contains(&&*key) {
                map.next_value::<IgnoredAny>()?;
            } else {
                extra.insert(key, map.next_value()?);
            }
        }
        Ok(extra)
    }
}

/// A setting that no model can have.
pub(crate) fn invalid(
    path: &Path,
    field: &'static str,
    expected: impl fmt::Display,
    found: impl fmt::Display,
) -> Result<(), Error> {
    let (expected, found) = (expected.to_string(), found.to_string());
    Err(Error::InvalidValue { path: path.to_owned(), field, expected, found })
}

/// `null` where files have it for "none".
pub(crate) fn null_is_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    json: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(json)?.unwrap_or_default())
}

/// The activation that a field of a configuration, that of `path`, names.
pub(crate) fn activation_of(
    act: &HiddenAct,
    field: &'static str,
    path: &Path,
) -> Result<Activation, Error> {
    Ok(match act {
        HiddenAct::Gelu => Activation::Gelu,
        HiddenAct::GeluTanh => Activation::GeluTanh,
        HiddenAct::Relu => Activation::Relu,
        HiddenAct::Tanh => Activation::Tanh,
        HiddenAct::Other(name) => {
            return Err(Error::Unsupported {
                path: path.to_owned(),
                field,
                found: name.clone(),
                supported: HIDDEN_ACTS,
            });
        }
    })
}
