//! Gemma 4: what its settings mean, and what contradicts itself.

use super::refused::all_refused;
use super::{described, gguf, hub, tensor};
use crate::families::Dialect;
use crate::metadata::{Metadata, Value as Held};
use crate::spec::*;
use serde_json::{Value, json};

/// Six layers, two of them full, the last three without keys and values of their own.
pub(super) fn small() -> Value {
    let kinds = ["sliding_attention", "sliding_attention", "full_attention"];
    let kinds = [kinds, kinds].concat();
    json!({
        "architectures": ["Gemma4ForConditionalGeneration"], "vision_config": null, "text_config": {
            "attention_bias": false, "attention_k_eq_v": false, "enable_moe_block": false,
            "final_logit_softcapping": 30.0, "global_head_dim": 8, "head_dim": 4, "hidden_activation": "gelu_pytorch_tanh",
            "hidden_size": 8, "hidden_size_per_layer_input": 4, "intermediate_size": 16,
            "layer_types": kinds, "max_position_embeddings": 64, "num_attention_heads": 2,
            "num_global_key_value_heads": null, "num_hidden_layers": 6, "num_key_value_heads": 1,
            "num_kv_shared_layers": 3, "rms_norm_eps": 1e-6, "rope_parameters": {
                "full_attention": {"partial_rotary_factor": 0.5, "rope_theta": 1e6, "rope_type": "proportional"},
                "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"}
            },
            "sliding_window": 4, "tie_word_embeddings": true, "use_bidirectional_attention": null,
            "use_double_wide_mlp": true, "vocab_size": 32, "vocab_size_per_layer_input": 32
        }
    })
}

/// The same with experts, joint keys and values, and nothing else of what the small models have.
pub(super) fn with_experts() -> Value {
    with(
        &small(),
        &[
            ("attention_k_eq_v", json!(true)),
            ("enable_moe_block", json!(true)),
            ("hidden_size_per_layer_input", json!(0)),
            ("moe_intermediate_size", json!(4)),
            ("num_attention_heads", json!(4)),
            ("num_experts", json!(8)),
            ("num_global_key_value_heads", json!(2)),
            ("num_kv_shared_layers", json!(0)),
            ("top_k_experts", json!(2)),
            ("use_bidirectional_attention", json!("vision")),
        ],
    )
}

fn with(good: &Value, changes: &[(&str, Value)]) -> Value {
    let mut config = good.clone();
    for (key, value) in changes {
        config["text_config"][key] = value.clone();
    }
    config
}

fn attention(spec: &ModelSpec, layer: usize) -> &Attention {
    match &spec.layers[layer].mixer {
        Mixer::Attention(attention) => attention,
        other => panic!("{other:?}"),
    }
}

fn inner(spec: &ModelSpec, layer: usize) -> usize {
    match &spec.layers[layer].feed_forward {
        FeedForward::Dense(dense) => dense.inner,
        other => panic!("{other:?}"),
    }
}

#[test]
fn later_layers_attend_to_the_last_of_their_kind_that_caches() {
    let spec = hub(&small(), 32).unwrap();
    assert_eq!(spec.notices, Vec::<String>::new());
    let sources: Vec<usize> = (0..6).map(|layer| attention(&spec, layer).cached_by(layer)).collect();
    assert_eq!(sources, [0, 1, 2, 1, 1, 2]);
    let widths: Vec<usize> = (0..6).map(|layer| attention(&spec, layer).key_dim).collect();
    assert_eq!(widths, [4, 4, 8, 4, 4, 8]);
    assert_eq!((0..6).map(|layer| inner(&spec, layer)).collect::<Vec<_>>(), [16, 16, 16, 32, 32, 32]);
    assert_eq!(spec.layers[3].mixer.kv(), []);
    let needed = |layer, role| spec.needs().iter().any(|need| need.layer == Some(layer) && need.role == role);
    assert!(needed(2, Role::Key) && needed(2, Role::KeyNorm) && needed(2, Role::Value));
    assert!(needed(3, Role::Query) && needed(3, Role::QueryNorm));
    assert!(!needed(3, Role::Key) && !needed(3, Role::KeyNorm) && !needed(3, Role::Value));
    // half of a full head's pairs turn, at the speed that its whole width gives
    let full = spec.ropes[attention(&spec, 2).rope.unwrap()].frequencies();
    assert_eq!(full, [1.0, 1e6f64.powf(-0.25), 0.0, 0.0]);
    let sliding = spec.ropes[attention(&spec, 1).rope.unwrap()].frequencies();
    assert_eq!(sliding, [1.0, 0.01]);
    assert_eq!((attention(&spec, 1).window, attention(&spec, 2).window), (Some(4), None));
}

