//! Speculative decoding: tokens are guessed, and a step verifies the guesses (several rows cost little more than one, because
//! weights are read once). Guesses come from the text itself (what followed the last tokens where they occurred before, or
//! "prompt lookup") or from a small model ([`drafter`](super::drafter)).
//!
//! Nothing is lost by it: every token is chosen from its own logits, by the same rule and random number as without.
//!
//! With a chance `p` that a guess is right, `k` guesses make `1 + p + .. + p^k` tokens of a step on average; the `k` that
//! makes most of them per second is taken, what guessing itself takes included, and none if guessing loses.

use super::drafter::Promise;
use super::schedule::Pace;

/// Most guesses of a step.
pub(super) const MOST_GUESSES: usize = 8;
/// Rows of a step from which on more cost as much as they are.
const MOST_ROWS: usize = 16;
/// Tokens that have to occur before as they do at the end.
const NEEDLE: [usize; 2] = [4, 2];
/// How far back is looked.
const FAR: usize = 16 * 1024;
/// Tokens until an answer whose guesses were wrong is guessed at again.
const REST: usize = 24;
/// How much the latest step says about the chance of the next.
const NEW: f64 = 0.2;
/// Earlier text is there.
const FREE: Promise = Promise { seconds: 0.0, most: MOST_GUESSES };
/// The chance of a guess of which nothing is known yet.
const UNKNOWN: f64 = 0.6;

/// Where guesses come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// Earlier text.
    Text,
    /// A small model, or the model's own block.
    Model,
}

/// How well guesses of a kind went with an answer.
#[derive(Clone, Copy, Debug)]
struct Luck {
    /// Chance that a guess is right.
    chance: f64,
    /// Tokens for which nothing is guessed.
    rest: usize,
}

impl Luck {
    /// How many guesses are worth most in a step of `rows` rows besides, when each takes `seconds`, and the tokens per
    /// second that they make.
    fn best(&self, rows: usize, most: usize, pace: &Pace, seconds: f64) -> (usize, f64) {
        let worth = |k: usize| {
            let tokens: f64 = (0..=k).map(|at| self.chance.powi(at as i32)).sum();
            // what the step makes for the others counts too
            (tokens + rows as f64) / (pace.seconds(rows + 1 + k) + seconds * k as f64)
        };
        let all = (0..=most).map(|k| (k, worth(k)));
        all.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, 0.0))
    }

    /// Of so many guesses so many were right.
    fn judged(&mut self, guessed: usize, right: usize) {
        // the first wrong one ends the row: those behind it say nothing
        let judged = (right + 1).min(guessed);
        if judged > 0 {
            let share = right as f64 / judged as f64;
            self.chance += (share - self.chance) * (1.0 - (1.0 - NEW).powi(judged as i32));
        }
    }
}

/// The guesses for one answer.
#[derive(Debug)]
pub(super) struct Draft {
    /// Tokens guessed for the next step.
    pub(super) tokens: Vec<u32>,
    from: From,
    text: Luck,
    model: Luck,
}

impl Default for Draft {
    fn default() -> Draft {
        let luck = Luck { chance: UNKNOWN, rest: 0 };
        Draft { tokens: Vec::new(), from: From::Text, text: luck, model: luck }
    }
}

impl Draft {
    /// Guesses what follows `history`, at most `most` tokens, in a step of `rows` rows besides. Where a drafter promises
    /// more, the number of tokens that it is to guess.
    pub(super) fn guess(
        &mut self,
        history: &[u32],
        rows: usize,
        most: usize,
        pace: &Pace,
        drafter: Option<Promise>,
    ) -> usize {
        self.tokens.clear();
        let most = most.min(MOST_GUESSES).min(MOST_ROWS.saturating_sub(rows + 1));
        if most == 0 {
            return 0;
        }
        let worth = |luck: &mut Luck, promise: Option<Promise>| {
            let Promise { seconds, most: own } = promise?;
            if luck.rest > 0 {
                luck.rest -= 1;
                return None;
            }
            let (best, worth) = luck.best(rows, most.min(own), pace, seconds);
            if best == 0 {
                *luck = Luck { chance: UNKNOWN, rest: REST };
                return None;
            }
            Some((best, worth))
        };
        let (text, model) = (worth(&mut self.text, Some(FREE)), worth(&mut self.model, drafter));
        let found = text.map_or(&[][..], |(best, _)| follows(history, best));
        let better = |model: f64| text.is_none_or(|(_, text)| model > text) || found.is_empty();
        match model {
            Some((best, worth)) if better(worth) => {
                self.from = From::Model;
                best
            }
            _ => {
                self.from = From::Text;
                self.tokens.extend_from_slice(found);
                0
            }
        }
    }

