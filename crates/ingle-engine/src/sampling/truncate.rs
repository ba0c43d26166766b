//! The rules that drop candidates: typical, top-p, min-p, XTC. (Top-k is [`collect`](super::candidate::collect).)
//!
//! Each looks at the probabilities of the candidates that the rules before it left, at temperature 1, and each leaves
//! at least one.

use super::candidate::{Candidate, by_likelihood, collect_from, keep_until};
use super::row::{Survey, exponential_sum};

/// The softmax of the candidates, held as its two constants.
#[derive(Clone, Copy, Debug)]
struct Softmax {
    /// The largest logit.
    max: f32,
    /// Sum of `exp(logit - max)`, at least 1.
    sum: f64,
}

impl Softmax {
    fn of(kept: &[Candidate]) -> Softmax {
        let max = largest(kept);
        Softmax { max, sum: kept.iter().map(|c| f64::from((c.logit - max).exp())).sum() }
    }

    fn probability(&self, candidate: &Candidate) -> f64 {
        f64::from((candidate.logit - self.max).exp()) / self.sum
    }
}

/// The largest logit of the candidates.
pub(super) fn largest(kept: &[Candidate]) -> f32 {
    kept.iter().fold(f32::NEG_INFINITY, |max, c| max.max(c.logit))
}

/// Locally typical sampling (Meister et al. 2022): orders tokens by how far their surprise, -ln p, lies from the
/// entropy of the distribution, and keeps the nearest until their probabilities sum to `mass`.
pub(super) fn keep_typical(kept: &mut Vec<Candidate>, mass: f32) {
    let softmax = Softmax::of(kept);
    let log_sum = softmax.sum.ln();
    let surprise = |c: &Candidate| log_sum - (f64::from(c.logit) - f64::from(softmax.max));
    let entropy: f64 = kept
        .iter()
        .map(|c| {
            let probability = softmax.probability(c);
            if probability > 0.0 { probability * surprise(c) } else { 0.0 }
        })
        .sum();
    let distance = |c: &Candidate| (surprise(c) - entropy).abs();
    let order =
        |a: &Candidate, b: &Candidate| distance(a).total_cmp(&distance(b)).then_with(|| by_likelihood(a, b));
    keep_until(kept, order, reaches(softmax, mass));
}

/// Nucleus sampling (Holtzman et al. 2019): the most likely tokens until their probabilities sum to `mass`.
pub(super) fn keep_top_p(kept: &mut Vec<Candidate>, mass: f32) {
    let softmax = Softmax::of(kept);
    keep_until(kept, by_likelihood, reaches(softmax, mass));
}

/// True at the candidate with which the probabilities seen so far sum to `mass`.
fn reaches(softmax: Softmax, mass: f32) -> impl FnMut(&Candidate) -> bool {
    let mut sum = 0.0;
    move |candidate| {
        sum += softmax.probability(candidate);
        sum >= f64::from(mass)
    }
}

/// Top-p, then min-p, of a whole row: both keep the most likely tokens, so that those far below them are only summed.
/// `top_p` of 1 and `min_p` of 0 keep all.
pub(super) fn keep_most_likely(
    row: &[f32],
    survey: &Survey,
    top_p: f32,
    min_p: f32,
    kept: &mut Vec<Candidate>,
) {
    /// First looked at: logits as far below the largest as this. Then twice as far.
    const NEAR: f32 = 8.0;
    let max = survey.max;
    let least = if min_p > 0.0 { (f64::from(max) + f64::from(min_p).ln()) as f32 } else { f32::NEG_INFINITY };
    if top_p < 1.0 {
        let softmax = Softmax { max, sum: exponential_sum(row, max, 1.0, None) };
        let mut below = NEAR;
        loop {
            let all = max - below < least.max(f32::MIN);
            collect_from(row, if all { least } else { max - below }, kept);
            let mass: f64 = kept.iter().map(|c| softmax.probability(c)).sum();
            if all || mass > f64::from(top_p) * (1.0 + 1e-6) {
                keep_until(kept, by_likelihood, reaches(softmax, top_p));
                break;
            }
            below *= 2.0;
        }
    } else {
        collect_from(row, least, kept);
    }
    if min_p > 0.0 {
        keep_min_p(kept, min_p);
    }
}

