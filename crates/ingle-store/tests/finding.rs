//! Models are found where other programs keep them, and what they wrote is not trusted.

use ingle_store::{Choice, Folders, Kind, Listing, Program};
use std::path::{Path, PathBuf};

/// A digest; of what does not matter here.
const DIGEST: &str = "d5bfa6d4ff1f36ab0bf1e9a2f0a6e8a8b6b1cc4f7d0a2c2a7a1e4f6b5a3c2d1e";

/// An empty folder of a test's own.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn write(path: PathBuf, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn listing(program: Program, folder: &Path) -> Listing {
    Listing::of(&Folders(vec![(program, folder.to_owned())]))
}

fn names(listing: &Listing) -> Vec<&str> {
    listing.models.iter().map(|found| found.name.as_str()).collect()
}

fn manifest(digest: &str, size: u64) -> String {
    format!(
        r#"{{"schemaVersion": 2, "layers": [
            {{"mediaType": "application/vnd.ollama.image.template", "digest": "sha256:{DIGEST}", "size": 1}},
            {{"mediaType": "application/vnd.ollama.image.model", "digest": "{digest}", "size": {size}}}]}}"#
    )
}

#[test]
fn ollamas_models_are_called_as_there_and_have_their_digests() {
    let models = folder("ollama");
    write(models.join(format!("blobs/sha256-{DIGEST}")), b"GGUF");
    let good = manifest(&format!("sha256:{DIGEST}"), 4);
    let at = |name: &str| models.join("manifests").join(name);
    write(at("registry.ollama.ai/library/qwen3/4b"), good.as_bytes());
    write(at("registry.ollama.ai/ann/poet/latest"), good.as_bytes());
    write(at("hf.co/Qwen/Qwen3-4B-GGUF/Q8_0"), good.as_bytes());
    let found = listing(Program::Ollama, &models);
    assert_eq!(names(&found), ["ann/poet:latest", "hf.co/Qwen/Qwen3-4B-GGUF:Q8_0", "qwen3:4b"]);
    assert_eq!(found.troubles, Vec::<String>::new());
    let Choice::One(model) = found.choose("qwen3:4b") else { panic!("{found:?}") };
    assert_eq!((model.kind, model.bytes), (Kind::Gguf, 4));
    assert_eq!(model.digest.unwrap().to_string(), format!("sha256:{DIGEST}"));
    assert_eq!(std::fs::read(&model.path).unwrap(), b"GGUF");
    // three names of one file are one model where any of them is meant
    assert!(matches!(found.choose("poet:latest"), Choice::One(_)));
}

