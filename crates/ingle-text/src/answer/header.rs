//! The headers of Harmony messages: who speaks to whom, on which channel.
//!
//! `<|start|>assistant to=functions.f<|channel|>commentary <|constrain|>json<|message|>`. The recipient may also follow
//! the channel, the type may stand without its marker, and the first header of an answer has its role in the prompt.

use super::held::Held;

/// Longer than any header.
const LONGEST: usize = 512;
const CHANNEL: &str = "<|channel|>";
const CONSTRAIN: &str = "<|constrain|>";
const MESSAGE: &str = "<|message|>";
/// Everyone an assistant can address without calling a tool.
const PEOPLE: &[&str] = &["user", "assistant", "all"];

/// What a header says the message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// A thought.
    Reasoning,
    /// Something said to the person.
    Content,
    /// A call of this tool, namespace included.
    Call(String),
}

/// What the text is, as far as it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// A header, up to this point, and the message it announces.
    Whole(usize, Message),
    /// The beginning of one.
    Open,
    /// None: up to this point it could have been one.
    Bad(usize),
}

/// Reads a header in what `held` holds from `from`. `role_known`: the prompt wrote the role, or the text begins with a
/// channel; otherwise it follows `<|start|>` and begins with the role.
pub(super) fn read(held: &Held, from: usize, role_known: bool) -> Header {
    let text = &held.text;
    let mut at = from;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if at - from > LONGEST {
            return Header::Bad(at);
        }
        let character = rest.chars().next().unwrap_or_default();
        if character == '<' {
            let known = [CHANNEL, CONSTRAIN, MESSAGE];
            match known.iter().find(|marker| rest.starts_with(**marker)) {
                _ if !held.may_be_control(at) => return Header::Bad(at),
                Some(&MESSAGE) => {
                    let end = at + MESSAGE.len();
                    return match message(&text[from..at], role_known) {
                        Some(message) => Header::Whole(end, message),
                        None => Header::Bad(end),
                    };
                }
                Some(marker) => at += marker.len(),
                None if known.iter().any(|marker| marker.starts_with(rest)) => return Header::Open,
                None => return Header::Bad(at),
            }
            continue;
        }
        let word =
            character.is_ascii_alphanumeric() || matches!(character, ' ' | '_' | '-' | '.' | '=' | ':' | '/');
        if !word || !begins(&text[from..at + 1], role_known) {
            return Header::Bad(at);
        }
        at += 1;
    }
    Header::Open
}

/// Whether a header may begin with these words: with the role, unless that is known, and then with a recipient.
fn begins(words: &str, role_known: bool) -> bool {
    if words.contains('<') {
        return true;
    }
    let words = words.trim_start();
    let expected = if role_known { "to=" } else { "assistant" };
    expected.starts_with(words) || words.starts_with(expected)
}

/// What a whole header announces; `None` when it makes no sense.
fn message(header: &str, role_known: bool) -> Option<Message> {
    let (before, after) = header.split_once(CHANNEL).unwrap_or((header, ""));
    let mut words = before.split_whitespace();
    if !role_known && words.next() != Some("assistant") {
        return None;
    }
    if !words.all(|word| word.starts_with("to=")) {
        return None;
    }
    // What follows the last channel counts: models repeat it.
    let channel = after.rsplit(CHANNEL).next().and_then(|after| split(after).next());
    let to = split(header).filter_map(|word| word.strip_prefix("to=")).last().map(str::to_owned);
    let to = to.filter(|to| !PEOPLE.contains(&to.as_str()));
    match (channel, to) {
        (Some("analysis" | "commentary" | "final") | None, Some(to)) => Some(Message::Call(to)),
        (Some("analysis"), None) => Some(Message::Reasoning),
        (Some("commentary" | "final") | None, None) => Some(Message::Content),
        _ => None,
    }
}

/// The words of a header, markers left out.
fn split(header: &str) -> impl Iterator<Item = &str> {
    let words = header.split(CHANNEL).flat_map(|part| part.split(CONSTRAIN));
    words.flat_map(str::split_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str, role_known: bool) -> Header {
        let mut held = Held::new(false);
        held.push(text, false);
        read(&held, 0, role_known)
    }

    #[test]
    fn recipients_stand_in_either_place() {
        let call = |name: &str| Some(Message::Call(name.into()));
        for (header, expected) in [
            ("<|channel|>analysis", Some(Message::Reasoning)),
            ("<|channel|>final <|constrain|>json", Some(Message::Content)),
            ("<|channel|>commentary", Some(Message::Content)),
            (" to=functions.f<|channel|>commentary json", call("functions.f")),
            ("<|channel|>commentary to=functions.f <|constrain|>json", call("functions.f")),
            ("<|channel|>commentary to=functions.f<|constrain|>json", call("functions.f")),
            ("<|channel|>commentary <|constrain|>json to=functions.f", call("functions.f")),
            ("<|channel|>analysis to=browser.search code", call("browser.search")),
            (" to=python<|channel|>analysis", call("python")),
            ("<|channel|>commentary to=f<|channel|>commentary json", call("f")),
            (" to=user<|channel|>final", Some(Message::Content)),
            ("<|channel|>secret", None),
            ("", Some(Message::Content)),
        ] {
            let text = format!("{header}<|message|>x");
            let end = text.len() - 1;
            let expected = expected.map_or(Header::Bad(end), |message| Header::Whole(end, message));
            assert_eq!(whole(&text, true), expected, "{header}");
            assert_eq!(
                whole(&format!("assistant{text}"), false),
                match expected {
                    Header::Whole(end, message) => Header::Whole(end + 9, message),
                    Header::Bad(end) => Header::Bad(end + 9),
                    Header::Open => Header::Open,
                }
            );
        }
    }

    #[test]
    fn text_that_is_no_header_is_seen_at_once() {
        for (text, role_known, at) in [
            ("Hello", true, 0),
            ("user<|message|>", false, 0),
            ("assistants<|message|>", false, 21),
            ("<|channel|>final\n", true, 16),
            ("<|channel|>final<|end|>", true, 16),
            ("<tag>", true, 0),
        ] {
            assert_eq!(whole(text, role_known), Header::Bad(at), "{text}");
        }
        for text in ["", " ", " to", " to=functions.f<|chan", "<|channel|>fin"] {
            assert_eq!(whole(text, true), Header::Open, "{text}");
        }
        let long = format!("<|channel|>{}", "a".repeat(600));
        assert!(matches!(whole(&long, true), Header::Bad(_)));
    }
}
