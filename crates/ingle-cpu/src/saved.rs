//! What caches write of themselves: a few numbers that say what follows, then pages as they lie in memory.
//!
//! Every layer begins with its kind and its sizes, which have to be those of the cache that it is read into; only then is
//! memory taken, page by page.

use crate::buffer::Buffer;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// Kinds of caches, as they are written.
pub(crate) const ATTENTION: u64 = 1;
pub(crate) const LATENT: u64 = 2;
pub(crate) const DELTA_NET: u64 = 3;
pub(crate) const ELSEWHERE: u64 = 4;

pub(crate) fn put(to: &mut dyn Write, numbers: &[u64]) -> io::Result<()> {
    numbers.iter().try_for_each(|number| to.write_all(&number.to_le_bytes()))
}

pub(crate) fn take(from: &mut dyn Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// A number that counts something of which there are at most `most`.
pub(crate) fn take_count(from: &mut dyn Read, most: usize) -> io::Result<usize> {
    usize::try_from(take(from)?).ok().filter(|&count| count <= most).ok_or_else(other)
}

/// Takes numbers that have to be these.
pub(crate) fn expect(from: &mut dyn Read, numbers: &[u64]) -> io::Result<()> {
    numbers.iter().try_for_each(|&number| if take(from)? == number { Ok(()) } else { Err(other()) })
}

pub(crate) fn put_page(to: &mut dyn Write, page: &Buffer) -> io::Result<()> {
    to.write_all(page.bytes())
}

pub(crate) fn take_page(from: &mut dyn Read, bytes: usize) -> io::Result<Arc<Buffer>> {
    let mut page =
        Buffer::zeroed(bytes).map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error))?;
    from.read_exact(page.bytes_mut())?;
    Ok(Arc::new(page))
}

/// What is read is no such cache.
pub(crate) fn other() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it was written of another kind or size of cache")
}
