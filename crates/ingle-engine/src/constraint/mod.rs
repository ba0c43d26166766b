//! What an answer can be held to: a form of what is said, and calls that have to be made.
//!
//! The whole answer is one grammar, thoughts and the markers of the model's dialect included (see [`grammar`]), so nothing
//! switches it on and off. Before a token is chosen, the tokens that the grammar rules out get a logit of minus infinity;
//! what is left is sampled as ever. Grammars, regular expressions and schemas come from anybody: building and walking them
//! has bounds, and reaching one is an error.

mod ahead;
mod grammar;
mod room;
#[cfg(test)]
mod tests;
mod vocabulary;

use crate::error::EngineError;
use crate::generate::{GenerateOptions, Reading};
use crate::language::Language;
use ahead::{Done, Worker};
pub(crate) use grammar::Beginning;
use grammar::Held;
use ingle_text::Dialect;
use llguidance::Matcher;
use serde_json::Value;
use std::sync::mpsc::Receiver;
use std::time::Instant;
pub(crate) use vocabulary::Vocabulary;

/// The form of what is said. What is thought before it is free.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// A JSON object, whichever.
    Object,
    /// JSON that a schema describes.
    Schema(Value),
    /// Text that a regular expression matches as a whole.
    Regex(String),
    /// Text of a context-free grammar, in the Lark notation.
    Lark(String),
}

/// Which of the offered tools are to be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CallChoice {
    /// As the model likes.
    #[default]
    Auto,
    /// One of them has to be called.
    Required,
    /// This one has to be called.
    Named(String),
}

/// How an answer is to call tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Which.
    pub choice: CallChoice,
    /// At most one call.
    pub single: bool,
}

/// Why an answer cannot be held to something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConstraintError {
    /// The form makes no sense, has parts that cannot be honoured, or is too large.
    #[error("the answer cannot be held to this form: {problem}")]
    Form {
        /// What is wrong.
        problem: String,
    },
    /// Nobody knows how the model would write a call.
    #[error(
        "calls cannot be forced or combined with a form with this model: how it writes them ({dialect}) is not known; let it \
         choose"
    )]
    Calls {
        /// The model's dialect.
        dialect: &'static str,
    },
    /// A name with characters that calls cannot have.
    #[error("`{name}` cannot be forced: names of tools and parameters are letters, digits and _ - . : / $")]
    Name {
        /// The name.
        name: String,
    },
    /// A bound was reached while the answer was made.
    #[error("the answer cannot go on in its form: {problem}")]
    Walk {
        /// Which.
        problem: String,
    },
}

impl ConstraintError {
    fn of(error: &impl std::fmt::Display) -> ConstraintError {
        ConstraintError::Form { problem: brief(&error.to_string()) }
    }

    fn walk(error: &impl std::fmt::Display) -> ConstraintError {
        ConstraintError::Walk { problem: brief(&error.to_string()) }
    }
}

/// The beginning of what another program says.
fn brief(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(400).collect()
}

/// An answer's constraint, as far as the answer has come.
pub(crate) struct Constraint {
    worker: Worker,
    state: State,
    /// The row with what is ruled out.
    row: Vec<f32>,
    spent: Spent,
}

/// Where the walk through the grammar is.
enum State {
    /// What can come next is being worked out.
    Ahead(Receiver<Done>),
    /// It was, and a token is to be chosen.
    Here(Box<Matcher>),
    /// There was an error, or the answer is complete.
    Over,
}

/// What constraints cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Spent {
    /// Rows that tokens were ruled out from.
    pub(crate) masks: usize,
    /// Seconds of work on them.
    pub(crate) seconds: f64,
    /// Seconds that answers waited for them.
    pub(crate) waited: f64,
}

