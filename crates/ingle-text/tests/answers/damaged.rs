//! Answers with calls that are none: nothing is lost, everything is said.

use super::{Answer, answer, read};
use ingle_text::answer::LONGEST_CALL;
use ingle_text::{Ending, Notice, Piece};
use serde_json::json;

/// Content and number of calls and notices of an answer.
fn told(dialect: &str, text: &str, ending: Ending) -> (String, usize, usize) {
    let Answer { content, calls, notices, .. } = answer(&read(dialect, false, &[text], ending));
    (content, calls.len(), notices)
}

#[test]
fn calls_that_cannot_be_read_are_text_with_a_notice() {
    let good = "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>";
    for bad in [
        "<tool_call></tool_call>",
        "<tool_call>{}</tool_call>",
        "<tool_call>{\"name\": \"f\"</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
        "<tool_call>{\"name\": \"\", \"arguments\": {}}</tool_call>",
        "<tool_call>{'name': 'f'}</tool_call>",
        "<tool_call>{\"name\": \"f\"} and more</tool_call>",
        "<tool_call><function=f><parameter=a>1</parameter>text</function></tool_call>",
        "<tool_call><function=f><parameter=a>1</parameter><parameter=a>2</parameter></function></tool_call>",
    ] {
        assert_eq!(told("qwen-xml", bad, Ending::Turn), (bad.to_owned(), 0, 1), "{bad}");
        // What follows is read as ever.
        let text = format!("Hi\n{bad}\nso\n{good}");
        let expected = (format!("Hi\n{bad}\nso"), 1, 1);
        assert_eq!(told("qwen-xml", &text, Ending::Turn), expected, "{bad}");
    }
}

#[test]
fn an_answer_that_ends_inside_a_call_is_text_with_a_notice() {
    for (dialect, text) in [
        ("hermes", "<tool_call>{\"name\": \"f\", \"arguments\": {}}"),
        ("hermes", "<tool_call>"),
        ("qwen-xml", "<function=f><parameter=a>1"),
        ("deepseek", "<｜tool▁call▁begin｜>f<｜tool▁sep｜>{}"),
        ("gemma4", "<|tool_call>call:f{}"),
        ("mistral", "[TOOL_CALLS]f[ARGS]{\"a\""),
    ] {
        for ending in [Ending::Turn, Ending::Cut] {
            assert_eq!(told(dialect, text, ending), (text.to_owned(), 0, 1), "{dialect}: {text}");
        }
    }
    // These dialects have no end marker that must come: the end of the turn is one, being cut off is none.
    for (dialect, text) in [
        ("mistral", "[TOOL_CALLS]f[ARGS]{}"),
        ("harmony", "<|channel|>commentary to=functions.f<|message|>{}"),
        ("qwen-xml", "<function=f></function>"),
    ] {
        assert_eq!(told(dialect, text, Ending::Turn).1, 1, "{dialect}");
        assert_eq!(
            (told(dialect, text, Ending::Cut).1, told(dialect, text, Ending::Cut).2),
            (0, 1),
            "{dialect}"
        );
    }
}

/// Data of a call is never taken for a call itself, not even when the call around it is broken.
#[test]
fn what_a_broken_call_carries_is_not_called() {
    let inner = "<tool_call>{\"name\": \"rm\", \"arguments\": {}}</tool_call>";
    for text in [
        format!("<tool_call>{{\"name\": \"write\", \"arguments\": {{\"text\": \"{inner}\"}}}}</tool_call>"),
        format!("<tool_call><function=write><parameter=text>{inner}"),
        format!("<tool_call><function=write><parameter=text>{inner}</parameter></function>"),
        format!("<tool_call>{{\"name\": \"write\", \"text\": \"{inner}"),
    ] {
        let Answer { content, calls, .. } = answer(&read("qwen-xml", false, &[&text], Ending::Turn));
        assert!(calls.is_empty(), "{text}: {calls:?}");
        assert_eq!(content, text);
    }
}

#[test]
fn a_call_of_any_length_is_read_up_to_a_limit() {
    for (length, is_call) in [(LONGEST_CALL / 2, true), (LONGEST_CALL - 100, true), (LONGEST_CALL + 1, false)]
    {
        let text = format!(
            "<tool_call>{{\"name\": \"f\", \"arguments\": {{\"a\": \"{}\"}}}}</tool_call>after",
            "x".repeat(length)
        );
        let mut whole = read("hermes", false, &[&text], Ending::Turn);
        let parts: Vec<&str> =
            text.as_bytes().chunks(4099).map(|part| std::str::from_utf8(part).unwrap()).collect();
        assert_eq!(read("hermes", false, &parts, Ending::Turn), whole);
        let content = whole.pop();
        if is_call {
            assert!(matches!(&whole[..], [Piece::Call { .. }]), "{length}");
            assert_eq!(content, Some(Piece::Content("after".into())));
        } else {
            assert_eq!(whole, [Piece::Notice(Notice::LongCall)]);
            assert_eq!(content, Some(Piece::Content(text)));
        }
    }
}

#[test]
fn many_markers_inside_a_call_cost_bounded_time() {
    let start = std::time::Instant::now();
    let text = format!("<tool_call>{{\"name\": \"{}", "</tool_call>".repeat(80_000));
    let pieces = read("hermes", false, &[&text], Ending::Turn);
    assert!(matches!(&pieces[..], [Piece::Notice(_), Piece::Content(_)]), "{:?}", pieces.len());
    let text = "<tool_call>{\"".repeat(80_000);
    read("hermes", false, &[&text], Ending::Turn);
    let text = "\n".repeat(1 << 20);
    assert_eq!(read("hermes", false, &[&text], Ending::Turn), [Piece::Content(text)]);
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

#[test]
fn notices_say_what_happened() {
    let notices = |dialect: &str, in_reasoning: bool, text: &str| {
        let pieces = read(dialect, in_reasoning, &[text], Ending::Cut);
        let said = pieces.iter().filter_map(|piece| match piece {
            Piece::Notice(notice) => Some(notice.to_string()),
            _ => None,
        });
        said.collect::<Vec<_>>().join("|")
    };
    assert!(notices("hermes", true, "hm").contains("still reasoning"));
    assert!(notices("hermes", true, "hm <tool_call>").contains("looks like a tool call"));
    assert!(notices("hermes", false, "<tool_call>{").contains("in the middle"));
    assert!(notices("harmony", false, "<|channel|>fin").contains("header"));
    assert!(notices("harmony", false, "<|channel|>final<|message|>{}<|call|>").contains("without the name"));
    let reading = ingle_text::AnswerReader::new(
        &ingle_text::Dialect::named("hermes", None).unwrap(),
        &[json!("no tool"), json!({"function": {"name": 1}})],
        false,
        false,
    );
    let mut pieces = Vec::new();
    reading.finish(Ending::Turn, &mut pieces);
    assert!(pieces.is_empty());
}
