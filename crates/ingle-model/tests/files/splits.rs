//! Models spread over several GGUF files.

use crate::raw::{folder, put, small};
use ingle_model::gguf::{Entry, WriteOptions, read_header, write_files};
use ingle_model::{Error, Result, Source};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// The small file and its three parts, in a folder of the test's own.
fn split_small(test: &str) -> (Source, Vec<PathBuf>) {
    let folder = folder(test);
    let whole = Source::open(&put(&folder, "whole.gguf", small().bytes())).expect("valid");
    let paths =
        rewrite(&whole, &folder.join("part.gguf"), WriteOptions { files: 3, version: 3 }).expect("written");
    (whole, paths)
}

fn rewrite(source: &Source, path: &Path, options: WriteOptions) -> Result<Vec<PathBuf>> {
    let entries: Vec<Entry> = source.tensors().iter().map(Entry::from).collect();
    let bytes = |number: usize| Ok(Cow::Borrowed(source.bytes(&source.tensors()[number])));
    write_files(path, &source.metadata, &entries, options, bytes)
}

fn open_error(path: &Path) -> String {
    Source::open(path).expect_err("not a whole set").to_string()
}

#[test]
fn a_set_is_the_whole_model_whichever_file_is_named() {
    let (whole, paths) = split_small("split_whole");
    assert_eq!(paths[2].file_name().expect("a name"), "part-00003-of-00003.gguf");
    for path in &paths {
        let set = Source::open(path).expect("a whole set");
        assert_eq!(set.path, paths[0]);
        assert_eq!(set.files().count(), 3);
        let sizes = paths.iter().map(|path| std::fs::metadata(path).expect("there").len());
        assert_eq!(set.file_bytes(), sizes.sum::<u64>());
        assert_eq!(set.metadata.string("general.architecture").expect("typed"), Some("qwen3"));
        assert_eq!(set.metadata.count("split.count").expect("typed"), Some(3));
        for tensor in whole.tensors() {
            let found = set.require(&tensor.name).expect("in the set");
            assert_eq!((&found.shape, found.format), (&tensor.shape, tensor.format));
            assert_eq!(set.bytes(found), whole.bytes(tensor), "{}", tensor.name);
        }
    }
}

#[test]
fn a_set_put_together_again_is_the_original() {
    let (whole, paths) = split_small("split_together");
    let set = Source::open(&paths[1]).expect("a whole set");
    let together = whole.path.with_file_name("together.gguf");
    rewrite(&set, &together, WriteOptions::default()).expect("written");
    let rewritten = whole.path.with_file_name("rewritten.gguf");
    rewrite(&whole, &rewritten, WriteOptions::default()).expect("written");
    let read = |path: &Path| std::fs::read(path).expect("readable");
    assert!(read(&together) == read(&rewritten));
}

#[test]
fn the_keys_of_a_set_have_the_types_other_programs_expect() {
    let (_, paths) = split_small("split_types");
    for (number, path) in paths.iter().enumerate() {
        let bytes = std::fs::read(path).expect("readable");
        let header = read_header(path, &bytes).expect("valid");
        let pair = |key: &str, kind: u32, value: &[u8]| [key.as_bytes(), &kind.to_le_bytes(), value].concat();
        for pair in [
            pair("split.no", 2, &(number as u16).to_le_bytes()),
            pair("split.count", 2, &3u16.to_le_bytes()),
            pair("split.tensors.count", 5, &3i32.to_le_bytes()),
        ] {
            assert!(bytes.windows(pair.len()).any(|window| window == pair), "{}", path.display());
        }
        assert_eq!(header.alignment, 64, "the alignment is said in every file");
    }
}

#[test]
fn a_missing_file_is_named() {
    let (_, paths) = split_small("split_missing");
    std::fs::remove_file(&paths[1]).expect("removed");
    for path in [&paths[0], &paths[2]] {
        let error = open_error(path);
        assert!(
            error.contains("1 of them are missing") && error.contains("part-00002-of-00003.gguf"),
            "{error}"
        );
    }
}

#[test]
fn a_renamed_file_is_noticed() {
    let (_, paths) = split_small("split_renamed");
    let lonely = paths[0].with_file_name("model.gguf");
    std::fs::copy(&paths[0], &lonely).expect("copied");
    let error = open_error(&lonely);
    assert!(error.contains("one of 3 files") && error.contains("-00001-of-00003.gguf"), "{error}");
    std::fs::copy(&paths[0], &paths[1]).expect("copied");
    let error = open_error(&paths[2]);
    assert!(error.contains("should be file 1 of 3") && error.contains("says of itself 0 of 3"), "{error}");
}

