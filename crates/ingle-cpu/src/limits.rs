//! What this machine can do at most, measured: bytes read from memory per second, and multiply-adds per second of the
//! instructions that the kernels use.
//!
//! Both change from second to second where the machine is shared (and memory on some machines by itself), so a
//! [`Limits`] is kept and sampled between the measurements that are judged by it; a sample takes some 40 milliseconds.

use crate::buffer::{Buffer, OutOfMemory};
use crate::{Cpu, kernels::Kernels};
use ingle_model::spec::Rates;
use std::time::{Duration, Instant};

/// Most bytes that a sample reads: beyond every cache but those of the largest servers.
const MOST_BYTES: usize = 512 << 20;
/// Fewest: less than that is measured too coarsely.
const LEAST_BYTES: usize = 1 << 20;
/// Bytes read in one sample at least; a smaller memory is read several times.
const SAMPLE_BYTES: usize = 64 << 20;
/// Bytes that a thread claims at once at least.
const CLAIM: usize = 128 << 10;
/// How long the arithmetic of a sample takes, of each kind.
const ARITHMETIC: Duration = Duration::from_millis(2);
/// Rounds that a thread claims at once.
const ROUNDS: usize = 250;
/// Longer than idle threads of another pool stay awake.
const SETTLE: Duration = Duration::from_millis(5);

/// Measures the limits of some threads.
#[derive(Debug)]
pub struct Limits {
    cpu: Cpu,
    memory: Buffer,
}

impl Limits {
    /// For the threads and kernels of `cpu`, reading as many bytes in turn as the work that is judged (`bytes`, within
    /// 1 MiB and 512 MiB): what fits a cache is read from there.
    ///
    /// # Errors
    /// No memory for those bytes.
    pub fn new(cpu: Cpu, bytes: u64) -> Result<Limits, OutOfMemory> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).clamp(LEAST_BYTES, MOST_BYTES);
        let mut memory = Buffer::zeroed(bytes / CLAIM * CLAIM)?;
        // memory that was never written has no pages of its own
        memory.bytes_mut().fill(1);
        Ok(Limits { cpu, memory })
    }

    /// Bytes that are read in turn.
    pub fn bytes(&self) -> usize {
        self.memory.bytes().len()
    }

    /// The threads and kernels that are measured.
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// What they do at most right now. First waits until threads of other pools, which spin for a while after their last
    /// work, sleep; and afterwards until its own do.
    pub fn sample(&self) -> Rates {
        std::thread::sleep(SETTLE);
        let integers = self.arithmetic(Kernels::peak_integers);
        let words = self.arithmetic(Kernels::peak_words);
        let floats = self.arithmetic(Kernels::peak_floats);
        let bytes = self.read();
        std::thread::sleep(SETTLE);
        Rates { bytes, integers, words, floats }
    }

    /// Bytes per second.
    fn read(&self) -> f64 {
        let bytes = self.memory.bytes();
        let kernels = self.cpu.kernels;
        let passes = SAMPLE_BYTES.div_ceil(bytes.len());
        let read = |passes: usize| {
            for _ in 0..passes {
                self.cpu.pool.for_shares(bytes.len() / CLAIM, 1, &|_, range| {
                    kernels.read(&bytes[range.start * CLAIM..range.end * CLAIM]);
                });
            }
        };
        if passes > 1 {
            read(2); // into the caches
        }
        (passes * bytes.len()) as f64 / least_seconds(|| read(passes))
    }

    /// Multiply-adds per second of `peak`, which does some rounds of them.
    fn arithmetic(&self, peak: fn(&Kernels, usize) -> u64) -> f64 {
        let kernels = self.cpu.kernels;
        // one claim wakes the threads and says how many fill the time
        let start = Instant::now();
        let done = peak(kernels, ROUNDS);
        let claim = start.elapsed().max(Duration::from_nanos(100));
        let claims = (ARITHMETIC.as_nanos() / claim.as_nanos()).clamp(1, 100_000) as usize;
        let claims = claims * self.cpu.pool.threads();
        let work = |claims: usize| {
            self.cpu.pool.for_chunks(claims, 1, &|_, range| {
                range.for_each(|_| _ = peak(kernels, ROUNDS));
            });
        };
        work(claims.div_ceil(4));
        (done * claims as u64) as f64 / least_seconds(|| work(claims))
    }
}

/// The shorter time of two: whoever disturbs the one seldom disturbs the other, and a limit must not be too low.
fn least_seconds(work: impl Fn()) -> f64 {
    let time = || {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    time().min(time())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Isa;

    #[test]
    fn every_instruction_set_has_limits_and_the_best_is_no_slower_than_plain_code() {
        let rates = |isa| {
            let limits = Limits::new(Cpu::with(1, Kernels::for_isa(isa)?), 4 << 20).unwrap();
            assert_eq!(limits.bytes(), 4 << 20);
            let samples: Vec<Rates> = (0..5).map(|_| limits.sample()).collect();
            let best = |of: fn(&Rates) -> f64| samples.iter().map(of).fold(0.0, f64::max);
            Some(Rates {
                bytes: best(|rates| rates.bytes),
                integers: best(|rates| rates.integers),
                words: best(|rates| rates.words),
                floats: best(|rates| rates.floats),
            })
        };
        let scalar = rates(Isa::Scalar).unwrap();
        for isa in Isa::ALL {
            let Some(rates) = rates(isa) else { continue };
            println!("{}: {rates:?}", isa.name());
            assert!(
                rates.bytes > 1e7 && rates.integers.min(rates.words).min(rates.floats) > 1e7,
                "{rates:?}"
            );
            // no processor does more than 16 KB of products per cycle, nor a thread 1 TB per second
            assert!(rates.integers < 1e14 && rates.floats < 1e14 && rates.bytes < 2e12, "{rates:?}");
            if matches!(isa, Isa::Avx2 | Isa::Avx512) {
                let faster = rates.integers > scalar.integers && rates.words > scalar.words;
                assert!(faster, "{rates:?} {scalar:?}");
            }
        }
    }

    #[test]
    fn what_is_read_is_kept_within_reason() {
        let bytes = |bytes| Limits::new(Cpu::with(1, Kernels::best()), bytes).unwrap().bytes();
        assert_eq!(bytes(0), LEAST_BYTES);
        assert_eq!(bytes(10 << 20), 10 << 20);
        assert_eq!(bytes(u64::MAX), MOST_BYTES);
    }
}
