//! `ingle bench`: tokens per second, and beside them what the machine allows.

mod chart;
mod document;
mod table;

use crate::args::{Compute, ComputeListArgs, count, positive};
use crate::console::{Output, for_output, on_errors, say};
use crate::interrupt::{self, Answering};
use crate::opening::{self, ModelName};
use crate::progress::{Progress, Unit};
use crate::whole_file::{Target, WholeFile};
use crate::{errors, messages};
use anyhow::Result;
use ingle_cpu::kernels::Kernels;
use ingle_cpu::{Cpu, Limits, Production, Reference};
use ingle_engine::bench::{Bench, Case, Disturbance, Figure, Quiet, Work, step_bytes};
use ingle_engine::memory::{self, Demand};
use ingle_engine::{ExecutorKind, Flow, machine};
use ingle_model::Source;
use ingle_model::executor::Executor;
use ingle_model::spec::{KvBytes, ModelSpec};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Measure tokens per second beside what this machine allows.
///
/// Prefill (reading a prompt) and decode (making tokens one after the other) are run over random tokens, several times
/// each. Between the runs the memory's read bandwidth and the processor's arithmetic are measured; with the bytes and
/// operations that each token needs, they give the limit beside every figure.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[arg(value_name = "MODEL", help = format!("{} [default: ember]", messages::MODEL_HELP))]
    model: Option<String>,
    /// Tokens of the prompt, or several lengths; 0 measures no prefill
    #[arg(short, long, value_name = "N,...", value_delimiter = ',', default_values_t = [512], allow_negative_numbers = true, value_parser = count)]
    prompt: Vec<u32>,
    /// Tokens to generate, or several numbers; 0 measures no decode
    #[arg(short = 'n', long, value_name = "N,...", value_delimiter = ',', default_values_t = [32], allow_negative_numbers = true, value_parser = count)]
    generate: Vec<u32>,
    /// Tokens already in the cache, or several depths
    #[arg(short, long, value_name = "N,...", value_delimiter = ',', default_values_t = [0], allow_negative_numbers = true, value_parser = count)]
    depth: Vec<u32>,
    /// Sequences that decode together, or several numbers
    #[arg(short, long, value_name = "N,...", value_delimiter = ',', default_values_t = [1], allow_negative_numbers = true, value_parser = batch)]
    batch: Vec<usize>,
    /// Runs of each, of which the median counts
    #[arg(short, long, value_name = "N", default_value_t = 3, allow_negative_numbers = true, value_parser = positive)]
    repeats: usize,
    /// Print one JSON object (docs/bench.md explains its fields)
    #[arg(long)]
    pub(crate) json: bool,
    /// Also draw the figures, with the limits behind them
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    compute: ComputeListArgs,
}

const EXAMPLES: &str = "\
Examples:
  ingle bench ./qwen3-4b-q4_k_m.gguf
  ingle bench ./model.gguf -p 128,512 -n 64 -d 0,4096 -t 1,2 --svg speed.svg
  ingle bench ./model.gguf -p 0 -n 32 -b 1,2,4,8 --json";

/// Most sequences at once.
const MOST_BATCH: usize = 256;

/// What one run of the command found out.
struct Report {
    model: String,
    parameters: u64,
    weight_bytes: u64,
    executor: ExecutorKind,
    isa: &'static str,
    processor: Option<String>,
    repeats: usize,
    figures: Vec<Figure>,
    disturbance: Disturbance,
    interrupted: bool,
    notices: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let cases = cases(args)?;
    let target = args.svg.as_deref().map(Target::new).transpose()?;
    let choices = args.compute.choose()?;
    let name = match &args.model {
        Some(text) => opening::model(text)?,
        None => ModelName::Ember,
    };
    let source = Arc::new(name.open()?);
    let spec = name.describe(&source)?;
    if spec.head.is_none() {
        return Err(anyhow::Error::msg(messages::only_embeds(&name.display())));
    }
    let context = cases.iter().map(Case::context).max().unwrap_or(0);
    if context > spec.context {
        return Err(errors::Usage(messages::bench_beyond_context(context, spec.context)).into());
    }
    check_memory(&spec, choices[0], context, &cases)?;
    if !args.json && name == ModelName::Ember {
        on_errors(|notes| notes.aside(messages::BENCH_EMBER));
    }
    let mut notices = Vec::new();
    let mut tell = |notice: String| {
        if !notices.contains(&notice) {
            if !args.json {
                say(&format!("note: {notice}"));
            }
            notices.push(notice);
        }
    };
    choices.iter().filter_map(Compute::notice).for_each(&mut tell);
    if choices[0].expert_memory.is_some() && spec.expert_bytes() == 0 {
        tell(messages::NO_EXPERTS.into());
    }

