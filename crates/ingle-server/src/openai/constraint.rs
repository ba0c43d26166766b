//! What an answer is held to: a form, or a call.

use crate::fields::Fields;
use crate::problem::Problem;
use ingle_engine::constraint::{CallChoice, Calls, Form};
use serde_json::Value;

/// Takes `response_format`: the form of what is said.
///
/// # Errors
/// A form that does not exist.
pub(super) fn form(fields: &mut Fields) -> Result<Option<Form>, Problem> {
    let Some(format) = fields.optional::<Value>("response_format")? else { return Ok(None) };
    read_format(format).map_err(|problem| Problem::field("response_format", problem.message))
}

/// `{"type": "text" | "json_object"}`, `{"type": "json_schema", "json_schema": {"schema": ..}}`, and beyond the API
/// `{"type": "regex", "regex": ..}` and `{"type": "lark", "lark": ..}`. Some clients leave the schema out of `json_schema`
/// and put it beside the type, as the API for responses has it.
pub(super) fn read_format(format: Value) -> Result<Option<Form>, Problem> {
    let mut format = Fields::of(format, "`response_format`")?;
    let kind: String = format.required("type")?;
    let form = match kind.as_str() {
        "text" => None,
        "json_object" => Some(match format.optional::<Value>("schema")? {
            Some(schema) => Form::Schema(schema),
            None => Form::Object,
        }),
        "json_schema" => Some(Form::Schema(schema(&mut format)?)),
        "regex" => Some(Form::Regex(format.required("regex")?)),
        "lark" => Some(Form::Lark(format.required("lark")?)),
        _ => {
            let message = "`response_format` has a type that is none of `text`, `json_object`, `json_schema`, `regex` \
                           and `lark`";
            return Err(Problem::invalid(message));
        }
    };
    format.finish()?;
    Ok(form)
}

/// The schema of a format, which has a name, and may have a description. Being strict or not makes no difference: answers
/// are always held to it.
pub(crate) fn schema(format: &mut Fields) -> Result<Value, Problem> {
    let named = |fields: &mut Fields| -> Result<Value, Problem> {
        fields.optional::<String>("name")?;
        fields.optional::<String>("description")?;
        fields.optional::<bool>("strict")?;
        fields.required("schema")
    };
    match format.optional::<Value>("json_schema")? {
        None => named(format),
        Some(inner) => {
            let mut inner = Fields::of(inner, "`json_schema`")?;
            let schema = named(&mut inner)?;
            inner.finish()?;
            Ok(schema)
        }
    }
}

/// Takes `tool_choice` and `parallel_tool_calls`.
///
/// # Errors
/// A choice that does not exist, or one of a tool that was not offered.
pub(super) fn calls(fields: &mut Fields, tools: &[Value]) -> Result<Calls, Problem> {
    let bad = || {
        Problem::field(
            "tool_choice",
            "`tool_choice` is `auto`, `none`, `required` or an object that names a function",
        )
    };
    let choice = match fields.optional::<Value>("tool_choice")? {
        None => CallChoice::Auto,
        Some(Value::String(choice)) => match choice.as_str() {
            // without calls the conversation is rendered without tools
            "auto" | "none" => CallChoice::Auto,
            "required" => CallChoice::Required,
            _ => return Err(bad()),
        },
        Some(choice @ Value::Object(_)) => {
            let name =
                choice.pointer("/function/name").or_else(|| choice.get("name")).and_then(Value::as_str);
            let is_function = choice.get("type").and_then(Value::as_str) == Some("function");
            CallChoice::Named(name.filter(|_| is_function).ok_or_else(bad)?.to_owned())
        }
        Some(_) => return Err(bad()),
    };
    let calls = Calls { choice, single: fields.optional("parallel_tool_calls")? == Some(false) };
    check(&calls, tools, "tool_choice")?;
    Ok(calls)
}

/// That calls which have to be made can be made.
///
/// # Errors
/// No tools, or none of the name; `field` is to blame.
pub(crate) fn check(calls: &Calls, tools: &[Value], field: &str) -> Result<(), Problem> {
    let offered = |name: &str| {
        tools.iter().any(|tool| tool.pointer("/function/name").and_then(Value::as_str) == Some(name))
    };
    match &calls.choice {
        CallChoice::Required if tools.is_empty() => {
            Err(Problem::field(field, format!("`{field}` wants a call, and no tools are offered")))
        }
        CallChoice::Named(name) if !offered(name) => {
            let name: String = name.chars().take(80).collect();
            Err(Problem::field(field, format!("`{field}` wants a call of `{name}`, which is not offered")))
        }
        _ => Ok(()),
    }
}
