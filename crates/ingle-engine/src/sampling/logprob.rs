//! Log-probabilities of the model's own distribution, before any sampling rule.

use super::candidate::{Candidate, by_likelihood, collect};
use super::row::{Survey, exponential_sum};

/// How likely the model itself found tokens. Natural logarithms of probabilities at temperature 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Logprobs {
    /// Of the chosen token; minus infinity for one that is ruled out or not in the vocabulary.
    pub chosen: f32,
    /// Of the most likely tokens, most likely first, with their ids.
    pub top: Vec<(u32, f32)>,
}

/// The log-probability of `chosen` and those of the `count` most likely tokens (fewer when there are not so many).
pub fn logprobs(logits: &[f32], chosen: u32, count: usize) -> Logprobs {
    let max = Survey::of(logits).max;
    let sum = if max == f32::NEG_INFINITY { 0.0 } else { exponential_sum(logits, max, 1.0, None) };
    let of = |logit: f32| {
        let logprob = f64::from(logit) - f64::from(max) - sum.ln();
        if logprob.is_nan() { f32::NEG_INFINITY } else { logprob as f32 } // a row of nothing but minus infinity
    };

    let mut top: Vec<Candidate> = Vec::new();
    if count > 0 {
        collect(logits, count, &mut top);
        top.sort_unstable_by(by_likelihood);
    }
    Logprobs {
        chosen: logits.get(chosen as usize).map_or(f32::NEG_INFINITY, |&logit| of(logit)),
        top: top.iter().map(|c| (c.id, of(c.logit))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logprobs_are_those_of_the_softmax() {
        let logits = [0.1f32, 0.6, 0.3].map(|p| p.ln() + 5.0);
        let found = logprobs(&logits, 0, 2);
        assert!((found.chosen - 0.1f32.ln()).abs() < 1e-6);
        assert_eq!(found.top.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 2]);
        assert!((found.top[0].1 - 0.6f32.ln()).abs() < 1e-6);
        assert!(logprobs(&logits, 0, 0).top.is_empty());
        assert_eq!(logprobs(&logits, 0, 99).top.len(), 3);
    }

    #[test]
    fn ruled_out_and_unknown_tokens_are_impossible() {
        let logits = [1.0, f32::NEG_INFINITY];
        assert_eq!(logprobs(&logits, 0, 5), Logprobs { chosen: 0.0, top: vec![(0, 0.0)] });
        assert_eq!(logprobs(&logits, 1, 0).chosen, f32::NEG_INFINITY);
        assert_eq!(logprobs(&logits, 7, 0).chosen, f32::NEG_INFINITY);
        assert_eq!(logprobs(&[f32::NEG_INFINITY; 2], 0, 3).chosen, f32::NEG_INFINITY);
    }
}
