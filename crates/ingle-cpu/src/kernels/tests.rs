//! The vector kernels of every table against the scalar one and against `f64`.

use half::f16;
use ingle_model::spec::PlainActivation;

use super::{DELTA_PANEL, DeltaGates, Isa, Kernels, PAGE, QUERIES, Strided};

fn tables() -> Vec<&'static Kernels> {
    Isa::ALL.into_iter().filter_map(Kernels::for_isa).collect()
}

/// Lengths around whole vectors, and none.
const LENGTHS: [usize; 12] = [0, 1, 3, 15, 16, 17, 31, 64, 65, 128, 1000, 2816];

/// Numbers from -`size` to `size`, without a pattern that a kernel could have.
fn numbers(len: usize, size: f32, seed: u32) -> Vec<f32> {
    let number = |i: usize| {
        let mixed = (i as u32 + seed).wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(40_503);
        (mixed.wrapping_mul(747_796_405) >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..len).map(|i| size * number(i)).collect()
}

fn assert_close(got: f32, exact: f64, tolerance: f64, what: &str) {
    assert!((f64::from(got) - exact).abs() <= tolerance, "{what}: {got} is not {exact} (+- {tolerance})");
}

#[test]
fn the_best_table_is_one_the_processor_has() {
    let best = Kernels::best();
    let names: Vec<&str> = tables().iter().map(|kernels| kernels.isa().name()).collect();
    println!("tested: {}; chosen: {}", names.join(", "), best.isa().name());
    assert!(std::ptr::eq(best, Kernels::for_isa(best.isa()).unwrap()));
    for isa in Isa::ALL {
        assert_eq!(Isa::parse(isa.name()), Some(isa));
        assert!(Kernels::for_isa(isa).is_none_or(|kernels| kernels.isa() == isa));
    }
}

#[test]
fn rms_norm_divides_by_the_root_of_the_mean_square() {
    for kernels in tables() {
        for len in LENGTHS {
            let (x, weight) = (numbers(len, 4.0, 1), numbers(len, 2.0, 2));
            let mean = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / len as f64;
            let factor = 1.0 / (mean + 1e-6).sqrt();
            let (mut out, mut in_place) = (vec![0.0; len], x.clone());
            kernels.rms_norm(&x, &weight, 1e-6, &mut out);
            kernels.rms_norm_in_place(&mut in_place, &weight, 1e-6);
            assert_eq!(out, in_place);
            for i in 0..len {
                let exact = f64::from(x[i]) * factor * f64::from(weight[i]);
                assert_close(out[i], exact, 1e-6 * exact.abs() + 1e-9, kernels.isa().name());
            }
        }
    }
}

#[test]
fn silu_is_exact_to_a_millionth() {
    for kernels in tables() {
        for (len, size) in LENGTHS.into_iter().zip([1.0, 8.0, 80.0].into_iter().cycle()) {
            let (gate, up) = (numbers(len, size, 3), numbers(len, 2.0, 4));
            let mut out = vec![0.0; len];
            kernels.silu_mul(&gate, &up, &mut out);
            for i in 0..len {
                let g = f64::from(gate[i]);
                let exact = g / (1.0 + (-g).exp()) * f64::from(up[i]);
                assert_close(out[i], exact, 1e-6 * exact.abs() + 1e-37, kernels.isa().name());
            }
        }
        let mut out = [0.0; 4];
        kernels.silu_mul(&[f32::NAN, -200.0, 200.0, 0.0], &[1.0; 4], &mut out);
        assert!(out[0].is_nan() && out[1].abs() < 1e-30 && out[2] == 200.0 && out[3] == 0.0, "{out:?}");
    }
}

#[test]
fn clamped_swiglu_clamps_the_gate_above_and_up_on_both_sides() {
    for kernels in tables() {
        for (len, size) in LENGTHS.into_iter().zip([2.0, 12.0, 60.0].into_iter().cycle()) {
            let (gate, up) = (numbers(len, size, 3), numbers(len, size, 4));
            let mut out = vec![0.0; len];
            kernels.clamped_swiglu(&gate, &up, 1.702, 7.0, &mut out);
            for i in 0..len {
                let (g, u) = (f64::from(gate[i]).min(7.0), f64::from(up[i]).clamp(-7.0, 7.0));
                let exact = g / (1.0 + (-f64::from(1.702f32) * g).exp()) * (u + 1.0);
                assert_close(out[i], exact, 2e-6 * exact.abs() + 1e-6, kernels.isa().name());
            }
        }
        let mut out = [0.0; 5];
        let (gate, up) = ([f32::NAN, 1.0, -300.0, 300.0, 0.0], [1.0, f32::NAN, 1.0, -300.0, 1.0]);
        kernels.clamped_swiglu(&gate, &up, 1.702, 7.0, &mut out);
        let isa = kernels.isa().name();
        assert!(out[0].is_nan() && out[1].is_nan() && out[2].abs() < 1e-30, "{isa}: {out:?}");
        assert!((out[3] + 42.0).abs() < 1e-3 && out[4] == 0.0, "{isa}: {out:?}");
    }
}

#[test]
fn exp_sum_and_softmax_are_exact_to_a_millionth() {
    for kernels in tables() {
        for len in LENGTHS {
            let x = numbers(len, 40.0, 5);
            let mut powers = x.clone();
            let sum = kernels.exp_sum(&mut powers, 1.5);
            let exact: Vec<f64> = x.iter().map(|&x| f64::from(x - 1.5).exp()).collect();
            for i in 0..len {
                assert_close(powers[i], exact[i], 1e-6 * exact[i], kernels.isa().name());
            }
            let all: f64 = exact.iter().sum();
            assert_close(sum, all, 2e-6 * all, kernels.isa().name());
            let mut shares = x.clone();
            kernels.softmax(&mut shares);
            // The difference to the largest, up to 80, is rounded before the power is taken.
            let exact: Vec<f64> = x.iter().map(|&x| f64::from(x).exp()).collect();
            let all: f64 = exact.iter().sum();
            for i in 0..len {
                assert_close(shares[i], exact[i] / all, 1e-5 * exact[i] / all, kernels.isa().name());
            }
        }
    }
}

#[test]
fn softmax_of_masked_positions_is_zero() {
    for kernels in tables() {
        for len in [1, 15, 16, 40] {
            let mut x = vec![f32::NEG_INFINITY; len];
            kernels.softmax(&mut x);
            assert!(x.iter().all(|&x| x == 0.0), "{}: {x:?}", kernels.isa().name());
            x.fill(f32::NEG_INFINITY);
            x[len / 2] = -3.0;
            kernels.softmax(&mut x);
            assert!(x.iter().enumerate().all(|(i, &x)| x == f32::from(u8::from(i == len / 2))), "{x:?}");
        }
    }
}

#[test]
fn dot_products_are_as_exact_as_floats_allow() {
    for kernels in tables() {
        for len in LENGTHS {
            let (x, y) = (numbers(len, 2.0, 6), numbers(len, 2.0, 7));
            let halves: Vec<f16> = x.iter().map(|&x| f16::from_f32(x)).collect();
            let norm: f64 = x.iter().zip(&y).map(|(x, y)| f64::from(x * y).powi(2)).sum::<f64>().sqrt();
            let exact: f64 = x.iter().zip(&y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
            assert_close(kernels.dot(&x, &y), exact, 1e-6 * norm, kernels.isa().name());
            let exact: f64 = halves.iter().zip(&y).map(|(x, &y)| x.to_f64() * f64::from(y)).sum();
            assert_close(kernels.dot_f16(&halves, &y), exact, 1e-6 * norm, kernels.isa().name());
        }
    }
}

#[test]
fn sums_and_multiples_are_exact() {
    for kernels in tables() {
        for len in LENGTHS {
            let (x, y) = (numbers(len, 2.0, 8), numbers(len, 2.0, 9));
            let mut sums = x.clone();
            kernels.add(&mut sums, &y);
            let mut multiples = x.clone();
            kernels.scale(&mut multiples, 1.25);
            let halves: Vec<f16> = x.iter().map(|&x| f16::from_f32(x)).collect();
            let mut moved = y.clone();
            kernels.axpy_f16(0.75, &halves, &mut moved);
            let mut raised = y.clone();
            kernels.positive_axpy(-0.75, &x, &mut raised);
            let mut combined = y.clone();
            kernels.axpy(0.75, &x, &mut combined);
            for i in 0..len {
                let exact = 0.75 * f64::from(x[i]) + f64::from(y[i]);
                assert_close(combined[i], exact, 3e-7, kernels.isa().name());
                let exact = f64::from(y[i]) - 0.75 * f64::from(x[i].max(0.0));
                assert_close(raised[i], exact, 3e-7, kernels.isa().name());
                assert_eq!(sums[i], x[i] + y[i]);
                assert_eq!(multiples[i], x[i] * 1.25);
                let exact = 0.75 * halves[i].to_f64() + f64::from(y[i]);
                assert_close(moved[i], exact, 3e-7, kernels.isa().name());
            }
            let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(kernels.max(&x), largest, "{}", kernels.isa().name());
        }
    }
}

/// Every half-precision number, and floats around every rounding, as the standard says.
#[test]
fn halves_are_read_and_rounded_exactly() {
    let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).filter(|x| !x.is_nan()).collect();
    let floats: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
    for kernels in tables() {
        for (x, float) in halves.iter().zip(&floats).step_by(7) {
            let got = kernels.dot_f16(&[*x], &[1.0]);
            assert_eq!(got, *float, "{} {:#x}", kernels.isa().name(), x.to_bits());
        }
        let nudged: Vec<f32> = floats
            .iter()
            .flat_map(|&x| [x, x * 1.000_244_1, x * 1.000_488_3, x * 1.000_732_4])
            .chain([65_519.9, 65_520.0, 1e9, -1e9, 1e-9, f32::INFINITY])
            .collect();
        let mut out = vec![f16::ZERO; nudged.len()];
        kernels.to_f16(&nudged, &mut out);
        for (x, out) in nudged.iter().zip(&out) {
            assert_eq!(out.to_bits(), f16::from_f32(*x).to_bits(), "{} {x}", kernels.isa().name());
        }
    }
}

#[test]
fn all_tables_round_activations_to_the_same_integers() {
    let scalar = Kernels::for_isa(Isa::Scalar).unwrap();
    let mut x = numbers(2048, 3.0, 10);
    x[256..512].fill(0.0);
    x[512..544].fill(1e-35);
    x[600] = 1e30;
    // Halves, which round to even.
    for i in 0..256 {
        x[1024 + i] = (i as f32 - 127.5).clamp(-127.0, 127.0);
    }
    for kernels in tables() {
        let run = |kernels: &Kernels| {
            let (mut values, mut scales) = (vec![0; 2048], vec![0.0; 8]);
            let (mut sums, mut pairs) = (vec![0; 128], vec![0; 32]);
            kernels.quantise_256(&x, &mut values, &mut scales, &mut sums, &mut pairs);
            let (mut values_32, mut scales_32, mut sums_32) = (vec![0; 2048], vec![0.0; 64], vec![0; 64]);
            kernels.quantise_32(&x, &mut values_32, &mut scales_32, &mut sums_32);
            (values, scales, sums, pairs, values_32, scales_32, sums_32)
        };
        let got = run(kernels);
        assert_eq!(got, run(scalar), "{}", kernels.isa().name());
        let (values, scales, sums, pairs, values_32, scales_32, sums_32) = got;
        for i in 0..2048 {
            assert!(
                (f32::from(values[i]) * scales[i / 256] - x[i]).abs() <= 0.5001 * scales[i / 256].max(1e-30)
            );
            assert!(
                (f32::from(values_32[i]) * scales_32[i / 32] - x[i]).abs()
                    <= 0.5001 * scales_32[i / 32].max(1e-30)
            );
        }
        let sum = |values: &[i8]| values.iter().map(|&v| i32::from(v)).sum::<i32>();
        assert!(sums.iter().zip(values.chunks(16)).all(|(&s, v)| s == sum(v)));
        assert!(sums_32.iter().zip(values_32.chunks(32)).all(|(&s, v)| s == sum(v)));
        for (pair, (low, high)) in pairs[..4].iter().zip([(0, 2), (1, 3), (4, 6), (5, 7)]) {
            let of = |j: usize| sum(&values[32 * j..32 * j + 32]);
            assert_eq!((i32::from(*pair as i16), pair >> 16), (of(low), of(high)));
        }
    }
}

#[test]
fn products_over_a_page_are_exact() {
    let noise = |seed: u32, count: usize| -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    };
    for kernels in Isa::ALL.into_iter().filter_map(Kernels::for_isa) {
        let isa = kernels.isa();
        for width in [1, 7, 16, 24, 64, 80, 128, 256] {
            for count in [1, 2, 3, 4, 5, QUERIES] {
                let queries: Vec<Vec<f32>> = (0..count).map(|at| noise(at as u32, width)).collect();
                let queries: Vec<&[f32]> = queries.iter().map(Vec::as_slice).collect();
                let halves: Vec<f16> = noise(99, width * PAGE).into_iter().map(f16::from_f32).collect();
                let mut scores = [[f32::NAN; PAGE]; QUERIES];
                kernels.page_scores(&queries, &halves, &halves, &mut scores);
                for (query, scores) in queries.iter().zip(&scores) {
                    for position in 0..PAGE {
                        let key = (0..width).map(|at| halves[at * PAGE + position].to_f64());
                        let exact: f64 = key.zip(*query).map(|(key, &query)| key * f64::from(query)).sum();
                        assert!((f64::from(scores[position]) - exact).abs() < 1e-4, "{isa:?} {width}");
                    }
                }
                for positions in [1, 17, PAGE] {
                    let mut rows: Vec<Vec<f32>> = (0..count).map(|at| noise(at as u32 + 7, width)).collect();
                    let before = rows.clone();
                    let mut out: Vec<&mut [f32]> = rows.iter_mut().map(Vec::as_mut_slice).collect();
                    kernels.page_accumulate(&scores, &halves, positions, &halves[..width], &mut out);
                    for query in 0..count {
                        for component in 0..width {
                            let value = |at: usize| halves[at * width + component].to_f64();
                            let weighted = |at: usize| f64::from(scores[query][at]) * value(at);
                            let exact = f64::from(before[query][component])
                                + (0..positions).map(weighted).sum::<f64>();
                            let ours = f64::from(rows[query][component]);
                            assert!((ours - exact).abs() < 2e-3, "{isa:?} {width} {positions}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn gates_and_soft_caps_are_exact_to_a_millionth() {
    for kernels in tables() {
        let isa = kernels.isa().name();
        for (len, size) in LENGTHS.into_iter().zip([0.01, 1.0, 6.0, 80.0].into_iter().cycle()) {
            let (gate, up) = (numbers(len, size, 11), numbers(len, 2.0, 12));
            let mut out = vec![0.0; len];
            kernels.gelu_mul(&gate, &up, &mut out);
            let mut gated = up.clone();
            kernels.sigmoid_mul(&mut gated, &gate);
            let mut capped = gate.clone();
            kernels.soft_cap(&mut capped, 7.5);
            for i in 0..len {
                let (g, u) = (f64::from(gate[i]), f64::from(up[i]));
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (g + 0.044_715 * g.powi(3));
                let exact = 0.5 * g * one_plus_tanh(inner) * u;
                // where the answer is a millionth of the input, its argument's rounding shows
                assert_close(out[i], exact, 2e-6 * exact.abs() + 1e-8 * (g * u).abs() + 1e-37, isa);
                let exact = u / (1.0 + (-g).exp());
                assert_close(gated[i], exact, 1e-6 * exact.abs() + 1e-37, isa);
                let exact = 7.5 * (g / 7.5).tanh();
                assert_close(capped[i], exact, 1e-6 * exact.abs(), isa);
            }
        }
        let mut out = [0.0; 5];
        kernels.gelu_mul(&[f32::NAN, -200.0, 200.0, 0.0, 1e20], &[1.0; 5], &mut out);
        assert!(out[0].is_nan() && out[1].abs() < 1e-30 && out[2..] == [200.0, 0.0, 1e20], "{isa} {out:?}");
        let mut x = [f32::NAN, -1e9, 1e9, 0.0, f32::NEG_INFINITY];
        kernels.soft_cap(&mut x, 30.0);
        assert!(x[0].is_nan() && x[1..] == [-30.0, 30.0, 0.0, -30.0], "{isa} {x:?}");
    }
}

#[test]
fn gelu_by_the_error_function_is_exact_to_a_few_ten_millionths() {
    let reference = |x| crate::reference::activate_plain(PlainActivation::GeluErf, x);
    for kernels in tables() {
        let isa = kernels.isa().name();
        for (len, size) in LENGTHS.into_iter().zip([0.01, 1.0, 6.0, 80.0].into_iter().cycle()) {
            let x = numbers(len, size, 15);
            let mut out = vec![0.0; len];
            kernels.gelu_erf(&x, &mut out);
            for (x, out) in x.iter().zip(out) {
                assert_close(out, f64::from(reference(*x)), 3e-7 * f64::from(x.abs()) + 1e-30, isa);
            }
        }
        let mut out = [0.0; 5];
        kernels.gelu_erf(&[f32::NAN, -200.0, 200.0, 0.0, 1e20], &mut out);
        assert!(out[0].is_nan() && out[1..] == [0.0, 200.0, 0.0, 1e20], "{isa} {out:?}");
    }
}

/// `1 + tanh(u)` without loss where it is small.
fn one_plus_tanh(u: f64) -> f64 {
    2.0 / (1.0 + (-2.0 * u).exp())
}

#[test]
fn a_convolution_sums_its_taps_channel_by_channel() {
    for kernels in tables() {
        for (channels, taps) in [(1, 1), (16, 4), (40, 2), (77, 3), (512, 4)] {
            let stride = channels + 5;
            let (inputs, weights) = (numbers(stride * taps, 3.0, 13), numbers(channels * taps, 1.0, 14));
            // all channels, and some from the middle on
            for first in [0, channels / 3] {
                let mut out = vec![0.0; channels - first];
                let rows = |values, stride| Strided { values, stride };
                let (inputs, weights) = (rows(&inputs[first..], stride), rows(&weights[first..], channels));
                kernels.convolve(inputs, weights, taps, &mut out);
                for (c, out) in out.iter().enumerate() {
                    let at = |rows: Strided<'_>, tap: usize| f64::from(rows.values[tap * rows.stride + c]);
                    let sum: f64 = (0..taps).map(|tap| at(inputs, tap) * at(weights, tap)).sum();
                    let exact = sum / (1.0 + (-sum).exp());
                    assert_close(*out, exact, 2e-6 * (1.0 + exact.abs()), kernels.isa().name());
                }
            }
        }
    }
}

#[test]
fn the_delta_rule_is_followed_position_by_position() {
    for kernels in tables() {
        for (rows, columns) in [(1, 1), (24, 8), (64, 32), (128, 17), (128, 32), (40, 16)] {
            let mut state = vec![0.0; rows * DELTA_PANEL];
            let mut exact = vec![0.0f64; rows * columns];
            for position in 0..20 {
                let unit = |seed: u32| {
                    let x = numbers(rows, 1.0, seed + 10 * position);
                    let norm = x.iter().map(|x| x * x).sum::<f32>().sqrt();
                    x.iter().map(|x| x / norm).collect::<Vec<f32>>()
                };
                let (key, query, values) = (unit(1), unit(2), numbers(columns, 2.0, 3 + 10 * position));
                let key_query = key.iter().zip(&query).map(|(k, q)| k * q).sum();
                let gates = DeltaGates { decay: 0.9, beta: 0.2 + 0.03 * position as f32, key_query };
                let mut out = vec![f32::NAN; columns];
                kernels.delta_step(&mut state, &key, &query, gates, &values, &mut out);
                for column in 0..columns {
                    let at = |d: usize| d * columns + column;
                    (0..rows).for_each(|d| exact[at(d)] *= f64::from(gates.decay));
                    let known: f64 = (0..rows).map(|d| exact[at(d)] * f64::from(key[d])).sum();
                    let error = f64::from(gates.beta) * (f64::from(values[column]) - known);
                    (0..rows).for_each(|d| exact[at(d)] += f64::from(key[d]) * error);
                    let read: f64 = (0..rows).map(|d| exact[at(d)] * f64::from(query[d])).sum();
                    assert_close(out[column], read, 3e-6, kernels.isa().name());
                    for d in 0..rows {
                        assert_close(state[d * DELTA_PANEL + column], exact[at(d)], 3e-6, "state");
                    }
                }
            }
            let unused = state.chunks(DELTA_PANEL).flat_map(|row| &row[columns..]);
            assert!(unused.into_iter().all(|&s| s == 0.0), "columns that are not there stay zero");
        }
    }
}
