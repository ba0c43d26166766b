//! `ingle logits`: what the network computes, for judging it.

use crate::args::{self, Compute, ComputeArgs};
use crate::commands::tokenize;
use crate::console::{Output, for_output, say};
use crate::progress::{Progress, Unit};
use crate::tensor_file::{Dtype, Planned, TensorFile};
use crate::whole_file::Target;
use crate::{interrupt, messages, opening};
use anyhow::{Result, bail};
use ingle_cpu::kernels::Kernels;
use ingle_cpu::{Cpu, Production, Reference};
use ingle_engine::Fit;
use ingle_engine::memory;
use ingle_model::Source;
use ingle_model::executor::{Batch, Executor, Hidden, LogitRows, SequenceId, Slice, StepOutput};
use ingle_model::spec::ModelSpec;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Write a model's logits for given tokens to a safetensors file.
///
/// Keys: `logits`, f32 [tokens, vocabulary]; with --hidden `hidden.embed`, `hidden.layer.0` and so on, and
/// `hidden.final_norm`, f32 [tokens, width]; with --greedy `greedy`, i32 [N].
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("input").required(true).args(["tokens", "text"]), after_help = EXAMPLES)]
pub(crate) struct Args {
    #[arg(value_name = "MODEL", help = messages::MODEL_HELP)]
    model: String,
    /// Token ids, separated by commas
    #[arg(long, value_name = "IDS", value_delimiter = ',', value_parser = args::tokens)]
    tokens: Option<Vec<u32>>,
    /// Text to tokenize
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Read control tokens spelled in --text as themselves
    #[arg(long, requires = "text", conflicts_with = "tokens")]
    special: bool,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Also write the residual stream after the embedding, every layer and the final norm
    #[arg(long)]
    hidden: bool,
    /// Also write N tokens that follow, always the most likely one, computed with the KV cache
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(..=MOST_GREEDY))]
    greedy: u32,
    #[command(flatten)]
    compute: ComputeArgs,
}

const EXAMPLES: &str = "\
Examples:
  ingle logits ember --text \"The capital of\" -o out.safetensors
  ingle logits ./model.gguf --tokens 9707,11,1879 --hidden --greedy 16 --reference -o out.safetensors";

/// More tokens than any context has.
const MOST_GREEDY: i64 = 100_000_000;
/// Rows of one step, and the most values of logits that it may hold (256 MiB).
const STEP_ROWS: usize = 512;
const STEP_VALUES: usize = 1 << 26;

pub(crate) fn run(args: &Args) -> Result<()> {
    let compute = args.compute.choose()?;
    let name = opening::model(&args.model)?;
    let source = name.open()?;
    let spec = name.describe(&source)?;
    if spec.head.is_none() {
        bail!(messages::only_embeds(&name.display()));
    }
    let tokenizer = opening::tokenizer(&source);
    let tokens = match (&args.tokens, &args.text) {
        (Some(tokens), _) => tokens.clone(),
        (None, Some(text)) => {
            let Ok(tokenizer) = &tokenizer else { return tokenizer.map(drop) };
            tokenize::encode(tokenizer, text, args.special, true)?
        }
        (None, None) => Vec::new(),
    };
    if tokens.is_empty() {
        bail!("there are no tokens to compute; give some with --tokens or --text");
    }
    let target = Target::new(&args.output)?;
    refuse_overwriting(&source, &args.output)?;
    let context = tokens.len() + args.greedy as usize;
    if context > spec.context {
        say(&format!("note: {}", messages::beyond_context(context, spec.context)));
    }
    if let Some(notice) = compute.notice() {
        say(&format!("note: {notice}"));
    }
    let expert_memory = fit(&spec, compute, context)?;
    let plan = plan(&spec, tokens.len(), args);

    interrupt::install()?;
    let (mut executor, how) = load(spec, source, Compute { expert_memory, ..compute })?;
    let sequence = executor.open(context)?;
    let mut file = TensorFile::create(target, &plan)?;
    let started = Instant::now();
    let last = all_rows(&mut *executor, sequence, &tokens, args.hidden, &mut file)?;
    let seconds = started.elapsed().as_secs_f64();
    let next = most_likely(&last);
    let greedy = continuation(&mut *executor, sequence, next, args.greedy)?;
    if args.greedy > 0 {
        let ids = greedy.iter().map(|&id| i32::try_from(id)).collect::<Result<Vec<_>, _>>()?;
        file.append_integers(plan.len() - 1, &ids)?;
    }
    file.finish()?;

    let mut output = Output::new("the summary");
    writeln!(output, "{}", for_output(args.output.display().to_string()))?;
    for tensor in plan.iter().filter(|tensor| !tensor.name.starts_with("hidden.")) {
        let [rows, columns] = tensor.shape;
        match tensor.matrix {
            true => writeln!(output, "  {}: f32 [{rows}, {columns}]", tensor.name)?,
            false => writeln!(output, "  {}: i32 [{rows}]", tensor.name)?,
        }
    }
    if args.hidden {
        let spec = executor.spec();
        let layers = spec.layers.len();
        let last = layers.saturating_sub(1);
        let shape = format!("f32 [{}, {}]", tokens.len(), spec.hidden);
        writeln!(output, "  hidden.embed, hidden.layer.0 to {last}, hidden.final_norm: {shape}")?;
    }
    let piece =
        tokenizer.map(|tokenizer| format!(" {:?}", tokenize::piece(&tokenizer, next))).unwrap_or_default();
    let logit = last.get(next as usize).copied().unwrap_or(f32::NAN);
    writeln!(output, "most likely next token: {next}{piece}, logit {logit:.4}")?;
    writeln!(output, "{} tokens in {seconds:.2} s ({how})", tokens.len())?;
    Ok(output.flush()?)
}

