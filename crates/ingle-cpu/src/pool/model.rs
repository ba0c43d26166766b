//! The protocol of a region under a model checker: every order of events that the memory model allows, up to a bound on
//! preemptions. Runs by `cargo run -p xtask -- loom`.
//!
//! The checker fails a model in which a job's data is reached by two threads at once or without having been handed over,
//! in which a thread waits for ever, or in which an assertion fails in any order.

use super::region::Region;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

/// The opener and its workers: what each region's jobs may touch, and who has done them.
struct Scene {
    region: Region<usize>,
    /// Per region, what the job borrows from the opener.
    borrowed: Vec<UnsafeCell<u32>>,
    /// Per region and worker, how often the job was done.
    done: Vec<Vec<UnsafeCell<u32>>>,
}

/// Goes through all orders of `regions` regions and `workers` workers that sleep when there is nothing to do. Worker 0
/// panics in region `panics`.
fn check(regions: usize, workers: usize, panics: Option<usize>, preemptions: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(move || {
        let scene = Arc::new(Scene {
            region: Region::new(usize::MAX),
            borrowed: (0..regions).map(|_| UnsafeCell::new(0)).collect(),
            done: (0..regions).map(|_| (0..workers).map(|_| UnsafeCell::new(0)).collect()).collect(),
        });
        let threads: Vec<_> = (0..workers)
            .map(|worker| {
                let scene = Arc::clone(&scene);
                thread::spawn(move || {
                    let wait = |seen| scene.region.sleep(seen, thread::park);
                    scene.region.work(wait, |job| {
                        // SAFETY: what this model is to show; the checker watches both accesses.
                        assert_eq!(scene.borrowed[job].with(|number| unsafe { *number }), 7, "handed over");
                        // SAFETY: only this worker writes it before the region is closed.
                        scene.done[job][worker].with_mut(|count| unsafe { *count += 1 });
                        worker == 0 && panics == Some(job)
                    });
                })
            })
            .collect();
        let wake = || threads.iter().for_each(|thread| thread.thread().unpark());
        for region in 0..regions {
            // SAFETY: before the region is open, and after it is closed, the opener alone uses its data.
            scene.borrowed[region].with_mut(|number| unsafe { *number = 7 });
            // SAFETY: this thread alone opens, and closes before it opens again.
            if unsafe { scene.region.open(region) } {
                wake();
            }
            let panicked = scene.region.close(thread::yield_now);
            // SAFETY: as above: as if the opener's frame were gone.
            scene.borrowed[region].with_mut(|number| unsafe { *number = 0 });
            let mut done = Vec::new();
            for count in &scene.done[region] {
                // SAFETY: as above.
                done.push(count.with_mut(|count| unsafe { *count }));
            }
            assert_eq!(panicked, panics == Some(region) && done[0] > 0, "a panic is told in its own region");
        }
        // a worker that nobody woke would be waited for without end
        if scene.region.stop() {
            wake();
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_worker_that_comes_to_any_of_three_regions_or_to_none() {
    check(3, 1, None, 3);
}

#[test]
fn two_workers() {
    check(1, 2, None, 3);
    check(2, 2, None, 2);
}

#[test]
fn a_panic_is_told_in_its_region_and_the_next_one_works() {
    check(2, 1, Some(0), 3);
    check(2, 2, Some(1), 2);
}

#[test]
fn a_pool_that_never_opens_a_region_ends() {
    check(0, 2, None, 4);
}
