//! Tokens per second beside another engine's, interleaved on the same machine (A B A B), as a ratio.
//!
//! Ours: a prompt of random tokens, then random tokens one at a time, greedy choice not timed. The peer is a command
//! that takes the model's path as its last argument and prints JSON lines; of the last line `best_prompt_tps` and
//! `best_gen_tps` are read, or else `prompt_tps` and `gen_tps`.

use anyhow::{Context, Result, bail};
use ingle_cpu::{Cpu, Production};
use ingle_engine::generate::prefill_rows;
use ingle_model::executor::{Batch, Executor, Hidden, LogitRows, SequenceId, Slice, StepOutput};
use ingle_model::{Source, families};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

/// What to measure.
pub struct Options<'a> {
    /// The model both engines run.
    pub model: &'a Path,
    /// The peer's command, split at spaces; empty measures ours alone.
    pub peer: &'a str,
    /// Threads; zero takes the physical cores.
    pub threads: usize,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens generated.
    pub generate: usize,
    /// Rounds of A and B.
    pub rounds: usize,
}

/// Tokens per second.
#[derive(Clone, Copy)]
struct Rates {
    prompt: f64,
    generate: f64,
}

/// Measures and prints every round and the medians.
pub fn versus(options: &Options) -> Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        // loaded anew each round: the peer must find the memory free
        let rates = measure(options)?;
        println!(
            "round {round}: ingle   prompt {:8.1} t/s   generate {:7.2} t/s",
            rates.prompt, rates.generate
        );
        ours.push(rates);
        if !options.peer.is_empty() {
            let rates = ask_peer(options)?;
            println!(
                "round {round}: peer    prompt {:8.1} t/s   generate {:7.2} t/s",
                rates.prompt, rates.generate
            );
            theirs.push(rates);
        }
    }
    let ours = median(&ours);
    println!("median : ingle   prompt {:8.1} t/s   generate {:7.2} t/s", ours.prompt, ours.generate);
    if !theirs.is_empty() {
        let theirs = median(&theirs);
        println!("median : peer    prompt {:8.1} t/s   generate {:7.2} t/s", theirs.prompt, theirs.generate);
        let (prompt, generate) = (ours.prompt / theirs.prompt, ours.generate / theirs.generate);
        println!("ratio  : ingle / peer   prompt {prompt:.2}   generate {generate:.2}");
    }
    Ok(())
}

fn measure(options: &Options) -> Result<Rates> {
    let source = Arc::new(Source::open(options.model)?);
    let spec = families::describe(&source)?;
    let vocabulary = spec.vocabulary as u32;
    let at_once = prefill_rows(&spec);
    let mut executor = Production::load(spec, source, Cpu::new(options.threads), &mut |_| {})?;
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % vocabulary
    };
    let mut rates = Vec::new();
    for repeat in 0..4 {
        let sequence = executor.open(options.prompt + options.generate)?;
        let prompt: Vec<u32> = (0..options.prompt).map(|_| random()).collect();
        let started = Instant::now();
        prompt.chunks(at_once).try_for_each(|chunk| feed(&mut executor, sequence, chunk))?;
        let between = Instant::now();
        for _ in 0..options.generate {
            feed(&mut executor, sequence, &[random()])?;
        }
        let generated = between.elapsed().as_secs_f64();
        let prompt = options.prompt as f64 / (between - started).as_secs_f64();
        executor.close(sequence);
        if repeat > 0 {
            // the first run warms caches and memory up
            rates.push(Rates { prompt, generate: options.generate as f64 / generated });
        }
    }
    Ok(median(&rates))
}

fn feed(executor: &mut Production, sequence: SequenceId, tokens: &[u32]) -> Result<()> {
    let mut output = StepOutput::default();
    let slices = [Slice { sequence, tokens, logits: LogitRows::Last }];
    Ok(executor.step(&Batch { slices: &slices, hidden: Hidden::None }, &mut output)?)
}

fn ask_peer(options: &Options) -> Result<Rates> {
    let mut words = options.peer.split_whitespace();
    let program = words.next().context("the peer's command is empty")?;
    let output = Command::new(program).args(words).arg(options.model).output();
    let output = output.with_context(|| format!("cannot start the peer `{program}`"))?;
    if !output.status.success() {
        bail!("the peer failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let last =
        text.lines().rev().find(|line| line.starts_with('{')).context("the peer printed no JSON line")?;
    let line: serde_json::Value = serde_json::from_str(last)?;
    let rate = |names: [&str; 2]| {
        let found = names.iter().find_map(|name| line[*name].as_f64());
        found.with_context(|| format!("the peer's last line has no {}", names[0]))
    };
    Ok(Rates {
        prompt: rate(["best_prompt_tps", "prompt_tps"])?,
        generate: rate(["best_gen_tps", "gen_tps"])?,
    })
}

fn median(rates: &[Rates]) -> Rates {
    let middle = |of: fn(&Rates) -> f64| {
        let mut values: Vec<f64> = rates.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
    };
    Rates { prompt: middle(|rates| rates.prompt), generate: middle(|rates| rates.generate) }
}
