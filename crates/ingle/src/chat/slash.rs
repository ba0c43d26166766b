//! Commands inside a conversation.

/// A command, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slash {
    /// List the commands.
    Help,
    /// Show, set or remove the system prompt.
    System(Option<String>),
    /// List the settings, show one, or set one.
    Set(Option<(String, Option<String>)>),
    /// Forget the conversation.
    Clear,
    /// Write it to a file.
    Save(String),
    /// Read it from a file.
    Load(String),
    /// Figures.
    Stats,
    /// Leave.
    Bye,
    /// A command without what it needs.
    Incomplete(&'static str),
    /// No command; perhaps another was meant.
    Unknown(String, Option<&'static str>),
}

/// One row of the help.
pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) arguments: &'static str,
    pub(super) help: &'static str,
}

const fn known(name: &'static str, arguments: &'static str, help: &'static str) -> Known {
    Known { name, arguments, help }
}

/// Every command, in the order of the help.
pub(super) const KNOWN: &[Known] = &[
    known("/help", "", "this list"),
    known("/system", "[TEXT | none]", "show, set or remove the system prompt"),
    known(
        "/set",
        "[NAME [VALUE | default]]",
        "show or change a setting: temperature, top_p, seed, think ...",
    ),
    known("/clear", "", "forget the conversation"),
    known("/save", "FILE", "write the conversation to a file"),
    known("/load", "FILE", "go on with a conversation from a file"),
    known("/stats", "", "model, memory, context and speed"),
    known("/bye", "", "leave (or Ctrl-D)"),
];

/// Understands a line that begins with a slash.
pub(super) fn parse(line: &str) -> Slash {
    let line = line.trim();
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let argument = (!rest.is_empty()).then(|| rest.to_owned());
    match name.to_ascii_lowercase().as_str() {
        "/help" | "/?" | "/h" => Slash::Help,
        "/system" => Slash::System(argument),
        "/set" => Slash::Set(argument.map(|text| match text.split_once(char::is_whitespace) {
            Some((name, value)) => (name.to_owned(), Some(value.trim().to_owned())),
            None => (text, None),
        })),
        "/clear" => Slash::Clear,
        "/save" => argument.map_or(Slash::Incomplete("/save FILE"), Slash::Save),
        "/load" => argument.map_or(Slash::Incomplete("/load FILE"), Slash::Load),
        "/stats" => Slash::Stats,
        "/bye" | "/exit" | "/quit" | "/q" => Slash::Bye,
        _ => Slash::Unknown(name.to_owned(), nearest(name, KNOWN.iter().map(|known| known.name))),
    }
}

/// Commands that begin like `begun`.
pub(super) fn completions(begun: &str) -> Vec<String> {
    if !begun.starts_with('/') || begun.contains(char::is_whitespace) {
        return Vec::new();
    }
    let full = |known: &Known| known.name.to_owned() + if known.arguments.is_empty() { "" } else { " " };
    KNOWN.iter().filter(|known| known.name.starts_with(begun)).map(full).collect()
}

/// The candidate that `word` was probably meant to be.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().take(32).collect();
    let begun: String = word.iter().collect();
    let scored = candidates.map(|candidate| {
        let begins = begun.len() > 1 && candidate.starts_with(&begun);
        (if begins { 0 } else { distance(&word, candidate) }, candidate)
    });
    let (edits, best) = scored.min_by_key(|(edits, _)| *edits)?;
    (edits <= word.len().div_ceil(3)).then_some(best)
}

/// Insertions, deletions and changes from one word to the other (Levenshtein).
fn distance(from: &[char], to: &str) -> usize {
    let mut row: Vec<usize> = (0..=from.len()).collect();
    for (at, wanted) in to.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, given) in from.iter().enumerate() {
            let changed = diagonal + usize::from(*given != wanted);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[from.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_understood() {
        let owned = str::to_owned;
        assert_eq!(parse("/help"), Slash::Help);
        assert_eq!(parse("/system  Be brief. "), Slash::System(Some(owned("Be brief."))));
        assert_eq!(parse("/set"), Slash::Set(None));
        assert_eq!(parse("/set top_p"), Slash::Set(Some((owned("top_p"), None))));
        assert_eq!(parse("/set stop a b"), Slash::Set(Some((owned("stop"), Some(owned("a b"))))));
        assert_eq!(parse("/save my talk.json"), Slash::Save(owned("my talk.json")));
        assert_eq!(parse("/load"), Slash::Incomplete("/load FILE"));
        assert_eq!(parse("/QUIT"), Slash::Bye);
    }

    #[test]
    fn a_slip_of_the_finger_is_guessed() {
        for (typed, meant) in [
            ("/hlep", Some("/help")),
            ("/sys", Some("/system")),
            ("/stat", Some("/stats")),
            ("/claer", Some("/clear")),
            ("/etc/passwd", None),
            ("/", None),
        ] {
            assert_eq!(parse(typed), Slash::Unknown(typed.to_owned(), meant), "{typed}");
        }
    }

    #[test]
    fn the_tab_key_completes_commands_and_nothing_else() {
        assert_eq!(completions("/s"), ["/system ", "/set ", "/save ", "/stats"]);
        assert!(completions("/set t").is_empty());
        assert!(completions("hello").is_empty());
    }

    #[test]
    fn every_command_of_the_help_exists() {
        for known in KNOWN {
            assert!(!matches!(parse(known.name), Slash::Unknown(..)), "{}", known.name);
        }
    }
}
