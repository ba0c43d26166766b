//! What was found, for people and for programs.

use super::{Machine, Measured, formats};
use crate::console::{Style, harmless};
use crate::figures::bytes;
use ingle_cpu::kernels::{Isa, Kernels};
use ingle_engine::bench::Spread;
use serde_json::{Value, json};

/// For people.
pub(super) fn text(machine: &Machine, advice: &[String]) -> String {
    let (fast, generic) = formats();
    let measured = |name: &str, of: fn(&Measured) -> String| {
        let alone = machine.measured_alone.as_ref().map(|alone| format!(", with one {}", of(alone)));
        (name.to_owned(), format!("{}{}", of(&machine.measured), alone.unwrap_or_default()))
    };
    let sections = [
        (
            "processor",
            vec![
                line("name", machine.processor.clone().unwrap_or_else(|| "unknown".into())),
                line("instructions", machine.features.join(" ")),
                line("kernels", kernels(machine)),
                line("threads", threads(machine)),
            ],
        ),
        ("weights", vec![line("full speed", fast.join(" ")), line("slow but exact", generic.join(" "))]),
        (
            "memory",
            vec![
                line("size", machine.memory.map_or("unknown".into(), bytes)),
                line("free for models", machine.available.map_or("unknown".into(), bytes)),
                line("group's limit", machine.group_limit.map_or("none".into(), bytes)),
                line("huge pages", huge_pages(machine).into()),
            ],
        ),
        (
            "measured just now (median; least to most)",
            vec![
                line("threads", machine.threads.to_string()),
                measured("reading", |m| rate(m.bytes, 1e9, "GB/s")),
                measured("8-bit integers", |m| rate(m.integers, 1e9, "G multiply-adds/s")),
                measured("16-bit integers", |m| rate(m.words, 1e9, "G multiply-adds/s")),
                measured("32-bit floats", |m| rate(m.floats, 1e9, "G multiply-adds/s")),
            ],
        ),
        ("folders", vec![line("data", folder(machine))]),
    ];
    let style = Style::of_output();
    let mut text = String::new();
    for (title, lines) in sections {
        text += &format!("{}\n", style.bold(title));
        for (label, value) in lines {
            text += &format!("  {label:16} {}\n", harmless(&value));
        }
    }
    text += &format!("{}\n", style.bold("what costs speed here"));
    match advice {
        [] => text += "  nothing that can be seen\n",
        _ => advice.iter().for_each(|sentence| text += &format!("  - {}\n", harmless(sentence))),
    }
    text
}

fn line(label: &str, value: String) -> (String, String) {
    (label.to_owned(), value)
}

fn available() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|&isa| Kernels::for_isa(isa).is_some())
}

fn kernels(machine: &Machine) -> String {
    let others: Vec<&str> = available().filter(|&isa| isa != machine.isa).map(Isa::name).collect();
    match others[..] {
        [] => machine.isa.name().to_owned(),
        _ => format!("{} (--isa can choose {})", machine.isa.name(), others.join(", ")),
    }
}

/// How many, and where the number comes from.
fn threads(machine: &Machine) -> String {
    let processors = &machine.processors;
    let plural = |count: usize, name: &str| format!("{count} {name}{}", if count == 1 { "" } else { "s" });
    let mut parts = Vec::new();
    if machine.threads_asked {
        parts.push("asked for".to_owned());
    }
    if let Some(cores) = processors.cores {
        parts.push(plural(cores, "physical core"));
    }
    parts.push(plural(processors.online, "processor"));
    if processors.allowed < processors.online {
        parts.push(format!("{} of them in the affinity mask", processors.allowed));
    }
    if processors.usable < processors.allowed {
        parts.push(format!("time of {} by the control group's quota", processors.usable));
    }
    format!("{} ({})", machine.threads, parts.join(", "))
}

fn huge_pages(machine: &Machine) -> &str {
    match machine.huge_pages.as_deref() {
        Some("always" | "madvise") => "used for weights",
        Some("never") => "none (never)",
        Some(other) => other,
        None => "unknown",
    }
}

fn folder(machine: &Machine) -> String {
    match &machine.data_folder {
        None => "none: the system names no home".into(),
        Some(folder) if folder.is_dir() => folder.display().to_string(),
        Some(folder) => format!("{} (not there yet)", folder.display()),
    }
}

fn rate(spread: Spread, unit: f64, name: &str) -> String {
    let [median, least, most] = [spread.median, spread.least, spread.most].map(|rate| rate / unit);
    format!("{median:.0} {name} ({least:.0} to {most:.0})")
}

/// For programs. `docs/doctor.md` explains every field.
pub(super) fn document(machine: &Machine, advice: &[String]) -> Value {
    let (fast, generic) = formats();
    let processors = &machine.processors;
    let measured = |threads: usize, measured: &Measured| {
        json!({
            "threads": threads,
            "read_bytes_per_second": measured.bytes.median,
            "least_read_bytes_per_second": measured.bytes.least,
            "most_read_bytes_per_second": measured.bytes.most,
            "integer_multiply_adds_per_second": measured.integers.median,
            "word_multiply_adds_per_second": measured.words.median,
            "float_multiply_adds_per_second": measured.floats.median,
        })
    };
    let mut rates = vec![measured(machine.threads, &machine.measured)];
    rates.extend(machine.measured_alone.as_ref().map(|alone| measured(1, alone)));
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "processor": machine.processor,
        "architecture": std::env::consts::ARCH,
        "instruction_sets": machine.features,
        "isa": machine.isa.name(),
        "available_isas": available().map(Isa::name).collect::<Vec<_>>(),
        "threads": machine.threads,
        "threads_asked_for": machine.threads_asked,
        "processors": processors.online,
        "processors_in_affinity_mask": processors.allowed,
        "processors_by_quota": processors.usable,
        "physical_cores": processors.cores,
        "full_speed_formats": fast,
        "generic_formats": generic,
        "memory_bytes": machine.memory,
        "available_memory_bytes": machine.available,
        "memory_limit_bytes": machine.group_limit,
        "huge_pages": machine.huge_pages,
        "governor": machine.governor.as_ref().map(|(governor, _)| governor),
        "measured": rates,
        "load_average": machine.disturbance.load_average,
        "other_programs_processors": machine.disturbance.others,
        "stolen_processors": machine.disturbance.stolen,
        "data_folder": machine.data_folder,
        "advice": advice,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::machine;
    use super::*;
    use ingle_cpu::pool::Processors;

    #[test]
    fn the_number_of_threads_is_explained() {
        assert_eq!(threads(&machine()), "2 (2 physical cores, 4 processors)");
        let processors = Processors { online: 64, allowed: 32, usable: 3, cores: None };
        let some = Machine { processors, threads: 1, threads_asked: true, ..machine() };
        assert_eq!(
            threads(&some),
            "1 (asked for, 64 processors, 32 of them in the affinity mask, time of 3 by the control group's quota)"
        );
    }

    #[test]
    fn people_and_programs_get_the_same() {
        let advice = vec!["do \x1b[2J this".to_owned()];
        let text = text(&machine(), &advice);
        for part in
            ["AMD EPYC", "avx512vnni", "full speed", "Q4_K", "50 GB/s (40 to 55)", "20.00 GB", "do \u{fffd}"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let document = document(&machine(), &[]);
        assert_eq!(document["measured"][0]["read_bytes_per_second"], 50e9);
        assert_eq!(document["measured"].as_array().unwrap().len(), 2);
        assert_eq!(document["physical_cores"], 2);
    }
}
