//! Writing GGUF files, in one pass and without holding the tensors in memory.

use super::split;
use super::tensors::stored_bytes;
use super::types::ValueType;
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, MAX_DIMENSIONS};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::metadata::{IntegerWidth, Metadata, Value};
use crate::source::TensorInfo;
use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Unique in the file.
    pub name: String,
    /// Outermost first, 1 to 4 dimensions, none of them 0; the last one is whole blocks of the format.
    pub shape: Vec<usize>,
    /// Stored number format; one that has a GGUF type number.
    pub format: Format,
}

impl From<&TensorInfo> for Entry {
    fn from(tensor: &TensorInfo) -> Entry {
        Entry { name: tensor.name.clone(), shape: tensor.shape.clone(), format: tensor.format }
    }
}

/// How to write a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    /// 2 or 3. The two differ in the number only.
    pub version: u32,
    /// Files to spread the tensors over, about the same number of bytes in each; 1 for a whole file.
    pub files: usize,
}

impl Default for WriteOptions {
    fn default() -> WriteOptions {
        WriteOptions { version: 3, files: 1 }
    }
}

/// One GGUF file being written: the header first, then every tensor's bytes in the order of the entries.
pub struct Writer<W: Write> {
    out: W,
    path: PathBuf,
    alignment: usize,
    /// Names and lengths of the tensors still to come, last one first.
    coming: Vec<(String, usize)>,
    /// Padding that the next tensor, or the end of the file, has before it.
    padding: usize,
}

impl<W: Write> Writer<W> {
    /// Writes the header. `path` is only for messages. The alignment is the metadata's, or the default one.
    ///
    /// # Errors
    /// [`Error::Tensor`], [`Error::Metadata`] or [`Error::Format`] for what no GGUF file can hold, [`Error::Write`]
    /// when writing fails.
    pub fn new(
        out: W,
        path: &Path,
        version: u32,
        metadata: &Metadata,
        entries: &[Entry],
    ) -> Result<Writer<W>> {
        if !(2..=3).contains(&version) {
            return Err(Error::Format {
                what: format!("GGUF version {version} cannot be written; 2 and 3 can"),
            });
        }
        let alignment = match metadata.count(ALIGNMENT_KEY)? {
            None => DEFAULT_ALIGNMENT,
            Some(alignment) if alignment.is_power_of_two() => alignment,
            Some(_) => return Err(Error::metadata(ALIGNMENT_KEY, "must be a power of two")),
        };
        let mut header = Vec::new();
        header.extend(MAGIC);
        header.extend(version.to_le_bytes());
        header.extend((entries.len() as u64).to_le_bytes());
        header.extend((metadata.len() as u64).to_le_bytes());
        for (key, value) in metadata.iter() {
            put_string(&mut header, key);
            put_pair_value(&mut header, key, value)?;
        }
        let mut coming = put_entries(&mut header, entries, alignment)?;
        coming.reverse();
        let padding = if entries.is_empty() { 0 } else { padding(header.len(), alignment) };
        let mut writer = Writer { out, path: path.into(), alignment, coming, padding };
        writer.put(&header)?;
        Ok(writer)
    }

