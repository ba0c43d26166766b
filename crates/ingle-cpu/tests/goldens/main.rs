//! Executors against the reference library's outputs (`fixtures/<family>/golden.safetensors`).

mod block_files;
mod embeddings;
mod next_token;
mod paged;
mod together;
mod variants;
mod written;

use ingle_cpu::kernels::{Isa, Kernels};
use ingle_cpu::{Cpu, Production, Reference};
use ingle_model::executor::{Batch, Executor, Hidden, LogitRows, Slice, StepOutput};
use ingle_model::spec::{KvBytes, KvFormat};
use ingle_model::{Source, families};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Tensors of a golden file.
struct Golden(Vec<u8>);

impl Golden {
    fn read(family: &str) -> Golden {
        Golden(std::fs::read(fixture(family).join("golden.safetensors")).unwrap())
    }

    fn bytes(&self, key: &str) -> Vec<[u8; 4]> {
        let file = safetensors::SafeTensors::deserialize(&self.0).unwrap();
        let data = file.tensor(key).unwrap_or_else(|error| panic!("{key}: {error}")).data();
        data.chunks_exact(4).map(|four| four.try_into().unwrap()).collect()
    }

    fn floats(&self, key: &str) -> Vec<f32> {
        self.bytes(key).into_iter().map(f32::from_le_bytes).collect()
    }

    fn ids(&self, key: &str) -> Vec<u32> {
        self.bytes(key).into_iter().map(u32::from_le_bytes).collect()
    }
}

fn reference(model: &str) -> Reference {
    let source = Arc::new(Source::open(&fixture(model)).unwrap());
    let spec = families::describe(&source).unwrap();
    // the vision tower of a multimodal checkpoint is no part of the text network
    let unused: Vec<_> = spec.unused.iter().filter(|name| !name.starts_with("model.visual.")).collect();
    assert!(unused.is_empty(), "{unused:?}");
    Reference::load(spec, source).unwrap()
}

fn production(model: &str, isa: Isa, threads: usize) -> Option<Production> {
    let source = Arc::new(Source::open(&fixture(model)).unwrap());
    let spec = families::describe(&source).unwrap();
    let cpu = Cpu::with(threads, Kernels::for_isa(isa)?);
    Some(Production::load(spec, source, cpu, &mut |_| {}).unwrap())
}

/// Squared error relative to the golden's squares.
fn nmse(ours: &[f32], golden: &[f32]) -> f64 {
    assert_eq!(ours.len(), golden.len());
    let error: f64 = ours.iter().zip(golden).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    error / golden.iter().map(|&b| f64::from(b).powi(2)).sum::<f64>()
}

fn largest_difference(ours: &[f32], golden: &[f32]) -> f32 {
    assert_eq!(ours.len(), golden.len());
    ours.iter().zip(golden).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn argmax(logits: &[f32]) -> u32 {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a))).unwrap() as u32
}

/// All logits of a prompt, then the greedy continuation with the cache.
fn check_prompt(executor: &mut dyn Executor, golden: &Golden, prompt: &str, tolerance: f32) {
    let tokens = golden.ids(&format!("{prompt}.input_ids"));
    let sequence = executor.open(tokens.len() + 64).unwrap();
    let mut output = StepOutput::default();
    let slices = [Slice { sequence, tokens: &tokens, logits: LogitRows::All }];
    executor.step(&Batch { slices: &slices, hidden: Hidden::All, beside: &[] }, &mut output).unwrap();
    let difference = largest_difference(&output.logits, &golden.floats(&format!("{prompt}.logits")));
    println!("prompt {prompt}: largest logit difference {difference:e}");
    assert!(difference < tolerance);

    if prompt == "b" {
        check_hidden(&output, golden, executor.spec().hidden, tolerance);
    }
    let vocabulary = executor.spec().vocabulary;
    let mut next = argmax(&output.logits[output.logits.len() - vocabulary..]);
    for (step, expected) in golden.ids(&format!("{prompt}.greedy_ids")).into_iter().enumerate() {
        assert_eq!(next, expected, "greedy step {step} of prompt {prompt}");
        let slices = [Slice { sequence, tokens: &[next], logits: LogitRows::Last }];
        executor.step(&Batch { slices: &slices, hidden: Hidden::None, beside: &[] }, &mut output).unwrap();
        next = argmax(&output.logits);
    }
    executor.close(sequence);
}

