//! Loss curves as a picture: SVG, written by hand.

use std::fmt::Write;

/// One curve.
pub(super) struct Curve<'a> {
    pub(super) name: &'a str,
    pub(super) colour: &'a str,
    /// Steps and losses, by step.
    pub(super) points: Vec<(u64, f64)>,
}

/// Of the whole picture, and of the margins round the curves, in pixels.
const SIZE: (f64, f64) = (720.0, 420.0);
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// A picture of these curves, with axes from zero and a legend. What is not finite is left out.
pub(super) fn svg(title: &str, curves: &[Curve<'_>]) -> String {
    let finite = |&&(_, loss): &&(u64, f64)| loss.is_finite();
    let points = || curves.iter().flat_map(|curve| curve.points.iter().filter(finite));
    let steps = ticks(points().map(|&(step, _)| step as f64).fold(1.0, f64::max));
    let losses = ticks(points().map(|&(_, loss)| loss).fold(1e-3, f64::max));
    let (width, height) = (SIZE.0 - LEFT - RIGHT, SIZE.1 - TOP - BOTTOM);
    let end = |ticks: &[f64]| *ticks.last().expect("two at least");
    let x = |step: f64| LEFT + width * step / end(&steps);
    let y = |loss: f64| TOP + height * (1.0 - loss / end(&losses));

    let mut out = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| {
        writeln!(out, "{text}").expect("a string takes everything");
    };
    let (right, bottom) = (SIZE.0 - RIGHT, SIZE.1 - BOTTOM);
    line(format_args!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" font-family="sans-serif" font-size="13" fill="#333">"##,
        SIZE.0, SIZE.1
    ));
    line(format_args!(r##"<rect width="100%" height="100%" fill="#fff"/>"##));
    line(format_args!(r#"<text x="{LEFT}" y="24" font-size="16">{}</text>"#, escape(title)));
    for &tick in &losses {
        let y = y(tick);
        line(format_args!(
            r##"<path d="M{LEFT} {y:.1}H{right}" stroke="#ddd"/><text x="{:.1}" y="{:.1}" text-anchor="end">{tick}</text>"##,
            LEFT - 8.0,
            y + 4.0
        ));
    }
    for &tick in &steps {
        let x = x(tick);
        line(format_args!(
            r##"<path d="M{x:.1} {bottom}v5" stroke="#333"/><text x="{x:.1}" y="{:.1}" text-anchor="middle">{tick}</text>"##,
            bottom + 19.0
        ));
    }
    line(format_args!(r##"<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#333"/>"##));
    let middle = LEFT + width / 2.0;
    line(format_args!(
        r#"<text x="{middle}" y="{:.1}" text-anchor="middle">step</text>"#,
        SIZE.1 - 10.0
    ));
    let middle = TOP + height / 2.0;
    line(format_args!(
        r#"<text transform="translate(18 {middle}) rotate(-90)" text-anchor="middle">loss (nats)</text>"#
    ));
    for (row, Curve { name, colour, points }) in curves.iter().enumerate() {
        let place = |&(step, loss): &(u64, f64)| format!("{:.1},{:.1}", x(step as f64), y(loss));
        let places: Vec<String> = points.iter().filter(finite).map(place).collect();
        let colour = escape(colour);
        line(format_args!(
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#,
            places.join(" ")
        ));
        let (x, y) = (right - 190.0, TOP + 14.0 + 20.0 * row as f64);
        line(format_args!(
            r#"<path d="M{x} {:.1}h24" stroke="{colour}" stroke-width="2"/><text x="{}" y="{y}">{}</text>"#,
            y - 4.0,
            x + 32.0,
            escape(name)
        ));
    }
    line(format_args!("</svg>"));
    out
}

/// Round numbers from 0 to `most` or somewhat more, five to ten or so of them.
fn ticks(most: f64) -> Vec<f64> {
    let power = 10f64.powf((most / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0].iter().map(|by| by * power).filter(|&step| step <= most / 4.0);
    let step = step.fold(power, f64::max);
    let count = (most / step - 1e-9).ceil() as u64;
    // What is no fraction of two is rounded where it is seen.
    (0..=count).map(|tick| (tick as f64 * step * 1e6).round() / 1e6).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_numbers() {
        assert_eq!(
            ticks(1500.0),
            [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0, 1200.0, 1400.0, 1600.0]
        );
        assert_eq!(ticks(0.6), [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]);
        for most in [1e-3, 0.07, 0.5, 1.0, 3.3, 6.8, 10.0, 99.0, 123_456.0] {
            let ticks = ticks(most);
            assert!((4..=12).contains(&ticks.len()), "{most}: {ticks:?}");
            assert!(*ticks.last().unwrap() >= most * (1.0 - 1e-9), "{most}: {ticks:?}");
        }
    }

    #[test]
    fn curves_begin_and_end_where_they_should() {
        let curve = Curve {
            name: "a < b",
            colour: "#c00",
            points: vec![(0, 4.0), (5, f64::NAN), (100, 0.0)],
        };
        let svg = svg("title", &[curve]);
        // The upper left and the lower right corner; what is no number is not there.
        assert!(svg.contains(r#"points="60.0,40.0 700.0,370.0""#), "{svg}");
        assert!(svg.contains("a &lt; b"));
        assert_eq!(svg.matches("<text").count() - svg.matches("</text>").count(), 0);
        assert!(svg.ends_with("</svg>\n"));
    }

    #[test]
    fn a_picture_of_nothing_is_a_picture() {
        assert!(svg("nothing", &[]).contains("</svg>"));
    }
}
