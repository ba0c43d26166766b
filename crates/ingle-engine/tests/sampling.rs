//! The sampler as its users see it: which tokens come out, how often, and that they come out again.

use std::collections::BTreeMap;

use ingle_engine::sampling::{Sampler, SamplingError, SamplingOptions, Window};

fn logits(probabilities: &[f32]) -> Vec<f32> {
    probabilities.iter().map(|p| p.ln()).collect()
}

fn options(seed: u64) -> SamplingOptions {
    SamplingOptions { seed: Some(seed), ..Default::default() }
}

/// How often each token came in `draws` positions.
fn count(options: SamplingOptions, logits: &[f32], draws: u64) -> Vec<u64> {
    let mut sampler = Sampler::new(options, logits.len()).unwrap();
    let mut counts = vec![0; logits.len()];
    for position in 0..draws {
        counts[sampler.sample(logits, &[], position).unwrap() as usize] += 1;
    }
    counts
}

/// Pearson's statistic of counts against probabilities; tokens of probability 0 must not occur at all.
fn chi_square(counts: &[u64], probabilities: &[f64]) -> f64 {
    let draws: u64 = counts.iter().sum();
    counts
        .iter()
        .zip(probabilities)
        .map(|(&count, &probability)| {
            if probability == 0.0 {
                assert_eq!(count, 0, "an impossible token came: {counts:?}");
                return 0.0;
            }
            let expected = probability * draws as f64;
            (count as f64 - expected).powi(2) / expected
        })
        .sum()
}

const SPREAD: [f32; 5] = [0.05, 0.4, 0.1, 0.3, 0.15];

/// Critical values at 0.001. The seeds are fixed, so these tests give the same verdict every time.
#[test]
fn tokens_come_as_often_as_they_are_likely() {
    let row = logits(&SPREAD);
    let all = [0.05, 0.4, 0.1, 0.3, 0.15];
    for seed in [0, 1, 42, u64::MAX] {
        let chi = chi_square(&count(options(seed), &row, 20_000), &all);
        assert!(chi < 18.5, "seed {seed}: {chi}"); // 4 degrees of freedom
    }

    let top_two = SamplingOptions { top_k: 2, ..options(1) };
    let chi = chi_square(&count(top_two, &row, 20_000), &[0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0, 0.0]);
    assert!(chi < 10.8, "top-k: {chi}");

    // At temperature 0.5 probabilities are squared and made to sum to 1 again.
    let squares: Vec<f64> = all.iter().map(|p| p * p / 0.285).collect();
    let cool = SamplingOptions { temperature: 0.5, ..options(2) };
    let chi = chi_square(&count(cool, &row, 20_000), &squares);
    assert!(chi < 18.5, "temperature: {chi}");

    // XTC at 0.25 leaves 0, 2, 3, 4 of sum 0.6 half of the time, everything the other half.
    let excluding = SamplingOptions { xtc_probability: 0.5, xtc_threshold: 0.25, ..options(3) };
    let mixed: Vec<f64> =
        all.iter().enumerate().map(|(id, p)| 0.5 * p + if id == 1 { 0.0 } else { 0.5 * p / 0.6 }).collect();
    let chi = chi_square(&count(excluding, &row, 20_000), &mixed);
    assert!(chi < 18.5, "XTC: {chi}");
}

/// Truncation works at temperature 1, so a high temperature flattens only what was kept.
#[test]
fn temperature_comes_after_truncation() {
    let hot = SamplingOptions { top_p: 0.6, temperature: 1e6, ..options(4) };
    let chi = chi_square(&count(hot, &logits(&SPREAD), 10_000), &[0.0, 0.5, 0.0, 0.5, 0.0]);
    assert!(chi < 10.8, "{chi}");
}

#[test]
fn greedy_takes_the_most_likely_and_the_lowest_of_equals() {
    let greedy = SamplingOptions { temperature: 0.0, ..Default::default() };
    let mut sampler = Sampler::new(greedy, 5).unwrap();
    assert_eq!(sampler.sample(&logits(&SPREAD), &[], 0).unwrap(), 1);
    assert_eq!(sampler.sample(&[1.0, 3.0, 2.0, 3.0, 3.0], &[], 0).unwrap(), 1);
    assert_eq!(sampler.sample(&[-1.0, -0.0, 0.0, -5.0, 0.0], &[], 0).unwrap(), 1, "zeros are equal");
    assert_eq!(sampler.sample(&[f32::NEG_INFINITY, f32::MIN, -3e38, f32::MIN, f32::MIN], &[], 0).unwrap(), 2);

    let penalised = SamplingOptions {
        temperature: 0.0,
        presence_penalty: 1.0,
        xtc_probability: 1.0,
        ..Default::default()
    };
    let mut sampler = Sampler::new(penalised, 5).unwrap();
    assert_eq!(sampler.sample(&logits(&SPREAD), &[1], 0).unwrap(), 3, "penalties count, XTC does not");
}