#[test]
fn files_of_different_sets_are_noticed() {
    let (whole, paths) = split_small("split_mixed");
    let mut other = small();
    other.tensors.truncate(2);
    other.tensors[0].name = b"other.weight".to_vec();
    let other = Source::open(&put(&folder("split_mixed_other"), "o.gguf", other.bytes())).expect("valid");
    let error =
        rewrite(&other, &other.path.with_file_name("part.gguf"), WriteOptions { files: 3, version: 3 });
    assert!(matches!(error, Err(Error::Format { .. })), "two tensors do not make three files");
    drop(whole);
    // The same tensor in two files of a set.
    let mut twice = small();
    twice.tensors = vec![twice.tensors[0].clone()];
    let text = |number: u16| (b"split.no".to_vec(), 2, number.to_le_bytes().to_vec());
    for (number, path) in paths.iter().enumerate() {
        let mut part = twice.clone();
        part.pairs.push(text(number as u16));
        part.pairs.push((b"split.count".to_vec(), 2, 3u16.to_le_bytes().to_vec()));
        part.pairs.push((b"split.tensors.count".to_vec(), 5, 4i32.to_le_bytes().to_vec()));
        std::fs::write(path, part.bytes()).expect("written");
    }
    let error = open_error(&paths[0]);
    assert!(error.contains("3 tensors where 4 are announced"), "{error}");
    for (number, path) in paths.iter().enumerate() {
        let mut part = twice.clone();
        part.pairs.push(text(number as u16));
        part.pairs.push((b"split.count".to_vec(), 2, 3u16.to_le_bytes().to_vec()));
        std::fs::write(path, part.bytes()).expect("written");
    }
    let error = open_error(&paths[0]);
    assert!(error.contains("`token_embd.weight` is there twice"), "{error}");
}

#[test]
fn a_model_may_be_written_over_the_file_it_is_read_from() {
    let folder = folder("over_itself");
    let path = put(&folder, "model.gguf", small().bytes());
    let source = Source::open(&path).expect("valid");
    let before: Vec<Vec<u8>> = source.tensors().iter().map(|tensor| source.bytes(tensor).to_vec()).collect();
    rewrite(&source, &path, WriteOptions { version: 2, files: 1 }).expect("written");
    let after = Source::open(&path).expect("valid");
    for ((tensor, new), bytes) in source.tensors().iter().zip(after.tensors()).zip(&before) {
        assert_eq!(source.bytes(tensor), bytes, "the mapped file is still what it was");
        assert_eq!(after.bytes(new), bytes);
    }
    assert_eq!(std::fs::read_dir(&folder).expect("folder").count(), 1, "nothing temporary is left");
}

#[test]
fn a_failed_write_leaves_nothing_behind() {
    let folder = folder("failed_write");
    let entries = [Entry { name: "t".into(), shape: vec![2], format: ingle_model::Format::F32 }];
    let path = folder.join("m.gguf");
    let result = write_files(&path, &Default::default(), &entries, WriteOptions::default(), |_| {
        Err(Error::tensor("t", "cannot be made"))
    });
    assert!(result.expect_err("failed").to_string().contains("cannot be made"));
    assert_eq!(std::fs::read_dir(&folder).expect("folder").count(), 0);
}

#[test]
fn files_of_a_set_have_about_the_same_size() {
    let folder = folder("even");
    let entries: Vec<Entry> = (0..100)
        .map(|at| Entry { name: format!("t{at}"), shape: vec![256 + at], format: ingle_model::Format::F32 })
        .collect();
    let options = WriteOptions { files: 7, version: 3 };
    let paths = write_files(&folder.join("m.gguf"), &Default::default(), &entries, options, |at| {
        Ok(Cow::Owned(vec![at as u8; (256 + at) * 4]))
    });
    let sizes: Vec<u64> =
        paths.expect("written").iter().map(|path| std::fs::metadata(path).expect("there").len()).collect();
    let (least, most) = (sizes.iter().min().expect("files"), sizes.iter().max().expect("files"));
    assert!(most - least < 4000, "{sizes:?}");
}
