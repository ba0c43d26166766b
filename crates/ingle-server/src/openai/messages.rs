//! A conversation in the API's words.

use crate::ask::Input;
use crate::fields::Fields;
use crate::problem::Problem;
use ingle_engine::{ChatRequest, Language};
use ingle_text::Message;
use serde_json::{Map, Value};

/// Efforts that templates know.
pub(crate) const EFFORTS: [&str; 6] = ["none", "minimal", "low", "medium", "high", "xhigh"];

/// Fields of messages that templates read beside those that all messages have.
const FOR_TEMPLATES: [&str; 3] = ["prefix", "tool_responses", "tools"];
/// What clients send back of answers they got elsewhere, and no template reads.
const OF_ANSWERS: [&str; 4] = ["annotations", "audio", "function_call", "refusal"];

/// A conversation, read.
#[derive(Debug)]
pub(crate) struct Conversation {
    request: ChatRequest,
    /// Whether its last message is to go on.
    continues: bool,
    pub(crate) variables: Variables,
}

impl Conversation {
    /// The tools on offer.
    pub(crate) fn tools(&self) -> &[Value] {
        &self.request.tools
    }

    /// What it asks of a model.
    pub(crate) fn input(&self) -> Input {
        let request = self.request.clone();
        if self.continues { Input::Continue(request) } else { Input::Chat(request) }
    }
}

/// What a request wants the template to know.
#[derive(Debug, Default)]
pub(crate) struct Variables(Vec<(String, Vec<String>)>);

impl Variables {
    /// Of what `field` says, one of the variables `names` is to reach the template.
    pub(crate) fn want(&mut self, field: &str, names: &[&str]) {
        self.0.push((field.to_owned(), names.iter().map(|&name| name.to_owned()).collect()));
    }

    /// What the answer has to mention: fields that nothing of reaches this model.
    pub(crate) fn unread(&self, language: &Language) -> Vec<String> {
        let unread =
            self.0.iter().filter(|(_, names)| !names.iter().any(|name| language.template_reads(name)));
        unread
            .map(|(field, _)| format!("{field} has no effect: the model's template does not look at it"))
            .collect()
    }
}

/// The messages, tools and template variables of a request.
///
/// # Errors
/// Whatever is missing, of a wrong type, or a picture.
pub(crate) fn conversation(fields: &mut Fields) -> Result<Conversation, Problem> {
    let given: Vec<Value> = fields.required("messages")?;
    if given.is_empty() {
        return Err(Problem::field("messages", "`messages` is empty: there is nothing to answer"));
    }
    let mut messages = Vec::with_capacity(given.len());
    for (index, value) in given.iter().enumerate() {
        messages.push(message(index, value, &mut fields.warnings)?);
    }
    let mut tools = tools(fields)?;
    // whoever wants no call offers no tools
    if fields.peek("tool_choice").and_then(Value::as_str) == Some("none") {
        tools.clear();
    }
    let mut variables: Map<String, Value> = fields.optional("chat_template_kwargs")?.unwrap_or_default();
    if let Some(name) = ["messages", "tools"].into_iter().find(|&name| variables.contains_key(name)) {
        let message = format!("`chat_template_kwargs` cannot have `{name}`, which is a field of its own");
        return Err(Problem::field("chat_template_kwargs", message));
    }
    let mut wanted: Vec<(String, Vec<String>)> = variables
        .keys()
        .map(|name| (format!("`{name}` of `chat_template_kwargs`"), vec![name.clone()]))
        .collect();
    if let Some(effort) = fields.optional::<String>("reasoning_effort")? {
        let names: &[&str] = match effort.as_str() {
            "none" => &["enable_thinking", "thinking"],
            effort if EFFORTS.contains(&effort) => &["reasoning_effort"],
            _ => {
                let message = format!("`reasoning_effort` is `{effort}`; it can be {}", EFFORTS.join(", "));
                return Err(Problem::field("reasoning_effort", message));
            }
        };
        for &name in names {
            let value = if effort == "none" { false.into() } else { Value::from(effort.as_str()) };
            variables.entry(name).or_insert(value);
        }
        wanted.push(("`reasoning_effort`".into(), names.iter().map(|&name| name.to_owned()).collect()));
    }
    let continues = continues(fields, &messages, &mut variables)?;
    let request = ChatRequest { messages, tools, variables };
    Ok(Conversation { request, continues, variables: Variables(wanted) })
}

