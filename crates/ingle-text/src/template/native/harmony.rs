//! The Harmony format of gpt-oss.
//!
//! It writes what the published template writes. Beyond it: several calls of one message, thoughts and preambles beside
//! calls, and instructions in later messages are written too, which the template refuses or leaves out.

use serde_json::{Map, Value};

use super::super::Moment;
use super::typescript::namespace;
use super::{calls, content, json, member, messages, reasoning, refused, tools};
use crate::error::Result;
use crate::message::Message;

const IDENTITY: &str = "You are ChatGPT, a large language model trained by OpenAI.";
const CUTOFF: &str = "2024-06";
const CHANNELS: &str =
    "# Valid channels: analysis, commentary, final. Channel must be included for every message.";

pub(super) fn write(variables: &Map<String, Value>, now: Moment) -> Result<String> {
    let prompted = super::flag(variables, "add_generation_prompt").unwrap_or(false);
    let (messages, tools) = (messages(variables), tools(variables));
    let mut out = format!("<|start|>system<|message|>{}<|end|>", system(variables, now, !tools.is_empty()));
    let is_developer = |message: &Value| matches!(member(message, "role"), "system" | "developer");
    let (developer, talk) = match messages.split_first() {
        Some((first, rest)) if is_developer(first) => (content(first)?, rest),
        _ => (String::new(), messages),
    };
    if !developer.is_empty() || !tools.is_empty() {
        out += "<|start|>developer<|message|>";
        if !developer.is_empty() {
            out += &format!("# Instructions\n\n{developer}\n\n");
        }
        if !tools.is_empty() {
            out += &format!("# Tools\n\n{}", namespace("functions", tools));
        }
        out += "<|end|>";
    }
    let mut called: &[Value] = &[];
    for (at, message) in talk.iter().enumerate() {
        let rest = &talk[at + 1..];
        match member(message, "role") {
            "assistant" if !calls(message).is_empty() => {
                assistant_calls(message, rest, &mut out)?;
                called = std::slice::from_ref(message);
            }
            "assistant" => {
                let last = rest.is_empty() && !prompted;
                // Thoughts of turns that are over are not shown to the model again.
                if last && !reasoning(message).is_empty() {
                    said("analysis", reasoning(message), "<|end|>", &mut out);
                }
                said("final", &content(message)?, if last { "<|return|>" } else { "<|end|>" }, &mut out);
                called = &[];
            }
            "tool" => {
                let name =
                    answered(message, called).ok_or_else(|| refused("a tool's message follows no call"))?;
                let answer = match message.get("content") {
                    Some(Value::Array(_)) => Value::String(content(message)?),
                    answer => answer.cloned().unwrap_or_default(),
                };
                let answer = json::line(&answer);
                out +=
                    &format!("<|start|>{name} to=assistant<|channel|>commentary<|message|>{answer}<|end|>");
            }
            "user" => out += &format!("<|start|>user<|message|>{}<|end|>", content(message)?),
            "system" | "developer" => {
                let text = content(message)?;
                out += &format!("<|start|>developer<|message|># Instructions\n\n{text}\n\n<|end|>");
            }
            role => return Err(refused(&format!("there is no role `{role}` in the Harmony format"))),
        }
    }
    if prompted {
        out += "<|start|>assistant";
    }
    Ok(out)
}

/// The template writes one call of a message, and refuses thoughts and words beside it.
pub(super) fn beyond_templates(message: &Message) -> bool {
    let speaks = !matches!(&message.content, Value::Null) && message.content != "";
    let thinks = message.reasoning.as_ref().is_some_and(|text| !text.is_empty());
    message.tool_calls.len() > 1 || (!message.tool_calls.is_empty() && speaks && thinks)
}

fn system(variables: &Map<String, Value>, now: Moment, has_tools: bool) -> String {
    let text = |name: &str, default: &'static str| {
        variables.get(name).and_then(Value::as_str).unwrap_or(default).to_owned()
    };
    let mut out = format!(
        "{}\nKnowledge cutoff: {}\nCurrent date: {}\n\nReasoning: {}\n\n",
        text("model_identity", IDENTITY),
        text("knowledge_cutoff", CUTOFF),
        now.format("%Y-%m-%d"),
        text("reasoning_effort", "medium"),
    );
    let builtin = variables.get("builtin_tools").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if !builtin.is_empty() {
        out += "# Tools\n\n";
        for (name, description) in [("browser", BROWSER), ("python", PYTHON)] {
            if builtin.iter().any(|tool| tool == name) {
                out += description;
            }
        }
    }
    out += CHANNELS;
    if has_tools {
        out += "\nCalls to these tools must go to the commentary channel: 'functions'.";
    }
    out
}

