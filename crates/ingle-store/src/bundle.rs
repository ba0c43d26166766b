//! Models in one file, to be carried to a machine without a network.
//!
//! ```text
//! INGLE-BUNDLE-1\n
//! length of the table of contents: 8 bytes, little-endian
//! its digest: 32 bytes
//! the table of contents: JSON
//! the blobs it names, one after the other, in its order
//! ```
//!
//! The layout follows from the contents, so an interrupted bundle is gone on with: what is there of it is compared, and written
//! again from the first byte that differs. A bundle can be a set of volumes (`FILE.001`, `FILE.002`), which are one file after
//! the other. Digests show damage; they do not show who made the bundle.

use crate::digest::Digest;
use crate::name::TaggedName;
use crate::own::{Part, Store, is_inside};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8] = b"INGLE-BUNDLE-1\n";
/// Most bytes of a table of contents.
const LARGEST: u64 = 16 << 20;
/// Most files in one.
const MOST: usize = 10_000;

/// A model in a bundle, with its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundled {
    /// What it is called.
    pub name: TaggedName,
    /// Its files.
    pub parts: Vec<Part>,
}

/// Why a bundle cannot be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// A file of a model here is not what it was.
    #[error(
        "{path} is damaged: its bytes are not those that were fetched; nothing was made of it (`ingle verify` says more)"
    )]
    Source {
        /// The file.
        path: String,
    },
    /// The bundle is not one, or was damaged.
    #[error("{path} is no bundle that can be used: {why}; nothing of it was taken")]
    Damaged {
        /// The bundle.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The file system.
    #[error("{path}: {error}")]
    Disk {
        /// Which file.
        path: String,
        /// What it says.
        error: io::Error,
    },
}

fn disk(path: &Path) -> impl Fn(io::Error) -> BundleError {
    let path = path.display().to_string();
    move |error| BundleError::Disk { path: path.clone(), error }
}

/// Each blob once, in order, with its length.
fn blobs(models: &[Bundled]) -> BTreeMap<Digest, u64> {
    models.iter().flat_map(|model| &model.parts).map(|part| (part.digest, part.bytes)).collect()
}

/// All before the blobs.
fn head(models: &[Bundled]) -> Vec<u8> {
    let model = |model: &Bundled| {
        let parts = model.parts.iter().map(Part::document).collect::<Vec<_>>();
        let (host, owner, name, tag) = model.name.parts();
        json!({ "host": host, "owner": owner, "model": name, "tag": tag, "files": parts })
    };
    let blobs = blobs(models);
    let blobs = blobs.iter().map(|(digest, bytes)| json!({ "digest": digest.to_string(), "bytes": bytes }));
    let contents =
        json!({ "models": models.iter().map(model).collect::<Vec<_>>(), "blobs": blobs.collect::<Vec<_>>() });
    let contents = format!("{contents:#}\n");
    let sum = Digest::finished(Sha256::new_with_prefix(&contents));
    [MAGIC, &(contents.len() as u64).to_le_bytes(), sum.bytes(), contents.as_bytes()].concat()
}

