//! What was tried and what the kernel answered, for people and for programs.

use super::attempts::{Attempt, Kind};
use crate::offline::Seal;
use ingle_server::time::now;
use serde_json::{Value, json};
use std::fmt;

/// All of it.
pub(super) struct Report {
    pub(super) seal: Seal,
    /// What came of the attempts while nothing kept them.
    pub(super) before: Vec<Attempt>,
    /// And afterwards.
    pub(super) after: Vec<Attempt>,
    /// Sockets that were open when the program started, as far as the system says.
    pub(super) sockets: Vec<String>,
}

/// What the report comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Controls got through before, and nothing did afterwards.
    Holds,
    /// Nothing got through afterwards, but some controls had not before, either.
    Untested,
    /// Something got through, or there is no filter.
    Broken,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Holds => "holds",
            Verdict::Untested => "untested",
            Verdict::Broken => "broken",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Verdict::Holds => {
                "The claim holds: this process cannot open a connection, and neither can what it starts."
            }
            Verdict::Untested => {
                "NOT TESTED: everything was refused, but so were controls before the network was given up, as where there \
                 is no network at all; run it where there is one."
            }
            Verdict::Broken => "THE CLAIM DOES NOT HOLD on this system; see above.",
        }
    }
}

impl Report {
    pub(super) fn verdict(&self) -> Verdict {
        let mut controls = self.before.iter().filter(|attempt| attempt.kind == Kind::Control);
        let refused = |attempt: &Attempt| {
            let refusal = attempt.refused.as_ref();
            refusal.is_some_and(|refusal| refusal.by_seal || attempt.kind == Kind::Library)
        };
        if self.seal.unfiltered.is_some() || !self.after.iter().all(refused) {
            Verdict::Broken
        } else if controls.all(|attempt| attempt.refused.is_none()) {
            Verdict::Holds
        } else {
            Verdict::Untested
        }
    }

    pub(super) fn json(&self) -> Value {
        let attempts = self.after.iter().zip(&self.before).map(|(after, before)| {
            let words = |attempt: &Attempt| match &attempt.refused {
                Some(refusal) => json!(refusal.words),
                None => Value::Null,
            };
            json!({
                "way": after.way, "control": after.kind == Kind::Control,
                "refused_before": words(before), "refused": words(after),
            })
        });
        json!({
            "program": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION"),
            "executable": std::env::current_exe().ok().map(|path| path.display().to_string()),
            "time": now(), "system": system(),
            "filter": { "holds": self.seal.unfiltered.is_none(), "why_not": self.seal.unfiltered },
            "landlock": { "holds": self.seal.landlock_missing.is_none(), "why_not": self.seal.landlock_missing },
            "kernel_says": kernel_says(), "attempts": attempts.collect::<Vec<_>>(), "sockets_at_start": self.sockets,
            "verdict": self.verdict().word(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "ingle {} on {}", env!("CARGO_PKG_VERSION"), system())?;
        if let Ok(path) = std::env::current_exe() {
            writeln!(f, "program: {} (its SHA-256: `sha256sum` on it)", path.display())?;
        }
        writeln!(f, "time: {}\n", now())?;
        let layer = |missing: &Option<String>| {
            missing.as_ref().map_or("installed".to_owned(), |why| format!("NOT installed: {why}"))
        };
        writeln!(f, "filter of system calls (seccomp), all threads: {}", layer(&self.seal.unfiltered))?;
        writeln!(f, "Landlock, TCP connections:                     {}", layer(&self.seal.landlock_missing))?;
        for line in kernel_says() {
            writeln!(f, "the kernel about this process: {line}")?;
        }
        writeln!(f, "\nwhat was tried, and what the kernel answered before and afterwards:")?;
        for (before, after) in self.before.iter().zip(&self.after) {
            let words = |attempt: &Attempt| {
                attempt.refused.as_ref().map_or("got through".to_owned(), |refusal| refusal.words.clone())
            };
            writeln!(f, "  {}\n      before: {}\n      after:  {}", after.way, words(before), words(after))?;
        }
        match self.sockets.len() {
            0 => writeln!(f, "\nsockets that it was started with: none")?,
            _ => writeln!(f, "\nsockets that it was started with: {}", self.sockets.join(", "))?,
        }
        writeln!(f, "\n{}", self.verdict().sentence())
    }
}

fn system() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} {} {}", std::env::consts::OS, release.trim(), std::env::consts::ARCH)
}

/// What `/proc` says of the filter.
fn kernel_says() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let told = |line: &&str| line.starts_with("NoNewPrivs") || line.starts_with("Seccomp");
    status.lines().filter(told).map(|line| line.replace('\t', " ")).collect()
}

/// Sockets among the open files.
pub(super) fn sockets() -> Vec<String> {
    let Ok(files) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let links = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    links.map(|link| link.display().to_string()).filter(|link| link.starts_with("socket:")).collect()
}
