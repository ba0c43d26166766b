//! Tools as gpt-oss is shown them: a namespace of function types in the manner of TypeScript.
//!
//! The model was trained on one rendering, odd line breaks included; this writes the same bytes.

use serde_json::Value;

use super::{json, member};

/// Deeper schemas are `any`.
const DEPTH: usize = 48;

/// The namespace `name` with the functions of `tools`.
pub(super) fn namespace(name: &str, tools: &[Value]) -> String {
    let mut out = format!("## {name}\n\nnamespace {name} {{\n\n");
    for tool in tools {
        function(tool.get("function").unwrap_or(tool), &mut out);
    }
    out + "} // namespace " + name
}

fn function(function: &Value, out: &mut String) {
    let description = member(function, "description");
    if !description.is_empty() {
        *out += &format!("// {description}\n");
    }
    *out += &format!("type {} = ", member(function, "name"));
    let parameters = function.get("parameters").unwrap_or(&Value::Null);
    let Some(properties) = parameters.get("properties").and_then(Value::as_object).filter(|p| !p.is_empty())
    else {
        *out += "() => any;\n\n";
        return;
    };
    *out += "(_: {\n";
    for (name, schema) in properties {
        let description = member(schema, "description");
        if !description.is_empty() {
            *out += &format!("// {description}\n");
        }
        *out += &format!("{name}{}: {}", optional(parameters, name), kind(schema, 0));
        if let Some(default) = schema.get("default") {
            *out += &if has(schema, "enum") {
                format!(", // default: {}", plain(default))
            } else if has(schema, "oneOf") {
                format!("// default: {}", plain(default))
            } else {
                format!(", // default: {}", json::line(default))
            };
        }
        *out += ",\n";
    }
    *out += "}) => any;\n\n";
}

/// The type that a schema describes.
fn kind(schema: &Value, depth: usize) -> String {
    if depth > DEPTH {
        return "any".into();
    }
    let nullable = if has(schema, "nullable") { " | null" } else { "" };
    match schema.get("type") {
        Some(Value::String(name)) if name == "array" => format!("{}[]{nullable}", items(schema, depth)),
        Some(Value::Array(names)) if !names.is_empty() => {
            names.iter().map(plain).collect::<Vec<_>>().join(" | ")
        }
        _ if has(schema, "oneOf") => choice(schema, depth),
        Some(Value::String(name)) => match name.as_str() {
            "string" => {
                match schema.get("enum").and_then(Value::as_array).filter(|values| !values.is_empty()) {
                    Some(values) => {
                        format!("\"{}\"", values.iter().map(plain).collect::<Vec<_>>().join("\" | \""))
                    }
                    None => format!("string{nullable}"),
                }
            }
            "number" | "integer" => "number".into(),
            "boolean" => "boolean".into(),
            "object" => object(schema, depth),
            _ => "any".into(),
        },
        _ => "any".into(),
    }
}

fn items(schema: &Value, depth: usize) -> String {
    let Some(items) = schema.get("items").filter(|items| truthy(items)) else { return "any".into() };
    match member(items, "type") {
        "string" => "string".into(),
        "number" | "integer" => "number".into(),
        "boolean" => "boolean".into(),
        _ => {
            let inner = kind(items, depth + 1);
            if inner == "object | object" || inner.chars().count() > 50 { "any".into() } else { inner }
        }
    }
}

fn choice(schema: &Value, depth: usize) -> String {
    let variants = schema.get("oneOf").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut out = String::new();
    for (at, variant) in variants.iter().enumerate() {
        out += &kind(variant, depth + 1);
        let description = member(variant, "description");
        if !description.is_empty() {
            out += &format!("// {description}");
        }
        if let Some(default) = variant.get("default") {
            out += &format!("{}// default: {}", " ".repeat(20), json::line(default));
        }
        if at + 1 < variants.len() {
            out += " | \n";
        }
    }
    out
}

fn object(schema: &Value, depth: usize) -> String {
    let Some(properties) = schema.get("properties").and_then(Value::as_object).filter(|p| !p.is_empty())
    else {
        return "object".into();
    };
    let member = |(name, property): (&String, &Value)| {
        format!("{name}{}: \n{}{}", optional(schema, name), " ".repeat(16), kind(property, depth + 1))
    };
    format!("{{\n{}}}", properties.iter().map(member).collect::<Vec<_>>().join(", "))
}

/// The mark of a property that need not be there.
fn optional(schema: &Value, name: &str) -> &'static str {
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = required.is_some_and(|names| names.iter().any(|required| required == name));
    if is_required { "" } else { "?" }
}

fn has(schema: &Value, name: &str) -> bool {
    schema.get(name).is_some_and(truthy)
}

fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

/// A value without quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| json::line(value), str::to_owned)
}
