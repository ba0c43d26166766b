//! What sparse attention is worth: time per decoded token over the context, of a slice of DeepSeek-V3.2, with its sparse
//! attention and with the same weights attending to everything.
//!
//! The caches are filled with random rows (`Production::fill_cache`), because computing 65536 tokens would take hours.
//! Random keys spread the choice over the whole context, the worst case for gathering rows. A step's time does not
//! depend on the numbers otherwise.

mod network;
mod plot;

use anyhow::{Context, Result};
use ingle_cpu::production::LatentTimes;
use ingle_cpu::{Cpu, Production};
use ingle_model::executor::{Batch, Executor, Hidden, LogitRows, SequenceId, Slice, StepOutput};
use ingle_model::spec::Mixer;
use network::{Random, TOP_K, VOCABULARY};
use plot::Line;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What to measure.
pub struct Options<'a> {
    /// Where the chart goes.
    pub out: &'a Path,
    /// Layers of the slice; figures are per layer.
    pub layers: usize,
    /// Threads; zero takes the physical cores.
    pub threads: usize,
    /// Tokens decoded at each context; the median counts.
    pub tokens: usize,
    /// Longest context: contexts double from 1024 on.
    pub context: usize,
}

/// Milliseconds per token and layer.
#[derive(Clone, Copy)]
struct Point {
    context: usize,
    all: f64,
    indexer: f64,
    attention: f64,
}

/// Measures both, prints a table and writes the chart.
pub fn sparse_curve(options: &Options) -> Result<()> {
    let Options { layers, tokens, .. } = *options;
    let spec = network::describe(layers, TOP_K, options.context + tokens + 8);
    let source = network::weights(&spec, &mut Random(0x5eed))?;
    let mut curves = Vec::new();
    for top_k in [TOP_K, usize::MAX] {
        let spec = network::bind(network::describe(layers, top_k, spec.context), &source)?;
        let cpu = Cpu::new(options.threads);
        let mut executor = Production::load(spec, source.clone(), cpu, &mut |_| {})?;
        curves.push(measure(&mut executor, options)?);
        if top_k == usize::MAX {
            println!(
                "{} threads, {} kernels",
                executor.cpu().pool.threads(),
                executor.cpu().kernels.isa().name()
            );
        }
    }
    let [sparse, dense] = &curves[..] else { anyhow::bail!("two curves were measured") };
    print_table(sparse, dense);
    let machine = machine(options);
    std::fs::write(options.out, chart(sparse, dense, &machine, options))
        .with_context(|| format!("writing {}", options.out.display()))?;
    println!("chart: {}", options.out.display());
    Ok(())
}

fn measure(executor: &mut Production, options: &Options) -> Result<Vec<Point>> {
    let sequence = executor.open(options.context + options.tokens + 4)?;
    let mut random = Random(7);
    let mut points = Vec::new();
    let mut context = 1024;
    while context <= options.context {
        // uniform numbers whose square is 1 on average, as after a norm
        executor.fill_cache(sequence, context, &mut || 1.732 * random.number())?;
        executor.take_latent_times();
        let mut steps = Vec::new();
        for token in 0..options.tokens + 2 {
            let token = (token * 97 % VOCABULARY) as u32;
            let start = Instant::now();
            step(executor, sequence, token)?;
            steps.push((start.elapsed(), executor.take_latent_times()));
        }
        steps.drain(..2); // warm-up
        let per_layer = |time: fn(&(Duration, LatentTimes)) -> Duration| {
            let mut times: Vec<f64> = steps.iter().map(|step| time(step).as_secs_f64() * 1e3).collect();
            times.sort_by(f64::total_cmp);
            times[times.len() / 2] / options.layers as f64
        };
        points.push(Point {
            context,
            all: per_layer(|step| step.0),
            indexer: per_layer(|step| step.1.indexer),
            attention: per_layer(|step| step.1.attention),
        });
        executor.truncate(sequence, context)?;
        context *= 2;
    }
    Ok(points)
}

fn step(executor: &mut Production, sequence: SequenceId, token: u32) -> Result<()> {
    let mut output = StepOutput::default();
    let slices = [Slice { sequence, tokens: &[token], logits: LogitRows::Last }];
    executor.step(&Batch { slices: &slices, hidden: Hidden::None, beside: &[] }, &mut output)?;
    anyhow::ensure!(output.logits.iter().all(|logit| logit.is_finite()), "the slice's numbers overflow");
    Ok(())
}

