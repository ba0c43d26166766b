//! The kernels over a page of integers against whole numbers of 64 bits and arithmetic in 64-bit floats.

use super::*;
use crate::kernels::Isa;

const WIDTHS: [usize; 9] = [2, 6, 24, 64, 80, 96, 128, 192, 256];
const COUNTS: [usize; 7] = [1, 2, 3, 4, 5, 8, 17];

fn tables() -> impl Iterator<Item = &'static Kernels> {
    Isa::ALL.into_iter().filter_map(Kernels::for_isa)
}

/// Integers from `-most` to `most`.
fn integers(count: usize, most: i32, seed: u32) -> impl Iterator<Item = i32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..count).map(move |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as i32 % (2 * most + 1) - most
    })
}

fn words(count: usize, most: i32, seed: u32) -> Vec<i16> {
    integers(count, most, seed).map(|x| x as i16).collect()
}

fn floats(count: usize, seed: u32) -> Vec<f32> {
    integers(count, 1 << 20, seed).map(|x| x as f32 / (1 << 20) as f32).collect()
}

#[test]
fn products_of_queries_and_a_page_are_exact() {
    for kernels in tables() {
        for (width, count) in WIDTHS.into_iter().flat_map(|width| COUNTS.map(|count| (width, count))) {
            let (queries, keys) = (words(count * width, 3000, 1), words(width * PAGE, 3000, 2));
            let mut out = vec![[-1; PAGE]; count];
            kernels.dots(&queries, &keys, &[1; 77], &mut out);
            for (query, out) in queries.chunks_exact(width).zip(&out) {
                for (position, &out) in out.iter().enumerate() {
                    let key = |at: usize| i32::from(keys[(at / 2 * PAGE + position) * 2 + at % 2]);
                    let exact: i32 = query.iter().enumerate().map(|(at, &q)| i32::from(q) * key(at)).sum();
                    assert_eq!(out, exact, "{:?} {width} {count}", kernels.isa());
                }
            }
        }
    }
}

#[test]
fn weighted_values_are_exact_and_join_what_was_summed_before() {
    for kernels in tables() {
        for (width, count) in WIDTHS.into_iter().flat_map(|width| COUNTS.map(|count| (width, count))) {
            for positions in [1, 2, 17, 63, PAGE] {
                let values = words(width * PAGE, 32_767, 3);
                let mut weights = vec![[0i16; PAGE]; count];
                for (seed, weights) in weights.iter_mut().enumerate() {
                    let some = integers(positions, 500, seed as u32).map(|x| x.unsigned_abs() as i16);
                    weights.iter_mut().zip(some).for_each(|(to, from)| *to = from);
                }
                let rows: Vec<Softmax> = (0..count)
                    .map(|at| Softmax { shrink: 0.5, unit: 0.25 * at as f32, ..Softmax::new(1.0) })
                    .collect();
                let before = floats(count * width, 4);
                let mut out = before.clone();
                kernels.sum_values(&weights, &rows, &values, positions, &[1; 77], &mut out);
                for (at, (ours, before)) in out.iter().zip(&before).enumerate() {
                    let (row, component) = (at / width, at % width);
                    let value = |at: usize| i64::from(values[(at / 2 * width + component) * 2 + at % 2]);
                    let sum: i64 = (0..PAGE).map(|at| i64::from(weights[row][at]) * value(at)).sum();
                    let exact = f64::from(*before) * 0.5 + 0.25 * row as f64 * sum as f64;
                    let error = (f64::from(*ours) - exact).abs();
                    assert!(error <= 2e-7 * exact.abs() + 1e-7, "{:?} {width} {positions}", kernels.isa());
                }
            }
        }
    }
}

