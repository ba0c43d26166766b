//! Options of every command that computes.

use crate::{env, messages};
use clap::Args;
use ingle_cpu::kernels::{Isa, Kernels};

/// With what to compute.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Computing")]
pub(crate) struct ComputeArgs {
    /// Threads to use [default: the physical cores]
    #[arg(long, value_name = "N", env = env::THREADS, hide_env_values = true, value_parser = threads)]
    pub(crate) threads: Option<usize>,
    /// Instruction set of the kernels: scalar, neon, avx2 or avx512 [default: the best there is]
    #[arg(long, value_name = "SET", env = env::ISA, hide_env_values = true, value_parser = isa)]
    pub(crate) isa: Option<Isa>,
    /// Compute in plain 32-bit arithmetic on one thread: the slow standard the fast path is judged by
    #[arg(long)]
    pub(crate) reference: bool,
}

/// More threads than any machine has cores are a slip of the finger.
const MOST_THREADS: usize = 1024;

fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=MOST_THREADS).contains(&count) => Ok(count),
        _ => Err(format!("a number from 1 to {MOST_THREADS} is needed")),
    }
}

fn isa(text: &str) -> Result<Isa, String> {
    let available: Vec<&str> =
        Isa::ALL.into_iter().filter(|&isa| Kernels::for_isa(isa).is_some()).map(Isa::name).collect();
    Isa::parse(text)
        .filter(|&isa| Kernels::for_isa(isa).is_some())
        .ok_or_else(|| messages::no_isa(text, &available))
}
