//! A token takes no memory: once a sequence is under way, a step of one row, and one of two sequences, allocates nothing
//! on any thread.
//!
//! Left out is the growth of the caches, every 64 positions at the most: the steps that are counted stay inside a page.
#![allow(unsafe_code)] // a global allocator

use ingle_cpu::{Cpu, Production};
use ingle_model::executor::{Batch, Executor, Hidden, LogitRows, SequenceId, Slice, StepOutput};
use ingle_model::{Source, families};
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The system's allocator, counting while it is told to.
struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicUsize = AtomicUsize::new(0);

fn count() {
    if COUNTS.load(Ordering::Relaxed) {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: all of it is the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One of each kind of block: dense with norms of heads, windows and soft caps, experts with biases and sinks, latent
/// attention with and without an indexer, delta nets, layers that are given parts of tokens, keys and values of other layers.
const MODELS: [&str; 10] = [
    "gguf/qwen3.gguf",
    "gguf/qwen3_moe.gguf",
    "gemma2",
    "gemma3_text",
    "gemma4_e",
    "gemma4_moe",
    "gpt_oss",
    "deepseek_v3",
    "deepseek_v32",
    "qwen3_next",
];

/// Feeds one token to each sequence.
fn feed(model: &mut Production, sequences: &[SequenceId], token: u32, output: &mut StepOutput) {
    let tokens = [token];
    let slice = |&sequence| Slice { sequence, tokens: &tokens, logits: LogitRows::Last };
    let [one, two] = [&sequences[0], &sequences[sequences.len() - 1]].map(slice);
    let both = [one, two];
    let batch = Batch { slices: &both[..sequences.len()], hidden: Hidden::None };
    model.step(&batch, output).unwrap();
}

#[test]
fn a_step_allocates_nothing() {
    let mut guilty = Vec::new();
    for name in MODELS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
        let source = Arc::new(Source::open(&path).unwrap());
        let spec = families::describe(&source).unwrap();
        let vocabulary = spec.vocabulary as u32;
        let mut model = Production::load(spec, source, Cpu::new(2), &mut |_| {}).unwrap();
        let mut output = StepOutput::default();
        let sequences = [0, 1].map(|_| model.open(200).unwrap());
        for sequence in sequences {
            let prompt: Vec<u32> = (0..66).map(|at| at * 31 % vocabulary).collect();
            let slices = [Slice { sequence, tokens: &prompt, logits: LogitRows::Last }];
            model.step(&Batch { slices: &slices, hidden: Hidden::None }, &mut output).unwrap();
        }
        for together in [1, 2] {
            let mut step =
                |at: u32| feed(&mut model, &sequences[..together], at * 17 % vocabulary, &mut output);
            (0..4).for_each(&mut step);
            COUNT.store(0, Ordering::Relaxed);
            COUNTS.store(true, Ordering::Relaxed);
            (4..24).for_each(&mut step);
            COUNTS.store(false, Ordering::Relaxed);
            let count = COUNT.load(Ordering::Relaxed);
            if count > 0 {
                guilty.push(format!("{name}: {count} allocations in 20 steps of {together} rows"));
            }
        }
    }
    assert!(guilty.is_empty(), "{guilty:#?}");

    // the counter counts
    COUNTS.store(true, Ordering::Relaxed);
    drop(std::hint::black_box(vec![0u8; 100]));
    COUNTS.store(false, Ordering::Relaxed);
    assert!(COUNT.load(Ordering::Relaxed) > 0);
}