/// Min-p (Nguyen et al. 2024): keeps tokens at least `ratio` times as likely as the most likely one.
pub(super) fn keep_min_p(kept: &mut Vec<Candidate>, ratio: f32) {
    let least = f64::from(largest(kept)) + f64::from(ratio).ln();
    kept.retain(|c| f64::from(c.logit) >= least);
}

/// Exclude top choices (p-e-w 2024): of the tokens at least `threshold` likely, keeps only the least likely one (of
/// equals that with the highest id), so that something less expected is said. The rest stays. With fewer than two
/// such tokens nothing changes. Whether it acts at a position is the caller's draw.
pub(super) fn exclude_top_choices(kept: &mut Vec<Candidate>, threshold: f32) {
    let softmax = Softmax::of(kept);
    let likely = |c: &Candidate| softmax.probability(c) >= f64::from(threshold);
    let spared = kept.iter().filter(|c| likely(c)).copied().max_by(by_likelihood);
    if let Some(spared) = spared {
        kept.retain(|c| c.id == spared.id || !likely(c));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Candidates 0, 1, 2 ... with these probabilities, in a scrambled order.
    fn with(probabilities: &[f32]) -> Vec<Candidate> {
        let mut kept: Vec<Candidate> = probabilities
            .iter()
            .enumerate()
            .map(|(id, p)| Candidate { id: id as u32, logit: p.ln() })
            .collect();
        kept.reverse();
        kept
    }

    fn ids(mut kept: Vec<Candidate>) -> Vec<u32> {
        kept.sort_by_key(|c| c.id);
        kept.iter().map(|c| c.id).collect()
    }

    const SPREAD: [f32; 5] = [0.05, 0.4, 0.1, 0.3, 0.15];

    #[test]
    fn top_p_keeps_the_smallest_set_that_reaches_the_mass() {
        for (mass, expected) in [
            (0.0, vec![1]),
            (0.39, vec![1]),
            (0.41, vec![1, 3]),
            (0.69, vec![1, 3]),
            (0.71, vec![1, 3, 4]),
            (0.86, vec![1, 2, 3, 4]),
            (0.96, vec![0, 1, 2, 3, 4]),
            (1.0, vec![0, 1, 2, 3, 4]),
        ] {
            let mut kept = with(&SPREAD);
            keep_top_p(&mut kept, mass);
            assert_eq!(ids(kept), expected, "{mass}");
        }
    }

    /// What is found without looking at all tokens is what is found by looking at all.
    #[test]
    fn a_whole_row_keeps_what_its_candidates_keep() {
        let mut state = 7u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 16_777_216.0
        };
        for (size, spread) in [(1, 1.0), (3, 4.0), (100, 0.01), (3000, 12.0), (3000, 60.0), (5000, 1.0)] {
            let mut row: Vec<f32> = (0..size).map(|_| spread * (random() + random() + random())).collect();
            row[size / 2] = f32::NEG_INFINITY;
            row[size - 1] = 2.0;
            for (top_p, min_p) in
                [(0.0, 0.0), (0.3, 0.0), (0.95, 0.0), (0.999, 0.05), (0.5, 0.2), (1.0, 0.01), (1.0, 1.0)]
            {
                let (mut kept, mut expected) = (Vec::new(), Vec::new());
                keep_most_likely(&row, &Survey::of(&row), top_p, min_p, &mut kept);
                crate::sampling::candidate::collect(&row, 0, &mut expected);
                if top_p < 1.0 {
                    keep_top_p(&mut expected, top_p);
                }
                if min_p > 0.0 {
                    keep_min_p(&mut expected, min_p);
                }
                assert_eq!(ids(kept), ids(expected), "{size}, {spread}: top-p {top_p}, min-p {min_p}");
            }
        }
        let mut kept = Vec::new();
        let nothing = [f32::NEG_INFINITY; 40];
        keep_most_likely(&nothing, &Survey::of(&nothing), 0.9, 0.1, &mut kept);
        assert!(kept.is_empty());
    }

    #[test]
    fn probabilities_are_those_of_what_is_left() {
        // 0.4 and 0.3 alone become 4/7 = 0.571 and 3/7.
        let mut kept = with(&SPREAD);
        keep_min_p(&mut kept, 0.7);
        assert_eq!(ids(kept.clone()), [1, 3]);
        keep_top_p(&mut kept, 0.55);
        assert_eq!(ids(kept), [1]);
    }

    #[test]
    fn min_p_is_relative_to_the_most_likely() {
        for (ratio, expected) in [
            (0.1, vec![0, 1, 2, 3, 4]),
            (0.2, vec![1, 2, 3, 4]),
            (0.26, vec![1, 3, 4]),
            (0.5, vec![1, 3]),
            (0.76, vec![1]),
            (1.0, vec![1]),
        ] {
            let mut kept = with(&SPREAD);
            keep_min_p(&mut kept, ratio);
            assert_eq!(ids(kept), expected, "{ratio}");
        }
    }

    /// Entropy of the five: 1.3931 nats. Surprises: 3.00, 0.92, 2.30, 1.20, 1.90; distances from the entropy:
    /// 1.60, 0.48, 0.91, 0.19, 0.50. So the order is 3, 1, 4, 2, 0 with sums 0.3, 0.7, 0.85, 0.95, 1.
    #[test]
    fn typical_keeps_what_is_about_as_surprising_as_expected() {
        for (mass, expected) in [
            (0.0, vec![3]),
            (0.29, vec![3]),
            (0.31, vec![1, 3]),
            (0.71, vec![1, 3, 4]),
            (0.86, vec![1, 2, 3, 4]),
            (0.96, vec![0, 1, 2, 3, 4]),
        ] {
            let mut kept = with(&SPREAD);
            keep_typical(&mut kept, mass);
            assert_eq!(ids(kept), expected, "{mass}");
        }
    }

    #[test]
    fn typical_may_drop_the_most_likely_token() {
        // Entropy 1.40 nats; the surprise of 0.5 is 0.69, that of 0.25 is 1.39.
        let mut kept = with(&[0.5, 0.25, 0.1, 0.075, 0.075]);
        keep_typical(&mut kept, 0.2);
        assert_eq!(ids(kept), [1]);
    }

    #[test]
    fn xtc_spares_the_least_likely_of_the_likely() {
        for (threshold, expected) in [
            (0.09, vec![0, 2]),       // 1, 2, 3, 4 are likely; 2 is the least of them
            (0.12, vec![0, 2, 4]),    // 1, 3, 4
            (0.25, vec![0, 2, 3, 4]), // 1, 3
            (0.35, vec![0, 1, 2, 3, 4]),
            (0.5, vec![0, 1, 2, 3, 4]),
            (0.0, vec![0]),
        ] {
            let mut kept = with(&SPREAD);
            exclude_top_choices(&mut kept, threshold);
            assert_eq!(ids(kept), expected, "{threshold}");
        }
    }

    #[test]
    fn xtc_of_equals_spares_one() {
        let mut kept = with(&[0.3, 0.3, 0.3, 0.1]);
        exclude_top_choices(&mut kept, 0.2);
        assert_eq!(ids(kept), [2, 3]);
    }

    #[test]
    fn extreme_logits_leave_at_least_one() {
        let extremes = [f32::MAX, f32::MIN, 0.0, f32::MIN_POSITIVE, f32::MAX];
        let rules: [fn(&mut Vec<Candidate>, f32); 4] =
            [keep_typical, keep_top_p, keep_min_p, exclude_top_choices];
        for (number, rule) in rules.iter().enumerate() {
            for amount in [0.0, 1e-30, 0.5, 1.0] {
                for size in 1..=extremes.len() {
                    let mut kept: Vec<Candidate> = extremes[..size]
                        .iter()
                        .enumerate()
                        .map(|(id, &logit)| Candidate { id: id as u32, logit })
                        .collect();
                    rule(&mut kept, amount);
                    assert!(!kept.is_empty(), "rule {number} with {amount} of {size}");
                }
            }
        }
    }
}