/// Takes `tools`.
///
/// # Errors
/// A tool that is no function, or has no name.
pub(crate) fn tools(fields: &mut Fields) -> Result<Vec<Value>, Problem> {
    let tools: Vec<Value> = fields.optional("tools")?.unwrap_or_default();
    for (index, tool) in tools.iter().enumerate() {
        let name = tool.get("function").and_then(|function| function.get("name")).and_then(Value::as_str);
        if tool.get("type").and_then(Value::as_str) != Some("function") || name.is_none_or(str::is_empty) {
            let message = format!(
                "tool {index} is not of the form {{\"type\": \"function\", \"function\": {{\"name\": ..}}}}"
            );
            return Err(Problem::field("tools", message));
        }
    }
    Ok(tools)
}

/// Whether the last message is to go on: if it is the assistant's, it is, unless the request wants an answer to it.
fn continues(
    fields: &mut Fields,
    messages: &[Message],
    variables: &mut Map<String, Value>,
) -> Result<bool, Problem> {
    let wanted = fields.optional::<bool>("continue_final_message")?;
    let prompted = fields.optional::<bool>("add_generation_prompt")?;
    if wanted == Some(true) && prompted == Some(true) {
        let message =
            "`continue_final_message` and `add_generation_prompt` exclude each other; send one of them";
        return Err(Problem::field("continue_final_message", message));
    }
    let last = messages.last().filter(|last| last.role == "assistant");
    if wanted == Some(true) && last.is_none() {
        let message = "`continue_final_message` needs a last message of the assistant";
        return Err(Problem::field("continue_final_message", message));
    }
    let open = last.is_some_and(|last| last.tool_calls.is_empty());
    let continues = wanted.unwrap_or(open && prompted.is_none());
    if let Some(prompted) = prompted {
        variables.insert("add_generation_prompt".into(), prompted.into());
    }
    if continues {
        // the assistant's turn has to be open to go on
        variables.shift_remove("add_generation_prompt");
    }
    Ok(continues)
}

fn message(index: usize, value: &Value, warnings: &mut Vec<String>) -> Result<Message, Problem> {
    let mut message =
        Message::from_json(index, value).map_err(|error| Problem::field("messages", error.to_string()))?;
    let bad = |what: String| Err(Problem::field("messages", format!("message {index} {what}")));
    let extra = std::mem::take(&mut message.extra);
    for (name, value) in extra.into_iter().filter(|(_, value)| !value.is_null()) {
        if FOR_TEMPLATES.contains(&name.as_str()) {
            message.extra.insert(name, value);
        } else if !OF_ANSWERS.contains(&name.as_str()) {
            let name: String = name.chars().take(80).collect();
            return bad(format!("has a field `{name}` that is not known here; leave it out"));
        } else if value.as_array().is_none_or(|list| !list.is_empty()) {
            warnings.push(format!("`{name}` of message {index} has no effect here"));
        }
    }
    match &message.content {
        Value::Null | Value::String(_) => {}
        Value::Array(parts) => {
            for part in parts {
                let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
                match kind {
                    "text" if part.get("text").is_some_and(Value::is_string) => {}
                    "text" => return bad("has a text part without `text`".into()),
                    "image_url" | "input_image" | "input_audio" | "file" | "video_url" => {
                        return bad(format!("has a part of type `{kind}`, and this model reads text alone"));
                    }
                    _ => return bad("has a part of a type that is not known here".into()),
                }
            }
        }
        _ => return bad("has a `content` that is neither text nor a list of parts".into()),
    }
    if message.content.is_null() && message.tool_calls.is_empty() && message.role != "assistant" {
        return bad("has no `content`".into());
    }
    Ok(message)
}
