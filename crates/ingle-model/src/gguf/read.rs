//! Reading a header, from bytes that may be anything.

use super::cursor::Cursor;
use super::tensors::read_tensors;
use super::types::ValueType;
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, Header, MAGIC};
use crate::error::{Error, Result, printable};
use crate::metadata::{IntegerWidth, Metadata, Value};
use crate::source::sniff;
use crate::string_list::StringList;
use std::path::Path;

/// Published files have fewer than a hundred keys.
const MAX_KEYS: usize = 1 << 16;
/// The format's own limit.
const MAX_KEY_BYTES: usize = 65535;
/// Array elements in one file, all arrays together. The largest published vocabularies have 2^18 tokens and 2^19
/// merges; the limit bounds the memory that widening small elements can cost to a few hundred megabytes.
const MAX_ELEMENTS: usize = 1 << 24;
/// Arrays in arrays in arrays: no published file nests at all.
const MAX_DEPTH: usize = 4;
/// Length, type and the smallest value.
const LEAST_PAIR_BYTES: usize = 8 + 4 + 1;

/// Reads everything before the tensors' bytes. `bytes` is the whole file; `path` is only for messages.
///
/// Every tensor of the result lies inside `bytes`, begins at a multiple of the alignment and overlaps no other;
/// keys and names are unique.
///
/// # Errors
/// [`Error::Unsupported`] for a file that is intact but of another kind (including GGUF version 1 and big-endian
/// files), [`Error::Damaged`] with the offset for everything else.
pub fn read_header(path: &Path, bytes: &[u8]) -> Result<Header> {
    let mut cursor = Cursor::new(path, bytes);
    let version = read_version(path, bytes, &mut cursor)?;
    let tensor_count_at = cursor.at();
    let tensor_count = cursor.u64("the number of tensors")?;
    let metadata = read_metadata(&mut cursor)?;
    let alignment = alignment(&cursor, &metadata)?;
    let (tensors, data_start) = read_tensors(&mut cursor, tensor_count_at, tensor_count, alignment)?;
    Ok(Header { version, alignment, metadata, tensors, data_start })
}

fn read_version(path: &Path, bytes: &[u8], cursor: &mut Cursor<'_>) -> Result<u32> {
    if bytes.is_empty() || !bytes.starts_with(&MAGIC[..bytes.len().min(4)]) {
        return Err(Error::Unsupported { path: path.into(), what: sniff::not_a_gguf(bytes) });
    }
    cursor.take(MAGIC.len(), "the magic")?;
    let at = cursor.at();
    let version = cursor.u32("the version")?;
    let unsupported = |what: &str| Error::Unsupported { path: path.into(), what: what.into() };
    match version {
        2 | 3 => Ok(version),
        1 => Err(unsupported(
            "is GGUF version 1, from the summer of 2023; versions 2 and 3 are read here; fetch a newer conversion",
        )),
        _ if (1..=3).contains(&version.swap_bytes()) => Err(unsupported(
            "is a big-endian GGUF file; only little-endian ones are read here; fetch the little-endian conversion",
        )),
        _ => Err(cursor.damaged(at, format!("the version is {version}; 2 and 3 are read here"))),
    }
}

fn read_metadata(cursor: &mut Cursor<'_>) -> Result<Metadata> {
    let at = cursor.at();
    let count = cursor.count(LEAST_PAIR_BYTES, "the number of metadata keys")?;
    if count > MAX_KEYS {
        return Err(cursor.damaged(at, format!("{count} metadata keys are more than the {MAX_KEYS} allowed")));
    }
    let mut metadata = Metadata::default();
    let mut budget = MAX_ELEMENTS;
    for number in 0..count {
        let at = cursor.at();
        let key = cursor.string(&format!("metadata key {number} of {count}"))?;
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(cursor.damaged(at, format!("a metadata key of {} bytes", key.len())));
        }
        if metadata.get(key).is_some() {
            return Err(cursor.damaged(at, format!("the metadata key `{}` is there twice", printable(key))));
        }
        let what = format!("the value of `{}`", printable(key));
        let value_type = read_type(cursor, &what)?;
        let value = read_value(cursor, value_type, &what, &mut budget)?;
        metadata.insert(key, value);
    }
    Ok(metadata)
}

fn read_type(cursor: &mut Cursor<'_>, what: &str) -> Result<ValueType> {
    let at = cursor.at();
    let number = cursor.u32(what)?;
    ValueType::from_number(number)
        .ok_or_else(|| cursor.damaged(at, format!("{what} has the unknown value type {number}")))
}

