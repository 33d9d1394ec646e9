//! What a translator looks at, as a picture: the attention of each token of the target to the tokens
//! of the source (Attention Is All You Need, section 3.2.3).

use std::fmt::Write;

use ferrite_models::kernels::Mat;

/// The side of a cell, and the room for the tokens, in pixels.
const CELL: f64 = 26.0;
const LABELS: (f64, f64) = (150.0, 130.0);
const TITLE: f64 = 44.0;

/// A square for each pair of tokens, the darker the more the token of the target takes of that of the
/// source. `weights`: (target tokens, source tokens), from 0 to 1.
pub(super) fn to_svg(
    title: &str,
    source: &[String],
    target: &[String],
    weights: Mat<'_>,
) -> String {
    assert_eq!(weights.shape(), (target.len(), source.len()), "tokens and weights");
    let (left, top) = (LABELS.0, TITLE + LABELS.1);
    let width = left + CELL * source.len() as f64 + 24.0;
    let height = top + CELL * target.len() as f64 + 24.0;
    let mut svg = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| {
        writeln!(svg, "{text}").expect("a string takes everything");
    };
    line(format_args!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13" fill="#1f2937">"##
    ));
    line(format_args!(r##"<rect width="{width}" height="{height}" fill="#ffffff"/>"##));
    line(format_args!(r#"<text x="16" y="28" font-size="15">{}</text>"#, escaped(title)));
    for (column, token) in source.iter().enumerate() {
        let (x, y) = (left + CELL * (column as f64 + 0.62), top - 8.0);
        line(format_args!(
            r#"<text x="{x}" y="{y}" transform="rotate(-60 {x} {y})">{}</text>"#,
            escaped(token)
        ));
    }
    for (row, token) in target.iter().enumerate() {
        let y = top + CELL * row as f64;
        line(format_args!(
            r#"<text x="{}" y="{}" text-anchor="end">{}</text>"#,
            left - 8.0,
            y + 0.68 * CELL,
            escaped(token)
        ));
        for (column, &weight) in weights.row(row).iter().enumerate() {
            let x = left + CELL * column as f64;
            let (source, side) = (&source[column], CELL - 2.0);
            line(format_args!(
                r##"<rect x="{x}" y="{y}" width="{side}" height="{side}" fill="#1d4ed8" fill-opacity="{:.3}" stroke="#e5e7eb"><title>{} ← {}: {:.0} %</title></rect>"##,
                weight.clamp(0.0, 1.0),
                escaped(token),
                escaped(source),
                100.0 * weight
            ));
        }
    }
    line(format_args!("</svg>"));
    svg
}

/// A text between tags.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use ferrite_models::kernels::Matrix;

    use super::*;

    #[test]
    fn each_pair_of_tokens_is_a_square() {
        let [source, target] = [&["two", "&", "[SEP]"][..], &["zwei", "<und>"]]
            .map(|tokens| tokens.iter().map(|&token| token.to_owned()).collect::<Vec<_>>());
        let weights = Matrix::from_fn(2, 3, |row, column| if row == column { 0.75 } else { 0.125 });
        let svg = to_svg("a & b", &source, &target, weights.view());
        assert_eq!(svg.matches("<rect x=").count(), 6);
        assert_eq!(svg.matches(r#"fill-opacity="0.750""#).count(), 2);
        assert!(svg.contains("zwei ← two: 75 %") && svg.contains("a &amp; b"), "{svg}");
        assert!(svg.contains("&lt;und&gt;") && !svg.contains("<und>"), "{svg}");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }
}