fn check_hidden(output: &StepOutput, golden: &Golden, width: usize, tolerance: f32) {
    let rows = golden.ids("b.rows");
    let layers = output.hidden.len() - 2;
    for (at, stage) in output.hidden.iter().enumerate() {
        let key = match at {
            0 => "b.embed".to_owned(),
            at if at <= layers => format!("b.layer.{}", at - 1),
            _ => "b.final_norm".to_owned(),
        };
        let ours: Vec<f32> =
            rows.iter().flat_map(|&row| &stage[row as usize * width..][..width]).copied().collect();
        let difference = largest_difference(&ours, &golden.floats(&key));
        assert!(difference < tolerance, "{key}: {difference}");
    }
}

/// Every text family, and what a logit may differ by: [`ILL_CONDITIONED`] amplifies rounding tenfold.
const FAMILIES: [&str; 14] = [
    "deepseek_v3",
    "deepseek_v32",
    "deepseek_v3_fp8",
    "gemma2",
    "gemma3_text",
    "gemma4_e",
    "gemma4_moe",
    "gpt_oss",
    "qwen2",
    "qwen3",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_moe",
    "qwen3_next",
];
const ILL_CONDITIONED: &str = "qwen3_5_moe";
/// Conversions that lack the attention scale and the window pattern of their configuration: another network.
const INCOMPLETE: [&str; 2] = ["gemma2", "gemma3_text"];

/// Families of which only checkpoints are read.
const FOLDERS_ONLY: [&str; 2] = ["gemma4_e", "gemma4_moe"];

/// The checkpoint, and its GGUF conversion where that is the same network.
fn models_of(family: &str) -> Vec<String> {
    let gguf = (!INCOMPLETE.contains(&family) && !FOLDERS_ONLY.contains(&family))
        .then(|| format!("gguf/{family}.gguf"));
    [Some(family.to_owned()), gguf].into_iter().flatten().collect()
}

#[test]
fn reference_equals_the_reference_library_on_checkpoints_and_their_gguf_conversions() {
    for family in FAMILIES {
        let golden = Golden::read(family);
        let tolerance = if family == ILL_CONDITIONED { 3e-3 } else { 1e-3 };
        for model in models_of(family) {
            println!("{model}");
            let mut executor = reference(&model);
            check_prompt(&mut executor, &golden, "a", tolerance);
            check_prompt(&mut executor, &golden, "b", tolerance);
        }
    }
}

/// What the production executor's 16-bit caches and integer products may cost at the median position. These networks
/// are random, and where precision tips a choice of experts or of positions, single positions are far off: the worst
/// position says nothing, the median does.
fn tolerated(family: &str) -> f64 {
    match family {
        "gpt_oss" | "deepseek_v3_fp8" => 4e-3, // weights of 4 and 8 bits meet 8-bit activations
        _ => 1e-5,
    }
}

/// Squared error relative to the golden's squares, at the median of the positions.
fn median_error(ours: &[f32], golden: &[f32], vocabulary: usize) -> f64 {
    assert_eq!(ours.len(), golden.len());
    let rows = ours.chunks_exact(vocabulary).zip(golden.chunks_exact(vocabulary));
    let mut errors: Vec<f64> = rows.map(|(ours, golden)| nmse(ours, golden)).collect();
    errors.sort_by(f64::total_cmp);
    errors[errors.len() / 2]
}

#[test]
fn production_stays_close_on_every_instruction_set() {
    for isa in Isa::ALL {
        for family in FAMILIES {
            let golden = Golden::read(family);
            let tokens = golden.ids("b.input_ids");
            for model in models_of(family) {
                let Some(mut executor) = production(&model, isa, 2) else { continue };
                let logits = in_chunks(&mut executor, &tokens, &[48]);
                let error = median_error(&logits, &golden.floats("b.logits"), 288);
                println!("{isa:?} {model}: {error:e}");
                assert!(error < tolerated(family), "{isa:?} {model}: {error}");
            }
        }
    }
}