#[test]
fn manifests_that_lie_or_lead_elsewhere_are_told_of_and_not_followed() {
    let models = folder("hostile");
    write(models.join("secret"), b"secret");
    write(models.join(format!("blobs/sha256-{DIGEST}")), b"GGUF");
    let at = |tag: &str| models.join("manifests/registry.ollama.ai/library/bad").join(tag);
    write(at("traversal"), manifest("sha256:../../secret", 6).as_bytes());
    write(at("absolute"), manifest("/etc/passwd", 6).as_bytes());
    write(at("short"), manifest(&format!("sha256:{DIGEST}"), 5).as_bytes());
    write(at("missing"), manifest(&format!("sha256:{}", "0".repeat(64)), 4).as_bytes());
    write(at("nothing"), b"");
    write(at("words"), b"not JSON");
    write(at("deep"), "[".repeat(100_000).as_bytes());
    write(at("number"), br#"{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": 5}]}"#);
    write(at("large"), &vec![b' '; 3 << 20]);
    write(at("cloud"), br#"{"layers": []}"#);
    write(at("strange"), br#"{"layers": 7}"#);
    std::fs::create_dir_all(at("folder")).unwrap();
    write(models.join("manifests/registry.ollama.ai/library/.hidden/x"), b"not looked at");
    write(models.join("manifests/stray"), b"a file where a folder should be");
    let found = listing(Program::Ollama, &models);
    assert_eq!(names(&found), Vec::<&str>::new());
    for word in
        ["traversal", "absolute", "short", "missing", "nothing", "words", "deep", "number", "large", "folder"]
    {
        assert_eq!(
            found.troubles.iter().filter(|trouble| trouble.contains(&format!("bad:{word} "))).count(),
            1,
            "{word}: {found:?}"
        );
    }
    for word in ["cloud", "strange", "hidden"] {
        assert!(!found.troubles.iter().any(|trouble| trouble.contains(word)), "{word}: {found:?}");
    }
}

#[test]
fn files_of_folders_are_called_by_their_paths() {
    let models = folder("plain");
    write(models.join("ann/Poet-GGUF/Poet-Q4_K_M.gguf"), b"1234");
    write(models.join("ann/Poet-GGUF/mmproj-Poet-f16.gguf"), b"12");
    write(models.join("ann/Large-GGUF/Large-00001-of-00002.gguf"), b"123");
    write(models.join("ann/Large-GGUF/Large-00002-of-00002.gguf"), b"12345");
    write(models.join("ann/Large-GGUF/Large-00001-of-00003.gguf"), b"7");
    write(models.join("bob/Poet/config.json"), b"{}");
    write(models.join("bob/Poet/model-00001-of-00002.safetensors"), b"1234567");
    write(models.join("bob/Poet/model-00002-of-00002.safetensors"), b"123");
    write(models.join("bob/notes/config.json"), b"{}");
    write(models.join("a/b/c/d/e/f/too-deep.gguf"), b"1");
    write(models.join(".hidden/x.gguf"), b"1");
    let found = listing(Program::LmStudio, &models);
    let all: Vec<(&str, u64, Kind)> =
        found.models.iter().map(|found| (found.name.as_str(), found.bytes, found.kind)).collect();
    assert_eq!(
        all,
        [
            ("ann/Large-GGUF/Large", 8, Kind::Gguf),
            ("ann/Large-GGUF/Large", 1, Kind::Gguf),
            ("ann/Poet-GGUF/Poet-Q4_K_M", 4, Kind::Gguf),
            ("bob/Poet", 10, Kind::Checkpoint),
        ]
        .map(|(name, bytes, kind)| (name, bytes, kind))
    );
    assert!(matches!(found.choose("Poet-Q4_K_M"), Choice::One(_)));
    assert!(matches!(found.choose("large"), Choice::Several(_)));
}

#[cfg(unix)]
#[test]
fn links_are_followed_to_files_and_not_round_in_circles() {
    use std::os::unix::fs::symlink;
    let models = folder("links");
    write(models.join("elsewhere/real.bin"), b"GGUF");
    std::fs::create_dir_all(models.join("own")).unwrap();
    symlink(models.join("elsewhere/real.bin"), models.join("own/linked.gguf")).unwrap();
    symlink(models.join("nowhere"), models.join("own/broken.gguf")).unwrap();
    symlink(models.join("own"), models.join("own/again")).unwrap();
    assert_eq!(names(&listing(Program::Ingle, &models)), ["own/linked"]);
}

#[cfg(unix)]
#[test]
fn hugging_faces_cache_shows_its_newest_revisions_and_their_digests() {
    use std::os::unix::fs::symlink;
    let hub = folder("hub");
    let repository = hub.join("models--ann--Poet-GGUF");
    write(repository.join("blobs").join(DIGEST), b"GGUF");
    for revision in ["0123abc", "4567def"] {
        std::fs::create_dir_all(repository.join("snapshots").join(revision)).unwrap();
    }
    symlink(format!("../../blobs/{DIGEST}"), repository.join("snapshots/4567def/Poet-Q8_0.gguf")).unwrap();
    symlink(format!("../../blobs/{DIGEST}"), repository.join("snapshots/0123abc/Old-Q8_0.gguf")).unwrap();
    write(repository.join("refs/main"), b"4567def\n");
    // half a checkpoint, and a whole one
    let whole = hub.join("models--bob--Poet/snapshots/00aa");
    write(whole.join("config.json"), b"{}");
    write(whole.join("model.safetensors"), b"12");
    let half = hub.join("models--bob--Half/snapshots/00aa");
    write(half.join("config.json"), b"{}");
    write(half.join("model-00001-of-00002.safetensors"), b"12");
    // a revision that would lead elsewhere is not followed
    write(hub.join("models--eve--Evil/refs/main"), b"../../models--ann--Poet-GGUF/snapshots/4567def");
    write(hub.join("datasets--ann--Poems/snapshots/00aa/x.gguf"), b"1");
    let found = listing(Program::HuggingFace, &hub);
    assert_eq!(names(&found), ["ann/Poet-GGUF/Poet-Q8_0", "bob/Poet"]);
    assert_eq!(found.models[0].digest.unwrap().hex(), DIGEST);
    assert_eq!(found.models[1].digest, None);
}

#[test]
fn folders_that_are_not_there_are_no_trouble() {
    let nowhere = Path::new(env!("CARGO_TARGET_TMPDIR")).join("not-there");
    for program in
        [Program::Ingle, Program::Ollama, Program::HuggingFace, Program::LmStudio, Program::LlamaCpp]
    {
        let found = listing(program, &nowhere);
        assert!(found.models.is_empty() && found.troubles.is_empty(), "{found:?}");
    }
}
