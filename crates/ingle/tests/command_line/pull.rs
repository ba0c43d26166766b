//! A model is fetched, run, and removed; whatever ends the program in between, nothing half-done is seen.

#[path = "../../../ingle-store/tests/pulling/site.rs"]
mod site;

use super::{Ended, command};
use ingle_store::Digest;
use serde_json::Value;
use site::{Log, Reply, start};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A registry with ember in it, and an empty home.
fn registry(name: &str) -> (String, Log, PathBuf) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/ember/ember-q8_0.gguf");
    let digest = Digest::of_file(&file, &mut |_| {}).unwrap();
    let bytes = std::fs::read(file).unwrap();
    let manifest = format!(
        r#"{{"layers": [{{"mediaType": "application/vnd.ollama.image.model", "digest": "{digest}", "size": {}}}]}}"#,
        bytes.len()
    );
    let (base, log) = start(move |asked, _| match asked.path.as_str() {
        "/v2/library/glow/manifests/tiny" => Reply::whole(manifest.clone()),
        path if path == format!("/v2/library/glow/blobs/{digest}") => Reply::part(asked, &bytes),
        _ => Reply::status(404),
    });
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    _ = std::fs::remove_dir_all(&home);
    std::fs::create_dir_all(&home).unwrap();
    (base, log, home)
}

fn at_home(home: &Path, base: &str, args: &[&str]) -> Command {
    let mut command = command(args);
    command.env("HOME", home).env("INGLE_REGISTRY", base).env("INGLE_HUB", base).env("NO_PROXY", "*");
    command
}

