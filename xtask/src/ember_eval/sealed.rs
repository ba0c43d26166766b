//! The sealed test as data: `models/ember/eval/sealed.json`, exported from the recipe.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;

use super::checks::Check;

/// The whole test.
#[derive(Debug, Deserialize)]
pub struct Sealed {
    /// In the order of the model card.
    pub suites: Vec<Suite>,
}

/// Items that test one ability.
#[derive(Debug, Deserialize)]
pub struct Suite {
    /// As in the model card.
    pub name: String,
    /// Items that the f32 model passed, the card's score.
    pub published_passed: usize,
    /// How many pairs of a check of this suite and a published output of any suite pass: tests the checker.
    pub crossed: usize,
    /// The prompts.
    pub items: Vec<Item>,
}

/// One prompt and what is expected of the answer.
#[derive(Debug, Deserialize)]
pub struct Item {
    /// Messages as a chat template takes them: objects with `role` and `content`.
    pub messages: Vec<serde_json::Value>,
    /// Tool definitions as a chat template takes them; mostly none.
    #[serde(default)]
    pub tools: Vec<serde_json::Value>,
    /// Tokens to generate at most.
    pub max_new_tokens: usize,
    /// The check.
    pub check: Check,
    /// What the f32 model did.
    pub published: Published,
}

/// A published output.
#[derive(Debug, Deserialize)]
pub struct Published {
    /// Whether it passed the check.
    pub passed: bool,
    /// What was generated, special tokens kept, without the end token.
    pub output: String,
    /// True when only the first 150 characters of the output are known.
    pub cut: bool,
}

impl Published {
    /// True when `raw` is this output, as far as that is known.
    pub fn is(&self, raw: &str) -> bool {
        if self.cut { raw.starts_with(&self.output) } else { raw == self.output }
    }
}

impl Sealed {
    /// Where the test is in this repository.
    pub fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/ember/eval/sealed.json")
    }

    /// Reads the test.
    ///
    /// # Errors
    /// A file that is missing or is not the test.
    pub fn read(path: &Path) -> anyhow::Result<Sealed> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| {
            format!(
                "{} is not a sealed test; make it with models/ember/recipe/sealed_export.py",
                path.display()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ember_eval::checks::passes;

    fn sealed() -> Sealed {
        Sealed::read(&Sealed::path()).unwrap()
    }

    /// The model card: 398 items in 21 suites, 291 passed.
    #[test]
    fn the_test_is_the_one_of_the_model_card() {
        let sealed = sealed();
        assert_eq!(sealed.suites.len(), 21);
        assert_eq!(sealed.suites.iter().map(|s| s.items.len()).sum::<usize>(), 398);
        assert_eq!(sealed.suites.iter().map(|s| s.published_passed).sum::<usize>(), 291);
        for suite in &sealed.suites {
            let passed = suite.items.iter().filter(|item| item.published.passed).count();
            assert_eq!(passed, suite.published_passed, "{}", suite.name);
        }
    }

    #[test]
    fn complete_published_outputs_get_the_published_verdict() {
        let mut complete = 0;
        for suite in sealed().suites {
            for item in suite.items.iter().filter(|item| !item.published.cut) {
                let published = &item.published;
                assert_eq!(passes(&item.check, &published.output), published.passed, "{item:?}");
                complete += 1;
            }
        }
        assert_eq!(complete, 356);
    }

    /// Every check over every published output passes exactly as often as the recipe's own checks do.
    #[test]
    fn checks_agree_with_the_recipe_on_every_output() {
        let sealed = sealed();
        let outputs: Vec<&str> =
            sealed.suites.iter().flat_map(|s| &s.items).map(|item| item.published.output.as_str()).collect();
        for suite in &sealed.suites {
            let crossed = suite
                .items
                .iter()
                .map(|item| outputs.iter().filter(|output| passes(&item.check, output)).count())
                .sum::<usize>();
            assert_eq!(crossed, suite.crossed, "{}", suite.name);
        }
    }

    #[test]
    fn a_file_that_is_missing_or_wrong_is_named() {
        let error = Sealed::read(Path::new("nowhere.json")).unwrap_err();
        assert!(error.to_string().contains("nowhere.json"));
        let error = Sealed::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap_err();
        assert!(error.to_string().contains("sealed_export.py"));
    }
}
