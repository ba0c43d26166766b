//! How likely tokens were, in the columns of `/v1/completions`.

use super::{finite, token_text};
use crate::models::Served;
use crate::problem::Problem;
use ingle_engine::sampling::Logprobs;
use ingle_engine::{EndReason, EngineError, Language, Outcome};
use serde_json::{Map, Value, json};

/// A row per token.
#[derive(Clone, Debug, Default)]
pub(super) struct Columns {
    tokens: Vec<String>,
    /// `None` of a prompt's first token, before which there is nothing.
    logprobs: Vec<Option<f32>>,
    top: Vec<Option<Map<String, Value>>>,
    /// Characters before it.
    offsets: Vec<usize>,
}

impl Columns {
    pub(super) fn document(&self) -> Value {
        json!({
            "tokens": self.tokens, "token_logprobs": self.logprobs, "top_logprobs": self.top,
            "text_offset": self.offsets,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    pub(super) fn append(&mut self, mut other: Columns) {
        self.tokens.append(&mut other.tokens);
        self.logprobs.append(&mut other.logprobs);
        self.top.append(&mut other.top);
        self.offsets.append(&mut other.offsets);
    }

    fn push(&mut self, language: &Language, id: u32, of: Option<&Logprobs>, offset: usize) {
        let top = |of: &Logprobs| {
            of.top.iter().map(|&(id, logprob)| (token_text(language, id), json!(finite(logprob)))).collect()
        };
        self.tokens.push(token_text(language, id));
        self.logprobs.push(of.map(|of| finite(of.chosen)));
        self.top.push(of.map(top));
        self.offsets.push(offset);
    }

    /// The first `count`, which leave.
    fn take(&mut self, count: usize) -> Columns {
        Columns {
            tokens: self.tokens.drain(..count).collect(),
            logprobs: self.logprobs.drain(..count).collect(),
            top: self.top.drain(..count).collect(),
            offsets: self.offsets.drain(..count).collect(),
        }
    }
}

/// A prompt that comes before its answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Echo {
    pub(super) text: String,
    /// Where they are asked for.
    pub(super) columns: Columns,
}

impl Echo {
    /// With the row of its first token, if rows are asked for.
    ///
    /// # Errors
    /// Tokens that are not in the vocabulary.
    pub(super) fn new(language: &Language, prompt: &[u32], logprobs: bool) -> Result<Echo, Problem> {
        let text = language.tokenizer().decode(prompt).map_err(EngineError::from)?;
        let mut columns = Columns::default();
        if let (true, Some(&first)) = (logprobs, prompt.first()) {
            columns.push(language, first, None, 0);
        }
        Ok(Echo { text, columns })
    }

    pub(super) fn add(&mut self, served: &Served, id: u32, of: &Logprobs) {
        let before = self.columns.tokens.last().map_or(0, |text| text.chars().count());
        let offset = self.columns.offsets.last().map_or(0, |offset| offset + before);
        self.columns.push(served.engine.language(), id, Some(of), offset);
    }
}

/// Tokens until what they say is certain: those of a stop text are chosen, and no part of the answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Tokens {
    waiting: Columns,
    /// The byte at which each of them begins.
    begins: Vec<usize>,
    bytes: usize,
    characters: usize,
    /// Bytes of the answer so far.
    said: usize,
}

impl Tokens {
    /// Of an answer that comes after a text.
    pub(super) fn after(echo: &str) -> Tokens {
        Tokens { characters: echo.chars().count(), ..Tokens::default() }
    }

    pub(super) fn add(&mut self, served: &Served, id: u32, of: &Logprobs) {
        let language = served.engine.language();
        self.begins.push(self.bytes);
        self.bytes += language.tokenizer().token_bytes(id).unwrap_or_default().len();
        self.waiting.push(language, id, Some(of), self.characters);
        self.characters += self.waiting.tokens.last().map_or(0, |text| text.chars().count());
    }

    /// The tokens of what was said just now.
    pub(super) fn say(&mut self, text: &str) -> Columns {
        self.said += text.len();
        let count = self.begins.partition_point(|&begin| begin < self.said);
        self.begins.drain(..count);
        self.waiting.take(count)
    }

    /// The tokens that are left when an answer is over.
    pub(super) fn end(&mut self, outcome: &Outcome) -> Columns {
        let all = std::mem::take(&mut self.waiting);
        if matches!(outcome.reason, EndReason::StopText(_)) { Columns::default() } else { all }
    }
}
