//! What tools say about their parameters: for dialects that write values without quotes.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// The parameters of each tool, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Schemas(HashMap<String, Map<String, Value>>);

impl Schemas {
    /// From definitions in the OpenAI layout, or of the functions alone. Those without properties are left out.
    pub(super) fn new(tools: &[Value]) -> Schemas {
        let entry = |tool: &Value| {
            let function = tool.get("function").unwrap_or(tool);
            let properties = function.get("parameters")?.get("properties")?.as_object()?;
            Some((function.get("name")?.as_str()?.to_owned(), properties.clone()))
        };
        Schemas(tools.iter().filter_map(entry).collect())
    }

    /// The value that `text` means as parameter `name` of `tool`: text unless the schema says otherwise, and then
    /// JSON if it is some.
    pub(super) fn value(&self, tool: &str, name: &str, text: &str) -> Value {
        let as_text = || Value::String(text.to_owned());
        let Some(schema) = self.0.get(tool).and_then(|parameters| parameters.get(name)) else {
            return as_text();
        };
        let mut types = Types::default();
        types.add(schema, 0);
        let trimmed = text.trim();
        if types.null && matches!(trimmed, "null" | "None") {
            return Value::Null;
        }
        if types.text {
            return as_text();
        }
        // Templates write booleans as Python does.
        match trimmed {
            "True" => Value::Bool(true),
            "False" => Value::Bool(false),
            "None" => Value::Null,
            _ => serde_json::from_str(trimmed).unwrap_or_else(|_| as_text()),
        }
    }
}

/// What a schema allows.
#[derive(Default)]
struct Types {
    text: bool,
    null: bool,
}

impl Types {
    fn add(&mut self, schema: &Value, depth: usize) {
        if depth > 4 {
            return;
        }
        let named = match schema.get("type") {
            Some(Value::Array(types)) => types.as_slice(),
            Some(one) => std::slice::from_ref(one),
            None => &[],
        };
        for name in named.iter().filter_map(Value::as_str) {
            self.text |= name == "string";
            self.null |= name == "null";
        }
        self.null |= schema.get("nullable") == Some(&Value::Bool(true));
        if named.is_empty()
            && let Some(values) = schema.get("enum").and_then(Value::as_array)
        {
            self.text |= values.iter().any(Value::is_string);
            self.null |= values.iter().any(Value::is_null);
        }
        for key in ["anyOf", "oneOf"] {
            for choice in schema.get(key).and_then(Value::as_array).into_iter().flatten() {
                self.add(choice, depth + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_what_the_schema_says() {
        let properties = json!({
            "s": {"type": "string"}, "n": {"type": "integer"}, "b": {"type": "boolean"}, "o": {"type": "object"},
            "sn": {"type": ["string", "null"]}, "any": {}, "e": {"enum": ["1", "2"]},
            "a": {"anyOf": [{"type": "array"}, {"type": "null"}]},
        });
        let tools = [
            json!({"type": "function", "function": {"name": "f", "parameters": {"properties": properties}}}),
        ];
        let schemas = Schemas::new(&tools);
        for (name, text, value) in [
            ("s", "12", json!("12")),
            ("s", "null", json!("null")),
            ("n", "12", json!(12)),
            ("n", " 12\n", json!(12)),
            ("n", "twelve", json!("twelve")),
            ("b", "True", json!(true)),
            ("b", "false", json!(false)),
            ("o", "{\"a\": [1]}", json!({"a": [1]})),
            ("o", "{broken", json!("{broken")),
            ("sn", "None", json!(null)),
            ("sn", "x", json!("x")),
            ("any", "[1]", json!([1])),
            ("any", "word", json!("word")),
            ("e", "1", json!("1")),
            ("a", "[1]", json!([1])),
            ("a", "null", json!(null)),
            ("unknown", "12", json!("12")),
        ] {
            assert_eq!(schemas.value("f", name, text), value, "{name}: {text}");
        }
        assert_eq!(schemas.value("g", "n", "12"), json!("12"));
    }
}
