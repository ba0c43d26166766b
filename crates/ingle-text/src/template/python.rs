//! Values written as Python writes them: `str()` and `json.dumps()`.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::limits::{VALUE_BYTES, VALUE_DEPTH, charge, charge_bytes, hit};

/// `str(value)`; undefined values are nothing.
pub(crate) fn text(state: &State, value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        charge_bytes(state, text.len())?;
        return Ok(text.to_owned());
    }
    match value.kind() {
        ValueKind::Undefined => Ok(String::new()),
        ValueKind::Number if !value.is_integer() => {
            Ok(f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float))
        }
        _ => {
            charge(state, value)?;
            Ok(value.to_string())
        }
    }
}

/// `repr()` of a float: the shortest digits that read back, an exponent from 1e16 and below 1e-4.
pub(crate) fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number < 0.0 { "-inf".into() } else { "inf".into() };
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{number}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// The `tojson` filter of the Hugging Face library: `json.dumps` with its separators, non-ASCII and HTML characters
/// kept, and its `indent`, `separators`, `sort_keys` and `ensure_ascii` arguments.
pub(crate) fn tojson(state: &State, value: &Value, kwargs: Kwargs) -> Result<Value, Error> {
    let indent: Option<Value> = kwargs.get("indent")?;
    let indent = match indent.filter(|indent| !indent.is_none() && !indent.is_undefined()) {
        None => None,
        Some(indent) => match (indent.as_str(), indent.as_i64()) {
            (Some(text), _) => Some(text.to_owned()),
            (None, Some(width)) => Some(" ".repeat(usize::try_from(width).unwrap_or(0).min(VALUE_DEPTH))),
            (None, None) => {
                return Err(Error::new(ErrorKind::InvalidOperation, "`indent` must be a number or a text"));
            }
        },
    };
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    let [comma, colon] = match separators.as_deref() {
        Some([comma, colon]) => [comma.clone(), colon.clone()],
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "`separators` must be two texts")),
        None if indent.is_some() => [",".into(), ": ".into()],
        None => [", ".into(), ": ".into()],
    };
    let sort_keys = kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let ascii = kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    let mut writer = Json { out: String::new(), indent, comma, colon, sort_keys, ascii, state, charged: 0 };
    writer.value(value, 0)?;
    let unpaid = writer.out.len() - writer.charged;
    charge_bytes(state, unpaid)?;
    Ok(Value::from(writer.out))
}

struct Json<'a, 'b, 'c> {
    out: String,
    indent: Option<String>,
    comma: String,
    colon: String,
    sort_keys: bool,
    ascii: bool,
    state: &'a State<'b, 'c>,
    charged: usize,
}

impl Json<'_, '_, '_> {
    /// Pays for what was written since the last time, and one step for what comes.
    fn pay(&mut self) -> Result<(), Error> {
        if self.out.len() > VALUE_BYTES {
            return Err(hit("bytes in a value", VALUE_BYTES as u64));
        }
        self.state.consume_fuel(1 + (self.out.len() - self.charged) as u64 / 64)?;
        self.charged = self.out.len();
        Ok(())
    }

    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.pay()?;
        if depth > VALUE_DEPTH {
            return Err(hit("levels of nested values", VALUE_DEPTH as u64));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let mut first = true;
                self.out.push('[');
                for item in value.try_iter()? {
                    self.item(&mut first, depth);
                    self.value(&item, depth + 1)?;
                }
                self.end(first, depth, ']');
            }
            ValueKind::Map => self.map(value, depth)?,
            kind => {
                let message = format!("Object of type {kind} is not JSON serializable");
                return Err(Error::new(ErrorKind::BadSerialization, message));
            }
        }
        Ok(())
    }

    fn map(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if self.sort_keys {
            keys.sort();
        }
        let mut first = true;
        self.out.push('{');
        for key in keys {
            self.item(&mut first, depth);
            match key.kind() {
                ValueKind::String => self.string(key.as_str().unwrap_or_default()),
                ValueKind::None | ValueKind::Bool | ValueKind::Number => {
                    self.out.push('"');
                    self.value(&key, depth + 1)?;
                    self.out.push('"');
                }
                kind => {
                    let message = format!("keys must be str, int, float, bool or None, not {kind}");
                    return Err(Error::new(ErrorKind::BadSerialization, message));
                }
            }
            self.out.push_str(&self.colon);
            self.value(&value.get_item(&key)?, depth + 1)?;
        }
        self.end(first, depth, '}');
        Ok(())
    }

    fn number(&mut self, value: &Value) {
        match f64::try_from(value.clone()) {
            Ok(number) if !value.is_integer() => self.out.push_str(&match number {
                number if number.is_nan() => "NaN".to_owned(),
                number if number.is_infinite() && number < 0.0 => "-Infinity".to_owned(),
                number if number.is_infinite() => "Infinity".to_owned(),
                number => float(number),
            }),
            _ => self.out.push_str(&value.to_string()),
        }
    }

    fn string(&mut self, text: &str) {
        use std::fmt::Write as _;
        self.out.push('"');
        for character in text.chars() {
            match character {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                _ if character < ' ' || (self.ascii && character > '~') => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.out, "\\u{unit:04x}"); // writing to a String does not fail
                    }
                }
                _ => self.out.push(character),
            }
        }
        self.out.push('"');
    }

    fn item(&mut self, first: &mut bool, depth: usize) {
        if !*first {
            self.out.push_str(&self.comma);
        }
        *first = false;
        self.line(depth + 1);
    }

    fn end(&mut self, empty: bool, depth: usize, close: char) {
        if !empty {
            self.line(depth);
        }
        self.out.push(close);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            for _ in 0..depth {
                self.out.push_str(indent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::float;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (number, text) in [
            (1.0, "1.0"),
            (-0.5, "-0.5"),
            (1e16, "1e+16"),
            (123456789012345.6, "123456789012345.6"),
            (1e15, "1000000000000000.0"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (1e100, "1e+100"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(float(number), text);
        }
    }
}
