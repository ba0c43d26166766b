//! An answer as it appears: text as it comes, one line of figures after it.

use super::partner::Partner;
use super::thinking::Thinking;
use crate::console::{Notes, Style, harmless};
use crate::interrupt::Answering;
use crate::messages;
use crate::progress::{Progress, Unit};
use anyhow::Result;
use ingle_engine::{EndReason, Event, Flow, GenerateOptions, Outcome};
use std::io::{self, Write};

/// Where an answer and what is said about it are shown.
pub(crate) struct Screen<'a> {
    /// Answers.
    pub(crate) out: &'a mut dyn Write,
    /// Everything else.
    pub(crate) notes: Notes<'a>,
    /// How answers may be set off.
    pub(crate) out_style: Style,
    /// Whether `out` is a terminal, which obeys control characters.
    pub(crate) terminal: bool,
    /// Whether a line of figures follows each answer.
    pub(crate) figures: bool,
    /// Whether an empty line stands before the figures, because the answer shows beside them through a pipe.
    pub(crate) apart: bool,
}

/// Lets `partner` answer and shows it as it comes. Ctrl-C ends the answer; what was said stands.
pub(crate) fn show_answer(
    partner: &mut dyn Partner,
    prompt: &[u32],
    options: &GenerateOptions,
    screen: &mut Screen,
) -> Result<Outcome> {
    let watch = Answering::begin();
    let mut progress = Progress::new_if(screen.figures, "reading", Unit::Tokens);
    let thinking = Thinking::new(screen.out_style, partner.opens_thought(prompt));
    let mut shown =
        Shown { out: screen.out, thinking, terminal: screen.terminal, last: '\n', written: Ok(()) };
    shown.begin();
    let outcome = partner.answer(prompt, options, &mut |event| {
        match event {
            Event::Prefill { done, total } => progress.update(done as u64, total as u64),
            Event::Text(text) => {
                progress.finish();
                shown.text(text);
            }
        }
        if watch.stopped() || shown.written.is_err() { Flow::Stop } else { Flow::Continue }
    });
    progress.finish();
    shown.end()?;
    let outcome = outcome?;
    if screen.figures {
        if screen.apart {
            screen.notes.say("");
        }
        screen.notes.aside(&stats_line(&outcome));
    }
    Ok(outcome)
}

/// An answer on its way to the screen.
struct Shown<'a> {
    out: &'a mut dyn Write,
    thinking: Thinking,
    terminal: bool,
    /// The last character shown.
    last: char,
    /// Whether writing succeeded so far.
    written: io::Result<()>,
}

impl Shown<'_> {
    fn begin(&mut self) {
        self.put(self.thinking.start().to_owned());
    }

    fn text(&mut self, text: &str) {
        let text = if self.terminal { harmless(text) } else { text.to_owned() };
        self.last = text.chars().next_back().unwrap_or(self.last);
        let text = self.thinking.push(&text);
        self.put(text);
    }

    /// Ends the last line.
    fn end(mut self) -> io::Result<()> {
        let rest = self.thinking.finish();
        self.put(rest);
        if self.last != '\n' {
            self.put("\n".into());
        }
        self.written
    }

    fn put(&mut self, text: String) {
        if self.written.is_ok() && !text.is_empty() {
            self.written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        }
    }
}

/// Tokens and speeds, and why the answer ended if the model did not end it.
pub(crate) fn stats_line(outcome: &Outcome) -> String {
    let usage = &outcome.usage;
    if outcome.reason == EndReason::Stopped && usage.decoded_tokens == 0 {
        return messages::STOPPED_READING.into(); // how much was read is not known, so neither is the speed
    }
    let rate = |rate: Option<f64>| rate.map(|rate| format!(" at {rate:.1} tokens/s")).unwrap_or_default();
    let computed = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
    let cached = match usage.cached_tokens {
        0 => String::new(),
        cached => format!(" ({cached} more from the cache)"),
    };
    let prefill = format!("prefill {computed} tokens{}{cached}", rate(usage.prefill_rate()));
    let decode = format!("decode {} tokens{}", usage.decoded_tokens, rate(usage.decode_rate()));
    match messages::end_reason(&outcome.reason) {
        Some(reason) => format!("[{prefill}; {decode}; {reason}]"),
        None => format!("[{prefill}; {decode}]"),
    }
}

/// A reason's name for programs.
pub(crate) fn reason_name(reason: &EndReason) -> &'static str {
    match reason {
        EndReason::EndOfTurn => "end_of_turn",
        EndReason::Length => "length",
        EndReason::ContextFull => "context_full",
        EndReason::StopText(_) => "stop_text",
        EndReason::Stopped => "stopped",
    }
}
