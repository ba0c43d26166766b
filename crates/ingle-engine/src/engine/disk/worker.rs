//! The thread that writes and reads files, and what it does to the index.

use super::file::{self, Header, Unusable};
use super::{Arrived, Entry, Shared, folder, locked};
use ingle_model::executor::CachedState;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Instant, SystemTime};

/// Files that are smaller say nothing of the disk's rate.
const TELLING: u64 = 16 << 20;

/// What the thread is to do; prompts wait for what is read, so that goes first.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) reads: VecDeque<Task>,
    pub(super) writes: VecDeque<Task>,
    /// Bytes of states that wait to be written.
    pub(super) waiting: u64,
    /// Whether nobody will add anything.
    pub(super) ends: bool,
}

pub(super) enum Task {
    Read {
        name: String,
        header: Arc<Header>,
        state: Box<dyn CachedState>,
        arrivals: Sender<Arrived>,
    },
    Write {
        header: Header,
        state: Box<dyn CachedState>,
        used: SystemTime,
    },
    /// A file was of use.
    Used(String, SystemTime),
    /// Say that everything before is done.
    Flush(Sender<()>),
}

impl Shared {
    pub(super) fn run(&self) {
        while let Some(task) = self.next() {
            match task {
                Task::Read { name, header, mut state, arrivals } => {
                    let good = self.read(&name, &header, &mut *state);
                    let tokens = header.tokens.clone();
                    // whoever does not listen any more has ended
                    _ = arrivals.send(Arrived { name, tokens, state: good.then_some(state) });
                }
                Task::Write { header, state, used } => {
                    let bytes = header.state;
                    self.write(header, &*state, used);
                    drop(state);
                    let mut queue = locked(&self.queue);
                    queue.waiting = queue.waiting.saturating_sub(bytes);
                }
                Task::Used(name, used) => self.folder.used(&name, used),
                Task::Flush(reply) => _ = reply.send(()),
            }
        }
    }

    fn next(&self) -> Option<Task> {
        let mut queue = locked(&self.queue);
        loop {
            if let Some(task) = queue.reads.pop_front() {
                return Some(task);
            }
            match queue.writes.pop_front() {
                Some(task) => return Some(task),
                None if queue.ends => return None,
                None => {}
            }
            queue = self.wake.wait(queue).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// Reads a file into an empty state. Whether that can be gone on from.
    fn read(&self, name: &str, header: &Header, state: &mut dyn CachedState) -> bool {
        let started = Instant::now();
        let read = self.folder.open_file(name).map_err(Unusable::Io).and_then(|(file, length)| {
            file::read(file, length, header, state)?;
            Ok(length)
        });
        match read {
            Ok(bytes) => {
                self.folder.used(name, SystemTime::now());
                self.counts.read.fetch_add(bytes, Ordering::Relaxed);
                if bytes >= TELLING {
                    let rate = bytes as f64 / started.elapsed().as_secs_f64().max(1e-9);
                    let before = self.rate();
                    self.rate.store((0.5 * before + 0.5 * rate).to_bits(), Ordering::Relaxed);
                }
                true
            }
            Err(unusable) => {
                locked(&self.index).retain(|entry| entry.name != name);
                self.refuse(name, &unusable);
                false
            }
        }
    }

    /// A file cannot be used; a damaged one is removed.
    fn refuse(&self, name: &str, unusable: &Unusable) {
        let file = self.folder.path().join(name);
        match unusable {
            // another server has removed it
            Unusable::Io(error) if error.kind() == io::ErrorKind::NotFound && self.folder.path().is_dir() => {
            }
            Unusable::Io(error) => {
                self.failed(&format!("the cached prefix {} cannot be read: {error}", file.display()))
            }
            Unusable::Damaged(_) => {
                self.counts.failures.fetch_add(1, Ordering::Relaxed);
                _ = self.folder.remove(name);
                self.folder.tell(&format!("the cached prefix {} was removed: {unusable}", file.display()));
            }
        }
    }

    fn write(&self, header: Header, state: &dyn CachedState, used: SystemTime) {
        let Some(bytes) = header.file_bytes().filter(|&bytes| bytes <= self.folder.most()) else {
            self.counts.skipped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let name = self.name_of(&header.tokens);
        let written = self.folder.make_room(bytes, used).and_then(|room| {
            if room {
                self.folder.write(&name, used, |to| file::write(to, &header, state))?;
            }
            Ok(room)
        });
        match written {
            Ok(true) => {}
            // all that there is was of use since
            Ok(false) => {
                self.counts.skipped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(error) => {
                let folder = self.folder.path().display();
                self.failed(&format!(
                    "prefixes cannot be written to {folder}: {error}; what was cached is computed again after a restart"
                ));
                return;
            }
        }
        self.counts.written.fetch_add(bytes, Ordering::Relaxed);
        self.supersede(&header.tokens, &name);
        let mut index = locked(&self.index);
        index.retain(|entry| entry.name != name);
        index.push(Entry { name, bytes, header: Arc::new(header) });
        drop(index);
        // another server may have written meanwhile
        if let Err(error) = self.folder.make_room(0, SystemTime::now()) {
            self.failed(&format!("{} cannot be kept within its size: {error}", self.folder.path().display()));
        }
        self.refresh();
    }

    /// Removes files that a longer one makes needless.
    fn supersede(&self, tokens: &[u32], by: &str) {
        if self.forgets {
            return;
        }
        let mut needless = Vec::new();
        locked(&self.index).retain(|entry| {
            let covered = entry.name != by && tokens.starts_with(&entry.header.tokens);
            if covered {
                needless.push(entry.name.clone());
            }
            !covered
        });
        for name in needless {
            // what cannot be removed now is removed with the oldest
            _ = self.folder.remove(&name);
        }
    }

    /// Brings the index to what the folder has: what other servers wrote and removed.
    pub(super) fn refresh(&self) {
        let files = match self.folder.files() {
            Ok(files) => files,
            Err(error) => {
                let folder = self.folder.path().display();
                self.failed(&format!("prefixes cannot be looked for in {folder}: {error}"));
                return;
            }
        };
        self.counts.bytes.store(files.iter().map(|file| file.bytes).sum(), Ordering::Relaxed);
        let model = folder::name(&self.identity, &[0; 32]);
        let ours = files.into_iter().filter(|file| folder::model_of(&file.name) == folder::model_of(&model));
        let known: Vec<Entry> = locked(&self.index).clone();
        let mut entries = Vec::new();
        for stored in ours {
            if let Some(entry) =
                known.iter().find(|entry| entry.name == stored.name && entry.bytes == stored.bytes)
            {
                entries.push(entry.clone());
                continue;
            }
            match self.header(&stored.name) {
                Ok(header) if header.tokens.len() <= self.context => {
                    entries.push(Entry { name: stored.name, bytes: stored.bytes, header: Arc::new(header) });
                }
                // of a server with longer conversations
                Ok(_) => {}
                Err(unusable) => self.refuse(&stored.name, &unusable),
            }
        }
        *locked(&self.index) = entries;
    }

    /// What a file of this model begins with.
    fn header(&self, name: &str) -> Result<Header, Unusable> {
        let (file, length) = self.folder.open_file(name).map_err(Unusable::Io)?;
        let header = Header::read(&mut io::BufReader::new(file), length)?;
        if header.identity != self.identity {
            return Err(Unusable::Damaged("it is another model's"));
        }
        if self.name_of(&header.tokens) != name {
            return Err(Unusable::Damaged("its tokens are not those of its name"));
        }
        Ok(header)
    }
}
