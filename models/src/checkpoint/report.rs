//! What became of every tensor of a checkpoint.

use std::collections::HashMap;
use std::fmt;

use super::names::{TIED, canonical};
use super::{Names, TensorInfo, Wanted};
use crate::error::Error;

/// The match of what a model wants and what a checkpoint has, with all faults and not only the
/// first.
#[derive(Debug)]
#[non_exhaustive]
pub struct LoadReport {
    /// Every stored tensor, ordered by its stored name.
    pub tensors: Vec<(TensorInfo, Fate)>,
    /// What keeps the model from being loaded: tensors missing, of the wrong shape or type, or
    /// doubled.
    pub faults: Vec<Error>,
    /// The elements of the tensors that the model uses.
    pub parameters: usize,
    /// The same in bytes, as stored.
    pub bytes: usize,
}

/// What becomes of a stored tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// The model uses it, by the name it is stored by.
    Used,
    /// The model uses it, by this name.
    Renamed(String),
    /// It is known and not needed.
    Ignored(Ignored),
    /// The model wants it, with this shape.
    WrongShape(Vec<usize>),
    /// The model wants it, as floating-point numbers.
    WrongDtype,
    /// A second one for something that the model wants once.
    Doubled,
    /// Nothing that the model knows.
    Unexpected,
}

/// Why a stored tensor is not needed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ignored {
    /// A list of position or segment numbers, which old versions stored.
    Constant,
    /// A copy of this tensor.
    Tied(&'static str),
    /// A part of a head that was not asked for.
    OtherHead,
}

impl LoadReport {
    /// Matches all that is wanted with all that is there.
    pub fn new(names: &Names<'_>, wanted: &[Wanted]) -> LoadReport {
        let mut report =
            LoadReport { tensors: Vec::new(), faults: Vec::new(), parameters: 0, bytes: 0 };
        let mut fates: HashMap<&str, Fate> = HashMap::new();
        for Wanted { name, shape } in wanted {
            let fate = match names.find(name, shape) {
                Ok(tensor) => {
                    report.parameters += tensor.elements();
                    report.bytes += tensor.bytes();
                    if tensor.name() == name { Fate::Used } else { Fate::Renamed(name.clone()) }
                }
                Err(fault) => {
                    let fate = match &fault {
                        Error::WrongShape { .. } => Fate::WrongShape(shape.clone()),
                        Error::WrongDtype { .. } => Fate::WrongDtype,
                        _ => Fate::Doubled,
                    };
                    report.faults.push(fault);
                    fate
                }
            };
            for tensor in names.candidates(name) {
                fates.insert(tensor.name(), fate.clone());
            }
        }
        for tensor in names.checkpoint().tensors() {
            let fate = fates.remove(tensor.name()).unwrap_or_else(|| unwanted(names, tensor));
            report.tensors.push((tensor.clone(), fate));
        }
        report
    }

    /// Whether the model can be loaded.
    pub fn is_loadable(&self) -> bool {
        self.faults.is_empty()
    }
}

/// The fate of a tensor that the model does not ask for.
fn unwanted(names: &Names<'_>, tensor: &TensorInfo) -> Fate {
    let name = &*canonical(tensor.name());
    if ["embeddings.position_ids", "embeddings.token_type_ids"].contains(&name) {
        return Fate::Ignored(Ignored::Constant);
    }
    if let Some(&(kept, _)) =
        TIED.iter().find(|&&(kept, copy)| name == copy && names.contains(kept))
    {
        return Fate::Ignored(Ignored::Tied(kept));
    }
    if ["pooler.", "cls.", "classifier.", "qa_outputs."].iter().any(|head| name.starts_with(head)) {
        return Fate::Ignored(Ignored::OtherHead);
    }
    Fate::Unexpected
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fate::Used => f.write_str("used"),
            Fate::Renamed(name) => write!(f, "renamed to {name}"),
            Fate::Ignored(why) => write!(f, "ignored: {why}"),
            Fate::WrongShape(expected) => write!(f, "wrong shape: {expected:?} expected"),
            Fate::WrongDtype => f.write_str("wrong type: F32, F16, BF16 or F64 expected"),
            Fate::Doubled => f.write_str("doubled: stored by another name too"),
            Fate::Unexpected => f.write_str("unexpected"),
        }
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ignored::Constant => f.write_str("a constant"),
            Ignored::Tied(to) => write!(f, "tied to {to}"),
            Ignored::OtherHead => f.write_str("a head that is not used"),
        }
    }
}
