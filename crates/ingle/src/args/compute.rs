//! Options of every command that computes.

use crate::{env, errors, messages};
use anyhow::Result;
use clap::Args;
use ingle_cpu::kernels::{Isa, Kernels};

/// With what to compute.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Computing")]
pub(crate) struct ComputeArgs {
    /// Threads to use [default: the physical cores] [env: INGLE_THREADS]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = threads)]
    threads: Option<usize>,
    /// Instruction set of the kernels: scalar, neon, avx2 or avx512 [default: the best there is] [env: INGLE_ISA]
    #[arg(long, value_name = "SET", value_parser = isa)]
    isa: Option<Isa>,
    /// Compute in plain 32-bit arithmetic on one thread: the slow standard the fast path is judged by
    #[arg(long, conflicts_with_all = ["threads", "isa"])]
    pub(crate) reference: bool,
}

/// With what to compute, with several numbers of threads one after the other.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Computing")]
pub(crate) struct ComputeListArgs {
    /// Threads to use, or several numbers of threads to compare [default: the physical cores] [env: INGLE_THREADS]
    #[arg(short, long, value_name = "N,...", value_delimiter = ',', allow_negative_numbers = true, value_parser = threads)]
    threads: Vec<usize>,
    /// Instruction set of the kernels, such as scalar, avx2 or avx512 [default: the best there is] [env: INGLE_ISA]
    #[arg(long, value_name = "SET", value_parser = isa)]
    isa: Option<Isa>,
    /// Measure the slow standard the fast path is judged by: plain 32-bit arithmetic on one thread
    #[arg(long, conflicts_with_all = ["threads", "isa"])]
    reference: bool,
}

impl ComputeListArgs {
    /// The choices, one for each number of threads.
    ///
    /// # Errors
    /// As [`ComputeArgs::choose`].
    pub(crate) fn choose(&self) -> Result<Vec<Compute>> {
        let one = |threads| ComputeArgs { threads, isa: self.isa, reference: self.reference }.choose();
        match self.threads[..] {
            [] => Ok(vec![one(None)?]),
            _ => self.threads.iter().map(|&threads| one(Some(threads))).collect(),
        }
    }
}

/// What was chosen, by option or else by environment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compute {
    /// Threads; 0 leaves the choice to the pool.
    pub(crate) threads: usize,
    /// Kernels; `None` is the best there is.
    pub(crate) isa: Option<Isa>,
    /// Whether the reference executor computes.
    pub(crate) reference: bool,
}

impl ComputeArgs {
    /// Looks at the environment where no option was given. The reference executor has nothing to choose.
    ///
    /// # Errors
    /// When a variable is set to what its option would refuse.
    pub(crate) fn choose(&self) -> Result<Compute> {
        if self.reference {
            return Ok(Compute { threads: 0, isa: None, reference: true });
        }
        let threads = match self.threads {
            None => from_environment(env::THREADS, threads)?,
            given => given,
        };
        let isa = match self.isa {
            None => from_environment(env::ISA, isa)?,
            given => given,
        };
        Ok(Compute { threads: threads.unwrap_or(0), isa, reference: false })
    }
}

impl Compute {
    /// What is unwise about the choice.
    pub(crate) fn notice(&self) -> Option<String> {
        let usable = std::thread::available_parallelism().map_or(usize::MAX, usize::from);
        (self.threads > usable).then(|| messages::more_threads_than_cores(self.threads, usable))
    }
}

fn from_environment<T>(name: &str, read: fn(&str) -> Result<T, String>) -> Result<Option<T>> {
    let Some(value) = env::set(name) else { return Ok(None) };
    let value = value.to_string_lossy();
    let read = read(value.trim());
    read.map(Some).map_err(|problem| {
        errors::Usage(format!("the environment variable {name} is `{value}`: {problem}")).into()
    })
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
    match Isa::parse(text) {
        Some(isa) if Kernels::for_isa(isa).is_some() => Ok(isa),
        Some(_) => Err(messages::no_isa(text, &available)),
        None => Err(messages::unknown_isa(&Isa::ALL.map(Isa::name), &available)),
    }
}
