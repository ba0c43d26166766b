//! Read-only memory maps of model files: the only `unsafe` in this crate.

use super::sniff;
use crate::error::{Error, Result};
use memmap2::Mmap;
use std::fs::File;
use std::path::Path;
use std::time::SystemTime;

/// One file's bytes: mapped from disk, or part of the program.
#[derive(Debug)]
pub(super) enum Bytes {
    Mapped {
        map: Mmap,
        file: File,
        /// When the file was changed before it was mapped.
        changed: Option<SystemTime>,
    },
    Embedded(&'static [u8]),
}

impl Bytes {
    /// Maps a regular, non-empty file.
    pub(super) fn map(path: &Path) -> Result<Bytes> {
        let io = |source| Error::io(path, source);
        let facts = std::fs::metadata(path).map_err(io)?;
        // Opening a pipe or a device could wait for ever or never end.
        if !facts.is_file() {
            return Err(Error::Unsupported { path: path.into(), what: "is not a regular file".into() });
        }
        if facts.len() == 0 {
            let what = sniff::wrong_file(&[], "a model file", "fetch the file again");
            return Err(Error::Unsupported { path: path.into(), what });
        }
        let file = File::open(path).map_err(io)?;
        let changed = facts.modified().ok();
        let map = map_read_only(&file).map_err(io)?;
        Ok(Bytes::Mapped { map, file, changed })
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Mapped { map, .. } => map,
            Bytes::Embedded(bytes) => bytes,
        }
    }

    /// When the file was changed before it was mapped.
    pub(super) fn changed(&self) -> Option<SystemTime> {
        match self {
            Bytes::Mapped { changed, .. } => *changed,
            Bytes::Embedded(_) => None,
        }
    }

    /// Whether the file has still what was mapped, as far as its length and its time of change tell. One that was replaced
    /// by another of its name has.
    pub(super) fn is_unchanged(&self) -> bool {
        match self {
            Bytes::Mapped { map, file, changed } => file
                .metadata()
                .is_ok_and(|facts| facts.len() >= map.len() as u64 && facts.modified().ok() == *changed),
            Bytes::Embedded(_) => true,
        }
    }

    /// Tells the system that the pages of `length` bytes at `offset` need not stay in memory. They come back from
    /// the file when they are read again, as do bytes of neighbours that share the first or the last page.
    pub(super) fn release(&self, offset: usize, length: usize) {
        match self {
            Bytes::Mapped { map, .. } if length > 0 => drop_pages(map, offset, length),
            _ => {}
        }
    }

    /// Tells the system that `length` bytes at `offset` will be read soon, as far as there are so many: it reads them
    /// while this thread goes on.
    pub(super) fn will_need(&self, offset: usize, length: usize) {
        #[cfg(unix)]
        if let Bytes::Mapped { map, .. } = self {
            let end = offset.saturating_add(length).min(map.len());
            if offset < end {
                // only advice: without it reading waits for the disk more often
                let _ = map.advise_range(memmap2::Advice::WillNeed, offset, end - offset);
            }
        }
        #[cfg(not(unix))]
        let _ = (offset, length);
    }

    /// Tells the system that single rows of these bytes will be read, far apart: what lies around them need not be
    /// read with them.
    pub(super) fn expect_scattered_reads(&self, offset: usize, length: usize) {
        #[cfg(unix)]
        if let Bytes::Mapped { map, .. } = self {
            // only advice: without it more of the file is in memory than needed
            let _ = map.advise_range(memmap2::Advice::Random, offset, length);
        }
        #[cfg(not(unix))]
        let _ = (offset, length);
    }
}

#[allow(unsafe_code)]
fn map_read_only(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: The map is private to this process and never written through. What remains is that another program
    // changes or shortens the file while it is mapped: the bytes behind a shared slice would change, and reading
    // past a new end ends the process with a bus error. No system offers a map without that risk, reading a model
    // of many gigabytes into memory instead would cost its size twice, and every program that maps models accepts
    // it. It is bounded: before every step executors ask whether the file is unchanged (`Source::check`); headers are parsed once and their counts and ranges kept in our own memory, so a later
    // change cannot move an access outside the map; after that only weights are read from it, as numbers for which
    // every bit pattern is valid, so the worst result of a change is wrong numbers. Our own writer replaces files
    // by renaming a new one into place, which leaves the mapped one as it was.
    unsafe { Mmap::map(file) }
}

#[cfg(unix)]
#[allow(unsafe_code)]
fn drop_pages(map: &Mmap, offset: usize, length: usize) {
    // SAFETY: The map is a read-only view of a file, so MADV_DONTNEED loses nothing: the next access to a dropped
    // page reads the same bytes from the file again. memmap2 checks that the range is in the map.
    let advised = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, length) };
    // Only advice: a system that refuses it keeps the pages until it needs the memory.
    let _ = advised;
}

#[cfg(not(unix))]
fn drop_pages(_map: &Mmap, _offset: usize, _length: usize) {}
