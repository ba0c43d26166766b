//! A file of the prefix cache: which tokens, then what a sequence has cached of them.
//!
//! ```text
//! magic, version, identity      of the model, the format of its cache and the layout of pages
//! tokens, bytes of the state    how many
//! seconds per token             that computing them took; 0 is not known
//! the tokens
//! SHA-256 of all of this
//! the state                     as the executor writes it
//! SHA-256 of everything before
//! ```
//!
//! Numbers are little-endian. Nothing of a file is believed: sizes have to add up to the file's before memory is taken, and
//! a state counts only when the last sum was right.

use ingle_model::executor::CachedState;
use sha2::{Digest, Sha256};
use std::io::{self, BufReader, BufWriter, Read, Write};

const MAGIC: [u8; 8] = *b"ingle kv";
const VERSION: u32 = 1;
const SUM: usize = 32;
/// Bytes before the tokens.
const FIXED: usize = MAGIC.len() + size_of::<u32>() + SUM + 3 * size_of::<u64>();
/// Bytes that are read or written at a time where little is wanted.
const BUFFER: usize = 256 * 1024;

/// What a model, the format of its cache and the layout of pages are known by.
pub(super) type Identity = [u8; SUM];

/// What a file says before the state.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    pub(super) identity: Identity,
    pub(super) tokens: Vec<u32>,
    /// Bytes of the state.
    pub(super) state: u64,
    /// Seconds per token that computing it took; 0 is not known.
    pub(super) seconds: f64,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("it cannot be read: {0}")]
    Io(io::Error),
    #[error("{0}")]
    Damaged(&'static str),
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Unusable {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Unusable::Damaged("it ends too early"),
            io::ErrorKind::InvalidData => {
                Unusable::Damaged("it was written of another kind or size of cache")
            }
            _ => Unusable::Io(error),
        }
    }
}

impl Header {
    /// Of so many tokens and what is cached of them.
    pub(super) fn new(identity: Identity, tokens: Vec<u32>, state: &dyn CachedState, seconds: f64) -> Header {
        let mut counted = Summed { inner: io::sink(), sum: None, bytes: 0 };
        // a sink takes everything
        _ = state.write(&mut counted);
        Header { identity, tokens, state: counted.bytes, seconds }
    }

    /// Bytes of the whole file; `None` where no file is that large.
    pub(super) fn file_bytes(&self) -> Option<u64> {
        file_bytes(self.tokens.len() as u64, self.state)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED + 4 * self.tokens.len());
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.identity);
        bytes.extend((self.tokens.len() as u64).to_le_bytes());
        bytes.extend(self.state.to_le_bytes());
        bytes.extend(self.seconds.to_le_bytes());
        bytes.extend(self.tokens.iter().flat_map(|token| token.to_le_bytes()));
        bytes
    }

    /// Reads what a file of `length` bytes begins with.
    ///
    /// # Errors
    /// A file that is something else, or damaged, or cannot be read.
    pub(super) fn read(from: &mut dyn Read, length: u64) -> Result<Header, Unusable> {
        Header::read_summed(&mut Summed::new(from), length)
    }

    fn read_summed<R: Read>(from: &mut Summed<R>, length: u64) -> Result<Header, Unusable> {
        if take::<8>(from)? != MAGIC {
            return Err(Unusable::Damaged("it is no file of a prefix cache"));
        }
        if u32::from_le_bytes(take(from)?) != VERSION {
            return Err(Unusable::Damaged("another version of Ingle has written it"));
        }
        let identity = take(from)?;
        let (count, state) = (u64::from_le_bytes(take(from)?), u64::from_le_bytes(take(from)?));
        let seconds = f64::from_le_bytes(take(from)?);
        if file_bytes(count, state) != Some(length) {
            return Err(Unusable::Damaged("it is not as long as it says"));
        }
        // no more than the file has
        let mut tokens = Vec::with_capacity(count as usize);
        for _ in 0..count {
            tokens.push(u32::from_le_bytes(take(from)?));
        }
        from.check()?;
        Ok(Header { identity, tokens, state, seconds })
    }
}

fn file_bytes(tokens: u64, state: u64) -> Option<u64> {
    tokens.checked_mul(4)?.checked_add(state)?.checked_add((FIXED + 2 * SUM) as u64)
}

/// Writes a whole file.
///
/// # Errors
/// Those of the writer.
pub(super) fn write(to: impl Write, header: &Header, state: &dyn CachedState) -> io::Result<()> {
    let mut to = Summed::new(BufWriter::with_capacity(BUFFER, to));
    to.write_all(&header.bytes())?;
    to.write_sum()?;
    let before = to.bytes;
    state.write(&mut to)?;
    if to.bytes - before != header.state {
        return Err(io::Error::other("the state is not as long as it was when it was counted"));
    }
    to.write_sum()?;
    to.inner.flush()
}