/// Millions of multiply-adds per layer of attending to `seen` positions, and of scoring `context`.
fn counts(context: usize, seen: usize) -> (f64, f64) {
    let spec = network::describe(1, TOP_K, context);
    let Mixer::Latent(latent) = &spec.layers[0].mixer else { return (0.0, 0.0) };
    let attended = latent.heads * (2 * latent.kv_rank + latent.rope_dim);
    let scored = latent.indexer.as_ref().map_or(0, |indexer| indexer.heads * indexer.head_dim);
    (seen as f64 * attended as f64 / 1e6, context as f64 * scored as f64 / 1e6)
}

fn print_table(sparse: &[Point], dense: &[Point]) {
    println!(
        "milliseconds per token and layer; G/s are multiply-adds; other: projections, feed-forward, head"
    );
    println!(
        "{:>8} | {:>8} {:>8} {:>6} {:>9} {:>6} {:>7} | {:>8} {:>9} {:>6} {:>7} | {:>6}",
        "context",
        "sparse",
        "indexer",
        "G/s",
        "attention",
        "G/s",
        "other",
        "dense",
        "attention",
        "G/s",
        "other",
        "ratio"
    );
    for (sparse, dense) in sparse.iter().zip(dense) {
        let context = sparse.context;
        let (attended, scored) = counts(context, context.min(TOP_K));
        let (all, _) = counts(context, context);
        let scored = if context < TOP_K { 0.0 } else { scored };
        println!(
            "{context:>8} | {:>8.2} {:>8.2} {:>6.1} {:>9.2} {:>6.1} {:>7.2} | {:>8.2} {:>9.2} {:>6.1} {:>7.2} | {:>6.2}",
            sparse.all,
            sparse.indexer,
            scored / sparse.indexer.max(1e-6),
            sparse.attention,
            attended / sparse.attention,
            sparse.all - sparse.indexer - sparse.attention,
            dense.all,
            dense.attention,
            all / dense.attention,
            dense.all - dense.attention - dense.indexer,
            dense.all / sparse.all,
        );
    }
}

fn chart(sparse: &[Point], dense: &[Point], machine: &str, options: &Options) -> String {
    let line = |label, colour, dashed, points: &[Point], value: fn(&Point) -> f64| Line {
        label,
        colour,
        dashed,
        points: points.iter().map(|point| (point.context as f64, value(point))).collect(),
    };
    // below the choice's size there is nothing to score
    let scored: Vec<Point> = sparse.iter().copied().filter(|point| point.context >= TOP_K).collect();
    let lines = [
        line("dense", "#c0392b", false, dense, |point| point.all),
        line("sparse", "#1f5fa8", false, sparse, |point| point.all),
        line("its attention (2048)", "#1f5fa8", true, sparse, |point| point.attention),
        line("its indexer", "#2e8b57", true, &scored, |point| point.indexer),
    ];
    let caption = [
        format!(
            "One layer of DeepSeek-V3.2's dimensions with a small feed-forward ({} such layers measured), synthetic 4-bit",
            options.layers
        ),
        format!("weights, cache filled with random rows; median of {} tokens, one sequence.", options.tokens),
        format!("Dense: the same weights, attending to every position. {machine}"),
    ];
    let title = "Decoding with sparse attention and without";
    plot::svg(title, "context (tokens)", "milliseconds per token and layer", &lines, &caption)
}

/// Processor and date.
fn machine(options: &Options) -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("processor unknown", |(_, model)| model.trim());
    let threads = match options.threads {
        0 => ingle_cpu::pool::default_threads(),
        threads => threads,
    };
    let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() / 86_400);
    let (year, month, day) = civil(days as i64);
    let isa = ingle_cpu::kernels::Kernels::best().isa().name();
    format!("{model}, {threads} cores, {isa}; {year}-{month:02}-{day:02}.")
}

/// Year, month and day of a day counted from 1970-01-01 (proleptic Gregorian).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468; // from 0000-03-01
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        for (days, date) in
            [(0, (1970, 1, 1)), (59, (1970, 3, 1)), (11_016, (2000, 2, 29)), (19_723, (2024, 1, 1))]
        {
            assert_eq!(civil(days), date);
        }
    }

    #[test]
    fn a_position_costs_what_the_layer_says() {
        // 128 heads x (576 to score + 512 to sum), 64 heads x 128 to index
        assert_eq!(counts(1_000_000, 1_000_000), (139_264.0, 8_192.0));
    }
}
