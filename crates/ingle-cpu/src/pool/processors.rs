//! What of the machine's processors this process may use, and how many threads that is worth.

use std::thread;

/// Processors, as the system counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processors {
    /// Of the machine, switched on.
    pub online: usize,
    /// Of these, those in this thread's affinity mask.
    pub allowed: usize,
    /// Of these, as many as the processor time of the control group (its quota) is worth.
    pub usable: usize,
    /// Physical cores among those allowed; `None` where the system does not say.
    pub cores: Option<usize>,
}

impl Processors {
    /// Asks the system.
    pub fn find() -> Processors {
        let usable = thread::available_parallelism().map_or(1, usize::from);
        let allowed = allowed_cpus().map_or(usable, |cpus| cpus.len().max(usable));
        Processors {
            online: online().unwrap_or(allowed).max(allowed),
            allowed,
            usable,
            cores: physical_cores(),
        }
    }

    /// Threads worth using: the physical cores, and no more than the process's share of processor time allows. At
    /// least 1.
    pub fn threads(&self) -> usize {
        self.cores.unwrap_or(self.usable).min(self.usable).max(1)
    }
}

/// Threads worth using on this machine: see [`Processors::threads`].
pub fn default_threads() -> usize {
    Processors::find().threads()
}

#[cfg(unix)]
fn online() -> Option<usize> {
    // SAFETY: takes a number and gives one.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }).ok().filter(|&count| count > 0)
}

#[cfg(not(unix))]
fn online() -> Option<usize> {
    None
}

/// Distinct cores among the processors this process may run on.
#[cfg(target_os = "linux")]
fn physical_cores() -> Option<usize> {
    let mut cores = std::collections::HashSet::new();
    for cpu in allowed_cpus()? {
        let siblings = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        cores.insert(std::fs::read_to_string(siblings).ok()?);
    }
    Some(cores.len()).filter(|&count| count > 0)
}

#[cfg(not(target_os = "linux"))]
fn physical_cores() -> Option<usize> {
    None
}

/// Numbers of the processors in this thread's affinity mask.
#[cfg(target_os = "linux")]
fn allowed_cpus() -> Option<Vec<usize>> {
    // Room for 8192 processors, twice what kernels are built for.
    let mut mask = [0u64; 128];
    // SAFETY: the kernel writes at most the given number of bytes to the array, and any bits are a valid `u64`.
    let written = unsafe { libc::sched_getaffinity(0, size_of_val(&mask), mask.as_mut_ptr().cast()) };
    let cpus = (0..mask.len() * 64).filter(|cpu| mask[cpu / 64] >> (cpu % 64) & 1 == 1);
    (written == 0).then(|| cpus.collect())
}

#[cfg(not(target_os = "linux"))]
fn allowed_cpus() -> Option<Vec<usize>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_within_what_the_system_offers() {
        let found = Processors::find();
        assert!(
            1 <= found.usable && found.usable <= found.allowed && found.allowed <= found.online,
            "{found:?}"
        );
        assert!(found.cores.is_none_or(|cores| (1..=found.allowed).contains(&cores)), "{found:?}");
        assert!((1..=found.usable).contains(&default_threads()));
    }

    #[test]
    fn threads_are_the_cores_within_the_share() {
        let threads = |usable, cores| Processors { online: 64, allowed: 32, usable, cores }.threads();
        assert_eq!(threads(32, Some(16)), 16, "two threads per core");
        assert_eq!(threads(4, Some(16)), 4, "a quota of four processors");
        assert_eq!(threads(32, None), 32, "nothing known of cores");
        assert_eq!(threads(0, Some(0)), 1);
    }

    /// A thread that may run on one processor only counts one.
    #[cfg(target_os = "linux")]
    #[test]
    fn affinity_masks_count() {
        let first = allowed_cpus().unwrap()[0];
        let found = thread::spawn(move || {
            let mut mask = [0u64; 128];
            mask[first / 64] = 1 << (first % 64);
            // SAFETY: the kernel reads as many bytes as the array has. It binds this thread alone.
            let bound = unsafe { libc::sched_setaffinity(0, size_of_val(&mask), mask.as_ptr().cast()) };
            assert_eq!(bound, 0);
            Processors::find()
        });
        let found = found.join().unwrap();
        assert_eq!((found.allowed, found.usable, found.threads()), (1, 1, 1), "{found:?}");
    }
}
