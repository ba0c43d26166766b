//! A chart with logarithmic axes, as SVG text.

use std::fmt::Write;

/// A line through points.
pub(super) struct Line<'a> {
    /// Beside its last point.
    pub(super) label: &'a str,
    /// Any SVG colour.
    pub(super) colour: &'a str,
    /// Drawn with dashes.
    pub(super) dashed: bool,
    /// `(x, y)`, both positive, ascending in `x`.
    pub(super) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 560.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 690.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 430.0;
/// Least distance of labels.
const LABEL: f64 = 16.0;

/// The whole file. `caption` is one line each.
pub(super) fn svg(title: &str, x_axis: &str, y_axis: &str, lines: &[Line], caption: &[String]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let x_range = points().fold((f64::MAX, f64::MIN), |(low, high), p| (low.min(p.0), high.max(p.0)));
    let y_range = points().fold((f64::MAX, f64::MIN), |(low, high), p| (low.min(p.1), high.max(p.1)));
    let y_range = (10f64.powf(y_range.0.log10().floor()), 10f64.powf(y_range.1.log10().ceil()));
    let along = |value: f64, (low, high): (f64, f64)| (value / low).ln() / (high / low).ln();
    let x = |value: f64| LEFT + (RIGHT - LEFT) * along(value, x_range);
    let y = |value: f64| BOTTOM - (BOTTOM - TOP) * along(value, y_range);

    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    let text = |out: &mut String, at: (f64, f64), anchor: &str, more: &str, text: &str| {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let (x, y) = at;
        writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{more}>{text}</text>")
    };
    let drawn = (|| {
        text(&mut out, ((LEFT + RIGHT) / 2.0, 30.0), "middle", " font-size=\"16\"", title)?;
        text(&mut out, ((LEFT + RIGHT) / 2.0, BOTTOM + 42.0), "middle", "", x_axis)?;
        let turned = format!(" transform=\"rotate(-90 24 {0})\"", (TOP + BOTTOM) / 2.0);
        text(&mut out, (24.0, (TOP + BOTTOM) / 2.0), "middle", &turned, y_axis)?;
        let mut tick = x_range.0;
        while tick <= x_range.1 * 1.001 {
            writeln!(out, "<path d=\"M{0:.1} {TOP} V{BOTTOM}\" stroke=\"#ddd\"/>", x(tick))?;
            text(&mut out, (x(tick), BOTTOM + 18.0), "middle", "", &thousands(tick))?;
            tick *= 2.0;
        }
        let mut decade = y_range.0;
        while decade <= y_range.1 * 1.001 {
            for step in 1..10 {
                let value = decade * f64::from(step);
                if value > y_range.1 * 1.001 {
                    break;
                }
                let colour = if step == 1 { "#bbb" } else { "#eee" };
                writeln!(out, "<path d=\"M{LEFT} {:.1} H{RIGHT}\" stroke=\"{colour}\"/>", y(value))?;
            }
            text(&mut out, (LEFT - 8.0, y(decade) + 4.0), "end", "", &format!("{}", round(decade)))?;
            decade *= 10.0;
        }
        for line in lines {
            let dashes = if line.dashed { " stroke-dasharray=\"6 4\"" } else { "" };
            let path: Vec<String> =
                line.points.iter().map(|&(at, value)| format!("{:.1},{:.1}", x(at), y(value))).collect();
            let colour = line.colour;
            writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>",
                path.join(" ")
            )?;
            for &(at, value) in &line.points {
                writeln!(
                    out,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                    x(at),
                    y(value)
                )?;
            }
        }
        // labels keep their distance, the upper one keeps its place
        let last = |line: &Line| line.points.last().map_or((LEFT, BOTTOM), |&(at, value)| (x(at), y(value)));
        let mut labelled: Vec<&Line> = lines.iter().collect();
        labelled.sort_by(|a, b| last(a).1.total_cmp(&last(b).1));
        let mut above = f64::MIN;
        for line in labelled {
            let (at, height) = last(line);
            above = (above + LABEL).max(height);
            let fill = format!(" fill=\"{}\"", line.colour);
            text(&mut out, (at + 10.0, above + 4.0), "start", &fill, line.label)?;
        }
        for (at, line) in caption.iter().enumerate() {
            let place = (LEFT, BOTTOM + 70.0 + 18.0 * at as f64);
            text(&mut out, place, "start", " font-size=\"12\" fill=\"#444\"", line)?;
        }
        writeln!(out, "</svg>")
    })();
    drawn.map_or(String::new(), |()| out)
}

fn thousands(value: f64) -> String {
    if value >= 1024.0 { format!("{}k", (value / 1024.0).round()) } else { format!("{}", value.round()) }
}

/// Powers of ten without the traces of binary fractions.
fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ratios_are_equal_distances_and_text_is_escaped() {
        let points = vec![(1024.0, 1.0), (2048.0, 10.0), (4096.0, 100.0)];
        let line = Line { label: "a < b", colour: "red", dashed: true, points };
        let svg = svg("title", "x", "y", &[line], &["one".into(), "two".into()]);
        let path = svg.split("<polyline points=\"").nth(1).unwrap().split('"').next().unwrap();
        let points: Vec<(f64, f64)> = path
            .split(' ')
            .map(|point| point.split_once(',').unwrap())
            .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
            .collect();
        let (a, b, c) = (points[0], points[1], points[2]);
        assert!((b.0 - a.0 - (c.0 - b.0)).abs() < 0.3 && b.0 > a.0);
        assert!((b.1 - a.1 - (c.1 - b.1)).abs() < 0.3 && b.1 < a.1);
        assert!(svg.contains("a &lt; b") && svg.contains(">two<") && svg.ends_with("</svg>\n"));
        assert!([">1k<", ">2k<", ">4k<", ">1<", ">10<", ">100<"].iter().all(|tick| svg.contains(tick)));
    }
}
