//! The conversation at a terminal: entries in, answers and command results out.

use super::answer::{Screen, show_answer};
use super::conversation::Conversation;
use super::lines::{Line, LineSource, entry};
use super::partner::{Partner, Prompt};
use super::settings::{Settings, canonical};
use super::slash::{KNOWN, Slash, parse};
use super::{saved, slash};
use crate::{env, errors, messages};
use anyhow::Result;
use ingle_engine::{GenerateOptions, Outcome, Reading, Usage};

/// A conversation that is going on.
pub(crate) struct Repl<'a> {
    /// Who answers.
    pub(crate) partner: &'a mut dyn Partner,
    /// What was said.
    pub(crate) conversation: Conversation,
    /// How to answer.
    pub(crate) settings: Settings,
    /// Where it appears.
    pub(crate) screen: Screen<'a>,
    /// Entries are continued as they are, without template and without memory.
    pub(crate) plain: bool,
    /// Figures of the answers so far.
    pub(crate) answers: Vec<Usage>,
}

/// Whether the conversation goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Stay,
    Leave,
}

impl Repl<'_> {
    /// Reads and answers until the person leaves. An answer that fails is told, and the conversation goes on.
    pub(crate) fn run(&mut self, lines: &mut dyn LineSource) -> Result<()> {
        loop {
            let (text, single) = match entry(lines)? {
                (Line::Text(text), single) => (text, single),
                (Line::Interrupted, _) => {
                    self.screen.notes.aside(messages::HOW_TO_LEAVE);
                    continue;
                }
                (Line::End, _) => return Ok(()),
            };
            if text.trim().is_empty() {
                continue;
            }
            lines.remember(&text);
            if single && text.starts_with('/') {
                match self.command(parse(&text)) {
                    Ok(Next::Stay) => {}
                    Ok(Next::Leave) => return Ok(()),
                    Err(error) => self.screen.notes.error(&errors::line(&error)),
                }
            } else if let Err(error) = self.answer(&text) {
                self.screen.notes.error(&errors::line(&error));
            }
        }
    }

    fn answer(&mut self, text: &str) -> Result<()> {
        let mut options = self.settings.options(self.partner.defaults())?;
        if self.plain {
            options.reading = Reading::Text;
            let prompt = self.partner.tokens(Prompt::Plain(text))?;
            let outcome = show_answer(self.partner, &prompt, &options, &mut self.screen)?;
            self.answers.push(outcome.usage);
            return Ok(());
        }
        let before = self.conversation.turns.len();
        self.conversation.ask(text);
        let answered = self.reply(&options);
        match &answered {
            // without an answer the question is forgotten too, so that it can be asked again
            Ok(answer) if !answer.text.is_empty() || !answer.calls.is_empty() => {
                self.conversation.answer(answer)
            }
            _ => self.conversation.turns.truncate(before),
        }
        answered.map(drop)
    }

    fn reply(&mut self, options: &GenerateOptions) -> Result<Outcome> {
        let request = self.conversation.request(self.settings.variables(), &self.settings.tools);
        let prompt = self.partner.tokens(Prompt::Chat(&request))?;
        let outcome = show_answer(self.partner, &prompt, options, &mut self.screen)?;
        self.answers.push(outcome.usage);
        Ok(outcome)
    }

    fn command(&mut self, command: Slash) -> Result<Next> {
        match command {
            Slash::Help => self.help(),
            Slash::System(None) => {
                let text = match &self.conversation.system {
                    Some(text) => text.clone(),
                    None => messages::NO_SYSTEM.into(),
                };
                self.screen.notes.aside(&text);
            }
            Slash::System(Some(_)) if self.plain => anyhow::bail!(messages::SYSTEM_NEEDS_TEMPLATE),
            Slash::System(Some(text)) => {
                let none = text.eq_ignore_ascii_case("none");
                self.conversation.system = (!none).then_some(text);
                self.screen.notes.aside(if none { messages::SYSTEM_REMOVED } else { messages::SYSTEM_SET });
            }
            Slash::Set(None) => self.list_settings(None)?,
            Slash::Set(Some((name, None))) => self.list_settings(Some(&name))?,
            Slash::Set(Some((name, Some(value)))) => {
                self.settings.set(&name, &value, self.partner.defaults())?;
                self.list_settings(Some(&name))?;
            }
            Slash::Clear => {
                self.conversation.turns.clear();
                self.screen.notes.aside(messages::CLEARED);
            }
            Slash::Save(file) => {
                saved::save(&env::expand_home(&file), self.partner.name(), &self.conversation)?;
                self.screen.notes.aside(&messages::saved(self.conversation.turns.len(), &file));
            }
            Slash::Load(file) => {
                self.conversation = saved::load(&env::expand_home(&file))?;
                self.screen.notes.aside(&messages::loaded(self.conversation.turns.len(), &file));
            }
            Slash::Stats => self.stats(),
            Slash::Bye => return Ok(Next::Leave),
            Slash::Incomplete(form) => anyhow::bail!("it is {form}"),
            Slash::Unknown(name, meant) => anyhow::bail!(messages::unknown_command(&name, meant)),
        }
        Ok(Next::Stay)
    }

    fn help(&mut self) {
        for known in KNOWN {
            let form = format!("{} {}", known.name, known.arguments);
            self.screen.notes.aside(&format!("  {form:32} {}", known.help));
        }
        for (form, help) in messages::KEYS {
            self.screen.notes.aside(&format!("  {form:32} {help}"));
        }
    }

    fn list_settings(&mut self, only: Option<&str>) -> Result<()> {
        let list = self.settings.list(self.partner.defaults())?;
        let wanted = only.map(canonical);
        let shown: Vec<_> =
            list.iter().filter(|listed| wanted.as_ref().is_none_or(|name| *name == listed.name)).collect();
        if shown.is_empty() {
            let name = only.unwrap_or_default();
            let nearest = slash::nearest(name, list.iter().map(|listed| listed.name.as_str()));
            anyhow::bail!(messages::unknown_setting(name, nearest));
        }
        for listed in shown {
            let own = if listed.own { "  (set by you)" } else { "" };
            self.screen.notes.aside(&format!("  {:22} {}{own}", listed.name, listed.value));
        }
        Ok(())
    }

    fn stats(&mut self) {
        let mut facts = self.partner.facts();
        let last = self.answers.last();
        let used = last.map_or(0, |usage| usage.prompt_tokens + usage.decoded_tokens);
        facts.push(("context", format!("{used} of {} tokens used", self.partner.context())));
        let sum = |count: fn(&Usage) -> usize| self.answers.iter().map(count).sum::<usize>();
        let seconds = |count: fn(&Usage) -> f64| self.answers.iter().map(count).sum::<f64>();
        let computed = sum(|usage| usage.prompt_tokens.saturating_sub(usage.cached_tokens));
        facts.push(("answers", self.answers.len().to_string()));
        facts.push((
            "prefill",
            format!("{computed} tokens in {:.2} s", seconds(|usage| usage.prefill_seconds)),
        ));
        let decoded = sum(|usage| usage.decoded_tokens);
        facts.push(("decode", format!("{decoded} tokens in {:.2} s", seconds(|usage| usage.decode_seconds))));
        facts.extend(last.map(|usage| ("seed of the last answer", usage.seed.to_string())));
        for (label, value) in facts {
            self.screen.notes.aside(&format!("  {label:24} {value}"));
        }
    }
}

#[cfg(test)]
#[path = "repl_tests.rs"]
mod tests;
