//! How far a run is, and how fast it goes.

use std::time::Instant;

use ferrite_models::train::{Evaluation, StepRecord};

use super::Told;
use crate::console::Progress;

/// How fast it goes: a mean over the last steps.
pub(super) struct Pace {
    start: Instant,
    tokens_per_second: f64,
}

impl Pace {
    pub(super) fn new() -> Pace {
        Pace { start: Instant::now(), tokens_per_second: 0.0 }
    }

    pub(super) fn add<S>(&mut self, record: &StepRecord<S>) {
        let now = record.tokens as f64 / record.seconds;
        let weight = if self.tokens_per_second == 0.0 { 1.0 } else { 0.1 };
        self.tokens_per_second += weight * (now - self.tokens_per_second);
    }

    /// Moves the bar.
    pub(super) fn show<T: Told>(
        &self,
        progress: &Progress,
        record: &StepRecord<T::Scores>,
        evaluation: Option<&Evaluation<T::Scores>>,
    ) {
        let held_out = match evaluation {
            Some(of) => format!(", held out {:.3}", T::loss(&of.held_out)),
            None => String::new(),
        };
        let (step, loss, pace) = (record.step, T::loss(&record.scores), self.tokens_per_second);
        progress.show(step, &format!("step {step}, loss {loss:.3}{held_out}, {pace:.0} tokens/s"));
    }

    /// What is said after an evaluation.
    pub(super) fn line<T: Told>(
        &self,
        record: &StepRecord<T::Scores>,
        of: &Evaluation<T::Scores>,
        total: u64,
    ) -> String {
        format!(
            "step {} of {total}, {:.0} s, {:.0} tokens/s: loss {:.3}; held out: {}",
            of.step,
            self.start.elapsed().as_secs_f64(),
            self.tokens_per_second,
            T::loss(&record.scores),
            T::in_a_line(of),
        )
    }
}
