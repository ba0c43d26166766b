//! What holds for every format, whatever the numbers. Exact values are in `tests/quant_goldens.rs`.

use super::*;

/// Every format that can be written.
fn writable() -> impl Iterator<Item = Format> {
    Format::ALL.iter().copied().filter(|format| format.can_quantise())
}

/// The numbers that are left of `values` after being stored.
fn stored(format: Format, values: &[f32]) -> Vec<f32> {
    let mut raw = vec![0; format.row_bytes(values.len()).expect("whole blocks")];
    let mut out = vec![f32::NAN; values.len()];
    quantise(format, values, &mut raw).expect("a format that can be written");
    dequantise(format, &raw, &mut out).expect("the lengths of quantise");
    out
}

/// A reproducible stream of words whose high bits look random.
fn random_words(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state
    }
}

/// Numbers about `-1..1`, bell-shaped as weights are.
fn random_numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut word = random_words(seed);
    let mut uniform = move || (word() >> 40) as f32 / (1 << 24) as f32 - 0.5;
    (0..count).map(|_| uniform() + uniform() + uniform()).collect()
}

#[test]
fn names_and_type_numbers_lead_back_to_the_format() {
    for &format in Format::ALL {
        assert_eq!(Format::parse(format.name()), Some(format));
        assert_eq!(Format::parse(&format.name().to_lowercase()), Some(format));
        assert_eq!(format.to_string(), format.name());
        if let Some(number) = format.ggml_type() {
            assert_eq!(Format::from_ggml_type(number), Some(format));
        }
    }
    assert_eq!(Format::parse("Q4_K_M"), None, "a mixture, not a format");
    assert_eq!(Format::from_ggml_type(4), None, "withdrawn");
    assert_eq!(Format::from_ggml_type(u32::MAX), None);
    assert_eq!(Format::U8.ggml_type(), None);
}

#[test]
fn row_sizes() {
    assert_eq!(Format::Q4_K.row_bytes(512), Some(288));
    assert_eq!(Format::Q4_K.row_bytes(300), None, "not whole blocks");
    assert_eq!(Format::Q4_K.row_bytes(0), Some(0));
    assert_eq!(Format::F32.row_bytes(usize::MAX), None, "overflow");
    assert_eq!(Format::Q4_K.bits_per_weight(), 4.5);
    assert_eq!(Format::MXFP4.bits_per_weight(), 4.25);
}

#[test]
fn lengths_that_do_not_match_are_refused() {
    for &format in Format::ALL {
        let (bytes, numbers) = (2 * format.block_bytes(), 2 * format.block_len());
        let raw = vec![0; bytes + 1];
        let mut out = vec![0.0; numbers + 1];
        assert!(dequantise(format, &raw[..bytes], &mut out[..numbers]).is_ok(), "{format}");
        for (bytes, numbers) in [
            (bytes - 1, numbers),
            (bytes + 1, numbers),
            (bytes, numbers - 1),
            (bytes, numbers + 1),
            (0, numbers),
        ] {
            let refused = dequantise(format, &raw[..bytes], &mut out[..numbers]);
            assert!(
                matches!(refused, Err(Error::Format { .. })),
                "{format}: {bytes} bytes, {numbers} numbers"
            );
            let refused = quantise(format, &out[..numbers], &mut vec![0; bytes]);
            assert!(
                matches!(refused, Err(Error::Format { .. })),
                "{format}: {bytes} bytes, {numbers} numbers"
            );
        }
        assert_eq!(quantise(format, &out[..numbers], &mut vec![0; bytes]).is_ok(), format.can_quantise());
    }
    let message = dequantise(Format::Q8_0, &[0; 33], &mut [0.0; 32]).unwrap_err().to_string();
    assert!(message.contains("33 bytes of Q8_0 do not hold 32 numbers"), "{message}");
}

