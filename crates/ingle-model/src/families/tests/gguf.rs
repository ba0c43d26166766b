//! What GGUF files leave out, and what they hold in several ways.

use super::{Dialect, described, tensor};
use crate::error::Result;
use crate::metadata::{IntegerWidth, Metadata, Value};
use crate::source::TensorInfo;
use crate::spec::*;

fn metadata(architecture: &str, keys: &[(&str, Value)]) -> Metadata {
    let mut metadata = Metadata::default();
    metadata.insert("general.architecture", Value::String(architecture.into()));
    for (key, value) in keys {
        metadata.insert(format!("{architecture}.{key}"), value.clone());
    }
    metadata
}

fn count(number: u64) -> Value {
    Value::Unsigned(number, IntegerWidth::W32)
}

fn text(word: &str) -> Value {
    Value::String(word.into())
}

fn deepseek(layers: u64, experts: u64, used: u64) -> Metadata {
    metadata(
        "deepseek2",
        &[
            ("block_count", count(layers)),
            ("context_length", count(163_840)),
            ("embedding_length", count(64)),
            ("feed_forward_length", count(96)),
            ("attention.head_count", count(4)),
            ("attention.head_count_kv", count(1)),
            ("attention.layer_norm_rms_epsilon", Value::F32(1e-6)),
            ("expert_count", count(experts)),
            ("expert_used_count", count(used)),
            ("expert_gating_func", count(2)),
            ("attention.key_length", count(40)),
            ("attention.value_length", count(32)),
            ("leading_dense_block_count", count(1)),
            ("attention.q_lora_rank", count(48)),
            ("attention.kv_lora_rank", count(32)),
            ("attention.key_length_mla", count(24)),
            ("attention.value_length_mla", count(16)),
            ("expert_feed_forward_length", count(32)),
            ("expert_shared_count", count(1)),
            ("expert_weights_scale", Value::F32(2.5)),
            ("expert_weights_norm", Value::Bool(true)),
            ("rope.dimension_count", count(8)),
            ("rope.scaling.type", text("yarn")),
            ("rope.scaling.factor", Value::F32(40.0)),
            ("rope.scaling.original_context_length", count(4096)),
            ("rope.scaling.yarn_log_multiplier", Value::F32(0.1)),
        ],
    )
}

fn shown(names: &[(&str, &[usize])]) -> Vec<TensorInfo> {
    let all = [
        ("token_embd.weight", &[288, 64][..]),
        ("output.weight", &[288, 64]),
        ("blk.0.attn_k_b.weight", &[4, 32, 16]),
    ];
    all.iter().chain(names).map(|(name, shape)| tensor(name, shape)).collect()
}

fn biased() -> Vec<TensorInfo> {
    shown(&[("blk.1.exp_probs_b.bias", &[256])])
}

pub(super) fn gguf(keys: &Metadata, shown: &[TensorInfo]) -> Result<ModelSpec> {
    described(Dialect::Gguf, keys, shown)
}

fn groups(spec: &ModelSpec) -> Option<ExpertGroups> {
    match &spec.layers[1].feed_forward {
        FeedForward::Experts(moe) => moe.gating.groups,
        _ => panic!("layer 1 has experts"),
    }
}

#[test]
fn groups_of_experts_are_filled_in_for_the_published_shape_only_and_told() {
    let spec = gguf(&deepseek(61, 256, 8), &biased()).unwrap();
    assert_eq!(groups(&spec), Some(ExpertGroups { count: 8, used: 4, score: GroupScore::TwoBest }));
    assert!(spec.notices.iter().any(|notice| notice.contains("4 of 8 groups")), "{:?}", spec.notices);
    let other = gguf(&deepseek(60, 256, 8), &biased()).unwrap();
    assert_eq!((groups(&other), other.notices.len()), (None, 0));

    let mut keys = deepseek(61, 256, 8);
    keys.insert("deepseek2.expert_group_count", count(4));
    keys.insert("deepseek2.expert_group_used_count", count(2));
    let stated = gguf(&keys, &biased()).unwrap();
    assert_eq!(groups(&stated).map(|groups| groups.count), Some(4));
    assert_eq!(stated.notices, Vec::<String>::new());
}

