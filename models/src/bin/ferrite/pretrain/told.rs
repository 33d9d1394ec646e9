//! What is said of masked words and next sentences.

use std::path::Path;

use ferrite_models::train::{Evaluation, Pretraining};

use crate::training::Told;

impl Told for Pretraining {
    fn in_a_line(of: &Evaluation) -> String {
        format!(
            "masked words {:.3} (perplexity {:.1}, {:.1} % right), next sentence {:.1} % right",
            of.held_out.masked_loss,
            of.perplexity,
            100.0 * of.held_out.masked_accuracy,
            100.0 * of.held_out.next_accuracy,
        )
    }

    fn in_full(evaluation: &Evaluation) -> String {
        let Evaluation { step, held_out, perplexity, .. } = evaluation;
        format!(
            "after {step} steps, on documents that were held out\n\
             masked words   loss {:.4}   perplexity {perplexity:.2}   right {:.1} %\n\
             next sentence  loss {:.4}   right {:.1} %\n",
            held_out.masked_loss,
            100.0 * held_out.masked_accuracy,
            held_out.next_loss,
            100.0 * held_out.next_accuracy,
        )
    }

    fn advice(folder: &Path) -> String {
        format!(
            "the model is in {0}; to let it guess: ferrite fill-mask --model {0} \"... [MASK] ...\"",
            folder.display()
        )
    }
}
