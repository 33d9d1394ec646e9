//! A picture of how losses fall, as SVG.

use std::fmt::Write;

/// A line of a [`Chart`].
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// What it is called in the legend.
    pub name: String,
    /// Step and value, by step.
    pub points: Vec<(f64, f64)>,
}

/// Curves over the steps of a training.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// What stands above it.
    pub title: String,
    /// What the values are.
    pub unit: String,
    /// At most four.
    pub curves: Vec<Curve>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
/// Left, right, top, bottom.
const MARGIN: (f64, f64, f64, f64) = (64.0, 24.0, 48.0, 52.0);
const COLOURS: [&str; 4] = ["#9aa7b8", "#c2410c", "#1d4ed8", "#15803d"];
/// A curve has no more points than there are pixels to see them.
const POINTS: usize = 600;

impl Chart {
    /// The document. Values that are not finite are left out.
    pub fn to_svg(&self) -> String {
        let finite = |curve: &Curve| -> Vec<(f64, f64)> {
            let points = curve.points.iter().copied();
            thin(points.filter(|(x, y)| x.is_finite() && y.is_finite()).collect())
        };
        let curves: Vec<_> = self.curves.iter().map(finite).collect();
        let all = || curves.iter().flatten();
        let last = all().fold(1.0f64, |last, point| last.max(point.0));
        let (low, high) = all().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), point| {
            (low.min(point.1), high.max(point.1))
        });
        let (low, high) = match low < high {
            true => (low, high),
            // A single value has an axis around it.
            false if low == high => (low - 0.5, high + 0.5),
            false => (0.0, 1.0),
        };
        let step = round_step((high - low) / 5.0);
        let (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
        let (left, right, top, bottom) = MARGIN;
        let x = |value: f64| left + value / last * (WIDTH - left - right);
        let y = |value: f64| top + (high - value) / (high - low) * (HEIGHT - top - bottom);

        let mut svg = String::new();
        let mut add = |line: std::fmt::Arguments<'_>| {
            writeln!(svg, "{line}").expect("a string takes everything");
        };
        add(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"13\" fill=\"#1f2937\">"
        ));
        add(format_args!("<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"));
        add(format_args!(
            "<text x=\"{left}\" y=\"26\" font-size=\"16\" font-weight=\"bold\">{}</text>",
            escape(&self.title)
        ));
        let ticks = ((high - low) / step).round() as usize;
        for tick in 0..=ticks {
            let value = low + tick as f64 * step;
            let (end, at) = (WIDTH - right, y(value));
            add(format_args!(
                "<path d=\"M{left} {at:.1}H{end}\" stroke=\"#e5e7eb\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 8.0,
                at + 4.0,
                label(value, step)
            ));
        }
        let step = round_step(last / 6.0).max(1.0);
        for tick in 0..=(last / step) as usize {
            let value = tick as f64 * step;
            add(format_args!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>",
                x(value),
                HEIGHT - bottom + 20.0
            ));
        }
        add(format_args!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">step</text>",
            (left + WIDTH - right) / 2.0,
            HEIGHT - 12.0
        ));
        add(format_args!(
            "<text transform=\"translate(18 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (top + HEIGHT - bottom) / 2.0,
            escape(&self.unit)
        ));
        let mut place = left + 12.0;
        for ((curve, points), colour) in self.curves.iter().zip(&curves).zip(COLOURS) {
            let path: Vec<String> =
                points.iter().map(|&(a, b)| format!("{:.1} {:.1}", x(a), y(b))).collect();
            if !path.is_empty() {
                add(format_args!(
                    "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" \
                     stroke-linejoin=\"round\"/>",
                    path.join("L")
                ));
            }
            let baseline = top - 6.0;
            add(format_args!(
                "<path d=\"M{place:.1} {:.1}h22\" stroke=\"{colour}\" stroke-width=\"3\"/>\
                 <text x=\"{:.1}\" y=\"{baseline:.1}\">{}</text>",
                baseline - 4.0,
                place + 28.0,
                escape(&curve.name)
            ));
            place += 48.0 + 7.5 * curve.name.chars().count() as f64;
        }
        add(format_args!("</svg>"));
        svg
    }
}

/// Means of neighbours, if there are more points than can be seen.
fn thin(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let group = points.len().div_ceil(POINTS).max(1);
    let mean = |points: &[(f64, f64)]| {
        let sum = points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / points.len() as f64, sum.1 / points.len() as f64)
    };
    points.chunks(group).map(mean).collect()
}

/// The least of 1, 2, 5 times a power of ten that is not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.max(1e-9).log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= least * 0.999_999);
    factor.unwrap_or(10.0) * power
}

/// A value with as many places as the distance of ticks needs.
fn label(value: f64, step: f64) -> String {
    let places = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.places$}")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> String {
        let curves = vec![Curve { name: "a < b".to_owned(), points }];
        Chart { title: "Loss & more".to_owned(), unit: "nats".to_owned(), curves }.to_svg()
    }

    /// Where the points of the curve lie, each within the axes.
    fn places(svg: &str) -> Vec<(f64, f64)> {
        let line = svg.lines().find(|line| line.contains("stroke-linejoin")).unwrap();
        let path = line.split('"').nth(1).unwrap().trim_start_matches('M');
        let points: Vec<(f64, f64)> = path
            .split('L')
            .map(|point| point.split_once(' ').unwrap())
            .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
            .collect();
        let is_inside =
            |&(x, y): &(f64, f64)| (64.0..=736.0).contains(&x) && (48.0..=368.0).contains(&y);
        assert!(points.iter().all(is_inside), "{points:?}");
        points
    }

    #[test]
    fn curves_lie_inside_the_axes() {
        for points in [vec![(1.0, 5.5)], vec![(1.0, -3.0), (2.0, -3.0)], vec![(4.0, 1e9)]] {
            assert_eq!(places(&chart(points.clone())).len(), points.len());
        }
        let svg = chart((0..5000).map(|n| (f64::from(n), 9.0 / f64::from(n + 1))).collect());
        assert!(svg.contains("Loss &amp; more") && svg.contains("a &lt; b"), "{svg}");
        let points = places(&svg);
        assert!(points.len() <= POINTS && points.len() > POINTS / 2);
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
    }

    #[test]
    fn nothing_to_draw_is_no_fault() {
        for points in [vec![], vec![(0.0, 3.0)], vec![(1.0, f64::NAN), (2.0, f64::INFINITY)]] {
            let svg = chart(points);
            assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf"));
        }
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(
            [0.7, 1.0, 1.2, 3.0, 7.0, 0.02].map(round_step),
            [1.0, 1.0, 2.0, 5.0, 10.0, 0.02]
        );
        assert_eq!((label(2.5, 0.5), label(300.0, 100.0)), ("2.5".to_owned(), "300".to_owned()));
    }
}
