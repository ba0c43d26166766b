//! The document that describes all routes: OpenAPI 3.1, at `GET /openapi.json` and in the repository as
//! `docs/openapi.json`.
//!
//! It is made from the table that the router is made from ([`crate::routes`]), so that no route is in one of them alone.
//! What it says of fields (`fields.rs`) is held against the running server by its tests: each name that the program's text
//! has is sent to each route, and is taken where the document has it and nowhere else; each type and bound is crossed.

pub(crate) mod bodies;
pub(crate) mod fields;

use crate::routes::{Answer, Route, routes};
use fields::Field;
use serde_json::{Map, Value, json};

/// The document.
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in routes() {
        let path = route.path.replace("{*", "{");
        let operations = paths.entry(path).or_insert_with(|| json!({}));
        operations[route.method.to_ascii_lowercase()] = operation(&route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Ingle",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Open-weight language models on your own machine",
            "description": "The APIs of OpenAI, Anthropic and Ollama, and routes of no API. A field that is not known is \
                            refused by name, and one without effect is told in `warnings` of the answer. A field may be \
                            null, which is as if it were not there.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:11435"}],
        "security": [{}, {"bearer": []}, {"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A key of `ingle key new`"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "schemas": {"OpenAIError": openai_error(), "AnthropicError": anthropic_error(), "OllamaError": ollama_error()},
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut operation = Map::new();
    operation.insert("summary".into(), route.about.into());
    operation.insert("tags".into(), json!([route.api()]));
    let names: Vec<&str> = route
        .path
        .split('/')
        .filter_map(|part| Some(part.strip_prefix('{')?.strip_suffix('}')?.trim_start_matches('*')))
        .collect();
    if !names.is_empty() {
        let one =
            |name: &&str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
        operation.insert("parameters".into(), names.iter().map(one).collect());
    }
    if let Some(body) = route.body {
        let schema = object(&body());
        operation.insert(
            "requestBody".into(),
            json!({"required": true, "content": {"application/json": {"schema": schema}}}),
        );
    }
    operation.insert("responses".into(), answers(route));
    Value::Object(operation)
}

fn answers(route: &Route) -> Value {
    let json_object = || json!({"schema": {"type": "object"}});
    let content = match route.answer {
        Answer::Json => json!({"application/json": json_object()}),
        Answer::Events => json!({
            "application/json": json_object(),
            "text/event-stream": {"schema": {"type": "string", "description": "Events, if `stream` is true"}},
        }),
        Answer::Lines => json!({
            "application/json": json_object(),
            "application/x-ndjson": {"schema": {"type": "string", "description": "A chunk per line, unless `stream` is false"}},
        }),
        Answer::Text => json!({"text/plain": {"schema": {"type": "string"}}}),
        Answer::NotHere => Value::Null,
    };
    let api = route.api();
    let schema = match api {
        "Anthropic" | "Ollama" => format!("#/components/schemas/{api}Error"),
        _ => "#/components/schemas/OpenAIError".to_owned(),
    };
    let refusal = |about: &str| {
        json!({
            "description": about, "content": {"application/json": {"schema": {"$ref": schema}}},
        })
    };
    let mut answers = Map::new();
    match route.answer {
        Answer::NotHere => {
            answers.insert("501".into(), refusal("It is not here yet, and the message says what is"));
        }
        _ => {
            answers.insert("200".into(), json!({"description": "The answer", "content": content}));
        }
    }
    answers.insert("default".into(), refusal("What happened, to what, and what to do next"));
    Value::Object(answers)
}

/// The schema of an object with these fields and no others.
fn object(fields: &[Field]) -> Value {
    let mut properties = Map::new();
    for field in fields {
        let mut schema = field.schema.clone();
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("description".into(), field.about.clone().into());
        }
        properties.insert(field.name.into(), schema);
    }
    let needed: Vec<&str> = fields.iter().filter(|field| field.needed).map(|field| field.name).collect();
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if !needed.is_empty() {
        schema["required"] = json!(needed);
    }
    schema
}

fn openai_error() -> Value {
    json!({
        "type": "object", "required": ["error"],
        "properties": {"error": {
            "type": "object", "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "The field that is to blame"},
                "code": {"type": "integer", "description": "The HTTP status"},
            },
        }},
    })
}

fn anthropic_error() -> Value {
    json!({
        "type": "object", "required": ["type", "error"],
        "properties": {
            "type": {"const": "error"},
            "error": {
                "type": "object", "required": ["type", "message"],
                "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    })
}

fn ollama_error() -> Value {
    json!({"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_is_described_twice_and_none_without_words() {
        for route in routes() {
            let fields = route.body.map(|body| body()).unwrap_or_default();
            for (at, field) in fields.iter().enumerate() {
                assert!(!field.about.is_empty(), "{}: {}", route.path, field.name);
                assert!(
                    fields[..at].iter().all(|other| other.name != field.name),
                    "{}: {}",
                    route.path,
                    field.name
                );
            }
        }
    }

    #[test]
    fn the_router_has_no_routes_but_those_of_the_table() {
        let text = include_str!("../app.rs");
        assert_eq!(
            text.matches(".route(").count(),
            1,
            "a route belongs into routes.rs, where it is described"
        );
    }
}
