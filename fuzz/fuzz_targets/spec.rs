//! Any bytes as the header of a model, from a GGUF file or as a safetensors file after config.json and a NUL byte: a
//! network that is described can be counted, and its tensors lie in the file.
#![no_main]

use ingle_model::families::{Dialect, Header, describe_header};
use ingle_model::gguf::read_header;
use ingle_model::source::read_safetensors_header;
use ingle_model::spec::{KvBytes, Load, ModelSpec};
use ingle_model::{Metadata, TensorInfo};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let Some((dialect, keys, tensors, length)) = header(bytes) else { return };
    let Ok(spec) = describe_header(&Header { dialect, keys: &keys, tensors: &tensors }) else { return };
    assert_promises(&spec, length);
});

/// Keys, tensors, and the length of the file that the tensors are in.
fn header(bytes: &[u8]) -> Option<(Dialect, Metadata, Vec<TensorInfo>, usize)> {
    if bytes.starts_with(b"GGUF") {
        let header = read_header(Path::new("input.gguf"), bytes).ok()?;
        return Some((Dialect::Gguf, header.metadata, header.tensors, bytes.len()));
    }
    let nul = bytes.iter().position(|&byte| byte == 0)?;
    let config: serde_json::Value = serde_json::from_slice(&bytes[..nul]).ok()?;
    let mut file = bytes[nul + 1..].to_vec();
    if let Some(end) = file.iter().rposition(|&byte| byte == b'}').filter(|&end| end >= 8) {
        file[..8].copy_from_slice(&(end as u64 - 7).to_le_bytes());
    }
    let header = read_safetensors_header(Path::new("input.safetensors"), &file).ok()?;
    Some((Dialect::Hub, Metadata::from_json(&config), header.tensors, file.len()))
}

fn assert_promises(spec: &ModelSpec, length: usize) {
    for tensor in &spec.tensors {
        assert_eq!(tensor.rows() * tensor.columns(), tensor.shape.iter().product::<usize>());
        for piece in &tensor.pieces {
            assert!(piece.first + (piece.rows - 1) * piece.stride < piece.stored_rows);
            assert!(piece.stored.offset + piece.stored.bytes <= length);
        }
    }
    assert!(spec.parameters() >= spec.active_parameters());
    assert!(spec.weight_bytes() <= length as u64);
    for context in [0, 1, 4096, u64::from(u32::MAX)] {
        assert!(spec.kv_bytes(context, KvBytes::F16) >= 0.0);
        let cost = spec.step_cost(&Load::decode(context), KvBytes::F16);
        assert!(cost.operations.is_finite() && cost.kv_bytes.is_finite());
    }
    for rope in &spec.ropes {
        assert_eq!(rope.frequencies().len(), rope.dims / 2);
    }
}
