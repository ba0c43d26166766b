//! Opening a GGUF model: one file, or all files of a split set.

use super::mmap::Bytes;
use super::{Source, SourceFile, SourceKind};
use crate::error::{Error, Result};
use crate::gguf::split::{COUNT_KEY, NUMBER_KEY, SplitName, TENSORS_KEY};
use crate::gguf::{Header, read_header};
use crate::metadata::Metadata;
use std::path::{Path, PathBuf};

/// Opens the file, and its siblings if it says that it has some.
pub(super) fn open(path: &Path) -> Result<Source> {
    let (file, header) = read(path)?;
    match split_count(path, &header.metadata)? {
        0 | 1 => source(path, vec![(file, header)]),
        count => open_set(path, file, header, count),
    }
}

/// Opens a file that is part of the program.
pub(super) fn from_bytes(name: &Path, bytes: &'static [u8]) -> Result<Source> {
    let header = read_header(name, bytes)?;
    if split_count(name, &header.metadata)? > 1 {
        return Err(unsupported(name, "is one file of a split set, of which the others are missing"));
    }
    source(name, vec![(SourceFile { path: name.into(), bytes: Bytes::Embedded(bytes) }, header)])
}

fn read(path: &Path) -> Result<(SourceFile, Header)> {
    let bytes = Bytes::map(path)?;
    let header = read_header(path, bytes.as_slice())?;
    // a copy of what is in it stays: its pages need not
    bytes.release(0, header.data_start);
    Ok((SourceFile { path: path.into(), bytes }, header))
}

fn unsupported(path: &Path, what: impl Into<String>) -> Error {
    Error::Unsupported { path: path.into(), what: what.into() }
}

/// A split key's number; a complaint about it names the file.
fn split_key(path: &Path, metadata: &Metadata, key: &str) -> Result<Option<usize>> {
    metadata
        .count(key)
        .map_err(|error| unsupported(path, format!("cannot be put together with others: {error}")))
}

fn split_count(path: &Path, metadata: &Metadata) -> Result<usize> {
    Ok(split_key(path, metadata, COUNT_KEY)?.unwrap_or(0))
}

/// Opens the other files of the set that `file` belongs to and checks that the set is whole.
fn open_set(path: &Path, file: SourceFile, header: Header, count: usize) -> Result<Source> {
    let Some(name) = SplitName::parse(path).filter(|name| name.count == count) else {
        let what = format!(
            "is one of {count} files of a split model but is not called so; give the files their names back, which \
             end in -00001-of-{count:05}.gguf and so on"
        );
        return Err(unsupported(path, what));
    };
    let paths: Vec<PathBuf> = (1..=count).map(|number| path.with_file_name(name.file_name(number))).collect();
    refuse_missing(path, &paths)?;
    let mut opened = Some((file, header));
    let mut set = Vec::with_capacity(count);
    for (number, member) in paths.iter().enumerate() {
        let part = if number + 1 == name.number { opened.take() } else { None };
        let (file, header) = match part {
            Some(part) => part,
            None => read(member)?,
        };
        check_member(member, &header.metadata, number, count)?;
        set.push((file, header));
    }
    let tensors: usize = set.iter().map(|(_, header)| header.tensors.len()).sum();
    let first = paths.first().map_or(path, PathBuf::as_path);
    if let Some((_, header)) = set.first()
        && let Some(expected) = split_key(first, &header.metadata, TENSORS_KEY)?
        && expected != tensors
    {
        let what = format!(
            "and its siblings hold {tensors} tensors where {expected} are announced; files of different sets are \
             mixed up: fetch them again"
        );
        return Err(unsupported(first, what));
    }
    source(first, set)
}

fn refuse_missing(path: &Path, paths: &[PathBuf]) -> Result<()> {
    const SHOWN: usize = 3;
    let missing: Vec<&PathBuf> = paths.iter().filter(|path| !path.exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names =
        missing.iter().take(SHOWN).map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    let more = if missing.len() > SHOWN { ", …" } else { "" };
    let what = format!(
        "is one of {} files of a split model, and {} of them are missing ({names}{more}); fetch them into the same folder",
        paths.len(),
        missing.len()
    );
    Err(unsupported(path, what))
}

fn check_member(path: &Path, metadata: &Metadata, number: usize, count: usize) -> Result<()> {
    let said = (split_key(path, metadata, NUMBER_KEY)?, split_key(path, metadata, COUNT_KEY)?);
    if said == (Some(number), Some(count)) {
        return Ok(());
    }
    let say = |value: Option<usize>| value.map_or("nothing".into(), |value| value.to_string());
    let what = format!(
        "should be file {number} of {count} (counted from 0) by its name, but says of itself {} of {}; files were \
         renamed or sets mixed up: fetch it again",
        say(said.0),
        say(said.1)
    );
    Err(unsupported(path, what))
}

/// Files in order, with their headers, as one source. The first one's metadata is the model's.
fn source(path: &Path, set: Vec<(SourceFile, Header)>) -> Result<Source> {
    let mut files = Vec::with_capacity(set.len());
    let mut tensors = Vec::new();
    let mut metadata = None;
    for (number, (file, header)) in set.into_iter().enumerate() {
        files.push(file);
        tensors.extend(header.tensors.into_iter().map(|tensor| super::TensorInfo { file: number, ..tensor }));
        metadata.get_or_insert(header.metadata);
    }
    let source = Source::new(path, SourceKind::Gguf, files, tensors)?;
    Ok(Source { metadata: metadata.unwrap_or_default(), ..source })
}
