//! How much a chat template may use, and what things weigh.
//!
//! The template engine counts instructions and the sizes of most results, but a list of many references to one long
//! text weighs little until something writes it out. [`charge`] weighs values by what they would be written out, and
//! every function that writes values is preceded by it.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

/// Bounds on a chat template. The default is far above what published templates use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Steps of one rendering: about one per instruction and one per 64 bytes handled.
    pub fuel: u64,
    /// Further steps per byte of the conversation, as long ones take longer.
    pub fuel_per_byte: u64,
    /// Depth of macro calls, inclusions and recursive loops; at most 500.
    pub recursion: usize,
    /// Bytes of the template.
    pub source_bytes: usize,
    /// Bytes of a rendered prompt.
    pub output_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            fuel: 1_000_000,
            fuel_per_byte: 1,
            recursion: 200,
            source_bytes: 256 << 10,
            output_bytes: 32 << 20,
        }
    }
}

/// Bytes a value may have when written out.
pub(crate) const VALUE_BYTES: usize = 64 << 20;
/// How deep lists and maps may nest. Conversations arrive as JSON, whose parser stops at the same depth.
pub(crate) const VALUE_DEPTH: usize = 128;
/// Stack of the thread a template runs on: the engine's parser, and the release of nested values, recurse.
pub(crate) const STACK_BYTES: usize = 256 << 20;
/// Tokens of one tag; each can nest the parser one deeper.
pub(crate) const TAG_TOKENS: usize = 8192;

/// A limit that was met, carried through the engine as the source of its error.
#[derive(Debug)]
pub(crate) struct Hit {
    pub(crate) what: &'static str,
    pub(crate) limit: u64,
}

impl std::fmt::Display for Hit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "more than {} {}", self.limit, self.what)
    }
}
impl std::error::Error for Hit {}

/// The engine's error for a limit that was met.
pub(crate) fn hit(what: &'static str, limit: u64) -> Error {
    Error::new(ErrorKind::InvalidOperation, "limit").with_source(Hit { what, limit })
}

/// About the bytes `value` has when written out, an error when it is too large or nested too deep.
pub(crate) fn weigh(value: &Value) -> Result<usize, Error> {
    let mut total = 0usize;
    // One iterator per level, so that a list as long as the limit is not copied.
    let mut levels: Vec<Box<dyn Iterator<Item = Value>>> = vec![Box::new(std::iter::once(value.clone()))];
    while let Some(level) = levels.last_mut() {
        let Some(value) = level.next() else {
            levels.pop();
            continue;
        };
        total = total.saturating_add(value.as_str().map_or(16, str::len));
        if total > VALUE_BYTES {
            return Err(hit("bytes in a value", VALUE_BYTES as u64));
        }
        let inner: Box<dyn Iterator<Item = Value>> = match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => Box::new(value.try_iter()?),
            ValueKind::Map => {
                let map = value.clone();
                let pair = move |key: Value| [map.get_item(&key).unwrap_or_default(), key];
                Box::new(value.try_iter()?.flat_map(pair))
            }
            _ => continue,
        };
        if levels.len() > VALUE_DEPTH {
            return Err(hit("levels of nested values", VALUE_DEPTH as u64));
        }
        levels.push(inner);
    }
    Ok(total)
}

/// Takes the fuel for handling `value`.
pub(crate) fn charge(state: &State, value: &Value) -> Result<usize, Error> {
    let bytes = weigh(value)?;
    charge_bytes(state, bytes)?;
    Ok(bytes)
}

/// Takes the fuel for handling so many bytes; too many at once are an error before they are made.
pub(crate) fn charge_bytes(state: &State, bytes: usize) -> Result<(), Error> {
    if bytes > VALUE_BYTES {
        return Err(hit("bytes in a value", VALUE_BYTES as u64));
    }
    state.consume_fuel(bytes as u64 / 64)
}