#[test]
fn rules_change_the_choice_in_their_order() {
    // The bias comes before the repetition penalty: (1 + 3) / 4 = 1 loses to 1.5; the other way round 3.25 would win.
    let bias = BTreeMap::from([(0, 3.0)]);
    let options =
        SamplingOptions { temperature: 0.0, logit_bias: bias, repetition_penalty: 4.0, ..Default::default() };
    let mut sampler = Sampler::new(options, 2).unwrap();
    assert_eq!(sampler.sample(&[1.0, 1.5], &[0], 0).unwrap(), 1);
    assert_eq!(sampler.sample(&[1.0, 1.5], &[], 0).unwrap(), 0);

    // Top-k first keeps 1 and 3 (0.4, 0.3 become 0.571, 0.429), of which top-p 0.55 keeps one.
    let both = SamplingOptions { top_k: 2, top_p: 0.55, seed: Some(1), ..Default::default() };
    assert_eq!(count(both, &logits(&SPREAD), 100), [0, 100, 0, 0, 0]);
}

#[test]
fn dry_breaks_a_loop_that_greedy_would_be_caught_in() {
    let row = logits(&SPREAD);
    let options = SamplingOptions { temperature: 0.0, dry_multiplier: 0.8, ..Default::default() };
    let mut sampler = Sampler::new(options, 5).unwrap();
    let mut history = Vec::new();
    for position in 0..6 {
        history.push(sampler.sample(&row, &history, position).unwrap());
    }
    // Token 1 leads 3 by 0.288. After three of them two repeat: 0.8 off, so 3 comes. Then nothing repeats.
    assert_eq!(history, [1, 1, 1, 3, 1, 1]);
}

#[test]
fn a_position_gives_the_same_token_whatever_came_before() {
    let row: Vec<f32> = (0..500).map(|id| (id as f32 * 0.37).sin() * 3.0).collect();
    let options = SamplingOptions { top_p: 0.9, xtc_probability: 0.5, xtc_threshold: 0.01, ..options(7) };
    let mut forwards = Sampler::new(options.clone(), row.len()).unwrap();
    let tokens: Vec<u32> = (0..100).map(|position| forwards.sample(&row, &[], position).unwrap()).collect();

    let mut backwards = Sampler::new(options.clone(), row.len()).unwrap();
    for position in (0..100).rev() {
        assert_eq!(backwards.sample(&row, &[], position).unwrap(), tokens[position as usize]);
    }
    let mut resumed = Sampler::new(options.clone(), row.len()).unwrap();
    assert_eq!(resumed.sample(&row, &[], 57).unwrap(), tokens[57]);

    let other = SamplingOptions { seed: Some(8), ..options };
    let mut other = Sampler::new(other, row.len()).unwrap();
    assert!((0..100).any(|position| other.sample(&row, &[], position).unwrap() != tokens[position as usize]));
}

#[test]
fn a_drawn_seed_is_told_and_repeats_the_run() {
    let row = vec![0.0; 1000];
    let mut first = Sampler::new(SamplingOptions::default(), row.len()).unwrap();
    let mut again = Sampler::new(options(first.seed()), row.len()).unwrap();
    for position in 0..20 {
        assert_eq!(first.sample(&row, &[], position).unwrap(), again.sample(&row, &[], position).unwrap());
    }
    let other = Sampler::new(SamplingOptions::default(), row.len()).unwrap();
    assert_ne!(first.seed(), other.seed());
}

/// A rule that keeps everything gives the tokens that no rule gives: they are walked in the same order.
#[test]
fn the_draw_depends_on_what_is_kept_not_on_how_it_was_found() {
    let row: Vec<f32> = (0..3000).map(|id| (id as f32 * 1.7).sin() * 4.0).collect();
    let mut plain = Sampler::new(options(3), row.len()).unwrap();
    for same in [
        SamplingOptions { top_k: 3000, ..options(3) },
        SamplingOptions { min_p: 1e-9, ..options(3) },
        SamplingOptions { top_p: 0.999_999_9, ..options(3) },
    ] {
        let mut sampler = Sampler::new(same, row.len()).unwrap();
        for position in 0..50 {
            assert_eq!(
                sampler.sample(&row, &[], position).unwrap(),
                plain.sample(&row, &[], position).unwrap()
            );
        }
    }
}

