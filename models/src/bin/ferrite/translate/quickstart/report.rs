//! What was learnt, to read.

use std::fmt::Write;

use serde::Serialize;

use crate::console::printable;
use crate::options::Format;

/// All that is shown in the end.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) examples: Vec<Example>,
    /// Sentences that were translated and had not been learnt.
    pub(super) unseen: usize,
    /// How many of these are right, to the last letter.
    pub(super) right: usize,
    /// One that is not.
    pub(super) wrong: Option<Example>,
    /// Of all of them.
    pub(super) bleu: f64,
    /// How long all of them took.
    pub(super) seconds: f64,
}

/// A sentence and what became of it.
#[derive(Debug, Serialize)]
pub(super) struct Example {
    pub(super) english: String,
    pub(super) german: String,
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
        for Example { english, german } in &self.examples {
            line(format_args!("{english}\n  {}", printable(german)));
        }
        let Report { unseen, right, bleu, seconds, .. } = self;
        let percent = 100.0 * *right as f64 / (*unseen).max(1) as f64;
        line(format_args!(
            "\n{right} of {unseen} unseen sentences are right to the last letter ({percent:.1} %), \
             BLEU {bleu:.2}; {:.0} sentences a second",
            *unseen as f64 / seconds
        ));
        if let Some(Example { english, german }) = &self.wrong {
            line(format_args!("One that is not:\n{english}\n  {}", printable(german)));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_ones_are_counted_and_a_wrong_one_is_shown() {
        let example = |english: &str, german: &str| Example {
            english: english.to_owned(),
            german: german.to_owned(),
        };
        let mut report = Report {
            examples: vec![example("two", "zwei")],
            unseen: 200,
            right: 199,
            wrong: Some(example("one", "eis")),
            bleu: 99.5,
            seconds: 2.0,
        };
        let text = String::from_utf8(report.write(Format::Text)).unwrap();
        assert!(text.starts_with("two\n  zwei\n\n199 of 200 unseen"), "{text}");
        assert!(text.contains("(99.5 %), BLEU 99.50; 100 sentences a second"), "{text}");
        assert!(text.ends_with("One that is not:\none\n  eis\n"), "{text}");
        report.wrong = None;
        assert!(!String::from_utf8(report.write(Format::Text)).unwrap().contains("not:"));
        let json: serde_json::Value = serde_json::from_slice(&report.write(Format::Jsonl)).unwrap();
        assert_eq!(
            (json["right"].as_u64(), json["examples"][0]["german"].as_str()),
            (Some(199), Some("zwei"))
        );
    }
}
