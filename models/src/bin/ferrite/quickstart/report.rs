//! What was learnt, as a table.

use std::fmt::Write;

use serde::Serialize;

use crate::console::printable;
use crate::options::Format;

/// Texts for the model to guess in, told as the stories are.
pub(super) const GAPS: [&str; 7] = [
    "Clara had a dog. Its name was Pepper. On Monday the kennel was empty. Then they heard that \
     Pepper [MASK].",
    "Nora had a cat. Its name was Domino. Domino lived in a [MASK].",
    "In the evening Tom was thirsty. He wanted a glass of lemonade. So he [MASK] some lemonade.",
    "Karl was a baker. He worked in a bakery. Ida came to the bakery to buy a [MASK].",
    "On Friday Mira and Ben walked to the harbour. Soon it began to rain, and the streets were \
     [MASK].",
    "It was the birthday of Leo. Emma wanted to give him a drum. In a little shop she saw a red \
     drum. Emma gave the red [MASK] to Leo.",
    "Paul had a green lamp. On Monday he took it to the market. There he looked at the stalls and \
     lost the [MASK].",
];

/// All that is shown in the end.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) gaps: Vec<Gap>,
    pub(super) scores: Vec<Score>,
}

/// A text with a gap, and what models guess: words and probabilities, the best first.
#[derive(Debug, Serialize)]
pub(super) struct Gap {
    pub(super) text: &'static str,
    pub(super) untrained: Vec<(String, f32)>,
    pub(super) trained: Vec<(String, f32)>,
}

/// The parts of questions that are answered right.
#[derive(Debug, Serialize)]
pub(super) struct Score {
    pub(super) what: &'static str,
    /// How many questions there are.
    pub(super) questions: usize,
    /// By whoever always gives the commonest answer.
    pub(super) commonest: f64,
    /// By the same model without pre-training.
    pub(super) untrained: f64,
    /// By the model that was pre-trained.
    pub(super) trained: f64,
}

impl Report {
    /// The report in a form.
    pub(super) fn write(&self, format: Format) -> Vec<u8> {
        format.report(self, Report::text)
    }

    fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |text: std::fmt::Arguments<'_>| {
            writeln!(out, "{text}").expect("a string takes everything");
        };
        for Gap { text, untrained, trained } in &self.gaps {
            line(format_args!("{text}"));
            for (who, words) in [("untrained", untrained), ("pre-trained", trained)] {
                let word = |(word, p): &(String, f32)| format!("{} {p:.2}", printable(word));
                let words: Vec<String> = words.iter().map(word).collect();
                line(format_args!("  {who:<13}{}", words.join(", ")));
            }
        }
        line(format_args!(
            "\n{:<34}{:>9} {:>10} {:>9} {:>11}",
            "right answers", "questions", "commonest", "untrained", "pre-trained"
        ));
        for Score { what, questions, commonest, untrained, trained } in &self.scores {
            let percent = |part: f64| format!("{:.1} %", 100.0 * part);
            line(format_args!(
                "{what:<34}{questions:>9} {:>10} {:>9} {:>11}",
                percent(*commonest),
                percent(*untrained),
                percent(*trained)
            ));
        }
        out
    }
}

/// The part of the answers that are the commonest one.
pub(super) fn commonest(answers: impl Iterator<Item = u32>) -> f64 {
    let mut counts = std::collections::BTreeMap::new();
    answers.for_each(|answer| *counts.entry(answer).or_insert(0u32) += 1);
    let sum: u32 = counts.values().sum();
    f64::from(counts.into_values().max().unwrap_or(0)) / f64::from(sum.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_their_names() {
        let trained = vec![("barked".to_owned(), 0.987)];
        let gaps = vec![Gap { text: GAPS[0], untrained: Vec::new(), trained }];
        let (what, questions) = ("masked words", 1234);
        let scores =
            vec![Score { what, questions, commonest: 0.1, untrained: 0.0, trained: 0.9876 }];
        let report = Report { gaps, scores };
        let text = String::from_utf8(report.write(Format::Text)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], "  pre-trained  barked 0.99");
        assert_eq!(lines[4].len(), lines[5].len());
        assert!(lines[5].ends_with("1234     10.0 %     0.0 %      98.8 %"), "{}", lines[5]);
        let json = report.write(Format::Jsonl);
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["scores"][0]["trained"], 0.9876);
    }

    #[test]
    fn the_commonest_answer_is_counted() {
        assert_eq!(commonest([3, 1, 3, 2].into_iter()), 0.5);
        assert_eq!(commonest([].into_iter()), 0.0);
    }
}
