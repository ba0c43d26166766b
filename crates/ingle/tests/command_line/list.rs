//! Models that other programs keep are found, run by their names, and compared with what was published.

use super::{Ended, command};
use ingle_store::Digest;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A home in which Ollama keeps two models and Hugging Face's tools one, all of them ember.
fn home(name: &str) -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    _ = std::fs::remove_dir_all(&home);
    let ember = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/ember/ember-q8_0.gguf");
    let digest = Digest::of_file(&ember, &mut |_| {}).unwrap();
    let blob = home.join(format!(".ollama/models/blobs/sha256-{}", digest.hex()));
    let size = ember.metadata().unwrap().len();
    let manifest = format!(
        r#"{{"layers": [{{"mediaType": "application/vnd.ollama.image.model", "digest": "{digest}", "size": {size}}}]}}"#
    );
    for (path, bytes) in [
        (blob, std::fs::read(&ember).unwrap()),
        (home.join(".ollama/models/manifests/registry.ollama.ai/library/glow/tiny"), manifest.into_bytes()),
        (home.join(".ollama/models/manifests/registry.ollama.ai/library/broken/tiny"), b"?".to_vec()),
        (home.join(".lmstudio/models/ann/Glow-GGUF/Glow-Q8_0.gguf"), std::fs::read(&ember).unwrap()),
        (home.join(".lmstudio/models/bob/Glow-GGUF/Glow-Q8_0.gguf"), std::fs::read(&ember).unwrap()),
    ] {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    home
}

fn at_home(home: &Path, args: &[&str]) -> Ended {
    let mut command = command(args);
    let output = command.env("HOME", home).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

#[test]
fn models_of_other_programs_are_listed_and_run_by_name() {
    let home = home("list-home");
    let listed = at_home(&home, &["list"]);
    assert_eq!(listed.code, Some(0), "{}", listed.err);
    for line in ["glow:tiny", "ann/Glow-GGUF/Glow-Q8_0", "bob/Glow-GGUF/Glow-Q8_0", "ember"] {
        assert!(listed.out.lines().any(|found| found.starts_with(&format!("{line} "))), "{}", listed.out);
    }
    assert!(listed.out.contains("Ollama") && listed.out.contains("LM Studio"), "{}", listed.out);
    assert!(listed.err.contains("broken:tiny"), "{}", listed.err);
    let document: Value = serde_json::from_str(&at_home(&home, &["list", "--json"]).out).unwrap();
    assert_eq!(document["models"].as_array().unwrap().len(), 3, "{document:#}");

    let args = ["--temperature", "0", "--max-tokens", "12"];
    let answer = |model: &str| at_home(&home, &[&["run", model, "What is Ingle?"], &args[..]].concat());
    let expected = answer("ember").out;
    for name in ["glow:tiny", "ann/Glow-GGUF/Glow-Q8_0", "ann/glow-gguf/glow-q8_0"] {
        let ended = answer(name);
        assert_eq!((ended.code, &ended.out), (Some(0), &expected), "{name}: {}", ended.err);
    }
    let several = answer("Glow-Q8_0");
    assert_ne!(several.code, Some(0));
    assert!(several.err.contains("several models") && several.err.contains("bob/Glow"), "{}", several.err);
    // one word that means no model is a prompt, as ever
    assert_eq!(at_home(&home, &["run", "Glow", "--max-tokens", "4"]).code, Some(0));
}

#[test]
fn a_damaged_model_is_told_apart_from_what_was_published() {
    let home = home("verify-home");
    let verified = at_home(&home, &["verify"]);
    assert_eq!(verified.code, Some(0), "{}", verified.err);
    assert!(verified.out.contains("glow:tiny: as published (sha256:"), "{}", verified.out);
    let unknown = at_home(&home, &["verify", "ann/Glow-GGUF/Glow-Q8_0"]);
    assert!(unknown.err.contains("nothing to compare it with"), "{}", unknown.err);
    assert_eq!(at_home(&home, &["verify", "nobody"]).code, Some(2));

    let blobs = home.join(".ollama/models/blobs");
    let blob = std::fs::read_dir(blobs).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let damaged = at_home(&home, &["verify", "glow:tiny", "--quiet"]);
    assert_eq!(damaged.code, Some(1));
    assert!(damaged.out.contains("glow:tiny") && damaged.out.contains("damaged"), "{}", damaged.out);
}

#[test]
fn where_there_are_none_the_list_says_where_it_looked() {
    let nowhere = Path::new(env!("CARGO_TARGET_TMPDIR")).join("empty-home");
    std::fs::create_dir_all(&nowhere).unwrap();
    let listed = at_home(&nowhere, &["list"]);
    assert_eq!(listed.code, Some(0));
    assert!(
        listed.out.contains("ember") && listed.err.contains(".ollama/models"),
        "{} {}",
        listed.out,
        listed.err
    );
}
