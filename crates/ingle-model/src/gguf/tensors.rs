//! The tensor table: every entry is checked against the file and against every other entry.

use super::MAX_DIMENSIONS;
use super::cursor::Cursor;
use super::types::unread_tensor_type;
use crate::error::{Error, Result, printable};
use crate::format::Format;
use crate::source::TensorInfo;
use std::collections::HashSet;

/// Far above any published file (a few thousand, since experts are stored together).
const MAX_TENSORS: u64 = 1 << 20;
/// Name length, dimension count, one dimension, type, offset.
const LEAST_ENTRY_BYTES: usize = 8 + 4 + 8 + 4 + 8;

/// Reads `count` entries; returns them with offsets from the file's beginning, and where the data section begins.
/// `count_at` is where the count stood, for messages.
pub(super) fn read_tensors(
    cursor: &mut Cursor<'_>,
    count_at: usize,
    count: u64,
    alignment: usize,
) -> Result<(Vec<TensorInfo>, usize)> {
    let left = cursor.left();
    if count > MAX_TENSORS || count > (left / LEAST_ENTRY_BYTES) as u64 {
        return Err(cursor.damaged(
            count_at,
            format!(
                "the number of tensors is {count}, more than the {left} bytes after the metadata can describe"
            ),
        ));
    }
    let mut tensors = Vec::with_capacity(count as usize);
    let mut places = Vec::with_capacity(count as usize);
    let mut names = HashSet::with_capacity(count as usize);
    for number in 0..count {
        let at = cursor.at();
        let tensor = read_tensor(cursor, &format!("tensor {number} of {count}"), alignment)?;
        if !names.insert(tensor.name.clone()) {
            return Err(
                cursor.damaged(at, format!("the tensor `{}` is there twice", printable(&tensor.name)))
            );
        }
        tensors.push(tensor);
        places.push(at);
    }
    let data_start = place(cursor, &mut tensors, &places, alignment)?;
    refuse_overlap(cursor, &tensors, &places)?;
    Ok((tensors, data_start))
}

/// One entry, its offset still counted from the beginning of the data section.
fn read_tensor(cursor: &mut Cursor<'_>, which: &str, alignment: usize) -> Result<TensorInfo> {
    let at = cursor.at();
    let name = cursor.string(&format!("the name of {which}"))?;
    if name.is_empty() {
        return Err(cursor.damaged(at, format!("{which} has no name")));
    }
    let name = name.to_owned();
    let shown = printable(&name);
    let what = format!("the description of tensor `{shown}`");
    let at = cursor.at();
    let dimensions = cursor.u32(&what)? as usize;
    if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
        return Err(
            cursor.damaged(at, format!("tensor `{shown}` has {dimensions} dimensions; 1 to 4 are possible"))
        );
    }
    let mut shape = Vec::with_capacity(dimensions);
    for _ in 0..dimensions {
        let at = cursor.at();
        let size = cursor.u64(&what)?;
        match usize::try_from(size) {
            Ok(size) if size > 0 => shape.push(size),
            _ => return Err(cursor.damaged(at, format!("tensor `{shown}` has a dimension of {size}"))),
        }
    }
    // The file has the innermost dimension first.
    shape.reverse();
    let type_at = cursor.at();
    let number = cursor.u32(&what)?;
    let Some(format) = Format::from_ggml_type(number) else {
        return Err(Error::tensor(
            name,
            format!(
                "is stored as type {number} ({}) at byte {type_at} of {}; fetch a file of another quantisation",
                unread_tensor_type(number),
                cursor.path().display()
            ),
        ));
    };
    let bytes = stored_bytes(&shape, format).ok_or_else(|| {
        cursor.damaged(
            at,
            format!(
                "the shape {shape:?} of tensor `{shown}` does not fit {}: rows are whole blocks of {} numbers, and \
                 the whole must be addressable",
                format.name(),
                format.block_len()
            ),
        )
    })?;
    let at = cursor.at();
    let offset = cursor.u64(&what)?;
    match usize::try_from(offset) {
        Ok(offset) if offset % alignment == 0 => {
            Ok(TensorInfo { name, shape, format, file: 0, offset, bytes })
        }
        _ => Err(cursor.damaged(
            at,
            format!(
                "tensor `{shown}` begins at {offset}, which is not a multiple of the alignment {alignment}"
            ),
        )),
    }
}

/// Bytes of a tensor whose rows are stored one after the other; `None` if rows are not whole blocks or on overflow.
pub(super) fn stored_bytes(shape: &[usize], format: Format) -> Option<usize> {
    let (&columns, outer) = shape.split_last()?;
    outer.iter().try_fold(format.row_bytes(columns)?, |bytes, &size| bytes.checked_mul(size))
}

/// Makes offsets count from the file's beginning and checks that every tensor ends inside the file.
fn place(
    cursor: &Cursor<'_>,
    tensors: &mut [TensorInfo],
    places: &[usize],
    alignment: usize,
) -> Result<usize> {
    let header_end = cursor.at();
    let file_bytes = header_end + cursor.left();
    // Only a file with an absurd alignment and no tensors gets the fallback.
    let data_start = header_end.checked_next_multiple_of(alignment).unwrap_or(usize::MAX);
    for (tensor, &at) in tensors.iter_mut().zip(places) {
        let end = data_start.checked_add(tensor.offset).and_then(|start| start.checked_add(tensor.bytes));
        match end {
            Some(end) if end <= file_bytes => tensor.offset += data_start,
            _ => {
                return Err(cursor.damaged(
                    at,
                    format!(
                        "tensor `{}` is {} bytes at {} of the data, which begins at {data_start}: past the file's end \
                         at {file_bytes} (an unfinished download?)",
                        printable(&tensor.name),
                        tensor.bytes,
                        tensor.offset
                    ),
                ));
            }
        }
    }
    Ok(data_start)
}

fn refuse_overlap(cursor: &Cursor<'_>, tensors: &[TensorInfo], places: &[usize]) -> Result<()> {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&index| tensors[index].offset);
    for pair in order.windows(2) {
        let (first, second) = (&tensors[pair[0]], &tensors[pair[1]]);
        if first.offset + first.bytes > second.offset {
            return Err(cursor.damaged(
                places[pair[1]],
                format!("the tensors `{}` and `{}` overlap", printable(&first.name), printable(&second.name)),
            ));
        }
    }
    Ok(())
}
