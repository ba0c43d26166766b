//! GGUF files that are cut, changed, absurd or something else: a typed error that names the file, never a panic.

use crate::raw::{Gguf, Tensor, array, small, text};
use ingle_model::gguf::{Header, read_header};
use ingle_model::{Error, Format, Value};
use std::path::Path;

fn read(bytes: &[u8]) -> Result<Header, Error> {
    read_header(Path::new("some/model.gguf"), bytes)
}

/// What every accepted header promises.
fn assert_promises(header: &Header, bytes: &[u8]) {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    let mut names = std::collections::HashSet::new();
    for tensor in &header.tensors {
        let end = tensor.offset.checked_add(tensor.bytes).expect("no overflow");
        assert!(end <= bytes.len(), "{} ends beyond the file", tensor.name);
        assert_eq!((tensor.offset - header.data_start) % header.alignment, 0);
        assert!(names.insert(&tensor.name), "{} twice", tensor.name);
        let numbers: usize = tensor.shape.iter().product();
        assert_eq!(tensor.format.row_bytes(numbers), Some(tensor.bytes));
        ranges.push((tensor.offset, end));
    }
    ranges.sort();
    assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "tensors overlap");
}

#[test]
fn the_small_file_is_read_as_it_was_made() {
    let header = read(&small().bytes()).expect("valid");
    assert_eq!((header.version, header.alignment), (3, 64));
    let q = &header.tensors[1];
    assert_eq!((q.name.as_str(), q.shape.as_slice()), ("blk.0.attn_q.weight", &[1, 2, 32][..]));
    assert_eq!((q.format, q.bytes, q.offset - header.data_start), (Format::Q8_0, 68, 64));
    let metadata = &header.metadata;
    assert_eq!(metadata.string("general.architecture").expect("typed"), Some("qwen3"));
    assert_eq!(metadata.integers("integers").expect("typed"), Some(vec![-1]));
    assert_eq!(metadata.floats("floats").expect("typed"), Some(&[1.0, 2.0][..]));
    assert_eq!(metadata.get("flags"), Some(&Value::Bools(vec![false, true, true])));
    assert_eq!(metadata.strings("strings").expect("typed").expect("there").get(2), Some("Ġé"));
    assert!(matches!(metadata.get("nested"), Some(Value::Nested(list)) if list.len() == 2));
    let keys: Vec<&str> = metadata.iter().map(|(key, _)| key).collect();
    assert_eq!((keys[0], keys[17]), ("general.architecture", "nested"), "the file's order is kept");
}

#[test]
fn every_shorter_file_is_refused() {
    let whole = small().bytes();
    for length in 0..whole.len() {
        let error = read(&whole[..length]).expect_err("a cut file");
        assert!(error.to_string().contains("some/model.gguf"), "{length}: {error}");
    }
}

#[test]
fn no_flipped_bit_of_the_header_panics_or_breaks_a_promise() {
    let whole = small().bytes();
    let (mut refused, mut accepted) = (0, 0);
    for bit in 0..small().header().len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        match read(&bytes) {
            Ok(header) => {
                accepted += 1;
                assert_promises(&header, &bytes);
            }
            Err(_) => refused += 1,
        }
    }
    // Values and letters of names can be anything; lengths, counts, types and places cannot.
    assert!(refused > 1000 && accepted > 1000, "{refused} refused, {accepted} accepted");
}

#[test]
fn no_byte_set_to_an_extreme_panics_or_breaks_a_promise() {
    let whole = small().bytes();
    for at in 0..small().header().len() {
        for extreme in [0x00, 0x7f, 0x80, 0xff] {
            for width in [1, 4, 8] {
                let mut bytes = whole.clone();
                let end = (at + width).min(bytes.len());
                bytes[at..end].fill(extreme);
                if let Ok(header) = read(&bytes) {
                    assert_promises(&header, &bytes);
                }
            }
        }
    }
}

