//! The protocol of a region between the thread that opens it and workers that may or may not come.
//!
//! ```text
//! opener                              worker
//! job = ..                            number changed?          (spins, yields, then sleeps)
//! gate = open, nobody inside          gate open? one more inside
//! number += 1, asleep? wake           calls the job
//! works itself                        one fewer inside
//! gate = closed, waits for nobody inside
//! ```
//!
//! The job may borrow from the opener's stack: nobody enters a closed gate, and the opener does not return before the
//! gate is closed and everybody has left. A worker that comes late finds the gate closed, or open for another region, of
//! which it then takes the job; when the number catches up it may come to the same region again. Nothing here starts threads, which is how a model checker can go through all orders of
//! events (`model.rs`).

use super::sync::{AtomicBool, AtomicU32, Ordering, UnsafeCell, fence};

/// A value on cache lines of its own, so that threads waiting for it do not slow writers of its neighbours.
#[repr(align(128))]
struct Line<T>(T);

/// No worker may enter the region any more.
const CLOSED: u32 = 1 << 31;

/// What the opener of regions and the workers share. `J` says what to do: a copy goes to every worker that enters.
pub(super) struct Region<J> {
    /// Number of the current region; a worker looks for work whenever it changes.
    number: Line<AtomicU32>,
    /// Workers inside the current region, and [`CLOSED`] when no more may enter.
    gate: Line<AtomicU32>,
    /// Workers that sleep or are about to.
    asleep: Line<AtomicU32>,
    stop: AtomicBool,
    panicked: AtomicBool,
    job: UnsafeCell<J>,
}

impl<J: Copy> Region<J> {
    /// A closed one. No worker ever gets `nothing`.
    pub(super) fn new(nothing: J) -> Region<J> {
        Region {
            number: Line(AtomicU32::new(0)),
            gate: Line(AtomicU32::new(CLOSED)),
            asleep: Line(AtomicU32::new(0)),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            job: UnsafeCell::new(nothing),
        }
    }

    /// Opens the gate for `job`. Says whether workers sleep, whom the caller has to wake.
    ///
    /// # Safety
    /// Regions are opened and closed by turns, by one thread at a time.
    pub(super) unsafe fn open(&self, job: J) -> bool {
        // SAFETY: by the caller's promise the gate is closed with nobody inside, so no worker reads the job now.
        self.job.with_mut(|place| unsafe { *place = job });
        self.gate.0.store(0, Ordering::Release);
        self.next()
    }

    /// Goes on to the next number. Says whether workers sleep.
    fn next(&self) -> bool {
        self.number.0.fetch_add(1, Ordering::Release);
        // With its counterpart in `sleep`: either a worker sees the new number before it sleeps, or this thread sees
        // that it is going to.
        fence(Ordering::SeqCst);
        self.asleep.0.load(Ordering::Relaxed) > 0
    }

    /// Closes the gate and calls `wait` until nobody is inside. Says whether a job panicked.
    pub(super) fn close(&self, mut wait: impl FnMut()) -> bool {
        self.gate.0.fetch_or(CLOSED, Ordering::AcqRel);
        while self.gate.0.load(Ordering::Acquire) != CLOSED {
            wait();
        }
        self.panicked.swap(false, Ordering::Relaxed)
    }

    /// Ends the workers. Says whether some sleep, whom the caller has to wake.
    pub(super) fn stop(&self) -> bool {
        self.stop.store(true, Ordering::Relaxed);
        self.next()
    }

    /// What a worker does until [`stop`](Self::stop): `wait` for another number than the one it is given, then, where
    /// it is not too late, `run` the job, which says whether it panicked.
    pub(super) fn work(&self, mut wait: impl FnMut(u32) -> u32, mut run: impl FnMut(J) -> bool) {
        let mut seen = 0;
        loop {
            seen = wait(seen);
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let Some(job) = self.enter() else { continue };
            if run(job) {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.gate.0.fetch_sub(1, Ordering::Release);
        }
    }

    /// Enters the region and takes its job, unless it is closed.
    fn enter(&self) -> Option<J> {
        let inside = |state| (state & CLOSED == 0).then_some(state + 1);
        self.gate.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, inside).ok()?;
        // SAFETY: inside the gate, acquired from what opened it: the job was written before, and is not written again
        // until this worker has left.
        Some(self.job.with(|job| unsafe { *job }))
    }

    /// The region's number when it is no longer `seen`.
    pub(super) fn changed(&self, seen: u32) -> Option<u32> {
        Some(self.number.0.load(Ordering::Acquire)).filter(|&number| number != seen)
    }

    /// Calls `park`, which returns at the latest when the opener wakes this worker, until the number is no longer `seen`.
    pub(super) fn sleep(&self, seen: u32, mut park: impl FnMut()) -> u32 {
        self.asleep.0.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst); // see `next`
        let number = loop {
            match self.changed(seen) {
                Some(number) => break number,
                None => park(),
            }
        };
        self.asleep.0.fetch_sub(1, Ordering::Relaxed);
        number
    }

    /// Regions so far; the count wraps around.
    pub(super) fn number(&self) -> u32 {
        self.number.0.load(Ordering::Relaxed)
    }

    /// Workers asleep.
    #[cfg(all(test, not(loom)))]
    pub(super) fn asleep(&self) -> u32 {
        self.asleep.0.load(Ordering::Relaxed)
    }
}
