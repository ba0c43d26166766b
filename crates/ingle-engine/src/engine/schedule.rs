//! Who goes next, and how much of a prompt a step takes.
//!
//! Among those that wait, the highest priority goes first, then the client that has had least of the model's time, then
//! who came first. A step takes every answer's next token; what is left of it goes to prompts in the order in which they
//! were begun. While answers are being made, a piece of a prompt is so short that a step takes no more than
//! [`LONGEST_WAIT`]: that is the longest a stream stands still for somebody else's prompt, as far as the measured speed
//! tells, and at least [`LEAST_ROWS`] rows are taken in any case.

use std::collections::HashMap;
use std::time::Duration;

/// The longest that answers in the making wait for a piece of a prompt.
pub(super) const LONGEST_WAIT: Duration = Duration::from_millis(150);
/// Least prompt tokens of a step: prompts have to come to an end too.
pub(super) const LEAST_ROWS: usize = 16;

/// Rows of a job in the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Portion {
    /// Which of the running jobs.
    pub(super) job: usize,
    /// How many of its tokens.
    pub(super) tokens: usize,
}

/// What every running job, by the tokens it has to feed, gets of a step with room for `rows` prompt tokens.
pub(super) fn portions(unfed: impl Iterator<Item = usize>, rows: usize) -> Vec<Portion> {
    let mut left = rows;
    let mut portions = Vec::new();
    for (job, unfed) in unfed.enumerate() {
        let tokens = if unfed <= 1 { unfed } else { unfed.min(left) };
        if unfed > 1 {
            left -= tokens;
        }
        if tokens > 0 {
            portions.push(Portion { job, tokens });
        }
    }
    portions
}

/// How fast prompts go through, as measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Rows that a step takes where nobody waits.
    most: usize,
    /// Seconds per row of steps with many; `None` before the first.
    seconds_per_row: Option<f64>,
    /// Seconds of steps of few rows, by how many there are.
    few: [Option<f64>; FEW],
}

/// Rows whose steps are told apart.
const FEW: usize = 17;
/// What a row more costs of a step of one, where it was not measured.
const ROW_MORE: f64 = 0.12;

impl Pace {
    pub(super) fn new(most: usize) -> Pace {
        Pace { most, seconds_per_row: None, few: [None; FEW] }
    }

    /// As if steps of few rows took the same time, however many there are.
    pub(super) fn without_cost() -> Pace {
        Pace { few: [Some(1.0); FEW], ..Pace::new(0) }
    }

    /// A step that took answers further, of so many rows, took so long.
    pub(super) fn answered(&mut self, rows: usize, seconds: f64) {
        if let Some(slot) = self.few.get_mut(rows) {
            let before = slot.unwrap_or(seconds);
            *slot = Some(0.8 * before + 0.2 * seconds);
        }
    }

    /// About how long such a step takes.
    pub(super) fn seconds(&self, rows: usize) -> f64 {
        let measured = |rows: usize| self.few.get(rows).copied().flatten();
        if let Some(seconds) = measured(rows) {
            return seconds;
        }
        // from the nearest one that was measured
        let nearest = (1..FEW).filter(|&at| self.few[at].is_some()).min_by_key(|&at| at.abs_diff(rows));
        let as_if = |rows: usize| 1.0 + ROW_MORE * (rows as f64 - 1.0);
        let known = nearest.and_then(|at| Some((at, measured(at)?)));
        known.map_or(as_if(rows), |(at, seconds)| seconds * as_if(rows) / as_if(at))
    }

    /// A step of so many rows took so long.
    pub(super) fn measured(&mut self, rows: usize, seconds: f64) {
        if rows >= LEAST_ROWS {
            let now = seconds / rows as f64;
            let before = self.seconds_per_row.unwrap_or(now);
            self.seconds_per_row = Some(0.7 * before + 0.3 * now);
        }
    }

    /// Seconds per token of a prompt, once there was one.
    pub(super) fn prompt_token(&self) -> Option<f64> {
        self.seconds_per_row
    }

    /// Prompt tokens of the next step, beside so many answers.
    pub(super) fn rows(&self, answers: usize) -> usize {
        if answers == 0 {
            return self.most;
        }
        let fit = self.seconds_per_row.map_or(LEAST_ROWS as f64, |each| LONGEST_WAIT.as_secs_f64() / each);
        // whole batches of the kernels
        (fit as usize / 8 * 8).clamp(LEAST_ROWS.min(self.most), self.most)
    }
}

/// The model's time that clients have had: a newcomer begins where the least served one is.
#[derive(Debug, Default)]
pub(super) struct Fairness(HashMap<String, u64>);

impl Fairness {
    /// A client asks for something.
    pub(super) fn arrives(&mut self, client: &str) {
        if !self.0.contains_key(client) {
            let least = self.0.values().min().copied().unwrap_or(0);
            self.0.insert(client.to_owned(), least);
        }
    }

    /// So many rows were computed for it.
    pub(super) fn charge(&mut self, client: &str, rows: usize) {
        if let Some(served) = self.0.get_mut(client) {
            *served += rows as u64;
        }
    }

    /// What it has had.
    pub(super) fn served(&self, client: &str) -> u64 {
        self.0.get(client).copied().unwrap_or(0)
    }

    /// Forgets those that want nothing.
    pub(super) fn retain(&mut self, wants: impl Fn(&str) -> bool) {
        self.0.retain(|client, _| wants(client));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_gets_its_token_and_prompts_share_the_rest_in_order() {
        let portion = |job, tokens| Portion { job, tokens };
        assert_eq!(
            portions([1, 100, 1, 30, 50].into_iter(), 120),
            [portion(0, 1), portion(1, 100), portion(2, 1), portion(3, 20)]
        );
        assert_eq!(portions([500, 1].into_iter(), 64), [portion(0, 64), portion(1, 1)]);
        assert_eq!(portions([].into_iter(), 64), []);
    }

    #[test]
    fn prompts_take_short_pieces_while_others_wait() {
        let mut pace = Pace::new(256);
        assert_eq!((pace.rows(0), pace.rows(1)), (256, LEAST_ROWS), "before anything is measured");
        pace.measured(256, 0.5);
        assert_eq!((pace.rows(0), pace.rows(3)), (256, 72)); // 2 ms a row, 75 rows in 150 ms
        (0..50).for_each(|_| pace.measured(64, 6.4));
        assert_eq!(pace.rows(1), LEAST_ROWS, "and never none");
        (0..50).for_each(|_| pace.measured(64, 0.001));
        assert_eq!(pace.rows(1), 256);
        pace.measured(1, 100.0);
        assert_eq!(pace.rows(1), 256, "single tokens say nothing about prompts");
    }

    #[test]
    fn a_newcomer_neither_waits_for_all_nor_overtakes_for_ever() {
        let mut fairness = Fairness::default();
        fairness.arrives("a");
        fairness.charge("a", 1000);
        fairness.arrives("b");
        assert_eq!(fairness.served("b"), 1000);
        fairness.charge("b", 10);
        fairness.arrives("c");
        assert_eq!(fairness.served("c"), 1000);
        fairness.retain(|client| client != "a");
        assert_eq!((fairness.served("a"), fairness.served("b")), (0, 1010));
    }
}
