//! The fuzz targets' seeds are accepted: a seed that is refused at once teaches the fuzzer nothing.

use ingle_model::Metadata;
use ingle_model::families::{Dialect, Header, describe_header};
use ingle_model::gguf::read_header;
use ingle_model::source::read_safetensors_header;
use std::path::{Path, PathBuf};

fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds")).join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = files.map(|file| file.expect("readable").path());
    let seeds: Vec<_> = paths.map(|path| (path.clone(), std::fs::read(path).expect("readable"))).collect();
    assert!(!seeds.is_empty());
    seeds
}

#[test]
fn seeds_of_headers_are_accepted() {
    for (path, bytes) in seeds("gguf") {
        read_header(&path, &bytes).unwrap_or_else(|error| panic!("{error}"));
    }
    for (path, bytes) in seeds("safetensors") {
        read_safetensors_header(&path, &bytes).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn seeds_of_networks_are_described() {
    for (path, bytes) in seeds("spec") {
        let spec = if bytes.starts_with(b"GGUF") {
            let header = read_header(&path, &bytes).unwrap_or_else(|error| panic!("{error}"));
            describe_header(&Header {
                dialect: Dialect::Gguf,
                keys: &header.metadata,
                tensors: &header.tensors,
            })
        } else {
            let nul = bytes.iter().position(|&byte| byte == 0).expect("a NUL after the configuration");
            let config = serde_json::from_slice(&bytes[..nul]).expect("JSON");
            let header =
                read_safetensors_header(&path, &bytes[nul + 1..]).unwrap_or_else(|error| panic!("{error}"));
            let keys = Metadata::from_json(&config);
            describe_header(&Header { dialect: Dialect::Hub, keys: &keys, tensors: &header.tensors })
        };
        let spec = spec.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(spec.unused.is_empty(), "{}: {:?}", path.display(), spec.unused);
    }
}
