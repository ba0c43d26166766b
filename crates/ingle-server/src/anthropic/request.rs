//! The fields of a request.

use super::conversation::{self, CACHE_CONTROL};
use crate::ask::{Ask, Input};
use crate::fields::Fields;
use crate::openai::constraint::check;
use crate::openai::messages::Variables;
use crate::openai::{one_of, priority, sampling, stop};
use crate::problem::Problem;
use ingle_engine::ChatRequest;
use ingle_engine::constraint::{CallChoice, Calls, Form};
use serde_json::{Map, Value, json};

/// What clients send that has no meaning on one's own machine.
pub(crate) const WITHOUT_EFFECT: [&str; 8] = [
    "metadata",
    "service_tier",
    "container",
    "context_management",
    "diagnostics",
    "inference_geo",
    "speed",
    "user_profile_id",
];
/// What of a request makes no difference to its prompt's length, apart from those.
pub(crate) const OF_ANSWERS: [&str; 6] =
    ["max_tokens", "stop_sequences", "stream", "temperature", "top_p", "top_k"];

/// A request to answer, read.
pub(super) struct Create {
    pub(super) model: Option<String>,
    pub(super) ask: Ask,
    pub(super) stream: bool,
    /// What is to reach the template, by the field that says so.
    pub(super) variables: Variables,
    pub(super) warnings: Vec<String>,
}

/// A request to count, read.
pub(super) struct Count {
    pub(super) model: Option<String>,
    pub(super) input: Input,
    pub(super) variables: Variables,
    pub(super) warnings: Vec<String>,
}

/// Reads `POST /v1/messages`.
///
/// # Errors
/// Whatever is missing, of a wrong type, or not known.
pub(super) fn create(mut fields: Fields, client: String) -> Result<Create, Problem> {
    let model = fields.optional("model")?;
    let prompt = Prompt::take(&mut fields)?;
    let ask = Ask {
        max_tokens: Some(fields.required("max_tokens")?),
        sampling: sampling(&mut fields)?,
        stop: stop(&mut fields, "stop_sequences")?,
        logprobs: None,
        prompt_logprobs: None,
        form: prompt.form,
        calls: prompt.calls,
        truncate: None,
        choices: 1,
        client,
        priority: priority(&mut fields)?,
        input: prompt.input,
    };
    let stream = fields.optional("stream")?.unwrap_or(false);
    fields.without_effect(&WITHOUT_EFFECT);
    Ok(Create { model, ask, stream, variables: prompt.variables, warnings: fields.finish()? })
}

/// Reads `POST /v1/messages/count_tokens`.
///
/// # Errors
/// As [`create`], but for the fields that say how to answer.
pub(super) fn count(mut fields: Fields) -> Result<Count, Problem> {
    let model = fields.optional("model")?;
    let Prompt { input, variables, .. } = Prompt::take(&mut fields)?;
    fields.without_effect(&OF_ANSWERS);
    fields.without_effect(&WITHOUT_EFFECT);
    Ok(Count { model, input, variables, warnings: fields.finish()? })
}

/// What a request says of its prompt, and what an answer to it is held to.
struct Prompt {
    input: Input,
    form: Option<Form>,
    calls: Calls,
    variables: Variables,
}

impl Prompt {
    fn take(fields: &mut Fields) -> Result<Prompt, Problem> {
        // said once, wherever it is
        let marked = fields.optional::<Value>("cache_control")?.is_some();
        let messages = conversation::messages(fields)?;
        let (tools, calls) = tools(fields)?;
        let (mut template, mut variables) = (Map::new(), Variables::default());
        thinking(fields, &mut template, &mut variables)?;
        let form = output(fields, &mut template, &mut variables)?;
        let known = fields.warnings.iter().any(|warning| warning == CACHE_CONTROL);
        if marked && !known {
            fields.warnings.push(CACHE_CONTROL.into());
        }
        // whoever ends with what the assistant says wants it to go on
        let continues = messages.last().is_some_and(|last| last.role == "assistant");
        let request = ChatRequest { messages, tools, variables: template };
        let input = if continues { Input::Continue(request) } else { Input::Chat(request) };
        Ok(Prompt { input, form, calls, variables })
    }
}