/// A change to the small file, and what the message must say about it.
type Case = (&'static str, fn(&mut Gguf), &'static [&'static str]);

fn only_pair(gguf: &mut Gguf, kind: u32, value: Vec<u8>) {
    gguf.pairs = vec![(b"key".to_vec(), kind, value)];
    gguf.tensors.clear();
}

fn nest(depth: usize) -> Vec<u8> {
    let mut value = array(0, 0, &[]);
    for _ in 0..depth {
        value = array(9, 1, &value);
    }
    value
}

const CASES: &[Case] = &[
    ("version 1", |g| g.version = 1, &["version 1", "2 and 3"]),
    ("version 4", |g| g.version = 4, &["byte 4", "version is 4"]),
    ("version 0", |g| g.version = 0, &["version is 0"]),
    ("big-endian", |g| g.version = 3u32.swap_bytes(), &["big-endian", "little-endian"]),
    ("too many keys", |g| g.pair_count = Some(u64::MAX), &["byte 16", "number of metadata keys"]),
    ("keys that cannot fit", |g| g.pair_count = Some(1 << 40), &["number of metadata keys"]),
    ("one key too many", |g| g.pair_count = Some(19), &["the name of tensor 0 of 3"]),
    ("too many tensors", |g| g.tensor_count = Some(u64::MAX), &["byte 8", "number of tensors"]),
    ("tensors that cannot fit", |g| g.tensor_count = Some(1 << 20), &["number of tensors"]),
    ("one tensor too many", |g| g.tensor_count = Some(4), &["tensor 3 of 4"]),
    (
        "long string",
        |g| only_pair(g, 8, u64::MAX.to_le_bytes().into()),
        &["byte 39", "the length of", "`key`"],
    ),
    ("long array", |g| only_pair(g, 9, array(6, u64::MAX, &[])), &["array length", "`key`"]),
    ("array that cannot fit", |g| only_pair(g, 9, array(10, 1000, &[0; 64])), &["array length", "1000"]),
    ("strings that cannot fit", |g| only_pair(g, 9, array(8, 1 << 32, &[0; 64])), &["array length"]),
    ("string array cut by its last", |g| only_pair(g, 9, array(8, 1, &999u64.to_le_bytes())), &["length of"]),
    ("arrays nested", |g| only_pair(g, 9, nest(5)), &["nests arrays"]),
    ("arrays nested a hundred thousand deep", |g| only_pair(g, 9, nest(100_000)), &["nests arrays"]),
    ("unknown value type", |g| g.pair("u8").1 = 13, &["`u8`", "unknown value type 13"]),
    ("unknown element type", |g| only_pair(g, 9, array(99, 1, &[0; 8])), &["unknown value type 99"]),
    ("neither true nor false", |g| g.pair("bool").2 = vec![2], &["`bool`", "neither true nor false"]),
    ("key twice", |g| g.pair("u16").0 = b"u8".to_vec(), &["`u8` is there twice"]),
    ("empty key", |g| g.pair("u16").0.clear(), &["a metadata key of 0 bytes"]),
    ("key not UTF-8", |g| g.pair("u16").0 = vec![b'a', 0xff], &["not UTF-8"]),
    (
        "value not UTF-8",
        |g| g.pair("general.architecture").2 = text(b"ab\xc3"),
        &["`general.architecture` is not UTF-8"],
    ),
    ("token not UTF-8", |g| only_pair(g, 9, array(8, 1, &text(b"\xe2\x96"))), &["`key` is not UTF-8"]),
    ("key with an escape sequence", |g| g.pair("u8").0 = b"\x1b[2Ju8".to_vec(), &[]),
    ("alignment 0", |g| g.pair("general.alignment").2 = vec![0; 4], &["general.alignment", "power of two"]),
    ("alignment 48", |g| g.pair("general.alignment").2 = 48u32.to_le_bytes().into(), &["power of two"]),
    (
        "alignment of text",
        |g| *g.pair("general.alignment") = (b"general.alignment".to_vec(), 8, text("x")),
        &["power"],
    ),
    (
        "alignment 2^63",
        |g| {
            *g.pair("general.alignment") =
                (b"general.alignment".to_vec(), 10, (1u64 << 63).to_le_bytes().into())
        },
        &["multiple of the alignment"],
    ),
    ("no dimensions", |g| g.tensors[0].dimensions.clear(), &["`token_embd.weight` has 0 dimensions"]),
    ("five dimensions", |g| g.tensors[0].dimensions = vec![1; 5], &["has 5 dimensions"]),
    ("dimension of nothing", |g| g.tensors[0].dimensions = vec![4, 0], &["a dimension of 0"]),
    (
        "dimensions that overflow",
        |g| g.tensors[0].dimensions = vec![1 << 32, 1 << 32],
        &["`token_embd.weight`", "shape"],
    ),
    ("dimensions whose bytes overflow", |g| g.tensors[0].dimensions = vec![1 << 62, 1], &["shape"]),
    (
        "half a block",
        |g| g.tensors[1].dimensions = vec![48, 2],
        &["blk.0.attn_q.weight", "whole blocks of 32"],
    ),
    (
        "tensor twice",
        |g| g.tensors[1].name = b"token_embd.weight".to_vec(),
        &["`token_embd.weight` is there twice"],
    ),
    ("tensor without a name", |g| g.tensors[1].name.clear(), &["tensor 1 of 3 has no name"]),
    ("tensor name not UTF-8", |g| g.tensors[1].name = vec![0xfe], &["tensor 1 of 3", "not UTF-8"]),
    ("withdrawn tensor type", |g| g.tensors[0].kind = 31, &["`token_embd.weight`", "Q4_0_4_4", "model.gguf"]),
    ("unknown tensor type", |g| g.tensors[0].kind = 1000, &["`token_embd.weight`", "type 1000"]),
    ("unaligned", |g| g.tensors[1].offset = 65, &["begins at 65", "alignment 64"]),
    (
        "overlapping",
        |g| g.tensors[0].dimensions = vec![4, 5],
        &["`token_embd.weight` and `blk.0.attn_q.weight` overlap"],
    ),
    ("same place", |g| g.tensors[1].offset = 0, &["overlap"]),
    ("beyond the end", |g| g.tensors[2].offset = 256, &["`output_norm.weight`", "past the file's end"]),
    (
        "far beyond the end",
        |g| g.tensors[2].offset = u64::MAX - 63,
        &["`output_norm.weight`", "past the file's end"],
    ),
    (
        "bigger than the file",
        |g| g.tensors[2].dimensions = vec![1 << 40],
        &["past the file's end", "unfinished download"],
    ),
    (
        "sum that overflows",
        |g| {
            for at in 0..3 {
                g.tensors[at].dimensions = vec![(1 << 61) - 64, 1];
            }
        },
        &["past the file's end"],
    ),
];

#[test]
fn what_is_wrong_is_said() {
    for (name, change, said) in CASES {
        let mut gguf = small();
        change(&mut gguf);
        let result = read(&gguf.bytes());
        if said.is_empty() {
            result.unwrap_or_else(|error| panic!("{name}: {error}"));
            continue;
        }
        let error = result.err().unwrap_or_else(|| panic!("{name}: accepted")).to_string();
        for part in said.iter().chain(&["some/model.gguf"]) {
            assert!(error.contains(part), "{name}: `{part}` is not in: {error}");
        }
        assert!(!error.contains(char::is_control), "{name}: {error:?}");
    }
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let mut gguf = small();
    gguf.tensors[0].name = b"\x1b[2J\x07evil".to_vec();
    gguf.tensors[0].kind = 77;
    let error = read(&gguf.bytes()).expect_err("unknown type").to_string();
    assert!(error.contains("evil") && !error.contains(char::is_control), "{error:?}");
}

#[test]
fn other_kinds_of_files_are_recognised() {
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    let cases: &[(&[u8], &str)] = &[
        (b"", "is empty"),
        (lfs, "git lfs pull"),
        (b"PK\x03\x04rest", "zip archive"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\n  <html>", "a web page"),
        (b"{\"error\":\"unauthorised\"}", "JSON"),
        (b"\x80\x02}q", "pickle"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"tjgg\x03\0\0\0", "GGJT"),
        (b"FUGG\0\0\0\x03", "bytes swapped"),
        (&[0; 64], "unfinished download"),
        (b"\x40\0\0\0\0\0\0\0{\"a\":", "safetensors"),
        (b"\x01\x02\x03\x04\x05", "01 02 03 04"),
    ];
    for (bytes, said) in cases {
        let error = read(bytes).expect_err("not a GGUF file");
        assert!(matches!(error, Error::Unsupported { .. }), "{said}: {error:?}");
        assert!(error.to_string().contains(said), "{said}: {error}");
    }
}

#[test]
fn a_file_of_elements_cannot_take_many_times_its_size_in_memory() {
    let mut gguf = small();
    let many = (1 << 24) + 1;
    only_pair(&mut gguf, 9, array(0, many, &vec![7; many as usize]));
    let error = read(&gguf.bytes()).expect_err("too many elements").to_string();
    assert!(error.contains("array elements allowed"), "{error}");
}

#[test]
fn tensors_may_lie_in_any_order_and_with_gaps() {
    let mut gguf = small();
    gguf.tensors.reverse();
    gguf.tensors.push(Tensor { name: b"last".to_vec(), dimensions: vec![1], kind: 0, offset: 256 });
    gguf.data.resize(260, 9);
    let bytes = gguf.bytes();
    let header = read(&bytes).expect("valid");
    assert_promises(&header, &bytes);
    assert_eq!(header.tensors[3].offset - header.data_start, 256);
}
