//! A bounds-checked walk over the bytes of a header.

use crate::error::{Error, Result};
use std::path::Path;

/// Reads little-endian values one after the other; every error names the file and the offset.
pub(super) struct Cursor<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(path: &'a Path, bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { path, bytes, at: 0 }
    }

    /// The file, for messages.
    pub(super) fn path(&self) -> &'a Path {
        self.path
    }

    /// Offset of the next byte.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Bytes not read yet.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// A complaint about the bytes at `offset`.
    pub(super) fn damaged(&self, offset: usize, what: impl Into<String>) -> Error {
        Error::damaged(self.path, offset as u64, what)
    }

    /// The next `count` bytes, which are (part of) `what`.
    pub(super) fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8]> {
        match self.bytes.get(self.at..).and_then(|rest| rest.get(..count)) {
            Some(taken) => {
                self.at += count;
                Ok(taken)
            }
            None => Err(self.damaged(
                self.at,
                format!("the file ends inside {what} ({count} bytes wanted, {} left)", self.left()),
            )),
        }
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A number of things, each of which takes at least `least_bytes` of the bytes that follow, so that a count
    /// the file cannot hold is refused before anything is allocated for it.
    pub(super) fn count(&mut self, least_bytes: usize, what: &str) -> Result<usize> {
        let at = self.at;
        let count = self.u64(what)?;
        match usize::try_from(count) {
            Ok(fits) if fits <= self.left() / least_bytes => Ok(fits),
            _ => Err(self.damaged(
                at,
                format!("{what} is {count}, more than the {} bytes that follow can hold", self.left()),
            )),
        }
    }

    /// A length and that many bytes of UTF-8.
    pub(super) fn string(&mut self, what: &str) -> Result<&'a str> {
        let at = self.at;
        let length = self.count(1, what).map_err(|_| {
            let left = self.left();
            self.damaged(at, format!("the length of {what} is more than the {left} bytes that follow"))
        })?;
        let start = self.at;
        let bytes = self.take(length, what)?;
        std::str::from_utf8(bytes)
            .map_err(|error| self.damaged(start + error.valid_up_to(), format!("{what} is not UTF-8")))
    }
}
