//! Which dialect a model speaks: by what its template and vocabulary show, never by its name.

use std::sync::Arc;

use super::grammar::{GRAMMARS, Grammar, PLAIN, Place, Rule, Then};
use super::held::Marker;
use super::written::{WRITTEN, WrittenCalls};
use crate::tokenizer::{TokenKind, Tokenizer};

/// A dialect in the terms of one model's vocabulary. Cloning is cheap.
#[derive(Clone)]
pub struct Dialect {
    pub(super) grammar: &'static Grammar,
    /// Beside the grammar's rules.
    pub(super) markers: Arc<[RuleMarker]>,
}

/// A rule's marker.
#[derive(Debug)]
pub(super) struct RuleMarker {
    pub(super) within: Place,
    pub(super) marker: Marker,
    pub(super) then: Then,
    /// Whether line ends before it belong to it.
    pub(super) before: bool,
    /// Whether line ends after it do.
    pub(super) after: bool,
}

impl std::fmt::Debug for Dialect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Dialect").field(&self.name()).finish()
    }
}

impl Dialect {
    /// The dialect that a model's chat template teaches; without a template, the one its control tokens show. A
    /// template of no known dialect gives plain text, with thoughts told apart if template or vocabulary mention them.
    pub fn detect(template: Option<&str>, tokenizer: Option<&Tokenizer>) -> Dialect {
        let control = |text: &&str| {
            tokenizer
                .is_some_and(|tokenizer| tokenizer.id_of(text).is_some_and(|id| tokenizer.is_special(id)))
        };
        let whole = |text: &&str| tokenizer.is_some_and(|tokenizer| tokenizer.id_of(text).is_some());
        let shown = |grammar: &&Grammar| match template {
            Some(template) => {
                !grammar.template.is_empty() && grammar.template.iter().all(|text| template.contains(text))
            }
            None => !grammar.vocabulary.is_empty() && grammar.vocabulary.iter().all(control),
        };
        let thinks = |grammar: &&Grammar| grammar.name == "think" && grammar.vocabulary.iter().all(whole);
        let grammar = GRAMMARS.iter().find(shown).or_else(|| GRAMMARS.iter().find(thinks));
        Dialect::new(grammar.unwrap_or(&PLAIN), tokenizer)
    }

    /// The dialect of this name; [`names`](Dialect::names) has them all.
    pub fn named(name: &str, tokenizer: Option<&Tokenizer>) -> Option<Dialect> {
        let grammar = GRAMMARS.iter().chain([&PLAIN]).find(|grammar| grammar.name == name)?;
        Some(Dialect::new(grammar, tokenizer))
    }

    /// Text as it is.
    pub fn plain() -> Dialect {
        Dialect::new(&PLAIN, None)
    }

    /// The names of all dialects.
    pub fn names() -> impl Iterator<Item = &'static str> {
        GRAMMARS.iter().chain([&PLAIN]).map(|grammar| grammar.name)
    }

    fn new(grammar: &'static Grammar, tokenizer: Option<&Tokenizer>) -> Dialect {
        let kind = |id| tokenizer.and_then(|tokenizer| tokenizer.token_kind(id));
        let is_control = |token: Option<u32>| token.and_then(kind) == Some(TokenKind::Control);
        let marker = |&Rule(within, written, then): &Rule| {
            let text = written.trim_matches('~');
            let pieces = tokenizer.map(|tokenizer| tokenizer.control().cut(text)).unwrap_or_default();
            let control = pieces.into_iter().filter(|piece| is_control(piece.token));
            RuleMarker {
                within,
                marker: Marker { text, control: control.map(|piece| piece.range).collect() },
                then,
                before: written.starts_with('~'),
                after: written.ends_with('~'),
            }
        };
        Dialect { grammar, markers: grammar.rules.iter().map(marker).collect() }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.grammar.name
    }

    /// Whether a text is one of its markers. A control token that ends a turn and is one belongs to the answer, and the
    /// reader is to be given it: Harmony's `<|call|>`.
    pub fn is_marker(&self, text: &str) -> bool {
        self.markers.iter().any(|rule| rule.marker.text == text)
    }

    /// What opens and what ends a thought, where both are markers.
    pub fn reasoning(&self) -> Option<(&'static str, &'static str)> {
        let marker = |within: Place, then: Place| {
            let rule = |rule: &&RuleMarker| rule.within == within && rule.then == Then::Go(then);
            self.markers.iter().find(rule).map(|rule| rule.marker.text)
        };
        Some((marker(Place::Content, Place::Reasoning)?, marker(Place::Reasoning, Place::Content)?))
    }

    /// Whether it has a way to call tools.
    pub fn has_calls(&self) -> bool {
        let calls = |rule: &RuleMarker| matches!(rule.then, Then::Call(_) | Then::CallFrom(_));
        self.grammar.start == Place::Header || self.markers.iter().any(calls)
    }

    /// How its calls are written; several where there is more than one way, and none where that is not known.
    pub fn written_calls(&self) -> impl Iterator<Item = &'static WrittenCalls> + use<> {
        let name = self.name();
        WRITTEN.iter().filter(move |(of, _)| *of == name).map(|(_, written)| written)
    }

    /// Whether a prompt that ends like this has opened a thought, so that the answer begins inside it.
    pub fn opens_reasoning(&self, prompt: &str) -> bool {
        let end = prompt.trim_end();
        let opens = |rule: &&RuleMarker| rule.then == Then::Go(Place::Reasoning);
        self.markers.iter().filter(opens).any(|rule| end.ends_with(rule.marker.text.trim_end()))
    }
}
