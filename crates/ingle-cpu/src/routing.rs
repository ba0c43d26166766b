//! Which experts a token uses and how much each counts, from the router's logits: one rule for every executor.
//!
//! With logits `l` and a stored selection bias `b` (zero where there is none):
//!
//! ```text
//! s = scoring(l)                     softmax over all, sigmoid, sqrt(ln(1 + e^l)), or l itself
//! c = s + b                          what the choice looks at
//! groups, if any:                    consecutive, of equal size; only experts of the best ones stay in the choice
//! chosen = the `used` largest c      largest first; of equal ones the lower index
//! w = s of the chosen                for softmax of the selected: their softmax
//! w = w / (sum of w + 1e-20)         where weights are normalised
//! w = w * scale * e                  e the expert's stored factor (1 where there is none)
//! ```

use ingle_model::spec::{ExpertGroups, Gating, GroupScore, Scoring};
use std::cmp::Ordering;

/// Keeps the sum of weights that all vanished from being a divisor of zero.
const LEAST_SUM: f32 = 1e-20;

/// What a network stores of its experts for the router, each as long as the logits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stored<'a> {
    /// Takes part in the choice only.
    pub selection_bias: Option<&'a [f32]>,
    /// Multiplies the weights of the chosen.
    pub expert_scale: Option<&'a [f32]>,
}

/// Writes the experts that a token uses, with their weights, to `out`: at most `used`, largest choice first.
///
/// `logits` is the router's output for the token, its bias included. There are fewer than `used` experts in `out` only if no more are in the choice. Logits that are not numbers
/// are chosen last, and give weights that are not numbers.
pub fn route(gating: &Gating, used: usize, logits: &[f32], stored: &Stored, out: &mut Vec<(usize, f32)>) {
    let score = scores(gating.scoring, logits);
    out.clear();
    out.extend(logits.iter().enumerate().map(|(expert, &logit)| {
        let biased = score(logit) + stored.selection_bias.map_or(0.0, |bias| bias[expert]);
        (expert, if biased.is_nan() { f32::NEG_INFINITY } else { biased })
    }));
    if let Some(groups) = gating.groups {
        keep_best_groups(groups, out);
    }
    keep_largest(used, out);
    for (expert, weight) in out.iter_mut() {
        *weight = score(logits[*expert]);
    }
    if gating.scoring == Scoring::SoftmaxOfSelected {
        softmax(out);
    }
    if gating.normalise {
        let sum: f32 = out.iter().map(|(_, weight)| weight).sum();
        out.iter_mut().for_each(|(_, weight)| *weight /= sum + LEAST_SUM);
    }
    for (expert, weight) in out.iter_mut() {
        *weight *= gating.scale * stored.expert_scale.map_or(1.0, |scale| scale[*expert]);
    }
}

/// The score of a logit among all.
fn scores(scoring: Scoring, logits: &[f32]) -> impl Fn(f32) -> f32 {
    let (mut largest, mut sum) = (0.0, 1.0);
    if scoring == Scoring::Softmax {
        largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        sum = logits.iter().map(|logit| f64::from((logit - largest).exp())).sum::<f64>();
    }
    move |logit: f32| match scoring {
        Scoring::Softmax => (f64::from((logit - largest).exp()) / sum) as f32,
        Scoring::Sigmoid => 1.0 / (1.0 + (-logit).exp()),
        Scoring::SoftmaxOfSelected => logit,
        // ln(1 + e^l) without overflow
        Scoring::SqrtSoftplus => (logit.max(0.0) + (-logit.abs()).exp().ln_1p()).sqrt(),
    }
}

/// Larger values first, equal ones in the order of their indices. There are no values that are not numbers.
fn by_value(a: &(usize, f32), b: &(usize, f32)) -> Ordering {
    b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal).then(a.0.cmp(&b.0))
}

/// Leaves the `count` largest, largest first.
fn keep_largest(count: usize, choice: &mut Vec<(usize, f32)>) {
    if count < choice.len() {
        if count > 0 {
            choice.select_nth_unstable_by(count - 1, by_value);
        }
        choice.truncate(count);
    }
    choice.sort_unstable_by(by_value);
}

