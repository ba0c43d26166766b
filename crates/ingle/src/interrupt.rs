//! Ctrl-C, and the signals that ask a program to end: they stop an answer, and end the program only when there is none
//! to stop.

use crate::errors;
use anyhow::{Context, Result};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

static ANSWERING: AtomicBool = AtomicBool::new(false);
static STOP: AtomicBool = AtomicBool::new(false);
/// A temporary file that must not outlive the program.
static TEMPORARY: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Takes over Ctrl-C. Called once.
pub(crate) fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        let answering = ANSWERING.load(Ordering::SeqCst);
        // the second Ctrl-C does not wait for the step in progress
        if !answering || STOP.swap(true, Ordering::SeqCst) {
            leave();
        }
    })
    .context("cannot listen for Ctrl-C")
}

/// Creates the file `path` with `create`. From its first moment until [`removed`] it is removed when a signal ends the
/// program.
pub(crate) fn remove_when_leaving<T>(path: &Path, create: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let mut temporary = temporary(); // a signal waits until it is known whether there is a file
    let created = create()?;
    *temporary = Some(path.to_owned());
    Ok(created)
}

/// The temporary file has its final name or is gone.
pub(crate) fn removed() {
    *temporary() = None;
}

fn temporary() -> MutexGuard<'static, Option<PathBuf>> {
    TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner)
}

fn leave() -> ! {
    let temporary = temporary(); // held to the end: no other file can come into being
    if let Some(path) = temporary.as_deref() {
        let _ = std::fs::remove_file(path);
    }
    if std::io::stdout().is_terminal() {
        let _ = std::io::stderr().write_all(b"\x1b[0m\n"); // an answer may have left its text dim
    }
    std::process::exit(errors::INTERRUPTED.into())
}

/// While it lives, Ctrl-C stops the answer instead of the program.
pub(crate) struct Answering(());

impl Answering {
    /// From now on.
    pub(crate) fn begin() -> Answering {
        STOP.store(false, Ordering::SeqCst);
        ANSWERING.store(true, Ordering::SeqCst);
        Answering(())
    }

    /// Whether Ctrl-C was pressed.
    pub(crate) fn stopped(&self) -> bool {
        STOP.load(Ordering::SeqCst)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        ANSWERING.store(false, Ordering::SeqCst);
    }
}
