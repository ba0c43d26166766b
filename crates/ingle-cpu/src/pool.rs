//! The one thread pool: fork-join regions with nothing queued and nothing allocated.
//!
//! A token's step is some 200 regions of microseconds each, so workers spin between them, then yield, and only
//! park when no region came for milliseconds. The calling thread is thread 0 and works too.
//!
//! Nobody waits for a worker that has not come: when the caller finds no work left it closes the region, and waits only
//! for workers that are inside. Where other programs keep a worker off its core, the others do its share.
#![allow(unsafe_code)]

#[cfg(all(test, loom))]
mod model;
mod processors;
mod region;
mod sync;

pub use processors::{Processors, default_threads};

use region::Region;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Turns of `spin_loop` before a waiting thread starts to yield: about 100 microseconds.
const SPINS: u32 = 4_000;
/// How long a worker yields before it parks: longer than anything between two regions of one token.
const YIELD_TIME: Duration = Duration::from_millis(3);
/// More threads than a pool starts, whatever it is asked for: a larger number is a slip, and each takes memory.
pub const MOST_THREADS: usize = 1024;

/// What a region runs: the closure's address and the function that calls it with a thread's index.
type Job = (*const (), unsafe fn(*const (), usize));

/// The regions of a pool.
struct Shared(Region<Job>);

// SAFETY: the raw pointer of a job is what keeps `Shared` from being `Send` and `Sync` by itself. The closure behind it
// is `Sync`, workers reach it only inside the region's gate, and it outlives the region, because `fork_join` does not
// return (or unwind) before the gate is closed and the last worker has left. All else is atomic.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

/// Threads that run the same closure together. Dropping the pool ends them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    busy: AtomicBool,
}

impl Pool {
    /// A pool of `threads` threads, the calling one included; zero means [`default_threads`], and more than
    /// [`MOST_THREADS`] are not started. Threads that the system refuses to start are left out: see
    /// [`threads`](Self::threads).
    pub fn new(threads: usize) -> Pool {
        let threads = if threads == 0 { default_threads() } else { threads.min(MOST_THREADS) };
        let shared = Arc::new(Shared(Region::new((std::ptr::null(), nothing))));
        let mut workers = Vec::new();
        for index in 1..threads {
            let shared = Arc::clone(&shared);
            let name = format!("ingle-cpu-{index}");
            match thread::Builder::new().name(name).spawn(move || work(&shared.0, index)) {
                Ok(worker) => workers.push(worker),
                Err(_) => break,
            }
        }
        Pool { shared, workers, busy: AtomicBool::new(false) }
    }

    /// Regions that were opened so far, for measurements; the count wraps around. What one thread does alone is none.
    pub fn regions(&self) -> u32 {
        self.shared.0.number()
    }

    /// Threads that take part in a region, the calling one included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f(0)` here and `f(thread)` on every worker that comes before that call has returned (a worker may come
    /// twice, one after the other), and returns when all calls have. So `f` takes pieces of the work until none is left, and must not count on company: called from
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
        let region = &self.shared.0;
        // SAFETY: this thread holds `busy`, and closes below.
        let asleep = unsafe { region.open((std::ptr::from_ref(f).cast(), call::<F>)) };
        if asleep {
            self.workers.iter().for_each(|worker| worker.thread().unpark());
        }
        let own = catch_unwind(AssertUnwindSafe(|| f(0)));
        let mut spins = 0;
        let worker_panicked = region.close(|| {
            if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
            } else {
                thread::yield_now();
            }
        });
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
        let _ = self.shared.0.stop(); // all are woken in any case
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

fn work(region: &Region<Job>, index: usize) {
    let run = |(closure, call): Job| {
        // SAFETY: inside the region, so the closure is alive (see `Shared`), and `call` is the one for its type.
        catch_unwind(AssertUnwindSafe(|| unsafe { call(closure, index) })).is_err()
    };
    region.work(|seen| wait_for_region(region, seen), run);
}

/// Returns the region's number when it is no longer `seen`.
fn wait_for_region(region: &Region<Job>, seen: u32) -> u32 {
    for _ in 0..SPINS {
        if let Some(number) = region.changed(seen) {
            return number;
        }
        std::hint::spin_loop();
    }
    let start = Instant::now();
    while start.elapsed() < YIELD_TIME {
        if let Some(number) = region.changed(seen) {
            return number;
        }
        thread::yield_now();
    }
    region.sleep(seen, thread::park)
}

#[cfg(all(test, not(loom)))]
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

    /// Waits until the pool's one worker has parked, however busy the machine is.
    fn until_parked(pool: &Pool) {
        let start = Instant::now();
        while pool.shared.0.asleep() == 0 {
            assert!(start.elapsed() < Duration::from_secs(60), "the worker does not park");
            thread::sleep(YIELD_TIME);
        }
    }

    #[test]
    fn parked_workers_wake_for_a_region_and_for_the_end() {
        let pool = Pool::new(2);
        for _ in 0..3 {
            until_parked(&pool);
            pool.share(&meet(1));
        }
        until_parked(&pool);
        drop(pool);
    }

    #[test]
    fn any_number_of_threads_is_a_pool() {
        assert_eq!(Pool::new(0).threads(), default_threads());
        let many = Pool::new(1_000_000);
        assert!((1..=MOST_THREADS).contains(&many.threads()));
        let done = AtomicUsize::new(0);
        many.for_chunks(10_000, 1, &|_, range| _ = done.fetch_add(range.len(), Ordering::Relaxed));
        assert_eq!(done.into_inner(), 10_000);
    }

    #[test]
    fn regions_are_counted() {
        let pool = Pool::new(2);
        (0..5).for_each(|_| pool.for_chunks(2, 1, &|_, _| ()));
        pool.for_chunks(1, 1, &|_, _| ());
        assert_eq!(pool.regions(), 5, "what fits one thread is no region");
    }
}
