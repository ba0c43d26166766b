//! How much memory is free for a model.

use std::fmt;

/// Bytes that can be taken now without pushing other programs out, `None` where the system does not say.
///
/// On Linux the smaller of the kernel's estimate for the machine and what the process's control group still allows.
pub fn available() -> Option<u64> {
    let machine = machine()?;
    Some(control_group().map_or(machine, |group| machine.min(group)))
}

/// `MemAvailable` of `/proc/meminfo`.
fn machine() -> Option<u64> {
    available_in_meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn available_in_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Room below the limit of the process's control group (version 2); file pages that can be dropped count as room.
fn control_group() -> Option<u64> {
    let group = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = group.lines().find_map(|line| line.strip_prefix("0::"))?;
    let folder = format!("/sys/fs/cgroup{path}");
    let read = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).ok();
    let limit: u64 = read("memory.max")?.trim().parse().ok()?; // "max" is no number: no limit
    let used: u64 = read("memory.current")?.trim().parse().ok()?;
    let droppable = read("memory.stat")
        .and_then(|stat| {
            stat.lines().find_map(|line| line.strip_prefix("inactive_file "))?.trim().parse().ok()
        })
        .unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(droppable)))
}

/// Bytes as people read them: decimal, GB = 10^9.
pub struct Bytes(
    /// Number of bytes.
    pub u64,
);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1_000_000_000 => write!(f, "{:.2} GB", bytes as f64 / 1e9),
            bytes if bytes >= 1_000_000 => write!(f, "{:.1} MB", bytes as f64 / 1e6),
            bytes if bytes >= 1_000 => write!(f, "{:.1} kB", bytes as f64 / 1e3),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_in_kibibytes() {
        let text = "MemTotal:       24551084 kB\nMemFree: 1 kB\nMemAvailable:   23000000 kB\n";
        assert_eq!(available_in_meminfo(text), Some(23_000_000 * 1024));
        assert_eq!(available_in_meminfo("MemAvailable: x kB"), None);
        assert_eq!(available_in_meminfo(""), None);
    }

    #[test]
    fn bytes_are_decimal() {
        assert_eq!(Bytes(1_500_000_000).to_string(), "1.50 GB");
        assert_eq!(Bytes(3_975_840).to_string(), "4.0 MB");
        assert_eq!(Bytes(12).to_string(), "12 bytes");
    }
}
