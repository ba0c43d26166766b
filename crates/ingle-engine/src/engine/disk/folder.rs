//! The folder of a prefix cache: files that appear whole under names of their own, the least recently used removed.
//!
//! Several servers may use one folder. A name is made of what is in the file, so two that write one name write the same; a
//! file grows under a name nobody can guess, locked, and takes its own when it is complete. When a file was last of use is its time of
//! change, which everybody sees.

use crate::error::EngineError;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// What the names of files end with.
const SUFFIX: &str = ".prefix";
/// What the names of unfinished ones begin with.
const UNFINISHED: &str = ".ingle-";
/// Most files.
const MOST_FILES: usize = 4096;

/// Hears what a person should know.
pub type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// Where prefixes are kept on disk, and how much of them.
#[derive(Clone)]
pub struct PrefixFolder {
    path: PathBuf,
    most: u64,
    tell: Tell,
}

/// A file that is there.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) bytes: u64,
    used: SystemTime,
}

impl std::fmt::Debug for PrefixFolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrefixFolder")
            .field("path", &self.path)
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

impl PrefixFolder {
    /// A folder for at most `most` bytes, made for its owner alone if it is not there. `tell` hears of files that are damaged
    /// and of what goes wrong.
    ///
    /// # Errors
    /// A path where no folder can be, and a folder that others can write to.
    pub fn open(path: &Path, most: u64, tell: Tell) -> Result<PrefixFolder, EngineError> {
        let refused = |problem: String| EngineError::PrefixFolder { path: path.to_owned(), problem };
        make(path).map_err(|error| refused(error.to_string()))?;
        let facts = fs::metadata(path).map_err(|error| refused(error.to_string()))?;
        if !facts.is_dir() {
            return Err(refused("it is no folder; name another one".into()));
        }
        if others_write(&facts) {
            return Err(refused("others can write to it; name another one, or `chmod 700` it".into()));
        }
        Ok(PrefixFolder { path: path.to_owned(), most, tell })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Most bytes of all files.
    pub(super) fn most(&self) -> u64 {
        self.most
    }

    pub(super) fn tell(&self, message: &str) {
        (self.tell)(message);
    }

    /// All files of the cache, whoever's, and no others.
    ///
    /// # Errors
    /// What the system says, such as that the folder is gone.
    pub(super) fn files(&self) -> io::Result<Vec<Stored>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Ok(facts) = entry.metadata() else { continue };
            if is_ours(&name) && facts.is_file() {
                let used = facts.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                files.push(Stored { name, bytes: facts.len(), used });
            }
        }
        Ok(files)
    }

    /// Opens a file, with its length.
    pub(super) fn open_file(&self, name: &str) -> io::Result<(File, u64)> {
        let file = File::open(self.path.join(name))?;
        let length = file.metadata()?.len();
        Ok((file, length))
    }

    /// Writes a file that appears whole or not at all.
    ///
    /// # Errors
    /// Those of `write` and of the system; nothing is left behind then.
    pub(super) fn write(
        &self,
        name: &str,
        used: SystemTime,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        let number = RandomState::new().build_hasher().finish(); // keys from the system's random source
        let unfinished = self.path.join(format!("{UNFINISHED}{number:016x}{SUFFIX}"));
        let mut file = create(&unfinished)?;
        // a file system without locks has no leftovers removed, and no harm done
        _ = file.lock();
        let done = write(&mut file).and_then(|()| {
            _ = file.set_modified(used);
            fs::rename(&unfinished, self.path.join(name))
        });
        if done.is_err() {
            _ = fs::remove_file(&unfinished);
        }
        done
    }

    /// Removes a file, if it is still there.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// A file was of use at some time.
    pub(super) fn used(&self, name: &str, at: SystemTime) {
        // where that cannot be written, it is removed a little early
        if let Ok((file, _)) = self.open_file(name)
            && file.metadata().and_then(|facts| facts.modified()).is_ok_and(|before| before < at)
        {
            _ = file.set_modified(at);
        }
    }

    /// Removes files, those first that were of no use for longest, until `bytes` more fit; none that were of use after
    /// `used`. Whether there is room then.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn make_room(&self, bytes: u64, used: SystemTime) -> io::Result<bool> {
        let mut files = self.files()?;
        files.sort_by_key(|file| file.used);
        let mut held: u64 = files.iter().map(|file| file.bytes).sum();
        let mut count = files.len() + usize::from(bytes > 0);
        let fits = |held: u64, count| held.saturating_add(bytes) <= self.most && count <= MOST_FILES;
        for file in files.into_iter().take_while(|file| file.used <= used) {
            if fits(held, count) {
                break;
            }
            self.remove(&file.name)?;
            (held, count) = (held - file.bytes, count - 1);
        }
        Ok(fits(held, count))
    }

    /// Removes what writers left behind that did not come to their end; those that still write hold a lock.
    pub(super) fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.path) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let left =
                name.to_str().is_some_and(|name| name.starts_with(UNFINISHED) && name.ends_with(SUFFIX));
            if left
                && entry.file_type().is_ok_and(|kind| kind.is_file())
                && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok())
            {
                _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// `<16 hexadecimal digits>-<32 of them>.prefix`.
fn is_ours(name: &str) -> bool {
    let hex = |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts = name.strip_suffix(SUFFIX).and_then(|stem| stem.split_once('-'));
    parts.is_some_and(|(model, tokens)| hex(model, 16) && hex(tokens, 32))
}

/// What a file is called.
pub(super) fn name(model: &[u8], tokens: &[u8]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{}-{}{SUFFIX}", hex(&model[..8]), hex(&tokens[..16]))
}

/// What the names of a model's files begin with.
pub(super) fn model_of(name: &str) -> &str {
    name.split('-').next().unwrap_or_default()
}

#[cfg(unix)]
fn make(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
fn make(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

#[cfg(unix)]
fn create(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

#[cfg(unix)]
fn others_write(facts: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    facts.permissions().mode() & 0o022 != 0
}

#[cfg(not(unix))]
fn others_write(_: &fs::Metadata) -> bool {
    false
}