#[test]
fn tensors_that_no_layer_uses_by_design_raise_no_alarm() {
    let keys = Metadata::from_json(&small());
    let trunk = "model.language_model.";
    let spare = ["k_proj.weight", "v_proj.weight", "k_norm.weight"];
    let shown = |layer: usize| {
        let names = spare.map(|name| tensor(&format!("{trunk}layers.{layer}.self_attn.{name}"), &[4, 8]));
        let embedding = tensor(&format!("{trunk}embed_tokens.weight"), &[32, 8]);
        let tower = tensor("model.audio_tower.layers.0.weight", &[2]);
        [vec![embedding, tower], names.to_vec()].concat()
    };
    // names of what is needed are made for the usual trunk: bind against this one's
    let needed = |shown: &[crate::source::TensorInfo]| {
        let spec = hub(&small(), 32).unwrap();
        let names = spec.tensors.iter().flat_map(|tensor| &tensor.pieces).map(|piece| {
            let name = piece.stored.name.replacen("model.", trunk, 1);
            crate::source::TensorInfo { name, ..piece.stored.clone() }
        });
        shown
            .iter()
            .cloned()
            .chain(names.filter(|made| shown.iter().all(|one| one.name != made.name)))
            .collect()
    };
    let described = |layer| {
        let tensors: Vec<_> = needed(&shown(layer));
        let header = crate::families::Header { dialect: Dialect::Hub, keys: &keys, tensors: &tensors };
        crate::families::describe_header(&header)
    };
    let spec = described(3).unwrap();
    assert_eq!(spec.unused, ["model.audio_tower.layers.0.weight"]);
    assert_eq!(spec.unused_unexplained(), Vec::<&str>::new());
    let beyond = described(6).unwrap_err().to_string();
    assert!(beyond.contains("num_hidden_layers"), "there is no seventh layer: {beyond}");
}

#[test]
fn settings_of_single_layers_win_over_those_of_their_kind() {
    let newer = with(&small(), &[("per_layer_config", json!({"2": {"head_dim": 8}, "5": {"head_dim": 8}}))]);
    let newer = with(&newer, &[("global_head_dim", json!(6))]);
    assert_eq!(hub(&newer, 32).unwrap(), hub(&small(), 32).unwrap());
    let joint = with(&with_experts(), &[("num_global_key_value_heads", Value::Null)]);
    let layer = json!({"head_dim": 8, "num_key_value_heads": 2});
    let joint = with(&joint, &[("per_layer_config", json!({"2": layer, "5": layer}))]);
    assert_eq!(hub(&joint, 32).unwrap(), hub(&with_experts(), 32).unwrap());
    // without joint keys and values, their number on full layers is that of all
    let apart = with(&with_experts(), &[("attention_k_eq_v", json!(false))]);
    assert_eq!(attention(&hub(&apart, 32).unwrap(), 2).kv_heads, 1);
    assert_eq!(attention(&hub(&with_experts(), 32).unwrap(), 2).kv_heads, 2);
    assert_eq!(attention(&hub(&with_experts(), 32).unwrap(), 2).key_values, KeyValues::Joint);
    assert_eq!(attention(&hub(&with_experts(), 32).unwrap(), 1).key_values, KeyValues::Projected);
}

