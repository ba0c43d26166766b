//! How a dialect writes calls, for those who hold a model to making one. Data only.

/// How the calls of an answer are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenCalls {
    /// Before the first call.
    pub begin: &'static str,
    /// Between two calls; `None` where an answer has one call.
    pub between: Option<&'static str>,
    /// After the last call.
    pub end: &'static str,
    /// From a call's beginning to its name.
    pub open: &'static str,
    /// From the name to the arguments.
    pub middle: &'static str,
    /// After the arguments.
    pub close: &'static str,
    /// The arguments.
    pub arguments: WrittenArguments,
}

/// How arguments are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrittenArguments {
    /// As one JSON object.
    Json,
    /// One by one, each with its name.
    Parameters {
        /// From a parameter's beginning to its name.
        open: &'static str,
        /// From the name to a value that is text, written as it is.
        text: &'static str,
        /// From the name to any other value, which is written as JSON.
        json: &'static str,
        /// After the value.
        close: &'static str,
    },
}

use WrittenArguments::{Json, Parameters};

const NONE: WrittenCalls =
    WrittenCalls { begin: "", between: None, end: "", open: "", middle: "", close: "", arguments: Json };

/// By the dialect's name. Where a family writes calls in two ways, both are here.
pub(super) static WRITTEN: &[(&str, WrittenCalls)] = &[
    (
        "harmony",
        WrittenCalls {
            open: "<|channel|>commentary to=functions.",
            middle: " <|constrain|>json<|message|>",
            ..NONE
        },
    ),
    (
        "deepseek-v3.2",
        WrittenCalls {
            begin: "\n\n<｜DSML｜function_calls>\n",
            between: Some(""),
            end: "</｜DSML｜function_calls>",
            open: "<｜DSML｜invoke name=\"",
            middle: "\">\n",
            close: "</｜DSML｜invoke>\n",
            arguments: Parameters {
                open: "<｜DSML｜parameter name=\"",
                text: "\" string=\"true\">",
                json: "\" string=\"false\">",
                close: "</｜DSML｜parameter>\n",
            },
        },
    ),
    (
        "deepseek",
        WrittenCalls {
            begin: "<｜tool▁calls▁begin｜>",
            between: Some("\n"),
            end: "<｜tool▁calls▁end｜>",
            open: "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
            middle: "\n```json\n",
            close: "\n```<｜tool▁call▁end｜>",
            ..NONE
        },
    ),
    (
        "deepseek",
        WrittenCalls {
            begin: "<｜tool▁calls▁begin｜>",
            between: Some(""),
            end: "<｜tool▁calls▁end｜>",
            open: "<｜tool▁call▁begin｜>",
            middle: "<｜tool▁sep｜>",
            close: "<｜tool▁call▁end｜>",
            ..NONE
        },
    ),
    (
        "qwen-xml",
        WrittenCalls {
            between: Some("\n"),
            open: "<tool_call>\n<function=",
            middle: ">\n",
            close: "</function>\n</tool_call>",
            arguments: Parameters {
                open: "<parameter=",
                text: ">\n",
                json: ">\n",
                close: "\n</parameter>\n",
            },
            ..NONE
        },
    ),
    (
        "hermes",
        WrittenCalls {
            between: Some("\n"),
            open: "<tool_call>\n{\"name\": \"",
            middle: "\", \"arguments\": ",
            close: "}\n</tool_call>",
            ..NONE
        },
    ),
    (
        "mistral",
        WrittenCalls {
            begin: "[TOOL_CALLS][",
            between: Some(", "),
            end: "]",
            open: "{\"name\": \"",
            middle: "\", \"arguments\": ",
            close: "}",
            ..NONE
        },
    ),
];

#[cfg(test)]
mod tests {
    use super::super::{AnswerReader, Dialect, Ending, Piece};
    use super::*;
    use serde_json::json;

    /// What is written here is what the reader reads.
    #[test]
    fn written_calls_are_read() {
        for (name, written) in WRITTEN {
            let dialect = Dialect::named(name, None).expect(name);
            let one = |tool: &str| {
                let WrittenCalls { open, middle, close, arguments, .. } = written;
                let arguments = match arguments {
                    Json => "{\"n\": 3, \"s\": \"x\"}".to_owned(),
                    Parameters { open, text, json, close } => {
                        format!("{open}n{json}3{close}{open}s{text}x{close}")
                    }
                };
                format!("{open}{tool}{middle}{arguments}{close}")
            };
            let mut answer = format!("{}{}", written.begin, one("first"));
            if let Some(between) = written.between {
                answer += &format!("{between}{}", one("second"));
            }
            answer += written.end;
            let parameters = json!({"type": "object", "properties": {
                "n": {"type": "integer"}, "s": {"type": "string"}}});
            let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": parameters}});
            let mut reader = AnswerReader::new(&dialect, &[tool("first"), tool("second")], false, false);
            let mut pieces = Vec::new();
            reader.push(&answer, &mut pieces);
            reader.finish(Ending::Turn, &mut pieces);
            let calls: Vec<_> = pieces
                .iter()
                .filter_map(|piece| match piece {
                    Piece::Call { call, .. } => Some((call.name.as_str(), call.arguments.to_string())),
                    Piece::Structure(_) => None,
                    other => panic!("{name}: {other:?} of {answer:?}"),
                })
                .collect();
            let names = if written.between.is_some() { &["first", "second"][..] } else { &["first"] };
            assert_eq!(calls.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names, "{name}");
            for (_, arguments) in calls {
                let text: String = serde_json::from_str(&arguments).unwrap_or(arguments);
                let read: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(read, json!({"n": 3, "s": "x"}), "{name}");
            }
        }
    }

    /// A vocabulary may lack a dialect's control tokens, or spell them as text: a marker that cannot be one led back to
    /// itself, without end.
    #[test]
    fn markers_that_are_no_tokens_are_text() {
        for name in Dialect::names() {
            let dialect = Dialect::named(name, None).expect(name);
            for rule in dialect.markers.iter() {
                let answer = format!("{0}a{0}{0}", rule.marker.text);
                let mut reader = AnswerReader::new(&dialect, &[], false, true);
                let mut pieces = Vec::new();
                reader.push(&answer, &mut pieces);
                reader.finish(Ending::Turn, &mut pieces);
                assert_eq!(pieces.iter().map(Piece::source).collect::<String>(), answer, "{name}");
            }
        }
    }
}
