//! Runs the sealed test over a generator and sets the scores beside the model card's.

use std::collections::HashMap;
use std::fmt;

use super::checks::passes;
use super::sealed::{Item, Sealed};

/// The scores of a run.
#[derive(Debug)]
pub struct Report {
    /// Suites in the order of the model card.
    pub suites: Vec<SuiteScore>,
}

/// The score of one suite.
#[derive(Debug)]
pub struct SuiteScore {
    /// Its name.
    pub name: String,
    /// Items passed.
    pub passed: usize,
    /// Items in all.
    pub of: usize,
    /// Items passed by the model card.
    pub published_passed: usize,
    /// Outputs equal to the published ones, as far as those are known.
    pub same_output: usize,
    /// Items whose verdict is not the published one.
    pub changed: Vec<Changed>,
}

/// An item with another verdict than the published one.
#[derive(Debug)]
pub struct Changed {
    /// Whether it passed this time.
    pub passed: bool,
    /// The last message, shortened from its beginning.
    pub prompt: String,
    /// What was published.
    pub published: String,
    /// What was generated this time.
    pub output: String,
}

/// Runs every item. `generate` returns the raw greedy output: special tokens kept, up to but without `<|im_end|>`.
/// Suites that are scored on the same prompts cost one generation.
///
/// # Errors
/// The first error of `generate`.
pub fn run(
    sealed: &Sealed,
    mut generate: impl FnMut(&Item) -> anyhow::Result<String>,
) -> anyhow::Result<Report> {
    let mut outputs: HashMap<String, String> = HashMap::new();
    let mut suites = Vec::new();
    for suite in &sealed.suites {
        let mut score = SuiteScore {
            name: suite.name.clone(),
            passed: 0,
            of: suite.items.len(),
            published_passed: suite.published_passed,
            same_output: 0,
            changed: Vec::new(),
        };
        for item in &suite.items {
            let key = serde_json::to_string(&(&item.messages, &item.tools, item.max_new_tokens))?;
            let output = match outputs.get(&key) {
                Some(output) => output.clone(),
                None => {
                    let output = generate(item)?.replace("<|endoftext|>", "");
                    outputs.insert(key, output.clone());
                    output
                }
            };
            let passed = passes(&item.check, &output);
            score.passed += usize::from(passed);
            score.same_output += usize::from(item.published.is(&output));
            if passed != item.published.passed {
                let (prompt, published) = (prompt_end(item), item.published.output.clone());
                score.changed.push(Changed { passed, prompt, published, output });
            }
        }
        suites.push(score);
    }
    Ok(Report { suites })
}

/// The last 110 characters of the last message.
fn prompt_end(item: &Item) -> String {
    let last = item.messages.last().and_then(|message| message.get("content")).and_then(|text| text.as_str());
    let last = last.unwrap_or_default();
    last.chars().skip(last.chars().count().saturating_sub(110)).collect()
}

impl Report {
    /// Items passed, by the card, and in all.
    pub fn total(&self) -> (usize, usize, usize) {
        self.suites.iter().fold((0, 0, 0), |(passed, published, of), suite| {
            (passed + suite.passed, published + suite.published_passed, of + suite.of)
        })
    }
}

/// A table, and below it the items whose verdict differs.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:24} {:>9} {:>9} {:>12}", "suite", "here", "card", "same output")?;
        for suite in &self.suites {
            let SuiteScore { name, passed, of, published_passed, same_output, .. } = suite;
            let (here, card) = (format!("{passed}/{of}"), format!("{published_passed}/{of}"));
            writeln!(f, "{name:24} {here:>9} {card:>9} {:>12}", format!("{same_output}/{of}"))?;
        }
        let (passed, published, of) = self.total();
        let same: usize = self.suites.iter().map(|suite| suite.same_output).sum();
        let (here, card) = (format!("{passed}/{of}"), format!("{published}/{of}"));
        writeln!(f, "{:24} {here:>9} {card:>9} {:>12}", "total", format!("{same}/{of}"))?;
        for suite in &self.suites {
            for changed in &suite.changed {
                let verdict = if changed.passed { "passes, card: fails" } else { "fails, card: passes" };
                writeln!(f, "\n{} ({verdict}): {:?}", suite.name, changed.prompt)?;
                writeln!(f, "  card: {:?}\n  here: {:?}", changed.published, changed.output)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeating_the_published_outputs_gives_the_published_score_where_they_are_complete() {
        let sealed = Sealed::read(&Sealed::path()).unwrap();
        let mut generated = 0;
        let report = run(&sealed, |item| {
            generated += 1;
            Ok(item.published.output.clone() + "<|endoftext|>")
        })
        .unwrap();
        assert_eq!(generated, 350, "two suites of 24 reuse the outputs of others");
        for (score, suite) in report.suites.iter().zip(&sealed.suites) {
            assert_eq!(score.same_output, score.of, "{}", score.name);
            if suite.items.iter().all(|item| !item.published.cut) {
                assert_eq!(score.passed, score.published_passed, "{}", score.name);
                assert!(score.changed.is_empty());
            }
        }
        assert_eq!(report.total().1, 291);
    }

    #[test]
    fn an_output_that_differs_shows_in_the_score_and_in_the_list() {
        let sealed = Sealed::read(&Sealed::path()).unwrap();
        let report = run(&sealed, |_| Ok("I am Ember.".into())).unwrap();
        let identity = &report.suites[0];
        assert_eq!((identity.passed, identity.of, identity.same_output), (10, 14, 0));
        assert!(identity.changed.iter().any(|changed| changed.passed && changed.prompt == "And you are?"));
        let text = report.to_string();
        assert!(text.contains("identity                     10/14      9/14"), "{text}");
        assert!(run(&sealed, |_| anyhow::bail!("no model")).is_err());
    }
}