#[test]
fn plain_numbers() {
    let decoded = |format: Format, raw: &[u8]| {
        let mut out = vec![f32::NAN; raw.len() / format.block_bytes()];
        dequantise(format, raw, &mut out).map(|()| out)
    };
    assert_eq!(decoded(Format::I8, &[0x80, 0x7f, 0xff]).unwrap(), [-128.0, 127.0, -1.0]);
    assert_eq!(decoded(Format::U8, &[0x80, 0xff]).unwrap(), [128.0, 255.0]);
    assert_eq!(decoded(Format::I16, &(-2i16).to_le_bytes()).unwrap(), [-2.0]);
    assert_eq!(decoded(Format::I32, &(1i32 << 30).to_le_bytes()).unwrap(), [1_073_741_824.0]);
    assert_eq!(decoded(Format::I64, &i64::MIN.to_le_bytes()).unwrap(), [-9_223_372_036_854_775_808.0]);
    assert_eq!(decoded(Format::F64, &0.1f64.to_le_bytes()).unwrap(), [0.1]);
    assert_eq!(
        decoded(Format::F16, &[1, 0, 0, 0x7c, 0, 0xbc]).unwrap(),
        [2f32.powi(-24), f32::INFINITY, -1.0]
    );
    assert_eq!(decoded(Format::BF16, &[0x80, 0x3f, 1, 0]).unwrap(), [1.0, f32::from_bits(0x10000)]);
}

#[test]
fn eight_bit_floats() {
    let mut out = [0.0; 256];
    dequantise(Format::F8_E4M3, &std::array::from_fn::<u8, 256, _>(|byte| byte as u8), &mut out).unwrap();
    for (byte, value) in [(0x01, 0.001_953_125), (0x08, 0.015_625), (0x38, 1.0), (0x39, 1.125), (0x7e, 448.0)]
    {
        assert_eq!((out[byte], out[byte | 0x80]), (value, -value), "{byte:#x}");
    }
    assert!(out[0x7f].is_nan() && out[0xff].is_nan());
    assert!(out[..0x7f].is_sorted() && out[0] == 0.0 && out[0x80].is_sign_negative());
}

/// Largest error of one number as a fraction of the block's largest magnitude; `None` for formats that are searched
/// for the least mean error and promise nothing about one number.
fn bound(format: Format) -> Option<f32> {
    // Half-precision scales are off by up to 2^-11, which the largest number shows in full.
    const SCALE: f32 = 1.0 / 2048.0;
    Some(match format {
        Format::F32 | Format::F64 => 0.0,
        Format::F16 => 1.0 / 2048.0,
        Format::BF16 => 1.0 / 256.0,
        // One end of the range has no code of its own and is off by a whole step, the rest by half a step.
        Format::Q4_0 => 1.0 / 8.0 + SCALE,
        Format::Q5_0 => 1.0 / 16.0 + SCALE,
        // Half of one of 15 (31) steps over at most twice the largest magnitude; minimum and range are both off.
        Format::Q4_1 => 1.0 / 15.0 + 3.0 * SCALE,
        Format::Q5_1 => 1.0 / 31.0 + 3.0 * SCALE,
        Format::Q8_0 => 0.5 / 127.0 + SCALE,
        Format::TQ1_0 | Format::TQ2_0 => 0.5 + SCALE,
        // The codes end at 6, the block's largest magnitude may be close to 8.
        Format::MXFP4 => 0.25,
        _ => return None,
    })
}

#[test]
fn numbers_come_back_within_the_bound_of_their_format() {
    let mut bounded = 0;
    for format in writable() {
        let Some(bound) = bound(format) else { continue };
        for (seed, size) in [(1, 1.0), (2, 0.05), (3, 300.0)] {
            let values: Vec<f32> = random_numbers(seed, 4096).iter().map(|v| v * size).collect();
            let out = stored(format, &values);
            let blocks = values.chunks(format.block_len()).zip(out.chunks(format.block_len()));
            for (i, (values, out)) in blocks.enumerate() {
                let far = values.iter().fold(0.0f32, |far, v| far.max(v.abs()));
                for (value, out) in values.iter().zip(out) {
                    // Half-precision floats get no finer than 2^-24.
                    let bound = far * bound + 2f32.powi(-25);
                    assert!((value - out).abs() <= bound, "{format}, block {i}: {value} became {out}");
                }
            }
        }
        bounded += 1;
    }
    assert_eq!(bounded, 12);
}

