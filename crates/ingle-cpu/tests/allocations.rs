//! A token takes no memory: once a sequence is under way, a step of one row, and one of two sequences, allocates nothing
//! on any thread.
//!
//! Left out is the growth of the caches, every 64 positions at the most: the steps that are counted stay inside a page. So
//! is what a thread keeps for itself from its first turn at a kind of task on.
#![allow(unsafe_code)] // a global allocator

use ingle_cpu::{Cpu, Production};
use ingle_model::executor::{Batch, Executor, Hidden, LogitRows, SequenceId, Slice, StepOutput};
use ingle_model::{Source, families};
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

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
    let batch = Batch { slices: &both[..sequences.len()], hidden: Hidden::None, beside: &[] };
    model.step(&batch, output).unwrap();
}

/// Waits until every worker has started, which takes memory, and on a busy machine its time.
fn until_all_work(cpu: &Cpu) {
    let threads = cpu.pool.threads();
    let came: Vec<AtomicBool> = (0..threads).map(|_| AtomicBool::new(false)).collect();
    let start = Instant::now();
    while !came.iter().all(|came| came.load(Ordering::Relaxed)) {
        assert!(start.elapsed() < Duration::from_secs(60), "a worker never came");
        cpu.pool.for_chunks(1000, 1, &|thread, _| {
            came[thread].store(true, Ordering::Relaxed);
            std::thread::yield_now();
        });
    }
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
        until_all_work(model.cpu());
        let mut output = StepOutput::default();
        let sequences = [0, 1].map(|_| model.open(200).unwrap());
        for sequence in sequences {
            let prompt: Vec<u32> = (0..66).map(|at| at * 31 % vocabulary).collect();
            let slices = [Slice { sequence, tokens: &prompt, logits: LogitRows::Last }];
            model.step(&Batch { slices: &slices, hidden: Hidden::None, beside: &[] }, &mut output).unwrap();
        }
        for together in [1, 2] {
            let mut step =
                |at: u32| feed(&mut model, &sequences[..together], at * 17 % vocabulary, &mut output);
            (0..4).for_each(&mut step);
            // a thread takes memory of its own when it has its first turn at a kind of task, which on a busy machine comes
            // late; what every token takes shows most of the time
            let counts = [4, 8, 12, 16, 20, 24].map(|first: u32| {
                COUNT.store(0, Ordering::Relaxed);
                COUNTS.store(true, Ordering::Relaxed);
                (first..first + 4).for_each(&mut step);
                COUNTS.store(false, Ordering::Relaxed);
                COUNT.load(Ordering::Relaxed)
            });
            if counts.iter().filter(|&&count| count > 0).count() > counts.len() / 2 {
                guilty.push(format!("{name}: {counts:?} allocations in 4 steps each of {together} rows"));
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
