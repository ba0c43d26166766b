//! Any value under any key gives a description or an error, never a panic.

use super::refused::{deepseek, gemma3, gpt_oss, hybrid, qwen3_moe};
use super::{gemma4, gguf, hub};
use crate::metadata::{IntegerWidth, Value as Held};
use serde_json::{Value, json};

fn strange() -> Vec<Value> {
    vec![
        Value::Null,
        json!(0),
        json!(1),
        json!(3),
        json!(-1),
        json!(4096),
        json!(16_777_217),
        json!(u64::MAX),
        json!(0.0),
        json!(0.3),
        json!(-2.5),
        json!(1e300),
        json!("yarn"),
        json!("x"),
        json!(true),
        json!(false),
        json!([]),
        json!([0, 0]),
        json!(["dense", "sparse"]),
        json!({"type": "linear", "factor": 0}),
    ]
}

/// Every path to a value, those inside objects too.
fn paths(document: &Value, prefix: &str) -> Vec<String> {
    let Value::Object(fields) = document else { return Vec::new() };
    let inside = fields.iter().flat_map(|(name, value)| {
        let path = format!("{prefix}/{name}");
        let mut deeper = paths(value, &path);
        deeper.push(path);
        deeper
    });
    inside.collect()
}

#[test]
fn strange_configurations() {
    let mut described = 0;
    let fourth = [gemma4::small(), gemma4::with_experts()];
    for good in [deepseek(), gemma3(), gpt_oss(), hybrid(), qwen3_moe()].into_iter().chain(fourth) {
        for path in paths(&good, "") {
            for value in strange() {
                let mut config = good.clone();
                *config.pointer_mut(&path).unwrap() = value;
                described += usize::from(hub(&config, 32).is_ok());
            }
        }
    }
    assert!(described > 100, "most keys have several good values: {described}");
}

#[test]
fn strange_gguf_headers() {
    let values = [
        Held::Unsigned(0, IntegerWidth::W32),
        Held::Unsigned(1, IntegerWidth::W32),
        Held::Unsigned(7, IntegerWidth::W32),
        Held::Unsigned(u64::MAX, IntegerWidth::W64),
        Held::Signed(-1, IntegerWidth::W32),
        Held::F32(0.0),
        Held::F32(f32::NAN),
        Held::F32(f32::INFINITY),
        Held::F32(-3.0),
        Held::Bool(true),
        Held::String("yarn".into()),
        Held::Unsigneds(vec![], IntegerWidth::W32),
        Held::Unsigneds(vec![3; 4], IntegerWidth::W32),
        Held::Bools(vec![true; 2]),
    ];
    for (good, shown) in gguf::samples() {
        gguf::gguf(&good, &shown).unwrap();
        let keys: Vec<String> = good.iter().map(|(key, _)| key.to_owned()).collect();
        for key in keys.iter().filter(|key| *key != "general.architecture") {
            for value in &values {
                let mut header = good.clone();
                header.insert(key.clone(), value.clone());
                let _ = gguf::gguf(&header, &shown);
            }
        }
    }
}
