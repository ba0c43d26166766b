//! Repetition, presence and frequency penalties, and the logit bias: changes to the logits of single tokens.
//!
//! The repetition penalty is CTRL's (Keskar et al. 2019): a positive logit is divided by it, a negative one
//! multiplied. Presence and frequency penalties are those of the OpenAI interface: subtracted once, or once for each
//! occurrence. The occurrences counted are those in the window over the whole history, prompt included.

use std::collections::BTreeMap;

use super::options::SamplingOptions;

/// True when one of the three penalties changes something.
pub(super) fn penalties_act(options: &SamplingOptions) -> bool {
    options.repetition_penalty != 1.0 || options.presence_penalty != 0.0 || options.frequency_penalty != 0.0
}

/// Applies the three penalties for the tokens of `window`. `counts` is scratch of the vocabulary's size, zero before
/// and after. Ids beyond the vocabulary (placeholders for images, for example) have no logit and are passed over.
pub(super) fn apply_penalties(
    options: &SamplingOptions,
    logits: &mut [f32],
    window: &[u32],
    counts: &mut [u32],
) {
    for &id in window {
        if let Some(count) = counts.get_mut(id as usize) {
            *count = count.saturating_add(1);
        }
    }
    for &id in window {
        let (Some(count), Some(logit)) = (counts.get_mut(id as usize), logits.get_mut(id as usize)) else {
            continue;
        };
        if *count == 0 {
            continue; // an earlier occurrence was the occasion
        }
        let scaled = if *logit > 0.0 {
            *logit / options.repetition_penalty
        } else {
            *logit * options.repetition_penalty
        };
        let lost = *count as f32 * options.frequency_penalty + options.presence_penalty;
        *logit = still_possible(*logit, scaled - lost);
        *count = 0;
    }
}

/// Adds the biases. One of minus infinity forbids its token.
pub(super) fn apply_bias(bias: &BTreeMap<u32, f32>, logits: &mut [f32]) {
    for (&id, &bias) in bias {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit = if bias == f32::NEG_INFINITY { bias } else { still_possible(*logit, *logit + bias) };
        }
    }
}

/// Keeps a changed logit finite: a penalty makes a token unlikely, only a mask or a bias of minus infinity forbids it.
pub(super) fn still_possible(before: f32, after: f32) -> f32 {
    if before == f32::NEG_INFINITY {
        before
    } else if after.is_nan() {
        f32::MIN // infinity minus infinity, from absurd options
    } else {
        after.clamp(f32::MIN, f32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn penalised(options: &SamplingOptions, history: &[u32]) -> [f32; 4] {
        let mut logits = [2.0, -2.0, 1.0, 0.0];
        let mut counts = [0; 4];
        apply_penalties(options, &mut logits, options.penalty_window.of(history), &mut counts);
        assert_eq!(counts, [0; 4], "scratch is left clean");
        logits
    }

    #[test]
    fn repetition_divides_positive_and_multiplies_negative_once_per_token() {
        let options = SamplingOptions { repetition_penalty: 2.0, ..Default::default() };
        assert_eq!(penalised(&options, &[0, 1, 0, 3]), [1.0, -4.0, 1.0, 0.0]);
    }

    #[test]
    fn presence_counts_once_frequency_each_time() {
        let options =
            SamplingOptions { presence_penalty: 0.5, frequency_penalty: 0.25, ..Default::default() };
        assert_eq!(penalised(&options, &[0, 2, 0]), [2.0 - 0.5 - 0.5, -2.0, 1.0 - 0.5 - 0.25, 0.0]);
    }

    #[test]
    fn only_the_window_counts() {
        let base = SamplingOptions { frequency_penalty: 1.0, ..Default::default() };
        let history = [0, 0, 0, 2, 1];
        let with = |window| SamplingOptions { penalty_window: window, ..base.clone() };
        use crate::sampling::Window;
        assert_eq!(penalised(&with(Window::Last(2)), &history), [2.0, -3.0, 0.0, 0.0]);
        assert_eq!(penalised(&with(Window::Last(0)), &history), [2.0, -2.0, 1.0, 0.0]);
        assert_eq!(penalised(&with(Window::All), &history), [-1.0, -3.0, 0.0, 0.0]);
        let long: Vec<u32> = std::iter::once(0).chain([3; 64]).collect();
        assert_eq!(penalised(&base, &long)[0], 2.0, "64 tokens by default");
    }

    #[test]
    fn ids_beyond_the_vocabulary_are_passed_over() {
        let options = SamplingOptions { presence_penalty: 1.0, ..Default::default() };
        assert_eq!(penalised(&options, &[9, u32::MAX, 3]), [2.0, -2.0, 1.0, -1.0]);
    }

    #[test]
    fn absurd_penalties_leave_tokens_possible_and_masked_ones_masked() {
        let options = SamplingOptions {
            repetition_penalty: 1e38,
            presence_penalty: f32::MAX,
            frequency_penalty: f32::MAX,
            ..Default::default()
        };
        let mut logits = [-1e10, f32::NEG_INFINITY, 3.0, 0.0];
        apply_penalties(&options, &mut logits, &[0, 1, 2, 2], &mut [0; 4]);
        assert!(logits[0].is_finite() && logits[2].is_finite());
        assert_eq!(logits[1], f32::NEG_INFINITY);
    }

    #[test]
    fn bias_adds_and_minus_infinity_forbids() {
        let mut logits = [1.0, 2.0, f32::NEG_INFINITY];
        apply_bias(&BTreeMap::from([(0, 0.5), (1, f32::NEG_INFINITY), (2, 100.0)]), &mut logits);
        assert_eq!(logits, [1.5, f32::NEG_INFINITY, f32::NEG_INFINITY]);
    }
}
