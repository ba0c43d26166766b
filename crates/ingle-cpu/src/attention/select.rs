//! The selection of sparse attention: the positions with the largest scores, ties to the lower position.
//!
//! Every executor selects here, so that two executors with the same scores attend to the same positions. Scores become
//! integers of the same order; the smallest key still taken is found digit by digit (11, 11 and 10 bits), counting how
//! many scores have each digit. That is four passes whatever the scores are, and no memory but the counts.

const BINS: usize = 1 << 11;

/// The `k` positions with the largest scores, ascending, in `out`; all positions where there are no more than `k`.
/// Equal scores (zeros of either sign are equal) go to the lower position; what is not a number comes last.
pub(crate) fn top_positions(scores: &[f32], k: usize, out: &mut Vec<u32>) {
    out.clear();
    if scores.len() <= k {
        out.extend(0..scores.len() as u32);
        return;
    }
    if k == 0 {
        return;
    }
    // the digits found so far of the smallest key taken, and how many of the keys that share them are taken
    let (mut least, mut ties) = (0u32, k);
    for (digits_above, shift, bits) in [(0u32, 21, 11), (!0 << 21, 10, 11), (!0 << 10, 0, 10)] {
        let mut counts = [0usize; BINS];
        for key in scores.iter().map(|&score| key(score)) {
            let shares = key & digits_above == least;
            counts[(key >> shift) as usize & ((1 << bits) - 1)] += usize::from(shares);
        }
        let mut digit = (1 << bits) - 1;
        while digit > 0 && counts[digit] < ties {
            ties -= counts[digit];
            digit -= 1;
        }
        least |= (digit as u32) << shift;
    }
    out.reserve(k);
    for (position, &score) in scores.iter().enumerate() {
        let key = key(score);
        let tied = key == least && ties > 0;
        if key > least || tied {
            out.push(position as u32);
            ties -= usize::from(tied);
        }
    }
}

/// An integer of the same order.
fn key(score: f32) -> u32 {
    if score.is_nan() {
        return 0;
    }
    let bits = (score + 0.0).to_bits(); // the sum makes a negative zero a positive one
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top(scores: &[f32], k: usize) -> Vec<u32> {
        let mut out = vec![7];
        top_positions(scores, k, &mut out);
        out
    }

    /// By sorting everything.
    fn sorted(scores: &[f32], k: usize) -> Vec<u32> {
        let order = |score: f32| if score.is_nan() { f32::NEG_INFINITY } else { score };
        let mut positions: Vec<u32> = (0..scores.len() as u32).collect();
        positions.sort_by(|&a, &b| {
            let (a, b) = (scores[a as usize], scores[b as usize]);
            a.is_nan().cmp(&b.is_nan()).then(order(b).partial_cmp(&order(a)).unwrap())
        });
        positions.truncate(k);
        positions.sort_unstable();
        positions
    }

    #[test]
    fn few_positions_are_all_taken() {
        assert!(top(&[], 3).is_empty());
        assert_eq!(top(&[1.0, 0.0], 2), [0, 1]);
        assert_eq!(top(&[1.0, f32::NAN], usize::MAX), [0, 1]);
        assert!(top(&[1.0, 0.0], 0).is_empty());
    }

    #[test]
    fn ties_go_to_the_lower_position_and_zeros_of_both_signs_tie() {
        assert_eq!(top(&[0.0, -0.0, 0.0, 1.0], 2), [0, 3]);
        assert_eq!(top(&[-0.0, 0.0, 0.0, 1.0], 3), [0, 1, 3]);
        assert_eq!(top(&[2.0; 100], 3), [0, 1, 2]);
    }

    #[test]
    fn what_is_not_a_number_comes_after_everything() {
        let scores = [f32::NAN, f32::NEG_INFINITY, -f32::NAN, f32::INFINITY, -1.0];
        assert_eq!(top(&scores, 3), [1, 3, 4]);
        assert_eq!(top(&scores, 4), [0, 1, 3, 4]);
    }

    #[test]
    fn equals_a_stable_sort() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as i32
        };
        for n in [1, 2, 17, 64, 1000, 5003] {
            // coarse values make many ties, fine ones differ in the last digits only
            let coarse: Vec<f32> = (0..n).map(|_| (random() % 16 - 8) as f32 / 4.0).collect();
            let fine: Vec<f32> =
                (0..n).map(|_| f32::from_bits(0x3f80_0000 + (random() % 3000) as u32)).collect();
            let wide: Vec<f32> = (0..n).map(|_| f32::from_bits((random() as u32) << 8)).collect();
            for scores in [coarse, fine, wide] {
                for k in [1, 5, 17, n / 2, n - 1] {
                    assert_eq!(top(&scores, k), sorted(&scores, k), "{n} {k}");
                }
            }
        }
    }
}