#[test]
fn weights_of_a_page_are_its_softmax_joined_with_the_pages_before() {
    for kernels in tables() {
        for (soft_cap, seen) in [None, Some(3.0)]
            .into_iter()
            .flat_map(|cap| [0..PAGE, 0..1, 5..40, 63..64, 17..PAGE, 9..9].map(|seen| (cap, seen)))
        {
            let scales = |seed| -> [bf16; PAGE] {
                std::array::from_fn(|at| bf16::from_f32(1e-4 * (1.0 + ((at * 7 + seed) % 13) as f32)))
            };
            let (key_scales, value_scales) = (scales(1), scales(5));
            let pages: Vec<[i32; PAGE]> = (0..3)
                .map(|page| {
                    let mut page = integers(PAGE, 90_000 * (1 + page), page as u32);
                    std::array::from_fn(|_| page.next().unwrap())
                })
                .collect();
            let mut rows = [Softmax { seen: seen.clone(), ..Softmax::new(0.05) }];
            let score = |page: usize, at: usize| {
                let score = f64::from(pages[page][at]) * key_scales[at].to_f64() * 0.05;
                soft_cap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
            };
            let mut weighted = vec![0.0; 3 * PAGE];
            for page in 0..3 {
                let mut weights = [[7; PAGE]];
                let dots = &pages[page..page + 1];
                kernels.weigh(dots, &key_scales, &value_scales, soft_cap, &mut rows, &mut weights);
                let [row] = &rows;
                weighted.iter_mut().for_each(|weighted| *weighted *= f64::from(row.shrink));
                let sum: i32 = weights[0].iter().map(|&weight| i32::from(weight)).sum();
                assert!(sum <= 32_767 && weights[0].iter().all(|&weight| weight >= 0));
                for (to, &weight) in weighted[page * PAGE..].iter_mut().zip(&weights[0]) {
                    *to = f64::from(weight) * f64::from(row.unit);
                }
            }
            let [row] = &rows;
            if seen.is_empty() {
                assert!(row.sum == 0.0 && weighted.iter().all(|&weight| weight == 0.0));
                continue;
            }
            let all: f64 = (0..3).flat_map(|page| seen.clone().map(move |at| score(page, at).exp())).sum();
            let ours = f64::from(row.sum) * f64::from(row.largest).exp2();
            assert!((ours / all - 1.0).abs() < 1e-5, "{:?}: {ours} is not {all}", kernels.isa());
            for (page, at) in (0..3).flat_map(|page| (0..PAGE).map(move |at| (page, at))) {
                let share = score(page, at).exp() * value_scales[at].to_f64() / all;
                let exact = if seen.contains(&at) { share } else { 0.0 };
                let ours = weighted[page * PAGE + at] / f64::from(row.sum);
                // half of a unit of the page's weights, and what floats lose
                let within = 2e-5 * 13e-4 + 1e-5 * exact;
                assert!((ours - exact).abs() <= within, "{:?} {page} {at} {ours} {exact}", kernels.isa());
            }
        }
    }
}

/// Rows that try the limits: noise, one large number, all alike, tiny ones, zeros.
fn rows(width: usize) -> Vec<Vec<f32>> {
    let mut peak = floats(width, 8);
    peak[width / 2] = 300.0;
    let tiny = floats(width, 9).into_iter().map(|x| x * 1e-12).collect();
    vec![floats(width, 7), peak, vec![-2.5; width], tiny, vec![0.0; width]]
}

#[test]
fn rows_become_integers_within_their_limits_and_half_a_step() {
    for kernels in tables() {
        for (width, limits) in WIDTHS
            .into_iter()
            .chain([1, 33, 4096])
            .flat_map(|width| [RowLimits::KEY, RowLimits::VALUE].map(|limits| (width, limits)))
        {
            for row in rows(width) {
                let mut out = vec![77; width];
                let scale = kernels.to_words(&row, limits, &mut out);
                assert_eq!(bf16::from_f32(scale).to_f32(), scale);
                for (&word, &x) in out.iter().zip(&row) {
                    assert!(f32::from(word).abs() <= limits.largest);
                    assert!((f32::from(word) * scale - x).abs() <= 0.502 * scale, "{:?}", kernels.isa());
                }
            }
        }
    }
}

#[test]
fn rows_of_few_bits_are_exact_products_within_half_a_step_of_their_block() {
    for kernels in tables() {
        for (width, limits) in WIDTHS.into_iter().chain([1, 33, 4096]).flat_map(|width| {
            [RowLimits::KEY_8, RowLimits::VALUE_8, RowLimits::KEY_4, RowLimits::VALUE_4]
                .map(|limits| (width, limits))
        }) {
            for row in rows(width) {
                let (mut bytes, mut factors) = (vec![77; width], vec![9; width.div_ceil(CACHE_BLOCK)]);
                let scale = kernels.to_bytes(&row, limits, &mut bytes, &mut factors);
                for (at, (&byte, &x)) in bytes.iter().zip(&row).enumerate() {
                    let (factor, step) = (factors[at / CACHE_BLOCK], scale * f32::from(factors[at / 32]));
                    assert!(f32::from(byte).abs() <= limits.number);
                    assert!(f32::from(byte).abs() * f32::from(factor) <= limits.largest);
                    assert!((f32::from(byte) * step - x).abs() <= 0.502 * step, "{:?}", kernels.isa());
                }
            }
        }
    }
}