impl Constraint {
    /// Of an answer to `prompt`, over rows of `rows` logits; `None` if the model is free.
    ///
    /// # Errors
    /// A form or calls that it cannot be held to.
    pub(crate) fn new(
        language: &Language,
        prompt: &[u32],
        options: &GenerateOptions,
        rows: usize,
    ) -> Result<Option<Constraint>, EngineError> {
        let GenerateOptions { form, calls, reading, .. } = options;
        let plain = Dialect::plain();
        let held = match reading {
            Reading::Text => Held {
                form: form.as_ref(),
                calls: &Calls::default(),
                tools: &[],
                dialect: &plain,
                beginning: Beginning::Content,
            },
            Reading::Message { tools } => Held {
                form: form.as_ref(),
                calls,
                tools,
                dialect: language.dialect(),
                beginning: language.beginning(prompt)?,
            },
        };
        if held.form.is_none() && held.calls.choice == CallChoice::Auto {
            return Ok(None);
        }
        let vocabulary = language.vocabulary(rows)?;
        room::fits(held.form, held.tools)?;
        let matcher = room::with_room(|| {
            let mut matcher = vocabulary.matcher(grammar::grammar(&held, vocabulary)?)?;
            // what a schema says and cannot be honoured is known by now
            match matcher.grammar_warnings().first() {
                Some(warning) => Err(ConstraintError::of(warning)),
                None => Ok(matcher),
            }
        })?;
        // the prompt takes longer than this
        let state = State::Ahead(vocabulary.worker.begin(matcher));
        let worker = vocabulary.worker.clone();
        Ok(Some(Constraint { worker, state, row: Vec::new(), spent: Spent::default() }))
    }

    /// The logits with what cannot come next ruled out.
    ///
    /// # Errors
    /// A bound of the walk, or nothing that can come next.
    pub(crate) fn mask(&mut self, logits: &[f32]) -> Result<&[f32], ConstraintError> {
        let started = Instant::now();
        let State::Ahead(done) = std::mem::replace(&mut self.state, State::Over) else {
            return Err(ConstraintError::walk(&"it is over"));
        };
        let Done { matcher, mask, seconds } =
            done.recv().map_err(|_| ConstraintError::walk(&"its thread met a defect of the program"))?;
        let mask = mask?;
        self.state = State::Here(Box::new(matcher));
        let some = rule_out(logits, mask.as_slice(), &mut self.row);
        let waited = started.elapsed().as_secs_f64();
        self.spent.masks += 1;
        self.spent.seconds += seconds;
        self.spent.waited += waited;
        match some {
            true => Ok(&self.row),
            false => Err(ConstraintError::walk(&"no token of the vocabulary continues it")),
        }
    }

    /// What it cost so far.
    pub(crate) fn spent(&self) -> Spent {
        self.spent
    }

    /// Takes the token that was chosen. Whether the answer is complete and cannot go on.
    ///
    /// # Errors
    /// A bound of the walk.
    pub(crate) fn take(&mut self, token: u32) -> Result<bool, ConstraintError> {
        let State::Here(mut matcher) = std::mem::replace(&mut self.state, State::Over) else {
            return Err(ConstraintError::walk(&"no token was asked for"));
        };
        let started = Instant::now();
        match matcher.try_consume_tokens(&[token]) {
            Ok(1) => {}
            Ok(_) => return Err(ConstraintError::walk(&"a token was chosen that does not fit")),
            Err(error) => return Err(ConstraintError::walk(&error)),
        }
        let complete = matcher.is_stopped();
        if !complete {
            self.state = State::Ahead(self.worker.begin(*matcher));
        }
        self.spent.waited += started.elapsed().as_secs_f64();
        Ok(complete)
    }
}

/// Writes the logits of the tokens in `mask`, a bit each, to `row`, and minus infinity for the others. Whether there are
/// any.
fn rule_out(logits: &[f32], mask: &[u32], row: &mut Vec<f32>) -> bool {
    row.clear();
    row.resize(logits.len(), f32::NEG_INFINITY);
    let mut some = false;
    for ((to, logits), &bits) in row.chunks_mut(32).zip(logits.chunks(32)).zip(mask) {
        match bits {
            0 => continue,
            u32::MAX => to.copy_from_slice(logits),
            _ => {
                for (at, (to, &logit)) in to.iter_mut().zip(logits).enumerate() {
                    *to = if bits >> at & 1 == 1 { logit } else { f32::NEG_INFINITY };
                }
            }
        }
        some |= bits.trailing_zeros() < logits.len() as u32;
    }
    some
}