/// Leaves the experts of the best groups. `choice` holds all experts in order, and is used as scratch behind its end.
fn keep_best_groups(groups: ExpertGroups, choice: &mut Vec<(usize, f32)>) {
    let experts = choice.len();
    let size = experts.div_ceil(groups.count.max(1));
    if size == 0 || groups.used >= groups.count {
        return;
    }
    for first in (0..experts).step_by(size) {
        let score = group_score(groups.score, &choice[first..experts.min(first + size)]);
        choice.push((first, score));
    }
    let best = &mut choice[experts..];
    best.sort_unstable_by(by_value);
    let kept = groups.used.min(best.len());
    best[..kept].sort_unstable_by_key(|&(first, _)| first);
    // groups move towards the front, in order, so that none is overwritten before it has moved
    let mut end = 0;
    for group in 0..kept {
        let first = choice[experts + group].0;
        let last = experts.min(first + size);
        choice.copy_within(first..last, end);
        end += last - first;
    }
    choice.truncate(end);
}

/// What ranks a group: the sum of its two largest, or its largest.
fn group_score(score: GroupScore, group: &[(usize, f32)]) -> f32 {
    let (mut first, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
    for &(_, value) in group {
        if value > first {
            (first, second) = (value, first);
        } else if value > second {
            second = value;
        }
    }
    match score {
        GroupScore::TwoBest if group.len() > 1 => first + second,
        GroupScore::TwoBest | GroupScore::Best => first,
    }
}

/// Softmax over the weights.
fn softmax(choice: &mut [(usize, f32)]) {
    let largest = choice.iter().map(|&(_, weight)| weight).fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for (_, weight) in choice.iter_mut() {
        *weight = (*weight - largest).exp();
        sum += *weight;
    }
    choice.iter_mut().for_each(|(_, weight)| *weight /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gating(scoring: Scoring) -> Gating {
        Gating {
            scoring,
            router_bias: false,
            selection_bias: false,
            groups: None,
            normalise: false,
            expert_scale: false,
            scale: 1.0,
        }
    }

    fn routed(gating: &Gating, used: usize, logits: &[f32], bias: Option<&[f32]>) -> Vec<(usize, f32)> {
        let mut out = vec![(9, 9.0); 3];
        route(gating, used, logits, &Stored { selection_bias: bias, expert_scale: None }, &mut out);
        out
    }

    fn assert_close(got: &[(usize, f32)], wanted: &[(usize, f64)]) {
        let close = |got: &(usize, f32), wanted: &(usize, f64)| {
            got.0 == wanted.0 && (f64::from(got.1) - wanted.1).abs() <= 1e-6 * wanted.1.abs()
        };
        let all = got.len() == wanted.len() && got.iter().zip(wanted).all(|(g, w)| close(g, w));
        assert!(all, "{got:?} is not {wanted:?}");
    }

    const LOGITS: [f32; 4] = [0.5, -1.0, 2.0, 1.0];

    #[test]
    fn softmax_is_over_all_experts_unless_normalised() {
        let e = |x: f64| x.exp();
        let all = e(0.5) + e(-1.0) + e(2.0) + e(1.0);
        let rule = gating(Scoring::Softmax);
        assert_close(&routed(&rule, 2, &LOGITS, None), &[(2, e(2.0) / all), (3, e(1.0) / all)]);
        let rule = Gating { normalise: true, scale: 2.5, ..rule };
        let two = e(2.0) + e(1.0);
        assert_close(&routed(&rule, 2, &LOGITS, None), &[(2, 2.5 * e(2.0) / two), (3, 2.5 * e(1.0) / two)]);
    }

    #[test]
    fn softmax_of_the_selected_counts_only_them() {
        let e = |x: f64| x.exp();
        let two = e(2.0) + e(1.0);
        let got = routed(&gating(Scoring::SoftmaxOfSelected), 2, &LOGITS, None);
        assert_close(&got, &[(2, e(2.0) / two), (3, e(1.0) / two)]);
        // far beyond what e^x can hold
        let got = routed(&gating(Scoring::SoftmaxOfSelected), 2, &[1000.0, 999.0, -1000.0], None);
        assert_close(&got, &[(0, 1.0 / (1.0 + e(-1.0))), (1, 1.0 - 1.0 / (1.0 + e(-1.0)))]);
    }

    #[test]
    fn the_selection_bias_selects_and_orders_but_does_not_weigh() {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let rule = gating(Scoring::Sigmoid);
        let bias = [0.0, 5.0, 0.0, 1.0];
        let got = routed(&rule, 3, &LOGITS, Some(&bias));
        assert_close(&got, &[(1, sigmoid(-1.0)), (3, sigmoid(1.0)), (2, sigmoid(2.0))]);
    }

    #[test]
    fn the_factor_of_an_expert_weighs_after_all_else_and_does_not_select() {
        let rule = Gating { normalise: true, scale: 2.0, ..gating(Scoring::Softmax) };
        let plain = routed(&rule, 2, &LOGITS, None);
        let stored = Stored { selection_bias: None, expert_scale: Some(&[9.0, 9.0, 0.5, 3.0]) };
        let mut out = Vec::new();
        route(&rule, 2, &LOGITS, &stored, &mut out);
        let wanted = [(2, f64::from(plain[0].1) * 0.5), (3, f64::from(plain[1].1) * 3.0)];
        assert_close(&out, &wanted);
    }

    #[test]
    fn sqrt_softplus_neither_overflows_nor_vanishes() {
        let softplus = |x: f64| x.exp().ln_1p().sqrt();
        let got = routed(&gating(Scoring::SqrtSoftplus), 4, &LOGITS, None);
        let wanted = [(2, softplus(2.0)), (3, softplus(1.0)), (0, softplus(0.5)), (1, softplus(-1.0))];
        assert_close(&got, &wanted);
        let got = routed(&gating(Scoring::SqrtSoftplus), 2, &[200.0, -80.0], None);
        assert_close(&got, &[(0, 200f64.sqrt()), (1, (-40f64).exp())]);
    }

    #[test]
    fn equal_experts_are_taken_in_their_order() {
        let experts = |logits: &[f32], used| -> Vec<usize> {
            routed(&gating(Scoring::Sigmoid), used, logits, None).iter().map(|&(expert, _)| expert).collect()
        };
        assert_eq!(experts(&[0.0; 64], 5), [0, 1, 2, 3, 4]);
        assert_eq!(experts(&[0.0, -0.0, 1.0, 0.0, -0.0, 1.0], 4), [2, 5, 0, 1]);
    }

    #[test]
    fn groups_are_judged_by_their_two_best_biased_scores() {
        let mut rule = gating(Scoring::SoftmaxOfSelected);
        rule.groups = Some(ExpertGroups { count: 4, used: 2, score: GroupScore::TwoBest });
        // sums of two best: 3.1, 4, 5, 2; the largest of all, expert 0, is in a group that is out
        let logits = [3.0, 0.1, 0.0, 2.0, 2.0, 1.9, 2.5, 2.5, 2.4, 1.0, 1.0, 0.9];
        let experts = |rule: &Gating, used, bias: Option<&[f32]>| -> Vec<usize> {
            routed(rule, used, &logits, bias).iter().map(|&(expert, _)| expert).collect()
        };
        assert_eq!(experts(&rule, 5, None), [6, 7, 8, 3, 4]);
        let mut bias = [0.0; 12];
        bias[9] = 10.0;
        assert_eq!(experts(&rule, 4, Some(&bias)), [9, 6, 7, 8]);
        // no more than the groups hold
        assert_eq!(experts(&rule, 9, None).len(), 6);
        rule.groups = Some(ExpertGroups { count: 4, used: 4, score: GroupScore::TwoBest });
        assert_eq!(experts(&rule, 1, None), [0]);
        // by the single best, the first group is in
        rule.groups = Some(ExpertGroups { count: 4, used: 2, score: GroupScore::Best });
        assert_eq!(experts(&rule, 3, None), [0, 6, 7]);
    }

    #[test]
    fn groups_of_one_and_equal_groups() {
        let mut rule = gating(Scoring::Sigmoid);
        rule.groups = Some(ExpertGroups { count: 4, used: 2, score: GroupScore::TwoBest });
        let got = routed(&rule, 2, &LOGITS, None);
        assert_eq!([got[0].0, got[1].0], [2, 3]);
        let got = routed(&rule, 4, &[1.0; 8], None);
        assert_eq!(got.iter().map(|&(expert, _)| expert).collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn what_is_not_a_number_is_chosen_last_and_stays_visible() {
        let got = routed(&gating(Scoring::Sigmoid), 2, &[f32::NAN, -3.0, f32::NAN, -2.0], None);
        assert_eq!([got[0].0, got[1].0], [3, 1]);
        let got = routed(&gating(Scoring::Sigmoid), 3, &[f32::NAN, -3.0, f32::NAN, -2.0], None);
        assert!(got[2].0 == 0 && got[2].1.is_nan());
        assert!(routed(&gating(Scoring::Softmax), 2, &[f32::NAN; 4], None).iter().all(|(_, w)| w.is_nan()));
        assert!(routed(&gating(Scoring::Softmax), 2, &[], None).is_empty());
    }

    #[test]
    fn weights_that_all_vanish_are_not_divided_by_zero() {
        let rule = Gating { normalise: true, ..gating(Scoring::Sigmoid) };
        let got = routed(&rule, 2, &[-200.0; 4], None);
        assert!(got.iter().all(|&(_, weight)| weight == 0.0));
    }
}
