//! Real files read and written back: the same bytes come out.

use crate::raw::{folder, small};
use ingle_model::gguf::{Entry, Writer, read_header};
use ingle_model::metadata::IntegerWidth;
use ingle_model::{Format, Metadata, Source, Value};
use std::path::{Path, PathBuf};

/// GGUF files made by the reference converters: those of this workspace, and those beside it where they are.
fn published() -> Vec<PathBuf> {
    let workspace = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let mut found = Vec::new();
    for folder in
        ["models/ember", "crates/ingle-cpu/tests/fixtures/gguf", "../shared/goldens/gguf", "../shared/vocabs"]
    {
        let Ok(entries) = std::fs::read_dir(workspace.join(folder)) else {
            crate::tell(&format!("{folder} absent: skipped"));
            continue;
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        found.extend(paths.filter(|path| path.extension().is_some_and(|extension| extension == "gguf")));
    }
    found.sort();
    found
}

fn entries(source: &Source) -> Vec<Entry> {
    source.tensors().iter().map(Entry::from).collect()
}

fn written(source: &Source, version: u32) -> Vec<u8> {
    let mut writer =
        Writer::new(Vec::new(), &source.path, version, &source.metadata, &entries(source)).expect("writer");
    for tensor in source.tensors() {
        writer.tensor(source.bytes(tensor)).expect("bytes as announced");
    }
    writer.finish().expect("all written")
}

#[test]
fn what_is_written_back_is_byte_for_byte_what_was_read() {
    let published = published();
    assert!(published.len() >= 5, "the workspace's own files: {published:?}");
    for path in published {
        let source = Source::open(&path).unwrap_or_else(|error| panic!("{error}"));
        let original = std::fs::read(&path).expect("readable");
        let ours = written(&source, 3);
        assert!(ours == original, "{} differs after a round trip", path.display());
        println!("{}: {} tensors, {} bytes identical", path.display(), source.tensors().len(), ours.len());
    }
}

#[test]
fn version_2_written_here_is_read_here() {
    let path = folder("version_2").join("small.gguf");
    std::fs::write(&path, small().bytes()).expect("written");
    let source = Source::open(&path).expect("valid");
    let bytes = written(&source, 2);
    let header = read_header(&path, &bytes).expect("valid");
    assert_eq!(header.version, 2);
    assert_eq!(header.metadata, source.metadata);
    for (ours, original) in header.tensors.iter().zip(source.tensors()) {
        assert_eq!(
            (&ours.name, &ours.shape, ours.format),
            (&original.name, &original.shape, original.format)
        );
        assert_eq!(&bytes[ours.offset..][..ours.bytes], source.bytes(original), "{}", ours.name);
    }
    // Version 3 of the same content differs in the version alone.
    let mut version_3 = written(&source, 3);
    version_3[4] = 2;
    assert!(version_3 == bytes);
}

#[test]
fn every_value_type_survives_a_round_trip() {
    let bytes = small().bytes();
    let header = read_header(Path::new("small"), &bytes).expect("valid");
    let entries: Vec<Entry> = header.tensors.iter().map(Entry::from).collect();
    let mut writer =
        Writer::new(Vec::new(), Path::new("copy"), 3, &header.metadata, &entries).expect("writer");
    for tensor in &header.tensors {
        writer.tensor(&bytes[tensor.offset..][..tensor.bytes]).expect("bytes as announced");
    }
    let copy = writer.finish().expect("all written");
    let metadata_and_table = small().header().len();
    assert!(copy[..metadata_and_table] == bytes[..metadata_and_table]);
    assert_eq!(copy.len() % 64, 0, "the end is padded to the alignment");
}

#[test]
fn the_writer_refuses_what_no_file_can_hold() {
    let entry = |shape: &[usize], format| Entry { name: "t".into(), shape: shape.into(), format };
    let begin = |metadata: &Metadata, entries: &[Entry]| {
        Writer::new(Vec::new(), Path::new("out"), 3, metadata, entries)
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    let plain = Metadata::default();
    for (entries, said) in [
        (vec![entry(&[3], Format::Q8_0)], "cannot be stored as Q8_0"),
        (vec![entry(&[], Format::F32)], "cannot be stored"),
        (vec![entry(&[2, 0], Format::F32)], "cannot be stored"),
        (vec![entry(&[1, 1, 1, 1, 1], Format::F32)], "cannot be stored"),
        (vec![entry(&[usize::MAX, 2], Format::F32)], "cannot be stored"),
        (vec![entry(&[4], Format::F8_E4M3)], "cannot be stored as F8_E4M3"),
        (vec![entry(&[4], Format::F32), entry(&[4], Format::F32)], "a name of its own"),
    ] {
        let error = begin(&plain, &entries).expect_err(said);
        assert!(error.contains(said), "{error}");
    }
    let mut wide = Metadata::default();
    wide.insert("k", Value::Unsigned(256, IntegerWidth::W8));
    assert!(begin(&wide, &[]).expect_err("too wide").contains("does not fit its 8 bits"));
    let mut mixed = Metadata::default();
    mixed.insert("k", Value::Nested(vec![Value::Bool(true)]));
    assert!(begin(&mixed, &[]).is_err());
}

#[test]
fn the_writer_wants_every_tensor_once_and_whole() {
    let entries = [Entry { name: "t".into(), shape: vec![2], format: Format::F32 }];
    let begin =
        || Writer::new(Vec::new(), Path::new("out"), 3, &Metadata::default(), &entries).expect("writer");
    assert!(begin().finish().is_err(), "a tensor is missing");
    assert!(begin().tensor(&[0; 7]).is_err(), "a byte is missing");
    let mut writer = begin();
    writer.tensor(&[0; 8]).expect("as announced");
    assert!(writer.tensor(&[0; 8]).is_err(), "one too many");
}

#[test]
fn a_vocabulary_of_150_000_tokens_is_read_whole() {
    let path =
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vocabs/ggml-vocab-qwen2.gguf"));
    if !path.exists() {
        crate::tell("vocabs absent: skipped");
        return;
    }
    let source = Source::open(path).expect("valid");
    let tokens = source.metadata.strings("tokenizer.ggml.tokens").expect("strings").expect("present");
    assert!(tokens.len() > 150_000, "{} tokens", tokens.len());
}