    /// Where the guesses are from.
    pub(super) fn from(&self) -> From {
        self.from
    }

    /// So many of the guesses were right.
    pub(super) fn judged(&mut self, right: usize) {
        let luck = match self.from {
            From::Text => &mut self.text,
            From::Model => &mut self.model,
        };
        luck.judged(self.tokens.len(), right);
        self.tokens.clear();
    }
}

/// What followed the last tokens where they occurred before, the latest time; at most `most` tokens.
fn follows(history: &[u32], most: usize) -> &[u32] {
    let start = history.len().saturating_sub(FAR);
    let recent = &history[start..];
    for length in NEEDLE {
        let Some((rest, needle)) = recent.len().checked_sub(length).map(|at| recent.split_at(at)) else {
            continue;
        };
        // it may overlap the end, as in a row of equal tokens
        let found = (0..rest.len()).rev().find(|&at| recent[at..at + length] == *needle);
        if let Some(at) = found {
            let from = at + length;
            return &recent[from..recent.len().min(from + most)];
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_before_is_guessed() {
        assert_eq!(follows(&[1, 2, 3, 4, 5, 6, 9, 1, 2, 3, 4], 3), [5, 6, 9]);
        assert_eq!(follows(&[7, 8, 1, 7, 8, 2, 7, 8], 2), [2, 7], "the latest time");
        assert_eq!(follows(&[5, 5, 5, 5, 5], 8), [5]);
        assert!(follows(&[1, 2, 3], 4).is_empty());
        assert!(follows(&[], 4).is_empty());
    }

    #[test]
    fn right_guesses_make_longer_ones_and_wrong_ones_none() {
        let mut pace = Pace::new(256);
        for rows in 1..=16 {
            pace.answered(rows, 0.010 + 0.001 * rows as f64);
        }
        let history: Vec<u32> = (0..50).chain(0..20).collect();
        let mut draft = Draft::default();
        for _ in 0..20 {
            draft.guess(&history, 0, 100, &pace, None);
            draft.judged(draft.tokens.len());
        }
        draft.guess(&history, 0, 100, &pace, None);
        assert_eq!(draft.tokens, (20..28).collect::<Vec<u32>>());
        draft.guess(&history, 0, 3, &pace, None);
        assert_eq!(draft.tokens.len(), 3, "no more than there is room for");
        let mut guessed = 0;
        for _ in 0..100 {
            draft.guess(&history, 0, 100, &pace, None);
            guessed += draft.tokens.len();
            draft.judged(0);
        }
        assert!(guessed < 80, "{guessed} guesses for 100 tokens, all of them wrong");
        draft.guess(&history, MOST_ROWS, 100, &pace, None);
        assert!(draft.tokens.is_empty(), "a full step has no room for guesses");
    }

    fn promise(seconds: f64) -> Promise {
        Promise { seconds, most: MOST_GUESSES }
    }

    #[test]
    fn a_small_model_guesses_where_it_is_worth_its_time() {
        let mut pace = Pace::new(256);
        for rows in 1..=16 {
            pace.answered(rows, 0.010 + 0.001 * rows as f64);
        }
        let history: Vec<u32> = (0..50).collect();
        let mut draft = Draft::default();
        assert!(draft.guess(&history, 0, 100, &pace, Some(promise(0.001))) > 1);
        let block = Promise { most: 1, ..promise(0.001) };
        assert_eq!(draft.guess(&history, 0, 100, &pace, Some(block)), 1, "it guesses one at a time");
        assert_eq!(draft.guess(&history, 0, 100, &pace, None), 0, "there is none");
        assert_eq!(
            draft.guess(&history, 0, 100, &pace, Some(promise(0.1))),
            0,
            "slower than the step itself"
        );
        let mut guessed = 0;
        for _ in 0..100 {
            let count = draft.guess(&history, 0, 100, &pace, Some(promise(0.001)));
            draft.tokens = vec![7; count];
            draft.judged(0);
            guessed += count;
        }
        assert!(guessed < 80, "{guessed} guesses for 100 tokens, all of them wrong");
        // text that repeats itself is guessed for nothing, once that went well
        let again: Vec<u32> = (0..50).chain(0..20).collect();
        let mut draft = Draft { text: Luck { chance: 0.9, rest: 0 }, ..Draft::default() };
        assert_eq!(draft.guess(&again, 0, 3, &pace, Some(promise(0.001))), 0);
        assert_eq!(draft.tokens, [20, 21, 22]);
    }
}
