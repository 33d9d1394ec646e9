//! How far the run is, how fast it goes, and how good the model is by now.

use std::time::Instant;

use ferrite_models::train::{Evaluation, StepRecord};

use crate::console::Progress;
use crate::options::Format;

/// How fast it goes: a mean over the last steps.
pub(super) struct Pace {
    start: Instant,
    tokens_per_second: f64,
}

impl Pace {
    pub(super) fn new() -> Pace {
        Pace { start: Instant::now(), tokens_per_second: 0.0 }
    }

    pub(super) fn add(&mut self, record: &StepRecord) {
        let now = record.tokens as f64 / record.seconds;
        let weight = if self.tokens_per_second == 0.0 { 1.0 } else { 0.1 };
        self.tokens_per_second += weight * (now - self.tokens_per_second);
    }

    pub(super) fn show(
        &self,
        progress: &Progress,
        record: &StepRecord,
        evaluation: Option<&Evaluation>,
    ) {
        let held_out = match evaluation {
            Some(of) => format!(", held out {:.3}", of.held_out.masked_loss),
            None => String::new(),
        };
        let StepRecord { step, scores, .. } = record;
        let (loss, pace) = (scores.masked_loss, self.tokens_per_second);
        progress.show(*step, &format!("step {step}, loss {loss:.3}{held_out}, {pace:.0} tokens/s"));
    }
}

/// What is said after an evaluation.
pub(super) fn line(record: &StepRecord, of: &Evaluation, total: u64, pace: &Pace) -> String {
    format!(
        "step {} of {total}, {:.0} s, {:.0} tokens/s: loss {:.3}; held out: masked words {:.3} \
         (perplexity {:.1}, {:.1} % right), next sentence {:.1} % right",
        of.step,
        pace.start.elapsed().as_secs_f64(),
        pace.tokens_per_second,
        record.scores.masked_loss,
        of.held_out.masked_loss,
        of.perplexity,
        100.0 * of.held_out.masked_accuracy,
        100.0 * of.held_out.next_accuracy,
    )
}

/// What is written to stdout in the end.
pub(super) fn report(evaluation: &Evaluation, format: Format) -> String {
    let Evaluation { step, held_out, perplexity, .. } = evaluation;
    match format {
        Format::Jsonl => serde_json::to_string(evaluation).expect("numbers") + "\n",
        Format::Text => format!(
            "after {step} steps, on documents that were held out\n\
             masked words   loss {:.4}   perplexity {perplexity:.2}   right {:.1} %\n\
             next sentence  loss {:.4}   right {:.1} %\n",
            held_out.masked_loss,
            100.0 * held_out.masked_accuracy,
            held_out.next_loss,
            100.0 * held_out.next_accuracy,
        ),
    }
}
