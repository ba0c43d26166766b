//! The tests of the CPU kernels under an emulator of 64-bit Arm, for each of some processors: one that has all
//! instruction sets with kernels, one without the matrix extension, one with neither it nor dot products.
//!
//! Needs the Rust target, a linker for it and QEMU's user mode; on Debian: `rustup target add
//! aarch64-unknown-linux-gnu`, packages `gcc-aarch64-linux-gnu` and `qemu-user-static`.

use anyhow::{Context, Result, ensure};
use std::process::Command;

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: (&str, &str) = ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
const RUNNER: &str = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER";

/// Processors, in QEMU's names, that between them have every table of kernels as their best.
pub const PROCESSORS: [&str; 3] = ["max", "neoverse-n1", "cortex-a53"];

/// Runs the tests whose names contain one of `filters` on each of the processors; a linker named in the environment is kept.
pub fn emulated(processors: &[String], filters: &[String]) -> Result<()> {
    for processor in processors {
        println!("64-bit Arm, {processor}:");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["test", "--locked", "-p", "ingle-cpu", "--lib", "--target", TARGET, "--"]);
        cargo.args(filters).args(["--quiet", "--show-output"]).env("RUST_BACKTRACE", "0");
        if std::env::var_os(LINKER.0).is_none() {
            cargo.env(LINKER.0, LINKER.1);
        }
        cargo.env(RUNNER, format!("qemu-aarch64-static -cpu {processor} -L /usr/aarch64-linux-gnu"));
        let status = cargo.status().context("cannot start cargo")?;
        ensure!(
            status.success(),
            "the tests on {processor} did not pass, or did not start; they need `rustup target add {TARGET}` and, on \
             Debian, the packages gcc-aarch64-linux-gnu and qemu-user-static"
        );
    }
    Ok(())
}
