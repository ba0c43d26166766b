//! A file that appears under its name only when it is complete.

use crate::interrupt;
use anyhow::{Context, Result, bail};
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Where a result may be written: a name for a new file, or a regular file that will be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    path: PathBuf,
    folder: PathBuf,
}

/// More symbolic links than this lead in a circle.
const MOST_LINKS: usize = 40;

impl Target {
    /// Follows symbolic links from `path`, so that what they point at is written and they stay what they are.
    ///
    /// # Errors
    /// When the name is `-`, or is that of a folder, a device, a pipe or a socket, or lies in a folder that does not
    /// exist. Nothing is touched.
    pub(crate) fn new(path: &Path) -> Result<Target> {
        let shown = path.display();
        if path == Path::new("-") {
            bail!("the result is written out of order, which standard output cannot take; name a file");
        }
        let mut target = path.to_owned();
        let mut links = 0;
        let facts = loop {
            match fs::symlink_metadata(&target) {
                Ok(facts) if facts.is_symlink() && links < MOST_LINKS => {
                    let points_at =
                        fs::read_link(&target).with_context(|| format!("cannot follow {shown}"))?;
                    target = target.parent().unwrap_or(Path::new("")).join(points_at);
                    links += 1;
                }
                Ok(facts) if facts.is_symlink() => bail!("{shown} is a link that leads back to itself"),
                Ok(facts) => break Some(facts),
                Err(error) if error.kind() == io::ErrorKind::NotFound => break None,
                Err(error) => return Err(error).with_context(|| format!("cannot write {shown}")),
            }
        };
        match facts {
            Some(facts) if facts.is_dir() => bail!("{shown} is a folder; name a file for the result"),
            Some(facts) if !facts.is_file() => {
                bail!("{shown} is a device, a pipe or a socket; name a file for the result")
            }
            _ => {}
        }
        if target.file_name().is_none() || ends_like_a_folder(&target) {
            bail!("{shown} names a folder; name a file for the result");
        }
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        if !folder.is_dir() {
            bail!("cannot write {shown}: there is no folder {}; make it first", folder.display());
        }
        Ok(Target { path: target, folder })
    }
}

fn ends_like_a_folder(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().last().is_some_and(|&byte| std::path::is_separator(byte.into()))
}

/// A file that grows under a name nobody can guess and takes its own when it is complete. Before that it is removed
/// when it is dropped and when the program is told to end.
pub(crate) struct WholeFile {
    file: File,
    target: Target,
    temporary: PathBuf,
}

/// A guessed name that exists is a coincidence once, not this often.
const ATTEMPTS: usize = 16;

impl WholeFile {
    /// An empty file beside `target`.
    pub(crate) fn create(target: Target) -> Result<WholeFile> {
        let refused = || format!("cannot write {}", target.path.display());
        for _ in 0..ATTEMPTS {
            let number = RandomState::new().build_hasher().finish(); // keys from the system's random source
            let temporary = target.folder.join(format!(".ingle-{number:016x}.partial"));
            // `create_new` follows no link and opens nothing that is there
            let open = || OpenOptions::new().write(true).create_new(true).open(&temporary);
            match interrupt::remove_when_leaving(&temporary, open) {
                Ok(file) => return Ok(WholeFile { file, target, temporary }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(refused),
            }
        }
        bail!("{}: no free name for a temporary file in its folder", refused())
    }

    /// Writes `bytes` from byte `at` on.
    pub(crate) fn put(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let written = self.file.seek(SeekFrom::Start(at)).and_then(|_| self.file.write_all(bytes));
        written.with_context(|| format!("cannot write {}", self.target.path.display()))
    }

    /// Gives the file its name. A file that had the name is replaced and leaves its permissions.
    pub(crate) fn finish(self) -> Result<()> {
        let target = Target::new(&self.target.path)?; // it may have become something else meanwhile
        if let Ok(facts) = fs::metadata(&target.path) {
            let _ = fs::set_permissions(&self.temporary, facts.permissions());
        }
        fs::rename(&self.temporary, &target.path)
            .with_context(|| format!("cannot write {}", target.path.display()))
    }
}

/// After `finish` there is nothing under the temporary name.
impl Drop for WholeFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.temporary);
        interrupt::removed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("ingle-whole-file-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn write(path: &Path, bytes: &[u8]) -> Result<()> {
        let mut file = WholeFile::create(Target::new(path)?)?;
        file.put(0, bytes)?;
        file.finish()
    }

    #[test]
    fn a_new_name_and_an_old_one() {
        let folder = folder("names");
        let path = folder.join("out");
        fs::write(folder.join("out.partial"), "precious").unwrap();
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read(folder.join("out.partial")).unwrap(), b"precious");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        drop(WholeFile::create(Target::new(&path).unwrap()).unwrap());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "an unfinished file is removed");
        assert_eq!(fs::read(&path).unwrap(), b"two");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_no_file_is_refused_with_a_reason() {
        let folder = folder("refused");
        let said = |path: &Path| Target::new(path).unwrap_err().to_string();
        assert!(said(Path::new("-")).contains("standard output"));
        assert!(said(&folder).contains("is a folder"));
        assert!(said(&folder.join("new/")).contains("names a folder"));
        assert!(said(&folder.join("no/such/out")).contains("there is no folder"));
        fs::remove_dir_all(folder).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_stay_links() {
        use std::os::unix::fs::symlink;
        let folder = folder("links");
        fs::create_dir(folder.join("deep")).unwrap();
        for (link, points_at) in [("a", "deep/b"), ("deep/b", "c"), ("x", "y"), ("y", "x")] {
            symlink(points_at, folder.join(link)).unwrap();
        }
        for bytes in [b"one", b"two"] {
            write(&folder.join("a"), bytes).unwrap(); // the first dangles, the second does not
            assert_eq!(fs::read(folder.join("deep/c")).unwrap(), bytes);
            assert!(folder.join("a").is_symlink() && folder.join("deep/b").is_symlink());
        }
        assert!(Target::new(&folder.join("x")).unwrap_err().to_string().contains("back to itself"));
        fs::remove_dir_all(folder).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn sockets_are_refused_and_stay_what_they_are() {
        let folder = folder("socket");
        let path = folder.join("s");
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(Target::new(&path).unwrap_err().to_string().contains("a socket"));
        assert!(!fs::metadata(&path).unwrap().is_file());
        fs::remove_dir_all(folder).unwrap();
    }
}
