//! What the system says about the machine.

/// The processor's name, such as `AMD EPYC 9354P`; `None` where the system does not say.
pub fn processor() -> Option<String> {
    name_in_cpuinfo(&std::fs::read_to_string("/proc/cpuinfo").ok()?)
}

/// When the system puts memory on huge pages: `always`, `madvise` (when asked, as this program does) or `never`; `None`
/// where it does not say.
pub fn huge_pages() -> Option<String> {
    chosen(&std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").ok()?)
}

/// How the clock is chosen: the first processor's governor and what drives it; `None` where the system does not say,
/// as in most virtual machines.
pub fn governor() -> Option<(String, String)> {
    let read = |name: &str| {
        let path = format!("/sys/devices/system/cpu/cpu0/cpufreq/{name}");
        std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
    };
    Some((read("scaling_governor")?, read("scaling_driver").unwrap_or_default()))
}

/// The word in brackets among others.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word.to_owned())
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

    #[test]
    fn a_setting_is_the_word_in_brackets() {
        assert_eq!(chosen("always [madvise] never\n").as_deref(), Some("madvise"));
        assert_eq!(chosen("always madvise"), None);
    }
}
