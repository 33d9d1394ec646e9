//! BERT (Devlin et al. 2018, arXiv:1810.04805).

mod config;
mod tensors;

pub use config::{BertConfig, HiddenAct, ProblemType};
pub use tensors::Part;