    /// Writes the next tensor's bytes.
    ///
    /// # Errors
    /// [`Error::Tensor`] when they are not as many as its shape and format say, [`Error::Format`] when all tensors
    /// are written already, [`Error::Write`] when writing fails.
    pub fn tensor(&mut self, bytes: &[u8]) -> Result<()> {
        let Some((name, length)) = self.coming.pop() else {
            return Err(Error::Format { what: "more tensors were written than were announced".into() });
        };
        if bytes.len() != length {
            return Err(Error::tensor(name, format!("takes {length} bytes, and {} were given", bytes.len())));
        }
        self.pad()?;
        self.put(bytes)?;
        self.padding = padding(length, self.alignment);
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// [`Error::Tensor`] when a tensor's bytes were not written, [`Error::Write`] when writing fails.
    pub fn finish(mut self) -> Result<W> {
        if let Some((name, _)) = self.coming.pop() {
            return Err(Error::tensor(name, "was announced in the header but never written"));
        }
        self.pad()?;
        self.out.flush().map_err(|source| write_failed(&self.path, source))?;
        Ok(self.out)
    }

    fn pad(&mut self) -> Result<()> {
        let zeros = [0; 64];
        while self.padding > 0 {
            let step = self.padding.min(zeros.len());
            self.put(&zeros[..step])?;
            self.padding -= step;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|source| write_failed(&self.path, source))
    }
}

fn write_failed(path: &Path, source: std::io::Error) -> Error {
    Error::Write { path: path.into(), source }
}

/// Bytes from `length` to the next multiple of `alignment`, a power of two.
fn padding(length: usize, alignment: usize) -> usize {
    length.wrapping_neg() & (alignment - 1)
}

/// Writes a model to `path`, or to the files of a split set beside it (see [`split::paths`]); returns the files.
///
/// `bytes` is asked once for every tensor's bytes, in order. Each file is written under a temporary name and renamed
/// when it is complete, so that neither a half-written model nor a mapped one that is replaced can be met.
///
/// # Errors
/// As [`Writer`]; what `bytes` returns; [`Error::Format`] when a set of so many files is not possible.
pub fn write_files<'a>(
    path: &Path,
    metadata: &Metadata,
    entries: &[Entry],
    options: WriteOptions,
    mut bytes: impl FnMut(usize) -> Result<Cow<'a, [u8]>>,
) -> Result<Vec<PathBuf>> {
    let metadata = split::without_keys(metadata);
    if options.files <= 1 {
        write_file(path, options.version, &metadata, entries, 0, &mut bytes)?;
        return Ok(vec![path.into()]);
    }
    let (Ok(count), Ok(tensors)) = (u16::try_from(options.files), i32::try_from(entries.len())) else {
        return Err(Error::Format { what: format!("a set of {} files is not possible", options.files) });
    };
    let paths = split::paths(path, options.files);
    let cuts = cuts(entries, options.files)?;
    for (number, (path, cut)) in paths.iter().zip(cuts.windows(2)).enumerate() {
        let mut own = if number == 0 { metadata.clone() } else { Metadata::default() };
        if let (true, Some(alignment)) = (number > 0, metadata.get(ALIGNMENT_KEY)) {
            own.insert(ALIGNMENT_KEY, alignment.clone());
        }
        split::add_keys(&mut own, number as u16, count, tensors);
        write_file(path, options.version, &own, &entries[cut[0]..cut[1]], cut[0], &mut bytes)?;
    }
    Ok(paths)
}

/// Where the entries of each file begin, and the end: `files + 1` rising numbers.
fn cuts(entries: &[Entry], files: usize) -> Result<Vec<usize>> {
    if files > entries.len() {
        let what = format!("{} tensors cannot be spread over {files} files", entries.len());
        return Err(Error::Format { what });
    }
    let sizes: Vec<u128> =
        entries.iter().map(|entry| entry_bytes(entry).map(|n| n as u128)).collect::<Result<_>>()?;
    let total: u128 = sizes.iter().sum();
    let mut cuts = vec![0];
    let mut done = 0;
    for (at, size) in sizes.iter().enumerate() {
        let next = cuts.len();
        // Cut before this entry when the share is full, and where the rest would otherwise not fill the other files.
        let full = done * files as u128 >= total * next as u128;
        let must = entries.len() - at == files - next;
        if next < files && at > cuts[next - 1] && (full || must) {
            cuts.push(at);
        }
        done += size;
    }
    cuts.push(entries.len());
    Ok(cuts)
}

