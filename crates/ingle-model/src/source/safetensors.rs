//! The header of a safetensors file: eight bytes of length, JSON, then the tensors' bytes without gaps.

use super::{TensorInfo, sniff};
use crate::error::{Error, Result};
use crate::format::Format;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use std::path::Path;

/// The format's own limit on the JSON, in bytes.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// The length field before the JSON.
const LENGTH_BYTES: usize = 8;

/// What a safetensors file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SafetensorsHeader {
    /// Tensors in the order of their bytes; offsets count from the beginning of the file, `file` is 0.
    pub tensors: Vec<TensorInfo>,
    /// Tensors whose number format is not one of [`Format`], with the name of theirs.
    pub unread: Vec<(String, String)>,
}

/// Reads the header of a safetensors file. `bytes` is the whole file; `path` is only for messages.
///
/// Every tensor of the result lies inside `bytes` and overlaps no other.
///
/// # Errors
/// [`Error::Unsupported`] for a file of another kind, [`Error::Damaged`] with the offset for everything else.
pub fn read_safetensors_header(path: &Path, bytes: &[u8]) -> Result<SafetensorsHeader> {
    let damaged = |offset: usize, what: String| Error::damaged(path, offset as u64, what);
    if bytes.is_empty() || sniff::is_lfs_pointer(bytes) || bytes.get(LENGTH_BYTES).is_some_and(|&b| b != b'{')
    {
        let what = sniff::wrong_file(bytes, "a safetensors file", "fetch the file again");
        return Err(Error::Unsupported { path: path.into(), what });
    }
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(damaged(0, format!("the file ends inside the header's length ({} bytes)", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER_BYTES || length > rest.len() as u64 {
        let what = format!("the header is said to be {length} bytes long, and {} follow", rest.len());
        return Err(damaged(0, what));
    }
    let (json, data) = rest.split_at(length as usize);
    let data_start = LENGTH_BYTES + json.len();
    let metadata: Metadata = serde_json::from_slice(json).map_err(|error| {
        damaged(LENGTH_BYTES + offset_in(json, &error), format!("the header is not valid: {error}"))
    })?;
    // The crate has checked that the tensors follow each other without gaps and have the size their shape says. The
    // end is compared with the file here: the crate's function that does it can overflow on the way.
    if metadata.data_len() != data.len() {
        let what = format!(
            "the tensors take {} bytes and {} follow the header (an unfinished download?)",
            metadata.data_len(),
            data.len()
        );
        return Err(damaged(data_start, what));
    }
    let mut header = SafetensorsHeader::default();
    for (name, info) in metadata.tensors() {
        let (start, end) = info.data_offsets;
        match format(info.dtype) {
            Some(format) => header.tensors.push(TensorInfo {
                name,
                shape: info.shape.clone(),
                format,
                file: 0,
                offset: data_start + start,
                bytes: end - start,
            }),
            None => header.unread.push((name, format!("{:?}", info.dtype))),
        }
    }
    // A tensor without elements shares its place with the next one and comes before it.
    header.tensors.sort_by(|a, b| (a.offset, a.bytes, &a.name).cmp(&(b.offset, b.bytes, &b.name)));
    header.unread.sort();
    Ok(header)
}

/// The offset in `json` that an error's line and column mean.
pub(super) fn offset_in(json: &[u8], error: &serde_json::Error) -> usize {
    let line = error.line().saturating_sub(1);
    let before: usize = json.split(|&byte| byte == b'\n').take(line).map(|line| line.len() + 1).sum();
    (before + error.column().saturating_sub(1)).min(json.len())
}

fn format(dtype: Dtype) -> Option<Format> {
    match dtype {
        Dtype::F32 => Some(Format::F32),
        Dtype::F16 => Some(Format::F16),
        Dtype::BF16 => Some(Format::BF16),
        Dtype::F64 => Some(Format::F64),
        Dtype::I8 => Some(Format::I8),
        Dtype::I16 => Some(Format::I16),
        Dtype::I32 => Some(Format::I32),
        Dtype::I64 => Some(Format::I64),
        Dtype::U8 => Some(Format::U8),
        Dtype::F8_E4M3 => Some(Format::F8_E4M3),
        _ => None,
    }
}