#[test]
fn searched_formats_lose_little_on_average() {
    // Relative root mean square error on bell-shaped numbers.
    let limits = [
        (Format::Q2_K, 0.28),
        (Format::Q3_K, 0.15),
        (Format::Q4_K, 0.075),
        (Format::Q5_K, 0.038),
        (Format::Q6_K, 0.019),
    ];
    for (format, limit) in limits {
        for shift in [0.0, 1.0, -1.0] {
            let values: Vec<f32> = random_numbers(7, 8192).iter().map(|v| v + shift).collect();
            let out = stored(format, &values);
            let square = |v: f32| f64::from(v) * f64::from(v);
            let error: f64 = values.iter().zip(&out).map(|(v, o)| square(v - o)).sum();
            let size: f64 = values.iter().map(|v| square(*v)).sum();
            let relative = (error / size).sqrt();
            assert!(relative < limit, "{format}, shifted by {shift}: {relative}");
        }
    }
}

#[test]
fn zeros_and_numbers_too_small_to_scale_become_zeros() {
    for format in writable().filter(|format| format.block_len() > 1) {
        for value in [0.0, -0.0, f32::from_bits(1), -f32::MIN_POSITIVE] {
            // The power of two of MXFP4 reaches further down than half-precision scales do.
            let small = if format == Format::MXFP4 { 1e-37 } else { 0.0 };
            let out = stored(format, &[value; 256]);
            assert!(out.iter().all(|v| v.abs() <= small), "{format}: {value} became {}", out[0]);
        }
    }
}

#[test]
fn equal_numbers_stay_close_to_equal() {
    for format in writable() {
        for value in [1.0, -1.0, 3.25e-3, -1234.5] {
            for out in stored(format, &[value; 256]) {
                let limit = if format == Format::MXFP4 { 0.25 } else { 0.01 };
                assert!((out - value).abs() <= limit * value.abs(), "{format}: {value} became {out}");
            }
        }
    }
}

#[test]
fn any_number_can_be_handed_to_a_quantiser() {
    let awkward = [
        f32::NAN,
        -f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        f32::from_bits(1),
        6.1e-5,
        5.9e-8,
        65504.0,
        7e6,
        0.0,
        -0.0,
        1.0,
    ];
    let mut word = random_words(11);
    for format in writable() {
        for _ in 0..50 {
            // Some blocks are ordinary but for one number, some all awkward.
            let share = word() >> 60;
            let values: Vec<f32> =
                random_numbers(word(), 512)
                    .iter()
                    .map(|v| {
                        if word() >> 60 < share {
                            awkward[(word() >> 33) as usize % awkward.len()]
                        } else {
                            *v
                        }
                    })
                    .collect();
            let bytes = format.row_bytes(512).expect("whole blocks");
            let (mut raw, mut again) = (vec![0; bytes], vec![0xff; bytes]);
            quantise(format, &values, &mut raw).expect("no error for any number");
            quantise(format, &values, &mut again).expect("no error for any number");
            assert_eq!(raw, again, "{format}: every byte is written");
            dequantise(format, &raw, &mut [0.0; 512]).expect("whole blocks");
        }
    }
}

#[test]
fn searched_formats_never_store_infinite_scales() {
    for format in [Format::Q2_K, Format::Q3_K, Format::Q4_K, Format::Q5_K, Format::Q6_K] {
        for value in [f32::MAX, f32::INFINITY, f32::NAN, -1e20] {
            let mut values = random_numbers(3, 256);
            values[77] = value;
            assert!(stored(format, &values).iter().all(|v| v.is_finite()), "{format}: {value}");
        }
    }
}
