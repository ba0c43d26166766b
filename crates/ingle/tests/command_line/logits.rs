//! `ingle logits` against the reference library's outputs.

use super::{fixture, folder, ingle, succeeds};
use safetensors::{Dtype, SafeTensors};
use std::path::Path;

/// Tensors of four-byte numbers.
struct Tensors(Vec<u8>);

impl Tensors {
    fn read(path: &Path) -> Tensors {
        Tensors(std::fs::read(path).unwrap())
    }

    fn file(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.0).unwrap()
    }

    fn words(&self, key: &str) -> Vec<[u8; 4]> {
        let file = self.file();
        let tensor = file.tensor(key).unwrap_or_else(|error| panic!("{key}: {error}"));
        tensor.data().chunks_exact(4).map(|four| four.try_into().unwrap()).collect()
    }

    fn floats(&self, key: &str) -> Vec<f32> {
        self.words(key).into_iter().map(f32::from_le_bytes).collect()
    }

    fn ids(&self, key: &str) -> Vec<i32> {
        self.words(key).into_iter().map(i32::from_le_bytes).collect()
    }
}

fn largest_difference(ours: &[f32], golden: &[f32]) -> f32 {
    assert_eq!(ours.len(), golden.len());
    ours.iter().zip(golden).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn nmse(ours: &[f32], golden: &[f32]) -> f64 {
    assert_eq!(ours.len(), golden.len());
    let error: f64 = ours.iter().zip(golden).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    error / golden.iter().map(|&b| f64::from(b).powi(2)).sum::<f64>()
}

fn list(ids: &[i32]) -> String {
    ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}

/// Runs the command on every model and prompt with a golden output.
fn on_every_golden(name: &str, extra: &[&str], check: impl Fn(&str, &Tensors, &Tensors, &str)) {
    let folder = folder(name);
    let output = folder.join("out.safetensors");
    for family in ["qwen2", "qwen3"] {
        let golden = Tensors::read(Path::new(&fixture(&format!("{family}/golden.safetensors"))));
        for model in [family.to_owned(), format!("gguf/{family}.gguf")] {
            for prompt in ["a", "b"] {
                let tokens = list(&golden.ids(&format!("{prompt}.input_ids")));
                let greedy = golden.ids(&format!("{prompt}.greedy_ids")).len().to_string();
                let (model_path, output_path) = (fixture(&model), output.to_str().unwrap());
                let mut args = vec!["logits", &model_path, "--tokens", &tokens, "-o", output_path];
                args.extend(["--greedy", &greedy]);
                args.extend(extra);
                succeeds(&args);
                check(&format!("{model} {prompt}"), &Tensors::read(&output), &golden, prompt);
            }
        }
    }
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1, "nothing but the result is left behind");
}

#[test]
fn reference_logits_and_greedy_tokens_equal_the_reference_library() {
    on_every_golden("logits-reference", &["--reference", "--hidden"], |model, ours, golden, prompt| {
        let difference =
            largest_difference(&ours.floats("logits"), &golden.floats(&format!("{prompt}.logits")));
        println!("{model}: largest difference {difference:e}");
        assert!(difference < 1e-3, "{model}: {difference}");
        assert_eq!(ours.ids("greedy"), golden.ids(&format!("{prompt}.greedy_ids")), "{model}");
        if prompt == "b" {
            check_hidden(model, ours, golden);
        }
    });
}

fn check_hidden(model: &str, ours: &Tensors, golden: &Tensors) {
    let rows = golden.ids("b.rows");
    let file = golden.file();
    let stages: Vec<&str> = file
        .names()
        .into_iter()
        .filter_map(|name| name.strip_prefix("b."))
        .filter(|name| *name == "embed" || *name == "final_norm" || name.starts_with("layer."))
        .collect();
    assert!(stages.len() > 3, "{stages:?}");
    for stage in stages {
        let key = format!("hidden.{stage}");
        let values = ours.floats(&key);
        let width = *ours.file().tensor(&key).unwrap().shape().last().unwrap();
        let picked: Vec<f32> =
            rows.iter().flat_map(|&row| &values[row as usize * width..][..width]).copied().collect();
        let difference = largest_difference(&picked, &golden.floats(&format!("b.{stage}")));
        assert!(difference < 1e-3, "{model} {stage}: {difference}");
    }
}

