//! The dialects: which markers mean what, where. Data only; the reader is written once over it.
//!
//! A grammar is a table of rules *(within, marker, then)*. `~` at either end of a marker is not part of it: line ends on
//! that side belong to the marker and to nobody's text.

/// What the text at a point of an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// What is said to the person.
    Content,
    /// What the model thinks.
    Reasoning,
    /// Between calls or messages, where only white space is expected. Anything else is content.
    Between,
    /// The header of a Harmony message.
    Header,
    /// A call.
    Call,
}

/// What a marker leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Text of that kind.
    Go(Place),
    /// A call written like this.
    Call(Syntax),
    /// The same; the marker is also the call's first part.
    CallFrom(Syntax),
    /// A header that begins with the marker.
    HeaderFrom,
    /// The end of a call, where none has begun.
    NoCall,
    /// Nothing here: a thought may speak of calls. Should the thought be the last of the answer, it is mentioned.
    Suspect,
}

/// How a call is written between its markers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    /// `{"name": ..., "arguments": {...}}`, or `<function=name><parameter=key>value</parameter></function>`.
    Tagged,
    /// The second of these, opened without the tag around it: it may also end with the answer.
    Function,
    /// `name<|tool_sep|>{...}`, or `function<|tool_sep|>name` and the arguments in a fence.
    DeepSeek,
    /// `name">` and parameters with names and a mark for text.
    Dsml,
    /// The arguments alone; the header has the name.
    Harmony,
    /// `call:name{key:value}` with quotes that are tokens.
    Gemma,
    /// `[{"name": ..., "arguments": {...}}]`, or `name[ARGS]{...}`.
    Mistral,
}

/// One rule: within a place, a marker, and what it leads to.
pub(super) struct Rule(pub(super) Place, pub(super) &'static str, pub(super) Then);

/// A dialect.
pub(super) struct Grammar {
    /// Its name, for those who want to choose.
    pub(super) name: &'static str,
    /// Texts that a chat template of this dialect contains, all of them.
    pub(super) template: &'static [&'static str],
    /// Control tokens that show the dialect where there is no template; none if they cannot.
    pub(super) vocabulary: &'static [&'static str],
    /// Where an answer begins.
    pub(super) start: Place,
    pub(super) rules: &'static [Rule],
}

use Place::{Between, Content, Header, Reasoning};
use Then::{Call, CallFrom, Go, HeaderFrom, NoCall, Suspect};

const IN_CALL: Place = Place::Call;

