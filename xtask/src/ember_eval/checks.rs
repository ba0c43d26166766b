//! The checks of the sealed test. Each means what the lambda of the same purpose in `models/ember/recipe/sealed.py`
//! means.

use serde::Deserialize;
use serde_json::Value;

/// What an answer must be like. "The answer" is what follows the last `</think>`, trimmed.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Check {
    /// The answer holds one of these, upper and lower case alike.
    ContainsAny {
        /// Key phrases.
        phrases: Vec<String>,
    },
    /// The answer holds this.
    Contains {
        /// The text.
        text: String,
    },
    /// The answer is this.
    Equals {
        /// The text.
        text: String,
    },
    /// The last number of the answer, in digits with perhaps a minus before them, is this.
    LastNumber {
        /// The number.
        number: i64,
    },
    /// The answer holds this as a whole word so many times.
    WordAtLeast {
        /// The word.
        word: String,
        /// How often at least.
        count: usize,
    },
    /// The answer is long enough, and its first sentences hold none of these words.
    NoPronoun {
        /// The words.
        forbidden: Vec<String>,
        /// How many sentences are looked at.
        sentences: usize,
        /// The answer must have more characters than this.
        longer_than: usize,
    },
    /// The answer is this JSON value.
    JsonEquals {
        /// The value.
        value: Value,
    },
    /// The answer is a JSON object.
    JsonObject {},
    /// The first tool call of the raw output is this call.
    ToolCall {
        /// Name of the function.
        name: String,
        /// Its arguments.
        arguments: Value,
    },
    /// The answer names so many of these words, none twice.
    ListDistinct {
        /// The words that count, in lower case.
        words: Vec<String>,
        /// How many.
        count: usize,
    },
}

/// True when a generated text (without its end token, other special tokens kept) passes.
pub fn passes(check: &Check, raw: &str) -> bool {
    let answer = raw.rsplit("</think>").next().unwrap_or(raw).trim();
    match check {
        Check::ContainsAny { phrases } => {
            let answer = answer.to_lowercase();
            phrases.iter().any(|phrase| answer.contains(&phrase.to_lowercase()))
        }
        Check::Contains { text } => answer.contains(text.as_str()),
        Check::Equals { text } => answer == text,
        Check::LastNumber { number } => last_number(answer) == Some(number.to_string().as_str()),
        Check::WordAtLeast { word, count } => words(answer).filter(|found| found == word).count() >= *count,
        Check::NoPronoun { forbidden, sentences, longer_than } => {
            answer.chars().count() > *longer_than
                && !words(first_sentences(answer, *sentences)).any(|word| forbidden.iter().any(|f| f == word))
        }
        Check::JsonEquals { value } => json(answer).is_some_and(|found| equal(&found, value)),
        Check::JsonObject {} => json(answer).is_some_and(|found| found.is_object()),
        Check::ToolCall { name, arguments } => tool_call(raw).is_some_and(|call| {
            call.get("name").and_then(Value::as_str) == Some(name)
                && call.get("arguments").is_some_and(|found| equal(found, arguments))
        }),
        Check::ListDistinct { words, count } => {
            let answer = answer.to_lowercase();
            let mut found: Vec<&str> = answer
                .split(|c: char| !c.is_ascii_lowercase())
                .filter(|word| words.iter().any(|known| known == word))
                .collect();
            let named = found.len();
            found.sort_unstable();
            found.dedup();
            named == *count && found.len() == *count
        }
    }
}

/// Runs of letters, digits and underscores.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// The last run of digits, with the minus before it if there is one.
fn last_number(text: &str) -> Option<&str> {
    let end = text.rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = text[..end].rfind(|c: char| !c.is_ascii_digit());
    match start {
        None => Some(&text[..end]),
        Some(at) if text[at..].starts_with('-') => Some(&text[at..end]),
        Some(at) => Some(text[at..end].trim_start_matches(|c: char| !c.is_ascii_digit())),
    }
}

/// The text before the `count`-th white space that follows a full stop, exclamation or question mark.
fn first_sentences(text: &str, count: usize) -> &str {
    let ends = text
        .char_indices()
        .zip(text.chars().skip(1))
        .filter(|((_, mark), next)| matches!(mark, '.' | '!' | '?') && next.is_whitespace());
    let end = ends.map(|((at, mark), _)| at + mark.len_utf8()).nth(count.saturating_sub(1));
    &text[..end.unwrap_or(text.len())]
}

/// The JSON object of the first `<tool_call>` that is closed.
fn tool_call(raw: &str) -> Option<Value> {
    let (_, rest) = raw.split_once("<tool_call>\n")?;
    let (body, _) = rest.split_once("\n</tool_call>")?;
    json(body)
}

