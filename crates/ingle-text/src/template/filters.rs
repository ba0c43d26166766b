//! Filters, functions and methods of templates: the engine's, behind a look at what they are given, and those that the
//! Hugging Face library adds.

use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};

use super::limits::{charge, charge_bytes, weigh};
use super::python;
use super::source::KEEP;

/// What a template said through `raise_exception`, carried as the source of the engine's error.
#[derive(Debug)]
pub(crate) struct Raised(pub(crate) String);

impl std::fmt::Display for Raised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for Raised {}

/// Puts everything into `env`.
pub(crate) fn install(env: &mut Environment<'static>) {
    env.add_filter("tojson", python::tojson);
    env.add_filter("string", |state: &State, value: Value| python::text(state, &value));
    env.add_filter("join", join);
    for name in
        ["format", "upper", "lower", "title", "capitalize", "trim", "replace", "escape", "e", "indent"]
    {
        guard_text(env, name);
    }
    for name in ["int", "float", "sort", "unique", "dictsort", "groupby", "min", "max", "sum", "list"] {
        guard(env, name);
    }
    // Not in Jinja2 as used here, and able to write more than they are given.
    env.remove_filter("pprint");
    env.remove_global("debug");

    env.add_function("raise_exception", |message: Value| -> Result<Value, Error> {
        let message = crate::error::excerpt_of(&message.to_string(), 500);
        Err(Error::new(ErrorKind::InvalidOperation, "raised").with_source(Raised(message)))
    });
    env.add_function(KEEP, keep);
    env.set_formatter(|out, state, value| {
        if let Some(text) = value.as_str() {
            return out.write_str(text).map_err(Error::from);
        }
        let text = python::text(state, value)?;
        out.write_str(&text).map_err(Error::from)
    });
    env.set_unknown_method_callback(method);
}

/// The engine's own filter of this name.
fn builtin(name: &str) -> Option<Value> {
    Some(match name {
        "upper" => Value::from_function(filters::upper),
        "lower" => Value::from_function(filters::lower),
        "title" => Value::from_function(filters::title),
        "capitalize" => Value::from_function(filters::capitalize),
        "trim" => Value::from_function(filters::trim),
        "replace" => Value::from_function(filters::replace),
        "escape" | "e" => Value::from_function(filters::escape),
        "indent" => Value::from_function(filters::indent),
        "int" => Value::from_function(filters::int),
        "float" => Value::from_function(filters::float),
        "sort" => Value::from_function(filters::sort),
        "unique" => Value::from_function(filters::unique),
        "dictsort" => Value::from_function(filters::dictsort),
        "groupby" => Value::from_function(filters::groupby),
        "min" => Value::from_function(filters::min),
        "max" => Value::from_function(filters::max),
        "sum" => Value::from_function(filters::sum),
        "list" => Value::from_function(filters::list),
        "format" => Value::from_function(filters::format),
        _ => return None,
    })
}

/// Weighs what the filter is given before it is called.
fn guard(env: &mut Environment<'static>, name: &'static str) {
    let Some(builtin) = builtin(name) else { return };
    env.add_filter(name, move |state: &mut State, args: Rest<ValueOrKwargs>| {
        let args = args.into_values();
        for arg in &args {
            charge(state, arg)?;
        }
        builtin.call(state, &args)
    });
}

/// The same for a filter of texts, which gets other values as Python's `str` writes them.
fn guard_text(env: &mut Environment<'static>, name: &'static str) {
    let Some(builtin) = builtin(name) else { return };
    env.add_filter(name, move |state: &mut State, args: Rest<ValueOrKwargs>| {
        let mut args = args.into_values();
        for arg in &args {
            charge(state, arg)?;
        }
        if let Some(first) = args.first_mut()
            && first.as_str().is_none()
        {
            *first = Value::from(python::text(state, first)?);
        }
        if name == "format"
            && let [first, rest @ ..] = args.as_slice()
        {
            check_format(state, first.as_str().unwrap_or_default(), rest)?;
        }
        if name == "indent" {
            let lines = args.first().and_then(Value::as_str).map_or(0, |text| text.lines().count());
            let width = args.get(1).and_then(Value::as_i64).unwrap_or(4).unsigned_abs();
            charge_bytes(state, lines.saturating_mul(usize::try_from(width).unwrap_or(usize::MAX)))?;
        }
        builtin.call(state, &args)
    });
}

