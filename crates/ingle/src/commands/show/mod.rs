//! `ingle show`: what a model is and what it needs, from its header alone.

mod facts;
mod network;

use crate::console::{Output, Style, for_output, harmless};
use crate::figures::{bytes, grouped, rounded};
use crate::opening::Network;
use crate::{messages, opening};
use anyhow::Result;
use facts::Facts;
use ingle_model::Source;
use ingle_model::spec::ModelSpec;
use serde_json::json;
use std::io::Write;

/// Show a model: its network, its tensors and formats, and the memory it needs.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[arg(value_name = "MODEL", help = messages::MODEL_HELP)]
    model: String,
    /// Show the memory at this many tokens of context, instead of a range
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    context: Option<u64>,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

const EXAMPLES: &str = "\
Examples:
  ingle show ember
  ingle show ./model.gguf --context 32768
  ingle show ./Qwen3-4B --tensors";

pub(crate) fn run(args: &Args) -> Result<()> {
    let name = opening::model(&args.model)?;
    let source = name.open()?;
    let network = opening::network(&source).map_err(|error| name.blame(error))?;
    let (spec, problem) = match &network {
        Network::Known(spec) => (Some(&**spec), None),
        Network::Unknown(architecture) => (None, Some(messages::cannot_run_yet(architecture))),
        Network::Absent => (None, Some(messages::only_a_tokenizer(&name.display()))),
    };
    let facts = Facts::gather(&source, spec, problem, args.context);
    let mut output = Output::new("the description");
    if args.json {
        let mut document = facts.json(spec);
        if args.tensors {
            document["tensors"] = source.tensors().iter().map(tensor_json).collect();
        }
        writeln!(output, "{}", for_output(format!("{document:#}")))?;
    } else {
        print(&mut output, &name.display(), spec, &facts)?;
        if args.tensors {
            print_tensors(&mut output, &source, spec)?;
        }
    }
    Ok(output.flush()?)
}

/// A heading and its lines: `label  value`.
fn section(output: &mut impl Write, title: &str, lines: &[(String, String)]) -> Result<()> {
    writeln!(output, "\n{}", Style::of_output().bold(&harmless(title)))?;
    let width = lines.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    for (label, value) in lines {
        writeln!(output, "  {label:width$}  {}", harmless(value))?;
    }
    Ok(())
}

fn print(output: &mut impl Write, title: &str, spec: Option<&ModelSpec>, facts: &Facts) -> Result<()> {
    writeln!(output, "{}", Style::of_output().bold(&harmless(title)))?;
    let width = facts.about.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    for (label, value) in &facts.about {
        writeln!(output, "  {label:width$}  {}", harmless(value))?;
    }
    if let Some(problem) = &facts.problem {
        writeln!(output, "\n{}", harmless(problem))?;
    }
    if let Some(spec) = spec {
        section(output, "network", &network::lines(spec))?;
    }
    if !facts.formats.is_empty() {
        print_formats(output, facts)?;
    }
    if let Some(spec) = spec {
        print_memory(output, spec, facts)?;
    }
    section(output, "text", &facts.text)?;
    if let Some(problem) = &facts.text_problem {
        writeln!(output, "text: unusable: {}", harmless(problem))?;
    }
    let Some(spec) = spec else { return Ok(()) };
    let unused = spec.unused_unexplained();
    let unused = (!unused.is_empty()).then(|| messages::unused_tensors(&unused));
    let senses = spec.unused_senses();
    let senses = (senses > 0).then(|| messages::unused_senses(senses));
    for notice in spec.notices.iter().chain(&unused).chain(&senses) {
        writeln!(output, "\n{}", harmless(notice))?;
    }
    Ok(())
}

fn print_formats(output: &mut impl Write, facts: &Facts) -> Result<()> {
    writeln!(output, "\n{}", Style::of_output().bold("formats"))?;
    for share in &facts.formats {
        let tensors = if share.tensors == 1 { "tensor" } else { "tensors" };
        writeln!(
            output,
            "  {:8} {:>5} {tensors:7}  {:>12} weights  {:>9}  {:.4} bits per weight",
            share.format.name(),
            share.tensors,
            rounded(share.weights),
            bytes(share.bytes),
            share.bits_per_weight()
        )?;
    }
    let all = facts.bits_per_weight();
    writeln!(
        output,
        "  {:8} {:>5} {:7}  {:>12} weights  {:>9}  {all:.4} bits per weight",
        "all",
        facts.formats.iter().map(|share| share.tensors).sum::<usize>(),
        "tensors",
        rounded(facts.formats.iter().map(|share| share.weights).sum()),
        bytes(facts.formats.iter().map(|share| share.bytes).sum())
    )?;

    Ok(())
}

fn print_memory(output: &mut impl Write, spec: &ModelSpec, facts: &Facts) -> Result<()> {
    writeln!(output, "\n{}", Style::of_output().bold("memory (weights + 16-bit KV cache)"))?;
    for row in &facts.memory {
        writeln!(
            output,
            "  {:>9} tokens  {:>9} + {:>9} = {:>9}{}",
            grouped(row.context),
            bytes(row.weights),
            bytes(row.kv),
            bytes(row.weights.saturating_add(row.kv)),
            row.note(spec.context as u64)
        )?;
    }
    if let Some(available) = facts.available {
        writeln!(output, "  free on this machine now: {}", bytes(available))?;
    }
    Ok(())
}

fn print_tensors(output: &mut impl Write, source: &Source, spec: Option<&ModelSpec>) -> Result<()> {
    writeln!(output, "\n{}", Style::of_output().bold("tensors"))?;
    let names = source.tensors().iter().map(|tensor| tensor.name.chars().count());
    let width = names.max().unwrap_or(0).min(60);
    for tensor in source.tensors() {
        let unused = spec.is_some_and(|spec| spec.unused.contains(&tensor.name));
        let unused = if unused { "  unused" } else { "" };
        let shape = format!("{:?}", tensor.shape);
        writeln!(
            output,
            "  {:width$}  {:8} {shape:20} {:>9}{unused}",
            harmless(&tensor.name),
            tensor.format.name(),
            bytes(tensor.bytes as u64)
        )?;
    }
    Ok(())
}

fn tensor_json(tensor: &ingle_model::TensorInfo) -> serde_json::Value {
    json!({
        "name": tensor.name, "shape": tensor.shape, "format": tensor.format.name(), "file": tensor.file,
        "offset": tensor.offset, "bytes": tensor.bytes,
    })
}