/// Dialects, those with the most particular evidence first.
pub(super) static GRAMMARS: &[Grammar] = &[
    // gpt-oss: messages with headers. The prompt ends in the header of the first.
    Grammar {
        name: "harmony",
        template: &["<|channel|>", "<|message|>"],
        vocabulary: &["<|start|>", "<|channel|>", "<|message|>", "<|call|>", "<|return|>"],
        start: Header,
        rules: &[
            Rule(Reasoning, "<|end|>", Go(Between)),
            Rule(Reasoning, "<|return|>", Go(Between)),
            Rule(Reasoning, "<|call|>", NoCall),
            Rule(Reasoning, "<|start|>", Go(Header)),
            Rule(Reasoning, "<|channel|>", HeaderFrom),
            Rule(Content, "<|end|>", Go(Between)),
            Rule(Content, "<|return|>", Go(Between)),
            Rule(Content, "<|call|>", NoCall),
            Rule(Content, "<|start|>", Go(Header)),
            Rule(Content, "<|channel|>", HeaderFrom),
            Rule(IN_CALL, "<|call|>", Go(Between)),
            Rule(IN_CALL, "<|end|>", Go(Between)),
            Rule(IN_CALL, "<|return|>", Go(Between)),
            Rule(IN_CALL, "<|start|>", Go(Header)),
            Rule(Between, "<|start|>", Go(Header)),
            Rule(Between, "<|channel|>", HeaderFrom),
            Rule(Between, "<|end|>", Go(Between)),
            Rule(Between, "<|return|>", Go(Between)),
            Rule(Between, "<|call|>", Go(Between)),
        ],
    },
    // DeepSeek V3.2.
    Grammar {
        name: "deepseek-v3.2",
        template: &["｜DSML｜"],
        vocabulary: &["｜DSML｜"],
        start: Content,
        rules: &[
            Rule(Content, "<think>", Go(Reasoning)),
            Rule(Reasoning, "</think>", Go(Content)),
            Rule(Reasoning, "<｜DSML｜function_calls>", Suspect),
            Rule(Content, "~<｜DSML｜function_calls>", Go(Between)),
            Rule(Between, "<｜DSML｜invoke name=\"", Call(Syntax::Dsml)),
            Rule(IN_CALL, "</｜DSML｜invoke>", Go(Between)),
            Rule(Between, "</｜DSML｜function_calls>~", Go(Content)),
        ],
    },
    // DeepSeek V3, R1, V3.1 and what was distilled from them.
    Grammar {
        name: "deepseek",
        template: &["<｜tool▁calls▁begin｜>"],
        vocabulary: &[],
        start: Content,
        rules: &[
            Rule(Content, "<think>~", Go(Reasoning)),
            Rule(Reasoning, "~</think>~", Go(Content)),
            Rule(Reasoning, "<｜tool▁calls▁begin｜>", Suspect),
            Rule(Content, "~<｜tool▁calls▁begin｜>", Go(Between)),
            Rule(Content, "~<｜tool▁call▁begin｜>", Call(Syntax::DeepSeek)),
            Rule(Between, "<｜tool▁call▁begin｜>", Call(Syntax::DeepSeek)),
            Rule(IN_CALL, "<｜tool▁call▁end｜>", Go(Between)),
            Rule(IN_CALL, "<｜tool▁calls▁end｜>", Go(Content)),
            Rule(Between, "<｜tool▁calls▁end｜>", Go(Content)),
        ],
    },
    // Gemma 4.
    Grammar {
        name: "gemma4",
        template: &["<|tool_call>", "<tool_call|>"],
        vocabulary: &[],
        start: Content,
        rules: &[
            Rule(Content, "<|channel>thought\n", Go(Reasoning)),
            Rule(Reasoning, "~<channel|>~", Go(Content)),
            Rule(Reasoning, "<|tool_call>", Suspect),
            Rule(Content, "~<|tool_call>", Call(Syntax::Gemma)),
            Rule(IN_CALL, "<tool_call|>~", Go(Content)),
        ],
    },
    // Qwen3-Coder, Qwen3.5.
    Grammar {
        name: "qwen-xml",
        template: &["<tool_call>", "<function="],
        vocabulary: &[],
        start: Content,
        rules: &[
            Rule(Content, "<think>~", Go(Reasoning)),
            Rule(Reasoning, "~</think>~", Go(Content)),
            Rule(Reasoning, "<tool_call>", Suspect),
            Rule(Content, "~<tool_call>", Call(Syntax::Tagged)),
            Rule(Content, "~<function=", CallFrom(Syntax::Function)),
            Rule(IN_CALL, "</tool_call>~", Go(Content)),
        ],
    },
    // Qwen2.5, Qwen3, Hermes and many others.
    Grammar {
        name: "hermes",
        template: &["<tool_call>"],
        vocabulary: &[],
        start: Content,
        rules: &[
            Rule(Content, "<think>~", Go(Reasoning)),
            Rule(Reasoning, "~</think>~", Go(Content)),
            Rule(Reasoning, "<tool_call>", Suspect),
            Rule(Content, "~<tool_call>", Call(Syntax::Tagged)),
            Rule(IN_CALL, "</tool_call>~", Go(Content)),
        ],
    },
    // Mistral.
    Grammar {
        name: "mistral",
        template: &["[TOOL_CALLS]"],
        vocabulary: &[],
        start: Content,
        rules: &[
            Rule(Content, "[THINK]~", Go(Reasoning)),
            Rule(Reasoning, "~[/THINK]~", Go(Content)),
            Rule(Reasoning, "[TOOL_CALLS]", Suspect),
            Rule(Content, "~[TOOL_CALLS]", Call(Syntax::Mistral)),
            Rule(IN_CALL, "[TOOL_CALLS]", Call(Syntax::Mistral)),
        ],
    },
    // Models that think and call nothing.
    Grammar {
        name: "think",
        template: &["<think>"],
        vocabulary: &["<think>", "</think>"],
        start: Content,
        rules: &[Rule(Content, "<think>~", Go(Reasoning)), Rule(Reasoning, "~</think>~", Go(Content))],
    },
];

/// Text as it is.
pub(super) static PLAIN: Grammar =
    Grammar { name: "plain", template: &[], vocabulary: &[], start: Content, rules: &[] };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_marker_begins_or_holds_another_of_the_same_place() {
        for grammar in GRAMMARS {
            for (at, rule) in grammar.rules.iter().enumerate() {
                for (other_at, other) in grammar.rules.iter().enumerate() {
                    let (one, two) = (rule.1.trim_matches('~'), other.1.trim_matches('~'));
                    let apart = at == other_at || rule.0 != other.0 || !one.contains(two);
                    assert!(apart, "{}: {one} and {two}", grammar.name);
                }
                assert!(!rule.1.trim_matches('~').contains('~'), "{}", rule.1);
            }
        }
    }
}
