//! Speculative decoding by prompt lookup: what followed the last tokens where they occurred before is guessed to follow
//! again, and a step verifies the guesses (several rows cost little more than one, because weights are read once).
//!
//! Nothing is lost by it: every token is chosen from its own logits, by the same rule and random number as without.
//!
//! With a chance `p` that a guess is right, `k` guesses make `1 + p + .. + p^k` tokens of a step on average; the `k` that
//! makes most of them per second is taken, and none if guessing loses.

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

/// The guesses for one answer.
#[derive(Debug)]
pub(super) struct Draft {
    /// Tokens guessed for the next step.
    pub(super) tokens: Vec<u32>,
    /// Chance that a guess is right.
    chance: f64,
    /// Tokens for which nothing is guessed.
    rest: usize,
}

impl Default for Draft {
    fn default() -> Draft {
        Draft { tokens: Vec::new(), chance: 0.6, rest: 0 }
    }
}

impl Draft {
    /// Guesses what follows `history`, at most `most` tokens, in a step of `rows` rows besides.
    pub(super) fn guess(&mut self, history: &[u32], rows: usize, most: usize, pace: &Pace) {
        self.tokens.clear();
        if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        let most = most.min(MOST_GUESSES).min(MOST_ROWS.saturating_sub(rows + 1));
        let worth = |k: usize| {
            let tokens: f64 = (0..=k).map(|at| self.chance.powi(at as i32)).sum();
            // what the step makes for the others counts too
            (tokens + rows as f64) / pace.seconds(rows + 1 + k)
        };
        let best = (0..=most).max_by(|&a, &b| worth(a).total_cmp(&worth(b))).unwrap_or(0);
        if best == 0 {
            if most > 0 {
                (self.rest, self.chance) = (REST, 0.6);
            }
            return;
        }
        self.tokens.extend_from_slice(follows(history, best));
    }

    /// So many of the guesses were right.
    pub(super) fn judged(&mut self, right: usize) {
        let guessed = self.tokens.len();
        self.tokens.clear();
        // the first wrong one ends the row: those behind it say nothing
        let judged = (right + 1).min(guessed);
        if judged > 0 {
            let share = right as f64 / judged as f64;
            self.chance += (share - self.chance) * (1.0 - (1.0 - NEW).powi(judged as i32));
        }
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
            draft.guess(&history, 0, 100, &pace);
            draft.judged(draft.tokens.len());
        }
        draft.guess(&history, 0, 100, &pace);
        assert_eq!(draft.tokens, (20..28).collect::<Vec<u32>>());
        draft.guess(&history, 0, 3, &pace);
        assert_eq!(draft.tokens.len(), 3, "no more than there is room for");
        let mut guessed = 0;
        for _ in 0..100 {
            draft.guess(&history, 0, 100, &pace);
            guessed += draft.tokens.len();
            draft.judged(0);
        }
        assert!(guessed < 80, "{guessed} guesses for 100 tokens, all of them wrong");
        draft.guess(&history, MOST_ROWS, 100, &pace);
        assert!(draft.tokens.is_empty(), "a full step has no room for guesses");
    }
}
