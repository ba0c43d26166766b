//! The second home of what answers have cached: files, which survive the process.
//!
//! ```text
//! given up by the memory, or kept at the end ──► queue ──► a thread writes ──► folder
//! prompt ──► index of tokens ──► worth reading? ──► the thread reads ──► kept in memory, found as ever
//! ```
//!
//! The engine's thread only hands over shares of pages and looks into an index in memory. Whatever goes wrong here costs
//! time that would have been saved, and nothing else.

mod file;
mod folder;
mod identity;
mod worker;

pub use folder::{PrefixFolder, Tell};

use super::kept::shared;
use crate::model::Model;
use file::{Header, Identity};
use ingle_model::executor::CachedState;
use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};
use worker::{Queue, Task};

/// Least tokens that are worth a file, and worth reading one.
pub(super) const LEAST: usize = 64;
/// Bytes per second that a disk is taken to give before it was measured.
const DISK_RATE: f64 = 1e9;

/// What the tier on disk has done since the model was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStatus {
    /// Prompts whose beginning was read.
    pub hits: u64,
    /// Prompt tokens that were not computed for that.
    pub tokens: u64,
    /// Bytes written.
    pub written: u64,
    /// Bytes read.
    pub read: u64,
    /// Files that could not be written or read, damaged ones included.
    pub failures: u64,
    /// Sequences that were not written, because others waited already or the folder is too small.
    pub skipped: u64,
    /// Bytes of all files in the folder, as last seen.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    tokens: AtomicU64,
    written: AtomicU64,
    read: AtomicU64,
    failures: AtomicU64,
    skipped: AtomicU64,
    bytes: AtomicU64,
}

/// A file that is known to be there.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    bytes: u64,
    header: Arc<Header>,
}

/// What a prompt's beginning was found in.
#[derive(Clone, Debug)]
pub(super) struct Found {
    name: String,
    header: Arc<Header>,
    bytes: u64,
}

impl Found {
    /// Which file.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Tokens it holds.
    pub(super) fn tokens(&self) -> usize {
        self.header.tokens.len()
    }
}

/// What is to be written.
pub(super) struct Work {
    pub(super) tokens: Vec<u32>,
    pub(super) state: Box<dyn CachedState>,
    /// Seconds per token that computing takes, where that was measured.
    pub(super) seconds: Option<f64>,
    /// When it was last of use.
    pub(super) used: SystemTime,
}

/// What came of reading a file.
pub(super) struct Arrived {
    pub(super) name: String,
    pub(super) tokens: Vec<u32>,
    /// `None` where it could not be used.
    pub(super) state: Option<Box<dyn CachedState>>,
}

/// What the engine's thread and the writing one have in common.
struct Shared {
    folder: PrefixFolder,
    identity: Identity,
    /// Tokens that a sequence may have.
    context: usize,
    /// Most bytes of sequences that are no longer kept and wait to be written.
    most_waiting: u64,
    /// Whether sequences cannot go back to any earlier position.
    forgets: bool,
    index: Mutex<Vec<Entry>>,
    queue: Mutex<Queue>,
    wake: Condvar,
    counts: Counts,
    /// Bytes per second that reading a file gave, as bits; 0 before the first.
    rate: AtomicU64,
    /// Whether a person was told that something goes wrong.
    told: AtomicBool,
}

