//! The fields of each route's body.

use super::fields::{
    Field, closed, either, field, list, number, open, text, truth, whole, within, without_effect, word,
};
use crate::openai::chat::MOST_LOGPROBS;
use crate::openai::messages::EFFORTS;
use crate::{anthropic, ollama, openai};
use serde_json::json;

const LAST: u64 = u32::MAX as u64;

fn model() -> Field {
    text("model", "The model, by its name or an alias; where there is one, it may be left out")
}

fn model_of_ollama() -> Field {
    text("model", "The model, by its name or an alias, with or without `:latest`").needed()
}

/// Samplers that OpenAI's API does not have.
fn further() -> Vec<Field> {
    vec![
        field(
            "repeat_last_n",
            json!({"type": "integer", "minimum": -1, "maximum": LAST}),
            "Tokens that penalties look back on; -1 is all",
        ),
        number("dry_multiplier", 0.0, 100.0, "How strongly repeated sequences are made unlikely; 0 is off"),
        number("dry_base", 1.0, 100.0, "How that grows with the length of what is repeated"),
        within("dry_allowed_length", 0, LAST, "Tokens that may be repeated without that"),
        field(
            "dry_penalty_last_n",
            json!({"type": "integer", "minimum": -1, "maximum": LAST}),
            "Tokens that it looks back on; -1 is all",
        ),
        number("xtc_probability", 0.0, 1.0, "How often the likeliest tokens are left out; 0 is never"),
        number("xtc_threshold", 0.0, 1.0, "How likely a token has to be for that"),
    ]
}

/// What OpenAI's API and Ollama's have in common.
fn common() -> Vec<Field> {
    let mut fields = vec![
        number("temperature", 0.0, 100.0, "0 takes the likeliest token each time"),
        number("top_p", 0.0, 1.0, "The likeliest tokens that together have this probability"),
        number("min_p", 0.0, 1.0, "Tokens at least this likely, measured by the likeliest"),
        number("typical_p", 0.0, 1.0, "Tokens about as surprising as is to be expected"),
        number("presence_penalty", -100.0, 100.0, "For tokens that were there"),
        number("frequency_penalty", -100.0, 100.0, "For each time that a token was there"),
        number("repeat_penalty", 0.01, 100.0, "Divides the logits of tokens that were there"),
        field("seed", json!({"type": "integer"}), "The same seed and request give the same answer"),
    ];
    fields.extend(further());
    fields
}

fn sampling() -> Vec<Field> {
    let mut fields = common();
    fields.extend([
        within("top_k", 0, LAST, "So many of the likeliest tokens; 0 is all"),
        number("repetition_penalty", 0.01, 100.0, "Another name of `repeat_penalty`"),
        open("logit_bias", "Token ids with what is added to their logits, -100 to 100; -100 is a ban"),
        field(
            "priority",
            json!({"type": "integer", "minimum": -100, "maximum": 0}),
            "How far the request stands back behind others",
        ),
    ]);
    fields
}

fn stop(name: &'static str) -> Field {
    either(name, &["string", "array"], "Texts that end an answer")
}

fn streaming() -> Vec<Field> {
    let counts = truth("include_usage", "A last chunk with the counts of tokens");
    vec![
        truth("stream", "Events instead of a document"),
        closed("stream_options", &[counts], "Only with `stream`"),
    ]
}

fn form() -> Field {
    open(
        "response_format",
        "The form of what is said: `text`, `json_object`, `json_schema`, and beyond the API `regex` and `lark`",
    )
}

fn truncate() -> Field {
    word(
        "truncate",
        &["none", "oldest", "middle"],
        "What is left out of a prompt that is too long; otherwise it is refused",
    )
}

fn choices() -> Field {
    within("n", 1, 128, "So many answers")
}

fn conversation() -> Vec<Field> {
    vec![
        list(
            "messages",
            json!({"type": "object"}),
            "The conversation; a last message of the assistant goes on",
        )
        .needed(),
        list("tools", json!({"type": "object"}), "Functions that the model may call"),
        open("chat_template_kwargs", "Variables of the model's template"),
        word("reasoning_effort", &EFFORTS, "How much to think, where the template knows of it"),
        truth("continue_final_message", "Whether the last message goes on"),
        truth("add_generation_prompt", "Whether the last message is answered"),
    ]
}

pub(crate) fn chat() -> Vec<Field> {
    let mut fields = vec![model()];
    fields.extend(conversation());
    fields.extend([
        either("tool_choice", &["string", "object"], "`auto`, `none`, `required`, or a function by its name"),
        truth("parallel_tool_calls", "Whether there may be several calls"),
        whole("max_completion_tokens", 0, "Most tokens of an answer"),
        whole("max_tokens", 0, "The older name of it"),
        stop("stop"),
        form(),
        truth("logprobs", "How likely each token was"),
        within("top_logprobs", 0, MOST_LOGPROBS as u64, "So many likeliest tokens with each"),
        choices(),
        truncate(),
    ]);
    fields.extend(streaming());
    fields.extend(sampling());
    fields.extend(without_effect(&openai::chat::WITHOUT_EFFECT));
    fields
}

