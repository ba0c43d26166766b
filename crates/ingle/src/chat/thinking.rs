//! Reasoning shown dim: `<think>` to `</think>` in a stream of text.

use crate::console::Style;

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Follows a stream and sets off what is inside the tags, the tags included.
pub(super) struct Thinking {
    style: Style,
    inside: bool,
    /// An end of the stream that may become a tag.
    held: String,
}

impl Thinking {
    /// `inside`: the prompt itself opened the tag.
    pub(super) fn new(style: Style, inside: bool) -> Thinking {
        Thinking { style, inside, held: String::new() }
    }

    /// What begins the stream on the screen.
    pub(super) fn start(&self) -> &'static str {
        if self.inside { self.style.dim_on() } else { "" }
    }

    /// The next piece as it is to be shown now.
    pub(super) fn push(&mut self, piece: &str) -> String {
        self.held.push_str(piece);
        let mut shown = String::new();
        loop {
            let tag = if self.inside { CLOSE } else { OPEN };
            let Some(at) = self.held.find(tag) else { break };
            let rest = self.held.split_off(at + tag.len());
            let before = std::mem::replace(&mut self.held, rest);
            if self.inside {
                shown.push_str(&before);
                shown.push_str(self.style.off());
            } else {
                shown.push_str(&before[..at]);
                shown.push_str(self.style.dim_on());
                shown.push_str(tag);
            }
            self.inside = !self.inside;
        }
        let tag = if self.inside { CLOSE } else { OPEN };
        let keep = (1..tag.len()).rev().find(|&n| self.held.ends_with(&tag[..n])).unwrap_or(0);
        let kept = self.held.split_off(self.held.len() - keep);
        shown.push_str(&std::mem::replace(&mut self.held, kept));
        shown
    }

    /// What was held back, and the end of any emphasis.
    pub(super) fn finish(&mut self) -> String {
        let mut shown = std::mem::take(&mut self.held);
        if self.inside {
            shown.push_str(self.style.off());
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(inside: bool, pieces: &[&str]) -> String {
        let mut thinking = Thinking::new(Style::COLOUR, inside);
        let mut text = thinking.start().to_owned();
        pieces.iter().for_each(|piece| text += &thinking.push(piece));
        text + &thinking.finish()
    }

    #[test]
    fn thoughts_are_dim_however_the_tags_are_cut() {
        let expected = "a \x1b[2m<think>b < c</think>\x1b[0m d <thin";
        assert_eq!(shown(false, &["a <think>b < c</think> d <thin"]), expected);
        assert_eq!(shown(false, &["a <", "thi", "nk>b < c<", "/thin", "k> d <thin"]), expected);
    }

    #[test]
    fn an_unfinished_thought_does_not_dim_the_prompt_after_it() {
        assert_eq!(shown(false, &["<think>hm"]), "\x1b[2m<think>hm\x1b[0m");
        assert_eq!(shown(true, &["hm</think>", "yes"]), "\x1b[2mhm</think>\x1b[0myes");
    }

    #[test]
    fn nothing_is_held_longer_than_it_may_become_a_tag() {
        let mut thinking = Thinking::new(Style::PLAIN, false);
        assert_eq!(thinking.push("a<"), "a");
        assert_eq!(thinking.push("b"), "<b");
    }
}
