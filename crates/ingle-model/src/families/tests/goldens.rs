//! Every golden folder and GGUF file is described, and nothing of its text network is left over. They are read where they
//! lie; where they are absent this says so.

use crate::Source;
use crate::families::describe;
use std::path::{Path, PathBuf};

fn models(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let model = |path: &PathBuf| {
        path.extension().is_some_and(|ending| ending == "gguf") || path.join("model.safetensors").exists()
    };
    let mut models: Vec<PathBuf> = entries.filter(model).collect();
    models.sort();
    models
}

#[test]
fn goldens_are_described() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/goldens");
    let (folders, files) = (models(&root), models(&root.join("gguf")));
    if folders.is_empty() {
        println!("{}: absent: skipped", root.display());
        return;
    }
    for path in folders.iter().chain(&files) {
        let source = Source::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let spec = describe(&source).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(spec.unused_unexplained(), Vec::<&str>::new(), "{}", path.display());
        let multimodal = path.file_stem().is_some_and(|name| {
            ["gemma3", "qwen2_5_vl", "qwen3_5", "qwen3_5_moe", "qwen3_vl"].iter().any(|known| name == *known)
        });
        assert_eq!(spec.unused_senses() > 0, multimodal && !files.contains(path), "{}", path.display());
        let assumed = files.contains(path)
            && path.file_stem().is_some_and(|name| name.to_string_lossy().starts_with("gemma"));
        assert_eq!(!spec.notices.is_empty(), assumed, "{}: {:?}", path.display(), spec.notices);
    }
}