    interrupt::install()?;
    let quiet = Quiet::begin();
    let mut figures = Vec::new();
    let (mut interrupted, mut weight_bytes, mut isa) = (false, 0, "");
    // there is nothing to tell before the first model is loaded: until then Ctrl-C ends the program at once
    let mut answering = None;
    for &compute in &choices {
        let loaded = load(&spec, &source, compute, &mut tell).map_err(|error| name.blame(error))?;
        let Loaded { mut executor, limits, kv } = loaded;
        (weight_bytes, isa) = (executor.weight_bytes(), limits.cpu().kernels.isa().name());
        let mut bench = Bench::new(&mut *executor, &limits, kv, context);
        let answering: &Answering = answering.get_or_insert_with(Answering::begin);
        measure(&mut bench, &cases, args.repeats, answering, &mut figures)?;
        interrupted = answering.stopped();
        if interrupted {
            break;
        }
    }
    let report = Report {
        model: name.display(),
        parameters: spec.parameters(),
        weight_bytes,
        executor: if choices[0].reference { ExecutorKind::Reference } else { ExecutorKind::Production },
        isa,
        processor: machine::processor(),
        repeats: args.repeats,
        figures,
        disturbance: quiet.end(),
        interrupted,
        notices,
    };
    let mut output = Output::new("the figures");
    match args.json {
        true => writeln!(output, "{}", for_output(document::document(&report).to_string()))?,
        false => output.write_all(for_output(table::table(&report)).as_bytes())?,
    }
    output.flush()?;
    if !args.json && !report.disturbance.is_quiet() {
        say(&format!("note: {}", messages::not_quiet(&report.disturbance)));
    }
    if let Some(target) = target {
        let mut file = WholeFile::create(target)?;
        file.put(0, chart::svg(&report).as_bytes())?;
        file.finish()?;
    }
    Ok(if interrupted { ExitCode::from(errors::INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// Everything to measure: every prompt and every number of tokens, at every depth.
fn cases(args: &Args) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let lengths = |list: &[u32]| list.iter().filter(|&&n| n > 0).map(|&n| n as usize).collect::<Vec<_>>();
    for &depth in &args.depth {
        let depth = depth as usize;
        for tokens in lengths(&args.prompt) {
            cases.push(Case { work: Work::Prefill { tokens }, depth });
        }
        for tokens in lengths(&args.generate) {
            for &batch in &args.batch {
                cases.push(Case { work: Work::Decode { tokens, batch }, depth });
            }
        }
    }
    if cases.is_empty() {
        return Err(errors::Usage(messages::NOTHING_TO_MEASURE.into()).into());
    }
    Ok(cases)
}

/// Says before loading when the memory does not suffice.
fn check_memory(spec: &ModelSpec, compute: Compute, context: usize, cases: &[Case]) -> Result<()> {
    let sequences = cases.iter().map(Case::batch).max().unwrap_or(1);
    let mut demand = Demand::of(spec, compute.kind(), compute.kv, context);
    demand.kv = demand.kv.saturating_mul(sequences as u64);
    let experts = spec.expert_bytes();
    demand.weights -= experts - compute.expert_memory.map_or(experts, |memory| memory.min(experts));
    match memory::available() {
        Some(available) if !demand.fits(available) => {
            Err(anyhow::Error::msg(messages::bench_does_not_fit(&demand, sequences, context, available)))
        }
        _ => Ok(()),
    }
}

/// An executor, what measures its limits, and the bytes of its cached values.
struct Loaded {
    executor: Box<dyn Executor>,
    limits: Limits,
    kv: KvBytes,
}

fn load(
    spec: &ModelSpec,
    source: &Arc<Source>,
    compute: Compute,
    tell: &mut dyn FnMut(String),
) -> Result<Loaded> {
    let kernels = compute.isa.and_then(Kernels::for_isa).unwrap_or_else(Kernels::best);
    let threads = if compute.reference { 1 } else { compute.threads };
    let (executor, kv): (Box<dyn Executor>, KvBytes) = if compute.reference {
        (Box::new(Reference::load(spec.clone(), source.clone())?), KvBytes::F32)
    } else {
        let mut progress = Progress::new("loading", Unit::Bytes);
        let report = &mut |at: ingle_cpu::production::Progress| progress.update(at.done, at.total);
        let (spec, source, cpu) = (spec.clone(), source.clone(), Cpu::with(threads, kernels));
        let mut production = match compute.expert_memory {
            None => Production::load(spec, source, cpu, report)?,
            Some(memory) => Production::load_paged(spec, source, cpu, memory, report)?,
        };
        let (held, all) = production.experts_held();
        if held < all {
            tell(messages::experts_from_file(held, all));
        }
        let slow: Vec<&str> = production.generic_formats().iter().map(|format| format.name()).collect();
        if !slow.is_empty() {
            tell(messages::generic_formats(&slow.join(", ")));
        }
        production.keep_kv_as(compute.kv);
        (Box::new(production), KvBytes::of(compute.kv))
    };
    // what is left of the memory bounds what a sample may read
    let room = memory::available().unwrap_or(u64::MAX) / 4;
    let bytes = step_bytes(spec, kv).min(room);
    let limits = Limits::new(Cpu::with(threads, kernels), bytes)?;
    Ok(Loaded { executor, limits, kv })
}

/// Runs all cases, or those before it is stopped. What was measured until then is among the figures.
fn measure(
    bench: &mut Bench,
    cases: &[Case],
    repeats: usize,
    answering: &Answering,
    figures: &mut Vec<Figure>,
) -> Result<()> {
    let mut progress = Progress::new("measuring", Unit::Tokens);
    let total: usize = cases.iter().map(|case| case.tokens() * repeats + case.depth * case.batch()).sum();
    let mut done = 0;
    for &case in cases {
        if answering.stopped() {
            break;
        }
        let figure = bench.measure(case, repeats, &mut |tokens| {
            done += tokens;
            progress.update(done as u64, total.max(done) as u64);
            if answering.stopped() { Flow::Stop } else { Flow::Continue }
        })?;
        if !figure.repeats.is_empty() {
            figures.push(figure);
        }
    }
    Ok(())
}

fn batch(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=MOST_BATCH).contains(&count) => Ok(count),
        _ => Err(format!("a number of sequences from 1 to {MOST_BATCH} is needed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingle_engine::bench::Repeat;
    use ingle_model::spec::{Cost, Rates};

    /// A report with a figure of each kind, made up.
    pub(super) fn report() -> Report {
        let rates = Rates { bytes: 40e9, integers: 0.465e12, words: 0.23e12, floats: 0.115e12 };
        let figure = |work, depth, cost: Cost, seconds: f64| {
            let case = Case { work, depth };
            let repeats = [0.9, 1.0, 1.1].map(|factor| Repeat { seconds: seconds * factor, rates }).to_vec();
            Figure { case, threads: 2, cost: cost * case.tokens() as f64, repeats }
        };
        let token = Cost {
            weight_bytes: 2.5e9,
            kv_bytes: 0.3e9,
            operations: 7.2e9,
            integer_operations: 7.2e9,
            word_operations: 0.0,
        };
        let prefill = Cost { weight_bytes: 40e6, kv_bytes: 0.0, ..token };
        let batch = Cost { weight_bytes: 0.625e9, ..token };
        let limit = 3.6e9 / 0.465e12;
        Report {
            model: "a.gguf".into(),
            parameters: 4_022_468_096,
            weight_bytes: 2_497_000_000,
            executor: ExecutorKind::Production,
            isa: "avx512",
            processor: Some("AMD EPYC".into()),
            repeats: 3,
            figures: vec![
                figure(Work::Prefill { tokens: 512 }, 0, prefill, 512.0 * limit / 0.5),
                figure(Work::Decode { tokens: 32, batch: 1 }, 2048, token, 32.0 * 0.07 / 0.7),
                figure(Work::Decode { tokens: 32, batch: 4 }, 0, batch, 128.0 * 0.03),
            ],
            disturbance: Disturbance { others: Some(0.02), stolen: Some(0.0), load_average: Some(3.1) },
            interrupted: false,
            notices: Vec::new(),
        }
    }

    #[test]
    fn the_document_says_what_the_table_says() {
        let document = document::document(&report());
        let decode = &document["figures"][1];
        assert_eq!((&decode["work"], &decode["depth"]), (&"decode".into(), &2048.into()));
        assert_eq!(decode["limited_by"], "memory");
        let number = |name: &str| decode[name].as_f64().unwrap();
        assert!((number("tokens_per_second") - 10.0).abs() < 0.01, "{decode}");
        assert!((number("reached_percent") - 70.0).abs() < 0.01, "{decode}");
        let bytes = number("weight_bytes_per_token") + number("kv_bytes_per_token");
        let limit = number("read_bytes_per_second") / bytes;
        assert!((number("limit_tokens_per_second") / limit - 1.0).abs() < 1e-6, "{decode}");
        assert_eq!(document["figures"][0]["limited_by"], "arithmetic");
        assert_eq!(document["quiet"], true);
    }
}
