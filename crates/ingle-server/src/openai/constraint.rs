//! What an answer is held to: a schema, or a call.

use crate::fields::Fields;
use crate::problem::Problem;
use serde_json::Value;

/// Takes `response_format`, `tool_choice` and `parallel_tool_calls`.
///
/// This is the one place where they would become a constraint of the engine's options. As long as the engine has none,
/// whatever would need one is refused: an answer in another form than was asked for helps nobody. (`tool_choice: "none"` needs
/// none: the conversation is rendered without tools.)
///
/// # Errors
/// A form that does not exist, or one that answers cannot be held to yet.
pub(super) fn constraint_of(fields: &mut Fields) -> Result<(), Problem> {
    if let Some(format) = fields.optional::<Value>("response_format")? {
        response_format(format)?;
    }
    match fields.optional::<Value>("tool_choice")? {
        None => {}
        Some(Value::String(choice)) => match choice.as_str() {
            "auto" | "none" => {}
            "required" => return Err(forced()),
            _ => return Err(bad_choice()),
        },
        Some(Value::Object(choice)) if choice.contains_key("type") => return Err(forced()),
        Some(_) => return Err(bad_choice()),
    }
    if fields.optional("parallel_tool_calls")? == Some(false) {
        let message =
            "`parallel_tool_calls` cannot be false here: how many calls a model makes is left to it";
        return Err(Problem::field("parallel_tool_calls", message));
    }
    Ok(())
}

fn response_format(format: Value) -> Result<(), Problem> {
    let refused = |problem: Problem| Problem::field("response_format", problem.message);
    let mut format = Fields::of(format, "`response_format`").map_err(refused)?;
    let kind: String = format.required("type").map_err(refused)?;
    match kind.as_str() {
        "text" => format.finish().map(drop).map_err(refused),
        "json_object" | "json_schema" => Err(Problem::field(
            "response_format",
            format!(
                "`response_format` of type `{kind}` is not there yet: answers cannot be held to a schema; leave it out \
                 and ask for JSON in the messages"
            ),
        )),
        _ => {
            let message =
                "`response_format` has a type that is none of `text`, `json_object` and `json_schema`";
            Err(Problem::field("response_format", message))
        }
    }
}

fn forced() -> Problem {
    Problem::field(
        "tool_choice",
        "`tool_choice` can only be `auto` or `none` here: no call can be forced yet",
    )
}

fn bad_choice() -> Problem {
    Problem::field(
        "tool_choice",
        "`tool_choice` is `auto`, `none`, `required` or an object that names a function",
    )
}
