//! From tokens to events: text, thoughts and calls told apart, stop texts watched for.

use crate::error::EngineError;
use crate::generate::{Event, Flow};
use crate::stop::{StopWatch, Watched};
use ingle_text::{AnswerReader, Detokenizer, Ending, Piece, TokenKind, Tokenizer, ToolCall};

/// What an answer holds so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Heard {
    pub(crate) text: String,
    pub(crate) reasoning: String,
    pub(crate) calls: Vec<ToolCall>,
    pub(crate) notices: Vec<String>,
}

/// Whether more tokens are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    More,
    /// The listener has had enough.
    Enough,
    /// This stop text appeared.
    Stop(String),
}

/// Turns an answer's tokens into events.
pub(crate) struct Listener {
    tokenizer: Tokenizer,
    detokenizer: Detokenizer,
    reader: AnswerReader,
    watch: StopWatch,
    pieces: Vec<Piece>,
    heard: Heard,
}

/// Who hears of events.
pub(crate) type OnEvent<'a> = &'a mut dyn FnMut(Event) -> Flow;

impl Listener {
    /// Listens to an answer that `reader` tells the parts of. Stop texts are looked for in what is said, not in what is
    /// thought.
    pub(crate) fn new(tokenizer: &Tokenizer, reader: AnswerReader, stop: &[String]) -> Listener {
        Listener {
            tokenizer: tokenizer.clone(),
            detokenizer: Detokenizer::continuing(tokenizer),
            reader,
            watch: StopWatch::new(stop),
            pieces: Vec::new(),
            heard: Heard::default(),
        }
    }

    /// The next token. `position` is its place in the conversation, from which calls get ids that occur once in it.
    pub(crate) fn token(
        &mut self,
        token: u32,
        position: usize,
        on_event: OnEvent,
    ) -> Result<Wanted, EngineError> {
        if self.tokenizer.token_kind(token) == Some(TokenKind::Control) {
            // half a character before it stays half a character
            self.reader.push(self.detokenizer.finish(), &mut self.pieces);
            self.reader.push_control(self.detokenizer.push(token)?, &mut self.pieces);
        } else {
            self.reader.push(self.detokenizer.push(token)?, &mut self.pieces);
        }
        Ok(self.tell(position, true, on_event))
    }

    /// The end of the answer. `end` is the token that ended the turn, if it belongs to the answer.
    pub(crate) fn finish(
        &mut self,
        end: Option<u32>,
        ending: Ending,
        position: usize,
        on_event: OnEvent,
    ) -> Result<Wanted, EngineError> {
        self.reader.push(self.detokenizer.finish(), &mut self.pieces);
        if let Some(end) = end {
            self.reader.push_control(self.detokenizer.push(end)?, &mut self.pieces);
        }
        let reader = std::mem::replace(&mut self.reader, AnswerReader::plain());
        reader.finish(ending, &mut self.pieces);
        let wanted = self.tell(position, false, on_event);
        if !matches!(wanted, Wanted::Stop(_)) {
            let rest = self.watch.flush();
            self.say(&rest, on_event);
        }
        Ok(wanted)
    }

    /// Whether the next token is thought.
    pub(crate) fn is_thinking(&self) -> bool {
        self.reader.in_reasoning()
    }

    /// Whether a call was heard.
    pub(crate) fn has_call(&self) -> bool {
        !self.heard.calls.is_empty()
    }

    /// What was heard.
    pub(crate) fn into_heard(self) -> Heard {
        self.heard
    }

    /// Reports what the reader has found; with nothing to report, `ask` still asks whether to go on.
    fn tell(&mut self, position: usize, ask: bool, on_event: OnEvent) -> Wanted {
        let mut flow = Flow::Continue;
        let mut told = false;
        for piece in std::mem::take(&mut self.pieces) {
            if let Piece::Content(text) = piece {
                match self.watch.push(&text) {
                    Watched::Text(text) if text.is_empty() => {}
                    Watched::Text(text) => {
                        flow = self.say(&text, on_event);
                        told = true;
                    }
                    Watched::Stopped(text, stop) => {
                        self.say(&text, on_event);
                        return Wanted::Stop(stop);
                    }
                }
                continue;
            }
            if matches!(piece, Piece::Structure(_)) {
                continue;
            }
            // what was waiting for a stop text comes before
            let rest = self.watch.flush();
            self.say(&rest, on_event);
            told = true;
            flow = match piece {
                Piece::Reasoning(text) => {
                    self.heard.reasoning.push_str(&text);
                    on_event(Event::Reasoning(&text))
                }
                Piece::Call { index, mut call, .. } => {
                    call.id.get_or_insert_with(|| id(position, index));
                    let flow = on_event(Event::Call(&call));
                    self.heard.calls.push(call);
                    flow
                }
                Piece::Notice(notice) => {
                    let notice = notice.to_string();
                    let flow = on_event(Event::Notice(&notice));
                    self.heard.notices.push(notice);
                    flow
                }
                Piece::Content(_) | Piece::Structure(_) => flow,
            };
        }
        if ask && !told {
            flow = on_event(Event::Content(""));
        }
        if flow == Flow::Stop { Wanted::Enough } else { Wanted::More }
    }