#[test]
fn no_sum_of_a_query_and_a_key_leaves_32_bits() {
    for kernels in tables() {
        for width in [1, 2, 64, 128, 256, 1024, 4096] {
            for row in rows(width) {
                let (mut query, mut bytes) = (vec![0; width], vec![0; width]);
                let mut factors = vec![0; width.div_ceil(CACHE_BLOCK)];
                kernels.to_words(&row, RowLimits::KEY, &mut query);
                kernels.to_bytes(&row, RowLimits::KEY_8, &mut bytes, &mut factors);
                let key = |at: usize| i64::from(bytes[at]) * i64::from(factors[at / CACHE_BLOCK]);
                let with = |key: &dyn Fn(usize) -> i64| -> i64 {
                    (0..width).map(|at| i64::from(query[at]) * key(at)).sum()
                };
                assert!(with(&key) <= i64::from(i32::MAX), "{width}");
                assert!(with(&|at| i64::from(query[at])) <= i64::from(i32::MAX), "{width}");
            }
        }
    }
}

#[test]
fn what_is_not_finite_has_no_scale() {
    for kernels in tables() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
            for at in [0, 20] {
                let mut row = floats(21, 1);
                row[at] = bad;
                let (mut words, mut bytes, mut factors) = ([0; 21], [0; 21], [0; 1]);
                assert!(kernels.to_words(&row, RowLimits::KEY, &mut words).is_nan());
                assert!(kernels.to_bytes(&row, RowLimits::KEY_8, &mut bytes, &mut factors).is_nan());
            }
        }
    }
}

#[test]
fn pages_of_bytes_are_widened_exactly() {
    for kernels in tables() {
        for width in WIDTHS {
            let bytes: Vec<i8> = integers(width * PAGE, 127, 5).map(|x| x as i8).collect();
            let blocks = width.div_ceil(CACHE_BLOCK);
            let factors: Vec<u8> = integers(blocks * PAGE, 127, 6).map(|x| (x + 128) as u8).collect();
            let factor = |component: usize, position: usize| {
                i16::from(factors[component / CACHE_BLOCK * PAGE + position])
            };
            let mut out = vec![7; width * PAGE];
            kernels.widen_keys(&bytes, &factors, &[1; 77], &mut out);
            for (at, (&byte, &out)) in bytes.iter().zip(&out).enumerate() {
                let (component, position) = (at / (2 * PAGE) * 2 + at % 2, at / 2 % PAGE);
                assert_eq!(out, i16::from(byte) * factor(component, position), "{:?}", kernels.isa());
            }
            for positions in [1, 2, 31, PAGE] {
                let mut out = vec![7; width * PAGE];
                kernels.widen_values(&bytes, &factors, positions, &[1; 77], &mut out);
                for (at, (&byte, &out)) in bytes.iter().zip(&out).enumerate() {
                    let (component, position) = (at / 2 % width, at / 2 / width * 2 + at % 2);
                    let exact = i16::from(byte) * factor(component, position);
                    assert!(position >= positions || out == exact, "{:?} {width}", kernels.isa());
                }
            }
        }
    }
}

#[test]
fn pages_of_nibbles_are_widened_exactly() {
    for kernels in tables() {
        for width in WIDTHS {
            let nibbles: Vec<u8> = integers(width * PAGE / 2, 127, 5).map(|x| (x + 128) as u8).collect();
            let blocks = width.div_ceil(CACHE_BLOCK);
            let factors: Vec<u8> = integers(blocks * PAGE, 127, 6).map(|x| (x + 128) as u8).collect();
            let exact = |place: usize, component: usize, position: usize| {
                let number = i16::from(nibbles[place / 2] >> (place % 2 * 4) & 15) - 8;
                number * i16::from(factors[component / CACHE_BLOCK * PAGE + position])
            };
            let mut out = vec![7; width * PAGE];
            kernels.widen_key_nibbles(&nibbles, &factors, &[1; 77], &mut out);
            for (at, &out) in out.iter().enumerate() {
                let (component, position) = (at / (2 * PAGE) * 2 + at % 2, at / 2 % PAGE);
                assert_eq!(out, exact(at, component, position), "{:?} {width}", kernels.isa());
            }
            for positions in [1, 2, 31, PAGE] {
                let mut out = vec![7; width * PAGE];
                kernels.widen_value_nibbles(&nibbles, &factors, positions, &[1; 77], &mut out);
                for (at, &out) in out.iter().enumerate() {
                    let (component, position) = (at / 2 % width, at / 2 / width * 2 + at % 2);
                    let right = position >= positions || out == exact(at, component, position);
                    assert!(right, "{:?} {width}", kernels.isa());
                }
            }
        }
    }
}