/// The result must not replace the model it is computed from.
fn refuse_overwriting(source: &Source, output: &Path) -> Result<()> {
    let Ok(target) = output.canonicalize() else { return Ok(()) }; // it does not exist yet
    if source.files().any(|file| file.canonicalize().is_ok_and(|file| file == target)) {
        bail!("{} is a file of the model itself; name another file for the result", output.display());
    }
    Ok(())
}

/// Bytes for the experts, where not all of them are held. Refuses what does not fit the memory.
fn fit(spec: &ModelSpec, compute: Compute, context: usize) -> Result<Option<u64>> {
    let options = compute.load_options(Some(context));
    let mut notices = Vec::new();
    let fit = Fit::find(spec, &options, memory::available(), &mut notices)?;
    notices.iter().for_each(|notice| say(&format!("note: {notice}")));
    Ok(fit.expert_memory)
}

/// The file's tensors: logits, hidden states in the executor's order, greedy tokens last.
fn plan(spec: &ModelSpec, rows: usize, args: &Args) -> Vec<Planned> {
    let matrix =
        |name: String, columns| Planned { name, dtype: Dtype::F32, shape: [rows, columns], matrix: true };
    let mut plan = vec![matrix("logits".into(), spec.vocabulary)];
    if args.hidden {
        plan.push(matrix("hidden.embed".into(), spec.hidden));
        plan.extend((0..spec.layers.len()).map(|layer| matrix(format!("hidden.layer.{layer}"), spec.hidden)));
        plan.push(matrix("hidden.final_norm".into(), spec.hidden));
    }
    if args.greedy > 0 {
        let shape = [args.greedy as usize, 1];
        plan.push(Planned { name: "greedy".into(), dtype: Dtype::I32, shape, matrix: false });
    }
    plan
}

/// The executor that was asked for, and how to call it in a report.
fn load(spec: ModelSpec, source: Source, compute: Compute) -> Result<(Box<dyn Executor>, String)> {
    let source = Arc::new(source);
    if compute.reference {
        return Ok((Box::new(Reference::load(spec, source)?), "reference, 1 thread".into()));
    }
    // a set this processor lacks was refused when the option was read
    let kernels = compute.isa.and_then(Kernels::for_isa).unwrap_or_else(Kernels::best);
    let cpu = Cpu::with(compute.threads, kernels);
    let threads = cpu.pool.threads();
    let how =
        format!("{}, {threads} {}", kernels.isa().name(), if threads == 1 { "thread" } else { "threads" });
    let mut progress = Progress::new("loading", Unit::Bytes);
    let report = &mut |at: ingle_cpu::production::Progress| progress.update(at.done, at.total);
    let mut executor = match compute.expert_memory {
        None => Production::load(spec, source, cpu, report)?,
        Some(memory) => Production::load_paged(spec, source, cpu, memory, report)?,
    };
    executor.keep_kv_as(compute.kv);
    Ok((Box::new(executor), how))
}

/// Computes every row, writes what is wanted, and gives back the last row's logits.
fn all_rows(
    executor: &mut dyn Executor,
    sequence: SequenceId,
    tokens: &[u32],
    hidden: bool,
    file: &mut TensorFile,
) -> Result<Vec<f32>> {
    let vocabulary = executor.spec().vocabulary;
    let rows = (STEP_VALUES / vocabulary.max(1)).clamp(1, STEP_ROWS);
    let mut output = StepOutput::default();
    let mut progress = Progress::new("computing", Unit::Tokens);
    let mut done = 0;
    for chunk in tokens.chunks(rows) {
        let slices = [Slice { sequence, tokens: chunk, logits: LogitRows::All }];
        executor.step(
            &Batch { slices: &slices, hidden: if hidden { Hidden::All } else { Hidden::None }, beside: &[] },
            &mut output,
        )?;
        file.append_floats(0, &output.logits)?;
        for (stage, values) in output.hidden.iter().enumerate() {
            file.append_floats(1 + stage, values)?;
        }
        done += chunk.len();
        progress.update(done as u64, tokens.len() as u64);
    }
    Ok(output.logits.split_off(output.logits.len().saturating_sub(vocabulary)))
}

/// `count` tokens from `first` on, each the most likely after those before it.
fn continuation(
    executor: &mut dyn Executor,
    sequence: SequenceId,
    first: u32,
    count: u32,
) -> Result<Vec<u32>> {
    let mut output = StepOutput::default();
    let mut progress = Progress::new("continuing", Unit::Tokens);
    let mut ids = Vec::new();
    let mut next = first;
    for step in 1..=count {
        ids.push(next);
        if step < count {
            let slices = [Slice { sequence, tokens: &[next], logits: LogitRows::Last }];
            executor.step(&Batch { slices: &slices, hidden: Hidden::None, beside: &[] }, &mut output)?;
            next = most_likely(&output.logits);
            progress.update(u64::from(step), u64::from(count));
        }
    }
    Ok(ids)
}

/// The lowest id of the highest logit.
fn most_likely(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, &logit) in logits.iter().enumerate() {
        if logit > best.1 {
            best = (id, logit);
        }
    }
    best.0 as u32
}
