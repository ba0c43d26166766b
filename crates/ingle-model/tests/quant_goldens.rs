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