#[test]
fn bad_logits_are_named() {
    let mut sampler = Sampler::new(options(1), 3).unwrap();
    for bad in [f32::NAN, f32::INFINITY] {
        let error = sampler.sample(&[0.0, bad, bad], &[], 12).unwrap_err();
        assert!(matches!(error, SamplingError::BadLogit { id: 1, position: 12, .. }), "{error}");
    }
    assert!(matches!(
        sampler.sample(&[f32::NEG_INFINITY; 3], &[], 4).unwrap_err(),
        SamplingError::NothingLeft { position: 4 }
    ));
    assert!(matches!(
        sampler.sample(&[0.0; 4], &[], 0).unwrap_err(),
        SamplingError::WrongLength { given: 4, vocabulary: 3 }
    ));
    assert_eq!(sampler.sample(&[f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY], &[], 0).unwrap(), 1);

    let forbidding = BTreeMap::from([(0, f32::NEG_INFINITY), (1, f32::NEG_INFINITY)]);
    for temperature in [0.0, 1.0] {
        let options = SamplingOptions { logit_bias: forbidding.clone(), temperature, ..options(1) };
        let mut sampler = Sampler::new(options, 2).unwrap();
        assert!(matches!(
            sampler.sample(&[0.0, 0.0], &[], 0).unwrap_err(),
            SamplingError::NothingLeft { .. }
        ));
    }
}

#[test]
fn options_that_name_no_token_are_refused() {
    let options = SamplingOptions { logit_bias: BTreeMap::from([(3, 1.0)]), ..Default::default() };
    assert_eq!(
        Sampler::new(options, 3).unwrap_err().to_string(),
        "sampling option `logit_bias` names token 3, but the vocabulary ends before 3"
    );
}

/// A pseudo-random number below `limit`, for the search below.
fn next(state: &mut u64, limit: u32) -> u32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    ((*state >> 33) as u32) % limit
}

/// Whatever the options and however extreme the logits: a token comes out, and it is one that was not ruled out.
#[test]
fn any_valid_options_and_any_logits_give_a_possible_token() {
    const EXTREMES: [f32; 8] = [0.0, -0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45, 88.0, -104.0];
    const FRACTIONS: [f32; 6] = [0.0, 1e-30, 0.1, 0.5, 0.999, 1.0];
    let mut state = 9;
    for round in 0..4000 {
        let size = 1 + next(&mut state, if round % 50 == 0 { 3000 } else { 40 }) as usize;
        let mut pick = |list: &[f32]| list[next(&mut state, list.len() as u32) as usize];
        let options = SamplingOptions {
            temperature: pick(&[0.0, 1e-40, 0.3, 1.0, f32::MAX]),
            top_p: pick(&FRACTIONS),
            min_p: pick(&FRACTIONS),
            typical_p: pick(&FRACTIONS),
            repetition_penalty: pick(&[1e-40, 0.5, 1.0, 1.1, f32::MAX]),
            presence_penalty: pick(&[0.0, -f32::MAX, f32::MAX]),
            frequency_penalty: pick(&[0.0, -f32::MAX, f32::MAX]),
            dry_multiplier: pick(&[0.0, 1.0, f32::MAX]),
            dry_base: pick(&[1.0, 2.0, f32::MAX]),
            xtc_probability: pick(&FRACTIONS),
            xtc_threshold: pick(&FRACTIONS),
            top_k: pick(&[0.0, 1.0, 2.0, 100.0]) as u32,
            penalty_window: if pick(&[0.0, 1.0]) == 0.0 { Window::All } else { Window::Last(3) },
            dry_allowed_length: pick(&[0.0, 1.0, 2.0]) as u32,
            dry_sequence_breakers: vec![vec![1], vec![2, 0]],
            logit_bias: BTreeMap::from([(0, pick(&[0.0, f32::MAX, -f32::MAX]))]),
            seed: Some(round),
            ..Default::default()
        };
        let mut row: Vec<f32> = (0..size)
            .map(|_| match next(&mut state, 3) {
                0 => EXTREMES[next(&mut state, 8) as usize],
                1 => f32::NEG_INFINITY,
                _ => next(&mut state, 2000) as f32 / 100.0 - 10.0,
            })
            .collect();
        row[next(&mut state, size as u32) as usize] = 1.0; // at least one is possible
        let history: Vec<u32> = (0..next(&mut state, 30)).map(|_| next(&mut state, 4)).collect();

        let mut sampler = Sampler::new(options.clone(), size).unwrap();
        for position in 0..3 {
            let token = sampler.sample(&row, &history, position).unwrap_or_else(|error| {
                panic!("{error}: {options:?} {row:?}");
            });
            assert!(row[token as usize] > f32::NEG_INFINITY, "{token} is ruled out: {options:?} {row:?}");
        }
    }
}
