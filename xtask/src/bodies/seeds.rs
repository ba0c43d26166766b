//! Good bodies of all routes, from which bad ones are made.

use serde_json::{Value, json};

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 9, "pattern": "^[A-Z][a-z]*$"},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "tags": {"type": "array", "items": {"enum": ["a", "b", null, 3]}, "minItems": 1, "maxItems": 3},
            "at": {"$ref": "#/$defs/place"},
        },
        "required": ["name", "age"], "additionalProperties": false,
        "$defs": {"place": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}},
    })
}

fn messages() -> Value {
    json!([
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "What is Ingle?"}]},
        {"role": "assistant", "content": "Let me look.", "reasoning_content": "Hm.", "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{\"at\": \"the sea\"}"}},
        ]},
        {"role": "tool", "tool_call_id": "call_1", "content": "blue"},
        {"role": "user", "content": "And?"},
    ])
}

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": schema()}}])
}

/// All of them, with their routes.
pub(super) fn seeds() -> Vec<(&'static str, Value)> {
    let chat = "/v1/chat/completions";
    let hi = || json!([{"role": "user", "content": "hi"}]);
    let forms = [
        json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema()}}),
        json!({"type": "json_object"}),
        json!({"type": "regex", "regex": "(yes|no)[a-z]{1,3}\\d*"}),
        json!({"type": "lark", "lark": "start: \"a\" rest\nrest: /[b-d]+/ | start\n%ignore / /"}),
    ];
    let mut seeds: Vec<(&str, Value)> =
        forms.map(|form| (chat, json!({"messages": hi(), "response_format": form, "max_tokens": 4}))).into();
    let options =
        json!({"temperature": 0.5, "top_k": 5, "num_predict": 3, "stop": ["x"], "seed": 3, "num_ctx": 64});
    seeds.extend([
        (chat, json!({"model": "ember", "messages": messages(), "tools": tools(), "tool_choice": "required", "max_tokens": 4})),
        (chat, json!({
            "messages": messages(), "tools": tools(), "max_completion_tokens": 3, "stream": true,
            "stream_options": {"include_usage": true}, "tool_choice": {"type": "function", "function": {"name": "look"}},
            "parallel_tool_calls": false, "reasoning_effort": "low", "chat_template_kwargs": {"a": 1},
        })),
        (chat, json!({
            "messages": hi(), "temperature": 0.8, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.9, "top_k": 4, "seed": 7,
            "logprobs": true, "top_logprobs": 2, "n": 2, "stop": ["a", "b"], "logit_bias": {"5": -100, "7": 2.5},
            "presence_penalty": 0.5, "frequency_penalty": 0.5, "repetition_penalty": 1.1, "repeat_last_n": 4,
            "dry_multiplier": 0.8, "dry_base": 1.75, "dry_allowed_length": 2, "xtc_probability": 0.5,
            "xtc_threshold": 0.1, "priority": -1, "truncate": "oldest", "max_tokens": 3,
        })),
        (chat, json!({
            "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Well"}],
            "continue_final_message": true, "max_tokens": 2, "stream": true,
        })),
        ("/v1/completions", json!({"prompt": "Once upon", "max_tokens": 3, "echo": true, "stop": "x", "stream": true})),
        ("/v1/completions", json!({"prompt": ["a", "b"], "max_tokens": 2, "logprobs": 2, "n": 2, "truncate": "middle"})),
        ("/v1/completions", json!({"prompt": [[5, 6], [7]], "max_tokens": 2, "response_format": {"type": "regex", "regex": "a*"}})),
        ("/v1/responses", json!({
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
                {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "blue"},
                {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
            ],
            "instructions": "Be kind.", "max_output_tokens": 3, "store": true, "reasoning": {"effort": "low"},
            "tools": [{"type": "function", "name": "look", "parameters": schema(), "strict": true}],
            "metadata": {"a": "b"}, "truncation": "auto",
        })),
        ("/v1/responses", json!({
            "input": "hi", "stream": true, "max_output_tokens": 4, "previous_response_id": "resp_0000000000000000",
        })),
        ("/v1/responses", json!({
            "input": "hi", "stream": true, "max_output_tokens": 4, "tool_choice": "required",
            "tools": [{"type": "function", "name": "look", "parameters": {}}],
            "text": {"format": {"type": "json_schema", "name": "x", "schema": schema()}, "verbosity": "low"},
        })),
        ("/v1/embeddings", json!({"input": ["a", "b"], "encoding_format": "base64", "dimensions": 4})),
        ("/v1/embeddings", json!({"input": [5, 6, 7]})),
        ("/v1/messages", json!({
            "model": "ember", "max_tokens": 3, "system": [{"type": "text", "text": "Be kind."}], "stream": true,
            "messages": [
                {"role": "user", "content": "Is it warm?"},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": ""}, {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "the sea"}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "warm"}]},
                    {"type": "text", "text": "And?", "cache_control": {"type": "ephemeral"}},
                ]},
            ],
            "tools": [{"name": "look", "description": "Looks.", "input_schema": schema(), "strict": true}],
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": true}, "stop_sequences": ["x"],
            "thinking": {"type": "enabled", "budget_tokens": 5}, "metadata": {"user_id": "me"},
        })),
        ("/v1/messages", json!({
            "max_tokens": 3, "messages": hi(), "temperature": 1, "top_k": 3,
            "output_config": {"format": {"type": "json_schema", "schema": schema()}, "effort": "low"},
        })),
        ("/v1/messages/count_tokens", json!({"model": "ember", "messages": hi(), "system": "Be kind."})),
        ("/tokenize", json!({"content": "Hello <|im_start|> world", "add_special": true, "with_pieces": true})),
        ("/detokenize", json!({"tokens": [1, 2, 300]})),
        ("/apply-template", json!({"messages": messages(), "tools": tools(), "add_generation_prompt": true})),
        ("/v1/rerank", json!({"query": "q", "documents": ["a", {"text": "b"}], "top_n": 1, "return_documents": true})),
        ("/rerank", json!({"query": "q", "texts": ["a", "b"], "return_text": true})),
        ("/api/generate", json!({"model": "ember", "prompt": "hi", "options": options, "system": "Be kind.", "format": "json"})),
        ("/api/generate", json!({"model": "ember", "prompt": "hi", "raw": true, "stream": false, "options": options})),
        ("/api/chat", json!({
            "model": "ember:latest", "options": options, "think": "low", "keep_alive": "5m", "tools": tools(),
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [
                    {"function": {"name": "look", "arguments": {"at": "the sea"}}},
                ]},
                {"role": "tool", "tool_name": "look", "content": "blue"},
            ],
        })),
        ("/api/chat", json!({
            "model": "ember", "messages": hi(), "format": schema(), "stream": false, "options": options,
            "logprobs": true, "top_logprobs": 2, "truncate": true, "shift": false,
        })),
        ("/api/embed", json!({"model": "ember", "input": ["a", "b"], "truncate": true, "dimensions": 4})),
        ("/api/embeddings", json!({"model": "ember", "prompt": "a"})),
        ("/api/show", json!({"model": "ember", "verbose": true})),
        ("/api/pull", json!({"model": "ember"})),
        ("/api/push", json!({"model": "ember"})),
        ("/api/create", json!({"model": "ember", "from": "x"})),
        ("/api/copy", json!({"source": "ember", "destination": "x"})),
        ("/api/blobs/sha256:00", json!({})),
    ]);
    seeds
}
