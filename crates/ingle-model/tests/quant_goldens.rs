//! Block formats against reference outputs: four rows of 512 numbers, the bytes each format stores them as, and what
//! those bytes stand for. Made with the `gguf` package of PyPI and, where that has no quantiser, with llama.cpp's.

use ingle_model::Format;
use ingle_model::format::{dequantise, quantise};
use safetensors::SafeTensors;
use serde_json::Value;

const TENSORS: &[u8] = include_bytes!("fixtures/quant_goldens.safetensors");
const FACTS: &str = include_str!("fixtures/quant_goldens.json");

fn tensors() -> SafeTensors<'static> {
    SafeTensors::deserialize(TENSORS).expect("the fixture is a safetensors file")
}

/// The formats of the fixture with what its table says about each.
fn golden_formats() -> Vec<(Format, Value)> {
    let facts: serde_json::Map<String, Value> = serde_json::from_str(FACTS).expect("the fixture is JSON");
    let known = |name: &str| Format::parse(name).unwrap_or_else(|| panic!("{name} is not a format here"));
    let formats: Vec<_> = facts.into_iter().map(|(name, facts)| (known(&name), facts)).collect();
    assert_eq!(formats.len(), 25, "formats in the fixture");
    formats
}

fn bytes(tensors: &SafeTensors<'static>, name: &str) -> Vec<u8> {
    tensors.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}")).data().to_vec()
}

fn floats(tensors: &SafeTensors<'static>, name: &str) -> Vec<f32> {
    bytes(tensors, name).as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn relative_rmse(x: &[f32], y: &[f32]) -> f64 {
    let square = |v: f64| v * v;
    let error: f64 = x.iter().zip(y).map(|(x, y)| square(f64::from(x - y))).sum();
    let size: f64 = x.iter().map(|x| square(f64::from(*x))).sum();
    (error / size).sqrt()
}

#[test]
fn row_sizes_are_the_published_ones() {
    for (format, facts) in golden_formats() {
        assert_eq!(format.row_bytes(512).map(|n| n as u64), facts["bytes_per_row"].as_u64(), "{format}");
    }
}

#[test]
fn dequantisation_is_exact() {
    let tensors = tensors();
    for (format, _) in golden_formats() {
        let expected = floats(&tensors, &format!("{format}.f32"));
        let raw = bytes(&tensors, &format!("{format}.raw"));
        let mut values = vec![f32::NAN; expected.len()];
        dequantise(format, &raw, &mut values).expect("the fixture has whole rows");
        for (i, (value, expected)) in values.iter().zip(&expected).enumerate() {
            assert_eq!(value.to_bits(), expected.to_bits(), "{format}, number {i}: {value} for {expected}");
        }
    }
}

/// The bytes are those of the `gguf` package; the fixture's table says that llama.cpp's agree with it on every block
/// format of these.
#[test]
fn published_quantisers_are_matched_to_the_byte() {
    let tensors = tensors();
    let x = floats(&tensors, "x");
    let mut compared = 0;
    for (format, facts) in golden_formats() {
        if facts["py_quantize"] != true {
            continue;
        }
        let expected = bytes(&tensors, &format!("{format}.raw"));
        let mut raw = vec![0xaa; expected.len()];
        quantise(format, &x, &mut raw).unwrap_or_else(|e| panic!("{format}: {e}"));
        let differing = raw.iter().zip(&expected).filter(|(a, b)| a != b).count();
        assert_eq!(differing, 0, "{format}: bytes that differ of {}", raw.len());
        compared += 1;
    }
    assert_eq!(compared, 10, "formats with a published quantiser");
}

#[test]
fn every_quantiser_loses_no_more_than_the_published_one() {
    let tensors = tensors();
    let x = floats(&tensors, "x");
    for (format, facts) in golden_formats().into_iter().filter(|(format, _)| format.can_quantise()) {
        let mut raw = vec![0; format.row_bytes(x.len()).expect("whole blocks")];
        let mut values = vec![f32::NAN; x.len()];
        quantise(format, &x, &mut raw).unwrap_or_else(|e| panic!("{format}: {e}"));
        dequantise(format, &raw, &mut values).expect("the lengths are those of quantise");
        let published = facts["rel_rmse"].as_f64().expect("a number");
        let ours = relative_rmse(&x, &values);
        println!("{format}: rmse {ours:.5}, published {published:.5}, ratio {:.4}", ours / published);
        assert!(ours <= 1.05 * published, "{format}: relative rmse {ours} against {published}");
    }
}

/// Digests of 256 random blocks of each format as the `gguf` package (0.19.0) decodes them. Random bytes reach every
/// grid point, sign and scale, which quantised numbers do not.
const RANDOM_BLOCKS: [(Format, u64); 23] = [
    (Format::Q4_0, 0x7ee45715c966ef25),
    (Format::Q4_1, 0xf051c1925fc209c0),
    (Format::Q5_0, 0x8eb1d790206b8725),
    (Format::Q5_1, 0x219b7ad431b13ba5),
    (Format::Q8_0, 0x25a911e5885a9265),
    (Format::Q2_K, 0x2493db8519f5e77c),
    (Format::Q3_K, 0xb900f2a652ecba65),
    (Format::Q4_K, 0x14a9ee8557b8045d),
    (Format::Q5_K, 0x57919c7521c7996f),
    (Format::Q6_K, 0x1ec5c3b2d940261f),
    (Format::IQ1_S, 0xd2b5ab558be5b4a5),
    (Format::IQ1_M, 0xbddf281fd211aa45),
    (Format::IQ2_XXS, 0xc3d18a9e6bdd2afd),
    (Format::IQ2_XS, 0x3d8e0b8dfb3f84d5),
    (Format::IQ2_S, 0x51e5f28cd6cf7a11),
    (Format::IQ3_XXS, 0x8500237f710a1cf5),
    (Format::IQ3_S, 0xa4708a027bb173e5),
    (Format::IQ4_NL, 0xee7f475f0790b1e5),
    (Format::IQ4_XS, 0x45ce4fa04e5f3c37),
    (Format::TQ1_0, 0xdaec97fc62966325),
    (Format::TQ2_0, 0x878c2a15c6db8325),
    (Format::MXFP4, 0x89b086e0b6d4a325),
    (Format::NVFP4, 0x80bee335be772325),
];

#[test]
fn random_blocks_decode_as_elsewhere() {
    for (format, expected) in RANDOM_BLOCKS {
        let mut state = 1u64;
        let mut raw = vec![0; 256 * format.block_bytes()];
        for byte in &mut raw {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 56) as u8;
        }
        let mut values = vec![0.0; 256 * format.block_len()];
        dequantise(format, &raw, &mut values).expect("whole blocks");
        // FNV-1a over the bits of the values, every NaN counted as the same one.
        let digest = values.iter().fold(0xcbf2_9ce4_8422_2325u64, |digest, value| {
            let bits = if value.is_nan() { 0x7fc0_0000 } else { value.to_bits() };
            (digest ^ u64::from(bits)).wrapping_mul(0x100_0000_01b3)
        });
        assert_eq!(digest, expected, "{format}");
    }
}
