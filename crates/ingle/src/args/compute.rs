//! Options of every command that computes.

use crate::{env, errors, messages};
use anyhow::Result;
use clap::Args;
use ingle_cpu::kernels::{Isa, Kernels};
use ingle_engine::{ExecutorKind, LoadOptions};
use ingle_model::spec::KvFormat;

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
    /// Memory for experts, such as 12GB; the others are read from the file when they are chosen [default: what is free]
    /// [env: INGLE_EXPERT_MEMORY]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    expert_memory: Option<u64>,
    /// How keys and values are kept: 16bit; 8bit, which takes half the memory and is a little less exact; or 4bit, which takes
    /// little more than a quarter and shows
    #[arg(long, value_name = "FORMAT", value_parser = kv_format, default_value = KvFormat::default().name())]
    kv: KvFormat,
    /// Compute in plain 32-bit arithmetic on one thread: the slow standard the fast path is judged by
    #[arg(long, conflicts_with_all = ["threads", "isa", "expert_memory", "kv"])]
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
    /// Memory for experts, such as 12GB; the others are read from the file when they are chosen [default: all of them]
    /// [env: INGLE_EXPERT_MEMORY]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    expert_memory: Option<u64>,
    /// How keys and values are kept: 16bit; 8bit, which takes half the memory and is a little less exact; or 4bit, which takes
    /// little more than a quarter and shows
    #[arg(long, value_name = "FORMAT", value_parser = kv_format, default_value = KvFormat::default().name())]
    kv: KvFormat,
    /// Measure the slow standard the fast path is judged by: plain 32-bit arithmetic on one thread
    #[arg(long, conflicts_with_all = ["threads", "isa", "expert_memory", "kv"])]
    reference: bool,
}

impl ComputeListArgs {
    /// The choices, one for each number of threads.
    ///
    /// # Errors
    /// As [`ComputeArgs::choose`].
    pub(crate) fn choose(&self) -> Result<Vec<Compute>> {
        let &ComputeListArgs { isa, expert_memory, kv, reference, .. } = self;
        let one = |threads| ComputeArgs { threads, isa, expert_memory, kv, reference }.choose();
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
    /// Bytes for routed experts; `None` is what is free.
    pub(crate) expert_memory: Option<u64>,
    /// How the cache is kept.
    pub(crate) kv: KvFormat,
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
            let kv = self.kv;
            return Ok(Compute { threads: 0, isa: None, expert_memory: None, kv, reference: true });
        }
        let threads = match self.threads {
            None => from_environment(env::THREADS, threads)?,
            given => given,
        };
        let isa = match self.isa {
            None => from_environment(env::ISA, isa)?,
            given => given,
        };
        let expert_memory = match self.expert_memory {
            None => from_environment(env::EXPERT_MEMORY, size)?,
            given => given,
        };
        Ok(Compute { threads: threads.unwrap_or(0), isa, expert_memory, kv: self.kv, reference: false })
    }
}

impl Compute {
    /// The same with keys and values kept so.
    pub(crate) fn with_kv(self, kv: KvFormat) -> Compute {
        Compute { kv, ..self }
    }

    /// How a model is to be loaded, for so many tokens of context.
    pub(crate) fn load_options(&self, context: Option<usize>) -> LoadOptions {
        LoadOptions {
            threads: self.threads,
            isa: self.isa,
            kind: self.kind(),
            context,
            expert_memory: self.expert_memory,
            kv: self.kv,
            ..LoadOptions::default()
        }
    }

    /// The executor that computes.
    pub(crate) fn kind(&self) -> ExecutorKind {
        if self.reference { ExecutorKind::Reference } else { ExecutorKind::Production }
    }

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

/// Bytes: a number with or without a unit, powers of 1000 (kB, MB, GB) or of 1024 (KiB, MiB, GiB).
pub(crate) fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 10] = [
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("k", 1_000),
        ("m", 1_000_000),
        ("g", 1_000_000_000),
        ("b", 1),
    ];
    let lower = text.trim().to_ascii_lowercase();
    let unit = UNITS.iter().find_map(|&(unit, bytes)| Some((lower.strip_suffix(unit)?, bytes)));
    let (number, unit) = unit.unwrap_or((&lower, 1));
    match number.trim_end().parse::<f64>() {
        Ok(number) if number >= 0.0 && number * (unit as f64) < 1e18 => Ok((number * unit as f64) as u64),
        _ => Err("a size such as 12GB or 800MB is needed".into()),
    }
}

/// A model's name and the format of its keys and values.
pub(crate) fn kv_of(text: &str) -> Result<(String, KvFormat), String> {
    let (name, format) = text.rsplit_once('=').ok_or("NAME=FORMAT is needed, such as big=8bit")?;
    Ok((name.trim().to_owned(), kv_format(format.trim())?))
}

fn kv_format(text: &str) -> Result<KvFormat, String> {
    let names = KvFormat::ALL.map(KvFormat::name).join(", ");
    KvFormat::parse(text)
        .ok_or_else(|| format!("one of {names} is needed; other formats of the cache are not known here"))
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

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_units_of_both_kinds_or_none() {
        assert_eq!(size("12GB"), Ok(12_000_000_000));
        assert_eq!(size("1.5 GiB"), Ok(3 << 29));
        assert_eq!(size("800m"), Ok(800_000_000));
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("0"), Ok(0));
        for wrong in ["", "GB", "-1GB", "much", "1e30", "nan", "inf GB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
