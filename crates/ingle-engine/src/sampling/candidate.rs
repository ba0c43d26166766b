//! The tokens still in play, and how the most likely of them are found without sorting them all.

use std::cmp::Ordering;

/// A token that may be drawn. Its logit is finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    /// Token id.
    pub(super) id: u32,
    /// Its logit after penalties and biases.
    pub(super) logit: f32,
}

/// Most likely first; of equally likely tokens the one with the lowest id.
pub(super) fn by_likelihood(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// The candidate of a place in a row. Minus zero becomes zero, so that equal logits compare as equal everywhere.
fn candidate((id, &logit): (usize, &f32)) -> Candidate {
    Candidate { id: id as u32, logit: logit + 0.0 }
}

/// Fills `kept` with the tokens of a row whose logits are `least` or more and not minus infinity, in the order of ids.
pub(super) fn collect_from(row: &[f32], least: f32, kept: &mut Vec<Candidate>) {
    kept.clear();
    let least = least.max(f32::MIN);
    for (number, stretch) in row.chunks(STRETCH).enumerate() {
        if stretch.iter().fold(false, |any, &logit| any | (logit >= least)) {
            let inside =
                stretch.iter().enumerate().map(|(at, logit)| candidate((number * STRETCH + at, logit)));
            kept.extend(inside.filter(|c| c.logit >= least));
        }
    }
}

/// Logits looked at together: most stretches hold nothing of interest, and that is seen without a branch per token.
const STRETCH: usize = 16;

/// Fills `kept` with the `count` most likely tokens of a row in which -inf marks those ruled out; of equally likely
/// ones with the lowest ids. `count` 0 means all. The order of `kept` is unspecified but the same for the same row.
pub(super) fn collect(logits: &[f32], count: usize, kept: &mut Vec<Candidate>) {
    kept.clear();
    if count == 0 || count.saturating_mul(4) >= logits.len() {
        kept.extend(logits.iter().enumerate().map(candidate).filter(|c| c.logit > f32::NEG_INFINITY));
        keep_first(kept, if count == 0 { usize::MAX } else { count });
        return;
    }

    // Gather what beats the worst of those kept, and cut back whenever twice as many have gathered. Later ids do not
    // displace equal ones, so a strict comparison is the right one.
    let room = (2 * count).max(4 * STRETCH);
    let mut worst = f32::NEG_INFINITY;
    for (number, stretch) in logits.chunks(STRETCH).enumerate() {
        if !stretch.iter().fold(false, |any, &logit| any | (logit > worst)) {
            continue;
        }
        let base = number * STRETCH;
        kept.extend(
            stretch
                .iter()
                .enumerate()
                .filter(|&(_, &logit)| logit > worst)
                .map(|(offset, logit)| candidate((base + offset, logit))),
        );
        if kept.len() >= room {
            keep_first(kept, count);
            worst = kept.iter().fold(f32::INFINITY, |low, c| low.min(c.logit));
        }
    }
    keep_first(kept, count);
}

/// Keeps the `count` most likely.
fn keep_first(kept: &mut Vec<Candidate>, count: usize) {
    if count < kept.len() {
        kept.select_nth_unstable_by(count, by_likelihood);
        kept.truncate(count);
    }
}

/// Brings `kept` into `order` only as far as needed: shows each candidate in turn to `enough` and drops what follows
/// the one that was enough.
pub(super) fn keep_until(
    kept: &mut Vec<Candidate>,
    order: impl Fn(&Candidate, &Candidate) -> Ordering,
    mut enough: impl FnMut(&Candidate) -> bool,
) {
    let mut seen = 0;
    let mut stretch = 64;
    while seen < kept.len() {
        let rest = &mut kept[seen..];
        let take = rest.len().min(stretch);
        if take < rest.len() {
            rest.select_nth_unstable_by(take, &order);
        }
        let sorted = &mut rest[..take];
        sorted.sort_unstable_by(&order);
        if let Some(last) = sorted.iter().position(&mut enough) {
            kept.truncate(seen + last + 1);
            return;
        }
        seen += take;
        stretch *= 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(size: usize, levels: u32, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..size)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((state >> 8) % levels) as f32
            })
            .collect()
    }

    /// Against a full sort, over rows with many ties and sizes around the stretch.
    #[test]
    fn the_most_likely_are_found() {
        let mut kept = Vec::new();
        for (size, levels) in
            [(1, 1), (15, 3), (16, 2), (17, 9), (100, 5), (1000, 1), (1000, 40), (5000, 90_000)]
        {
            let row = row(size, levels, size as u32 + levels);
            let mut sorted: Vec<Candidate> =
                row.iter().enumerate().map(|(id, &logit)| Candidate { id: id as u32, logit }).collect();
            sorted.sort_by(by_likelihood);
            for count in [1, 2, 3, 20, 31, 32, 33, 250, 1000, 6000] {
                collect(&row, count, &mut kept);
                kept.sort_by(by_likelihood);
                assert_eq!(kept, sorted[..count.min(size)], "{count} of {size} with {levels} levels");
            }
            collect(&row, 0, &mut kept);
            assert_eq!(kept.len(), size);
        }
    }

    #[test]
    fn tokens_ruled_out_are_never_collected() {
        let mut row = vec![f32::NEG_INFINITY; 500];
        row[321] = -7.0;
        for count in [0, 1, 2, 499] {
            let mut kept = Vec::new();
            collect(&row, count, &mut kept);
            assert_eq!(kept, [Candidate { id: 321, logit: -7.0 }]);
        }
    }

    #[test]
    fn sorting_stops_where_it_is_enough() {
        let row = row(3000, 700, 5);
        for wanted in [1, 63, 64, 65, 577, 2999, 3000] {
            let mut kept = Vec::new();
            collect(&row, 0, &mut kept);
            let mut sorted = kept.clone();
            sorted.sort_by(by_likelihood);
            let mut seen = 0;
            keep_until(&mut kept, by_likelihood, |_| {
                seen += 1;
                seen == wanted
            });
            assert_eq!(kept, sorted[..wanted]);
        }
    }
}
