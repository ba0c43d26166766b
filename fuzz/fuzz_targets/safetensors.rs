//! Any bytes as a safetensors file: what is accepted keeps its promises.
#![no_main]

use ingle_model::source::read_safetensors_header;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    // Changes in the middle of the JSON would otherwise almost always make the length before it wrong.
    if let Some(end) = bytes.iter().rposition(|&byte| byte == b'}').filter(|&end| end >= 8) {
        let mut corrected = bytes.to_vec();
        corrected[..8].copy_from_slice(&(end as u64 - 7).to_le_bytes());
        read(&corrected);
    }
});

fn read(bytes: &[u8]) {
    let Ok(header) = read_safetensors_header(Path::new("input.safetensors"), bytes) else { return };
    let mut end = 8;
    for tensor in &header.tensors {
        assert!(tensor.offset >= end);
        end = tensor.offset + tensor.bytes;
        let numbers = tensor.shape.iter().product::<usize>();
        assert_eq!(tensor.format.row_bytes(numbers), Some(tensor.bytes));
    }
    assert!(end <= bytes.len());
}
