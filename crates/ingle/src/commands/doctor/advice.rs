//! What costs speed on this machine, and what to do about it.

use super::Machine;
use crate::figures::bytes;
use ingle_cpu::kernels::Isa;

/// One sentence each; none where nothing is wrong.
pub(super) fn advice(machine: &Machine) -> Vec<String> {
    let mut advice = Vec::new();
    let processors = &machine.processors;
    if !machine.optimised {
        advice.push("this program was built without optimisation, which makes everything slower; build it with --release".into());
    }
    if machine.isa == Isa::Scalar {
        advice.push(match machine.features.contains(&"avx2") {
            true => "the scalar kernels were asked for, many times slower than the processor's vector units; leave --isa and INGLE_ISA out".into(),
            false => "the processor lacks AVX2 (or the virtual machine hides it), so that plain kernels run, many times slower; small models only, or let the host pass its processor through".to_owned(),
        });
    }
    if processors.allowed < processors.online {
        advice.push(format!(
            "this program may run on {} of {} processors (affinity mask); taskset or the container's cpuset gives it more",
            processors.allowed, processors.online
        ));
    }
    if processors.usable < processors.allowed {
        advice.push(format!(
            "the control group's quota gives this program the time of {} of {} processors; the container's CPU limit gives it more",
            processors.usable, processors.allowed
        ));
    }
    if machine.threads > processors.usable {
        advice.push(crate::messages::more_threads_than_cores(machine.threads, processors.usable));
    } else if machine.threads_asked && machine.threads < processors.threads() {
        advice.push(format!(
            "{} threads were asked for and {} cores are there; leave --threads and INGLE_THREADS out to use all",
            machine.threads,
            processors.threads()
        ));
    }
    if machine.huge_pages.as_deref() == Some("never") {
        advice.push(
            "the system gives no huge pages, which costs some percent of the memory's speed; as root: \
             echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"
                .into(),
        );
    }
    // under these drivers `powersave` is the usual choice and reaches full speed
    let clever = ["intel_pstate", "amd-pstate-epp", "amd-pstate"];
    if let Some((governor, driver)) = &machine.governor
        && governor == "powersave"
        && !clever.contains(&driver.as_str())
    {
        advice.push(
            "the clock is held low (governor powersave); as root: cpupower frequency-set -g performance"
                .into(),
        );
    }
    if let (Some(limit), Some(memory)) = (machine.group_limit, machine.memory)
        && limit < memory
    {
        advice.push(format!(
            "the control group allows {} of the machine's {} of memory; the container's memory limit gives more",
            bytes(limit),
            bytes(memory)
        ));
    }
    if !machine.disturbance.is_quiet() {
        let others = machine.disturbance.others.unwrap_or(0.0);
        let stolen = machine.disturbance.stolen.unwrap_or(0.0);
        if others >= 0.05 {
            advice.push(format!(
                "other programs kept {others:.1} processors busy just now; what they take is missing here"
            ));
        }
        if stolen >= 0.05 {
            advice.push(format!(
                "the host gave {stolen:.1} of this virtual machine's processors to others just now"
            ));
        }
    }
    let spread = machine.measured.bytes;
    if spread.most > 1.5 * spread.least {
        advice.push(format!(
            "the memory's speed changed between {:.0} and {:.0} GB/s within a second; generation will change as much",
            spread.least / 1e9,
            spread.most / 1e9
        ));
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::super::tests::machine;
    use super::*;
    use ingle_engine::bench::{Disturbance, Spread};

    /// The advice for `machine`, which must be one sentence with all of `said`.
    fn says(machine: Machine, said: &[&str]) {
        let advice = advice(&machine);
        assert_eq!(advice.len(), 1, "{advice:?}");
        for part in said {
            assert!(advice[0].contains(part), "{part}: {advice:?}");
        }
    }

    #[test]
    fn each_loss_is_named_with_its_remedy_and_a_sound_machine_gets_none() {
        assert_eq!(advice(&machine()), Vec::<String>::new());
        says(Machine { optimised: false, ..machine() }, &["--release"]);
        says(Machine { isa: Isa::Scalar, ..machine() }, &["--isa"]);
        says(Machine { isa: Isa::Scalar, features: vec!["sse4.2"], ..machine() }, &["lacks AVX2"]);
        let processors = |change: fn(&mut Machine)| {
            let mut machine = machine();
            change(&mut machine);
            machine
        };
        says(processors(|m| m.processors.online = 8), &["4 of 8", "affinity"]);
        says(processors(|m| m.processors.usable = 3), &["3 of 4", "quota"]);
        says(processors(|m| m.threads = 9), &["9 threads share the 4"]);
        says(processors(|m| (m.threads, m.threads_asked) = (1, true)), &["1 threads", "INGLE_THREADS"]);
        says(Machine { huge_pages: Some("never".into()), ..machine() }, &["huge pages", "madvise"]);
        let governor = Some(("powersave".into(), "acpi-cpufreq".into()));
        says(Machine { governor, ..machine() }, &["performance"]);
        says(Machine { group_limit: Some(4_000_000_000), ..machine() }, &["4.00 GB", "24.00 GB"]);
        let disturbance = Disturbance { others: Some(1.5), stolen: Some(0.0), load_average: None };
        says(Machine { disturbance, ..machine() }, &["1.5 processors"]);
        let bytes = Spread { median: 40e9, least: 30e9, most: 57e9 };
        says(processors(|_| ()).with_bytes(bytes), &["30 and 57 GB/s"]);
    }

    impl Machine {
        fn with_bytes(mut self, bytes: Spread) -> Machine {
            self.measured.bytes = bytes;
            self
        }
    }
}
