//! The figures as a chart: a bar for what was reached, and behind it one for what the machine allows.
//!
//! Prefill and decode differ by a factor of ten and more, so each has a scale of its own. Colours follow the reader's
//! choice of a light or a dark background.

use super::Report;
use super::table::{reason, speed, work};
use ingle_engine::bench::{Figure, Work};
use std::fmt::Write;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 24.0;
/// Where bars begin: labels stand to the left.
const BARS: f64 = 224.0;
/// Where the longest bar ends: its limit stands to the right.
const RIGHT: f64 = 780.0;
const HEAD: f64 = 78.0;
const ROW: f64 = 46.0;
const SECTION: f64 = 34.0;
const FOOT: f64 = 70.0;

const STYLE: &str = "\
text { fill: #1d2329; } .soft { fill: #5a6672; } .ground { fill: #ffffff; }
.limit { fill: #d9dfe5; } .bar { fill: #1f6fb2; } .spread { stroke: #0d3d66; }
@media (prefers-color-scheme: dark) {
text { fill: #e6eaee; } .soft { fill: #9aa6b2; } .ground { fill: #14181c; }
.limit { fill: #39434d; } .bar { fill: #4f9fe0; } .spread { stroke: #cfe6fa; }
}";

/// The whole file.
pub(super) fn svg(report: &Report) -> String {
    let of = |prefill: bool| -> Vec<&Figure> {
        let wanted = |figure: &&Figure| matches!(figure.case.work, Work::Prefill { .. }) == prefill;
        report.figures.iter().filter(wanted).collect()
    };
    let sections = [("Prefill, tokens per second", of(true)), ("Decode, tokens per second", of(false))];
    let sections: Vec<_> = sections.into_iter().filter(|(_, figures)| !figures.is_empty()).collect();
    let rows: usize = sections.iter().map(|(_, figures)| figures.len()).sum();
    let height = HEAD + SECTION * sections.len() as f64 + ROW * rows as f64 + FOOT;
    let mut out = String::new();
    let drawn = draw(&mut out, report, &sections, height);
    drawn.map_or(String::new(), |()| out)
}

fn draw(
    out: &mut String,
    report: &Report,
    sections: &[(&str, Vec<&Figure>)],
    height: f64,
) -> std::fmt::Result {
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"system-ui, sans-serif\" font-size=\"13\">\n<style>\n{STYLE}\n</style>\n\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\"/>"
    )?;
    text(out, (LEFT, 30.0), "start", " font-size=\"17\"", &shortened(&report.model, 80))?;
    let kernels = if report.isa.is_empty() { String::new() } else { format!(", {} kernels", report.isa) };
    let processor = report.processor.as_deref().unwrap_or("processor unknown");
    text(out, (LEFT, 52.0), "start", " class=\"soft\"", &shortened(&format!("{processor}{kernels}"), 110))?;
    let mut y = HEAD;
    for (title, figures) in sections {
        text(out, (LEFT, y + 18.0), "start", " font-weight=\"600\"", title)?;
        y += SECTION;
        let longest = |figure: &&Figure| figure.limit().median.max(figure.tokens_per_second().most);
        let scale = figures.iter().map(longest).fold(f64::MIN_POSITIVE, f64::max);
        for figure in figures {
            row(out, figure, y, scale)?;
            y += ROW;
        }
    }
    let disturbed = if report.disturbance.is_quiet() { "" } else { "; the machine was not quiet" };
    let runs = match report.repeats {
        1 => "of one run".to_owned(),
        repeats => format!("the median of {repeats} runs, lines from the worst to the best"),
    };
    let machine = format!("Behind them: what memory and arithmetic allowed meanwhile{disturbed}.");
    for (line, foot) in [format!("Bars: {runs}."), machine].iter().enumerate() {
        let place = (LEFT, y + 26.0 + 18.0 * line as f64);
        text(out, place, "start", " class=\"soft\" font-size=\"12\"", foot)?;
    }
    writeln!(out, "</svg>")
}

/// A figure: its name to the left, its bars, what limits it below them.
fn row(out: &mut String, figure: &Figure, y: f64, scale: f64) -> std::fmt::Result {
    let x = |rate: f64| (RIGHT - BARS) * (rate / scale).clamp(0.0, 1.0);
    let (rate, limit) = (figure.tokens_per_second(), figure.limit().median);
    let threads = if figure.threads == 1 { "1 thread".into() } else { format!("{} threads", figure.threads) };
    text(out, (LEFT, y + 14.0), "start", "", &work(&figure.case))?;
    text(out, (LEFT, y + 29.0), "start", " class=\"soft\" font-size=\"11\"", &threads)?;
    let bar = |out: &mut String, class: &str, (top, height): (f64, f64), width: f64| {
        writeln!(
            out,
            "<rect class=\"{class}\" x=\"{BARS}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height}\" rx=\"2\"/>"
        )
    };
    bar(out, "limit", (y, 20.0), x(limit))?;
    bar(out, "bar", (y + 4.0, 12.0), x(rate.median))?;
    if figure.repeats.len() > 1 {
        let (worst, best, middle) = (BARS + x(rate.least), BARS + x(rate.most), y + 10.0);
        writeln!(
            out,
            "<path class=\"spread\" d=\"M{worst:.1} {middle:.1} H{best:.1}\" stroke-width=\"2\"/>"
        )?;
    }
    let end = BARS + x(limit.max(rate.most)) + 8.0;
    let numbers = format!("{} of {}", speed(rate.median), speed(limit));
    text(out, (end, y + 14.0), "start", "", &numbers)?;
    let below = format!("{:.0} % of the limit; {}", 100.0 * figure.reached(), reason(figure));
    text(out, (BARS, y + 34.0), "start", " class=\"soft\" font-size=\"11\"", &below)
}

fn text(out: &mut String, at: (f64, f64), anchor: &str, more: &str, text: &str) -> std::fmt::Result {
    let mut safe = String::new();
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\"{more}>{safe}</text>", at.0, at.1)
}

/// The end of a long text, for paths end with what matters.
fn shortened(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most {
        return text.to_owned();
    }
    format!("\u{2026}{}", text.chars().skip(length - most + 1).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench::tests::report;

    /// Numbers after `key` in every element that begins with `start`.
    fn numbers(svg: &str, start: &str, key: &str) -> Vec<f64> {
        let elements = svg.lines().filter(|line| line.starts_with(start));
        let value = |line: &str| line.split(&format!("{key}=\"")).nth(1)?.split('"').next()?.parse().ok();
        elements.filter_map(value).collect()
    }

    #[test]
    fn bars_are_as_long_as_their_figures_and_limits_lie_behind_them() {
        let svg = svg(&report());
        let (limits, bars) =
            (numbers(&svg, "<rect class=\"limit\"", "width"), numbers(&svg, "<rect class=\"bar\"", "width"));
        assert_eq!((limits.len(), bars.len()), (3, 3));
        assert!((bars[0] / limits[0] - 0.5).abs() < 0.01, "{bars:?} {limits:?}");
        assert!((bars[1] / limits[1] - 0.7).abs() < 0.01, "{bars:?} {limits:?}");
        let (limit, bar) = (svg.find("class=\"limit\"").unwrap(), svg.find("class=\"bar\"").unwrap());
        assert!(limit < bar, "what is drawn first lies behind");
        assert!(limits.iter().all(|&width| width <= RIGHT - BARS + 0.1));
        assert!(svg.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn texts_keep_apart_and_are_escaped() {
        let name = format!("/models/{}/a<b>&c.gguf", "long".repeat(40));
        let svg = svg(&Report { model: name, ..report() });
        assert!(svg.contains("a&lt;b>&amp;c.gguf") && !svg.contains("a<b>"), "{svg}");
        let (x, y) = (numbers(&svg, "<text", "x"), numbers(&svg, "<text", "y"));
        for i in 0..x.len() {
            for j in 0..i {
                assert!(x[i] != x[j] || (y[i] - y[j]).abs() >= 13.0, "{} and {} touch", y[i], y[j]);
            }
        }
    }
}
