//! A whole row of logits at once: its largest, its softmax, a draw from all of it.
//!
//! Rows have a hundred thousand logits and more, so each of these is a pass or two of vector instructions over them and
//! takes no memory: sums are kept for stretches of the row, and what is wanted of single logits is computed again where
//! it is wanted. Exponentials are the executor's kernels', to 2 units in the last place.

use ingle_cpu::kernels::Kernels;

/// Logits taken at a time.
const STRETCH: usize = 1024;

/// What is seen of a row in passing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Survey {
    /// The largest logit; minus infinity where there is none.
    pub(super) max: f32,
    /// Whether no logit is NaN or plus infinity.
    pub(super) sound: bool,
    /// Where the stretch begins that has the first of the largest.
    stretch: usize,
}

impl Survey {
    /// Looks over a row. Sixteen running maxima, so that the compiler may keep them in vector registers.
    pub(super) fn of(row: &[f32]) -> Survey {
        let mut survey = Survey { max: f32::NEG_INFINITY, sound: true, stretch: 0 };
        for (number, stretch) in row.chunks(STRETCH).enumerate() {
            let mut lanes = [f32::NEG_INFINITY; 16];
            let mut unsound = [0u32; 16];
            let (whole, rest) = stretch.as_chunks::<16>();
            for logits in whole {
                for lane in 0..16 {
                    let logit = logits[lane];
                    lanes[lane] = if logit > lanes[lane] { logit } else { lanes[lane] };
                    // neither NaN nor plus infinity is smaller
                    unsound[lane] |= u32::from(!matches!(
                        logit.partial_cmp(&f32::INFINITY),
                        Some(std::cmp::Ordering::Less)
                    ));
                }
            }
            let max = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |max, &logit| max.max(logit));
            let bad = |logit: &f32| logit.is_nan() || *logit == f32::INFINITY;
            survey.sound &= unsound == [0; 16] && !rest.iter().any(bad);
            if max > survey.max {
                (survey.max, survey.stretch) = (max, number * STRETCH);
            }
        }
        survey
    }

    /// The first of the row's largest logits; `None` when all are minus infinity.
    pub(super) fn most_likely(&self, row: &[f32]) -> Option<u32> {
        if self.max == f32::NEG_INFINITY {
            return None;
        }
        let at = row[self.stretch..].iter().position(|&logit| logit == self.max);
        at.map(|at| (self.stretch + at) as u32)
    }
}

/// The sum of `exp((logit - max) / temperature)` over a row, at least 1 unless all are minus infinity. `sums`, where
/// there are any, becomes the sums of its stretches.
pub(super) fn exponential_sum(row: &[f32], max: f32, temperature: f32, sums: Option<&mut Vec<f64>>) -> f64 {
    let kernels = Kernels::best();
    let mut powers = [0.0; STRETCH];
    let mut all = 0.0;
    let of_stretches = row.chunks(STRETCH).map(|stretch| {
        let sum = f64::from(exponentials(kernels, stretch, max, temperature, &mut powers));
        all += sum;
        sum
    });
    match sums {
        Some(sums) => {
            sums.clear();
            sums.extend(of_stretches);
        }
        None => of_stretches.for_each(drop),
    }
    all
}

/// Fills the first of `powers` with a stretch's exponentials and gives their sum.
fn exponentials(
    kernels: &Kernels,
    stretch: &[f32],
    max: f32,
    temperature: f32,
    powers: &mut [f32; STRETCH],
) -> f32 {
    let powers = &mut powers[..stretch.len()];
    if temperature == 1.0 {
        powers.copy_from_slice(stretch);
        kernels.exp_sum(powers, max)
    } else {
        // not more than zero, however small the temperature is
        powers.iter_mut().zip(stretch).for_each(|(power, logit)| *power = (logit - max) / temperature);
        kernels.exp_sum(powers, 0.0)
    }
}

/// Draws from a row's softmax at a temperature: the token at which the probabilities, summed in the order of ids, pass
/// `share` (from 0 to 1). `None` when all logits are minus infinity. `sums` is scratch.
pub(super) fn draw(
    row: &[f32],
    survey: &Survey,
    temperature: f32,
    share: f64,
    sums: &mut Vec<f64>,
) -> Option<u32> {
    let max = survey.max;
    if max == f32::NEG_INFINITY {
        return None;
    }
    let mut left = share * exponential_sum(row, max, temperature, Some(sums));
    let mut powers = [0.0; STRETCH];
    let mut last = None;
    for (number, &sum) in sums.iter().enumerate() {
        if left - sum >= 0.0 && number + 1 < sums.len() {
            left -= sum;
            if sum > 0.0 {
                last = Some(number);
            }
            continue;
        }
        let found = within(row, number, max, temperature, &mut left, &mut powers);
        if found.is_some() {
            return found;
        }
        // what rounding left over goes to the last possible token
    }
    last.and_then(|number| {
        let mut left = f64::INFINITY;
        within(row, number, max, temperature, &mut left, &mut powers)
    })
}