    fn say(&mut self, text: &str, on_event: OnEvent) -> Flow {
        if text.is_empty() {
            return Flow::Continue;
        }
        self.heard.text.push_str(text);
        on_event(Event::Content(text))
    }
}

/// An id for a call: nine letters and digits, the form that the strictest templates take.
fn id(position: usize, index: usize) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut number = position.wrapping_mul(36).wrapping_add(index);
    let mut digits = [b'0'; 5];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[number % 36];
        number /= 36;
    }
    format!("call{}", String::from_utf8_lossy(&digits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingle_text::Dialect;
    use serde_json::json;
    use std::path::Path;

    fn ember() -> Tokenizer {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/ember/model");
        let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
        Tokenizer::from_json(&read("tokenizer.json"), Some(&read("tokenizer_config.json"))).unwrap()
    }

    /// Hears `text` token by token; events as they come.
    fn hear(text: &str, stop: &[&str]) -> (Vec<String>, Heard, Wanted) {
        let tokenizer = ember();
        let dialect = Dialect::named("hermes", Some(&tokenizer)).unwrap();
        let stop: Vec<String> = stop.iter().map(|&stop| stop.into()).collect();
        let mut events: Vec<String> = Vec::new();
        let mut on_event = |event: Event| {
            let (kind, text) = match event {
                Event::Content(text) => ("content", text.to_owned()),
                Event::Reasoning(text) => ("reasoning", text.to_owned()),
                Event::Call(call) => ("call", call.name.clone()),
                Event::Notice(text) => ("notice", text.to_owned()),
                Event::Prefill { .. } | Event::Chosen(..) | Event::Asked(..) => {
                    unreachable!("nobody asked for it")
                }
            };
            match events.last_mut().filter(|last| last.starts_with(kind)) {
                Some(last) => last.push_str(&text),
                None if text.is_empty() => {}
                None => events.push(format!("{kind} {text}")),
            }
            Flow::Continue
        };
        let reader = AnswerReader::new(&dialect, &[], false, true);
        let mut listener = Listener::new(&tokenizer, reader, &stop);
        for (at, token) in
            tokenizer.encode(text, ingle_text::Specials::AsText).unwrap().into_iter().enumerate()
        {
            match listener.token(token, at, &mut on_event).unwrap() {
                Wanted::More => {}
                wanted => return (Vec::new(), listener.into_heard(), wanted),
            }
        }
        let wanted = listener.finish(None, Ending::Turn, 99, &mut on_event).unwrap();
        (events, listener.into_heard(), wanted)
    }

    #[test]
    fn thoughts_words_and_calls_come_in_order() {
        let call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>";
        let text = format!("<think>\nhm\n</think>\n\nWait.\n{call}\n{call}\n<tool_call>{{}}</tool_call>");
        let (events, heard, wanted) = hear(&text, &[]);
        assert_eq!(wanted, Wanted::More);
        let kinds: Vec<&str> = events.iter().filter_map(|event| event.split(' ').next()).collect();
        assert_eq!(kinds, ["reasoning", "content", "call", "notice", "content"], "{events:?}");
        assert_eq!((heard.reasoning.as_str(), heard.text.as_str()), ("hm", "Wait.<tool_call>{}</tool_call>"));
        assert_eq!(heard.calls[0].arguments, json!("{\"a\": 1}"));
        let ids: Vec<&str> = heard.calls.iter().filter_map(|call| call.id.as_deref()).collect();
        assert!(ids.len() == 2 && ids[0] != ids[1] && ids.iter().all(|id| id.len() == 9), "{ids:?}");
        assert_eq!(heard.notices.len(), 1);
    }

    #[test]
    fn stop_texts_end_what_is_said_and_not_what_is_thought() {
        let (_, heard, wanted) = hear("<think>\na END b\n</think>\n\nc d END e", &["END"]);
        assert_eq!(wanted, Wanted::Stop("END".into()));
        assert_eq!((heard.reasoning.as_str(), heard.text.as_str()), ("a END b", "c d "));
        // a beginning of a stop text before a call is no stop text
        let (events, heard, _) = hear("a EN<tool_call>{\"name\": \"f\"}</tool_call>D", &["END"]);
        assert_eq!(heard.text, "a END");
        assert_eq!(events, ["content a EN", "call f", "content D"]);
    }
}