#[test]
fn production_logits_stay_close() {
    on_every_golden("logits-production", &["--threads", "2"], |model, ours, golden, prompt| {
        let error = nmse(&ours.floats("logits"), &golden.floats(&format!("{prompt}.logits")));
        println!("{model}: NMSE {error:e}");
        assert!(error < 1e-3, "{model}: {error}");
        assert!(ours.file().names().iter().all(|name| ["logits", "greedy"].contains(name)));
    });
}

#[test]
fn shapes_and_dtypes_are_as_documented() {
    let output = folder("logits-shapes").join("out.safetensors");
    let path = output.to_str().unwrap();
    succeeds(&["logits", "ember", "--text", "Hello there", "-o", path, "--hidden", "--greedy", "3"]);
    let tensors = Tensors::read(&output);
    let file = tensors.file();
    let facts = |key: &str| {
        let tensor = file.tensor(key).unwrap();
        (tensor.dtype(), tensor.shape().to_vec())
    };
    assert_eq!(facts("logits"), (Dtype::F32, vec![2, 2048]));
    assert_eq!(facts("greedy"), (Dtype::I32, vec![3]));
    for key in ["hidden.embed", "hidden.layer.0", "hidden.layer.3", "hidden.final_norm"] {
        assert_eq!(facts(key), (Dtype::F32, vec![2, 256]), "{key}");
    }
    assert_eq!(file.names().len(), 2 + 4 + 2);
}

#[test]
fn impossible_requests_leave_no_file() {
    let folder = folder("logits-refused");
    let output = folder.join("out.safetensors");
    let path = output.to_str().unwrap();
    let model = fixture("qwen3");
    for (args, said) in [
        (vec!["logits", &model, "--tokens", "1,99999", "-o", path], "99999"),
        (vec!["logits", &model, "-o", path], "--tokens"),
        (vec!["logits", &model, "--text", "", "-o", path], "no tokens"),
        (vec!["logits", &model, "--tokens", "1", "-o", "/no/such/folder/out"], "no folder /no/such/folder"),
        (vec!["logits", &model, "--tokens", "1", "-o", "-"], "standard output"),
        (vec!["logits", &model, "--tokens", "1", "--special", "-o", path], "--special"),
    ] {
        let ended = ingle(&args);
        assert!(ended.code.is_some_and(|code| code != 0), "{args:?}");
        assert!(ended.err.contains(said), "{args:?}: {}", ended.err);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "{args:?}");
    }
}

#[test]
fn the_model_itself_is_not_overwritten() {
    let folder = folder("logits-overwrite");
    let copy = folder.join("m.gguf");
    std::fs::copy(fixture("gguf/qwen3.gguf"), &copy).unwrap();
    let path = copy.to_str().unwrap();
    let ended = ingle(&["logits", path, "--tokens", "1", "-o", path]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("file of the model itself"), "{}", ended.err);
    assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(fixture("gguf/qwen3.gguf")).unwrap());
}

#[cfg(unix)]
#[test]
fn pipes_are_refused_and_links_are_written_through() {
    let folder = folder("logits-special");
    let pipe = folder.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let model = fixture("qwen3");
    let ended = ingle(&["logits", &model, "--tokens", "1", "-o", pipe.to_str().unwrap()]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("a pipe"), "{}", ended.err);
    assert!(!std::fs::metadata(&pipe).unwrap().is_file());

    let link = folder.join("link");
    std::os::unix::fs::symlink("real", &link).unwrap();
    succeeds(&["logits", &model, "--tokens", "1", "-o", link.to_str().unwrap()]);
    assert!(link.is_symlink() && folder.join("real").is_file());
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 3);
}

#[cfg(unix)]
#[test]
fn a_signal_leaves_no_temporary_file() {
    let folder = folder("logits-signal");
    let output = folder.join("out.safetensors");
    let tokens = vec!["1"; 2000].join(",");
    for signal in ["-INT", "-TERM"] {
        let path = output.to_str().unwrap();
        let args = ["logits", "ember", "--reference", "--tokens", &tokens, "--hidden", "-o", path];
        let mut child = super::command(&args).spawn().unwrap();
        let started = std::time::Instant::now();
        while std::fs::read_dir(&folder).unwrap().count() == 0 {
            assert!(
                started.elapsed().as_secs() < 60 && child.try_wait().unwrap().is_none(),
                "no file to remove"
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let killed = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(killed.unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal}");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "{signal}");
    }
}
