//! The two streams people read, and what may be drawn on them.

use crate::env;
use std::io::{self, IsTerminal, Write};

/// Answers and results go here. A reader that has gone away (`| head`) ends the program quietly.
pub(crate) struct Output {
    stream: io::BufWriter<io::Stdout>,
    what: &'static str,
}

impl Output {
    /// Standard output. `what` is written, such as `the answer`; errors name it.
    pub(crate) fn new(what: &'static str) -> Output {
        Output { stream: io::BufWriter::new(io::stdout()), what }
    }

    fn blame(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("cannot write {} to standard output: {error}", self.what))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes).map_err(|error| self.blame(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush().map_err(|error| self.blame(error))
    }
}

/// What is said beside the answers: the one way of notices and errors to a person. Control characters in them are
/// replaced, for they quote files and models. Nobody may be there to read them, which is no reason to fail.
pub(crate) struct Notes<'a> {
    stream: &'a mut dyn Write,
    style: Style,
}

impl Notes<'_> {
    /// On `stream`, set off as `style` allows.
    pub(crate) fn new(stream: &mut dyn Write, style: Style) -> Notes<'_> {
        Notes { stream, style }
    }

    /// A line.
    pub(crate) fn say(&mut self, text: &str) {
        self.line(&harmless(text));
    }

    /// A line of less weight.
    pub(crate) fn aside(&mut self, text: &str) {
        self.line(&self.style.dim(&harmless(text)));
    }

    /// A piece of a text of less weight, which may go on.
    pub(crate) fn murmur(&mut self, text: &str) {
        // a line's end stands outside the emphasis: some terminals would colour what follows
        let lines: Vec<String> = harmless(text)
            .split('\n')
            .map(|line| if line.is_empty() { String::new() } else { self.style.dim(line) })
            .collect();
        let _ = write!(self.stream, "{}", lines.join("\n")).and_then(|()| self.stream.flush());
    }

    /// What went wrong.
    pub(crate) fn error(&mut self, text: &str) {
        self.line(&format!("{} {}", self.style.alarm("error:"), harmless(text)));
    }

    fn line(&mut self, line: &str) {
        let _ = writeln!(self.stream, "{line}");
    }
}

/// Lets `tell` speak on standard error.
pub(crate) fn on_errors(tell: impl FnOnce(&mut Notes)) {
    tell(&mut Notes::new(&mut io::stderr(), Style::of_errors()));
}

/// One line on standard error.
pub(crate) fn say(line: &str) {
    on_errors(|notes| notes.say(line));
}

/// Text on its way to standard output: as it is for programs, harmless for a terminal.
pub(crate) fn for_output(text: String) -> String {
    if io::stdout().is_terminal() { harmless(&text) } else { text }
}

/// Whether `error` or one of its causes is a reader that went away.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// How text is set off on a stream: with escape sequences on a terminal, not at all elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    colour: bool,
}

impl Style {
    /// Nothing is set off.
    pub(crate) const PLAIN: Style = Style { colour: false };

    /// Everything is set off.
    #[cfg(test)]
    pub(crate) const COLOUR: Style = Style { colour: true };

    /// For standard output.
    pub(crate) fn of_output() -> Style {
        Style { colour: io::stdout().is_terminal() && env::colour_allowed() }
    }

    /// For standard error.
    pub(crate) fn of_errors() -> Style {
        Style { colour: io::stderr().is_terminal() && env::colour_allowed() }
    }

    /// What begins dim text.
    pub(crate) fn dim_on(self) -> &'static str {
        if self.colour { "\x1b[2m" } else { "" }
    }

    /// What ends every emphasis.
    pub(crate) fn off(self) -> &'static str {
        if self.colour { "\x1b[0m" } else { "" }
    }

    /// Of less weight than what surrounds it.
    pub(crate) fn dim(self, text: &str) -> String {
        format!("{}{text}{}", self.dim_on(), self.off())
    }

    /// A heading.
    pub(crate) fn bold(self, text: &str) -> String {
        if self.colour { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Something that went wrong.
    pub(crate) fn alarm(self, text: &str) -> String {
        if self.colour { format!("\x1b[1;31m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Text from a file or a model, safe to show on a terminal: control characters other than line ends and tabs are
/// replaced, so that no escape sequence gets through.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_of_a_model_do_not_reach_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb\tc\nd\u{9b}e\r"), "a\u{fffd}[2Jb\tc\nd\u{fffd}e\u{fffd}");
    }

    #[test]
    fn nothing_that_is_said_commands_the_terminal() {
        let mut said = Vec::new();
        let mut notes = Notes::new(&mut said, Style::COLOUR);
        notes.say("note: \x1b]0;title\x07");
        notes.aside("a\x1b[2Jb");
        notes.error("no file \u{9b}31m");
        notes.murmur("hm\n\n\x1b[2J");
        let said = String::from_utf8(said).unwrap();
        assert_eq!(
            said,
            "note: \u{fffd}]0;title\u{fffd}\n\x1b[2ma\u{fffd}[2Jb\x1b[0m\n\x1b[1;31merror:\x1b[0m no file \u{fffd}31m\n\x1b[2mhm\x1b[0m\n\n\x1b[2m\u{fffd}[2J\x1b[0m"
        );
    }

    #[test]
    fn a_closed_pipe_is_found_below_other_causes() {
        let broken = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("cannot print");
        assert!(is_closed_pipe(&broken));
        assert!(!is_closed_pipe(&anyhow::anyhow!("broken pipe")));
    }
}
