//! The one thread pool: fork-join regions with nothing queued and nothing allocated.
//!
//! A token's step is some 200 regions of microseconds each, so workers spin between them, then yield, and only
//! park when no region came for milliseconds. The calling thread is thread 0 and works too.
//!
//! Nobody waits for a worker that has not come: when the caller finds no work left it closes the region, and waits only
//! for workers that are inside. Where other programs keep a worker off its core, the others do its share.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Turns of `spin_loop` before a waiting thread starts to yield: about 100 microseconds.
const SPINS: u32 = 4_000;
/// How long a worker yields before it parks: longer than anything between two regions of one token.
const YIELD_TIME: Duration = Duration::from_millis(3);

/// A value on cache lines of its own, so that threads waiting for it do not slow writers of its neighbours.
#[repr(align(128))]
struct Line<T>(T);

/// What a region runs: the closure's address and the function that calls it with a thread's index.
type Job = (*const (), unsafe fn(*const (), usize));

/// No worker may enter the region any more.
const CLOSED: u32 = 1 << 31;

struct Shared {
    /// Number of the current region; a worker looks for work whenever it changes.
    region: Line<AtomicU32>,
    /// Workers inside the current region, and [`CLOSED`] when no more may enter.
    gate: Line<AtomicU32>,
    /// Workers that are parked or about to be.
    asleep: Line<AtomicU32>,
    stop: AtomicBool,
    panicked: AtomicBool,
    job: UnsafeCell<Job>,
}

// SAFETY: `job` is written only by the thread that holds `Pool::busy`, while the gate is closed and nobody is inside,
// and read by workers only inside (they enter by acquiring what opened the gate). The closure behind the pointer is
// `Sync` and outlives the region, because `share` does not return (or unwind) before the gate is closed and the last
// worker has left.
unsafe impl Sync for Shared {}
// SAFETY: as above; the raw pointer is what keeps `Shared` from being `Send` by itself.
unsafe impl Send for Shared {}

/// Threads that run the same closure together. Dropping the pool ends them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    busy: AtomicBool,
}

impl Pool {
    /// A pool of `threads` threads, the calling one included; zero means [`default_threads`]. Threads that the system
    /// refuses to start are left out: see [`threads`](Self::threads).
    pub fn new(threads: usize) -> Pool {
        let threads = if threads == 0 { default_threads() } else { threads };
        let shared = Arc::new(Shared {
            region: Line(AtomicU32::new(0)),
            gate: Line(AtomicU32::new(CLOSED)),
            asleep: Line(AtomicU32::new(0)),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            job: UnsafeCell::new((std::ptr::null(), nothing)),
        });
        let mut workers = Vec::new();
        for index in 1..threads {
            let shared = Arc::clone(&shared);
            let name = format!("ingle-cpu-{index}");
            match thread::Builder::new().name(name).spawn(move || work(&shared, index)) {
                Ok(worker) => workers.push(worker),
                Err(_) => break,
            }
        }
        Pool { shared, workers, busy: AtomicBool::new(false) }
    }

    /// Threads that take part in a region, the calling one included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f(0)` here and `f(thread)` on every worker that comes before that call has returned, and returns when all
    /// calls have. So `f` takes pieces of the work until none is left, and must not count on company: called from
    /// inside a region, or while another thread runs one, it works alone.
    ///
    /// # Panics
    /// If `f` panicked on any thread.
    fn share(&self, f: &(impl Fn(usize) + Sync)) {
        let alone = self.workers.is_empty();
        if alone || self.busy.swap(true, Ordering::Acquire) {
            f(0);
            return;
        }
        self.fork_join(f);
    }