/// The token of a stretch at which `left` is used up, or else its last possible one, if there is any.
fn within(
    row: &[f32],
    number: usize,
    max: f32,
    temperature: f32,
    left: &mut f64,
    powers: &mut [f32; STRETCH],
) -> Option<u32> {
    let start = number * STRETCH;
    let stretch = &row[start..row.len().min(start + STRETCH)];
    exponentials(Kernels::best(), stretch, max, temperature, powers);
    let mut last = None;
    for (at, &power) in powers[..stretch.len()].iter().enumerate() {
        if power > 0.0 {
            last = Some((start + at) as u32);
            *left -= f64::from(power);
            if *left < 0.0 {
                break;
            }
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(size: usize) -> Vec<f32> {
        (0..size).map(|at| ((at * 7919 % 1009) as f32 * 0.37).sin() * 8.0).collect()
    }

    #[test]
    fn the_first_of_the_largest_is_found_wherever_it_is() {
        for size in [1, 15, 16, 17, 1023, 1024, 1025, 5000] {
            for at in [0, size / 2, size - 1] {
                let mut row = row(size);
                row[at] = 9.0;
                row[size - 1] = 9.0;
                let survey = Survey::of(&row);
                assert_eq!((survey.max, survey.sound), (9.0, true));
                assert_eq!(survey.most_likely(&row), Some(at as u32), "{at} of {size}");
                for bad in [f32::NAN, f32::INFINITY] {
                    let mut row = row.clone();
                    row[at] = bad;
                    assert!(!Survey::of(&row).sound, "{bad} at {at} of {size}");
                }
                row[at] = f32::NEG_INFINITY;
                assert!(Survey::of(&row).sound);
            }
        }
        assert_eq!(Survey::of(&[f32::NEG_INFINITY; 40]).most_likely(&[f32::NEG_INFINITY; 40]), None);
        assert_eq!(Survey::of(&[]).most_likely(&[]), None);
    }

    #[test]
    fn sums_are_those_of_the_exponentials() {
        for size in [1, 1000, 1024, 1025, 4097] {
            let row = row(size);
            for temperature in [0.3, 1.0, 2.5] {
                let max = Survey::of(&row).max;
                let exact: f64 =
                    row.iter().map(|&x| (f64::from(x - max) / f64::from(temperature)).exp()).sum();
                let mut sums = Vec::new();
                let sum = exponential_sum(&row, max, temperature, Some(&mut sums));
                assert!((sum / exact - 1.0).abs() < 1e-5, "{sum} is not {exact}");
                assert!((sums.iter().sum::<f64>() - sum).abs() < 1e-9 * sum);
            }
        }
    }

    /// Every token is drawn for shares within its own part of the whole.
    #[test]
    fn a_share_falls_on_the_token_that_has_it() {
        for size in [1, 7, 1024, 2500] {
            let row = row(size);
            let (survey, temperature) = (Survey::of(&row), 0.7);
            let weights: Vec<f64> =
                row.iter().map(|&x| (f64::from(x - survey.max) / f64::from(temperature)).exp()).collect();
            let all: f64 = weights.iter().sum();
            let mut before = 0.0;
            let mut sums = Vec::new();
            for (id, weight) in weights.iter().enumerate() {
                if weight / all > 1e-4 {
                    let share = (before + weight / 2.0) / all;
                    assert_eq!(draw(&row, &survey, temperature, share, &mut sums), Some(id as u32));
                }
                before += weight;
            }
        }
    }

    #[test]
    fn what_is_ruled_out_is_never_drawn() {
        let mut row = vec![f32::NEG_INFINITY; 5000];
        let mut sums = Vec::new();
        assert_eq!(draw(&row, &Survey::of(&row), 1.0, 0.5, &mut sums), None);
        row[2222] = -3.0;
        for share in [0.0, 0.5, 1.0 - f64::EPSILON] {
            assert_eq!(draw(&row, &Survey::of(&row), 1.0, share, &mut sums), Some(2222), "{share}");
        }
        row[0] = 5.0;
        for share in [0.0, 0.5, 1.0 - f64::EPSILON] {
            assert_eq!(draw(&row, &Survey::of(&row), 1e-30, share, &mut sums), Some(0), "{share}");
        }
    }
}