#[test]
fn attention_scale_follows_the_log_multiplier() {
    let scale = |keys: &Metadata| {
        let spec = gguf(keys, &biased()).unwrap();
        let Mixer::Latent(latent) = &spec.layers[0].mixer else { panic!() };
        (f64::from(latent.scale) * 24f64.sqrt(), spec.ropes[0].magnitude, spec.notices.len())
    };
    let mut keys = deepseek(3, 256, 8);
    let grown = 1.0 + 0.1 * 40f64.ln();
    let (stated, magnitude, notices) = scale(&keys);
    assert!((stated - grown * grown).abs() < 1e-5 && magnitude == 1.0 && notices == 0);
    keys.insert("deepseek2.rope.scaling.yarn_log_multiplier", Value::F32(0.0707));
    let lite = 1.0 + 0.0707 * 40f64.ln();
    assert!((scale(&keys).0 - lite * lite).abs() < 1e-5);
    let mut silent = Metadata::default();
    let kept = keys.iter().filter(|(key, _)| !key.ends_with("log_multiplier"));
    kept.for_each(|(key, value)| silent.insert(key, value.clone()));
    let (plain, magnitude, notices) = scale(&silent);
    assert!((plain - 1.0).abs() < 1e-5 && (f64::from(magnitude) - grown).abs() < 1e-5 && notices == 1);
}

#[test]
fn older_files_without_widths_of_their_own_hold_one_joint_projection() {
    let mut keys = Metadata::default();
    let kept = deepseek(3, 8, 2);
    kept.iter()
        .filter(|(key, _)| !key.ends_with("_mla"))
        .for_each(|(key, value)| keys.insert(key, value.clone()));
    keys.insert("deepseek2.attention.key_length", count(24));
    keys.insert("deepseek2.attention.value_length", count(16));
    let shown = [tensor("token_embd.weight", &[288, 64]), tensor("blk.1.exp_probs_b.bias", &[8])];
    let spec = gguf(&keys, &shown).unwrap();
    let Mixer::Latent(latent) = &spec.layers[0].mixer else { panic!() };
    assert_eq!((latent.nope_dim, latent.value_dim, latent.key_up), (16, 16, KeyUpLayout::Expanding));
    let key_up = spec.tensor(Role::LatentKeyUp, Some(0)).unwrap();
    assert_eq!(
        (key_up.pieces.len(), key_up.pieces[1].first),
        (4, 32),
        "a head's 16 key rows, then its 16 value rows"
    );
    assert_eq!(spec.tensor(Role::LatentValueUp, Some(0)).unwrap().pieces[0].first, 16);
}

#[test]
fn deepseek_files_that_contradict_themselves() {
    for (key, value, said) in [
        ("expert_gating_func", count(3), "expert_gating_func"),
        ("expert_gating_func", count(1), "exp_probs_b"),
        ("rope.scaling.attn_factor", Value::F32(2.0), "attn_factor"),
        ("rope.scaling.type", text("longrope"), "longrope"),
        ("attention.temperature_scale", Value::F32(0.1), "temperature_scale"),
        ("attention.key_length_mla", count(8), "key_length_mla"),
        ("nextn_predict_layers", count(3), "nextn_predict_layers"),
        ("expert_group_count", count(5), "groups"),
        ("vocab_size", count(100), "vocab_size"),
    ] {
        let mut keys = deepseek(3, 256, 8);
        keys.insert("deepseek2.expert_group_used_count", count(2));
        keys.insert(format!("deepseek2.{key}"), value);
        let message = gguf(&keys, &biased()).unwrap_err().to_string();
        assert!(message.contains(said), "{key}: {message}");
    }
}

#[test]
fn further_token_blocks_are_counted_inside_the_blocks() {
    let mut keys = deepseek(4, 256, 8);
    keys.insert("deepseek2.nextn_predict_layers", count(1));
    let spec = gguf(&keys, &biased()).unwrap();
    assert_eq!((spec.layers.len(), spec.next_token.len()), (3, 1));
    assert!(!spec.next_token_tensors.is_empty());
    assert!(spec.next_token_tensors.iter().all(|tensor| tensor.pieces[0].stored.name.starts_with("blk.3.")));
}

fn gemma(architecture: &str, layers: u64, heads: u64, width: u64) -> Metadata {
    metadata(
        architecture,
        &[
            ("block_count", count(layers)),
            ("context_length", count(8192)),
            ("embedding_length", count(64)),
            ("feed_forward_length", count(96)),
            ("attention.head_count", count(heads)),
            ("attention.head_count_kv", count(1)),
            ("attention.layer_norm_rms_epsilon", Value::F32(1e-6)),
            ("attention.key_length", count(width)),
            ("attention.value_length", count(width)),
            ("attention.sliding_window", count(16)),
            ("rope.freq_base", Value::F32(1e6)),
            ("attn_logit_softcapping", Value::F32(50.0)),
            ("final_logit_softcapping", Value::F32(30.0)),
        ],
    )
}

