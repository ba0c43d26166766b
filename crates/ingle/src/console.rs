//! The two streams people read, and what may be drawn on them.

use crate::env;
use std::io::{self, IsTerminal, Write};

/// Answers and results go here. A reader that has gone away (`| head`) ends the program quietly.
pub(crate) struct Output {
    stream: io::BufWriter<io::Stdout>,
}

impl Output {
    /// Standard output.
    pub(crate) fn new() -> Output {
        Output { stream: io::BufWriter::new(io::stdout()) }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// One line on standard error. Nobody may be there to read it, which is no reason to fail.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
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
    fn a_closed_pipe_is_found_below_other_causes() {
        let broken = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("cannot print");
        assert!(is_closed_pipe(&broken));
        assert!(!is_closed_pipe(&anyhow::anyhow!("broken pipe")));
    }
}