/// The tier of one model.
pub(super) struct Disk {
    shared: Arc<Shared>,
    arrived: Receiver<Arrived>,
    arrivals: Sender<Arrived>,
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Disk {
    /// Looks what is there and starts the thread. `None`, and a word to a person, where the model's caches cannot be
    /// written.
    pub(super) fn start(
        folder: &PrefixFolder,
        model: &Model,
        forgets: bool,
        most_waiting: u64,
    ) -> Option<Disk> {
        if let Err(error) = model.executor.empty_state() {
            folder.tell(&format!("no prefixes are kept on disk: {error}"));
            return None;
        }
        let shared = Arc::new(Shared {
            folder: folder.clone(),
            identity: identity::identity(&model.source, model.spec(), model.kv_format()),
            context: model.context(),
            most_waiting,
            forgets,
            index: Mutex::default(),
            queue: Mutex::default(),
            wake: Condvar::new(),
            counts: Counts::default(),
            rate: AtomicU64::new(0),
            told: AtomicBool::new(false),
        });
        folder.sweep();
        shared.refresh();
        let (arrivals, arrived) = mpsc::channel();
        let worker = shared.clone();
        let started = std::thread::Builder::new().name("ingle-prefixes".into()).spawn(move || worker.run());
        match started {
            Ok(_) => Some(Disk { shared, arrived, arrivals }),
            Err(error) => {
                shared.failed(&format!("no prefixes are kept on disk: the system starts no thread: {error}"));
                None
            }
        }
    }

    /// The file that spares most of computing `history`, of which the memory has `best` tokens and `longest` need not be
    /// computed, if reading it takes less time than computing. Sequences can go back by `back` tokens; computing takes `seconds` per token, where that was
    /// measured.
    pub(super) fn find(
        &self,
        history: &[u32],
        longest: usize,
        best: usize,
        back: usize,
        seconds: Option<f64>,
    ) -> Option<Found> {
        let index = locked(&self.shared.index);
        let usable = index.iter().filter_map(|entry| {
            let length = shared(&entry.header.tokens, history).min(longest);
            (entry.header.tokens.len() - length <= back).then_some((length, entry))
        });
        let (length, entry) =
            usable.max_by_key(|(length, entry)| (*length, std::cmp::Reverse(entry.bytes)))?;
        let won = length.checked_sub(best).filter(|&won| won >= LEAST)?;
        let computing = won as f64 * seconds.unwrap_or(entry.header.seconds);
        let reading = entry.bytes as f64 / self.shared.rate();
        // what computing takes is not known of a machine that was too quick, or too briefly there, to measure it
        let worth = computing <= 0.0 || reading < computing;
        worth.then(|| Found { name: entry.name.clone(), header: entry.header.clone(), bytes: entry.bytes })
    }

    /// How long reading takes, about.
    pub(super) fn reading_time(&self, found: &Found) -> Duration {
        Duration::from_secs_f64((found.bytes as f64 / self.shared.rate()).clamp(0.0, 1e6))
    }

    /// Has a file read into an empty state.
    pub(super) fn read(&self, found: &Found, state: Box<dyn CachedState>) {
        let Found { name, header, .. } = found.clone();
        locked(&self.shared.queue).reads.push_back(Task::Read {
            name,
            header,
            state,
            arrivals: self.arrivals.clone(),
        });
        self.shared.wake.notify_one();
    }

    /// What was read meanwhile.
    pub(super) fn arrived(&self) -> Option<Arrived> {
        self.arrived.try_recv().ok()
    }

    /// Whether these tokens are worth a file: they are not few, and there is none from which they can be had. One that there
    /// is counts as used then.
    pub(super) fn is_worth(&self, tokens: &[u32], used: SystemTime) -> bool {
        if tokens.len() < LEAST {
            return false;
        }
        let forgets = self.shared.forgets;
        let index = locked(&self.shared.index);
        let held = index.iter().find(|entry| match forgets {
            true => entry.header.tokens == tokens,
            false => entry.header.tokens.starts_with(tokens),
        });
        if let Some(entry) = held {
            let name = entry.name.clone();
            drop(index);
            locked(&self.shared.queue).writes.push_back(Task::Used(name, used));
            self.shared.wake.notify_one();
            return false;
        }
        true
    }

    /// Has a state written. Of one that is given up for lack of memory (`given_up`) the memory is held until then, so that
    /// it is skipped where too many wait.
    pub(super) fn write(&self, work: Work, given_up: bool) {
        let Work { tokens, state, seconds, used } = work;
        let header = Header::new(self.shared.identity, tokens, &*state, seconds.unwrap_or(0.0));
        let mut queue = locked(&self.shared.queue);
        let waiting = queue.waiting.saturating_add(header.state);
        if given_up && queue.waiting > 0 && waiting > self.shared.most_waiting {
            self.shared.counts.skipped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.waiting = waiting;
        queue.writes.push_back(Task::Write { header, state, used });
        self.shared.wake.notify_one();
    }

    /// Says when everything handed over so far is written.
    pub(super) fn flush(&self, reply: Sender<()>) {
        locked(&self.shared.queue).writes.push_back(Task::Flush(reply));
        self.shared.wake.notify_one();
    }

    /// A prompt began with what was read, which spared so many tokens.
    pub(super) fn hit(&self, tokens: usize) {
        self.shared.counts.hits.fetch_add(1, Ordering::Relaxed);
        self.shared.counts.tokens.fetch_add(tokens as u64, Ordering::Relaxed);
    }

    /// What was done.
    pub(super) fn status(&self) -> DiskStatus {
        let Counts { hits, tokens, written, read, failures, skipped, bytes } = &self.shared.counts;
        let [hits, tokens, written, read, failures, skipped, bytes] =
            [hits, tokens, written, read, failures, skipped, bytes]
                .map(|count| count.load(Ordering::Relaxed));
        DiskStatus { hits, tokens, written, read, failures, skipped, bytes }
    }
}

/// The thread ends when it has done what it was given.
impl Drop for Disk {
    fn drop(&mut self) {
        locked(&self.shared.queue).ends = true;
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn rate(&self) -> f64 {
        let measured = f64::from_bits(self.rate.load(Ordering::Relaxed));
        if measured > 0.0 { measured } else { DISK_RATE }
    }

    /// What a file of these tokens is called.
    fn name_of(&self, tokens: &[u32]) -> String {
        let mut sum = Sha256::new();
        tokens.iter().for_each(|token| sum.update(token.to_le_bytes()));
        folder::name(&self.identity, &sum.finalize())
    }

    /// Something went wrong; a person is told the first time.
    fn failed(&self, message: &str) {
        self.counts.failures.fetch_add(1, Ordering::Relaxed);
        if !self.told.swap(true, Ordering::Relaxed) {
            self.folder.tell(message);
        }
    }
}