/// Reads a whole file of `length` bytes into an empty state. The header has to be `wanted`.
///
/// # Errors
/// As [`Header::read`], and a file whose state is not that of its tokens.
pub(super) fn read(
    from: impl Read,
    length: u64,
    wanted: &Header,
    state: &mut dyn CachedState,
) -> Result<(), Unusable> {
    let mut from = Summed::new(BufReader::with_capacity(BUFFER, from));
    if Header::read_summed(&mut from, length)? != *wanted {
        return Err(Unusable::Damaged("it is another one than it was"));
    }
    let before = from.bytes;
    state.read(wanted.tokens.len(), &mut from)?;
    if from.bytes - before != wanted.state {
        return Err(Unusable::Damaged("its state is not as long as it says"));
    }
    from.check()
}

fn take<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Counts what passes and adds it up.
struct Summed<T> {
    inner: T,
    sum: Option<Sha256>,
    bytes: u64,
}

impl<T> Summed<T> {
    fn new(inner: T) -> Summed<T> {
        Summed { inner, sum: Some(Sha256::new()), bytes: 0 }
    }

    fn passed(&mut self, bytes: &[u8]) {
        if let Some(sum) = &mut self.sum {
            sum.update(bytes);
        }
        self.bytes += bytes.len() as u64;
    }

    fn sum(&self) -> [u8; SUM] {
        self.sum.clone().unwrap_or_default().finalize().into()
    }
}

impl<W: Write> Summed<W> {
    fn write_sum(&mut self) -> io::Result<()> {
        let sum = self.sum();
        self.write_all(&sum)
    }
}

impl<R: Read> Summed<R> {
    /// Whether the sum that follows is that of what came before.
    fn check(&mut self) -> Result<(), Unusable> {
        let sum = self.sum();
        if take(self)? == sum { Ok(()) } else { Err(Unusable::Damaged("its sum is wrong: it is damaged")) }
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.passed(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.passed(&bytes[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many bytes as there are tokens, and one of its own.
    struct Bytes(Vec<u8>);

    impl CachedState for Bytes {
        fn length(&self) -> usize {
            self.0.len()
        }

        fn write(&self, to: &mut dyn Write) -> io::Result<()> {
            to.write_all(&[7])?;
            to.write_all(&self.0)
        }

        fn read(&mut self, length: usize, from: &mut dyn Read) -> io::Result<()> {
            if take(&mut &mut *from)? != [7] {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.0.resize(length, 0);
            from.read_exact(&mut self.0)
        }
    }

    fn stored() -> (Header, Vec<u8>) {
        let state = Bytes((0..100).collect());
        let header = Header::new([3; 32], (0..100).map(|at| at * 1000).collect(), &state, 0.25);
        let mut file = Vec::new();
        write(&mut file, &header, &state).unwrap();
        (header, file)
    }

    fn used(file: &[u8], header: &Header) -> Result<Vec<u8>, Unusable> {
        let mut state = Bytes(Vec::new());
        read(file, file.len() as u64, header, &mut state).map(|()| state.0)
    }

    #[test]
    fn what_was_written_is_read() {
        let (header, file) = stored();
        assert_eq!(header.file_bytes(), Some(file.len() as u64));
        assert_eq!(Header::read(&mut &file[..], file.len() as u64).unwrap(), header);
        assert_eq!(used(&file, &header).unwrap(), (0..100).collect::<Vec<u8>>());
    }

    #[test]
    fn no_flipped_bit_and_no_lost_byte_goes_unnoticed() {
        let (header, file) = stored();
        for at in 0..8 * file.len() {
            let mut damaged = file.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            assert!(used(&damaged, &header).is_err(), "bit {at}");
        }
        for length in 0..file.len() {
            assert!(used(&file[..length], &header).is_err(), "{length} bytes");
            assert!(Header::read(&mut &file[..length], length as u64).is_err(), "{length} bytes");
        }
        assert!(used(&[&file[..], &[0]].concat(), &header).is_err());
    }

    #[test]
    fn sizes_that_no_file_has_take_no_memory() {
        let (_, file) = stored();
        for count in [u64::MAX, u64::MAX / 4, 1 << 40] {
            let mut absurd = file.clone();
            absurd[44..52].copy_from_slice(&count.to_le_bytes());
            let read = Header::read(&mut &absurd[..], absurd.len() as u64);
            assert!(matches!(read, Err(Unusable::Damaged(_))), "{count}");
        }
    }
}