pub(crate) fn completions() -> Vec<Field> {
    let mut fields = vec![
        model(),
        either("prompt", &["string", "array"], "A text, texts, tokens, or lists of tokens").needed(),
        whole("max_tokens", 0, "Most tokens of an answer; 16 where nothing is said"),
        stop("stop"),
        form(),
        truth("echo", "Whether an answer begins with its prompt"),
        within(
            "logprobs",
            0,
            MOST_LOGPROBS as u64,
            "So many likeliest tokens with each token, those of an echoed prompt included",
        ),
        within("best_of", 1, 1, "Can only be 1"),
        choices(),
        truncate(),
    ];
    fields.extend(streaming());
    fields.extend(sampling());
    fields.extend(without_effect(&["user"]));
    fields
}

pub(crate) fn responses() -> Vec<Field> {
    let effort = either("effort", &["string"], "How much to think, where the template knows of it");
    let reasoning = [
        effort,
        field("summary", json!({}), "Thoughts are given whole"),
        field("generate_summary", json!({}), "The older name of it"),
    ];
    let format = open("format", "As `response_format` of a chat, its fields beside its type");
    let mut of_text = vec![format];
    of_text.extend(without_effect(&["verbosity"]));
    let mut fields = vec![
        model(),
        either("input", &["string", "array"], "A text, or items: messages, calls and what came of them")
            .needed(),
        text("instructions", "What the model is to be told first"),
        text("previous_response_id", "A stored answer after which the conversation goes on"),
        truth("store", "Whether later requests may refer to the answer; they may where nothing is said"),
        truth("stream", "Events instead of a document"),
        truth("background", "Can only be false"),
        list("tools", json!({"type": "object"}), "Functions that the model may call"),
        either("tool_choice", &["string", "object"], "`auto`, `none`, `required`, or a function by its name"),
        truth("parallel_tool_calls", "Whether there may be several calls"),
        closed("text", &of_text, "The form of what is said"),
        closed("reasoning", &reasoning, "How to think"),
        open("chat_template_kwargs", "Variables of the model's template"),
        whole("max_output_tokens", 1, "Most tokens of an answer"),
        whole("max_tokens", 1, "Another name of it"),
        word(
            "truncation",
            &["auto", "disabled"],
            "Whether the oldest of a conversation that is too long is left out",
        ),
        field("metadata", json!({}), "The answer repeats it"),
        field("user", json!({}), "The answer repeats it"),
    ];
    fields.extend(sampling());
    fields.extend(without_effect(&openai::responses::WITHOUT_EFFECT));
    fields
}

pub(crate) fn embeddings() -> Vec<Field> {
    let mut fields = vec![
        model(),
        either("input", &["string", "array"], "A text, texts, tokens, or lists of tokens").needed(),
        word("encoding_format", &["float", "base64"], "How the vectors are written"),
        whole("dimensions", 1, "So many first values of each vector"),
    ];
    fields.extend(without_effect(&["user"]));
    fields
}

pub(crate) fn rerank() -> Vec<Field> {
    vec![
        model(),
        text("query", "The question").needed(),
        list("documents", json!({"type": ["string", "object"]}), "Texts, or objects with `text`"),
        list(
            "texts",
            json!({"type": ["string", "object"]}),
            "Instead of `documents`; then the answer is a plain list",
        ),
        whole("top_n", 1, "So many of the best"),
        truth("return_documents", "Whether the answer repeats the documents"),
        truth("return_text", "The same, with `texts`"),
    ]
}

pub(crate) fn tokenize() -> Vec<Field> {
    vec![
        model(),
        text("content", "The text").needed(),
        truth("add_special", "Whether to begin as the model's texts begin"),
        truth(
            "parse_special",
            "Whether control tokens spelled in the text mean themselves; they do where nothing is said",
        ),
        truth("with_pieces", "Whether each token comes with its text"),
    ]
}

pub(crate) fn detokenize() -> Vec<Field> {
    vec![model(), list("tokens", json!({"type": "integer"}), "Token ids").needed()]
}

pub(crate) fn apply_template() -> Vec<Field> {
    let mut fields = vec![model()];
    fields.extend(conversation());
    fields
}

