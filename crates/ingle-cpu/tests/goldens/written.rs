//! What a sequence has cached is written down, read by another executor, and gone on from.

use super::together::{MODELS, feed, load};
use super::{Golden, fixture};
use ingle_cpu::{Production, Reference};
use ingle_model::executor::{CachedState, Executor, ExecutorError, SequenceId};
use ingle_model::spec::KvFormat;
use ingle_model::{Source, families};
use std::io;
use std::sync::Arc;

const CONTEXT: usize = 320;
/// Tokens of a prompt: beyond every window, and no whole number of pages.
const LENGTH: usize = 200;

/// One of every kind of cache: keys and values, windows, other layers' caches, latent rows with and without an indexer,
/// recurrent states.
fn models() -> impl Iterator<Item = (&'static str, &'static str)> {
    let more = ["deepseek_v3", "deepseek_v32", "gemma2", "gemma4_e"];
    MODELS.into_iter().chain(more.map(|name| (name, name)))
}

fn tokens(family: &str, count: usize) -> Vec<u32> {
    Golden::read(family).ids("b.input_ids").into_iter().cycle().take(count).collect()
}

fn load_with(model: &str, kv: KvFormat) -> Production {
    let mut executor = load(model);
    executor.keep_kv_as(kv);
    executor
}

fn prompted(executor: &mut Production, prompt: &[u32]) -> SequenceId {
    let sequence = executor.open(CONTEXT).unwrap();
    feed(executor, &[(sequence, prompt)]);
    sequence
}

fn written(state: &dyn CachedState) -> Vec<u8> {
    let mut bytes = Vec::new();
    state.write(&mut bytes).unwrap();
    bytes
}

fn read(executor: &Production, length: usize, mut bytes: &[u8]) -> io::Result<Box<dyn CachedState>> {
    let mut state = executor.empty_state().unwrap();
    state.read(length, &mut bytes)?;
    assert!(bytes.is_empty(), "{} bytes are left", bytes.len());
    Ok(state)
}

#[test]
fn what_was_written_is_gone_on_from_as_if_it_had_never_left() {
    for (family, model) in models() {
        let all = tokens(family, LENGTH + 5);
        let (prompt, rest) = all.split_at(LENGTH);
        for kv in KvFormat::ALL {
            let mut first = load_with(model, kv);
            let sequence = prompted(&mut first, prompt);
            let state = first.state(sequence, LENGTH).unwrap();
            assert_eq!(state.length(), LENGTH, "{model}");
            // whoever goes on does not change what is being written
            let expected = feed(&mut first, &[(sequence, rest)]);
            let bytes = written(&*state);
            assert_eq!(bytes, written(&*state), "{model}");

            let mut second = load_with(model, kv);
            let state = read(&second, LENGTH, &bytes).unwrap();
            let sequence = second.resume(state, CONTEXT).unwrap();
            assert_eq!(second.length(sequence), LENGTH);
            assert!(feed(&mut second, &[(sequence, rest)]) == expected, "{model}, {}", kv.name());
            second.close(sequence);
            assert_eq!(second.kv_bytes(), 0, "{model}");
        }
    }
}

#[test]
fn a_beginning_is_written_as_far_as_the_sequence_can_go_back() {
    for (family, model) in models().filter(|(family, _)| !family.starts_with("deepseek")) {
        let all = tokens(family, LENGTH + 5);
        let (prompt, rest) = all.split_at(LENGTH);
        let mut executor = load(model);
        let whole = prompted(&mut executor, prompt);
        let state = executor.state(whole, LENGTH - 1).unwrap();
        let length = state.length();
        assert_eq!(executor.length(whole), LENGTH, "{model}");
        let state = read(&executor, length, &written(&*state)).unwrap();
        let again = executor.resume(state, CONTEXT).unwrap();
        feed(&mut executor, &[(again, &prompt[length..])]);
        let expected = feed(&mut executor, &[(whole, rest)]);
        assert!(feed(&mut executor, &[(again, rest)]) == expected, "{model} from {length} on");
    }
}

#[test]
fn what_is_no_state_of_the_network_and_length_is_refused() {
    let mut states = Vec::new();
    for (family, model) in models() {
        let mut executor = load(model);
        let sequence = prompted(&mut executor, &tokens(family, LENGTH));
        let bytes = written(&*executor.state(sequence, LENGTH).unwrap());
        for length in (0..bytes.len()).step_by(bytes.len() / 50 + 1) {
            assert!(read(&executor, LENGTH, &bytes[..length]).is_err(), "{model}: {length} bytes");
        }
        for length in [LENGTH - 100, LENGTH + 100, usize::MAX / 2] {
            let mut state = executor.empty_state().unwrap();
            // a shorter one leaves bytes behind, which whoever reads a file notices
            let mut from = &bytes[..];
            let read = state.read(length, &mut from);
            assert!(read.is_err() || !from.is_empty(), "{model}: {length} positions");
        }
        // sizes and kinds stand at the beginning
        for bit in 0..8 * 32 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let mut state = executor.empty_state().unwrap();
            let mut from = &damaged[..];
            let read = state.read(LENGTH, &mut from);
            assert!(bit >= 8 * 24 || read.is_err() || !from.is_empty(), "{model}: bit {bit}");
        }
        let too_long = read(&executor, LENGTH, &bytes).unwrap();
        let refused = executor.resume(too_long, LENGTH - 1);
        assert!(matches!(refused, Err(ExecutorError::Context { .. })), "{model}");
        states.push((family, model, executor, bytes));
    }
    for (family, model, executor, _) in &states {
        for (other, _, _, bytes) in states.iter().filter(|(other, ..)| other != family) {
            let mut state = executor.empty_state().unwrap();
            let mut from = &bytes[..];
            let read = state.read(LENGTH, &mut from);
            // sizes alike do not make networks alike: that is the business of whoever names files
            let alike = states.iter().any(|(of, _, _, ours)| of == family && ours.len() == bytes.len());
            assert!(read.is_err() || !from.is_empty() || alike, "{model} reads {other}");
        }
    }
}

#[test]
fn the_reference_says_that_it_writes_nothing() {
    let source = Arc::new(Source::open(&fixture("qwen3")).unwrap());
    let reference = Reference::load(families::describe(&source).unwrap(), source).unwrap();
    let refused = reference.empty_state().err().unwrap();
    assert!(refused.to_string().contains("not written to disk"), "{refused}");
}
