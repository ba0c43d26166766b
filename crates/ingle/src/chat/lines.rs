//! Where a person's lines come from, and how several make one entry.

use crate::{env, messages};
use anyhow::Result;
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Editor, Helper};
use std::path::PathBuf;

/// What came instead of, or as, a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line, or several that were pasted together.
    Text(String),
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D, or the end of input.
    End,
}

/// Gives lines.
pub(crate) trait LineSource {
    /// The next line, asked for with `prompt`.
    fn line(&mut self, prompt: &str) -> Result<Line>;

    /// Keeps an entry for the history.
    fn remember(&mut self, entry: &str);
}

const FIRST: &str = ">>> ";
const FURTHER: &str = "... ";
const FENCE: &str = "\"\"\"";

/// One entry: a line; lines between `"""` and `"""`; or lines that end in a backslash and the one after them.
/// The flag says whether it was a single plain line.
pub(super) fn entry(lines: &mut dyn LineSource) -> Result<(Line, bool)> {
    let first = match lines.line(FIRST)? {
        Line::Text(text) => text,
        other => return Ok((other, true)),
    };
    if let Some(opened) = first.trim_start().strip_prefix(FENCE) {
        let mut text = opened.to_owned();
        while !text.trim_end().ends_with(FENCE) {
            match lines.line(FURTHER)? {
                Line::Text(more) => text = text + "\n" + &more,
                other => return Ok((other, false)),
            }
        }
        let text = text.trim_end();
        let text = text.strip_suffix(FENCE).unwrap_or(text).trim_matches('\n');
        return Ok((Line::Text(text.to_owned()), false));
    }
    let mut text = first;
    let mut single = true;
    while let Some(begun) = text.strip_suffix('\\') {
        single = false;
        match lines.line(FURTHER)? {
            Line::Text(more) => text = format!("{begun}\n{more}"),
            other => return Ok((other, false)),
        }
    }
    Ok((Line::Text(text), single))
}

/// Lines typed at a terminal, with editing, completion of commands and a history that lasts.
pub(crate) struct Terminal {
    editor: Editor<Commands, FileHistory>,
    history: Option<PathBuf>,
}

/// Entries the history keeps.
const HISTORY: usize = 1000;

impl Terminal {
    /// Takes the terminal over, line by line. Without `history` no entry leaves the conversation.
    ///
    /// # Errors
    /// When it cannot be edited on. A history that cannot be read is a notice, not an error.
    pub(crate) fn open(history: bool, notices: &mut Vec<String>) -> Result<Terminal> {
        let config =
            rustyline::Config::builder().max_history_size(HISTORY)?.history_ignore_space(false).build();
        let mut editor = Editor::with_config(config)?;
        editor.set_helper(Some(Commands));
        let history = env::data_folder().filter(|_| history).map(|folder| folder.join("history"));
        if let Some(path) = &history {
            match editor.load_history(path) {
                Err(ReadlineError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => notices.push(messages::no_history(path, &error)),
                Ok(()) => {}
            }
        }
        Ok(Terminal { editor, history })
    }
}

impl LineSource for Terminal {
    fn line(&mut self, prompt: &str) -> Result<Line> {
        match self.editor.readline(prompt) {
            Ok(text) => Ok(Line::Text(text)),
            Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(error) => Err(anyhow::Error::from(error).context("cannot read from the terminal")),
        }
    }

    /// Written at once, so that a crash or a closed window loses nothing; for the person alone to read.
    fn remember(&mut self, entry: &str) {
        if !self.editor.add_history_entry(entry).unwrap_or(false) {
            return;
        }
        let Some(path) = &self.history else { return };
        if let Some(folder) = path.parent() {
            let _ = std::fs::create_dir_all(folder);
        }
        let _ = self.editor.append_history(path);
    }
}

/// Completes slash commands.
struct Commands;

impl Completer for Commands {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &rustyline::Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let begun = line.get(..position).unwrap_or(line);
        let pair = |text: String| Pair { display: text.clone(), replacement: text };
        Ok((0, super::slash::completions(begun).into_iter().map(pair).collect()))
    }
}

impl Hinter for Commands {
    type Hint = String;
}
impl Highlighter for Commands {}
impl Validator for Commands {}
impl Helper for Commands {}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Lines written down beforehand.
    pub(in crate::chat) struct Script {
        lines: VecDeque<Line>,
        pub(in crate::chat) remembered: Vec<String>,
    }

    impl Script {
        /// `^C` stands for Ctrl-C; after the last line comes Ctrl-D.
        pub(in crate::chat) fn new(lines: &[&str]) -> Script {
            let line = |text: &&str| match *text {
                "^C" => Line::Interrupted,
                text => Line::Text(text.to_owned()),
            };
            Script { lines: lines.iter().map(line).collect(), remembered: Vec::new() }
        }
    }

    impl LineSource for Script {
        fn line(&mut self, _: &str) -> Result<Line> {
            Ok(self.lines.pop_front().unwrap_or(Line::End))
        }

        fn remember(&mut self, entry: &str) {
            self.remembered.push(entry.to_owned());
        }
    }

    fn read(lines: &[&str]) -> (Line, bool) {
        entry(&mut Script::new(lines)).unwrap()
    }

    #[test]
    fn entries_of_several_lines() {
        let text = |text: &str| Line::Text(text.to_owned());
        assert_eq!(read(&["one"]), (text("one"), true));
        assert_eq!(read(&["\"\"\"one", "", "two \"\"\""]), (text("one\n\ntwo "), false));
        assert_eq!(read(&["\"\"\"", "one", "\"\"\"  "]), (text("one"), false));
        assert_eq!(read(&["\"\"\"one\"\"\""]), (text("one"), false));
        assert_eq!(read(&["one\\", "two\\", "three"]), (text("one\ntwo\nthree"), false));
        assert_eq!(read(&["\"\"\"one", "^C"]), (Line::Interrupted, false));
        assert_eq!(read(&["one\\"]), (Line::End, false));
        assert_eq!(read(&[]), (Line::End, true));
    }
}
