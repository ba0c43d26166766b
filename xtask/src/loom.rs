//! The thread pool's protocol under a model checker: all orders of events, within a bound on preemptions.

use anyhow::{Context, Result, ensure};
use std::process::Command;

/// Runs the models. They are built with `--cfg loom` in a folder of their own, so that nothing else is built anew.
pub fn loom() -> Result<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--locked", "-p", "ingle-cpu", "--lib", "--target-dir", "target/loom"]);
    // the kernels come along, and nobody runs them here
    cargo.args(["--config", "profile.dev.package.ingle-cpu.opt-level=0"]);
    cargo.args(["--config", "profile.dev.package.ingle-model.opt-level=0"]);
    cargo.args(["--", "pool::model"]).env("RUSTFLAGS", "--cfg loom");
    let status = cargo.status().context("cannot start cargo")?;
    ensure!(status.success(), "the models of the thread pool did not pass, or did not start");
    Ok(())
}
