//! An answer as it appears: text as it comes, one line of figures after it.

use super::partner::Partner;
use crate::console::{Notes, harmless};
use crate::interrupt::Answering;
use crate::messages;
use crate::progress::{Progress, Unit};
use anyhow::Result;
use ingle_engine::{EndReason, Event, Flow, GenerateOptions, Outcome};
use ingle_text::ToolCall;
use std::io::{self, Write};

/// Where an answer and what is said about it are shown.
pub(crate) struct Screen<'a> {
    /// Answers.
    pub(crate) out: &'a mut dyn Write,
    /// Everything else.
    pub(crate) notes: Notes<'a>,
    /// Whether `out` is a terminal, which obeys control characters.
    pub(crate) terminal: bool,
    /// Whether thoughts, notices and a line of figures are shown beside each answer.
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
    let mut shown = Shown {
        out: screen.out,
        notes: &mut screen.notes,
        terminal: screen.terminal,
        quiet: !screen.figures,
        last: '\n',
        thought: None,
        written: Ok(()),
    };
    let outcome = partner.answer(prompt, options, &mut |event| {
        if !matches!(event, Event::Prefill { .. }) {
            progress.finish();
        }
        match event {
            Event::Prefill { done, total } => progress.update(done as u64, total as u64),
            Event::Content(text) => shown.text(text),
            Event::Reasoning(text) => shown.thought(text),
            Event::Call(call) => shown.call(call),
            Event::Notice(notice) => shown.notice(notice),
            Event::Chosen(..) | Event::Asked(..) => {}
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

/// An answer on its way to the screen: what is said goes to `out`, everything else beside it.
struct Shown<'a, 'b> {
    out: &'a mut dyn Write,
    notes: &'a mut Notes<'b>,
    terminal: bool,
    /// Whether only the answer is wanted.
    quiet: bool,
    /// The last character said.
    last: char,
    /// The last character of the thought that is being shown.
    thought: Option<char>,
    /// Whether writing succeeded so far.
    written: io::Result<()>,
}

impl Shown<'_, '_> {
    fn text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.end_thought();
        let text = if self.terminal { harmless(text) } else { text.to_owned() };
        self.last = text.chars().next_back().unwrap_or(self.last);
        self.put(&text);
    }

    /// Thoughts are dim, and apart from what is said.
    fn thought(&mut self, text: &str) {
        if self.quiet || text.is_empty() {
            return;
        }
        if self.thought.is_none() {
            self.end_line();
        }
        self.notes.murmur(text);
        self.thought = text.chars().next_back();
    }

    /// A call is part of the answer: it is shown even where only the answer is wanted.
    fn call(&mut self, call: &ToolCall) {
        self.end_thought();
        self.end_line();
        let arguments = call.arguments.as_str().map_or_else(|| call.arguments.to_string(), str::to_owned);
        self.notes.say(&messages::tool_call(&call.name, &arguments));
        if !self.quiet {
            self.notes.aside(messages::CALLS_ARE_NOT_EXECUTED);
        }
    }

    fn notice(&mut self, notice: &str) {
        if !self.quiet {
            self.end_thought();
            self.end_line();
            self.notes.say(&format!("note: {notice}"));
        }
    }

    fn end_thought(&mut self) {
        if let Some(last) = self.thought.take() {
            self.notes.murmur(if last == '\n' { "\n" } else { "\n\n" });
        }
    }

    fn end_line(&mut self) {
        if self.last != '\n' {
            self.put("\n");
            self.last = '\n';
        }
    }

    /// Ends the last line.
    fn end(mut self) -> io::Result<()> {
        self.end_thought();
        self.end_line();
        self.written
    }

    fn put(&mut self, text: &str) {
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
