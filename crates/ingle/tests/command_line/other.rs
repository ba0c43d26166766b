//! Help, version, completions and the manual page.

use super::{ingle, succeeds};

const COMMANDS: [&str; 9] =
    ["run", "show", "embed", "bench", "doctor", "tokenize", "logits", "completions", "man"];

#[test]
fn help_names_every_command_and_gives_examples() {
    let help = succeeds(&["--help"]).out;
    for part in COMMANDS.iter().chain(&["Examples:", "ingle run"]) {
        assert!(help.contains(part), "{part}: {help}");
    }
    for command in COMMANDS {
        assert!(succeeds(&[command, "--help"]).out.contains("Usage: ingle"), "{command}");
    }
    assert_eq!(succeeds(&["--version"]).out.trim(), concat!("ingle ", env!("CARGO_PKG_VERSION")));
    assert_eq!(ingle(&[]).code, Some(2));
}

#[test]
fn completions_exist_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = succeeds(&["completions", shell]).out;
        assert!(script.contains("logits") && script.contains("temperature"), "{shell}");
    }
    assert_eq!(ingle(&["completions", "tcsh"]).code, Some(2));
}

#[test]
fn the_manual_page_covers_every_command() {
    let page = succeeds(&["man"]).out;
    assert!(page.contains(".TH ingle 1"), "{page}");
    for command in COMMANDS {
        assert!(page.contains(&format!("COMMAND INGLE {}", command.to_uppercase())), "{command}");
    }
    assert!(page.contains("\\-\\-temperature"), "options are listed");
}
