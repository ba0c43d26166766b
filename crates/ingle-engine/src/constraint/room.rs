//! Room for what strangers nest.
//!
//! The library reads forms by recursion: a chain of rules, of which each names the next, takes a few kilobytes of stack for
//! each, and a stack that overflows ends the whole process. So a form has a greatest length, and is read on a thread whose
//! stack is deep enough for any form of that length. Such a stack is memory only as far as it is used.

use super::{ConstraintError, Form};
use serde_json::Value;
use std::io::{self, Write};

/// Greatest length of the schemas that make up a form, in bytes. Those of whole interfaces are some tens of thousands.
const LONGEST: usize = 128 * 1024;
/// Of a grammar.
const LONGEST_LARK: usize = 32 * 1024;
/// Of a regular expression, or of all those in schemas. Reading one can take the square of its length: 0.2 s for this one.
const LONGEST_REGEX: usize = 8 * 1024;
/// Bytes of stack per byte of a form: a rule in a chain takes at least six of these.
const STACK_PER_BYTE: usize = 4 * 1024;
/// Bytes of stack.
pub(super) const STACK: usize = LONGEST * STACK_PER_BYTE;

/// Refuses what is too long to be read with certainty, or has numbers that cannot be read.
pub(super) fn fits(form: Option<&Form>, tools: &[Value]) -> Result<(), ConstraintError> {
    let is_at_most = |what: &str, length: usize, most: usize| {
        let problem = format!("{what} {length} bytes long, and {most} is the most that is read");
        if length <= most { Ok(()) } else { Err(ConstraintError::Form { problem }) }
    };
    let mut schemas: Vec<&Value> = tools.iter().collect();
    match form {
        None | Some(Form::Object) => {}
        Some(Form::Schema(schema)) => schemas.push(schema),
        Some(Form::Regex(text)) => is_at_most("the regular expression is", text.len(), LONGEST_REGEX)?,
        Some(Form::Lark(text)) => is_at_most("the grammar is", text.len(), LONGEST_LARK)?,
    }
    schemas.iter().try_for_each(|schema| numbers_fit(schema))?;
    let length = schemas.iter().map(|schema| length(schema)).sum();
    is_at_most("the schema, with those of the tools that may be called, is", length, LONGEST)?;
    let patterns = schemas.iter().map(|schema| patterns(schema)).sum();
    is_at_most("its patterns together are", patterns, LONGEST_REGEX)
}

/// Refuses numbers from -2^63 down, which the library cannot negate.
fn numbers_fit(schema: &Value) -> Result<(), ConstraintError> {
    match schema {
        Value::Number(number) if number.as_f64().is_none_or(|number| number <= i64::MIN as f64) => {
            Err(ConstraintError::Form { problem: format!("{number} is below what numbers can be held to") })
        }
        Value::Array(values) => values.iter().try_for_each(numbers_fit),
        Value::Object(fields) => fields.values().try_for_each(numbers_fit),
        _ => Ok(()),
    }
}

/// Bytes of all regular expressions in a schema.
fn patterns(schema: &Value) -> usize {
    match schema {
        Value::Array(values) => values.iter().map(patterns).sum(),
        Value::Object(fields) => {
            let own = fields.get("pattern").and_then(Value::as_str).map_or(0, str::len);
            let names = fields.get("patternProperties").and_then(Value::as_object);
            let of_names: usize = names.into_iter().flat_map(|names| names.keys()).map(String::len).sum();
            own + of_names + fields.values().map(patterns).sum::<usize>()
        }
        _ => 0,
    }
}

/// Bytes of a value as JSON.
fn length(value: &Value) -> usize {
    struct Count(usize);
    impl Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        Err(_) => usize::MAX / 2,
    }
}

/// Does something on a thread with that much stack.
///
/// # Errors
/// The system gives no such thread, or the work panicked.
pub(super) fn with_room<T: Send>(
    work: impl FnOnce() -> Result<T, ConstraintError> + Send,
) -> Result<T, ConstraintError> {
    let problem = |problem: &str| ConstraintError::Form { problem: problem.into() };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("ingle-forms".into()).stack_size(STACK);
        let thread = thread
            .spawn_scoped(scope, work)
            .map_err(|error| problem(&format!("the system gives no thread to read it on: {error}")))?;
        thread.join().unwrap_or_else(|_| Err(problem("reading it met a defect of the program")))
    })
}