/// Makes a bundle of models, in volumes of at most `volume` bytes if that is given. `progress` hears of bytes done and in all.
///
/// # Errors
/// What went wrong; what is there of the bundle is gone on with the next time.
pub fn bundle(
    store: &Store,
    models: &[Bundled],
    to: &Path,
    volume: Option<u64>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<PathBuf>, BundleError> {
    let _guard = store.adding().map_err(disk(to))?;
    let head = head(models);
    let all = head.len() as u64 + blobs(models).values().sum::<u64>();
    let mut out = Volumes::write(to, volume);
    let mut done = out.put(&head)?;
    let mut buffer = vec![0; 1 << 20];
    for (digest, bytes) in blobs(models) {
        let path = store.blob(&digest);
        let mut file = File::open(&path).map_err(disk(&path))?;
        let (mut sum, mut left) = (Sha256::new(), bytes);
        loop {
            let read = file.read(&mut buffer).map_err(disk(&path))?;
            left = match left.checked_sub(read as u64) {
                Some(left) if read > 0 || left == 0 => left,
                _ => return Err(BundleError::Source { path: path.display().to_string() }),
            };
            if read == 0 {
                break;
            }
            sum.update(&buffer[..read]);
            done += out.put(&buffer[..read])?;
            progress(done, all);
        }
        if Digest::finished(sum) != digest {
            return Err(BundleError::Source { path: path.display().to_string() });
        }
    }
    out.finish()
}

/// Takes the models of a bundle into the store: all of it is compared with the table of contents before a model is there.
///
/// # Errors
/// A bundle that is damaged or leads elsewhere, of which nothing is taken; the file system.
pub fn import(
    store: &Store,
    from: &Path,
    seconds: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<Bundled>, BundleError> {
    let _guard = store.adding().map_err(disk(from))?;
    let mut set = Volumes::read(from)?;
    let models = contents(&mut set, from)?;
    let blobs = blobs(&models);
    let (all, mut done) = (blobs.values().sum(), 0);
    let partial = store.partial().map_err(disk(from))?;
    let damaged = |why: String| BundleError::Damaged { path: from.display().to_string(), why };
    let mut fetched = Vec::new();
    for (digest, bytes) in &blobs {
        let path = partial.join(format!("{}.import-{}", digest.hex(), std::process::id()));
        let taken = take(&mut set, &path, *bytes, &mut |now| progress(done + now, all));
        match taken {
            Ok(found) if found == *digest => fetched.push((path, digest)),
            other => {
                for path in fetched.iter().map(|(path, _)| path).chain([&path]) {
                    _ = std::fs::remove_file(path);
                }
                return Err(match other {
                    Ok(_) => damaged(format!("{digest} has other bytes")),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        damaged("it ends too early".into())
                    }
                    Err(error) => disk(&path)(error),
                });
            }
        }
        done += bytes;
    }
    for (path, digest) in fetched {
        store.adopt(&path, digest).map_err(disk(&path))?;
    }
    for model in &models {
        store.add(&model.name, &model.parts, seconds).map_err(disk(from))?;
    }
    Ok(models)
}

/// Copies the next bytes of a bundle to a file, and sums them up.
fn take(set: &mut Volumes, to: &Path, bytes: u64, progress: &mut dyn FnMut(u64)) -> io::Result<Digest> {
    let mut file = File::create(to)?;
    let (mut sum, mut buffer, mut done) = (Sha256::new(), vec![0; 1 << 20], 0);
    while done < bytes {
        let some = buffer.len().min(usize::try_from(bytes - done).unwrap_or(usize::MAX));
        set.read_exact(&mut buffer[..some])?;
        sum.update(&buffer[..some]);
        file.write_all(&buffer[..some])?;
        done += some as u64;
        progress(done);
    }
    file.sync_all()?;
    Ok(Digest::finished(sum))
}

/// Reads a table of contents and checks all that it says.
fn contents(set: &mut Volumes, from: &Path) -> Result<Vec<Bundled>, BundleError> {
    let damaged = |why: &str| BundleError::Damaged { path: from.display().to_string(), why: why.into() };
    let mut magic = [0; MAGIC.len()];
    let (mut length, mut sum) = ([0; 8], [0; 32]);
    let begins = set
        .read_exact(&mut magic)
        .and_then(|()| set.read_exact(&mut length))
        .and_then(|()| set.read_exact(&mut sum));
    if begins.is_err() || magic != MAGIC {
        return Err(damaged("it does not begin like one"));
    }
    let length = u64::from_le_bytes(length);
    if length > LARGEST {
        return Err(damaged("its table of contents is too long"));
    }
    let mut text = Vec::new();
    set.by_ref().take(length).read_to_end(&mut text).map_err(disk(from))?;
    if text.len() as u64 != length || Digest::finished(Sha256::new_with_prefix(&text)).bytes() != &sum {
        return Err(damaged("its table of contents is damaged"));
    }
    let document: Value = serde_json::from_slice(&text).map_err(|error| damaged(&error.to_string()))?;
    let model = |model: &Value| -> Option<Bundled> {
        let word = |key: &str| model[key].as_str();
        let name = TaggedName::of(word("host")?, word("owner")?, word("model")?, word("tag")?)?;
        let parts: Vec<Part> = model["files"].as_array()?.iter().map(Part::read).collect::<Option<_>>()?;
        let plain = !parts.is_empty() && parts.iter().all(|part| is_inside(&part.path));
        plain.then_some(Bundled { name, parts })
    };
    let listed = document["models"].as_array().map_or(&[][..], Vec::as_slice);
    let models: Option<Vec<Bundled>> = listed.iter().map(model).collect();
    let models = models
        .filter(|models| !models.is_empty())
        .ok_or_else(|| damaged("its table of contents says what no bundle says"))?;
    if models.iter().map(|model| model.parts.len()).sum::<usize>() > MOST {
        return Err(damaged("it has too many files"));
    }
    // the order of the blobs follows from the models, so it has to be what it would be
    if head(&models)[MAGIC.len() + 40..] != text[..] {
        return Err(damaged("its table of contents contradicts itself"));
    }
    Ok(models)
}

/// One file, or a set of volumes that are one file after the other.
struct Volumes {
    path: PathBuf,
    volume: Option<u64>,
    /// Those that were begun, the present one last.
    files: Vec<PathBuf>,
    file: Option<File>,
    /// Bytes of the present one that are behind.
    at: u64,
    /// Whether bytes that are there were the same so far.
    same: bool,
}

impl Volumes {
    fn new(path: &Path, volume: Option<u64>) -> Volumes {
        Volumes { path: path.to_owned(), volume, files: Vec::new(), file: None, at: 0, same: true }
    }

    fn write(path: &Path, volume: Option<u64>) -> Volumes {
        Volumes::new(path, volume.map(|volume| volume.max(1)))
    }

    fn read(path: &Path) -> Result<Volumes, BundleError> {
        let first = path.extension().is_some_and(|end| end == "001");
        let mut set = Volumes::new(
            &if first { path.with_extension("") } else { path.to_owned() },
            first.then_some(u64::MAX),
        );
        set.open(false).map_err(disk(path))?;
        Ok(set)
    }

    /// Name of the next volume; one that is written is called otherwise until all are whole.
    fn next_path(&self) -> PathBuf {
        match self.volume {
            None => self.path.clone(),
            Some(_) => PathBuf::from(format!("{}.{:03}", self.path.display(), self.files.len() + 1)),
        }
    }

    fn open(&mut self, write: bool) -> io::Result<()> {
        let path = self.next_path();
        let file = match write {
            true => {
                let part = PathBuf::from(format!("{}.part", path.display()));
                File::options().read(true).write(true).create(true).truncate(false).open(part)?
            }
            false => File::open(&path)?,
        };
        self.files.push(path);
        (self.file, self.at) = (Some(file), 0);
        Ok(())
    }

    /// Writes bytes, as far as they are not there already; gives how many there were.
    fn put(&mut self, mut bytes: &[u8]) -> Result<u64, BundleError> {
        let all = bytes.len() as u64;
        let path = self.next_path();
        let mut write = || -> io::Result<()> {
            while !bytes.is_empty() {
                if self.file.is_none() || self.volume == Some(self.at) {
                    self.end()?;
                    self.open(true)?;
                }
                let Some(file) = &mut self.file else { continue };
                let room = self.volume.map_or(u64::MAX, |volume| volume - self.at);
                let (now, rest) =
                    bytes.split_at(bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
                let mut there = vec![0; if self.same { now.len() } else { 0 }];
                self.same = self.same && file.read_exact(&mut there).is_ok() && there == now;
                if !self.same {
                    file.seek(SeekFrom::Start(self.at))?;
                    file.write_all(now)?;
                }
                self.at += now.len() as u64;
                bytes = rest;
            }
            Ok(())
        };
        write().map_err(disk(&path))?;
        Ok(all)
    }

    /// Ends the present volume.
    fn end(&mut self) -> io::Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        // of an earlier bundle there may be more
        file.set_len(self.at)?;
        file.sync_all()
    }

    /// All is written: volumes get their names.
    fn finish(mut self) -> Result<Vec<PathBuf>, BundleError> {
        self.end().map_err(disk(&self.path))?;
        for path in &self.files {
            std::fs::rename(format!("{}.part", path.display()), path).map_err(disk(path))?;
        }
        Ok(self.files)
    }
}

impl Read for Volumes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(file) = &mut self.file else { return Ok(0) };
            match file.read(buffer)? {
                0 if buffer.is_empty() || self.volume.is_none() => return Ok(0),
                0 => match self.open(false) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
                    opened => opened?,
                },
                bytes => return Ok(bytes),
            }
        }
    }
}
