//! Whole answers of each dialect, as the models write them.

use super::{Answer, answer, read};
use ingle_text::{Dialect, Ending, Piece};
use serde_json::{Value, json};

/// An answer, and what is in it.
pub(super) struct Case {
    pub(super) dialect: &'static str,
    pub(super) in_reasoning: bool,
    pub(super) text: String,
    reasoning: &'static str,
    content: &'static str,
    calls: Vec<(&'static str, Value)>,
    notices: usize,
}

fn case(dialect: &'static str, text: &str) -> Case {
    let text = text.to_owned();
    Case { dialect, in_reasoning: false, text, reasoning: "", content: "", calls: vec![], notices: 0 }
}

pub(super) fn cases() -> Vec<Case> {
    let paris = || ("get_weather", json!({"city": "Paris"}));
    let both = || {
        vec![("get_weather", json!({"city": "Köln", "days": 2})), ("search", json!({"queries": ["a", "b"]}))]
    };
    vec![
        Case { content: "Just <b>text</b> & 1 < 2\n", ..case("plain", "Just <b>text</b> & 1 < 2\n") },
        Case { content: "<think>no", ..case("plain", "<think>no") },
        Case {
            reasoning: "hm\n\nhm",
            content: "Yes.\n",
            ..case("think", "<think>\nhm\n\nhm\n</think>\n\nYes.\n")
        },
        Case {
            in_reasoning: true,
            reasoning: "hm",
            content: "Yes.",
            ..case("think", "hm\n</think>\n\nYes.")
        },
        Case { in_reasoning: true, reasoning: "hm", notices: 1, ..case("think", "hm") },
        // Hermes, Qwen2.5, Qwen3
        Case {
            reasoning: "Need it.",
            content: "Looking.",
            calls: both(),
            ..case(
                "hermes",
                "<think>\nNeed it.\n</think>\n\nLooking.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \
                 \"Köln\", \"days\": 2}}\n</tool_call>\n<tool_call>\n{\"name\": \"search\", \"arguments\": {\"queries\": \
                 [\"a\", \"b\"]}}\n</tool_call>",
            )
        },
        Case {
            calls: vec![("search", json!({"queries": ["</tool_call> <tool_call> \" \\ 日本"]}))],
            content: "Done",
            ..case(
                "hermes",
                "<tool_call>{\"name\": \"search\", \"arguments\": {\"queries\": [\"</tool_call> <tool_call> \\\" \\\\ 日本\"]}}\
                 </tool_call>\nDone",
            )
        },
        Case {
            content: "Write <tool_call> and </tool_call> around it: ",
            calls: vec![paris()],
            notices: 1,
            ..case(
                "hermes",
                "Write <tool_call> and </tool_call> around it: <tool_call>{\"name\":\"get_weather\",\"arguments\":\
                 {\"city\":\"Paris\"}}</tool_call>",
            )
        },
        Case {
            in_reasoning: true,
            reasoning: "I call <tool_call>{\"name\": \"f\"}</tool_call>",
            notices: 1,
            ..case("hermes", "I call <tool_call>{\"name\": \"f\"}</tool_call>")
        },
        // Qwen3-Coder, Qwen3.5
        Case {
            in_reasoning: true,
            reasoning: "Need it.",
            content: "Looking.",
            calls: vec![
                ("get_weather", json!({"city": "12\n<b></parameter>", "days": 2, "exact": true})),
                ("search", json!({"queries": ["a"], "opts": {"x": 1}})),
            ],
            ..case(
                "qwen-xml",
                "Need it.\n</think>\n\nLooking.\n\n<tool_call>\n<function=get_weather>\n<parameter=city>\n12\n<b></parameter>\n\
                 </parameter>\n<parameter=days>\n2\n</parameter>\n<parameter=exact>\nTrue\n</parameter>\n</function>\n\
                 </tool_call>\n<tool_call>\n<function=search>\n<parameter=queries>\n[\"a\"]\n</parameter>\n<parameter=opts>\n\
                 {\"x\": 1}\n</parameter>\n</function>\n</tool_call>",
            )
        },
        Case {
            content: "The form is <function=name>.",
            calls: vec![paris()],
            notices: 1,
            ..case(
                "qwen-xml",
                "The form is <function=name>.\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n\
                 </tool_call>",
            )
        },
        Case {
            calls: vec![paris()],
            ..case("qwen-xml", "<function=get_weather><parameter=city>Paris</parameter></function>")
        },
        // DeepSeek
        Case {
            reasoning: "Need it.",
            content: "Looking.",
            calls: both(),
            ..case(
                "deepseek",
                "<think>\nNeed it.\n</think>\n\nLooking.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n\
                 ```json\n{\"city\": \"Köln\", \"days\": 2}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>\
                 search\n```json\n{\"queries\": [\"a\", \"b\"]}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            )
        },
        Case {
            in_reasoning: true,
            reasoning: "Need it.",
            calls: both(),
            ..case(
                "deepseek",
                "Need it.</think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"Köln\", \"days\": 2}\
                 <｜tool▁call▁end｜><｜tool▁call▁begin｜>search<｜tool▁sep｜>{\"queries\": [\"a\", \"b\"]}<｜tool▁call▁end｜>\
                 <｜tool▁calls▁end｜>",
            )
        },
        // DeepSeek V3.2
        Case {
            in_reasoning: true,
            reasoning: "Need it.",
            content: "Looking.",
            calls: both(),
            ..case(
                "deepseek-v3.2",
                "Need it.</think>Looking.\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter \
                 name=\"city\" string=\"true\">Köln</｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" string=\"false\">2\
                 </｜DSML｜parameter>\n</｜DSML｜invoke>\n<｜DSML｜invoke name=\"search\">\n<｜DSML｜parameter name=\"queries\" \
                 string=\"false\">[\"a\", \"b\"]</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
            )
        },
        Case {
            calls: vec![("f", json!({"text": "</｜DSML｜invoke> in it\n"})), ("g", json!({}))],
            content: "After.",
            ..case(
                "deepseek-v3.2",
                "\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"text\" string=\"true\">\
                 </｜DSML｜invoke> in it\n</｜DSML｜parameter>\n</｜DSML｜invoke>\n<｜DSML｜invoke name=\"g\">\n</｜DSML｜invoke>\n\
                 </｜DSML｜function_calls>\nAfter.",
            )
        },
        // Harmony
        Case {
            reasoning: "Simple.",
            content: "4",
            ..case(
                "harmony",
                "<|channel|>analysis<|message|>Simple.<|end|><|start|>assistant<|channel|>final<|message|>4<|return|>",
            )
        },
        Case {
            reasoning: "Need it.",
            content: "I'll look.",
            calls: both(),
            ..case(
                "harmony",
                "<|channel|>analysis<|message|>Need it.<|end|><|start|>assistant<|channel|>commentary<|message|>I'll look.<|end|>\
                 <|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{\"city\": \
                 \"Köln\", \"days\": 2}<|call|><|start|>assistant to=functions.search<|channel|>commentary json<|message|>\
                 {\"queries\": [\"a\", \"b\"]}",
            )
        },
        Case {
            calls: vec![
                ("browser.search", json!({"query": "<|call|>"})),
                ("python", json!("print('a')\n1 + 1")),
            ],
            ..case(
                "harmony",
                "<|channel|>analysis to=browser.search code<|message|>{\"query\": \"<|call|>\"}<|call|><|start|>assistant\
                 <|channel|>analysis to=python code<|message|>print('a')\n1 + 1<|call|>",
            )
        },
        Case {
            reasoning: "a",
            content: "bc",
            ..case(
                "harmony",
                "<|channel|>analysis<|message|>a<|channel|>final<|message|>b<|start|>assistant<|message|>c",
            )
        },
        Case {
            content: "userHello<|message|>x",
            notices: 1,
            ..case("harmony", "<|channel|>final<|message|><|end|><|start|>userHello<|message|>x")
        },
        Case {
            content: "<|channel|>secret<|message|>x",
            notices: 1,
            ..case("harmony", "<|channel|>secret<|message|>x<|return|>")
        },
        Case { content: "No header.", notices: 1, ..case("harmony", "No header.<|return|>") },
        Case {
            content: "{}",
            notices: 1,
            ..case("harmony", "<|channel|>commentary json<|message|>{}<|call|>")
        },
        Case {
            content: "{\"city\": Paris}",
            notices: 1,
            ..case(
                "harmony",
                "<|channel|>commentary to=functions.get_weather<|message|>{\"city\": Paris}<|call|>",
            )
        },
        // Gemma 4
        Case {
            reasoning: "Need it.",
            content: "Done.",
            calls: vec![
                ("get_weather", json!({"city": "Köln <tool_call|>", "days": 2})),
                ("search", json!({"queries": ["a"]})),
            ],
            ..case(
                "gemma4",
                "<|channel>thought\nNeed it.\n<channel|><|tool_call>call:get_weather{city:<|\"|>Köln <tool_call|><|\"|>,days:2}\
                 <tool_call|><|tool_call>call:search{queries:[<|\"|>a<|\"|>]}<tool_call|>Done.",
            )
        },
        // Mistral
        Case {
            content: "Looking.",
            calls: both(),
            ..case(
                "mistral",
                "Looking.[TOOL_CALLS] [{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Köln\", \"days\": 2}}, \
                 {\"name\": \"search\", \"arguments\": {\"queries\": [\"a\", \"b\"]}}]",
            )
        },
        Case {
            reasoning: "hm",
            calls: both(),
            ..case(
                "mistral",
                "[THINK]hm[/THINK][TOOL_CALLS]get_weather[ARGS]{\"city\": \"Köln\", \"days\": 2}[TOOL_CALLS]search[ARGS]\
                 {\"queries\": [\"a\", \"b\"]}",
            )
        },
    ]
}

#[test]
fn answers_are_read_as_they_are_meant() {
    for case in cases() {
        let found = answer(&read(case.dialect, case.in_reasoning, &[&case.text], Ending::Turn));
        let calls = case.calls.into_iter().map(|(name, arguments)| (name.to_owned(), arguments)).collect();
        let expected = Answer {
            reasoning: case.reasoning.into(),
            content: case.content.into(),
            calls,
            notices: case.notices,
        };
        assert_eq!(found, expected, "{}: {}", case.dialect, case.text);
    }
    let covered: Vec<&str> = cases().iter().map(|case| case.dialect).collect();
    assert!(Dialect::names().all(|name| covered.contains(&name)));
}

#[test]
fn text_is_delivered_as_soon_as_it_cannot_be_a_marker() {
    for (dialect, text, waits) in [
        ("hermes", "Hello", ""),
        ("hermes", "Hello <thin", "<thin"),
        ("hermes", "Hello <thing", ""),
        ("hermes", "Hello\n\n", "\n\n"),
        ("hermes", "Hello\n\nyou", ""),
        ("hermes", "Hello <tool_call>", "<tool_call>"),
        ("hermes", "Hello <tool_call> is", ""),
        ("hermes", "Hello <tool_call>{\"name\": ", "<tool_call>{\"name\": "),
        ("plain", "Hello\n\n<think", ""),
        ("harmony", "<|channel|>fin", "<|channel|>fin"),
        ("harmony", "<|channel|>final<|message|>He", ""),
        ("harmony", "<|channel|>final<|message|>He<|", "<|"),
    ] {
        let dialect = Dialect::named(dialect, None).unwrap();
        let mut reader = ingle_text::AnswerReader::new(&dialect, &[], false, false);
        let mut pieces = Vec::new();
        reader.push(text, &mut pieces);
        let delivered: String = pieces.iter().map(Piece::source).collect();
        assert_eq!(text.strip_prefix(delivered.as_str()), Some(waits), "{dialect:?}: {text}");
    }
}

#[test]
fn arguments_keep_every_digit() {
    let text = "<tool_call>{\"name\": \"f\", \"arguments\": {\"id\": 12345678901234567890123, \"x\": 1.50}}</tool_call>";
    let pieces = read("hermes", false, &[text], Ending::Turn);
    let [Piece::Call { call, source, .. }] = &pieces[..] else { panic!("{pieces:?}") };
    assert_eq!(call.arguments, "{\"id\": 12345678901234567890123, \"x\": 1.50}");
    assert_eq!(source, text);
}
