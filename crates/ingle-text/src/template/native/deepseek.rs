//! The encoding of DeepSeek V3.2: tools in the system prompt, calls in DSML, thoughts kept from the last question on.

use serde_json::{Map, Value};

use super::super::Moment;
use super::{calls, content, flag, json, member, messages, reasoning, refused, tools};
use crate::error::Result;

const TOOLS: &str = "## Tools

You have access to a set of tools you can use to answer the user's question.
You can invoke functions by writing a \"<｜DSML｜function_calls>\" block like the following as part of your reply to the user:
<｜DSML｜function_calls>
<｜DSML｜invoke name=\"$FUNCTION_NAME\">
<｜DSML｜parameter name=\"$PARAMETER_NAME\" string=\"true|false\">$PARAMETER_VALUE</｜DSML｜parameter>
...
</｜DSML｜invoke>
<｜DSML｜invoke name=\"$FUNCTION_NAME2\">
...
</｜DSML｜invoke>
</｜DSML｜function_calls>

String and scalar parameters should be specified as is without any escaping or quotes, while lists and objects should use JSON format. The \"string\" attribute should be set to \"true\" for string type parameters and \"false\" for other types (numbers, booleans, arrays, objects).

If the thinking_mode is enabled, then after function results you should strongly consider outputting a thinking block. Here is an example:

<｜DSML｜function_calls>
...
</｜DSML｜function_calls>

<function_results>
...
</function_results>

<think>...thinking about results</think>

Here are the functions available in JSONSchema format:
<functions>
";

/// What an assistant's next words have to be introduced with.
#[derive(Clone, Copy, PartialEq)]
enum Owed {
    Nothing,
    /// The role, after a question.
    Role,
    /// A distance, after results.
    Distance,
}

pub(super) fn write(variables: &Map<String, Value>, _: Moment) -> Result<String> {
    let thinking =
        flag(variables, "thinking").or_else(|| flag(variables, "enable_thinking")).unwrap_or(false);
    let messages = messages(variables);
    let mut out = member_of(variables, "bos_token").to_owned();
    out += &system(messages, tools(variables))?;
    let is_question = |message: &Value| member(message, "role") == "user";
    let last_question = messages.iter().rposition(is_question);
    let mut owed = Owed::Nothing;
    // The calls that wait for results, and the results so far.
    let (mut called, mut results) = (0, 0);
    for (at, message) in messages.iter().enumerate() {
        match member(message, "role") {
            "user" => {
                out += &format!("<｜User｜>{}", content(message)?);
                owed = Owed::Role;
            }
            "assistant" => {
                out += introduction(owed);
                let current = last_question.is_none_or(|question| at > question);
                if owed != Owed::Nothing {
                    if current && thinking {
                        out += &format!("<think>{}", reasoning(message));
                    }
                    out += "</think>";
                }
                owed = Owed::Nothing;
                out += &content(message)?;
                let functions = calls(message);
                if !functions.is_empty() {
                    out += &dsml(&functions)?;
                }
                (called, results) = (functions.len(), 0);
                out += "<｜end▁of▁sentence｜>";
            }
            "tool" => {
                if called == 0 {
                    return Err(refused("a tool's message follows no call"));
                }
                if results == 0 {
                    out += "\n\n<function_results>";
                }
                results += 1;
                out += &format!("\n<result>{}</result>", content(message)?);
                let more = messages.get(at + 1).is_some_and(|next| member(next, "role") == "tool");
                if results == called || !more {
                    out += "\n</function_results>";
                    owed = Owed::Distance;
                    called = 0;
                }
            }
            "system" | "developer" => {} // stands at the beginning
            role => return Err(refused(&format!("there is no role `{role}` in DeepSeek's encoding"))),
        }
    }
    if flag(variables, "add_generation_prompt").unwrap_or(false) && owed != Owed::Nothing {
        out += introduction(owed);
        out += if thinking { "<think>" } else { "<think></think>" };
    }
    Ok(out)
}

fn member_of<'a>(variables: &'a Map<String, Value>, name: &str) -> &'a str {
    variables.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn introduction(owed: Owed) -> &'static str {
    match owed {
        Owed::Nothing => "",
        Owed::Role => "<｜Assistant｜>",
        Owed::Distance => "\n\n",
    }
}

/// Everything the system says, and the tools.
fn system(messages: &[Value], tools: &[Value]) -> Result<String> {
    let said = messages.iter().filter(|message| matches!(member(message, "role"), "system" | "developer"));
    let mut out = said.map(content).collect::<Result<Vec<_>>>()?.join("\n\n");
    if !tools.is_empty() {
        if !out.is_empty() {
            out += "\n\n";
        }
        out += TOOLS;
        for tool in tools {
            out += &json::line(tool.get("function").unwrap_or(tool));
            out += "\n";
        }
        out += "</functions>\n";
    }
    Ok(out)
}

/// A block of calls.
fn dsml(functions: &[&Value]) -> Result<String> {
    let mut out = String::from("\n\n<｜DSML｜function_calls>\n");
    for function in functions {
        let name = member(function, "name");
        out += &format!("<｜DSML｜invoke name=\"{name}\">\n");
        let given = function.get("arguments").unwrap_or(&Value::Null);
        let parsed = given.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        let arguments = parsed.as_ref().unwrap_or(given).as_object();
        let arguments = arguments
            .ok_or_else(|| refused(&format!("the arguments of a call of `{name}` are no object")))?;
        for (key, value) in arguments {
            let (is_text, value) = match value {
                Value::String(text) => (true, text.clone()),
                value => (false, json::line(value)),
            };
            out += &format!(
                "<｜DSML｜parameter name=\"{key}\" string=\"{is_text}\">{value}</｜DSML｜parameter>\n"
            );
        }
        out += "</｜DSML｜invoke>\n";
    }
    Ok(out + "</｜DSML｜function_calls>")
}
