//! A progress bar for what takes over a second, on a terminal only.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    /// Bytes of a file.
    Bytes,
    /// Tokens.
    Tokens,
}

/// Work that may take long. Nothing is drawn in the first second, nor when standard error is no terminal.
pub(crate) struct Progress {
    label: &'static str,
    unit: Unit,
    started: Instant,
    wanted: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    const PATIENCE: Duration = Duration::from_secs(1);

    /// Starts the clock. `label` says what is being done.
    pub(crate) fn new(label: &'static str, unit: Unit) -> Progress {
        let wanted = std::io::stderr().is_terminal();
        Progress { label, unit, started: Instant::now(), wanted, bar: None }
    }

    /// The same, drawn only if `wanted`.
    pub(crate) fn new_if(wanted: bool, label: &'static str, unit: Unit) -> Progress {
        let mut progress = Progress::new(label, unit);
        progress.wanted &= wanted;
        progress
    }

    /// Reports `done` of `total`.
    pub(crate) fn update(&mut self, done: u64, total: u64) {
        if !self.wanted || (self.bar.is_none() && self.started.elapsed() < Progress::PATIENCE) {
            return;
        }
        let (label, unit) = (self.label, self.unit);
        self.bar.get_or_insert_with(|| bar(label, unit, done, total)).set_position(done);
    }

    /// Takes the bar away.
    pub(crate) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

fn bar(label: &'static str, unit: Unit, done: u64, total: u64) -> ProgressBar {
    let counts = match unit {
        Unit::Bytes => "{decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}",
        Unit::Tokens => "{pos}/{len} tokens",
    };
    let style = ProgressStyle::with_template(&format!("{{msg}} {{bar:30}} {counts} {{eta}}"));
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    // complete before it is first drawn: draws that follow each other too soon are left out
    let target = indicatif::ProgressDrawTarget::hidden();
    let bar = ProgressBar::with_draw_target(Some(total), target).with_style(style);
    let bar = bar.with_message(label).with_position(done);
    bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
    bar.tick();
    bar
}
