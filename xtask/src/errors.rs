//! What reduced precision costs: the production executor's logits and a peer's, each against the reference executor's,
//! on quantised files.

use anyhow::{Context, Result};
use ingle_cpu::{Cpu, Production, Reference};
use ingle_model::executor::{Batch, Executor, Hidden, LogitRows, Slice, StepOutput};
use ingle_model::{Source, families};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A peer's logits at every position of a prompt: `i32 rows, i32 vocabulary, i32 token[rows], f32 logits`.
pub(crate) struct PeerLogits {
    pub(crate) tokens: Vec<u32>,
    pub(crate) logits: Vec<f32>,
}

impl PeerLogits {
    /// Of the model beside it: `model.gguf`, `model.llamacpp.bin`; `None` when there is no such file.
    pub(crate) fn beside(model: &Path) -> Option<PeerLogits> {
        let bytes = std::fs::read(model.with_extension("llamacpp.bin")).ok()?;
        let words: Vec<[u8; 4]> = bytes.chunks_exact(4).filter_map(|four| four.try_into().ok()).collect();
        let (counts, rest) = words.split_at_checked(2)?;
        let (tokens, logits) = rest.split_at_checked(u32::from_le_bytes(counts[0]) as usize)?;
        Some(PeerLogits {
            tokens: tokens.iter().map(|&word| u32::from_le_bytes(word)).collect(),
            logits: logits.iter().map(|&word| f32::from_le_bytes(word)).collect(),
        })
    }
}

/// Prints a line for every GGUF file of `folder` with a peer's logits beside it: normalised mean square errors over all
/// positions and at the median position (where precision tips a choice of experts or positions in a random network, few
/// positions make up the whole error), and the share of positions whose likeliest token is the reference's.
pub fn errors(folder: &Path) -> Result<()> {
    println!(
        "{:<20} {:>9} {:>9} {:>12} {:>9} {:>8} {:>7}",
        "model", "ours", "peer", "median ours", "peer", "top ours", "peer"
    );
    let mut models: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        models.push(entry?.path());
    }
    models.sort();
    for model in models.iter().filter(|path| path.extension().is_some_and(|end| end == "gguf")) {
        let Some(peer) = PeerLogits::beside(model) else { continue };
        let name = model.file_stem().unwrap_or_default().to_string_lossy();
        let source = Arc::new(Source::open(model)?);
        let spec = families::describe(&source).with_context(|| name.to_string())?;
        let mut reference = Reference::load(spec.clone(), source.clone())?;
        let exact = logits(&mut reference, &peer.tokens)?;
        let mut production = Production::load(spec, source, Cpu::new(0), &mut |_| {})?;
        let ours = logits(&mut production, &peer.tokens)?;
        let vocabulary = exact.len() / peer.tokens.len().max(1);
        println!(
            "{name:<20} {:>9.1e} {:>9.1e} {:>12.1e} {:>9.1e} {:>7.0}% {:>6.0}%",
            nmse(&ours, &exact),
            nmse(&peer.logits, &exact),
            median_nmse(&ours, &exact, vocabulary),
            median_nmse(&peer.logits, &exact, vocabulary),
            same_top(&ours, &exact, vocabulary),
            same_top(&peer.logits, &exact, vocabulary),
        );
    }
    Ok(())
}

/// Logits at every position.
pub(crate) fn logits(executor: &mut dyn Executor, tokens: &[u32]) -> Result<Vec<f32>> {
    let sequence = executor.open(tokens.len())?;
    let mut output = StepOutput::default();
    let slices = [Slice { sequence, tokens, logits: LogitRows::All }];
    executor.step(&Batch { slices: &slices, hidden: Hidden::None, beside: &[] }, &mut output)?;
    Ok(output.logits)
}

/// Squared error relative to the expected squares; infinite when the lengths differ.
pub(crate) fn nmse(ours: &[f32], expected: &[f32]) -> f64 {
    if ours.len() != expected.len() {
        return f64::INFINITY;
    }
    let error: f64 = ours.iter().zip(expected).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    error / expected.iter().map(|b| f64::from(*b).powi(2)).sum::<f64>()
}

/// The error of the median row.
fn median_nmse(ours: &[f32], expected: &[f32], vocabulary: usize) -> f64 {
    let rows = ours.chunks_exact(vocabulary.max(1)).zip(expected.chunks_exact(vocabulary.max(1)));
    let mut errors: Vec<f64> = rows.map(|(ours, expected)| nmse(ours, expected)).collect();
    errors.sort_by(f64::total_cmp);
    errors.get(errors.len() / 2).copied().unwrap_or(f64::INFINITY)
}

/// Percentage of rows with the same largest logit.
fn same_top(ours: &[f32], expected: &[f32], vocabulary: usize) -> f64 {
    let rows = ours.chunks_exact(vocabulary.max(1)).zip(expected.chunks_exact(vocabulary.max(1)));
    let count = rows.len().max(1);
    100.0 * rows.filter(|(a, b)| argmax(a) == argmax(b)).count() as f64 / count as f64
}

pub(crate) fn argmax(logits: &[f32]) -> u32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().position(|&logit| logit == largest).unwrap_or(0) as u32
}
