//! Both executors against the reference library's logits, as a table.

use anyhow::{Context, Result};
use ingle_cpu::{Cpu, Production, Reference};
use ingle_model::executor::{Batch, Executor, Hidden, LogitRows, Slice, StepOutput};
use ingle_model::{Source, families};
use std::path::Path;
use std::sync::Arc;

/// Families with checkpoints and goldens among the fixtures.
const FAMILIES: [&str; 2] = ["qwen2", "qwen3"];

/// Prints, for each model and prompt, how far each executor is from the golden logits and whether its greedy tokens
/// are the golden ones.
pub fn goldens() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/ingle-cpu/tests/fixtures");
    println!(
        "{:<18} {:<6} {:<10} {:>12} {:>12}  greedy",
        "model", "prompt", "executor", "largest diff", "NMSE"
    );
    for family in FAMILIES {
        let file = std::fs::read(folder.join(family).join("golden.safetensors"))?;
        let golden = safetensors::SafeTensors::deserialize(&file)?;
        for model in [folder.join(family), folder.join(format!("gguf/{family}.gguf"))] {
            for prompt in ["a", "b"] {
                row(&model, prompt, "reference", &golden, load_reference)?;
                row(&model, prompt, "production", &golden, load_production)?;
            }
        }
    }
    Ok(())
}

fn load_reference(source: Arc<Source>) -> Result<Box<dyn Executor>> {
    Ok(Box::new(Reference::load(families::describe(&source)?, source)?))
}

fn load_production(source: Arc<Source>) -> Result<Box<dyn Executor>> {
    let spec = families::describe(&source)?;
    Ok(Box::new(Production::load(spec, source, Cpu::new(0), &mut |_| {})?))
}

fn row(
    model: &Path,
    prompt: &str,
    executor_name: &str,
    golden: &safetensors::SafeTensors,
    load: fn(Arc<Source>) -> Result<Box<dyn Executor>>,
) -> Result<()> {
    let words = |key: &str| -> Result<Vec<[u8; 4]>> {
        let tensor = golden.tensor(&format!("{prompt}.{key}")).with_context(|| key.to_owned())?;
        Ok(tensor.data().chunks_exact(4).filter_map(|four| four.try_into().ok()).collect())
    };
    let tokens: Vec<u32> = words("input_ids")?.into_iter().map(u32::from_le_bytes).collect();
    let expected: Vec<f32> = words("logits")?.into_iter().map(f32::from_le_bytes).collect();
    let greedy: Vec<u32> = words("greedy_ids")?.into_iter().map(u32::from_le_bytes).collect();

    let mut executor = load(Arc::new(Source::open(model)?))?;
    let sequence = executor.open(tokens.len() + greedy.len())?;
    let mut output = StepOutput::default();
    let slices = [Slice { sequence, tokens: &tokens, logits: LogitRows::All }];
    executor.step(&Batch { slices: &slices, hidden: Hidden::None }, &mut output)?;
    let difference = output.logits.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let error: f64 = output.logits.iter().zip(&expected).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let nmse = error / expected.iter().map(|b| f64::from(*b).powi(2)).sum::<f64>();

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
            executor.step(&Batch { slices: &slices, hidden: Hidden::None }, &mut output)?;
            last.copy_from_slice(&output.logits);
        }
    }
    let name = model.file_name().unwrap_or_default().to_string_lossy();
    let of = greedy.len();
    println!("{name:<18} {prompt:<6} {executor_name:<10} {difference:>12.2e} {nmse:>12.2e}  {same}/{of}");
    Ok(())
}

fn argmax(logits: &[f32]) -> u32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().position(|&logit| logit == largest).unwrap_or(0) as u32
}
