//! How a failure is told: one line with its causes, and the exit code.

use crate::console::{Output, for_output, is_closed_pipe, on_errors};
use std::io::Write;
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

/// Says what went wrong and gives the exit code: on standard error, or with `json` as an object `{"error": ...}` on
/// standard output, for a program that reads there.
pub(crate) fn report(error: &anyhow::Error, json: bool) -> ExitCode {
    if is_closed_pipe(error) {
        return ExitCode::SUCCESS;
    }
    let line = line(error);
    let mut output = Output::new("the error");
    let document = || for_output(serde_json::json!({ "error": line }).to_string());
    let told = json && writeln!(output, "{}", document()).and_then(|()| output.flush()).is_ok();
    if !told {
        on_errors(|notes| notes.error(&line));
    }
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
