//! Tokens per second beside another engine's, interleaved on the same machine (A B A B), as a ratio.
//!
//! Both take a prompt of random tokens, then random tokens one at a time; choosing tokens is not timed. The peer is a command
//! to which ` -t THREADS -p PROMPT -n GENERATE -d DEPTH MODEL` is appended. It prints JSON lines; of the last one
//! `best_prompt_tps` and `best_gen_tps` are read, or else `prompt_tps` and `gen_tps`.
//!
//! The memory's read bandwidth is sampled while ours runs, and before and after the peer: where it changed between the
//! two, a round says more about the machine than about the engines.

use anyhow::{Context, Result, bail};
use ingle_cpu::{Cpu, Limits, Production};
use ingle_engine::Flow;
use ingle_engine::bench::{Bench, Case, Disturbance, Figure, Quiet, Spread, Work, median, step_bytes};
use ingle_model::executor::Executor;
use ingle_model::spec::{KvBytes, KvFormat};
use ingle_model::{Source, families};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

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
    /// Tokens generated after it.
    pub generate: usize,
    /// Tokens in the cache before the prompt.
    pub depth: usize,
    /// Rounds of A and B.
    pub rounds: usize,
    /// Runs of ours in a round, of which the median counts.
    pub repeats: usize,
    /// Also print the result as a line of a Markdown table.
    pub markdown: bool,
}

/// What an engine did in a round.
#[derive(Clone, Copy, Debug, Default)]
struct Rates {
    /// Tokens of the prompt per second.
    prompt: f64,
    /// Generated tokens per second.
    generate: f64,
    /// Bytes that the memory gave per second meanwhile.
    bandwidth: f64,
    /// Shares of the limit that prompt and generation reached; unknown of the peer.
    reached: Option<(f64, f64)>,
}

/// One round.
struct Round {
    ours: Rates,
    theirs: Option<Rates>,
}

/// Measures and prints every round, the medians and the ratios.
pub fn versus(options: &Options) -> Result<()> {
    let quiet = Quiet::begin();
    let mut rounds = Vec::new();
    for number in 1..=options.rounds.max(1) {
        // loaded anew each round: the peer must find the memory free
        let (ours, limits) = measure(options)?;
        println!("round {number}: {}", line("ingle", &ours));
        let theirs = (!options.peer.is_empty()).then(|| ask_peer(options, &limits)).transpose()?;
        if let Some(theirs) = &theirs {
            println!("round {number}: {}", line("peer", theirs));
        }
        rounds.push(Round { ours, theirs });
    }
    let ours: Vec<Rates> = rounds.iter().map(|round| round.ours).collect();
    let theirs: Vec<Rates> = rounds.iter().filter_map(|round| round.theirs).collect();
    let disturbance = quiet.end();
    println!("median : {}", line("ingle", &middle(&ours)));
    if !theirs.is_empty() {
        println!("median : {}", line("peer", &middle(&theirs)));
        println!("ratio  : prompt   {}", ratios(&rounds, |rates| rates.prompt));
        println!("         generate {}", ratios(&rounds, |rates| rates.generate));
    }
    println!("machine: {}", machine(&disturbance));
    if options.markdown {
        println!("{}", markdown(options, &rounds));
    }
    Ok(())
}

fn measure(options: &Options) -> Result<(Rates, Limits)> {
    let source = Arc::new(Source::open(options.model)?);
    let spec = families::describe(&source)?;
    let limits = Limits::new(Cpu::new(options.threads), step_bytes(&spec, KvBytes::of(KvFormat::default())))?;
    let mut executor: Box<dyn Executor> =
        Box::new(Production::load(spec, source, Cpu::new(options.threads), &mut |_| {})?);
    let prompt = Case { work: Work::Prefill { tokens: options.prompt }, depth: options.depth };
    let generate = Case {
        work: Work::Decode { tokens: options.generate, batch: 1 },
        depth: options.depth + options.prompt,
    };
    let mut bench = Bench::new(&mut *executor, &limits, KvBytes::of(KvFormat::default()), generate.context());
    let mut run = |case: Case| match case.tokens() {
        0 => Ok(None),
        _ => bench.measure(case, options.repeats, &mut |_| Flow::Continue).map(Some),
    };
    let figures = [run(prompt)?, run(generate)?];
    drop(bench);
    let rate = |figure: &Option<Figure>| figure.as_ref().map_or(0.0, |f| f.tokens_per_second().median);
    let reached = |figure: &Option<Figure>| figure.as_ref().map_or(0.0, Figure::reached);
    let bandwidth: Vec<f64> = figures.iter().flatten().map(|figure| figure.machine().bytes).collect();
    let [prompt, generate] = &figures;
    let rates = Rates {
        prompt: rate(prompt),
        generate: rate(generate),
        bandwidth: median(&bandwidth),
        reached: Some((reached(prompt), reached(generate))),
    };
    Ok((rates, limits))
}

