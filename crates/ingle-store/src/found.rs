//! Models that were found, and which of them a word means.

use crate::digest::Digest;
use crate::folders::{Folders, Program};
use crate::name::TaggedName;
use crate::own::Store;
use crate::{huggingface, ollama, tree};
use std::collections::HashSet;
use std::path::PathBuf;

/// How a model is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A GGUF file, or the first of several.
    Gguf,
    /// A folder with `config.json` and safetensors.
    Checkpoint,
}

/// A model on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it is called: `qwen3:4b`, `owner/repository/file`.
    pub name: String,
    /// Who keeps it.
    pub program: Program,
    /// The file or folder, where it lies.
    pub path: PathBuf,
    /// How it is stored.
    pub kind: Kind,
    /// Bytes of its weights, all parts together.
    pub bytes: u64,
    /// Digest of the file, where whoever fetched it wrote that down.
    pub digest: Option<Digest>,
}

/// All that were found.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// By program, name and path.
    pub models: Vec<Found>,
    /// What was there and could not be read, and why.
    pub troubles: Vec<String>,
}

/// What a word means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice<'a> {
    /// No model.
    None,
    /// This one.
    One(&'a Found),
    /// Several, of which none is meant more than the others.
    Several(Vec<&'a Found>),
}

impl Listing {
    /// Looks through folders.
    pub fn of(folders: &Folders) -> Listing {
        let mut listing = Listing::default();
        for (program, folder) in folders.there() {
            match program {
                Program::Ollama => ollama::find(folder, &mut listing),
                Program::HuggingFace => huggingface::find(folder, &mut listing),
                Program::Ingle | Program::LmStudio | Program::LlamaCpp => {
                    tree::find(folder, "", program, &mut listing);
                }
            }
        }
        listing.sorted()
    }

    /// Adds the models that this program keeps itself.
    #[must_use]
    pub fn with(mut self, store: &Store) -> Listing {
        store.find(&mut self);
        self.sorted()
    }

    fn sorted(mut self) -> Listing {
        self.models.sort_by(|a, b| (a.program, &a.name, &a.path).cmp(&(b.program, &b.name, &b.path)));
        self
    }

    /// Which model a word means: one of that name, or one whose name ends in it, from a slash on. Capitals make no
    /// difference where nothing else does.
    pub fn choose(&self, word: &str) -> Choice<'_> {
        let tagged = word.parse::<TaggedName>().ok().map(|name| name.to_string());
        let exact = |found: &Found| found.name == word || tagged.as_ref() == Some(&found.name);
        let ends = |name: &str, word: &str| {
            name.strip_suffix(word)
                .is_some_and(|before| !word.is_empty() && (before.is_empty() || before.ends_with('/')))
        };
        let lower = word.to_lowercase();
        let tagged_end = |found: &Found| tagged.as_ref().is_some_and(|tagged| ends(&found.name, tagged));
        let ways: [&dyn Fn(&Found) -> bool; 4] =
            [&exact, &|found| ends(&found.name, word), &tagged_end, &|found| {
                ends(&found.name.to_lowercase(), &lower)
            }];
        for way in ways {
            let mut files = HashSet::new();
            let file = |found: &Found| found.path.canonicalize().unwrap_or_else(|_| found.path.clone());
            // one file may be found in two places
            let meant: Vec<&Found> = self
                .models
                .iter()
                .filter(|found| way(found))
                .filter(|found| files.insert(file(found)))
                .collect();
            match meant[..] {
                [] => {}
                [one] => return Choice::One(one),
                _ => return Choice::Several(meant),
            }
        }
        Choice::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(names: &[&str]) -> Listing {
        let found = |name: &&str| Found {
            name: (*name).into(),
            program: Program::Ingle,
            path: format!("/nowhere/{name}").into(),
            kind: Kind::Gguf,
            bytes: 1,
            digest: None,
        };
        Listing { models: names.iter().map(found).collect(), troubles: Vec::new() }
    }

    fn chosen(listing: &Listing, word: &str) -> Vec<String> {
        match listing.choose(word) {
            Choice::None => Vec::new(),
            Choice::One(found) => vec![found.name.clone()],
            Choice::Several(several) => several.iter().map(|found| found.name.clone()).collect(),
        }
    }

    #[test]
    fn a_word_means_a_whole_name_or_the_end_of_one() {
        let all = listing(&[
            "qwen3:latest",
            "qwen3:4b",
            "ann/Poet-GGUF/Poet-Q4_K_M",
            "bob/Poet-GGUF/Poet-Q4_K_M",
            "bob/Poet-GGUF/Poet-Q8_0",
        ]);
        assert_eq!(chosen(&all, "qwen3"), ["qwen3:latest"]);
        assert_eq!(chosen(&all, "qwen3:4b"), ["qwen3:4b"]);
        assert_eq!(chosen(&all, "library/qwen3:4b"), ["qwen3:4b"]);
        assert_eq!(chosen(&all, "Poet-Q8_0"), ["bob/Poet-GGUF/Poet-Q8_0"]);
        assert_eq!(chosen(&all, "poet-q8_0"), ["bob/Poet-GGUF/Poet-Q8_0"]);
        assert_eq!(chosen(&all, "ann/Poet-GGUF/Poet-Q4_K_M"), ["ann/Poet-GGUF/Poet-Q4_K_M"]);
        assert_eq!(chosen(&all, "Poet-Q4_K_M").len(), 2);
        for nothing in ["", "Q8_0", "oet-Q8_0", "qwen", "../qwen3", "hello"] {
            assert!(chosen(&all, nothing).is_empty(), "{nothing}");
        }
    }
}
