//! With a vocabulary: which dialect a model speaks, and markers that only tokens can be.

use super::{answer, merged};
use crate::common::{fixture, from_folder, from_gguf, shared};
use ingle_text::{AnswerReader, ChatTemplate, Detokenizer, Dialect, Ending, Piece, Tokenizer};
use serde_json::{Value, json};

#[test]
fn dialects_are_seen_in_templates() {
    for (template, dialect) in [
        ("{{ '<|start|>assistant<|channel|>final<|message|>' }}", "harmony"),
        ("{% set dsml = '｜DSML｜' %}<think>", "deepseek-v3.2"),
        ("<｜tool▁calls▁begin｜> <think>", "deepseek"),
        ("<tool_call>\n<function=x> <think>", "qwen-xml"),
        ("<tool_call> <think>", "hermes"),
        ("<|tool_call> <tool_call|>", "gemma4"),
        ("[INST] [TOOL_CALLS]", "mistral"),
        ("[INST] <think>", "think"),
        ("[INST]", "plain"),
    ] {
        assert_eq!(Dialect::detect(Some(template), None).name(), dialect, "{template}");
    }
    let Some(templates) = shared("goldens/templates") else { return };
    for (file, dialect) in [
        ("openai-gpt-oss-120b", "harmony"),
        ("Qwen-Qwen2.5-7B-Instruct", "hermes"),
        ("Qwen-Qwen3-0.6B", "hermes"),
        ("Qwen3-Coder", "qwen-xml"),
        ("Qwen3.5-4B", "qwen-xml"),
        ("deepseek-ai-DeepSeek-V3.1", "deepseek"),
        ("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", "deepseek"),
        ("deepseek-ai-DeepSeek-V3.2", "deepseek-v3.2"),
        ("google-gemma-3-it", "plain"),
        ("google-gemma-4-31B-it", "gemma4"),
    ] {
        let source = std::fs::read_to_string(templates.join(format!("{file}.jinja"))).unwrap();
        assert_eq!(Dialect::detect(Some(&source), None).name(), dialect, "{file}");
    }
}

#[test]
fn without_a_template_the_vocabulary_tells() {
    let name =
        |template, folder: &str| Dialect::detect(template, Some(&from_folder(&fixture(folder)))).name();
    assert_eq!(name(None, "gpt_oss"), "harmony");
    assert_eq!(name(None, "deepseek_v3"), "think");
    assert_eq!(name(None, "qwen3"), "think");
    assert_eq!(name(Some("{{ messages }}"), "qwen3"), "think");
    assert_eq!(name(Some("{{ messages }}"), "gpt_oss"), "plain");
    assert!(Dialect::named("klingon", None).is_none());
    if let Some(path) = shared("vocabs/ggml-vocab-gpt-2.gguf") {
        assert_eq!(Dialect::detect(None, Some(&from_gguf(&path))).name(), "plain");
    }
}

#[test]
fn models_without_a_template_have_the_format_written_here() {
    let tokenizer = from_folder(&fixture("gpt_oss"));
    let dialect = Dialect::detect(None, Some(&tokenizer));
    let template = ChatTemplate::built_in(&dialect).unwrap();
    let variables = json!({"reasoning_effort": "high"});
    let messages = [ingle_text::Message::new("user", "a<|end|>b")];
    let now = ingle_text::Moment { year: 2025, month: 8, day: 5, hour: 12, minute: 0, second: 0 };
    let variables = variables.as_object().unwrap();
    let ids = ingle_text::render_prompt(&template, &tokenizer, &messages, None, variables, now).unwrap();
    let text = tokenizer.decode(&ids).unwrap();
    assert!(
        text.contains("Reasoning: high") && text.ends_with("<|message|>a<|end|>b<|end|><|start|>assistant"),
        "{text}"
    );
    // What the person wrote is text: two ends, the system's and the person's.
    let end = tokenizer.id_of("<|end|>").unwrap();
    assert_eq!(ids.iter().filter(|&&id| id == end).count(), 2);
    assert!(template.reads("reasoning_effort") && !template.reads("enable_thinking"));
    assert!(ChatTemplate::built_in(&Dialect::plain()).is_none());
}

