//! The models that this program keeps itself.
//!
//! ```text
//! blobs/sha256-DIGITS                          every file once, read-only, called by its digest
//! models/HOST/OWNER/MODEL/TAG/ingle.json       what belongs to a model, and where it came from
//! models/HOST/OWNER/MODEL/TAG/...              its files: hard links to blobs
//! partial/                                     what is on its way
//! lock                                         held shared while something is added, alone while something is removed
//! ```
//!
//! A model is there when its `ingle.json` is, which is written last, to the disk, and renamed into place. So whatever ends the
//! program in between leaves a model whole or absent, and at worst files that [`Store::collect`] removes.

use crate::digest::Digest;
use crate::folders::Program;
use crate::found::{Found, Kind, Listing};
use crate::name::TaggedName;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

/// Name of the file that makes a folder a model.
const MANIFEST: &str = "ingle.json";
/// Most bytes of it.
const LARGEST: u64 = 1 << 20;

/// A folder with models of this program's own.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// A file of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it lies in the model's folder: plain words and slashes.
    pub path: String,
    /// Of its bytes.
    pub digest: Digest,
    /// How many there are.
    pub bytes: u64,
    /// Where it was fetched from.
    pub from: String,
    /// Whether the digest was published there, and not only counted here.
    pub published: bool,
}

impl Part {
    /// As it is written down.
    pub(crate) fn document(&self) -> Value {
        json!({
            "path": self.path, "digest": self.digest.to_string(), "bytes": self.bytes, "from": self.from,
            "digest_published": self.published,
        })
    }

    /// As it was written down, if its path stays inside its folder.
    pub(crate) fn read(document: &Value) -> Option<Part> {
        Some(Part {
            path: document["path"].as_str().filter(|path| is_inside(path))?.to_owned(),
            digest: document["digest"].as_str()?.parse().ok()?,
            bytes: document["bytes"].as_u64()?,
            from: document["from"].as_str()?.to_owned(),
            published: document["digest_published"].as_bool()?,
        })
    }
}

/// Files that were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// How many.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Held while a store is changed.
#[derive(Debug)]
pub struct Guard {
    _file: File,
}

/// Whether a path that strangers named stays inside the folder it is put in.
pub(crate) fn is_inside(path: &str) -> bool {
    let parts = Path::new(path).components();
    let plain = |part: Component| match part {
        Component::Normal(word) => word.to_str().is_some_and(|word| {
            let inside = |byte: u8| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+' | b' ' | b'(' | b')')
            };
            !word.starts_with(['.', ' '])
                && !word.ends_with(['.', ' '])
                && word.len() <= 200
                && word.bytes().all(inside)
        }),
        _ => false,
    };
    !path.is_empty()
        && !path.eq_ignore_ascii_case(MANIFEST)
        && path.len() <= 1000
        && parts.clone().count() <= 8
        && parts.into_iter().all(plain)
}

/// Writes what was done in a folder to the disk.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

impl Store {
    /// The one in this folder, which need not exist.
    pub fn at(root: impl Into<PathBuf>) -> Store {
        Store { root: root.into() }
    }

    fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    /// Where a blob lies, if it is there.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(format!("sha256-{}", digest.hex()))
    }

    /// Where files are while they are fetched; made if it is not there.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn partial(&self) -> io::Result<PathBuf> {
        let folder = self.root.join("partial");
        make(&folder)?;
        Ok(folder)
    }

    /// Keeps others from removing what is added; waits for those that remove.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn adding(&self) -> io::Result<Guard> {
        let file = self.lock()?;
        file.lock_shared()?;
        Ok(Guard { _file: file })
    }

    fn lock(&self) -> io::Result<File> {
        make(&self.root)?;
        File::options().create(true).truncate(false).write(true).read(true).open(self.root.join("lock"))
    }

    /// Makes a fetched file a blob. Its digest was compared.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn adopt(&self, file: &Path, digest: &Digest) -> io::Result<()> {
        let blob = self.blob(digest);
        let folder = self.root.join("blobs");
        make(&folder)?;
        let opened = match File::open(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && blob.is_file() => return Ok(()),
            opened => opened?,
        };
        let mut rights = opened.metadata()?.permissions();
        rights.set_readonly(true);
        opened.set_permissions(rights)?;
        opened.sync_all()?;
        drop(opened);
        match fs::rename(file, &blob) {
            // another program has fetched the same
            Err(error) if error.kind() == io::ErrorKind::NotFound && blob.is_file() => {}
            done => done?,
        }
        sync_folder(&folder)
    }

    /// Makes a model of blobs that are there. One of the same name is replaced.
    ///
    /// # Errors
    /// Those of the file system, and a path that leads elsewhere.
    pub fn add(&self, name: &TaggedName, parts: &[Part], seconds: u64) -> io::Result<PathBuf> {
        let folder = self.models().join(name.manifest());
        make(&folder)?;
        // a model that is replaced is none until the new one is whole
        remove(&folder.join(MANIFEST))?;
        for part in parts {
            if !is_inside(&part.path) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("`{}` leads elsewhere", part.path),
                ));
            }
            let to = folder.join(&part.path);
            make(to.parent().unwrap_or(&folder))?;
            remove(&to)?;
            fs::hard_link(self.blob(&part.digest), &to)?;
        }
        let document = json!({
            "version": 1, "name": name.to_string(), "fetched_seconds_since_1970": seconds,
            "files": parts.iter().map(Part::document).collect::<Vec<_>>(),
        });
        let new = folder.join(format!("{MANIFEST}.{}", std::process::id()));
        let mut file = File::create(&new)?;
        writeln!(file, "{document:#}")?;
        file.sync_all()?;
        fs::rename(&new, folder.join(MANIFEST))?;
        sync_folder(&folder)?;
        Ok(folder)
    }

    /// Removes a model; its files go with [`collect`](Self::collect). Whether it was there.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove(&self, name: &TaggedName) -> io::Result<bool> {
        let file = self.lock()?;
        file.lock()?;
        let folder = self.models().join(name.manifest());
        if !folder.join(MANIFEST).is_file() {
            return Ok(false);
        }
        remove(&folder.join(MANIFEST))?;
        sync_folder(&folder)?;
        fs::remove_dir_all(&folder)?;
        Ok(true)
    }

    /// Removes blobs that belong to no model. It waits for fetches under way.
    ///
    /// # Errors
    /// Those of the file system; nothing is removed if a model cannot be read, for it may need any of them.
    pub fn free(&self) -> io::Result<Freed> {
        self.sweep(&["blobs"])
    }

    /// The same with what is left of fetches, which then begin anew.
    ///
    /// # Errors
    /// As [`free`](Self::free).
    pub fn collect(&self) -> io::Result<Freed> {
        self.sweep(&["blobs", "partial"])
    }

    fn sweep(&self, of: &[&str]) -> io::Result<Freed> {
        let file = self.lock()?;
        file.lock()?;
        let mut needed = std::collections::HashSet::new();
        for (_, folder) in self.folders()? {
            let parts = read(&folder).map_err(io::Error::other)?;
            needed.extend(parts.iter().map(|part| self.blob(&part.digest)));
        }
        let mut freed = Freed::default();
        // a model that was being added or removed when the program ended
        for left in self.places()?.into_iter().filter(|folder| !folder.join(MANIFEST).exists()) {
            fs::remove_dir_all(left)?;
        }
        for folder in of {
            let entries = match fs::read_dir(self.root.join(folder)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let (path, about) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
                if !needed.contains(&path) && about.is_file() {
                    remove(&path)?;
                    freed = Freed { files: freed.files + 1, bytes: freed.bytes + about.len() };
                }
            }
        }
        Ok(freed)
    }

    /// Folders of all models, with their names.
    fn folders(&self) -> io::Result<Vec<(TaggedName, PathBuf)>> {
        let mut found = Vec::new();
        for path in self.places()? {
            let words: Vec<&str> = path.iter().rev().take(4).filter_map(|word| word.to_str()).collect();
            if let [tag, model, owner, host] = words[..]
                && path.join(MANIFEST).is_file()
            {
                found.extend(TaggedName::of(host, owner, model, tag).map(|name| (name, path)));
            }
        }
        Ok(found)
    }

    /// Where models are, or were: the folders four levels down.
    fn places(&self) -> io::Result<Vec<PathBuf>> {
        let mut level = vec![self.models()];
        for _ in 0..4 {
            let mut next = Vec::new();
            for folder in level {
                match fs::read_dir(&folder) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    entries => {
                        let folders = entries?
                            .flatten()
                            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
                        next.extend(folders.map(|entry| entry.path()));
                    }
                }
            }
            level = next;
        }
        Ok(level)
    }

    /// Adds its models to a listing.
    pub(crate) fn find(&self, listing: &mut Listing) {
        let folders = match self.folders() {
            Ok(folders) => folders,
            Err(error) => {
                return listing.troubles.push(format!("{} cannot be read: {error}", self.root.display()));
            }
        };
        for (name, folder) in folders {
            match read(&folder) {
                Ok(parts) => listing.models.extend(model(&name, &folder, &parts)),
                Err(why) => {
                    listing.troubles.push(format!("{name} in {} cannot be used: {why}", folder.display()))
                }
            }
        }
    }

    /// The files of a model.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn parts(&self, name: &TaggedName) -> Result<Vec<Part>, String> {
        read(&self.models().join(name.manifest()))
    }
}

/// A folder that its owner alone may look into.
fn make(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What a model's folder says of itself.
fn read(folder: &Path) -> Result<Vec<Part>, String> {
    let path = folder.join(MANIFEST);
    let wrong = |what: &str| format!("{} {what}", path.display());
    let about = fs::metadata(&path).map_err(|error| wrong(&error.to_string()))?;
    if about.len() > LARGEST {
        return Err(wrong("is too large"));
    }
    let text = fs::read(&path).map_err(|error| wrong(&error.to_string()))?;
    let document: Value = serde_json::from_slice(&text).map_err(|error| wrong(&error.to_string()))?;
    let files = document["files"].as_array().ok_or_else(|| wrong("names no files"))?;
    let parts: Option<Vec<Part>> = files.iter().map(Part::read).collect();
    parts.filter(|parts| !parts.is_empty()).ok_or_else(|| wrong("is not what this program writes"))
}

/// What a model's files are together.
fn model(name: &TaggedName, folder: &Path, parts: &[Part]) -> Option<Found> {
    let weights = |part: &&Part| part.path.ends_with(".gguf") || part.path.ends_with(".safetensors");
    let bytes = parts.iter().filter(weights).map(|part| part.bytes).sum();
    let first = parts.iter().filter(|part| part.path.ends_with(".gguf")).min_by(|a, b| a.path.cmp(&b.path));
    let (path, kind) = match first {
        Some(part) => (folder.join(&part.path), Kind::Gguf),
        None => (folder.to_owned(), Kind::Checkpoint),
    };
    let whole = first.filter(|_| parts.iter().filter(weights).count() == 1);
    Some(Found {
        name: name.to_string(),
        program: Program::Ingle,
        path,
        kind,
        bytes,
        digest: whole.map(|part| part.digest),
    })
}
