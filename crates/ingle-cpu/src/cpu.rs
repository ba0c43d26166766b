//! The processor as the executor sees it: a thread pool and the kernels of its instruction set.

use crate::kernels::Kernels;
use crate::pool::Pool;

/// Threads and kernels, chosen once at the start.
#[derive(Debug)]
pub struct Cpu {
    /// The threads.
    pub pool: Pool,
    /// The kernels all of them run.
    pub kernels: &'static Kernels,
}

impl Cpu {
    /// `threads` threads (zero: [`default_threads`](crate::pool::default_threads)) and the best kernels for this machine.
    pub fn new(threads: usize) -> Cpu {
        Cpu::with(threads, Kernels::best())
    }

    /// The same with the given kernels.
    pub fn with(threads: usize, kernels: &'static Kernels) -> Cpu {
        Cpu { pool: Pool::new(threads), kernels }
    }
}
