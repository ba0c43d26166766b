//! What leaves the memory for want of room or at the end, goes to disk and comes back.

use super::super::disk::{Arrived, Disk, Work};
use super::super::job::{Job, OnDisk, Place};
use super::super::kept::Entry;
use super::{Runner, caches};
use ingle_model::executor::SequenceId;
use ingle_model::spec::{KvKind, ModelSpec};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant, SystemTime};

/// How much longer than expected a prompt waits for the disk, before it is computed after all.
const PATIENCE: Duration = Duration::from_secs(10);
/// Positions that sequences with windows can go back by.
const WINDOW_BACK: usize = 64;

/// Positions that every sequence can go back by.
fn goes_back(spec: &ModelSpec) -> usize {
    if caches(spec, |kind| kind == KvKind::Recurrent) {
        0
    } else if caches(spec, |kind| matches!(kind, KvKind::Window(_))) {
        WINDOW_BACK
    } else {
        usize::MAX
    }
}

impl Runner {
    /// Sees to it that `bytes` more can be reserved, giving up what is kept. Job `but` is not counted.
    pub(super) fn make_room(&mut self, bytes: u64, but: Option<usize>) -> bool {
        let others = self.running.iter().enumerate().filter(|&(at, _)| Some(at) != but);
        let reserved: u64 =
            others.filter_map(|(_, job)| job.place).map(|place| self.about.kv_bytes(place.reserved)).sum();
        let wanted = reserved.saturating_add(bytes);
        if wanted > self.about.kv_budget {
            return false;
        }
        while wanted.saturating_add(self.kept.bytes()) > self.about.kv_budget {
            if !self.give_up() {
                break;
            }
        }
        true
    }

    /// Gives up the kept sequence that was of no use for longest; the disk gets what it has cached. Whether there was one.
    pub(super) fn give_up(&mut self) -> bool {
        let Some(entry) = self.kept.give_up() else { return false };
        self.write(entry.sequence, &entry.tokens, entry.used, true);
        self.model.executor.close(entry.sequence);
        true
    }

    /// Has everything that is cached written, what was used last first, and `reply` hear when that is done. Nothing is
    /// written or read after that.
    pub(super) fn write_kept(&mut self, reply: Sender<()>) {
        for job in &self.running {
            if let Some(Place { sequence, fed, .. }) = job.place {
                self.write(sequence, &job.history()[..fed], SystemTime::now(), false);
            }
        }
        for Entry { sequence, tokens, used, .. } in self.kept.iter() {
            self.write(*sequence, tokens, *used, false);
        }
        if let Some(disk) = self.disk.take() {
            disk.flush(reply);
            self.waiting.iter_mut().for_each(|job| job.on_disk = OnDisk::Nothing);
        }
    }

    fn write(&self, sequence: SequenceId, tokens: &[u32], used: SystemTime, given_up: bool) {
        let Some(disk) = self.disk.as_ref().filter(|disk| disk.is_worth(tokens, used)) else { return };
        // what failed half-way may have left less
        match self.model.executor.state(sequence, tokens.len()) {
            Ok(state) if state.length() == tokens.len() => {
                let work = Work { tokens: tokens.to_vec(), state, seconds: self.pace.prompt_token(), used };
                disk.write(work, given_up);
            }
            _ => {}
        }
    }

    /// Has the beginning of a prompt that waits read from disk, where that is quicker than computing what the memory has
    /// not. Whether the prompt has to wait for that.
    pub(super) fn read(&mut self, at: usize, memory: usize) -> bool {
        let job = &self.waiting[at];
        let (Some(disk), OnDisk::Unknown) = (&self.disk, &job.on_disk) else { return false };
        let (back, seconds) = (goes_back(&self.about.spec), self.pace.prompt_token());
        let reserved: u64 = self.places().map(|place| self.about.kv_bytes(place.reserved)).sum();
        // there has to be room for it beside what runs; a disk that hangs is not waited for by everybody
        let found = disk.find(job.history(), job.most_cached(), memory, back, seconds).filter(|found| {
            let bytes = self.about.kv_bytes(found.tokens());
            reserved.saturating_add(bytes) <= self.about.kv_budget && self.overdue.is_none()
        });
        let reading = found.and_then(|found| {
            let name = found.name();
            let comes =
                |job: &Job| matches!(&job.on_disk, OnDisk::Reading { name: other, .. } if other == name);
            if !self.waiting.iter().any(comes) {
                disk.read(&found, self.model.executor.empty_state().ok()?);
            }
            let until = Instant::now() + disk.reading_time(&found) + PATIENCE;
            Some(OnDisk::Reading { name: name.to_owned(), until, memory })
        });
        let waits = reading.is_some();
        self.waiting[at].on_disk = reading.unwrap_or(OnDisk::Nothing);
        waits
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        self.running.iter().filter_map(|job| job.place)
    }

    /// Keeps what was read, and lets those go on that waited for it, or have waited too long.
    pub(super) fn take_what_was_read(&mut self) {
        while let Some(Arrived { name, tokens, state }) = self.disk.as_ref().and_then(Disk::arrived) {
            if self.overdue.as_ref() == Some(&name) {
                self.overdue = None;
            }
            let resumed = state.and_then(|state| self.model.executor.resume(state, self.about.context).ok());
            let read = resumed.is_some();
            if let Some(sequence) = resumed {
                self.keep(sequence, tokens);
            }
            for job in &mut self.waiting {
                match job.on_disk {
                    OnDisk::Reading { name: ref waited_for, memory, .. } if *waited_for == name => {
                        job.on_disk = if read { OnDisk::Read { memory } } else { OnDisk::Nothing };
                    }
                    _ => {}
                }
            }
        }
        let now = Instant::now();
        for job in &mut self.waiting {
            if let OnDisk::Reading { name, until, .. } = &job.on_disk
                && *until < now
            {
                self.overdue = Some(name.clone());
                job.on_disk = OnDisk::Nothing;
            }
        }
    }
}
