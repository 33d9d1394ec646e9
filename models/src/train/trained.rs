//! What can be trained.

use std::fmt::Debug;

use ferrite_kernels::Level;

use crate::parameters::Parameters;
use crate::{bert, transformer};

/// A model that is trained: all that a step needs of it, whatever the step teaches.
pub trait Trained {
    /// What its passes work in.
    type Tape: Default + Debug;
    /// What is dropped out in a pass.
    type Dropouts;

    /// The dropout of pass `pass` in a run with this seed, at the rates of its configuration.
    fn dropouts(&self, seed: u64, pass: u64) -> Self::Dropouts;

    /// Takes these parameters in place of its own.
    fn update(&mut self, parameters: &Parameters);

    /// The instruction set level it runs at.
    fn level(&self) -> Level;
}

impl Trained for bert::Bert {
    type Tape = bert::Tape;
    type Dropouts = bert::Dropouts;

    fn dropouts(&self, seed: u64, pass: u64) -> bert::Dropouts {
        bert::Dropouts::new(self.config(), seed, pass)
    }

    fn update(&mut self, parameters: &Parameters) {
        bert::Bert::update(self, parameters);
    }

    fn level(&self) -> Level {
        bert::Bert::level(self)
    }
}

impl Trained for transformer::Transformer {
    type Tape = transformer::Tape;
    type Dropouts = transformer::Dropouts;

    fn dropouts(&self, seed: u64, pass: u64) -> transformer::Dropouts {
        transformer::Dropouts::new(self.config(), seed, pass)
    }

    fn update(&mut self, parameters: &Parameters) {
        transformer::Transformer::update(self, parameters);
    }

    fn level(&self) -> Level {
        transformer::Transformer::level(self)
    }
}
