//! Whether other programs took the machine while something was measured.
//!
//! From `/proc/stat`: processor time spent by all programs less this one's, and time that a hypervisor gave to other
//! machines. The load average, which counts this program too and reaches back minutes, is told beside it.

/// A moment to compare with a later one.
#[derive(Clone, Copy, Debug)]
pub struct Quiet {
    start: Option<Times>,
}

/// What else went on since.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Disturbance {
    /// Processors that other programs kept busy, on average; `None` where the system does not say.
    pub others: Option<f64>,
    /// Processors that the hypervisor gave to other machines, on average.
    pub stolen: Option<f64>,
    /// Load average of the last minute: running and waiting threads, this program's included.
    pub load_average: Option<f64>,
}

/// Clock ticks since the system started, all processors together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    all: u64,
    busy: u64,
    stolen: u64,
    own: u64,
    processors: u64,
}

impl Quiet {
    /// Now.
    pub fn begin() -> Quiet {
        Quiet { start: Times::now() }
    }

    /// What went on from then to now.
    pub fn end(&self) -> Disturbance {
        let load = std::fs::read_to_string("/proc/loadavg").ok();
        let load_average = load.and_then(|text| text.split_whitespace().next()?.parse().ok());
        match self.start.zip(Times::now()).and_then(|(start, end)| between(start, end)) {
            Some((others, stolen)) => {
                Disturbance { others: Some(others), stolen: Some(stolen), load_average }
            }
            None => Disturbance { load_average, ..Disturbance::default() },
        }
    }
}

impl Disturbance {
    /// Whether measurements beside it can be trusted: others took less than a tenth of a processor.
    pub fn is_quiet(&self) -> bool {
        self.others.unwrap_or(0.0) + self.stolen.unwrap_or(0.0) < 0.1
    }
}

/// Processors that others kept busy, and those stolen; `None` when no time has passed.
fn between(start: Times, end: Times) -> Option<(f64, f64)> {
    let ticks = end.all.saturating_sub(start.all) as f64 / end.processors as f64;
    let busy = end.busy.saturating_sub(start.busy) as f64;
    let own = end.own.saturating_sub(start.own) as f64;
    let stolen = end.stolen.saturating_sub(start.stolen) as f64;
    (ticks > 0.0).then(|| ((busy - own).max(0.0) / ticks, stolen / ticks))
}

impl Times {
    fn now() -> Option<Times> {
        let read = |path| std::fs::read_to_string(path).ok();
        Times::parse(&read("/proc/stat")?, &read("/proc/self/stat")?)
    }

    fn parse(system: &str, own: &str) -> Option<Times> {
        let numbers =
            |line: &str| line.split_whitespace().map(|n| n.parse().ok()).collect::<Option<Vec<u64>>>();
        let all = numbers(system.lines().find_map(|line| line.strip_prefix("cpu "))?)?;
        // user, nice, system, idle, waiting for a disk, interrupts (2), stolen; guests are part of user
        let [user, nice, kernel, idle, waiting, hard, soft, stolen, ..] = all[..] else { return None };
        let busy = user + nice + kernel + hard + soft;
        let is_processor =
            |line: &&str| line.starts_with("cpu") && line.as_bytes().get(3).is_some_and(u8::is_ascii_digit);
        let processors = system.lines().filter(is_processor).count() as u64;
        // the program's name stands in brackets and may hold anything; its times are fields 14 and 15
        let (_, fields) = own.rsplit_once(')')?;
        let mut fields = fields.split_whitespace().skip(11);
        let mut next = || fields.next()?.parse::<u64>().ok();
        let own = next()? + next()?;
        let all = busy + idle + waiting + stolen;
        (processors > 0).then_some(Times { all, busy, stolen, own, processors })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_what_is_busy_and_not_this_program() {
        let own = |user, kernel| format!("7 (a) b) R 1 1 1 0 -1 4194304 1 0 0 0 {user} {kernel} 0 0 20 0");
        let system = |user, idle, stolen| {
            format!("cpu  {user} 0 10 {idle} 0 0 0 {stolen} 0 0\ncpu0 1 2\ncpu1 3 4\nintr 5 cpus\n")
        };
        let start = Times::parse(&system(100, 1000, 0), &own(50, 5)).unwrap();
        assert_eq!((start.processors, start.own, start.busy), (2, 55, 110));
        // 200 ticks of two processors: 100 of this program, 60 of others, 20 stolen, 20 idle
        let end = Times::parse(&system(260, 1020, 20), &own(145, 10)).unwrap();
        assert_eq!(between(start, end), Some((0.6, 0.2)));
        assert_eq!(between(start, start), None);
        assert_eq!(Times::parse("cpu  1 2\n", &own(1, 1)), None);
        let loud = Disturbance { others: Some(0.6), stolen: Some(0.2), load_average: None };
        assert!(!loud.is_quiet() && Disturbance::default().is_quiet());
    }
}
