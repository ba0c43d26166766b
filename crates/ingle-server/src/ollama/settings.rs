//! What `/api/chat` and `/api/generate` have in common beside what is to be answered.

use super::options::{self, Options};
use crate::ask::{Ask, Input};
use crate::fields::Fields;
use crate::keep::Keep;
use crate::models::Served;
use crate::openai::chat::MOST_LOGPROBS;
use crate::problem::Problem;
use crate::truncate::Truncate;
use ingle_engine::constraint::{Calls, Form};
use serde_json::{Map, Value};

/// Efforts of thinking.
const EFFORTS: [&str; 4] = ["low", "medium", "high", "max"];

/// Read from a request.
#[derive(Debug)]
pub(super) struct Settings {
    options: Options,
    form: Option<Form>,
    pub(super) think: Option<Think>,
    pub(super) stream: bool,
    pub(super) keep: Option<Keep>,
    logprobs: Option<usize>,
    truncate: Option<Truncate>,
}

impl Settings {
    /// Takes `options`, `format`, `think`, `stream`, `keep_alive`, `truncate`, `shift`, `logprobs` and `top_logprobs`.
    ///
    /// # Errors
    /// Any of them that makes no sense.
    pub(super) fn read(fields: &mut Fields, served: &Served) -> Result<Settings, Problem> {
        if fields.optional("shift")? == Some(true) {
            let told = "`shift` has no effect here: nothing is forgotten, and an answer ends where the context is full";
            fields.warnings.push(told.into());
        }
        let wants_logprobs = fields.optional("logprobs")?.unwrap_or(false);
        let top = fields.number("top_logprobs", 0, MOST_LOGPROBS)?;
        if top.is_some_and(|top| top > 0) && !wants_logprobs {
            return Err(Problem::field("top_logprobs", "`top_logprobs` needs `logprobs` to be true"));
        }
        Ok(Settings {
            keep: keep_alive(fields)?,
            options: options::read(fields, served.engine.about().context)?,
            form: form(fields)?,
            think: Think::read(fields)?,
            stream: fields.optional("stream")?.unwrap_or(true),
            logprobs: wants_logprobs.then_some(top.unwrap_or(0)),
            // only when asked: what Ollama leaves out without a word, whoever asked does not know to be missing
            truncate: (fields.optional("truncate")? == Some(true)).then_some(Truncate::Oldest),
        })
    }

    /// What is asked of the engine.
    pub(super) fn ask(self, input: Input, client: String) -> Ask {
        let Options { sampling, max_tokens, stop } = self.options;
        Ask {
            input,
            sampling,
            max_tokens,
            stop,
            logprobs: self.logprobs,
            prompt_logprobs: None,
            form: self.form,
            calls: Calls::default(),
            truncate: self.truncate,
            choices: 1,
            client,
            priority: 0,
        }
    }
}

/// Takes `keep_alive`: a number of seconds, or a text such as `5m`.
///
/// # Errors
/// Something else.
pub(super) fn keep_alive(fields: &mut Fields) -> Result<Option<Keep>, Problem> {
    let keep = match fields.optional::<Value>("keep_alive")? {
        None => return Ok(None),
        Some(Value::Number(seconds)) => seconds.as_f64().map(Keep::seconds),
        Some(Value::String(text)) => Keep::parse(&text).ok(),
        Some(_) => None,
    };
    let message = "`keep_alive` is a number of seconds, or a text such as \"5m\"";
    keep.map(Some).ok_or_else(|| Problem::field("keep_alive", message))
}

/// Takes `format`: `json`, or a schema.
fn form(fields: &mut Fields) -> Result<Option<Form>, Problem> {
    match fields.optional::<Value>("format")? {
        None => Ok(None),
        Some(Value::String(format)) if format.is_empty() => Ok(None),
        Some(Value::String(format)) if format == "json" => Ok(Some(Form::Object)),
        Some(schema @ Value::Object(_)) => Ok(Some(Form::Schema(schema))),
        Some(_) => {
            Err(Problem::field("format", "`format` is neither \"json\" nor the object of a JSON schema"))
        }
    }
}

/// Whether to think before speaking, and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Think {
    Said(bool),
    Effort(String),
}

