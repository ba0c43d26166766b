//! SHA-256 digests, as registries write them.

use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

/// The digest of some bytes. Its text is `sha256:` and 64 small hexadecimal digits, and nothing else is taken for one: it
/// may become a part of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

/// What is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no digest: `sha256:` and 64 hexadecimal digits are needed")]
pub struct NotADigest(String);

/// Bytes that are not those that were published.
#[derive(Debug, thiserror::Error)]
pub enum Mismatch {
    /// The file is another one, or was damaged.
    #[error(
        "its bytes are {found}, and {expected} was published: it is damaged or another file; get it again"
    )]
    Other {
        /// What was published.
        expected: Digest,
        /// What there is.
        found: Digest,
    },
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
}

impl Digest {
    /// Of 64 small hexadecimal digits.
    pub fn from_hex(hex: &str) -> Option<Digest> {
        let digits = hex.as_bytes();
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Some(Digest(bytes))
    }

    /// The 32 bytes.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 digits.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Of all bytes of a file. `progress` hears how many were read.
    ///
    /// # Errors
    /// Those of reading.
    pub fn of_file(path: &Path, progress: &mut dyn FnMut(u64)) -> io::Result<Digest> {
        let mut file = std::fs::File::open(path)?;
        let (mut sum, mut buffer, mut read) = (Sha256::new(), vec![0; 1 << 20], 0);
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(Digest::finished(sum)),
                Ok(bytes) => {
                    sum.update(&buffer[..bytes]);
                    read += bytes as u64;
                    progress(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Of what was summed up.
    pub(crate) fn finished(sum: Sha256) -> Digest {
        Digest(sum.finalize().into())
    }

    /// Compares a file's bytes with it.
    ///
    /// # Errors
    /// Other bytes, or none that can be read.
    pub fn verify(&self, path: &Path, progress: &mut dyn FnMut(u64)) -> Result<(), Mismatch> {
        let found = Digest::of_file(path, progress)?;
        if found == *self { Ok(()) } else { Err(Mismatch::Other { expected: *self, found }) }
    }
}

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Digest, NotADigest> {
        let hex = text.strip_prefix("sha256:");
        let shown = || text.chars().take(80).collect();
        hex.and_then(Digest::from_hex).ok_or_else(|| NotADigest(shown()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn only_a_digest_is_one() {
        assert_eq!(EMPTY.parse::<Digest>().unwrap().to_string(), EMPTY);
        let long = format!("{EMPTY}0");
        let upper = EMPTY.to_uppercase();
        let wide = format!("sha256:{}", "é".repeat(32));
        for wrong in
            ["", "sha256:", &EMPTY[7..], &long, &upper, "sha256:../../../etc/passwd", &wide, "sha512:00"]
        {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_is_what_was_published_or_is_said_not_to_be() {
        let path = std::env::temp_dir().join(format!("ingle-digest-{}", std::process::id()));
        std::fs::write(&path, b"").unwrap();
        let empty: Digest = EMPTY.parse().unwrap();
        empty.verify(&path, &mut |_| {}).unwrap();
        std::fs::write(&path, b"x").unwrap();
        let mut read = 0;
        let wrong = empty.verify(&path, &mut |bytes| read = bytes).unwrap_err();
        assert!(matches!(wrong, Mismatch::Other { expected, .. } if expected == empty), "{wrong}");
        assert_eq!(read, 1);
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(empty.verify(&path, &mut |_| {}), Err(Mismatch::Read(_))));
    }
}
