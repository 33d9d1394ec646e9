//! `ferrite embed --similarity`: how similar each text is to each.

use std::fmt::Write;

use crate::embed::Embed;
use crate::lines::Text;
use crate::options::{Format, write_numbers};
use crate::outcome::Failure;
use crate::stream::{Answer, Verb, write_out};

/// The most texts that are compared, since all are kept, and the table is their number squared.
const MAX_TEXTS: usize = 1000;

/// The most characters of a text that are shown beside the table.
const LABEL: usize = 60;

/// Collects vectors, and compares them in the end.
pub(crate) struct Similarities {
    embed: Embed,
    format: Format,
    /// The texts of the batch, and then those that have a vector, in one order.
    texts: Vec<(u64, String)>,
    vectors: Vec<Option<Vec<f32>>>,
}

impl Similarities {
    pub(crate) fn new(embed: Embed, format: Format) -> Similarities {
        Similarities { embed, format, texts: Vec::new(), vectors: Vec::new() }
    }

    /// Writes a row for each text that has not been rejected.
    pub(crate) fn write(self) -> Result<(), Failure> {
        let rows: Vec<(u64, String, Vec<f32>)> = self
            .texts
            .into_iter()
            .zip(self.vectors)
            .filter_map(|((line, text), vector)| Some((line, text, vector?)))
            .collect();
        let mut out = String::new();
        if self.format == Format::Text && !rows.is_empty() {
            let columns = rows.iter().map(|(line, ..)| format!("{line:>6}"));
            writeln!(out, "      {}", columns.collect::<String>()).expect("never fails");
        }
        for (line, text, vector) in &rows {
            let cosines: Vec<f32> =
                rows.iter().map(|(.., other)| cosine(vector, other) as f32).collect();
            match self.format {
                Format::Text => {
                    let cells = cosines.iter().map(|cosine| format!("{cosine:>6.2}"));
                    let cells = cells.collect::<String>();
                    writeln!(out, "{line:>6}{cells}  {}", label(text)).expect("never fails");
                }
                Format::Jsonl => {
                    let mut numbers = Vec::new();
                    write_numbers(&cosines, b",", &mut numbers);
                    let numbers = String::from_utf8(numbers).expect("digits");
                    writeln!(out, "{{\"line\":{line},\"similarity\":[{numbers}]}}")
                        .expect("never fails");
                }
            }
        }
        write_out(out.as_bytes())
    }
}

impl Verb for Similarities {
    fn push(&mut self, line: u64, text: Text) -> Result<(), String> {
        let label = match &text.pair {
            None => text.text.clone(),
            Some(pair) => format!("{} | {pair}", text.text),
        };
        self.embed.push(line, text)?;
        self.texts.push((line, label));
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.embed.is_full()
    }

    fn run(&mut self) -> Result<Vec<Result<Answer, String>>, Failure> {
        if self.texts.len() > MAX_TEXTS {
            return Err(Failure::Usage(format!(
                "--similarity compares at most {MAX_TEXTS} texts. Without it, all vectors are \
                 written, to be compared by other means."
            )));
        }
        let mut answers = Vec::new();
        for result in self.embed.vectors()? {
            let (vector, answer) = result.map_or_else(
                |reason| (None, Err(reason)),
                |(vector, answer)| (Some(vector), Ok(answer)),
            );
            self.vectors.push(vector);
            answers.push(answer);
        }
        Ok(answers)
    }

    fn rejection(&mut self, line: u64, _reason: &str) -> Vec<u8> {
        // It may have a vector, and be rejected for its length.
        for ((number, _), vector) in self.texts.iter().zip(&mut self.vectors) {
            if *number == line {
                *vector = None;
            }
        }
        Vec::new()
    }
}

/// The cosine of the angle between two vectors; 0 if one has no direction.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { dot(a, b) / lengths } else { 0.0 }
}

/// The beginning of a text, on one line.
fn label(text: &str) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    let mut label: String = text.chars().take(LABEL).map(visible).collect();
    if text.chars().nth(LABEL).is_some() {
        label.push('…');
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_do_not_depend_on_lengths() {
        assert_eq!(cosine(&[1.0, 0.0], &[0.0, 3.0]), 0.0);
        assert_eq!(cosine(&[2.0, 2.0], &[1e-20, 1e-20]), 1.0);
        assert_eq!(cosine(&[3.0, 4.0], &[-3.0, -4.0]), -1.0);
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 1.0]), 0.0);
    }

    #[test]
    fn labels_stay_on_their_line() {
        assert_eq!(label("a\nb\u{1b}[2J"), "a b [2J");
        assert_eq!(label(&"ä".repeat(60)), "ä".repeat(60));
        assert_eq!(label(&"ä".repeat(61)), format!("{}…", "ä".repeat(60)));
    }
}