fn read_value(cursor: &mut Cursor<'_>, kind: ValueType, what: &str, budget: &mut usize) -> Result<Value> {
    use IntegerWidth::*;
    Ok(match kind {
        ValueType::U8 => Value::Unsigned(u8::from_le_bytes(cursor.array(what)?).into(), W8),
        ValueType::U16 => Value::Unsigned(u16::from_le_bytes(cursor.array(what)?).into(), W16),
        ValueType::U32 => Value::Unsigned(u32::from_le_bytes(cursor.array(what)?).into(), W32),
        ValueType::U64 => Value::Unsigned(u64::from_le_bytes(cursor.array(what)?), W64),
        ValueType::I8 => Value::Signed(i8::from_le_bytes(cursor.array(what)?).into(), W8),
        ValueType::I16 => Value::Signed(i16::from_le_bytes(cursor.array(what)?).into(), W16),
        ValueType::I32 => Value::Signed(i32::from_le_bytes(cursor.array(what)?).into(), W32),
        ValueType::I64 => Value::Signed(i64::from_le_bytes(cursor.array(what)?), W64),
        ValueType::F32 => Value::F32(f32::from_le_bytes(cursor.array(what)?)),
        ValueType::F64 => Value::F64(f64::from_le_bytes(cursor.array(what)?)),
        ValueType::Bool => Value::Bool(read_bools(cursor, 1, what)?[0]),
        ValueType::String => Value::String(cursor.string(what)?.to_owned()),
        ValueType::Array => read_array(cursor, what, 1, budget)?,
    })
}

fn read_array(cursor: &mut Cursor<'_>, what: &str, depth: usize, budget: &mut usize) -> Result<Value> {
    let kind = read_type(cursor, what)?;
    let at = cursor.at();
    let count = cursor.count(kind.least_bytes(), &format!("the array length of {what}"))?;
    *budget = budget.checked_sub(count).ok_or_else(|| {
        cursor.damaged(at, format!("{what} brings the file over the {MAX_ELEMENTS} array elements allowed"))
    })?;
    use IntegerWidth::*;
    Ok(match kind {
        ValueType::U8 => {
            Value::Unsigneds(read_numbers(cursor, count, what, |b| u8::from_le_bytes(b).into())?, W8)
        }
        ValueType::U16 => {
            Value::Unsigneds(read_numbers(cursor, count, what, |b| u16::from_le_bytes(b).into())?, W16)
        }
        ValueType::U32 => {
            Value::Unsigneds(read_numbers(cursor, count, what, |b| u32::from_le_bytes(b).into())?, W32)
        }
        ValueType::U64 => Value::Unsigneds(read_numbers(cursor, count, what, u64::from_le_bytes)?, W64),
        ValueType::I8 => {
            Value::Signeds(read_numbers(cursor, count, what, |b| i8::from_le_bytes(b).into())?, W8)
        }
        ValueType::I16 => {
            Value::Signeds(read_numbers(cursor, count, what, |b| i16::from_le_bytes(b).into())?, W16)
        }
        ValueType::I32 => {
            Value::Signeds(read_numbers(cursor, count, what, |b| i32::from_le_bytes(b).into())?, W32)
        }
        ValueType::I64 => Value::Signeds(read_numbers(cursor, count, what, i64::from_le_bytes)?, W64),
        ValueType::F32 => Value::F32s(read_numbers(cursor, count, what, f32::from_le_bytes)?),
        ValueType::F64 => Value::F64s(read_numbers(cursor, count, what, f64::from_le_bytes)?),
        ValueType::Bool => Value::Bools(read_bools(cursor, count, what)?),
        ValueType::String => {
            let mut strings = StringList::with_capacity(count);
            for _ in 0..count {
                if !strings.push(cursor.string(what)?) {
                    return Err(cursor.damaged(at, format!("{what} is more than 4 GiB of text")));
                }
            }
            strings.shrink_to_fit();
            Value::Strings(strings)
        }
        ValueType::Array => {
            if depth == MAX_DEPTH {
                return Err(cursor.damaged(at, format!("{what} nests arrays more than {MAX_DEPTH} deep")));
            }
            let mut arrays = Vec::with_capacity(count);
            for _ in 0..count {
                arrays.push(read_array(cursor, what, depth + 1, budget)?);
            }
            Value::Nested(arrays)
        }
    })
}

fn read_numbers<const N: usize, T>(
    cursor: &mut Cursor<'_>,
    count: usize,
    what: &str,
    decode: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>> {
    let bytes =
        count.checked_mul(N).ok_or_else(|| cursor.damaged(cursor.at(), format!("{what} is too long")))?;
    let (chunks, _) = cursor.take(bytes, what)?.as_chunks::<N>();
    Ok(chunks.iter().map(|&chunk| decode(chunk)).collect())
}

fn read_bools(cursor: &mut Cursor<'_>, count: usize, what: &str) -> Result<Vec<bool>> {
    let start = cursor.at();
    let bytes = cursor.take(count, what)?;
    match bytes.iter().position(|&byte| byte > 1) {
        None => Ok(bytes.iter().map(|&byte| byte == 1).collect()),
        Some(wrong) => {
            Err(cursor
                .damaged(start + wrong, format!("{what} is neither true nor false but {}", bytes[wrong])))
        }
    }
}

fn alignment(cursor: &Cursor<'_>, metadata: &Metadata) -> Result<usize> {
    match metadata.get(ALIGNMENT_KEY) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(_) => match metadata.count(ALIGNMENT_KEY) {
            Ok(Some(alignment)) if alignment.is_power_of_two() => Ok(alignment),
            _ => Err(cursor.damaged(cursor.at(), format!("`{ALIGNMENT_KEY}` is not a power of two"))),
        },
    }
}