/// Takes `tools` and `tool_choice`: the tools as templates expect them, and how they are to be called.
fn tools(fields: &mut Fields) -> Result<(Vec<Value>, Calls), Problem> {
    let given: Vec<Value> = fields.optional("tools")?.unwrap_or_default();
    let mut tools = Vec::with_capacity(given.len());
    for (index, given) in given.into_iter().enumerate() {
        let place = format!("tools.{index}");
        let read = tool(given, &place, &mut fields.warnings);
        tools.push(read.map_err(|problem| Problem::field("tools", format!("{place}: {}", problem.message)))?);
    }
    let Some(choice) = fields.optional::<Value>("tool_choice")? else { return Ok((tools, Calls::default())) };
    let bad = |problem: Problem| Problem::field("tool_choice", format!("tool_choice: {}", problem.message));
    let mut choice = Fields::of(choice, "it").map_err(bad)?;
    let kind: String = choice.required("type").map_err(bad)?;
    let single = choice.optional("disable_parallel_tool_use").map_err(bad)?.unwrap_or(false);
    let calls = match kind.as_str() {
        "auto" => CallChoice::Auto,
        // whoever wants no call offers no tools
        "none" => {
            tools.clear();
            CallChoice::Auto
        }
        "any" => CallChoice::Required,
        "tool" => CallChoice::Named(choice.required("name").map_err(bad)?),
        _ => return Err(bad(Problem::invalid("its type is none of `auto`, `any`, `tool` and `none`"))),
    };
    choice.finish().map_err(bad)?;
    let calls = Calls { choice: calls, single };
    check(&calls, &tools, "tool_choice")?;
    Ok((tools, calls))
}

/// A tool, laid out as templates expect it.
fn tool(given: Value, place: &str, warnings: &mut Vec<String>) -> Result<Value, Problem> {
    let mut given = Fields::of(given, "the tool")?;
    let kind = given.optional::<String>("type")?;
    if let Some(kind) = kind.filter(|kind| kind != "custom") {
        let kind: String = kind.chars().take(80).collect();
        return Err(Problem::invalid(format!(
            "tools of type `{kind}` are not known here: nobody here runs them, and no model knows them by their type; \
             describe it with `name`, `description` and `input_schema`"
        )));
    }
    let name: String = given.required("name")?;
    if name.is_empty() {
        return Err(Problem::invalid("`name` is empty, so the tool cannot be called"));
    }
    let mut function = Map::new();
    function.insert("name".into(), name.into());
    if let Some(description) = given.optional::<String>("description")? {
        function.insert("description".into(), description.into());
    }
    function.insert("parameters".into(), given.required::<Map<String, Value>>("input_schema")?.into());
    if let Some(strict) = given.optional::<bool>("strict")? {
        function.insert("strict".into(), strict.into());
    }
    if given.optional::<Value>("cache_control")?.is_some()
        && !warnings.iter().any(|warning| warning == CACHE_CONTROL)
    {
        warnings.push(CACHE_CONTROL.into());
    }
    given.without_effect(&["allowed_callers", "defer_loading", "eager_input_streaming", "input_examples"]);
    warnings.extend(given.finish()?.into_iter().map(|warning| format!("{place}: {warning}")));
    Ok(json!({"type": "function", "function": function}))
}

/// The names by which templates know whether to think.
const THINKING: [&str; 2] = ["enable_thinking", "thinking"];

/// Takes `thinking`: whether to think, for the template.
fn thinking(
    fields: &mut Fields,
    template: &mut Map<String, Value>,
    variables: &mut Variables,
) -> Result<(), Problem> {
    let Some(thinking) = fields.optional::<Value>("thinking")? else { return Ok(()) };
    let bad = |problem: Problem| Problem::field("thinking", format!("thinking: {}", problem.message));
    let mut thinking = Fields::of(thinking, "it").map_err(bad)?;
    let kind: String = thinking.required("type").map_err(bad)?;
    let wanted = match kind.as_str() {
        "enabled" => {
            thinking.required::<u64>("budget_tokens").map_err(bad)?;
            fields.warnings.push("`budget_tokens` of `thinking` has no effect here: thoughts are as long as `max_tokens` lets them be".into());
            true
        }
        "adaptive" => true,
        "disabled" => false,
        _ => return Err(bad(Problem::invalid("its type is none of `enabled`, `adaptive` and `disabled`"))),
    };
    let display = thinking.optional::<String>("display").map_err(bad)?;
    if display.is_some_and(|display| display != "summarized") {
        fields.warnings.push("`display` of `thinking` has no effect here: thoughts are shown".into());
    }
    thinking.finish().map_err(bad)?;
    template.extend(THINKING.map(|name| (name.to_owned(), wanted.into())));
    variables.want("`thinking`", &THINKING);
    Ok(())
}

