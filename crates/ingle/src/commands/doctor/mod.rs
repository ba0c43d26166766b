//! `ingle doctor`: what was found of this machine, what was chosen for it, and what costs speed.

mod advice;
mod report;

use crate::args::ComputeArgs;
use crate::console::{Output, for_output};
use crate::{env, errors, messages};
use anyhow::Result;
use ingle_cpu::kernels::{Isa, Kernels, features, layout};
use ingle_cpu::pool::Processors;
use ingle_cpu::{Cpu, Limits};
use ingle_engine::bench::{Disturbance, Quiet, Spread};
use ingle_engine::{machine, memory};
use ingle_model::Format;
use ingle_model::spec::Rates;
use std::io::Write;
use std::path::PathBuf;

/// Show what was found of this machine, what was chosen for it, and what costs speed.
///
/// Takes two seconds, in which memory and arithmetic are measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object (docs/doctor.md explains its fields)
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// How often each limit is sampled: memory changes its speed within a second.
const SAMPLES: usize = 15;
/// Bytes that are read: beyond the caches.
const BYTES: u64 = 512 << 20;

/// Everything that was found.
#[derive(Clone, Debug)]
struct Machine {
    processor: Option<String>,
    features: Vec<&'static str>,
    isa: Isa,
    processors: Processors,
    threads: usize,
    /// Whether the person chose the threads.
    threads_asked: bool,
    memory: Option<u64>,
    available: Option<u64>,
    group_limit: Option<u64>,
    huge_pages: Option<String>,
    governor: Option<(String, String)>,
    /// With all threads, and with one.
    measured: Measured,
    measured_alone: Option<Measured>,
    disturbance: Disturbance,
    data_folder: Option<PathBuf>,
    optimised: bool,
}

/// Rates of some samples.
#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    bytes: Spread,
    integers: Spread,
    words: Spread,
    floats: Spread,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let compute = args.compute.choose()?;
    if compute.reference {
        return Err(errors::Usage(messages::NO_REFERENCE_DOCTOR.into()).into());
    }
    let kernels = compute.isa.and_then(Kernels::for_isa).unwrap_or_else(Kernels::best);
    let processors = Processors::find();
    let cpu = Cpu::with(compute.threads, kernels);
    let threads = cpu.pool.threads();
    let quiet = Quiet::begin();
    // never more than an eighth of what is free
    let bytes = memory::available().map_or(BYTES, |available| BYTES.min(available / 8));
    let measured = measure(cpu, bytes)?;
    let measured_alone = if threads > 1 { Some(measure(Cpu::with(1, kernels), bytes)?) } else { None };
    let machine = Machine {
        processor: machine::processor(),
        features: features(),
        isa: kernels.isa(),
        processors,
        threads,
        threads_asked: compute.threads > 0,
        memory: memory::total(),
        available: memory::available(),
        group_limit: memory::group_limit(),
        huge_pages: machine::huge_pages(),
        governor: machine::governor(),
        measured,
        measured_alone,
        disturbance: quiet.end(),
        data_folder: env::data_folder(),
        optimised: !cfg!(debug_assertions),
    };
    let advice = advice::advice(&machine);
    let mut output = Output::new("the report");
    match args.json {
        true => writeln!(output, "{}", for_output(report::document(&machine, &advice).to_string()))?,
        false => output.write_all(for_output(report::text(&machine, &advice)).as_bytes())?,
    }
    Ok(output.flush()?)
}

fn measure(cpu: Cpu, bytes: u64) -> Result<Measured> {
    let limits = Limits::new(cpu, bytes)?;
    let samples: Vec<Rates> = (0..SAMPLES).map(|_| limits.sample()).collect();
    let spread = |of: fn(&Rates) -> f64| Spread::of(&samples.iter().map(of).collect::<Vec<_>>());
    Ok(Measured {
        bytes: spread(|rates| rates.bytes),
        integers: spread(|rates| rates.integers),
        words: spread(|rates| rates.words),
        floats: spread(|rates| rates.floats),
    })
}

/// Formats of weights with a kernel of their own, and those that are decoded at every use.
fn formats() -> (Vec<&'static str>, Vec<&'static str>) {
    const NO_WEIGHTS: [Format; 6] =
        [Format::F64, Format::I8, Format::I16, Format::I32, Format::I64, Format::U8];
    let weights = Format::ALL.iter().filter(|format| !NO_WEIGHTS.contains(format));
    let fast = |format: &&Format| layout::group_bytes(**format, 256).is_some();
    let (fast, generic): (Vec<&Format>, Vec<&Format>) = weights.partition(fast);
    let names = |formats: Vec<&Format>| formats.into_iter().map(|format| format.name()).collect();
    (names(fast), names(generic))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine where nothing is wrong.
    pub(super) fn machine() -> Machine {
        let spread = |median: f64| Spread { median, least: 0.8 * median, most: 1.1 * median };
        let measured = Measured {
            bytes: spread(50e9),
            integers: spread(0.4e12),
            words: spread(0.2e12),
            floats: spread(0.1e12),
        };
        Machine {
            processor: Some("AMD EPYC".into()),
            features: vec!["avx2", "avx512vnni"],
            isa: Isa::Avx512,
            processors: Processors { online: 4, allowed: 4, usable: 4, cores: Some(2) },
            threads: 2,
            threads_asked: false,
            memory: Some(24_000_000_000),
            available: Some(20_000_000_000),
            group_limit: None,
            huge_pages: Some("madvise".into()),
            governor: Some(("powersave".into(), "amd-pstate-epp".into())),
            measured,
            measured_alone: Some(measured),
            disturbance: Disturbance::default(),
            data_folder: Some("/home/ada/.local/share/ingle".into()),
            optimised: true,
        }
    }

    #[test]
    fn common_formats_are_fast_and_every_format_is_listed_once() {
        let (fast, generic) = formats();
        for name in ["Q4_K", "Q6_K", "Q8_0", "Q4_0", "MXFP4", "BF16", "F16"] {
            assert!(fast.contains(&name), "{name}");
        }
        assert!(generic.contains(&"Q2_K") && !generic.contains(&"I32"), "{generic:?}");
        assert_eq!(fast.len() + generic.len() + 6, Format::ALL.len());
    }
}
