//! Ctrl-C: it stops an answer, and ends the program only when there is none to stop.

use crate::errors;
use anyhow::{Context, Result};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

static ANSWERING: AtomicBool = AtomicBool::new(false);
static STOP: AtomicBool = AtomicBool::new(false);

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

fn leave() -> ! {
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
