//! Any bytes as a GGUF file: what is accepted keeps its promises and survives being written and read again.
#![no_main]

use ingle_model::gguf::{Entry, Header, Writer, read_header};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

/// Padding to a larger alignment would only fill memory with zeros.
const LARGEST_ALIGNMENT_WRITTEN: usize = 1 << 12;

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = read_header(Path::new("input.gguf"), bytes) else { return };
    assert_promises(&header, bytes);
    if header.alignment > LARGEST_ALIGNMENT_WRITTEN {
        return;
    }
    let first = write(&header, bytes);
    let again = read_header(Path::new("written.gguf"), &first).expect("what is written can be read");
    assert_promises(&again, &first);
    assert_eq!(header.metadata.len(), again.metadata.len());
    assert_eq!(header.tensors.len(), again.tensors.len());
    // Comparing bytes and not values, because NaN is a value and not equal to itself.
    assert!(write(&again, &first) == first);
});

fn write(header: &Header, bytes: &[u8]) -> Vec<u8> {
    let entries: Vec<Entry> = header.tensors.iter().map(Entry::from).collect();
    let mut writer =
        Writer::new(Vec::new(), Path::new("written.gguf"), header.version, &header.metadata, &entries)
            .expect("what was read can be written");
    for tensor in &header.tensors {
        writer.tensor(&bytes[tensor.offset..][..tensor.bytes]).expect("bytes as described");
    }
    writer.finish().expect("every tensor was written")
}

fn assert_promises(header: &Header, bytes: &[u8]) {
    assert!(header.alignment.is_power_of_two());
    let mut places = Vec::new();
    for tensor in &header.tensors {
        assert!(tensor.bytes > 0 && tensor.offset >= header.data_start);
        assert_eq!((tensor.offset - header.data_start) % header.alignment, 0);
        places.push((tensor.offset, tensor.offset + tensor.bytes));
    }
    places.sort_unstable();
    assert!(places.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    assert!(places.last().is_none_or(|place| place.1 <= bytes.len()));
}
