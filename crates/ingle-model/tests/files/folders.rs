//! What can be opened, and what is said about paths and folders that cannot.

use crate::raw::{folder, put, safetensors, small};
use ingle_model::source::SourceKind;
use ingle_model::{Error, Source};
use std::path::Path;

const WEIGHTS: &str = r#"{"w":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}"#;

fn open_error(path: &Path) -> String {
    let error = Source::open(path).expect_err("cannot be opened").to_string();
    assert!(error.contains(&path.display().to_string()) || path.is_dir(), "names the path: {error}");
    error
}

/// A shard with these tensors, four bytes each.
fn shard(names: &[&str]) -> Vec<u8> {
    let entry = |(at, name): (usize, &&str)| {
        format!(r#""{name}":{{"dtype":"F32","shape":[1],"data_offsets":[{},{}]}}"#, at * 4, at * 4 + 4)
    };
    let entries: Vec<String> = names.iter().enumerate().map(entry).collect();
    safetensors(&format!("{{{}}}", entries.join(",")), names.len() * 4)
}

#[test]
fn a_hugging_face_folder_is_opened_with_its_documents() {
    let folder = folder("hf");
    put(&folder, "config.json", r#"{"model_type":"qwen3"}"#);
    put(&folder, "model.safetensors", safetensors(WEIGHTS, 8));
    put(&folder, "tokenizer.json", "{}");
    put(&folder, "chat_template.jinja", "{{ x }}");
    let source = Source::open(&folder).expect("valid");
    assert_eq!(source.kind, SourceKind::HuggingFace);
    assert_eq!(source.config["model_type"], "qwen3");
    assert_eq!(source.generation_config, None);
    assert_eq!(source.tokenizer_json().expect("readable").as_deref(), Some(&b"{}"[..]));
    assert_eq!(source.chat_template_jinja().expect("readable").as_deref(), Some(&b"{{ x }}"[..]));
    assert_eq!(source.tokenizer_config_json().expect("readable"), None);
    assert_eq!(source.chat_template_json().expect("readable"), None);
    assert_eq!(source.bytes(source.require("w").expect("there")), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert!(source.require("x").expect_err("absent").to_string().contains("`x` is needed, but"));
    assert!(source.document("../hf/config.json").is_err() && source.document("/etc/hostname").is_err());
    put(&folder, "generation_config.json", r#"{"top_k":20}"#);
    let source = Source::open(&folder).expect("valid");
    assert_eq!(source.generation_config.expect("there")["top_k"], 20);
}

#[test]
fn shards_are_put_together_by_the_index() {
    let folder = folder("hf_shards");
    put(&folder, "config.json", "{}");
    put(&folder, "model-00001-of-00002.safetensors", shard(&["a", "b", "stale"]));
    put(&folder, "model-00002-of-00002.safetensors", shard(&["c", "stale"]));
    let index = r#"{"metadata":{},"weight_map":{
        "a":"model-00001-of-00002.safetensors","b":"model-00001-of-00002.safetensors",
        "c":"model-00002-of-00002.safetensors"}}"#;
    put(&folder, "model.safetensors.index.json", index);
    let source = Source::open(&folder).expect("valid");
    let names: Vec<&str> = source.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(source.bytes(source.require("c").expect("there")), [0, 1, 2, 3]);
    assert_eq!(source.bytes(source.require("b").expect("there")), [4, 5, 6, 7]);

    put(&folder, "model.safetensors.index.json", index.replace("\"c\":", "\"d\":"));
    assert!(open_error(&folder).contains("tensor `d` should be in"));
    std::fs::remove_file(folder.join("model-00002-of-00002.safetensors")).expect("removed");
    assert!(open_error(&folder).contains("lacks model-00002-of-00002.safetensors"));
}

#[test]
fn an_index_cannot_reach_outside_its_folder() {
    let folder = folder("hf_traversal");
    put(&folder, "config.json", "{}");
    put(folder.parent().expect("a parent"), "outside.safetensors", shard(&["a"]));
    let absolute = folder.parent().expect("a parent").join("outside.safetensors").display().to_string();
    for name in [
        "../outside.safetensors",
        &absolute,
        "./x",
        "a/b",
        "..",
        ".",
        "",
        "..\\\\outside",
        "C:x",
        "x/",
        "a\\u0000b",
    ] {
        put(&folder, "model.safetensors.index.json", format!(r#"{{"weight_map":{{"a":"{name}"}}}}"#));
        assert!(open_error(&folder).contains("not directly in the folder"), "{name}");
    }
    for (json, said) in [
        ("{}", "no `weight_map`"),
        (r#"{"weight_map":{"a":1}}"#, "`a` has no file name"),
        ("{\"weight_map\":", "not JSON"),
        ("", "not JSON"),
    ] {
        put(&folder, "model.safetensors.index.json", json);
        assert!(open_error(&folder).contains(said), "{json}: {}", open_error(&folder));
    }
}

#[test]
fn a_tensor_of_another_number_format_is_only_missed_when_it_is_needed() {
    let folder = folder("hf_unread");
    put(&folder, "config.json", "{}");
    let json = r#"{"mask":{"dtype":"BOOL","shape":[4],"data_offsets":[0,4]},"w":{"dtype":"F16","shape":[2],"data_offsets":[4,8]}}"#;
    put(&folder, "model.safetensors", safetensors(json, 8));
    let source = Source::open(&folder).expect("valid");
    assert_eq!(source.tensors().len(), 1);
    assert!(source.require("mask").expect_err("not read").to_string().contains("stored as BOOL"));
}

#[test]
fn folders_without_a_model_say_what_to_fetch() {
    let empty = folder("empty");
    assert!(open_error(&empty).contains("no config.json and no .gguf"));

    let config_only = folder("config_only");
    put(&config_only, "config.json", "{}");
    assert!(open_error(&config_only).contains("no weights; fetch model.safetensors"));

    put(&config_only, "pytorch_model.bin", "PK");
    assert!(open_error(&config_only).contains("PyTorch pickles (pytorch_model.bin)"));

    put(&config_only, "consolidated.safetensors", "");
    assert!(open_error(&config_only).contains("but consolidated.safetensors"));

    let broken = folder("broken_config");
    put(&broken, "model.safetensors", safetensors(WEIGHTS, 8));
    assert!(open_error(&broken).contains("no config.json"));
    put(&broken, "config.json", "{\n \"a\": oops}");
    assert!(open_error(&broken).contains("at byte 8"), "{}", open_error(&broken));
    put(&broken, "config.json", "[]");
    assert!(open_error(&broken).contains("a JSON object was expected"));
    put(&broken, "config.json", "[".repeat(100_000));
    assert!(open_error(&broken).contains("recursion limit"));
    put(&broken, "config.json", "version https://git-lfs.github.com/spec/v1\n");
    assert!(open_error(&broken).contains("git lfs pull"));
}

#[test]
fn a_folder_with_one_gguf_model_is_that_model() {
    let folder = folder("one_gguf");
    put(&folder, "config.json", "{}");
    put(&folder, "README.md", "");
    let path = put(&folder, "m.gguf", small().bytes());
    let source = Source::open(&folder).expect("valid");
    assert_eq!((source.kind, source.path), (SourceKind::Gguf, path));
    put(&folder, "n.gguf", small().bytes());
    let error = open_error(&folder);
    assert!(error.contains("holds 2 GGUF files; say which one: m.gguf, n.gguf"), "{error}");
}

#[test]
fn paths_that_are_no_model_are_refused_with_the_reason() {
    let folder = folder("no_model");
    assert!(matches!(Source::open(&folder.join("absent.gguf")), Err(Error::Io { .. })));
    assert!(open_error(&put(&folder, "empty.gguf", "")).contains("is empty"));
    assert!(
        open_error(&put(&folder, "w.safetensors", safetensors(WEIGHTS, 8)))
            .contains("the folder that holds it")
    );
    assert!(open_error(&put(&folder, "page.gguf", "<html>login</html>")).contains("web page"));
    #[cfg(unix)]
    {
        assert!(open_error(Path::new("/dev/zero")).contains("not a regular file"));
        use std::os::unix::fs::PermissionsExt;
        let closed = put(&folder, "closed.gguf", small().bytes());
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).expect("changed");
        // The superuser reads it all the same.
        if std::fs::File::open(&closed).is_err() {
            assert!(open_error(&closed).contains("cannot read"));
        }
    }
}

/// As in the hub's own cache: links to blobs, of which one may not have been fetched.
#[cfg(unix)]
#[test]
fn links_are_followed_and_a_dangling_one_is_named() {
    let folder = folder("links");
    let blobs = crate::raw::folder("links_blobs");
    put(&blobs, "c0", "{}");
    put(&blobs, "d1", safetensors(WEIGHTS, 8));
    std::os::unix::fs::symlink(blobs.join("c0"), folder.join("config.json")).expect("linked");
    std::os::unix::fs::symlink(blobs.join("d1"), folder.join("model.safetensors")).expect("linked");
    assert_eq!(Source::open(&folder).expect("valid").tensors().len(), 1);
    std::fs::remove_file(blobs.join("d1")).expect("removed");
    let error = open_error(&folder);
    assert!(error.contains("cannot read") && error.contains("model.safetensors"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let folder = folder("pipe");
    let path = folder.join("pipe.gguf");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    if !made.is_ok_and(|status| status.success()) {
        crate::tell("mkfifo absent: skipped");
        return;
    }
    assert!(open_error(&path).contains("not a regular file"));
}

#[test]
fn a_model_inside_the_program_is_opened_from_its_bytes() {
    let bytes: &'static [u8] = small().bytes().leak();
    let source = Source::from_bytes("ember", bytes).expect("valid");
    assert_eq!((source.path.as_path(), source.file_bytes()), (Path::new("ember"), bytes.len() as u64));
    let tensor = source.tensor("output_norm.weight").expect("there");
    assert_eq!(source.bytes(tensor), [192, 193]);
    source.release(tensor);
    assert_eq!(source.bytes(tensor), [192, 193]);
    let cut: &'static [u8] = &bytes[..100];
    assert!(Source::from_bytes("ember", cut).expect_err("cut").to_string().contains("ember"));
}

#[test]
fn a_description_from_elsewhere_reaches_no_bytes() {
    let bytes: &'static [u8] = small().bytes().leak();
    let source = Source::from_bytes("m", bytes).expect("valid");
    let tensor = source.tensors()[0].clone();
    for (file, offset, length) in [(7, 0, 1), (0, usize::MAX, 1), (0, 1, usize::MAX), (0, bytes.len() + 1, 0)]
    {
        let strange = ingle_model::TensorInfo { file, offset, bytes: length, ..tensor.clone() };
        assert!(source.bytes(&strange).is_empty());
        source.release(&strange);
    }
}

/// Kilobytes of the file that are in this process's memory.
#[cfg(target_os = "linux")]
fn resident_kilobytes(name: &str) -> u64 {
    let maps = std::fs::read_to_string("/proc/self/smaps").expect("readable");
    let of_file = maps.split_once(name).expect("the file is mapped").1;
    let line = of_file.lines().find(|line| line.starts_with("Rss:")).expect("a figure");
    line.split_whitespace().nth(1).and_then(|figure| figure.parse().ok()).expect("a number")
}

#[cfg(target_os = "linux")]
#[test]
fn a_released_tensor_leaves_memory_and_can_be_read_again() {
    const LENGTH: usize = 32 << 20;
    let folder = folder("release");
    let entries = [ingle_model::gguf::Entry {
        name: "t".into(),
        shape: vec![LENGTH / 4],
        format: ingle_model::Format::F32,
    }];
    let path = folder.join("released-and-read-again.gguf");
    let bytes: Vec<u8> = (0..LENGTH).map(|at| (at / 1000) as u8).collect();
    ingle_model::gguf::write_files(&path, &Default::default(), &entries, Default::default(), |_| {
        Ok(bytes.as_slice().into())
    })
    .expect("written");
    let source = Source::open(&path).expect("valid");
    let tensor = &source.tensors()[0];
    assert!(source.bytes(tensor) == bytes);
    let before = resident_kilobytes("released-and-read-again.gguf");
    source.release(tensor);
    let after = resident_kilobytes("released-and-read-again.gguf");
    assert!(before >= 32 << 10 && after <= 256, "{before} kB, then {after} kB");
    assert!(source.bytes(tensor) == bytes, "the same bytes come back");
    source.release_all();
    let after = resident_kilobytes("released-and-read-again.gguf");
    assert!(after <= 256, "{after} kB");
    assert!(source.bytes(tensor) == bytes, "and once more");
}
