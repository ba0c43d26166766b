//! The tokens with a role: beginning, end, end of turn, padding.

use super::vocabulary::{TokenKind, Vocabulary};

/// Control tokens after which a model's answer is over, whatever the file says about them.
const ENDS: &[&str] = &[
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "<end_of_turn>",
    "<turn|>",
    "<|return|>",
    "<|call|>",
    "<EOT>",
    "<\u{FF5C}end\u{2581}of\u{2581}sentence\u{FF5C}>",
];

/// Those of them that end a turn rather than a text, in the order they are looked for.
const TURN_ENDS: &[&str] = &["<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<turn|>", "<|end|>", "<EOT>"];

/// Ids of tokens with a role, as far as the model has them.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpecialIds {
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) eot: Option<u32>,
    pub(crate) pad: Option<u32>,
    pub(crate) unknown: Option<u32>,
    pub(crate) cls: Option<u32>,
    pub(crate) sep: Option<u32>,
    /// Everything that ends an answer, ascending, once [`complete`](SpecialIds::complete) has run; before it, what
    /// the file names beyond the tokens above.
    pub(crate) ends: Vec<u32>,
}

impl SpecialIds {
    /// Adds what follows from the vocabulary: the end of a turn and everything that ends an answer.
    pub(crate) fn complete(&mut self, vocabulary: &Vocabulary) {
        let control = |text: &&str| {
            vocabulary.id_of(text).filter(|&id| vocabulary.kind(id) == Some(TokenKind::Control))
        };
        self.eot = self.eot.or_else(|| TURN_ENDS.iter().find_map(control));
        let mut ends: Vec<u32> =
            self.eos.into_iter().chain(self.eot).chain(self.ends.iter().copied()).collect();
        // In the harmony format `<|end|>` ends a message, not the answer, which `<|return|>` and `<|call|>` do.
        let harmony = control(&"<|return|>").is_some() && control(&"<|call|>").is_some();
        if harmony {
            let message_end = control(&"<|end|>");
            if self.eot == message_end {
                self.eot = None;
                ends.retain(|&id| Some(id) != message_end || Some(id) == self.eos);
            }
        }
        ends.extend(ENDS.iter().filter(|text| !(harmony && **text == "<|end|>")).filter_map(control));
        ends.sort_unstable();
        ends.dedup();
        self.ends = ends;
    }
}
