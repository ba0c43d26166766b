//! Where programs keep models.

use std::path::{Path, PathBuf};

/// A program that keeps models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Program {
    /// This one.
    Ingle,
    /// Ollama: manifests and blobs.
    Ollama,
    /// Hugging Face's libraries and tools: a cache of repositories.
    HuggingFace,
    /// LM Studio: publisher, repository, file.
    LmStudio,
    /// llama.cpp's cache of what it fetched.
    LlamaCpp,
}

impl Program {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Program::Ingle => "Ingle",
            Program::Ollama => "Ollama",
            Program::HuggingFace => "Hugging Face",
            Program::LmStudio => "LM Studio",
            Program::LlamaCpp => "llama.cpp",
        }
    }
}

/// Folders to look in, each with the program that fills it. They need not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folders(pub Vec<(Program, PathBuf)>);

impl Folders {
    /// Those of a person, by the variables and defaults of each program. `variable` reads the environment, and `own` is where
    /// this program keeps its models.
    pub fn of(variable: &dyn Fn(&str) -> Option<PathBuf>, own: Option<PathBuf>) -> Folders {
        let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
        let home = absolute("HOME").or_else(|| if cfg!(windows) { absolute("USERPROFILE") } else { None });
        let at_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let cache = absolute("XDG_CACHE_HOME").or_else(|| at_home(".cache"));
        let in_cache = |path: &str| cache.as_ref().map(|cache| cache.join(path));
        let hub = absolute("HF_HUB_CACHE")
            .or_else(|| absolute("HF_HOME").map(|home| home.join("hub")))
            .or_else(|| in_cache("huggingface/hub"));
        let service =
            if cfg!(target_os = "linux") { Some("/usr/share/ollama/.ollama/models".into()) } else { None };
        let folders = [
            (Program::Ingle, own),
            (Program::Ollama, absolute("OLLAMA_MODELS").or_else(|| at_home(".ollama/models"))),
            (Program::Ollama, service),
            (Program::HuggingFace, hub),
            (Program::LmStudio, at_home(".lmstudio/models")),
            (Program::LmStudio, in_cache("lm-studio/models")),
            (Program::LlamaCpp, absolute("LLAMA_CACHE").or_else(|| in_cache("llama.cpp"))),
        ];
        Folders(folders.into_iter().filter_map(|(program, folder)| Some((program, folder?))).collect())
    }

    /// Those that exist.
    pub(crate) fn there(&self) -> impl Iterator<Item = (Program, &Path)> {
        self.0
            .iter()
            .map(|(program, folder)| (*program, folder.as_path()))
            .filter(|(_, folder)| folder.is_dir())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_overrule_what_is_usual() {
        let folders = |variables: &[(&str, &str)]| {
            let variable = |name: &str| {
                variables.iter().find(|(own, _)| *own == name).map(|(_, value)| PathBuf::from(value))
            };
            Folders::of(&variable, Some("/data/ingle/models".into())).0
        };
        let usual = folders(&[("HOME", "/home/ann")]);
        for expected in [
            (Program::Ingle, "/data/ingle/models"),
            (Program::Ollama, "/home/ann/.ollama/models"),
            (Program::HuggingFace, "/home/ann/.cache/huggingface/hub"),
            (Program::LmStudio, "/home/ann/.lmstudio/models"),
            (Program::LlamaCpp, "/home/ann/.cache/llama.cpp"),
        ] {
            assert!(usual.contains(&(expected.0, expected.1.into())), "{expected:?}: {usual:?}");
        }
        let set = folders(&[
            ("HOME", "/home/ann"),
            ("OLLAMA_MODELS", "/big/ollama"),
            ("HF_HOME", "/big/hf"),
            ("LLAMA_CACHE", "relative"),
        ]);
        assert!(set.contains(&(Program::Ollama, "/big/ollama".into())));
        assert!(set.contains(&(Program::HuggingFace, "/big/hf/hub".into())));
        assert!(
            set.contains(&(Program::LlamaCpp, "/home/ann/.cache/llama.cpp".into())),
            "a relative path means nothing here"
        );
        assert!(folders(&[]).iter().all(|(program, _)| matches!(program, Program::Ingle | Program::Ollama)));
    }
}
