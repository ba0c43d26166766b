//! DRY ("don't repeat yourself", p-e-w 2024): penalises the token that would prolong a verbatim repetition.
//!
//! If the last `n` tokens of the history also stand somewhere earlier in it, the token that followed them there would
//! make the repetition longer; it loses `multiplier * base^(n - allowed_length)` from its logit when `n` is at least
//! `allowed_length`. The longest `n` counts for a token that follows at several places. A sequence breaker limits `n`:
//! a repetition is not followed back across the latest occurrence of one, and a breaker of a single token is itself
//! never penalised.

use super::options::SamplingOptions;
use super::penalty::still_possible;

/// Room for one call of [`apply_dry`], kept to save allocations.
#[derive(Debug, Default)]
pub(super) struct DryScratch {
    /// For each distance back from the end of the window, how many tokens match the window's end.
    matches: Vec<u32>,
}

/// Applies DRY for the tokens of `window`. `longest` is scratch of the vocabulary's size, zero before and after.
pub(super) fn apply_dry(
    options: &SamplingOptions,
    logits: &mut [f32],
    window: &[u32],
    longest: &mut [u32],
    scratch: &mut DryScratch,
) {
    let limit = since_breaker(window, &options.dry_sequence_breakers);
    let allowed = options.dry_allowed_length;
    if limit < allowed as usize {
        return;
    }
    match_ends(window, &mut scratch.matches);
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);

    // A match that ends `back` tokens before the end is followed by the token `back` places from the end.
    let followers = |back: usize| window[window.len() - back];
    for (back, &length) in scratch.matches.iter().enumerate().skip(1) {
        let length = length.min(limit);
        if length >= allowed
            && let Some(slot) = longest.get_mut(followers(back) as usize)
        {
            *slot = (*slot).max(length.saturating_add(1)); // plus one: zero means untouched
        }
    }
    for back in 1..scratch.matches.len() {
        let id = followers(back);
        let (Some(slot), Some(logit)) = (longest.get_mut(id as usize), logits.get_mut(id as usize)) else {
            continue;
        };
        if *slot == 0 {
            continue;
        }
        let beyond = *slot - 1 - allowed;
        *slot = 0;
        if options.dry_sequence_breakers.iter().any(|breaker| breaker[..] == [id]) {
            continue;
        }
        let penalty = f64::from(options.dry_multiplier) * f64::from(options.dry_base).powf(f64::from(beyond));
        *logit = still_possible(*logit, (f64::from(*logit) - penalty) as f32);
    }
}

/// How many tokens the window holds after the latest sequence breaker; all of them when there is none. Where several
/// breakers begin at the same token the longest counts.
fn since_breaker(window: &[u32], breakers: &[Vec<u32>]) -> usize {
    if breakers.is_empty() {
        return window.len();
    }
    for start in (0..window.len()).rev() {
        let longest =
            breakers.iter().filter(|b| window[start..].starts_with(b)).map(|breaker| breaker.len()).max();
        if let Some(length) = longest {
            return window.len() - start - length;
        }
    }
    window.len()
}

