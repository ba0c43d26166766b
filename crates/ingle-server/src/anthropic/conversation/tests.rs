use super::*;

fn read(body: &Value) -> Result<(Vec<Message>, Vec<String>), Problem> {
    let mut fields = Fields::of(body.clone(), "the body").unwrap();
    let messages = messages(&mut fields)?;
    Ok((messages, fields.finish()?))
}

/// Messages as templates see them.
fn seen(body: &Value) -> Value {
    let (messages, warnings) = read(body).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    messages.iter().map(Message::to_json).collect()
}

#[test]
fn texts_are_text_however_they_are_sent() {
    let plain = seen(&json!({"system": "Be kind.\nBe short.", "messages": [
        {"role": "user", "content": "Look:\nhere"}, {"role": "assistant", "content": "I see."},
    ]}));
    assert_eq!(
        plain,
        json!([
            {"role": "system", "content": "Be kind.\nBe short."},
            {"role": "user", "content": "Look:\nhere"},
            {"role": "assistant", "content": "I see."},
        ])
    );
    let text = |text: &str| json!({"type": "text", "text": text, "citations": null});
    let blocks = seen(&json!({"system": [text("Be kind."), text("Be short.")], "messages": [
        {"role": "user", "content": [text("Look:"), text("here")]},
        {"role": "assistant", "content": [text("I "), text("see.")]},
    ]}));
    assert_eq!(blocks, plain);
    let turns = seen(&json!({"system": "Be kind.", "messages": [
        {"role": "system", "content": [text("Be short.")]},
        {"role": "user", "content": "Look:"}, {"role": "user", "content": [text("here")]},
        {"role": "assistant", "content": "I "}, {"role": "assistant", "content": "see."},
    ]}));
    assert_eq!(turns, plain);
}

#[test]
fn thoughts_calls_and_results_find_their_places() {
    let body = json!({"messages": [
        {"role": "user", "content": "Is it warm?"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "abc"},
            {"type": "thinking", "thinking": "Ask."},
            {"type": "text", "text": "Wait."},
            {"type": "tool_use", "id": "a", "name": "weather", "input": {"at": "sea"}},
            {"type": "tool_use", "id": "b", "name": "clock", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "b", "content": [
                {"type": "text", "text": "ten"}, {"type": "text", "text": "past"},
            ]},
            {"type": "tool_result", "tool_use_id": "a", "content": "no wind", "is_error": true},
            {"type": "tool_result", "tool_use_id": "a"},
            {"type": "text", "text": "And?"},
        ]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "clock", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "is_error": false}]},
    ]});
    let call = |id: &str, name: &str, arguments: Value| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    assert_eq!(
        seen(&body),
        json!([
            {"role": "user", "content": "Is it warm?"},
            {
                "role": "assistant", "content": "Wait.", "reasoning_content": "Hm.\n\nAsk.",
                "thinking": "Hm.\n\nAsk.",
                "tool_calls": [call("a", "weather", json!({"at": "sea"})), call("b", "clock", json!({}))],
            },
            {"role": "tool", "content": "ten\npast", "tool_call_id": "b", "name": "clock"},
            {"role": "tool", "content": "Error: no wind", "tool_call_id": "a", "name": "weather"},
            {"role": "tool", "content": "", "tool_call_id": "a", "name": "weather"},
            {"role": "user", "content": "And?"},
            {"role": "assistant", "content": null, "tool_calls": [call("c", "clock", json!({}))]},
            {"role": "tool", "content": "", "tool_call_id": "c", "name": "clock"},
        ])
    );
}

#[test]
fn what_does_nothing_is_told() {
    let marked = json!({"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}});
    let body = json!({"system": [marked], "messages": [
        {"role": "user", "content": [marked, {"type": "text", "text": "x", "citations": [{"a": 1}]}]},
        {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]},
    ]});
    let (messages, warnings) = read(&body).unwrap();
    assert_eq!(
        warnings,
        [
            CACHE_CONTROL,
            "messages.0.content.1: `citations` has no effect here",
            "messages.1.content.0: redacted thoughts have no effect: nobody here can read them",
        ]
    );
    assert_eq!((&messages[2].content, &messages[2].reasoning), (&json!(""), &None));
}

#[test]
fn what_cannot_be_is_named() {
    let of = |role: &str, block: Value| json!([{"role": role, "content": [block]}]);
    let picture = json!({"type": "image", "source": {"type": "base64", "data": "x"}});
    let called = |content: Value| {
        json!([
            {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": content}]},
        ])
    };
    for (messages, place) in [
        (json!([]), "empty"),
        (json!(["hi"]), "messages.0: the message is a text"),
        (json!([{"content": "hi"}]), "messages.0: `role`"),
        (json!([{"role": "user"}]), "messages.0: `content`"),
        (json!([{"role": "user", "content": "hi", "name": "x"}]), "messages.0: `name`"),
        (json!([{"role": "tool", "content": "hi"}]), "`user`, `assistant`"),
        (json!([{"role": "user", "content": 7}]), "messages.0.content: "),
        (json!([{"role": "user", "content": []}]), "messages.0.content: "),
        (of("user", json!("hi")), "messages.0.content.0: the block is a text"),
        (of("user", json!({"text": "hi"})), "messages.0.content.0: `type`"),
        (of("user", json!({"type": "text"})), "messages.0.content.0: `text`"),
        (of("user", json!({"type": "text", "text": "x", "txt": 1})), "messages.0.content.0: `txt`"),
        (of("user", picture.clone()), "messages.0.content.0: a block of type `image`"),
        (of("user", json!({"type": "document"})), "`document`"),
        (of("user", json!({"type": "tool_use"})), "`tool_use` cannot be one of the user"),
        (of("assistant", json!({"type": "tool_result"})), "`tool_result` cannot be one of the assistant"),
        (of("assistant", json!({"type": "server_tool_use"})), "`server_tool_use`"),
        (of("assistant", json!({"type": "tool_use", "id": "a", "name": "f", "input": "{}"})), "`input`"),
        (of("assistant", json!({"type": "tool_use", "id": "a", "input": {}})), "`name`"),
        (of("user", json!({"type": "tool_result", "tool_use_id": "z"})), "the id `z`"),
        (called(json!([picture])), "messages.1.content.0.content.0: a block of type `image`"),
        (called(json!(1)), "messages.1.content.0.content: "),
    ] {
        let problem = read(&json!({"messages": messages})).unwrap_err();
        assert!(problem.message.contains(place), "{messages}: {}", problem.message);
        assert_eq!(problem.field.as_deref(), Some("messages"));
    }
    let system = json!({"system": [{"type": "image"}], "messages": [{"role": "user", "content": "hi"}]});
    assert!(read(&system).unwrap_err().message.starts_with("system.0: "));
}
