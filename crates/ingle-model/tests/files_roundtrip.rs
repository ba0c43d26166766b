//! Real files read and written back: the same bytes come out.

use ingle_model::Source;
use ingle_model::gguf::{Entry, Writer};
use std::path::{Path, PathBuf};

/// GGUF files beside the workspace, made by the reference converters; none where that folder is missing.
fn published() -> Vec<PathBuf> {
    let shared = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared"));
    let mut found = Vec::new();
    for folder in ["goldens/gguf", "ember", "vocabs"] {
        let Ok(entries) = std::fs::read_dir(shared.join(folder)) else {
            eprintln!("{folder} absent: skipped");
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
    for path in published() {
        let source = Source::open(&path).unwrap_or_else(|error| panic!("{error}"));
        let original = std::fs::read(&path).expect("readable");
        let ours = written(&source, 3);
        assert!(ours == original, "{} differs after a round trip", path.display());
        println!("{}: {} tensors, {} bytes identical", path.display(), source.tensors().len(), ours.len());
    }
}