fn ended(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

#[test]
fn a_model_is_fetched_run_by_its_name_and_removed() {
    let (base, log, home) = registry("pull-home");
    let ingle = |args: &[&str]| ended(at_home(&home, &base, args));
    let pulled = ingle(&["pull", "glow:tiny"]);
    assert_eq!(pulled.code, Some(0), "{}", pulled.err);
    assert!(pulled.out.contains("glow:tiny is here"), "{}", pulled.out);
    assert!(
        ingle(&["list"]).out.lines().any(|line| line.starts_with("glow:tiny ") && line.ends_with("Ingle"))
    );
    let question = ["What is Ingle?", "--temperature", "0", "--max-tokens", "8"];
    let answer = |model: &str| ingle(&[&["run", model], &question[..]].concat());
    let said = answer("glow:tiny");
    assert_eq!((said.code, &said.out), (Some(0), &answer("ember").out), "{}", said.err);
    assert!(ingle(&["verify"]).out.contains("glow:tiny: as published"));
    let asked = log.lock().unwrap().len();
    assert!(ingle(&["pull", "glow:tiny"]).out.contains("is here already"));
    assert_eq!(log.lock().unwrap().len(), asked + 1, "the manifest alone");

    let mut forbidden = at_home(&home, &base, &["pull", "glow:tiny"]);
    forbidden.env("INGLE_OFFLINE", "1");
    let forbidden = ended(forbidden);
    assert!(forbidden.code == Some(2) && forbidden.err.contains("INGLE_OFFLINE"), "{}", forbidden.err);
    assert_eq!(log.lock().unwrap().len(), asked + 1, "nobody was asked");

    assert_eq!(ingle(&["rm", "glow:tiny"]).code, Some(0));
    assert!(!ingle(&["list"]).out.contains("glow"));
    assert_eq!(ingle(&["rm", "glow:tiny"]).code, Some(2));
    let left = ingle(&["gc"]);
    assert!(left.out.contains("0 files are gone"), "rm has freed them: {}", left.out);
    let missing = ingle(&["run", "qwen3:4b"]);
    assert!(missing.err.contains("ingle pull qwen3:4b"), "{}", missing.err);
}

#[test]
fn a_model_goes_to_a_machine_without_a_network_in_one_file() {
    let (base, _, home) = registry("bundle-home");
    let ingle = |args: &[&str]| ended(at_home(&home, &base, args));
    assert_eq!(ingle(&["pull", "glow:tiny"]).code, Some(0));
    let file = home.join("glow.bundle");
    let file = file.to_str().unwrap();
    let made = ingle(&["bundle", "glow:tiny", "-o", file, "--volume", "1MB"]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    assert_eq!(made.out.lines().count(), 4, "{}", made.out);
    assert_eq!(ingle(&["bundle", "ember", "-o", file]).code, Some(2));

    let far = home.join("far");
    std::fs::create_dir_all(&far).unwrap();
    let first = format!("{file}.001");
    // where there is no network at all, if that can be had here
    let alone = Command::new("unshare").args(["-rn", "true"]).status().is_ok_and(|status| status.success());
    let there = |args: &[&str]| {
        let inner = at_home(&far, "http://127.0.0.1:1", args);
        let mut outer = Command::new(if alone { "unshare" } else { "env" });
        outer.args(if alone { &["-rn"][..] } else { &[] }).arg(inner.get_program()).args(inner.get_args());
        outer.env("HOME", &far).env_remove("XDG_DATA_HOME").stdin(std::process::Stdio::null());
        ended(outer)
    };
    let come = there(&["import", &first]);
    assert!(come.code == Some(0) && come.out.contains("glow:tiny is here"), "{} {}", come.out, come.err);
    let question = ["What is Ingle?", "--temperature", "0", "--max-tokens", "8"];
    let said = there(&[&["run", "glow:tiny"], &question[..]].concat());
    assert_eq!(said.out, ingle(&[&["run", "ember"], &question[..]].concat()).out, "{}", said.err);
    assert!(there(&["verify"]).out.contains("as published"));
    let twice = there(&["import", file]);
    assert!(twice.code == Some(1) && twice.err.contains("glow.bundle"), "{}", twice.err);
}

#[test]
fn mistakes_are_named() {
    let (base, _, home) = registry("pull-mistakes");
    for (model, said) in [
        ("nobody:tiny", "404"),
        ("ann/nobody", "404"),
        ("../../etc/passwd", "no model to fetch"),
        ("http://example.org/x.gguf", "only https"),
        ("https://127.0.0.1:1/x.gguf", "cannot be fetched"),
    ] {
        let refused = ended(at_home(&home, &base, &["pull", model]));
        assert!(matches!(refused.code, Some(1 | 2)), "{model}");
        assert!(refused.err.contains(said), "{model}: {}", refused.err);
    }
    let mut nowhere = at_home(&home, &base, &["pull", "glow:tiny"]);
    let nowhere = ended({
        nowhere.env_remove("HOME");
        nowhere
    });
    assert!(nowhere.err.contains("HOME"), "{}", nowhere.err);
}

/// Ends the program at many moments of fetching, removing and collecting.
#[test]
fn whatever_ends_the_program_the_store_is_whole_or_says_what_is_not() {
    let (base, _, home) = registry("pull-killed");
    let mut wait = 1;
    for round in 0..40 {
        let args: &[&str] = match round % 4 {
            0..3 => &["pull", "glow:tiny", "--quiet"],
            _ => &["rm", "glow:tiny"],
        };
        let mut child = at_home(&home, &base, args).spawn().unwrap();
        // from hardly begun to done
        wait = (wait * 7 + 3) % 60;
        std::thread::sleep(Duration::from_millis(wait));
        _ = child.kill();
        _ = child.wait();
        let listed = ended(at_home(&home, &base, &["list", "--json"]));
        let listed: Value = serde_json::from_str(&listed.out).unwrap();
        assert_eq!(listed["troubles"], serde_json::json!([]), "round {round}");
        let verified = ended(at_home(&home, &base, &["verify"]));
        assert_eq!(verified.code, Some(0), "round {round}: {}", verified.out);
    }
    assert_eq!(ended(at_home(&home, &base, &["pull", "glow:tiny"])).code, Some(0));
    assert_eq!(ended(at_home(&home, &base, &["gc"])).code, Some(0));
    assert!(ended(at_home(&home, &base, &["verify"])).out.contains("as published"));
}