/// What keys and values of so few bits may cost at the median position, beyond 16-bit ones: in 8 bits mostly some 1e-4
/// here, where heads are narrow and contexts short, so that little noise averages out.
fn cost_of(format: KvFormat, family: &str) -> f64 {
    match (format, family) {
        (KvFormat::Bits8, "gemma4_moe") => 5e-2, // scores are not scaled down, and other experts are chosen
        (KvFormat::Bits8, _) => 2e-3,
        (_, "gemma4_e" | "gemma4_moe" | "gpt_oss") => 0.6,
        (_, _) => 0.1,
    }
}

#[test]
fn keys_and_values_of_few_bits_cost_little_in_any_chunks_and_mixed_steps() {
    for isa in Isa::ALL {
        for family in FAMILIES {
            let golden = Golden::read(family);
            let (tokens, expected) = (golden.ids("b.input_ids"), golden.floats("b.logits"));
            let Some(mut executor) = production(family, isa, 2) else { continue };
            let error_of = |executor: &mut Production, sizes: &[usize]| {
                median_error(&in_chunks(executor, &tokens, sizes), &expected, 288)
            };
            let wide = error_of(&mut executor, &[48]);
            let held = |executor: &mut Production| {
                let sequence = executor.open(tokens.len()).unwrap();
                let slices = [Slice { sequence, tokens: &tokens, logits: LogitRows::None }];
                executor
                    .step(
                        &Batch { slices: &slices, hidden: Hidden::None, beside: &[] },
                        &mut StepOutput::default(),
                    )
                    .unwrap();
                let held = executor.kv_bytes();
                executor.close(sequence);
                held
            };
            let (bytes, spec) = (held(&mut executor), executor.spec().clone());
            for format in [KvFormat::Bits8, KvFormat::Bits4] {
                executor.keep_kv_as(format);
                let (narrow_bytes, name) = (held(&mut executor), format.name());
                let attends =
                    spec.kv_bytes(64, KvBytes::of(format)) < spec.kv_bytes(64, KvBytes::of(KvFormat::Bits16));
                assert_eq!(narrow_bytes < bytes, attends, "{family}: {narrow_bytes} of {bytes} bytes");
                for sizes in [&[48][..], &[7, 1, 13]] {
                    let narrow = error_of(&mut executor, sizes);
                    println!("{isa:?} {family} in chunks of {sizes:?}: 16bit {wide:e}, {name} {narrow:e}");
                    let within = tolerated(family) + cost_of(format, family);
                    assert!(narrow < within, "{isa:?} {family} {name}: {narrow}");
                }
            }
        }
    }
    let golden = Golden::read("qwen3");
    let mut executor = production("qwen3", Kernels::best().isa(), 2).unwrap();
    for (format, tolerance) in [(KvFormat::Bits8, 0.2), (KvFormat::Bits4, 4.0)] {
        executor.keep_kv_as(format);
        check_chunks(&mut executor, &golden.ids("b.input_ids"), &golden.floats("b.logits"), tolerance);
    }
}

#[test]
fn chunks_several_sequences_and_truncation_change_nothing() {
    let golden = Golden::read("qwen3");
    let tokens = golden.ids("b.input_ids");
    let expected = golden.floats("b.logits");
    check_chunks(&mut reference("qwen3"), &tokens, &expected, 1e-3);
    check_chunks(&mut production("qwen3", Kernels::best().isa(), 2).unwrap(), &tokens, &expected, 0.05);
}

