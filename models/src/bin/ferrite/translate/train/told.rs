//! What is said of target tokens.

use std::path::Path;

use ferrite_models::train::{Evaluation, Translation, TranslationScores};

use crate::stream::counted;
use crate::training::Told;

impl Told for Translation {
    fn in_a_line(of: &Evaluation<TranslationScores>) -> String {
        let TranslationScores { nll, accuracy, .. } = of.held_out;
        let right = 100.0 * accuracy;
        format!("a token {nll:.3} (perplexity {:.2}, {right:.1} % right)", of.perplexity)
    }

    fn in_full(of: &Evaluation<TranslationScores>) -> String {
        let Evaluation { step, averaged, held_out, perplexity } = of;
        let mean = averaged.map_or_else(String::new, |n| {
            format!(", the mean of the parameters of {}", counted(n, "step"))
        });
        format!(
            "after {step} steps{mean}, on pairs that were held out, given the tokens before\n\
             a token  loss {:.4}   perplexity {perplexity:.3}   right {:.1} %\n",
            held_out.nll,
            100.0 * held_out.accuracy,
        )
    }

    fn advice(folder: &Path) -> String {
        format!(
            "the model is in {0}; to translate: ferrite translate run --model {0} \"...\"; for BLEU: \
             ferrite translate evaluate --model {0} --pairs FILE",
            folder.display()
        )
    }
}