fn json(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

/// Equality of JSON values in which 3 and 3.0 are the same number and the order of keys does not matter.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn assert_passes(check: Value, expected: &[(&str, bool)]) {
        let check: Check = serde_json::from_value(check).unwrap();
        for (raw, passed) in expected {
            assert_eq!(passes(&check, raw), *passed, "{raw:?} against {check:?}");
        }
    }

    #[test]
    fn only_the_answer_counts_not_the_thought() {
        assert_passes(
            json!({"kind": "equals", "text": "Yes."}),
            &[
                ("Yes.", true),
                ("<think>\nNo.\n</think>\n\nYes.\n", true),
                ("<think>a</think>No.</think> Yes.", true),
                ("<think>\nYes.", false),
                ("Yes. Yes.", false),
            ],
        );
    }

    #[test]
    fn phrases_ignore_case_texts_do_not() {
        let any = json!({"kind": "contains_any", "phrases": ["gpt-oss", "Qwen"]});
        assert_passes(any, &[("Try GPT-OSS.", true), ("qwen3", true), ("Gemma", false), ("", false)]);
        let exact = json!({"kind": "contains", "text": "fox"});
        assert_passes(exact, &[("foxes", true), ("Fox", false)]);
    }

    #[test]
    fn the_last_number_is_compared_as_written() {
        let check = json!({"kind": "last_number", "number": 8});
        assert_passes(
            check,
            &[
                ("52 - 44 = 8.", true),
                ("8", true),
                ("8 or 9", false),
                ("08", false),
                ("-8", false),
                ("é8", true),
            ],
        );
        assert_passes(json!({"kind": "last_number", "number": -8}), &[("44-52=-8", true), ("0-8", true)]);
        assert_passes(json!({"kind": "last_number", "number": 0}), &[("no number", false), ("", false)]);
    }

    #[test]
    fn words_are_whole() {
        let check = json!({"kind": "word_at_least", "word": "Ann", "count": 3});
        assert_passes(
            check,
            &[
                ("Ann, Ann's, \"Ann\"", true),
                ("Ann Ann Anna", false),
                ("Ann Ann Ann_", false),
                ("Ann Ann Annä", false),
                ("ann Ann Ann", false),
            ],
        );
    }

    #[test]
    fn pronouns_count_in_the_first_sentences_only() {
        let check =
            json!({"kind": "no_pronoun", "forbidden": ["he", "He"], "sentences": 4, "longer_than": 30});
        assert_passes(
            check,
            &[
                ("She was here. The sun shone. She saw it. Good. He too.", true),
                ("She was here. The sun shone. She saw it! He did too.", false),
                ("She was here.The sun shone.\nShe saw it. Then? He too.", false), // no space is no end
                ("She went there. Where? To the hen.", true),
                ("She was here. He too.", false),
                ("She went.", false), // short
            ],
        );
    }

    #[test]
    fn json_is_compared_by_value() {
        let check = json!({"kind": "json_equals", "value": {"name": "Bo", "age": 3}});
        assert_passes(
            check,
            &[
                (r#"{"age": 3, "name": "Bo"}"#, true),
                (r#"<think>x</think> {"name":"Bo","age":3.0}"#, true),
                (r#"{"name": "Bo", "age": "3"}"#, false),
                (r#"{"name": "Bo", "age": 3, "city": "X"}"#, false),
                (r#"{"name": "Bo"}"#, false),
                (r#"{"name": "Bo", "age": 3} ok"#, false),
                (r#"{"name": "Bo", "age": 3"#, false),
            ],
        );
        assert_passes(
            json!({"kind": "json_object"}),
            &[("{}", true), ("[]", false), ("{", false), ("3", false)],
        );
    }

    #[test]
    fn the_first_closed_tool_call_counts() {
        let check = json!({"kind": "tool_call", "name": "add", "arguments": {"a": 1, "b": 2}});
        let call = r#"{"name": "add", "arguments": {"b": 2, "a": 1}}"#;
        let other = r#"{"name": "sub", "arguments": {"b": 2, "a": 1}}"#;
        assert_passes(
            check,
            &[
                (&format!("<tool_call>\n{call}\n</tool_call>"), true),
                (
                    &format!("I add.\n<tool_call>\n{call}\n</tool_call>\n<tool_call>\n{other}\n</tool_call>"),
                    true,
                ),
                (&format!("<tool_call>\n{other}\n</tool_call>\n<tool_call>\n{call}\n</tool_call>"), false),
                (&format!("<tool_call>\n{call}"), false),
                (&format!("<tool_call>{call}</tool_call>"), false),
                (call, false),
                ("<tool_call>\n[1]\n</tool_call>", false),
            ],
        );
    }

    #[test]
    fn lists_are_counted_without_repetition() {
        let check = json!({"kind": "list_distinct", "words": ["fox", "owl", "cat"], "count": 2});
        assert_passes(
            check,
            &[
                ("Fox and owl.", true),
                ("Fox, zebra and owl.", true),
                ("Fox and fox.", false),
                ("Fox, owl and cat.", false),
                ("Fox, owl, fox.", false),
                ("foxes and owls", false),
            ],
        );
    }

    #[test]
    fn an_unknown_check_is_refused() {
        assert!(serde_json::from_value::<Check>(json!({"kind": "rhymes"})).is_err());
        assert!(serde_json::from_value::<Check>(json!({"kind": "equals", "text": "a", "case": 1})).is_err());
    }
}