/// What makes a prompt in Anthropic's API.
fn prompt() -> Vec<Field> {
    let format = open("format", "`json_schema` with its `schema`");
    let effort = word(
        "effort",
        &["low", "medium", "high", "xhigh", "max"],
        "How much to think, where the template knows of it",
    );
    vec![
        model(),
        list(
            "messages",
            json!({"type": "object"}),
            "The conversation; a last message of the assistant goes on",
        )
        .needed(),
        either("system", &["string", "array"], "What the model is to be told first"),
        list("tools", json!({"type": "object"}), "Tools that the model may call"),
        open("tool_choice", "`auto`, `any`, `none`, or `tool` with its name"),
        open("thinking", "Whether to think: `enabled`, `adaptive` or `disabled`"),
        closed("output_config", &[format, effort], "The form of what is said, and what effort it is worth"),
        open("output_format", "The older name of `format` in `output_config`"),
        field("cache_control", json!({}), "Has no effect here, which the answer says: all prompts are kept"),
    ]
}

pub(crate) fn messages() -> Vec<Field> {
    let mut fields = prompt();
    fields.extend([
        whole("max_tokens", 0, "Most tokens of an answer").needed(),
        stop("stop_sequences"),
        truth("stream", "Events instead of a document"),
    ]);
    fields.extend(sampling());
    fields.extend(without_effect(&anthropic::WITHOUT_EFFECT));
    fields
}

pub(crate) fn count_tokens() -> Vec<Field> {
    let mut fields = prompt();
    fields.extend(without_effect(&anthropic::OF_ANSWERS));
    fields.extend(without_effect(&anthropic::WITHOUT_EFFECT));
    fields
}

fn num_ctx() -> Field {
    whole("num_ctx", 0, "Can only be what the model is served with, or less, which has no effect")
}

/// What Ollama's chats and texts have in common.
fn of_ollama() -> Vec<Field> {
    let mut options = common();
    options.extend([
        field(
            "top_k",
            json!({"type": "integer", "minimum": -1, "maximum": LAST}),
            "So many of the likeliest tokens; 0 and -1 are all",
        ),
        whole("num_predict", -2, "Most tokens of an answer; -1 and -2 set no limit"),
        stop("stop"),
        num_ctx(),
    ]);
    options.extend(without_effect(&ollama::options::WITHOUT_EFFECT));
    vec![
        model_of_ollama(),
        closed("options", &options, "How tokens are chosen, and when an answer ends"),
        either("format", &["string", "object"], "The form of what is said: `json`, or a JSON schema"),
        either(
            "think",
            &["boolean", "string"],
            "Whether to think: true, false, `low`, `medium`, `high` or `max`",
        ),
        truth("stream", "A chunk per line; true where nothing is said"),
        keep_alive(),
        truth("truncate", "Whether the oldest of a conversation that is too long is left out"),
        truth("shift", "True has no effect here, which the answer says"),
        truth("logprobs", "How likely each token was"),
        within("top_logprobs", 0, MOST_LOGPROBS as u64, "So many likeliest tokens with each"),
    ]
}

fn keep_alive() -> Field {
    either(
        "keep_alive",
        &["number", "string"],
        "How long the model stays loaded after this: seconds, or a text such as `5m`; below 0 for ever",
    )
}

pub(crate) fn ollama_chat() -> Vec<Field> {
    let mut fields = of_ollama();
    fields.extend([
        list(
            "messages",
            json!({"type": "object"}),
            "The conversation; without one the model is only made ready",
        ),
        list("tools", json!({"type": "object"}), "Functions that the model may call"),
    ]);
    fields
}

pub(crate) fn ollama_generate() -> Vec<Field> {
    let mut fields = of_ollama();
    fields.extend([
        text("prompt", "What to answer; without it the model is only made ready"),
        text("system", "What the model is to be told first"),
        truth("raw", "Whether the prompt goes to the model without its template"),
        text("suffix", "Can only be empty"),
        text("template", "Can only be empty"),
        list("context", json!({}), "Can only be empty"),
        list("images", json!({}), "Can only be empty"),
    ]);
    fields
}

fn of_vectors() -> Vec<Field> {
    let mut options = vec![num_ctx()];
    options.extend(without_effect(&ollama::options::OF_ANSWERS));
    options.extend(without_effect(&ollama::options::WITHOUT_EFFECT));
    vec![model_of_ollama(), keep_alive(), closed("options", &options, "Few have an influence on vectors")]
}

pub(crate) fn ollama_embed() -> Vec<Field> {
    let mut fields = of_vectors();
    fields.extend([
        either("input", &["string", "array"], "A text, or texts; without it the model is only made ready"),
        truth(
            "truncate",
            "Whether the end of a text that is too long is left out; it is where nothing is said",
        ),
        whole("dimensions", 1, "So many first values of each vector"),
    ]);
    fields
}

pub(crate) fn ollama_embeddings() -> Vec<Field> {
    let mut fields = of_vectors();
    fields.push(text("prompt", "A text; without it the model is only made ready"));
    fields
}

pub(crate) fn ollama_show() -> Vec<Field> {
    let mut fields = vec![
        text("model", "The model, by its name or an alias, with or without `:latest`"),
        text("name", "The older name of `model`"),
        truth("verbose", "True has no effect here, which the answer says"),
    ];
    fields.extend(without_effect(&["system", "template", "options"]));
    fields
}