/// Takes `output_config` and `output_format`: the form of what is said, and how much effort it is worth.
fn output(
    fields: &mut Fields,
    template: &mut Map<String, Value>,
    variables: &mut Variables,
) -> Result<Option<Form>, Problem> {
    let older = fields.optional::<Value>("output_format")?;
    let older = older.map(|format| schema(format, "output_format")).transpose()?;
    let Some(config) = fields.optional::<Value>("output_config")? else { return Ok(older.map(Form::Schema)) };
    let bad =
        |problem: Problem| Problem::field("output_config", format!("output_config: {}", problem.message));
    let mut config = Fields::of(config, "it").map_err(bad)?;
    let format = config.optional::<Value>("format").map_err(bad)?;
    let format = format.map(|format| schema(format, "output_config")).transpose()?;
    if let Some(effort) = config.optional::<String>("effort").map_err(bad)? {
        let effort = match effort.as_str() {
            "low" | "medium" | "high" | "xhigh" => effort,
            // templates know no more
            "max" => "xhigh".into(),
            _ => {
                return Err(bad(Problem::invalid(
                    "`effort` is none of `low`, `medium`, `high`, `xhigh` and `max`",
                )));
            }
        };
        template.insert("reasoning_effort".into(), effort.into());
        variables.want("`effort` of `output_config`", &["reasoning_effort"]);
    }
    config.finish().map_err(bad)?;
    Ok(one_of("output_config", format, "output_format", older)?.map(Form::Schema))
}

/// The schema of a format, of which there is one kind; `field` is where it stands.
fn schema(format: Value, field: &str) -> Result<Value, Problem> {
    let bad =
        |problem: Problem| Problem::field(field, format!("the format of `{field}`: {}", problem.message));
    let mut format = Fields::of(format, "it").map_err(bad)?;
    if format.required::<String>("type").map_err(bad)? != "json_schema" {
        return Err(bad(Problem::invalid("its type is not `json_schema`, the only one that there is")));
    }
    format.optional::<String>("name").map_err(bad)?;
    let schema = format.required::<Value>("schema").map_err(bad)?;
    format.finish().map_err(bad)?;
    Ok(schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: Value) -> Create {
        let mut body = json!({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        create(Fields::of(body, "the body").unwrap(), String::new()).unwrap()
    }

    fn chat(read: &Create) -> &ChatRequest {
        match &read.ask.input {
            Input::Chat(request) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tools_are_laid_out_as_templates_expect_them() {
        let schema = json!({"type": "object", "properties": {}});
        let tools = json!([
            {"name": "f", "description": "Does f.", "input_schema": schema, "strict": true},
            {"type": "custom", "name": "g", "input_schema": {}, "input_examples": [{}]},
        ]);
        let read = read(json!({"tools": tools, "cache_control": {"type": "ephemeral"}}));
        let function = json!({"name": "f", "description": "Does f.", "parameters": schema, "strict": true});
        let second = json!({"type": "function", "function": {"name": "g", "parameters": {}}});
        assert_eq!(chat(&read).tools, [json!({"type": "function", "function": function}), second]);
        assert_eq!(read.warnings, ["tools.1: `input_examples` has no effect here", CACHE_CONTROL]);
    }

    #[test]
    fn choices_forms_and_limits_reach_the_engine() {
        let tools = json!([{"name": "f", "input_schema": {}}]);
        for (choice, expected, single) in [
            (json!(null), CallChoice::Auto, false),
            (json!({"type": "auto", "disable_parallel_tool_use": true}), CallChoice::Auto, true),
            (json!({"type": "any"}), CallChoice::Required, false),
            (
                json!({"type": "tool", "name": "f", "disable_parallel_tool_use": true}),
                CallChoice::Named("f".into()),
                true,
            ),
        ] {
            let read = read(json!({"tools": tools, "tool_choice": choice}));
            assert_eq!(read.ask.calls, Calls { choice: expected, single });
        }
        let schema = json!({"type": "object"});
        let format = json!({"type": "json_schema", "schema": schema});
        for more in [
            json!({"output_format": format}),
            json!({"output_config": {"format": format}}),
            json!({"output_config": {"format": format}, "output_format": format}),
        ] {
            assert_eq!(read(more).ask.form, Some(Form::Schema(schema.clone())));
        }
        let read = read(json!({"top_k": 3, "top_p": 0.5, "temperature": 1, "stop_sequences": ["a", "b"]}));
        let Ask { sampling, max_tokens, stop, form, choices, .. } = &read.ask;
        assert_eq!((sampling.top_k, sampling.top_p, sampling.temperature), (Some(3), Some(0.5), Some(1.0)));
        assert_eq!(
            (*max_tokens, &stop[..], form, *choices),
            (Some(5), &["a".into(), "b".into()][..], &None, 1)
        );
    }

    #[test]
    fn thinking_and_effort_are_for_the_template() {
        for (kind, expected) in [("disabled", false), ("adaptive", true)] {
            let read = read(json!({"thinking": {"type": kind}}));
            let variables = json!({"enable_thinking": expected, "thinking": expected});
            assert_eq!(Value::from(chat(&read).variables.clone()), variables);
            assert_eq!(read.warnings, Vec::<String>::new());
        }
        let read = read(json!({
            "thinking": {"type": "enabled", "budget_tokens": 9, "display": "omitted"}, "output_config": {"effort": "max"},
        }));
        assert_eq!(chat(&read).variables["reasoning_effort"], "xhigh");
        assert_eq!(read.warnings.len(), 2);
    }
}
