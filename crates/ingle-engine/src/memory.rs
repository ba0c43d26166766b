//! How much memory is free for a model.

use crate::error::EngineError;
use crate::model::ExecutorKind;
use ingle_model::spec::{KvBytes, KvFormat, ModelSpec};
use std::fmt;

/// What a model takes of the memory, known before anything is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Bytes of resident weights.
    pub weights: u64,
    /// Bytes of KV cache of one full sequence.
    pub kv: u64,
    pub(crate) context: usize,
}

/// Memory left for everything else: activations, logits, the program itself.
const HEADROOM: u64 = 256 << 20;

impl Demand {
    /// Of a network in an executor, with one sequence of `context` tokens whose keys and values are in `format`. The reference executor reads its weights from
    /// the mapped file, which the system may drop again, and keeps 32-bit keys and values.
    pub fn of(spec: &ModelSpec, executor: ExecutorKind, format: KvFormat, context: usize) -> Demand {
        // executors keep a recurrent state twice: as it is, and as it was at an earlier position to go back to
        let kv = |bytes: KvBytes| {
            spec.kv_bytes(context as u64, KvBytes { state: 2.0 * bytes.state, ..bytes }) as u64
        };
        match executor {
            ExecutorKind::Production => {
                let kv = kv(KvBytes::of(format));
                Demand { weights: spec.resident_bytes(), kv, context }
            }
            ExecutorKind::Reference => Demand { weights: 0, kv: kv(KvBytes::F32), context },
        }
    }

    /// Whether it fits into `available` bytes.
    pub fn fits(&self, available: u64) -> bool {
        self.weights.saturating_add(self.kv).saturating_add(headroom(available)) <= available
    }

    /// The refusal, with the figures.
    pub fn refusal(self, available: u64) -> EngineError {
        let Demand { weights, kv, context } = self;
        EngineError::DoesNotFit { weights, kv, context, available }
    }
}

/// What of `available` bytes is left alone.
pub(crate) fn headroom(available: u64) -> u64 {
    HEADROOM.min(available / 8)
}

/// Bytes that can be taken now without pushing other programs out, `None` where the system does not say.
///
/// On Linux the smaller of the kernel's estimate for the machine and what the process's control group still allows.
pub fn available() -> Option<u64> {
    let machine = machine()?;
    Some(control_group().map_or(machine, |group| machine.min(group.room)))
}

/// Bytes of the machine's memory, `None` where the system does not say.
pub fn total() -> Option<u64> {
    in_meminfo("MemTotal:", &std::fs::read_to_string("/proc/meminfo").ok()?)
}

/// Bytes that the process's control group may use, `None` where there is no limit.
pub fn group_limit() -> Option<u64> {
    // version 1 has a number for "no limit" that no machine has
    let total = total().unwrap_or(u64::MAX);
    control_group().map(|group| group.limit).filter(|&limit| limit < total)
}

/// `MemAvailable` of `/proc/meminfo`.
fn machine() -> Option<u64> {
    in_meminfo("MemAvailable:", &std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn in_meminfo(key: &str, text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// What a control group may use in all, and of it what is left. File pages that can be dropped count as room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Group {
    limit: u64,
    room: u64,
}

/// The process's control group, version 2 or 1; `None` where there is no limit.
fn control_group() -> Option<Group> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = "/sys/fs/cgroup";
    let of = |prefix: &str| groups.lines().find_map(|line| line.split_once(prefix)).map(|(_, path)| path);
    let unified = of("0::").map(|path| {
        let names = ["memory.max", "memory.current", "inactive_file "];
        room(&format!("{mounts}{path}"), names).or_else(|| room(mounts, names))
    });
    let own = of(":memory:").map(|path| {
        let names = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "];
        // inside a container the group's path may be the host's, and its own files lie at the mount
        room(&format!("{mounts}/memory{path}"), names).or_else(|| room(&format!("{mounts}/memory"), names))
    });
    [unified, own].into_iter().flatten().flatten().min_by_key(|group| group.room)
}

/// The group of a folder.
fn room(folder: &str, [limit, used, droppable]: [&str; 3]) -> Option<Group> {
    let read = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).ok();
    let limit: u64 = read(limit)?.trim().parse().ok()?; // "max" is no number: no limit
    let used: u64 = read(used)?.trim().parse().ok()?;
    let droppable = read("memory.stat")
        .and_then(|stat| stat.lines().find_map(|line| line.strip_prefix(droppable))?.trim().parse().ok())
        .unwrap_or(0);
    Some(Group { limit, room: limit.saturating_sub(used.saturating_sub(droppable)) })
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
        assert_eq!(in_meminfo("MemAvailable:", text), Some(23_000_000 * 1024));
        assert_eq!(in_meminfo("MemAvailable:", "MemAvailable: x kB"), None);
        assert_eq!(in_meminfo("MemAvailable:", ""), None);
    }

    #[test]
    fn a_group_has_room_for_its_limit_less_its_use_and_file_pages_count_as_room() {
        let folder = std::env::temp_dir().join(format!("ingle-control-group-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        let names = ["memory.max", "memory.current", "inactive_file "];
        let room = || room(&folder.display().to_string(), names).map(|group| group.room);
        assert_eq!(room(), None, "no files, no limit");
        write("memory.max", "1000\n");
        write("memory.current", "700\n");
        assert_eq!(room(), Some(300));
        write("memory.stat", "anon 5\ninactive_file 200\n");
        assert_eq!(room(), Some(500));
        write("memory.current", "5000\n");
        assert_eq!(room(), Some(0));
        write("memory.max", "max\n");
        assert_eq!(room(), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn bytes_are_decimal() {
        assert_eq!(Bytes(1_500_000_000).to_string(), "1.50 GB");
        assert_eq!(Bytes(3_975_840).to_string(), "4.0 MB");
        assert_eq!(Bytes(12).to_string(), "12 bytes");
    }
}