/// Fills `matches[back]` with the number of tokens that the window's end shares with the window less its last `back`
/// tokens, counted from their ends backwards: the Z function of the reversed window. `matches[0]` is of no meaning.
/// Linear time: the stretch found last answers for what lies inside it.
fn match_ends(window: &[u32], matches: &mut Vec<u32>) {
    let count = window.len();
    let at = |back: usize| window[count - 1 - back];
    matches.clear();
    matches.resize(count, 0);
    let (mut start, mut end) = (0, 0);
    for back in 1..count {
        let mut length = 0;
        if back < end {
            length = (matches[back - start] as usize).min(end - back);
        }
        while back + length < count && at(length) == at(back + length) {
            length += 1;
        }
        if back + length > end {
            (start, end) = (back, back + length);
        }
        matches[back] = u32::try_from(length).unwrap_or(u32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The logits, all 0 before, after DRY over `history` with a vocabulary of 10.
    fn dry(options: &SamplingOptions, history: &[u32]) -> Vec<f32> {
        let mut logits = vec![0.0; 10];
        let mut longest = vec![0; 10];
        let window = options.dry_penalty_last_n.of(history);
        apply_dry(options, &mut logits, window, &mut longest, &mut DryScratch::default());
        assert_eq!(longest, vec![0; 10], "scratch is left clean");
        logits
    }

    fn options() -> SamplingOptions {
        SamplingOptions { dry_multiplier: 0.8, dry_base: 2.0, dry_allowed_length: 2, ..Default::default() }
    }

    /// What only `changed` tokens lost, written as the whole row.
    fn losing(changed: &[(usize, f32)]) -> Vec<f32> {
        let mut row = vec![0.0; 10];
        for &(id, lost) in changed {
            row[id] = -lost;
        }
        row
    }

    /// "1 2 3 4 ... 1 2 3": three tokens repeat, so 4 loses 0.8 * 2^(3 - 2).
    #[test]
    fn the_token_that_prolongs_a_repetition_is_penalised() {
        assert_eq!(dry(&options(), &[1, 2, 3, 4, 5, 1, 2, 3]), losing(&[(4, 1.6)]));
    }

    #[test]
    fn shorter_repetitions_pass_and_allowed_length_itself_costs_the_multiplier() {
        assert_eq!(dry(&options(), &[2, 3, 4, 5, 6, 3]), losing(&[]), "one token repeated");
        assert_eq!(dry(&options(), &[2, 3, 4, 5, 2, 3]), losing(&[(4, 0.8)]), "two tokens repeated");
    }

    #[test]
    fn the_longest_match_of_each_follower_counts_once() {
        // "2 3" is followed by 4 and later by 5; "1 2 3" is followed by 4 only.
        let history = [1, 2, 3, 4, 9, 2, 3, 5, 9, 2, 3, 4, 7, 1, 2, 3];
        assert_eq!(dry(&options(), &history), losing(&[(4, 1.6), (5, 0.8)]));
    }

    #[test]
    fn a_run_of_one_token_overlaps_itself() {
        // Before the last 7 of four stand three that match: the run would go on.
        assert_eq!(dry(&options(), &[7, 7, 7, 7]), losing(&[(7, 1.6)]));
    }

    #[test]
    fn breakers_limit_the_match_and_are_spared() {
        let with = |breakers: &[&[u32]]| SamplingOptions {
            dry_sequence_breakers: breakers.iter().map(|b| b.to_vec()).collect(),
            ..options()
        };
        let history = [1, 2, 3, 4, 5, 1, 2, 3];
        assert_eq!(dry(&with(&[&[1]]), &history), losing(&[(4, 0.8)]), "only 2 3 count");
        assert_eq!(dry(&with(&[&[2]]), &history), losing(&[]), "only 3 counts");
        assert_eq!(dry(&with(&[&[5, 1]]), &history), losing(&[(4, 0.8)]), "a breaker of two tokens");
        assert_eq!(dry(&with(&[&[5, 2]]), &history), losing(&[(4, 1.6)]), "not in the history");
        assert_eq!(dry(&with(&[&[1], &[1, 2]]), &history), losing(&[]), "the longest of two at one place");
        assert_eq!(dry(&with(&[&[4]]), &history), losing(&[]), "4 ends the repetition, so it is spared");
    }

    #[test]
    fn only_the_window_counts() {
        use crate::sampling::Window;
        let history = [1, 2, 3, 4, 5, 1, 2, 3];
        let short = SamplingOptions { dry_penalty_last_n: Window::Last(7), ..options() };
        assert_eq!(dry(&short, &history), losing(&[(4, 0.8)]), "the first 1 is out of sight");
        let shorter = SamplingOptions { dry_penalty_last_n: Window::Last(4), ..options() };
        assert_eq!(dry(&shorter, &history), losing(&[]));
        assert_eq!(dry(&options(), &[]), losing(&[]));
    }

    #[test]
    fn an_enormous_penalty_stays_finite() {
        let history: Vec<u32> = std::iter::repeat_n(7, 5000).collect();
        let logits = dry(&options(), &history);
        assert_eq!(logits[7], f32::MIN);
    }

    /// The linear algorithm against counting by hand, over many short windows of few symbols.
    #[test]
    fn matches_equal_those_counted_naively() {
        let mut state = 1u32;
        for size in 0..40 {
            for _ in 0..50 {
                let window: Vec<u32> = (0..size)
                    .map(|_| {
                        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        state >> 31
                    })
                    .collect();
                let mut matches = Vec::new();
                match_ends(&window, &mut matches);
                for back in 1..window.len() {
                    let naive = (0..window.len() - back)
                        .take_while(|&i| window[size - 1 - i] == window[size - 1 - i - back])
                        .count();
                    assert_eq!(matches[back] as usize, naive, "{window:?} at {back}");
                }
            }
        }
    }
}
