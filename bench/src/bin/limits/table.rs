//! Tables that people and programs read.

use ferrite_bench::timing::AgainstPeak;
use serde_json::{Map, Value, json};

/// What was measured of one thing, and how it is shown.
pub(crate) struct Cell {
    text: String,
    json: Value,
}

impl Cell {
    /// A name.
    pub(crate) fn text(text: impl Into<String>) -> Cell {
        let text = text.into();
        Cell { json: json!(text), text }
    }

    /// A count.
    pub(crate) fn count(n: usize) -> Cell {
        Cell { text: n.to_string(), json: json!(n) }
    }

    /// A measured number.
    pub(crate) fn number(x: f64) -> Cell {
        Cell { text: digits(x), json: json!(rounded(x)) }
    }

    /// A number near one.
    pub(crate) fn fine_number(x: f64) -> Cell {
        let text = format!("{x:.6}");
        Cell { json: json!(text.parse::<f64>().expect("just printed")), text }
    }

    /// A rate and its fraction of the peak.
    pub(crate) fn against_peak(of: AgainstPeak) -> Cell {
        Cell {
            text: format!("{} ({:.0} %)", digits(of.rate / 1e9), 100.0 * of.fraction),
            json: rates(of),
        }
    }

    /// A time, a rate and its fraction of the peak.
    pub(crate) fn milliseconds_against_peak(of: AgainstPeak) -> Cell {
        let milliseconds = digits(of.seconds * 1e3);
        let Cell { text, json } = Cell::against_peak(of);
        Cell { text: format!("{milliseconds} ms: {text}"), json }
    }
}

fn rates(of: AgainstPeak) -> Value {
    json!({
        "ms": rounded(of.seconds * 1e3),
        "gops": rounded(of.rate / 1e9),
        "peak": rounded(of.peak / 1e9),
        "fraction": rounded(of.fraction),
    })
}

/// A table: `key` names it in JSON, where each row is an object of its columns.
pub(crate) struct Table {
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    /// What the numbers are, in sentences.
    pub(crate) note: String,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn json(&self) -> Value {
        let row = |row: &Vec<Cell>| {
            let cells = self.columns.iter().zip(row);
            let cells = cells.map(|(name, cell)| (name.clone(), cell.json.clone()));
            Value::Object(cells.collect::<Map<_, _>>())
        };
        self.rows.iter().map(row).collect()
    }

    /// Markdown whose columns stand below each other on a terminal too.
    pub(crate) fn markdown(&self) -> String {
        let lines: Vec<Vec<&str>> =
            std::iter::once(self.columns.iter().map(String::as_str).collect())
                .chain(
                    self.rows.iter().map(|row| row.iter().map(|cell| cell.text.as_str()).collect()),
                )
                .collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|col| lines.iter().map(|line| line[col].chars().count()).max().unwrap_or(0))
            .collect();
        let mut out = format!("## {}\n\n{}\n\n", self.title, self.note);
        for (number, line) in lines.iter().enumerate() {
            for (col, (text, &width)) in line.iter().zip(&widths).enumerate() {
                out += &if col == 0 {
                    format!("| {text:<width$} |")
                } else {
                    format!(" {text:>width$} |")
                };
            }
            out.push('\n');
            if number == 0 {
                for (col, &width) in widths.iter().enumerate() {
                    let dashes = "-".repeat(width + 1);
                    out += &if col == 0 { format!("|{dashes}-|") } else { format!("{dashes}:|") };
                }
                out.push('\n');
            }
        }
        out
    }
}

/// Three significant digits, or all before the point.
pub(crate) fn digits(x: f64) -> String {
    let decimals = match x.abs() {
        x if x >= 100.0 => 0,
        x if x >= 10.0 => 1,
        x if x >= 1.0 => 2,
        _ => 3,
    };
    format!("{x:.decimals$}")
}

/// Four significant digits: more is noise.
pub(crate) fn rounded(x: f64) -> f64 {
    format!("{x:.3e}").parse().expect("a number that was just printed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_by_people_and_programs() {
        let table = Table {
            key: "k",
            title: "Title",
            note: "Note.".into(),
            columns: vec!["name".into(), "GB/s".into()],
            rows: vec![
                vec![Cell::text("a"), Cell::number(123.456)],
                vec![Cell::text("longer"), Cell::number(0.123_456)],
            ],
        };
        assert_eq!(
            table.markdown(),
            "## Title\n\nNote.\n\n\
             | name   |  GB/s |\n\
             |--------|------:|\n\
             | a      |   123 |\n\
             | longer | 0.123 |\n"
        );
        let expected = json!([{"name": "a", "GB/s": 123.5}, {"name": "longer", "GB/s": 0.1235}]);
        assert_eq!(table.json(), expected);
    }
}