#[test]
fn what_a_configuration_leaves_out_is_told() {
    let mut config = small();
    let text = config["text_config"].as_object_mut().unwrap();
    for key in ["rope_parameters", "global_head_dim", "layer_types", "sliding_window"] {
        text.remove(key);
    }
    let spec = hub(&config, 32).unwrap_err().to_string();
    assert!(
        spec.contains("num_kv_shared_layers"),
        "one layer in six is full, and it is among the last: {spec}"
    );
    config["text_config"]["num_kv_shared_layers"] = json!(0);
    let spec = hub(&config, 32).unwrap();
    assert_eq!(spec.notices.len(), 1);
    for said in
        ["full_attention.partial_rotary_factor = 0.25", "global_head_dim = 512", "sliding_window = 512"]
    {
        assert!(spec.notices[0].contains(said), "{:?}", spec.notices);
    }
    let full = spec.ropes[attention(&spec, 5).rope.unwrap()].frequencies();
    assert!(full.len() == 256 && full[63] > 0.0 && full[64] == 0.0);
    let sliding = with(
        &small(),
        &[("layer_types", json!(vec!["sliding_attention"; 6])), ("num_kv_shared_layers", json!(0))],
    );
    let spec = hub(&sliding, 32).unwrap();
    assert_eq!((attention(&spec, 4).window, attention(&spec, 5).window), (Some(4), None));
    assert!(spec.notices.iter().any(|notice| notice.contains("layer_types")), "{:?}", spec.notices);
}

#[test]
fn gemma4_refusals() {
    let rope = "/text_config/rope_parameters";
    all_refused(
        &small(),
        &[
            ("/text_config/num_kv_shared_layers", json!(6), "num_kv_shared_layers 6"),
            ("/text_config/num_kv_shared_layers", json!(4), "num_kv_shared_layers layer kind"),
            (
                "/text_config/use_bidirectional_attention",
                json!("all"),
                "use_bidirectional_attention all vision",
            ),
            ("/text_config/hidden_activation", json!("silu"), "hidden_activation silu gelu"),
            (
                "/text_config/per_layer_config",
                json!({"6": {"head_dim": 8}}),
                "per_layer_config.6.head_dim layer",
            ),
            (
                "/text_config/per_layer_config",
                json!({"2": {"heads": 8}}),
                "per_layer_config.2.heads unknown head_dim",
            ),
            ("/text_config/per_layer_config", json!({"2": {"head_dim": 8}}), "layer 5 layer 2"),
            ("/text_config/enable_moe_block", json!(true), "num_experts missing"),
            ("/text_config/vocab_size_per_layer_input", json!(31), "rows inputs 31 32"),
            ("/text_config/sliding_window", json!(0), "window"),
            ("/text_config/global_head_dim", json!(7), "rope"),
            (
                &format!("{rope}/full_attention/rope_type"),
                json!("yarn"),
                "rope_type yarn default proportional",
            ),
            (
                &format!("{rope}/full_attention/rope_type"),
                json!("default"),
                "partial_rotary_factor proportional",
            ),
            (
                &format!("{rope}/full_attention/partial_rotary_factor"),
                json!(1.5),
                "partial_rotary_factor 1.5",
            ),
            (&format!("{rope}/full_attention/factor"), json!(0.0), "rope"),
            (&format!("{rope}/full_attention/turns"), json!(3), "full_attention.turns unknown"),
            (&format!("{rope}/sliding_attention/factor"), json!(2.0), "sliding_attention.factor"),
            (rope, json!({"rope_theta": 1e4}), "rope_theta missing"),
        ],
    );
    all_refused(
        &with_experts(),
        &[
            ("/text_config/top_k_experts", json!(9), "experts 9"),
            ("/text_config/moe_intermediate_size", Value::Null, "moe_intermediate_size missing"),
            ("/text_config/num_global_key_value_heads", json!(3), "heads multiple"),
        ],
    );
}

#[test]
fn settings_that_a_tensor_belies_are_refused_by_their_key() {
    for (good, key, name) in [
        (with_experts(), "attention_k_eq_v", "layers.2.self_attn.v_proj.weight"),
        (with_experts(), "hidden_size_per_layer_input", "embed_tokens_per_layer.weight"),
        (small(), "enable_moe_block", "layers.0.router.proj.weight"),
    ] {
        let shown =
            [tensor("model.embed_tokens.weight", &[32, 8]), tensor(&format!("model.{name}"), &[8, 8])];
        let error = described(Dialect::Hub, &Metadata::from_json(&good), &shown).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains(name), "{error}");
    }
}

#[test]
fn gguf_files_are_refused_with_what_works_instead() {
    let mut header = Metadata::default();
    header.insert("general.architecture", Held::String("gemma4".into()));
    let error = gguf::gguf(&header, &[]).unwrap_err().to_string();
    assert!(error.contains("gemma4") && error.contains("folder"), "{error}");
}
