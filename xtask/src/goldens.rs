//! Both executors against the reference library's outputs, as a table.

use crate::errors::{PeerLogits, argmax, logits, nmse};
use anyhow::{Context, Result, bail};
use ingle_cpu::{Cpu, Production, Reference};
use ingle_model::executor::{Batch, Executor, Hidden, LogitRows, Slice, StepOutput};
use ingle_model::{Source, families};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a logit of the reference executor may differ by.
const TOLERANCE: f32 = 1e-3;
/// The same where the checkpoint amplifies rounding: 3e-4 lie between two ways of computing it in 32 bits.
const ILL_CONDITIONED: (&str, f32) = ("qwen3_5_moe", 3e-3);
/// Conversions that lack what the checkpoint's own configuration says (attention scale, window pattern); their outputs
/// are another network's, which `<name>.llamacpp.bin` holds.
const INCOMPLETE: [&str; 2] = ["gemma2", "gemma3_text"];

/// Prints, for each model and prompt, how far each executor's logits and hidden states are from the golden ones and
/// how many greedy tokens agree. `folder` holds `<family>/golden.safetensors` and `gguf/<family>.gguf`; without it,
/// the project's fixtures.
///
/// Fails when the reference executor is outside its tolerance or chooses another token.
pub fn goldens(folder: Option<&Path>) -> Result<()> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/ingle-cpu/tests/fixtures");
    let folder = folder.unwrap_or(&fixtures);
    println!(
        "{:<24} {:<4} {:<10} {:>9} {:>9} {:>9}  greedy",
        "model", "", "executor", "logits", "hidden", "NMSE"
    );
    let mut wrong = Vec::new();
    for family in families_in(folder)? {
        let file = std::fs::read(folder.join(&family).join("golden.safetensors"))?;
        let golden = Golden(safetensors::SafeTensors::deserialize(&file)?);
        let gguf = folder.join(format!("gguf/{family}.gguf"));
        for model in [Some(folder.join(&family)), gguf.is_file().then_some(gguf)].into_iter().flatten() {
            let name = model.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if INCOMPLETE.iter().any(|family| name == format!("{family}.gguf")) {
                against_peer(&model, &name)?;
                continue;
            }
            for prompt in ["a", "b"].into_iter().filter(|prompt| golden.has(prompt)) {
                for (executor, load) in EXECUTORS {
                    let found = match run(&model, prompt, &golden, load) {
                        Ok(found) => found,
                        Err(error) => {
                            println!("{name:<24} {prompt:<4} {executor:<10} {error:#}");
                            wrong.push(format!("{name} {prompt} ({executor})"));
                            continue;
                        }
                    };
                    found.print(&name, prompt, executor);
                    let tolerance = if family == ILL_CONDITIONED.0 { ILL_CONDITIONED.1 } else { TOLERANCE };
                    // written so that what is not a number is wrong
                    let right =
                        found.logits <= tolerance && found.hidden <= tolerance && found.greedy_agrees();
                    if executor == "reference" && !right {
                        wrong.push(format!("{name} {prompt}"));
                    }
                }
            }
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("wrong: {}", wrong.join(", "))
}

type Load = fn(Arc<Source>) -> Result<Box<dyn Executor>>;

const EXECUTORS: [(&str, Load); 2] = [("reference", load_reference), ("production", load_production)];

fn load_reference(source: Arc<Source>) -> Result<Box<dyn Executor>> {
    Ok(Box::new(Reference::load(families::describe(&source)?, source)?))
}

fn load_production(source: Arc<Source>) -> Result<Box<dyn Executor>> {
    let spec = families::describe(&source)?;
    Ok(Box::new(Production::load(spec, source, Cpu::new(0), &mut |_| {})?))
}

/// Folders with goldens of prompts, in order of their names.
fn families_in(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path: PathBuf = entry?.path();
        if path.join("golden.safetensors").is_file() && path.join("config.json").is_file() {
            names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// A golden file's tensors.
struct Golden<'a>(safetensors::SafeTensors<'a>);

impl Golden<'_> {
    fn has(&self, prompt: &str) -> bool {
        self.0.tensor(&format!("{prompt}.logits")).is_ok()
    }

    fn words(&self, key: &str) -> Result<Vec<[u8; 4]>> {
        let tensor = self.0.tensor(key).with_context(|| key.to_owned())?;
        Ok(tensor.data().chunks_exact(4).filter_map(|four| four.try_into().ok()).collect())
    }

    fn ids(&self, key: &str) -> Result<Vec<u32>> {
        Ok(self.words(key)?.into_iter().map(u32::from_le_bytes).collect())
    }

    fn floats(&self, key: &str) -> Result<Vec<f32>> {
        Ok(self.words(key)?.into_iter().map(f32::from_le_bytes).collect())
    }
}

/// How one executor did on one prompt.
struct Found {
    /// Largest difference of a logit, and of a hidden value.
    logits: f32,
    hidden: f32,
    nmse: f64,
    greedy: (usize, usize),
}

impl Found {
    fn greedy_agrees(&self) -> bool {
        self.greedy.0 == self.greedy.1
    }

    fn print(&self, name: &str, prompt: &str, executor: &str) {
        let Found { logits, hidden, nmse, greedy: (same, of) } = self;
        println!(
            "{name:<24} {prompt:<4} {executor:<10} {logits:>9.1e} {hidden:>9.1e} {nmse:>9.1e}  {same}/{of}"
        );
    }
}

fn run(model: &Path, prompt: &str, golden: &Golden, load: Load) -> Result<Found> {
    let tokens = golden.ids(&format!("{prompt}.input_ids"))?;
    let expected = golden.floats(&format!("{prompt}.logits"))?;
    let greedy = golden.ids(&format!("{prompt}.greedy_ids"))?;
    let mut executor = load(Arc::new(Source::open(model)?))?;
    let sequence = executor.open(tokens.len() + greedy.len())?;
    let mut output = StepOutput::default();
    let slices = [Slice { sequence, tokens: &tokens, logits: LogitRows::All }];
    executor.step(&Batch { slices: &slices, hidden: Hidden::All, beside: &[] }, &mut output)?;
    let logits = largest_difference(&output.logits, &expected);
    let nmse = nmse(&output.logits, &expected);
    let hidden = hidden_difference(&output, prompt, golden, executor.spec().hidden)?;

    let vocabulary = executor.spec().vocabulary;
    let mut last = output.logits[output.logits.len() - vocabulary..].to_vec();
    let mut same = 0;
    for &expected in &greedy {
        if argmax(&last) != expected {
            break;
        }
        same += 1;
        if same < greedy.len() {
            let slices = [Slice { sequence, tokens: &[expected], logits: LogitRows::Last }];
            executor.step(&Batch { slices: &slices, hidden: Hidden::None, beside: &[] }, &mut output)?;
            last.copy_from_slice(&output.logits);
        }
    }
    Ok(Found { logits, hidden, nmse, greedy: (same, greedy.len()) })
}

/// Largest difference of the residual stream after any layer, where the golden has it.
fn hidden_difference(output: &StepOutput, prompt: &str, golden: &Golden, width: usize) -> Result<f32> {
    let Ok(rows) = golden.ids(&format!("{prompt}.rows")) else { return Ok(0.0) };
    let layers = output.hidden.len() - 2;
    let mut largest: f32 = 0.0;
    for (at, stage) in output.hidden.iter().enumerate() {
        let key = match at {
            0 => format!("{prompt}.embed"),
            at if at <= layers => format!("{prompt}.layer.{}", at - 1),
            _ => format!("{prompt}.final_norm"),
        };
        let kept = rows.iter().flat_map(|&row| &stage[row as usize * width..][..width]);
        let ours: Vec<f32> = kept.copied().collect();
        largest = largest.max(largest_difference(&ours, &golden.floats(&key)?));
    }
    Ok(largest)
}

/// A conversion that is another network than its checkpoint, beside the peer's logits.
fn against_peer(model: &Path, name: &str) -> Result<()> {
    let Some(PeerLogits { tokens, logits: expected }) = PeerLogits::beside(model) else {
        println!("{name:<24} no peer logits beside it: left out");
        return Ok(());
    };
    for (executor_name, load) in EXECUTORS {
        let ours = logits(&mut *load(Arc::new(Source::open(model)?))?, &tokens)?;
        let (difference, nmse) = (largest_difference(&ours, &expected), nmse(&ours, &expected));
        println!("{name:<24} peer {executor_name:<10} {difference:>9.1e} {:>9} {nmse:>9.1e}", "");
    }
    Ok(())
}

fn largest_difference(ours: &[f32], expected: &[f32]) -> f32 {
    if ours.len() != expected.len() {
        return f32::INFINITY;
    }
    ours.iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
}
