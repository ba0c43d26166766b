//! Text that comes through standard input.

use crate::console::say;
use anyhow::{Context, Result, bail};
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// More text than any context holds.
const MOST_BYTES: u64 = 64 << 20;
/// Silence of a pipe after which the person is told what is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whether a person types there.
pub(crate) fn is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// All of standard input as text.
///
/// # Errors
/// When it is no UTF-8 or longer than any model's context.
pub(crate) fn read_all() -> Result<String> {
    let (finished, waiting) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        if waiting.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout)
            && std::io::stderr().is_terminal()
        {
            say("waiting for the end of standard input (at a keyboard: Ctrl-D)");
        }
    });
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .context("cannot read standard input")?;
    drop(finished);
    if bytes.len() as u64 > MOST_BYTES {
        bail!(
            "standard input is longer than {} MB, more than any context holds; shorten it",
            MOST_BYTES / 1_000_000
        );
    }
    text(bytes)
}

/// A whole file as text.
///
/// # Errors
/// When it cannot be read, is no UTF-8 or longer than any command takes.
pub(crate) fn read_file(path: &Path) -> Result<String> {
    let name = || format!("cannot read {}", path.display());
    let file = std::fs::File::open(path).with_context(name)?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).with_context(name)?;
    if bytes.len() as u64 > MOST_BYTES {
        bail!("{} is longer than {} MB; split it", path.display(), MOST_BYTES / 1_000_000);
    }
    text_of(&path.display().to_string(), bytes)
}

fn text(bytes: Vec<u8>) -> Result<String> {
    text_of("standard input", bytes)
}

fn text_of(what: &str, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow::anyhow!("{what} is not UTF-8 text: byte {at} is no part of a character; convert it first")
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_that_are_no_text_are_refused_with_their_place() {
        assert_eq!(super::text("né".into()).unwrap(), "né");
        assert!(super::text(vec![b'a', 0xff]).unwrap_err().to_string().contains("byte 1 "));
    }
}
