//! The figures for people, as a table.

use super::Report;
use crate::figures::{bytes, rounded};
use ingle_engine::ExecutorKind;
use ingle_engine::bench::{Case, Figure, Work};
use ingle_model::spec::Bound;

/// The whole report.
pub(super) fn table(report: &Report) -> String {
    let mut text = format!("{}\n", head(report));
    if report.figures.is_empty() {
        text.push_str("interrupted before anything was measured\n");
        return text;
    }
    let headings = ["threads", "", "tokens/s", "worst - best", "limit", "reached", "the limit is"];
    let mut rows = vec![headings.map(str::to_owned)];
    rows.extend(report.figures.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    for row in &rows {
        let cell = |(column, cell): (usize, &String)| {
            let width = widths[column];
            // words to the left, numbers to the right
            if [1, 6].contains(&column) { format!("{cell:width$}") } else { format!("{cell:>width$}") }
        };
        let line = row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push_str(&foot(report));
    text
}

fn head(report: &Report) -> String {
    let how = match report.executor {
        ExecutorKind::Reference => "reference, plain arithmetic".to_owned(),
        ExecutorKind::Production => format!("{} kernels", report.isa),
    };
    let processor = report.processor.as_deref().map(|name| format!(", {name}")).unwrap_or_default();
    let (parameters, weights) = (rounded(report.parameters), bytes(report.weight_bytes));
    format!("{}: {parameters} parameters, {weights} of weights; {how}{processor}", report.model)
}

fn row(figure: &Figure) -> [String; 7] {
    let rate = figure.tokens_per_second();
    [
        figure.threads.to_string(),
        work(&figure.case),
        speed(rate.median),
        format!("{} - {}", speed(rate.least), speed(rate.most)),
        speed(figure.limit().median),
        format!("{:.0} %", 100.0 * figure.reached()),
        reason(figure),
    ]
}

/// What was done, in words: `decode 32 x 4 at 2048`.
pub(super) fn work(case: &Case) -> String {
    let at = if case.depth > 0 { format!(" at {}", case.depth) } else { String::new() };
    match case.work {
        Work::Prefill { tokens } => format!("prefill {tokens}{at}"),
        Work::Decode { tokens, batch: 1 } => format!("decode {tokens}{at}"),
        Work::Decode { tokens, batch } => format!("decode {tokens} x {batch}{at}"),
    }
}

/// Tokens per second with three digits that matter.
pub(super) fn speed(rate: f64) -> String {
    match rate {
        rate if rate < 9.995 => format!("{rate:.2}"),
        rate if rate < 99.95 => format!("{rate:.1}"),
        rate => format!("{rate:.0}"),
    }
}

/// What limits a figure, with the numbers it comes from.
pub(super) fn reason(figure: &Figure) -> String {
    let (cost, rates) = (figure.cost_per_token(), figure.machine());
    match figure.bound() {
        Bound::Memory => {
            format!("memory: {} per token at {:.1} GB/s", bytes(cost.bytes() as u64), rates.bytes / 1e9)
        }
        Bound::Arithmetic => {
            let parts = [
                (cost.integer_operations / 2.0, rates.integers, "8-bit"),
                (cost.word_operations / 2.0, rates.words, "16-bit"),
                (cost.float_operations() / 2.0, rates.floats, "float"),
            ];
            // norms are always done in floats, and not worth telling
            let parts = parts.into_iter().filter(|(amount, ..)| *amount >= 0.0005 * cost.operations);
            let (amounts, rates): (Vec<String>, Vec<String>) =
                parts.map(|(amount, rate, name)| (format!("{} {name}", count(amount)), count(rate))).unzip();
            format!(
                "arithmetic: {} multiply-adds per token at {}/s",
                amounts.join(" and "),
                rates.join(" and ")
            )
        }
    }
}

/// A large number with three digits that matter and an SI prefix, for that of thousands of millions is no byte: `460 G`.
fn count(count: f64) -> String {
    let (scaled, prefix) = match count {
        c if c >= 999.5e9 => (c / 1e12, "T"),
        c if c >= 999.5e6 => (c / 1e9, "G"),
        c => (c / 1e6, "M"),
    };
    format!("{} {prefix}", speed(scaled))
}

fn foot(report: &Report) -> String {
    let runs = match report.repeats {
        1 => "one run each".to_owned(),
        repeats => format!("median of {repeats} runs"),
    };
    let disturbance = &report.disturbance;
    let mut parts = vec![runs];
    if let Some(load) = disturbance.load_average {
        parts.push(format!("load average {load:.2}"));
    }
    if let Some(others) = disturbance.others {
        parts.push(format!("other programs kept {others:.2} processors busy"));
    }
    if let Some(stolen) = disturbance.stolen.filter(|&stolen| stolen >= 0.005) {
        parts.push(format!("{stolen:.2} were taken by other machines of the host"));
    }
    let interrupted = if report.interrupted { "\ninterrupted: these are the figures so far" } else { "" };
    format!("{}{interrupted}\n", parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench::tests::report;

    #[test]
    fn every_figure_stands_beside_its_limit() {
        let table = table(&report());
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "a.gguf: 4.02 B parameters, 2.50 GB of weights; avx512 kernels, AMD EPYC");
        assert!(
            lines[2].contains("prefill 512")
                && lines[2].contains("arithmetic: 3.60 G 8-bit multiply-adds per token at 465 G/s"),
            "{table}"
        );
        assert!(lines[3].contains("decode 32 at 2048"), "{table}");
        assert!(lines[3].contains("memory: 2.80 GB per token at 40.0 GB/s"), "{table}");
        assert!(lines[3].contains("10.0") && lines[3].contains("70 %"), "{table}");
        assert!(lines[4].contains("decode 32 x 4"), "{table}");
        assert!(lines[5].contains("load average 3.10"), "{table}");
        let ends: Vec<usize> = lines[2..5].iter().map(|line| line.find(" %").unwrap()).collect();
        assert!(ends.iter().all(|&end| end == ends[0]), "columns stand below each other: {table}");
    }

    #[test]
    fn an_interrupted_run_says_so() {
        let some = Report { interrupted: true, ..report() };
        assert!(table(&some).ends_with("these are the figures so far\n"));
        let none = Report { figures: Vec::new(), ..some };
        assert!(table(&none).contains("before anything was measured"));
    }
}
