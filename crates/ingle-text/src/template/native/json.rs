//! JSON as Python writes it: a space after commas and colons, characters as they are.

use serde_json::Value;

use super::super::python::float;

/// `value` in one line.
pub(super) fn line(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(number) => out.push_str(&float(number)),
            None => out.push_str(&number.to_string()),
        },
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { ", " });
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (at, (name, member)) in members.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { ", " });
                write(&Value::String(name.clone()), out);
                out.push_str(": ");
                write(member, out);
            }
            out.push('}');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::line;
    use serde_json::json;

    #[test]
    fn spaces_and_floats_are_pythons() {
        let value = json!({"a": [1, 2.0, 1e100, null, true], "b": {}, "é\n\u{1}\"": []});
        assert_eq!(line(&value), "{\"a\": [1, 2.0, 1e+100, null, true], \"b\": {}, \"é\\n\\u0001\\\"\": []}");
    }
}
