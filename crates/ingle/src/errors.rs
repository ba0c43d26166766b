//! How a failure is told: one line with its causes, and the exit code.

use crate::console::{Style, is_closed_pipe, say};
use std::process::ExitCode;

/// The program was called wrongly: as clap's own complaints, exit code 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Exit code after Ctrl-C, as shells know it: 128 + SIGINT.
pub(crate) const INTERRUPTED: u8 = 130;

/// Says what went wrong on standard error and gives the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if is_closed_pipe(error) {
        return ExitCode::SUCCESS;
    }
    say(&format!("{} {}", Style::of_errors().alarm("error:"), line(error)));
    ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
}

/// The error and its causes in one line; a cause that its effect already quotes is left out.
pub(crate) fn line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if line.contains(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    line.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let inner = std::io::Error::other("disk on fire");
        let error =
            anyhow::Error::from(ingle_model::Error::io("a.gguf", inner)).context("cannot open the model");
        assert_eq!(line(&error), "cannot open the model: cannot read a.gguf: disk on fire");
    }
}