fn write_file<'a>(
    path: &Path,
    version: u32,
    metadata: &Metadata,
    entries: &[Entry],
    first: usize,
    bytes: &mut impl FnMut(usize) -> Result<Cow<'a, [u8]>>,
) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    let partial = PathBuf::from(name);
    let write = |bytes: &mut dyn FnMut(usize) -> Result<Cow<'a, [u8]>>| {
        let file = File::create(&partial).map_err(|source| write_failed(&partial, source))?;
        let mut writer = Writer::new(BufWriter::new(file), path, version, metadata, entries)?;
        for number in first..first + entries.len() {
            writer.tensor(&bytes(number)?)?;
        }
        writer.finish()?;
        std::fs::rename(&partial, path).map_err(|source| write_failed(path, source))
    };
    write(bytes).inspect_err(|_| {
        // The first error is the one to report; a left-over partial file is only untidy.
        let _ = std::fs::remove_file(&partial);
    })
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// The tensor table; returns every tensor's name and length.
fn put_entries(out: &mut Vec<u8>, entries: &[Entry], alignment: usize) -> Result<Vec<(String, usize)>> {
    let mut names = HashSet::new();
    let mut lengths = Vec::with_capacity(entries.len());
    let mut offset = 0usize;
    for entry in entries {
        if entry.name.is_empty() || !names.insert(&entry.name) {
            return Err(Error::tensor(&entry.name, "needs a name of its own"));
        }
        let length = entry_bytes(entry)?;
        let Some(number) = entry.format.ggml_type() else {
            let what = format!("cannot be stored as {} in a GGUF file; convert it", entry.format.name());
            return Err(Error::tensor(&entry.name, what));
        };
        put_string(out, &entry.name);
        out.extend((entry.shape.len() as u32).to_le_bytes());
        for &size in entry.shape.iter().rev() {
            out.extend((size as u64).to_le_bytes());
        }
        out.extend(number.to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        let next = offset.checked_add(length).and_then(|end| end.checked_next_multiple_of(alignment));
        offset = next.ok_or_else(|| Error::tensor(&entry.name, "ends beyond any file"))?;
        lengths.push((entry.name.clone(), length));
    }
    Ok(lengths)
}

fn entry_bytes(entry: &Entry) -> Result<usize> {
    let possible = (1..=MAX_DIMENSIONS).contains(&entry.shape.len()) && !entry.shape.contains(&0);
    possible.then(|| stored_bytes(&entry.shape, entry.format)).flatten().ok_or_else(|| {
        Error::tensor(
            &entry.name,
            format!("of shape {:?} cannot be stored as {}", entry.shape, entry.format.name()),
        )
    })
}

fn put_pair_value(out: &mut Vec<u8>, key: &str, value: &Value) -> Result<()> {
    let (kind, _) = types(value);
    out.extend(kind.number().to_le_bytes());
    put_value(out, key, value)
}

/// The type of a value, and of its elements if it is an array.
fn types(value: &Value) -> (ValueType, Option<ValueType>) {
    let array = |element| (ValueType::Array, Some(element));
    match value {
        Value::Unsigned(_, width) => (unsigned(*width), None),
        Value::Signed(_, width) => (signed(*width), None),
        Value::F32(_) => (ValueType::F32, None),
        Value::F64(_) => (ValueType::F64, None),
        Value::Bool(_) => (ValueType::Bool, None),
        Value::String(_) => (ValueType::String, None),
        Value::Unsigneds(_, width) => array(unsigned(*width)),
        Value::Signeds(_, width) => array(signed(*width)),
        Value::F32s(_) => array(ValueType::F32),
        Value::F64s(_) => array(ValueType::F64),
        Value::Bools(_) => array(ValueType::Bool),
        Value::Strings(_) => array(ValueType::String),
        Value::Nested(_) => array(ValueType::Array),
    }
}

fn unsigned(width: IntegerWidth) -> ValueType {
    match width {
        IntegerWidth::W8 => ValueType::U8,
        IntegerWidth::W16 => ValueType::U16,
        IntegerWidth::W32 => ValueType::U32,
        IntegerWidth::W64 => ValueType::U64,
    }
}

fn signed(width: IntegerWidth) -> ValueType {
    match width {
        IntegerWidth::W8 => ValueType::I8,
        IntegerWidth::W16 => ValueType::I16,
        IntegerWidth::W32 => ValueType::I32,
        IntegerWidth::W64 => ValueType::I64,
    }
}

/// A value's bytes: those of an array begin with the type and the number of its elements.
fn put_value(out: &mut Vec<u8>, key: &str, value: &Value) -> Result<()> {
    if let (_, Some(element)) = types(value) {
        out.extend(element.number().to_le_bytes());
        out.extend((array_len(value) as u64).to_le_bytes());
    }
    match value {
        Value::Unsigned(number, width) => put_unsigned(out, key, *number, *width)?,
        Value::Signed(number, width) => put_signed(out, key, *number, *width)?,
        Value::F32(number) => out.extend(number.to_le_bytes()),
        Value::F64(number) => out.extend(number.to_le_bytes()),
        Value::Bool(flag) => out.push((*flag).into()),
        Value::String(text) => put_string(out, text),
        Value::Unsigneds(list, width) => {
            list.iter().try_for_each(|&number| put_unsigned(out, key, number, *width))?;
        }
        Value::Signeds(list, width) => {
            list.iter().try_for_each(|&number| put_signed(out, key, number, *width))?
        }
        Value::F32s(list) => list.iter().for_each(|number| out.extend(number.to_le_bytes())),
        Value::F64s(list) => list.iter().for_each(|number| out.extend(number.to_le_bytes())),
        Value::Bools(list) => out.extend(list.iter().map(|&flag| u8::from(flag))),
        Value::Strings(list) => list.iter().for_each(|text| put_string(out, text)),
        Value::Nested(list) => {
            for inner in list {
                if types(inner).1.is_none() {
                    return Err(Error::metadata(key, "mixes arrays and single values in one array"));
                }
                put_value(out, key, inner)?;
            }
        }
    }
    Ok(())
}

fn array_len(value: &Value) -> usize {
    match value {
        Value::Unsigneds(list, _) => list.len(),
        Value::Signeds(list, _) => list.len(),
        Value::F32s(list) => list.len(),
        Value::F64s(list) => list.len(),
        Value::Bools(list) => list.len(),
        Value::Strings(list) => list.len(),
        Value::Nested(list) => list.len(),
        _ => 0,
    }
}

fn put_unsigned(out: &mut Vec<u8>, key: &str, number: u64, width: IntegerWidth) -> Result<()> {
    let fits = match width {
        IntegerWidth::W8 => u8::try_from(number).map(|n| out.push(n)).is_ok(),
        IntegerWidth::W16 => u16::try_from(number).map(|n| out.extend(n.to_le_bytes())).is_ok(),
        IntegerWidth::W32 => u32::try_from(number).map(|n| out.extend(n.to_le_bytes())).is_ok(),
        IntegerWidth::W64 => {
            out.extend(number.to_le_bytes());
            true
        }
    };
    fits.then_some(()).ok_or_else(|| too_wide(key, number, width))
}

fn put_signed(out: &mut Vec<u8>, key: &str, number: i64, width: IntegerWidth) -> Result<()> {
    let fits = match width {
        IntegerWidth::W8 => i8::try_from(number).map(|n| out.extend(n.to_le_bytes())).is_ok(),
        IntegerWidth::W16 => i16::try_from(number).map(|n| out.extend(n.to_le_bytes())).is_ok(),
        IntegerWidth::W32 => i32::try_from(number).map(|n| out.extend(n.to_le_bytes())).is_ok(),
        IntegerWidth::W64 => {
            out.extend(number.to_le_bytes());
            true
        }
    };
    fits.then_some(()).ok_or_else(|| too_wide(key, number, width))
}

fn too_wide(key: &str, number: impl std::fmt::Display, width: IntegerWidth) -> Error {
    let bits = match width {
        IntegerWidth::W8 => 8,
        IntegerWidth::W16 => 16,
        IntegerWidth::W32 => 32,
        IntegerWidth::W64 => 64,
    };
    Error::metadata(key, format!("holds {number}, which does not fit its {bits} bits"))
}