fn check_chunks(executor: &mut dyn Executor, tokens: &[u32], expected: &[f32], tolerance: f32) {
    let vocabulary = executor.spec().vocabulary;
    let mut output = StepOutput::default();
    let (one, two) = (executor.open(64).unwrap(), executor.open(64).unwrap());

    // both sequences in one step, in unequal chunks, after a false start that is taken back
    let false_start = [Slice { sequence: two, tokens: &[1, 2, 3, 4, 5], logits: LogitRows::None }];
    executor.step(&Batch { slices: &false_start, hidden: Hidden::None, beside: &[] }, &mut output).unwrap();
    assert!(output.logits.is_empty());
    executor.truncate(two, 0).unwrap();
    let chunks = [
        Slice { sequence: one, tokens: &tokens[..31], logits: LogitRows::None },
        Slice { sequence: two, tokens: &tokens[..7], logits: LogitRows::Last },
    ];
    executor.step(&Batch { slices: &chunks, hidden: Hidden::None, beside: &[] }, &mut output).unwrap();
    assert!(largest_difference(&output.logits, &expected[6 * vocabulary..7 * vocabulary]) < tolerance);
    let chunks = [
        Slice { sequence: two, tokens: &tokens[7..], logits: LogitRows::Last },
        Slice { sequence: one, tokens: &tokens[31..], logits: LogitRows::All },
    ];
    executor.step(&Batch { slices: &chunks, hidden: Hidden::None, beside: &[] }, &mut output).unwrap();
    assert!(largest_difference(&output.logits[..vocabulary], &expected[47 * vocabulary..]) < tolerance);
    assert!(largest_difference(&output.logits[vocabulary..], &expected[31 * vocabulary..]) < tolerance);
}

/// Takes `tokens` in slices of these sizes, over and over, and gives the logits of all.
fn in_chunks(executor: &mut dyn Executor, tokens: &[u32], sizes: &[usize]) -> Vec<f32> {
    let sequence = executor.open(tokens.len()).unwrap();
    let (mut logits, mut rest) = (Vec::new(), tokens);
    let mut output = StepOutput::default();
    for &size in sizes.iter().cycle() {
        let (chunk, after) = rest.split_at(size.min(rest.len()));
        let slices = [Slice { sequence, tokens: chunk, logits: LogitRows::All }];
        executor.step(&Batch { slices: &slices, hidden: Hidden::None, beside: &[] }, &mut output).unwrap();
        logits.extend_from_slice(&output.logits);
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    executor.close(sequence);
    logits
}

#[test]
fn every_family_gives_the_same_in_awkward_chunks_and_token_by_token_as_at_once() {
    for family in FAMILIES {
        let golden = Golden::read(family);
        let (tokens, expected) = (golden.ids("b.input_ids"), golden.floats("b.logits"));
        let tolerance = if family == ILL_CONDITIONED { 3e-3 } else { 1e-3 };
        let mut exact = reference(family);
        let mut fast = production(family, Kernels::best().isa(), 2).unwrap();
        for sizes in [&[1][..], &[7, 1, 13], &[17, 31]] {
            let difference = largest_difference(&in_chunks(&mut exact, &tokens, sizes), &expected);
            assert!(difference < tolerance, "{family} in chunks of {sizes:?}: {difference}");
            let error = median_error(&in_chunks(&mut fast, &tokens, sizes), &expected, 288);
            println!("{family} in chunks of {sizes:?}: {difference:e}, production {error:e}");
            assert!(error < tolerated(family), "{family} in chunks of {sizes:?}, production: {error}");
        }
    }
}

#[test]
fn a_refused_step_changes_nothing() {
    let mut executor = reference("qwen3");
    let sequence = executor.open(4).unwrap();
    let mut output = StepOutput::default();
    let mut step = |executor: &mut Reference, tokens: &[u32]| {
        let slices = [Slice { sequence, tokens, logits: LogitRows::Last }];
        executor.step(&Batch { slices: &slices, hidden: Hidden::None, beside: &[] }, &mut output)
    };
    step(&mut executor, &[1, 2]).unwrap();
    let unknown = step(&mut executor, &[1, 288]).unwrap_err().to_string();
    assert!(unknown.contains("288"), "{unknown}");
    let long = step(&mut executor, &[1, 2, 3]).unwrap_err().to_string();
    assert!(long.contains("opened for 4"), "{long}");
    assert_eq!(executor.length(sequence), 2);
    executor.close(sequence);
    assert!(step(&mut executor, &[1]).is_err());
}