#[test]
fn gemma_scales_and_windows_by_the_released_shapes() {
    let first = |keys: &Metadata| {
        let spec = gguf(keys, &shown(&[])[..1]).unwrap();
        let windowed: Vec<bool> = spec
            .layers
            .iter()
            .map(|layer| matches!(&layer.mixer, Mixer::Attention(attention) if attention.window == Some(16)))
            .collect();
        let Mixer::Attention(attention) = &spec.layers[0].mixer else { panic!() };
        (1.0 / f64::from(attention.scale).powi(2), windowed, spec.notices)
    };
    for (architecture, layers, divisor) in
        [("gemma3", 26, 32), ("gemma3", 62, 16), ("gemma2", 42, 32), ("gemma2", 46, 16)]
    {
        let (scale, windowed, notices) = first(&gemma(architecture, layers, 4, 32));
        assert!((scale - f64::from(divisor)).abs() < 1e-3, "{architecture} of {layers} layers: {scale}");
        let interval = if architecture == "gemma3" { 6 } else { 2 };
        assert!((0..26).all(|layer| windowed[layer] == (layer % interval != interval - 1)));
        assert_eq!(notices, Vec::<String>::new());
    }
    let (scale, _, notices) = first(&gemma("gemma3", 7, 4, 32));
    assert!((scale - 32.0).abs() < 1e-3);
    assert_eq!(notices.len(), 2, "scale and windows were assumed: {notices:?}");

    let mut keys = gemma("gemma3", 4, 4, 32);
    keys.insert("gemma3.attention.sliding_window_pattern", count(2));
    assert_eq!(first(&keys).1, [true, false, true, false]);
    keys.insert("gemma3.attention.sliding_window_pattern", Value::Bools(vec![false, true, true, false]));
    assert_eq!(first(&keys).1, [false, true, true, false]);
    keys.insert("gemma3.attention.sliding_window_pattern", Value::Bools(vec![false, true]));
    let message = gguf(&keys, &shown(&[])[..1]).unwrap_err().to_string();
    assert!(message.contains("sliding_window_pattern"), "{message}");
    keys.insert("gemma3.attention.sliding_window_pattern", text("all"));
    assert!(gguf(&keys, &shown(&[])[..1]).is_err());
}

#[test]
fn hybrids_without_a_key_for_it_show_their_layers_by_their_tensors() {
    let shown = shown(&[("blk.0.ssm_out.weight", &[64, 96]), ("blk.2.ssm_out.weight", &[64, 96])]);
    let kinds = |spec: &ModelSpec| -> Vec<bool> {
        spec.layers.iter().map(|layer| matches!(layer.mixer, Mixer::DeltaNet(_))).collect()
    };
    let spec = gguf(&hybrid("qwen35"), &shown).unwrap();
    assert_eq!(kinds(&spec), [true, false, true, false]);
    let Mixer::DeltaNet(delta) = &spec.layers[0].mixer else { panic!() };
    assert_eq!((delta.value_order, delta.decay), (ValueHeadOrder::Interleaved, DecayForm::NegativeRate));
    assert_eq!(spec.final_norm.unwrap().weight_offset, 0.0);

    let mut stated = hybrid("qwen3next");
    stated.insert("qwen3next.full_attention_interval", count(4));
    let spec = gguf(&stated, &shown).unwrap();
    assert_eq!(kinds(&spec), [true, true, true, false]);
    let Mixer::DeltaNet(delta) = &spec.layers[0].mixer else { panic!() };
    assert_eq!(delta.value_order, ValueHeadOrder::Grouped);
    stated.insert("qwen3next.ssm.inner_size", count(97));
    assert!(gguf(&stated, &shown).unwrap_err().to_string().contains("ssm.inner_size"));
}

fn hybrid(architecture: &str) -> Metadata {
    metadata(
        architecture,
        &[
            ("block_count", count(4)),
            ("context_length", count(64)),
            ("embedding_length", count(64)),
            ("feed_forward_length", count(96)),
            ("attention.head_count", count(4)),
            ("attention.head_count_kv", count(2)),
            ("attention.layer_norm_rms_epsilon", Value::F32(1e-6)),
            ("attention.key_length", count(32)),
            ("attention.value_length", count(32)),
            ("rope.dimension_count", count(8)),
            ("ssm.conv_kernel", count(4)),
            ("ssm.state_size", count(16)),
            ("ssm.group_count", count(2)),
            ("ssm.time_step_rank", count(6)),
            ("ssm.inner_size", count(96)),
            ("expert_count", count(8)),
            ("expert_used_count", count(2)),
            ("expert_feed_forward_length", count(16)),
            ("expert_shared_feed_forward_length", count(16)),
        ],
    )
}

/// Good headers with what a file must show beside the tensors they ask for.
pub(super) fn samples() -> Vec<(Metadata, Vec<TensorInfo>)> {
    let recurrent = shown(&[("blk.0.ssm_out.weight", &[64, 96])]);
    vec![
        (deepseek(3, 256, 8), biased()),
        (gemma("gemma3", 26, 4, 32), shown(&[])[..1].to_vec()),
        (hybrid("qwen35moe"), recurrent.clone()),
        (hybrid("qwen3next"), recurrent),
    ]
}