/// A message of an assistant on a channel.
fn said(channel: &str, text: &str, end: &str, out: &mut String) {
    *out += &format!("<|start|>assistant<|channel|>{channel}<|message|>{text}{end}");
}

/// An assistant's message that calls: its thoughts, unless an answer came of them later, and the calls.
fn assistant_calls(message: &Value, later: &[Value], out: &mut String) -> Result<()> {
    let is_answer = |message: &Value| member(message, "role") == "assistant" && calls(message).is_empty();
    let answered = later.iter().any(is_answer);
    let (thought, preamble) = (reasoning(message), content(message)?);
    match (thought.is_empty(), preamble.is_empty()) {
        _ if answered && (thought.is_empty() || preamble.is_empty()) => {}
        (true, true) => {}
        // One text beside a call is the thought that led to it.
        (true, false) => said("analysis", &preamble, "<|end|>", out),
        (false, true) => said("analysis", thought, "<|end|>", out),
        (false, false) => {
            if !answered {
                said("analysis", thought, "<|end|>", out);
            }
            said("commentary", &preamble, "<|end|>", out);
        }
    }
    for call in calls(message) {
        let kind = call.get("content_type").and_then(Value::as_str).unwrap_or("json");
        let arguments = json::line(call.get("arguments").unwrap_or(&Value::Null));
        let name = recipient(member(call, "name"));
        *out += &format!(
            "<|start|>assistant to={name}<|channel|>commentary {kind}<|message|>{arguments}<|call|>"
        );
    }
    Ok(())
}

/// A tool with its namespace.
fn recipient(name: &str) -> String {
    format!("functions.{name}")
}

/// The tool whose call a message answers: the one with its id, else the last one.
fn answered(message: &Value, called: &[Value]) -> Option<String> {
    let message_calls = called.first()?.get("tool_calls")?.as_array()?;
    let id = message.get("tool_call_id").filter(|id| id.is_string());
    let by_id = message_calls.iter().find(|call| id.is_some() && call.get("id") == id);
    let call = by_id.or(message_calls.last())?;
    Some(recipient(member(call.get("function").unwrap_or(call), "name")))
}

/// The model's own tools, in the words it was trained with.
const BROWSER: &str = "## browser

// Tool for browsing.
// The `cursor` appears in brackets before each browsing display: `[{cursor}]`.
// Cite information from the tool using the following format:
// `【{cursor}†L{line_start}(-L{line_end})?】`, for example: `【6†L9-L11】` or `【8†L3】`.
// Do not quote more than 10 words directly from the tool output.
// sources=web (default: web)
namespace browser {

// Searches for information related to `query` and displays `topn` results.
type search = (_: {
query: string,
topn?: number, // default: 10
source?: string,
}) => any;

// Opens the link `id` from the page indicated by `cursor` starting at line number `loc`, showing `num_lines` lines.
// Valid link ids are displayed with the formatting: `【{id}†.*】`.
// If `cursor` is not provided, the most recent page is implied.
// If `id` is a string, it is treated as a fully qualified URL associated with `source`.
// If `loc` is not provided, the viewport will be positioned at the beginning of the document or centered on the most relevant passage, if available.
// Use this function without `id` to scroll to a new location of an opened page.
type open = (_: {
id?: number | string, // default: -1
cursor?: number, // default: -1
loc?: number, // default: -1
num_lines?: number, // default: -1
view_source?: boolean, // default: false
source?: string,
}) => any;

// Finds exact matches of `pattern` in the current page, or the page given by `cursor`.
type find = (_: {
pattern: string,
cursor?: number, // default: -1
}) => any;

} // namespace browser

";

const PYTHON: &str = "## python

Use this tool to execute Python code in your chain of thought. The code will not be shown to the user. This tool should be used for internal reasoning, but not for code that is intended to be visible to the user (e.g. when creating plots, tables, or files).

When you send a message containing Python code to python, it will be executed in a stateful Jupyter notebook environment. python will respond with the output of the execution or time out after 120.0 seconds. The drive at '/mnt/data' can be used to save and persist user files. Internet access for this session is UNKNOWN. Depends on the cluster.

";
