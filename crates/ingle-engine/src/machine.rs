//! What the system says about the machine.

/// The processor's name, such as `AMD EPYC 9354P`; `None` where the system does not say.
pub fn processor() -> Option<String> {
    name_in_cpuinfo(&std::fs::read_to_string("/proc/cpuinfo").ok()?)
}

fn name_in_cpuinfo(text: &str) -> Option<String> {
    let value = |line: &str, key: &str| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == key && !value.trim().is_empty()).then(|| value.trim().to_owned())
    };
    // Arm's kernels name the board, if anything
    ["model name", "Hardware", "Model"].iter().find_map(|key| text.lines().find_map(|line| value(line, key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_has_a_name_where_the_system_gives_one() {
        let text =
            "processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\nmodel name\t: other\n";
        assert_eq!(name_in_cpuinfo(text).as_deref(), Some("AMD EPYC"));
        assert_eq!(
            name_in_cpuinfo("processor : 0\nModel : Raspberry Pi 5\n").as_deref(),
            Some("Raspberry Pi 5")
        );
        assert_eq!(name_in_cpuinfo("model name :\n"), None);
    }
}