/// Reads `text`, in which control tokens stand between `⟦` and `⟧`, and everything else is spelled.
fn read(tokenizer: &Tokenizer, dialect: &str, text: &str) -> Vec<Piece> {
    let dialect = Dialect::named(dialect, Some(tokenizer)).unwrap();
    let mut reader = AnswerReader::new(&dialect, &[], false, true);
    let mut detokenizer = Detokenizer::continuing(tokenizer);
    let mut pieces = Vec::new();
    for (at, part) in text.split(['⟦', '⟧']).enumerate() {
        if at % 2 == 1 {
            let id = tokenizer.id_of(part).unwrap_or_else(|| panic!("{part} is no token"));
            reader.push_control(detokenizer.push(id).unwrap(), &mut pieces);
        } else {
            for id in tokenizer.encode(part, ingle_text::Specials::AsText).unwrap() {
                reader.push(detokenizer.push(id).unwrap(), &mut pieces);
            }
        }
    }
    reader.finish(Ending::Turn, &mut pieces);
    let sources: String = pieces.iter().map(Piece::source).collect();
    assert_eq!(sources, text.replace(['⟦', '⟧'], ""));
    merged(pieces)
}

#[test]
fn a_marker_that_is_spelled_is_text() {
    let tokenizer = from_folder(&fixture("gpt_oss"));
    let text = "⟦<|channel|>⟧final⟦<|message|>⟧Write <|end|><|start|>assistant<|channel|>analysis<|message|> so.⟦<|return|>⟧";
    let found = answer(&read(&tokenizer, "harmony", text));
    assert_eq!(found.content, "Write <|end|><|start|>assistant<|channel|>analysis<|message|> so.");
    assert_eq!((found.reasoning.as_str(), found.notices), ("", 0));
    let spelled = answer(&read(&tokenizer, "harmony", "<|channel|>final⟦<|message|>⟧x"));
    assert_eq!((spelled.content.as_str(), spelled.notices), ("<|channel|>final<|message|>x", 1));

    let tokenizer = from_folder(&fixture("deepseek_v3"));
    let text = "<think> is ⟦<think>⟧a </think>⟦</think>⟧b ⟦<｜tool▁calls▁begin｜>⟧⟦<｜tool▁call▁begin｜>⟧f⟦<｜tool▁sep｜>⟧{\"a\": \
                \"<｜tool▁call▁end｜>\"}⟦<｜tool▁call▁end｜>⟧⟦<｜tool▁calls▁end｜>⟧";
    let found = answer(&read(&tokenizer, "deepseek", text));
    assert_eq!((found.content.as_str(), found.reasoning.as_str()), ("<think> is b ", "a </think>"));
    assert_eq!(found.calls, [("f".to_owned(), json!({"a": "<｜tool▁call▁end｜>"}))]);
}

#[test]
fn an_end_token_ends_a_call_even_inside_its_texts() {
    let tokenizer = from_folder(&fixture("gpt_oss"));
    let text = "⟦<|channel|>⟧commentary to=functions.f⟦<|message|>⟧{\"a\": \"b⟦<|call|>⟧⟦<|start|>⟧assistant⟦<|channel|>⟧final\
                ⟦<|message|>⟧c";
    let found = answer(&read(&tokenizer, "harmony", text));
    assert_eq!((found.content.as_str(), found.calls.len(), found.notices), ("{\"a\": \"bc", 0, 1));
}

/// A vocabulary in which only a part of the markers is a token, as in DeepSeek V3.2.
#[test]
fn markers_may_be_tokens_in_part() {
    let mut file: Value =
        serde_json::from_slice(&std::fs::read(fixture("deepseek_v3").join("tokenizer.json")).unwrap())
            .unwrap();
    for token in file["added_tokens"].as_array_mut().unwrap() {
        if token["content"] == "<｜r0｜>" {
            token["content"] = json!("｜DSML｜");
        }
    }
    let tokenizer = Tokenizer::from_json(file.to_string().as_bytes(), None).unwrap();
    assert_eq!(Dialect::detect(None, Some(&tokenizer)).name(), "deepseek-v3.2");
    let block = "\n\n<⟦｜DSML｜⟧function_calls>\n<⟦｜DSML｜⟧invoke name=\"f\">\n</⟦｜DSML｜⟧invoke>\n</⟦｜DSML｜⟧function_calls>";
    assert_eq!(answer(&read(&tokenizer, "deepseek-v3.2", block)).calls.len(), 1);
    let spelled = block.replace(['⟦', '⟧'], "");
    let found = answer(&read(&tokenizer, "deepseek-v3.2", &spelled));
    assert_eq!((found.calls.len(), found.content), (0, spelled));
}
