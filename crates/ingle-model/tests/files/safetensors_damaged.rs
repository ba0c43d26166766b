//! safetensors files that are cut, changed or absurd.

use crate::raw::safetensors;
use ingle_model::source::{SafetensorsHeader, read_safetensors_header};
use ingle_model::{Error, Format};
use std::path::Path;

const JSON: &str = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[16,28]},"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"e":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[28,32]},"odd":{"dtype":"BOOL","shape":[1],"data_offsets":[32,33]},"s":{"dtype":"I32","shape":[],"data_offsets":[33,37]}}"#;

fn read(bytes: &[u8]) -> Result<SafetensorsHeader, Error> {
    read_safetensors_header(Path::new("some/model.safetensors"), bytes)
}

fn assert_promises(header: &SafetensorsHeader, bytes: &[u8]) {
    let mut end = 0;
    for tensor in &header.tensors {
        assert!(tensor.offset >= end, "{} overlaps the one before", tensor.name);
        end = tensor.offset + tensor.bytes;
        assert!(end <= bytes.len(), "{} ends beyond the file", tensor.name);
    }
}

#[test]
fn tensors_come_in_the_order_of_their_bytes_with_their_formats() {
    let bytes = safetensors(JSON, 37);
    let header = read(&bytes).expect("valid");
    let data = 8 + JSON.len();
    let seen: Vec<_> = header
        .tensors
        .iter()
        .map(|t| (t.name.as_str(), t.shape.clone(), t.format, t.offset - data, t.bytes))
        .collect();
    let expected = [
        ("a", vec![4], Format::F32, 0, 16),
        ("b", vec![2, 3], Format::BF16, 16, 12),
        ("e", vec![4], Format::F8_E4M3, 28, 4),
        ("s", vec![], Format::I32, 33, 4),
    ];
    assert_eq!(seen, expected);
    assert_eq!(header.unread, [("odd".to_owned(), "BOOL".to_owned())]);
}

#[test]
fn every_shorter_file_is_refused() {
    let whole = safetensors(JSON, 37);
    for length in 0..whole.len() {
        let error = read(&whole[..length]).expect_err("a cut file");
        assert!(error.to_string().contains("some/model.safetensors"), "{length}: {error}");
    }
    let longer = [whole, vec![0]].concat();
    assert!(read(&longer).expect_err("a byte too many").to_string().contains("37 bytes and 38"));
}

#[test]
fn no_flipped_bit_of_the_header_panics_or_breaks_a_promise() {
    let whole = safetensors(JSON, 37);
    let mut refused = 0;
    for bit in 0..(8 + JSON.len()) * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        match read(&bytes) {
            Ok(header) => assert_promises(&header, &bytes),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 500, "{refused} refused");
}

#[test]
fn what_is_wrong_is_said() {
    let one = |body: &str| format!(r#"{{"t":{{{body}}}}}"#);
    let deep = format!("{{\"t\":{}", "[".repeat(100_000));
    let cases: Vec<(String, usize, &str)> = vec![
        (one(r#""dtype":"F32","shape":[1],"data_offsets":[0,8]"#), 8, "t"),
        (one(r#""dtype":"F32","shape":[2],"data_offsets":[4,12]"#), 12, "t"),
        (one(r#""dtype":"F32","shape":[2],"data_offsets":[8,0]"#), 8, "t"),
        (one(r#""dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]"#), 8, "overflow"),
        (one(r#""dtype":"F32","shape":[-1],"data_offsets":[0,8]"#), 8, "invalid value"),
        (one(r#""dtype":"Q9","shape":[2],"data_offsets":[0,8]"#), 8, "Q9"),
        (one(r#""dtype":"F32","shape":[2]"#), 8, "data_offsets"),
        (one(r#""dtype":"F32","shape":[2],"data_offsets":[0,8]"#), 4, "8 bytes and 4 follow"),
        (
            r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#
                .into(),
            6,
            "header is not valid",
        ),
        (
            r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#
                .into(),
            8,
            "header is not valid",
        ),
        ("{\"t\": 1}".into(), 0, "header is not valid"),
        ("{".into(), 0, "EOF"),
        (deep, 0, "recursion limit"),
    ];
    for (json, data, said) in cases {
        let error = read(&safetensors(&json, data)).expect_err(&json).to_string();
        assert!(
            error.contains(said) && error.contains("some/model.safetensors"),
            "`{said}` is not in: {error}"
        );
    }
}

#[test]
fn lengths_are_compared_with_the_file_first() {
    for length in [u64::MAX, 1 << 40, 100_000_001, 1000] {
        let mut bytes = safetensors("{}", 0);
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        let error = read(&bytes).expect_err("too long").to_string();
        assert!(error.contains(&format!("{length} bytes long, and 2 follow")), "{error}");
    }
}

#[test]
fn other_kinds_of_files_are_recognised() {
    for (bytes, said) in [
        (&b""[..], "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"GGUF\x03\0\0\0\0\0\0\0", "a GGUF file"),
        (b"PK\x03\x04\0\0\0\0\0\0", "zip"),
        (b"<!DOCTYPE html>", "web page"),
    ] {
        let error = read(bytes).expect_err("not safetensors").to_string();
        assert!(error.contains(said), "{said}: {error}");
    }
}
