//! The program from outside: what it prints, what it writes, and how it ends.

mod bench;
mod doctor;
mod embed;
mod list;
mod logits;
mod mistakes;
#[cfg(target_os = "linux")]
mod offline;
mod other;
mod pull;
mod run;
mod show;

use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How a run of the program ended.
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

/// The program with `args`, without the person's environment.
fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ingle"));
    const SET: [&str; 10] = [
        "INGLE_THREADS",
        "INGLE_ISA",
        "INGLE_OFFLINE",
        "INGLE_UNSEALED",
        "OLLAMA_MODELS",
        "HF_HOME",
        "HF_HUB_CACHE",
        "LLAMA_CACHE",
        "XDG_CACHE_HOME",
        "XDG_DATA_HOME",
    ];
    SET.iter().for_each(|variable| _ = command.env_remove(variable));
    command.args(args).env("HOME", "/nonexistent");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the program to its end, with `input` on its standard input.
fn ingle_with_input(args: &[&str], input: &[u8]) -> Ended {
    let mut child = command(args).stdin(Stdio::piped()).spawn().unwrap();
    // a program that refuses its arguments does not read
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs the program to its end.
fn ingle(args: &[&str]) -> Ended {
    ingle_with_input(args, b"")
}

/// Runs the program, which must succeed.
fn succeeds(args: &[&str]) -> Ended {
    let ended = ingle(args);
    assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.err);
    ended
}

/// Runs the program, which must succeed with one JSON document and nothing else on standard output.
fn json(args: &[&str]) -> Value {
    let ended = succeeds(args);
    serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{args:?}: {error}: {}", ended.out))
}

/// A file or folder among the models with published outputs.
fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ingle-cpu/tests/fixtures").join(name);
    assert!(path.exists(), "{}", path.display());
    path.to_str().unwrap().to_owned()
}

/// An empty folder of a test's own.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
