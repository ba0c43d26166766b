//! What is left out of a prompt that does not fit, when a request asks for that. Without its word nothing is: the prompt is
//! refused with its length.

use crate::ask::{Input, tokens};
use crate::fields::Fields;
use crate::problem::Problem;
use ingle_engine::{ChatRequest, Language};
use ingle_text::Message;

/// What is left out first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truncate {
    /// The beginning, but for the instructions.
    Oldest,
    /// What comes after the beginning.
    Middle,
}

impl Truncate {
    /// Takes the field that asks for it.
    ///
    /// # Errors
    /// Another word.
    pub(crate) fn of(fields: &mut Fields) -> Result<Option<Truncate>, Problem> {
        match fields.optional::<String>("truncate")?.as_deref() {
            None | Some("none") => Ok(None),
            Some("oldest") => Ok(Some(Truncate::Oldest)),
            Some("middle") => Ok(Some(Truncate::Middle)),
            Some(_) => {
                let message = "`truncate` is `oldest`, `middle` or `none`";
                Err(Problem::field("truncate", message))
            }
        }
    }
}

/// Most tokens of a prompt in a context, so that there is room for an answer of `answer` tokens, or of a quarter.
fn room(context: usize, answer: Option<usize>) -> usize {
    let answer = answer.unwrap_or(context / 4).clamp(1, context.div_ceil(2));
    context - answer
}

/// The tokens of a prompt that is cut if it is too long, and what is to be said of the cut.
///
/// # Errors
/// What the template refuses. What does not fit even so is returned as it is, and refused as ever.
pub(crate) fn fit(
    language: &Language,
    input: &Input,
    how: Truncate,
    context: usize,
    answer: Option<usize>,
) -> Result<(Vec<u32>, Option<String>), Problem> {
    let whole = tokens(language, input)?;
    let most = room(context, answer);
    if whole.len() <= most {
        return Ok((whole, None));
    }
    let all = whole.len();
    let (cut, what) = match input {
        Input::Chat(request) => shorter(language, request, how, most, Input::Chat)?,
        Input::Continue(request) => shorter(language, request, how, most, Input::Continue)?,
        Input::Text(_) | Input::Tokens(_) => {
            (shortened(&whole, how, most, language.tokenizer().bos()), String::new())
        }
    };
    let left_out = all.saturating_sub(cut.len());
    if left_out == 0 {
        return Ok((cut, None));
    }
    let part = if how == Truncate::Oldest { "the oldest" } else { "the middle" };
    let told = format!(
        "{left_out} of the prompt's {all} tokens were left out, {part}{what}: the context has {context}, and the answer needs \
         room"
    );
    Ok((cut, Some(told)))
}

/// A conversation without as many turns as need be, and how many those are. A turn begins with what the user says, and its
/// calls and results go with it. The last one stays, and so do instructions before the first.
fn shorter(
    language: &Language,
    request: &ChatRequest,
    how: Truncate,
    most: usize,
    input: fn(ChatRequest) -> Input,
) -> Result<(Vec<u32>, String), Problem> {
    let begins: Vec<usize> = starts(&request.messages);
    let first = if how == Truncate::Oldest { 0 } else { 1 };
    let without = |turns: usize| {
        let mut messages = request.messages.clone();
        if turns > 0 {
            messages.drain(begins[first]..begins[first + turns]);
        }
        input(ChatRequest { messages, ..request.clone() })
    };
    let droppable = begins.len().saturating_sub(first + 1);
    // the fewest turns without which it fits
    let (mut least, mut enough) = (0, droppable);
    while least < enough {
        let middle = usize::midpoint(least, enough);
        if tokens(language, &without(middle))?.len() <= most {
            enough = middle;
        } else {
            least = middle + 1;
        }
    }
    let dropped = match enough {
        0 => 0,
        turns => begins[first + turns] - begins[first],
    };
    Ok((tokens(language, &without(enough))?, format!(" {dropped} messages")))
}

/// Where turns begin.
fn starts(messages: &[Message]) -> Vec<usize> {
    let is_user = |(at, message): (usize, &Message)| (message.role == "user").then_some(at);
    messages.iter().enumerate().filter_map(is_user).collect()
}

/// At most `most` tokens of a text, with the one that begins it.
fn shortened(whole: &[u32], how: Truncate, most: usize, bos: Option<u32>) -> Vec<u32> {
    let head = match how {
        Truncate::Middle => most / 2,
        Truncate::Oldest => usize::from(bos.is_some() && whole.first().copied() == bos).min(most),
    };
    let (begin, end) = (&whole[..head], &whole[whole.len() - (most - head)..]);
    [begin, end].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_lose_their_beginning_or_their_middle() {
        let whole: Vec<u32> = (0..10).collect();
        assert_eq!(shortened(&whole, Truncate::Oldest, 4, None), [6, 7, 8, 9]);
        assert_eq!(shortened(&whole, Truncate::Oldest, 4, Some(0)), [0, 7, 8, 9]);
        assert_eq!(shortened(&whole, Truncate::Middle, 5, Some(0)), [0, 1, 7, 8, 9]);
    }

    #[test]
    fn an_answer_has_room() {
        assert_eq!(room(1000, None), 750);
        assert_eq!(room(1000, Some(100)), 900);
        assert_eq!(room(1000, Some(5000)), 500);
        assert_eq!(room(1, None), 0);
    }
}