/// Joins the items of a value, or one attribute of them, as texts.
fn join(
    state: &State,
    value: Value,
    joiner: Option<Value>,
    attribute: Option<Value>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let joiner = match joiner {
        Some(joiner) => Some(joiner),
        None => kwargs.get::<Option<Value>>("d")?,
    };
    let attribute = match attribute {
        Some(attribute) => Some(attribute),
        None => kwargs.get::<Option<Value>>("attribute")?,
    };
    kwargs.assert_all_used()?;
    let joiner = joiner.map_or(Ok(String::new()), |joiner| python::text(state, &joiner))?;
    if value.is_undefined() || value.is_none() {
        return Ok(String::new());
    }
    let mut out = String::new();
    for (index, item) in value.try_iter()?.enumerate() {
        if index > 0 {
            charge_bytes(state, out.len().saturating_add(joiner.len()).max(64) - out.len())?;
            out.push_str(&joiner);
        }
        let item = match &attribute {
            Some(attribute) => item.get_item(attribute)?,
            None => item,
        };
        out.push_str(&python::text(state, &item)?);
        state.consume_fuel(1)?;
        if out.len() > super::limits::VALUE_BYTES {
            return Err(super::limits::hit("bytes in a value", super::limits::VALUE_BYTES as u64));
        }
    }
    Ok(out)
}

/// Refuses format strings whose result could be far larger than their arguments.
fn check_format(state: &State, format: &str, args: &[Value]) -> Result<(), Error> {
    let mut digits = 0;
    for byte in format.bytes() {
        digits = if byte.is_ascii_digit() { digits + 1 } else { 0 };
        if digits > 3 {
            return Err(super::limits::hit("characters of width in a format", 999));
        }
    }
    let fields = format.matches(['{', '%']).count();
    let mut total = format.len().saturating_add(fields.saturating_mul(1000));
    for arg in args {
        total = total.saturating_add(weigh(arg)?.saturating_mul(fields));
    }
    charge_bytes(state, total)
}

/// Python's methods on texts, lists and maps.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    // Looking something up in a map does not write it out.
    if value.kind() != ValueKind::Map {
        charge(state, value)?;
    }
    for arg in args {
        charge(state, arg)?;
    }
    if let Some(text) = value.as_str() {
        match (name, args) {
            ("join", [items]) => {
                return join(
                    state,
                    items.clone(),
                    Some(value.clone()),
                    None,
                    Kwargs::from_iter::<[(&str, Value); 0]>([]),
                )
                .map(Value::from);
            }
            ("replace", [old, new, ..]) => {
                if let (Some(old), Some(new)) = (old.as_str(), new.as_str()) {
                    let found =
                        if old.is_empty() { text.chars().count() + 1 } else { text.matches(old).count() };
                    charge_bytes(state, found.saturating_mul(new.len()))?;
                }
            }
            ("format", _) => check_format(state, text, args)?,
            ("removeprefix", [prefix]) => {
                let prefix = prefix.as_str().unwrap_or_default();
                return Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)));
            }
            ("removesuffix", [suffix]) => {
                let suffix = suffix.as_str().unwrap_or_default();
                return Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)));
            }
            ("rsplit", _) => return rsplit(text, args),
            ("partition" | "rpartition", [separator]) => return partition(text, name, separator),
            _ => {}
        }
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

fn rsplit(text: &str, args: &[Value]) -> Result<Value, Error> {
    let separator = args.first().and_then(Value::as_str).filter(|separator| !separator.is_empty());
    let most = args.get(1).and_then(Value::as_i64).and_then(|most| usize::try_from(most).ok());
    let most = most.map_or(usize::MAX, |most| most.saturating_add(1));
    let mut parts: Vec<&str> = match separator {
        Some(separator) => text.rsplitn(most, separator).collect(),
        None if most == usize::MAX => text.split_whitespace().rev().collect(),
        None => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "rsplit needs a separator when it has a count",
            ));
        }
    };
    parts.reverse();
    Ok(Value::from_iter(parts))
}

fn partition(text: &str, name: &str, separator: &Value) -> Result<Value, Error> {
    let Some(separator) = separator.as_str().filter(|separator| !separator.is_empty()) else {
        return Err(Error::new(ErrorKind::InvalidOperation, "partition needs a separator"));
    };
    Ok(Value::from_iter(match name {
        "partition" => match text.split_once(separator) {
            Some((before, after)) => [before, separator, after],
            None => [text, "", ""],
        },
        _ => match text.rsplit_once(separator) {
            Some((before, after)) => [before, separator, after],
            None => ["", "", text],
        },
    }))
}

/// Looks at what a namespace is to keep: not a namespace, not too deep, and a list where it is made only when asked.
fn keep(state: &State, value: Value) -> Result<Value, Error> {
    let value = match value.kind() {
        ValueKind::Iterable => Value::from(value.try_iter()?.collect::<Vec<_>>()),
        _ => value,
    };
    charge(state, &value)?;
    if holds_namespace(&value)? {
        return Err(Error::new(ErrorKind::InvalidOperation, "a namespace cannot hold a namespace"));
    }
    Ok(value)
}

/// Whether a namespace is in a value that was weighed.
fn holds_namespace(value: &Value) -> Result<bool, Error> {
    let mut todo = vec![value.clone()];
    while let Some(value) = todo.pop() {
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => todo.extend(value.try_iter()?),
            ValueKind::Map => {
                if value.as_object().is_some_and(|object| object.type_name().contains("Namespace")) {
                    return Ok(true);
                }
                for key in value.try_iter()? {
                    todo.push(value.get_item(&key)?);
                }
            }
            _ => {}
        }
    }
    Ok(false)
}