fn ask_peer(options: &Options, limits: &Limits) -> Result<Rates> {
    let mut words = options.peer.split_whitespace();
    let program = words.next().context("the peer's command is empty")?;
    let numbers = [
        ("-t", limits.cpu().pool.threads()),
        ("-p", options.prompt),
        ("-n", options.generate),
        ("-d", options.depth),
    ];
    let numbers = numbers.into_iter().flat_map(|(name, number)| [name.to_owned(), number.to_string()]);
    let before = limits.sample();
    let output = Command::new(program).args(words).args(numbers).arg(options.model).output();
    let after = limits.sample();
    let output = output.with_context(|| format!("cannot start the peer `{program}`"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("the peer `{}` failed (--peer names another): {}", options.peer, said.trim());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let last =
        text.lines().rev().find(|line| line.starts_with('{')).context("the peer printed no JSON line")?;
    let line: serde_json::Value = serde_json::from_str(last)?;
    let rate = |names: [&str; 2], tokens: usize| match names.iter().find_map(|name| line[*name].as_f64()) {
        Some(rate) => Ok(rate),
        None if tokens == 0 => Ok(0.0),
        None => bail!("the peer's last line has no {}", names[0]),
    };
    Ok(Rates {
        prompt: rate(["best_prompt_tps", "prompt_tps"], options.prompt)?,
        generate: rate(["best_gen_tps", "gen_tps"], options.generate)?,
        bandwidth: (before.bytes + after.bytes) / 2.0,
        reached: None,
    })
}

fn line(engine: &str, rates: &Rates) -> String {
    let reached = |of: fn(&(f64, f64)) -> f64| match &rates.reached {
        Some(reached) => format!(" ({:2.0} % of the limit)", 100.0 * of(reached)),
        None => " ".repeat(20),
    };
    format!(
        "{engine:5}   prompt {:8.1} t/s{}   generate {:7.2} t/s{}   memory {:5.1} GB/s",
        rates.prompt,
        reached(|reached| reached.0),
        rates.generate,
        reached(|reached| reached.1),
        rates.bandwidth / 1e9
    )
}

fn middle(rates: &[Rates]) -> Rates {
    let of = |of: fn(&Rates) -> f64| median(&rates.iter().map(of).collect::<Vec<_>>());
    let share = |of: fn(&(f64, f64)) -> f64| {
        median(&rates.iter().filter_map(|rates| rates.reached.as_ref().map(of)).collect::<Vec<_>>())
    };
    let known = rates.iter().any(|rates| rates.reached.is_some());
    Rates {
        prompt: of(|rates| rates.prompt),
        generate: of(|rates| rates.generate),
        bandwidth: of(|rates| rates.bandwidth),
        reached: known.then(|| (share(|reached| reached.0), share(|reached| reached.1))),
    }
}

/// The ratio of the medians, and the least and the most of the rounds' own.
fn ratio(rounds: &[Round], of: fn(&Rates) -> f64) -> (f64, Spread) {
    let pairs: Vec<(f64, f64)> =
        rounds.iter().filter_map(|round| Some((of(&round.ours), of(round.theirs.as_ref()?)))).collect();
    let (ours, theirs): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let of_rounds: Vec<f64> = pairs.iter().map(|(ours, theirs)| ours / theirs).collect();
    (median(&ours) / median(&theirs), Spread::of(&of_rounds))
}

fn ratios(rounds: &[Round], of: fn(&Rates) -> f64) -> String {
    let (ratio, spread) = ratio(rounds, of);
    match ratio.is_finite() {
        true => format!("{ratio:.2} (rounds {:.2} to {:.2})", spread.least, spread.most),
        false => "not measured".to_owned(),
    }
}

fn machine(disturbance: &Disturbance) -> String {
    let mut parts = Vec::new();
    parts.extend(disturbance.load_average.map(|load| format!("load average {load:.2}")));
    // the peer is another program, so that others cannot be told from it
    parts.extend(disturbance.stolen.map(|stolen| format!("{stolen:.2} processors taken by the host")));
    parts.join(", ")
}

/// `| model | threads, depth | prompt: ours against theirs, ratio, reached | generate: likewise |`
fn markdown(options: &Options, rounds: &[Round]) -> String {
    let ours = middle(&rounds.iter().map(|round| round.ours).collect::<Vec<_>>());
    let theirs: Vec<Rates> = rounds.iter().filter_map(|round| round.theirs).collect();
    let theirs = (!theirs.is_empty()).then(|| middle(&theirs));
    let cell = |of: fn(&Rates) -> f64, reached: fn(&(f64, f64)) -> f64, digits: usize| {
        let mut text = format!("{:.digits$}", of(&ours));
        if let Some(theirs) = &theirs {
            let (ratio, spread) = ratio(rounds, of);
            text += &format!(
                " against {:.digits$}: {ratio:.2}x ({:.2} to {:.2})",
                of(theirs),
                spread.least,
                spread.most
            );
        }
        let share = ours.reached.as_ref().map(reached);
        text + &share.map(|share| format!("; {:.0} % of the limit", 100.0 * share)).unwrap_or_default()
    };
    let name = options.model.file_stem().unwrap_or_default().to_string_lossy();
    let depth = if options.depth > 0 { format!(" at depth {}", options.depth) } else { String::new() };
    let threads = match options.threads {
        0 => ingle_cpu::pool::default_threads(),
        threads => threads,
    };
    format!(
        "| {name}{depth} | {threads} | {} | {} | {:.0} GB/s |",
        cell(|rates| rates.prompt, |reached| reached.0, 0),
        cell(|rates| rates.generate, |reached| reached.1, 1),
        ours.bandwidth / 1e9
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(prompt: f64, generate: f64) -> Rates {
        Rates { prompt, generate, bandwidth: 40e9, reached: Some((0.5, 0.75)) }
    }

    #[test]
    fn ratios_are_of_medians_with_the_range_of_rounds() {
        let round = |ours, theirs| Round { ours: rates(ours, 0.0), theirs: Some(rates(theirs, 0.0)) };
        let rounds = [round(100.0, 50.0), round(300.0, 100.0), round(200.0, 200.0)];
        let (ratio, spread) = ratio(&rounds, |rates| rates.prompt);
        assert_eq!((ratio, spread.least, spread.most), (2.0, 1.0, 3.0));
        assert_eq!(ratios(&rounds, |rates| rates.prompt), "2.00 (rounds 1.00 to 3.00)");
        assert_eq!(ratios(&rounds, |rates| rates.generate), "not measured");
    }

    #[cfg(unix)]
    #[test]
    fn the_peer_hears_what_to_measure_and_its_last_line_counts() {
        let folder = std::env::temp_dir().join(format!("xtask-versus-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let script = folder.join("peer.sh");
        let lines = "echo '{\"prompt_tps\": 1, \"gen_tps\": 1}'\necho '{\"best_prompt_tps\": 10.5, \"best_gen_tps\": 2}'";
        std::fs::write(&script, format!("echo \"$@\" > {}/heard\n{lines}\n", folder.display())).unwrap();
        let peer = format!("sh {} --best", script.display());
        let options = Options {
            model: Path::new("a.gguf"),
            peer: &peer,
            threads: 1,
            prompt: 7,
            generate: 3,
            depth: 5,
            rounds: 1,
            repeats: 1,
            markdown: false,
        };
        let limits = Limits::new(Cpu::new(1), 0).unwrap();
        let theirs = ask_peer(&options, &limits).unwrap();
        assert_eq!((theirs.prompt, theirs.generate), (10.5, 2.0));
        let heard = std::fs::read_to_string(folder.join("heard")).unwrap();
        assert_eq!(heard.trim(), "--best -t 1 -p 7 -n 3 -d 5 a.gguf");
        let rounds = [Round { ours: rates(21.0, 3.0), theirs: Some(theirs) }];
        assert_eq!(
            markdown(&options, &rounds),
            "| a at depth 5 | 1 | 21 against 10: 2.00x (2.00 to 2.00); 50 % of the limit | \
             3.0 against 2.0: 1.50x (1.50 to 1.50); 75 % of the limit | 40 GB/s |"
        );
        let absent = Options { peer: "no-such-program", ..options };
        assert!(ask_peer(&absent, &limits).unwrap_err().to_string().contains("no-such-program"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