impl Think {
    fn read(fields: &mut Fields) -> Result<Option<Think>, Problem> {
        match fields.optional::<Value>("think")? {
            None => Ok(None),
            Some(Value::Bool(think)) => Ok(Some(Think::Said(think))),
            Some(Value::String(effort)) if EFFORTS.contains(&effort.as_str()) => {
                Ok(Some(Think::Effort(effort)))
            }
            Some(_) => {
                let message = format!("`think` can be true, false, {}", EFFORTS.join(", "));
                Err(Problem::field("think", message))
            }
        }
    }

    /// What tells a template of it. Templates have several names for it.
    pub(super) fn variables(&self) -> Map<String, Value> {
        let mut variables = Map::new();
        let whether = *self != Think::Said(false);
        for name in WHETHER {
            variables.insert(name.into(), whether.into());
        }
        if let Think::Effort(effort) = self {
            variables.insert(EFFORT.into(), effort.as_str().into());
        }
        variables
    }

    /// What the answer has to mention: what of it does not reach a model whose template looks at some names.
    pub(super) fn unread(&self, reads: impl Fn(&str) -> bool) -> Option<String> {
        let whether = WHETHER.into_iter().any(&reads);
        match self {
            Think::Said(_) if whether => None,
            Think::Effort(_) if reads(EFFORT) => None,
            Think::Effort(effort) if whether => Some(format!(
                "`{effort}` of `think` has no effect beside that of true: the model's template knows no efforts"
            )),
            _ => Some("`think` has no effect: the model's template does not look at it".into()),
        }
    }
}

const WHETHER: [&str; 2] = ["enable_thinking", "thinking"];
const EFFORT: &str = "reasoning_effort";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: Value) -> Fields {
        Fields::of(value, "the body").unwrap()
    }

    #[test]
    fn formats_are_passed_on_as_forms() {
        let read = |format: Value| form(&mut fields(json!({"format": format})));
        assert_eq!(read(Value::Null).unwrap(), None);
        assert_eq!(read(json!("")).unwrap(), None);
        assert_eq!(read(json!("json")).unwrap(), Some(Form::Object));
        let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
        assert_eq!(read(schema.clone()).unwrap(), Some(Form::Schema(schema)));
        for format in [json!("xml"), json!(1), json!([]), json!(true)] {
            assert_eq!(read(format).unwrap_err().field.as_deref(), Some("format"));
        }
    }

    #[test]
    fn thinking_reaches_templates_by_their_names_or_is_told() {
        let read = |think: Value| Think::read(&mut fields(json!({"think": think})));
        assert_eq!(read(Value::Null).unwrap(), None);
        let no = read(json!(false)).unwrap().unwrap();
        assert_eq!(Value::Object(no.variables()), json!({"enable_thinking": false, "thinking": false}));
        let high = read(json!("high")).unwrap().unwrap();
        assert_eq!(
            Value::Object(high.variables()),
            json!({"enable_thinking": true, "thinking": true, "reasoning_effort": "high"})
        );
        assert_eq!(no.unread(|name| name == "thinking"), None);
        assert_eq!(high.unread(|name| name == "reasoning_effort"), None);
        assert!(high.unread(|name| name == "enable_thinking").unwrap().contains("no efforts"));
        assert!(no.unread(|name| name == "reasoning_effort").unwrap().contains("does not look"));
        assert!(high.unread(|_| false).unwrap().contains("does not look"));
        for think in [json!("much"), json!(1), json!({})] {
            assert_eq!(read(think).unwrap_err().field.as_deref(), Some("think"));
        }
    }

    #[test]
    fn models_stay_as_long_as_is_said() {
        let minutes = |count: u64| Some(Keep::For(std::time::Duration::from_secs(60 * count)));
        for (value, keep) in [
            (json!("5m"), minutes(5)),
            (json!(-1), Some(Keep::Forever)),
            (json!(0), minutes(0)),
            (json!(120), minutes(2)),
            (Value::Null, None),
        ] {
            assert_eq!(keep_alive(&mut fields(json!({"keep_alive": value}))).unwrap(), keep);
        }
        for value in [json!([]), json!("soon"), json!(true)] {
            assert!(keep_alive(&mut fields(json!({"keep_alive": value}))).is_err());
        }
    }
}