    fn fork_join<F: Fn(usize) + Sync>(&self, f: &F) {
        let shared = &*self.shared;
        // SAFETY: this thread holds `busy` and the gate is closed with nobody inside, so no worker reads `job` now.
        unsafe { *shared.job.get() = (std::ptr::from_ref(f).cast(), call::<F>) };
        shared.gate.0.store(0, Ordering::Release);
        // Both this and the worker's counterpart are sequentially consistent: either the worker sees the new region
        // before it parks, or this thread sees that it is going to sleep.
        shared.region.0.fetch_add(1, Ordering::SeqCst);
        if shared.asleep.0.load(Ordering::SeqCst) > 0 {
            self.workers.iter().for_each(|worker| worker.thread().unpark());
        }
        let own = catch_unwind(AssertUnwindSafe(|| f(0)));
        shared.gate.0.fetch_or(CLOSED, Ordering::AcqRel);
        let mut spins = 0;
        while shared.gate.0.load(Ordering::Acquire) != CLOSED {
            if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
        let worker_panicked = shared.panicked.swap(false, Ordering::Relaxed);
        self.busy.store(false, Ordering::Release);
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        assert!(!worker_panicked, "a worker thread panicked; its message is above");
    }

    /// Calls `f(thread, range)` in parallel until the ranges, each of `chunk` items except the last, have covered
    /// `0..total`. A thread takes the next range when it is done with one.
    pub fn for_chunks(&self, total: usize, chunk: usize, f: &(impl Fn(usize, Range<usize>) + Sync)) {
        let chunk = chunk.max(1);
        if total <= chunk {
            if total > 0 {
                f(0, 0..total);
            }
            return;
        }
        let next = AtomicUsize::new(0);
        self.share(&|thread| {
            loop {
                // Never overflows: each thread adds at most one chunk after the end.
                let start = next.fetch_add(chunk, Ordering::Relaxed);
                if start >= total {
                    break;
                }
                f(thread, start..total.min(start + chunk));
            }
        });
    }

    /// Like [`for_chunks`](Self::for_chunks), with ranges that start at half of a thread's share and shrink to `least`
    /// items towards the end: long runs through memory first, even finish last.
    pub fn for_shares(&self, total: usize, least: usize, f: &(impl Fn(usize, Range<usize>) + Sync)) {
        let least = least.max(1);
        if total <= least || self.workers.is_empty() {
            if total > 0 {
                f(0, 0..total);
            }
            return;
        }
        let next = AtomicUsize::new(0);
        let parts = 2 * self.threads();
        self.share(&|thread| {
            let mut start = next.load(Ordering::Relaxed);
            while start < total {
                let end = start + ((total - start) / parts).max(least).min(total - start);
                match next.compare_exchange_weak(start, end, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => {
                        f(thread, start..end);
                        start = next.load(Ordering::Relaxed);
                    }
                    Err(now) => start = now,
                }
            }
        });
    }
}

/// A mutable slice that the threads of a region share, each taking ranges that no other takes.
pub(crate) struct Shares<'a, T> {
    start: *mut T,
    len: usize,
    slice: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: the slice is only reached through `range`, whose callers promise that no two ranges overlap; handing a part
// of a mutable slice to another thread needs no more than `T: Send`.
unsafe impl<T: Send> Sync for Shares<'_, T> {}
// SAFETY: as a mutable slice.
unsafe impl<T: Send> Send for Shares<'_, T> {}

impl<'a, T> Shares<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Shares<'a, T> {
        Shares { start: slice.as_mut_ptr(), len: slice.len(), slice: std::marker::PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The elements of `range`.
    ///
    /// # Safety
    /// No other range that overlaps this one is in use.
    ///
    /// # Panics
    /// If the range is not inside the slice.
    #[allow(clippy::mut_from_ref)] // that is what it is for
    pub(crate) unsafe fn range(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {} elements", self.len);
        // SAFETY: inside the slice that `'a` keeps borrowed, and by the caller's promise borrowed once.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.region.0.fetch_add(1, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches what its jobs throw, so it cannot have panicked; and a drop must not.
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

/// # Safety
/// `closure` points to a live `F`.
unsafe fn call<F: Fn(usize) + Sync>(closure: *const (), thread: usize) {
    // SAFETY: the caller's promise.
    unsafe { (*closure.cast::<F>())(thread) }
}

/// The job before the first one. Never called.
unsafe fn nothing(_: *const (), _: usize) {}

fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        seen = wait_for_region(shared, seen);
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        if !enter(&shared.gate.0) {
            continue; // the region is over
        }
        // SAFETY: inside the gate (acquired), so the job was written before and is not written again, nor its closure
        // dropped, until this worker has left (see `Shared`).
        let job = AssertUnwindSafe(|| unsafe {
            let (closure, call) = *shared.job.get();
            call(closure, index);
        });
        if catch_unwind(job).is_err() {
            shared.panicked.store(true, Ordering::Relaxed);
        }
        shared.gate.0.fetch_sub(1, Ordering::Release);
    }
}

/// Enters the region, unless it is closed.
fn enter(gate: &AtomicU32) -> bool {
    let inside = |state| (state & CLOSED == 0).then_some(state + 1);
    gate.fetch_update(Ordering::Acquire, Ordering::Relaxed, inside).is_ok()
}

/// Returns the region's number when it is no longer `seen`.
fn wait_for_region(shared: &Shared, seen: u32) -> u32 {
    let changed = |order| Some(shared.region.0.load(order)).filter(|&region| region != seen);
    for _ in 0..SPINS {
        if let Some(region) = changed(Ordering::Acquire) {
            return region;
        }
        std::hint::spin_loop();
    }
    let start = Instant::now();
    while start.elapsed() < YIELD_TIME {
        if let Some(region) = changed(Ordering::Acquire) {
            return region;
        }
        thread::yield_now();
    }
    shared.asleep.0.fetch_add(1, Ordering::SeqCst);
    let region = loop {
        match changed(Ordering::SeqCst) {
            Some(region) => break region,
            None => thread::park(),
        }
    };
    shared.asleep.0.fetch_sub(1, Ordering::SeqCst);
    region
}

/// Threads worth using: the physical cores this process may run on, and no more than its share of processor time
/// (control group quota) allows. At least 1.
pub fn default_threads() -> usize {
    let allowed = thread::available_parallelism().map_or(1, usize::from);
    physical_cores().map_or(allowed, |cores| cores.clamp(1, allowed))
}

/// Distinct cores among the processors this process may run on; `None` where the system does not say.
#[cfg(target_os = "linux")]
fn physical_cores() -> Option<usize> {
    let mut cores = std::collections::HashSet::new();
    for cpu in allowed_cpus()? {
        let siblings = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        cores.insert(std::fs::read_to_string(siblings).ok()?);
    }
    Some(cores.len())
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
fn physical_cores() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A closure that keeps a region open until `others` workers have come.
    fn meet(others: usize) -> impl Fn(usize) + Sync {
        let came = AtomicUsize::new(0);
        move |thread| {
            if thread > 0 {
                came.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let start = Instant::now();
            while came.load(Ordering::Relaxed) < others {
                assert!(start.elapsed() < Duration::from_secs(60), "a worker never came");
                thread::yield_now();
            }
        }
    }

    #[test]
    fn every_worker_comes_to_a_region_that_lasts() {
        for threads in 1..=4 {
            let pool = Pool::new(threads);
            (0..300).for_each(|_| pool.share(&meet(threads - 1)));
        }
    }

    #[test]
    fn a_short_region_waits_for_no_one() {
        let pool = Pool::new(4);
        let calls = AtomicUsize::new(0);
        for _ in 0..100_000 {
            pool.share(&|_| _ = calls.fetch_add(1, Ordering::Relaxed));
        }
        let calls = calls.into_inner();
        assert!(calls >= 100_000, "the caller itself works in every region, {calls}");
    }

    #[test]
    fn ranges_cover_everything_once() {
        let pool = Pool::new(3);
        for (total, step) in [(0, 4), (1, 4), (7, 1), (64, 8), (1000, 7), (5, 0), (100_000, 64)] {
            for shares in [false, true] {
                let seen: Vec<AtomicUsize> = (0..total).map(|_| AtomicUsize::new(0)).collect();
                let visit = |thread, range: Range<usize>| {
                    assert!(thread < 3 && !range.is_empty());
                    range.for_each(|i| _ = seen[i].fetch_add(1, Ordering::Relaxed));
                };
                if shares {
                    pool.for_shares(total, step, &visit)
                } else {
                    pool.for_chunks(total, step, &visit)
                }
                assert!(seen.iter().all(|n| n.load(Ordering::Relaxed) == 1), "{total} in steps of {step}");
            }
        }
    }

    #[test]
    fn a_region_inside_a_region_still_does_all_the_work() {
        let pool = Pool::new(2);
        let done = AtomicUsize::new(0);
        pool.for_chunks(10, 1, &|_, _| {
            pool.for_chunks(7, 1, &|_, _| _ = done.fetch_add(1, Ordering::Relaxed));
        });
        assert_eq!(done.into_inner(), 70);
    }

    #[test]
    fn two_threads_may_use_one_pool() {
        let pool = Pool::new(2);
        let done = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        pool.for_chunks(5, 1, &|_, _| _ = done.fetch_add(1, Ordering::Relaxed));
                    }
                });
            }
        });
        assert_eq!(done.into_inner(), 5000);
    }

    #[test]
    fn a_panic_on_any_thread_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        for culprit in 0..2 {
            let together = meet(1);
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.share(&|thread| {
                    together(thread);
                    assert!(thread != culprit);
                })
            }));
            assert!(outcome.is_err(), "the panic of thread {culprit} was lost");
            pool.share(&meet(1));
        }
    }

    #[test]
    fn parked_workers_wake_for_a_region_and_for_the_end() {
        let pool = Pool::new(2);
        for _ in 0..3 {
            thread::sleep(YIELD_TIME * 5);
            assert_eq!(pool.shared.asleep.0.load(Ordering::SeqCst), 1, "the worker is not parked");
            pool.share(&meet(1));
        }
        thread::sleep(YIELD_TIME * 5);
        drop(pool);
    }

    #[test]
    fn the_default_is_within_what_the_system_offers() {
        let threads = default_threads();
        assert!(threads >= 1 && threads <= thread::available_parallelism().map_or(1, usize::from));
    }
}
