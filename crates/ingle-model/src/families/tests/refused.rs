//! What would change the result and cannot be computed here is refused by its key, and the message says what could be.

use super::hub;
use serde_json::{Value, json};

/// Each `(pointer, value, words the message must have)` applied to a good configuration.
pub(super) fn all_refused(good: &Value, changes: &[(&str, Value, &str)]) {
    hub(good, 32).unwrap_or_else(|error| panic!("the configuration itself: {error}"));
    for (pointer, value, said) in changes {
        let mut config = good.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[key] = value.clone();
        let message = match hub(&config, 32) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{pointer} = {value} was taken"),
        };
        for word in said.split(' ') {
            assert!(message.contains(word), "{pointer} = {value}: {message}");
        }
    }
}

/// Each key may be missing or have the other value: what is described changes.
fn all_matter(good: &Value, changes: &[(&str, Value)]) {
    let usual = hub(good, 32).unwrap();
    for (pointer, value) in changes {
        let mut config = good.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[key] = value.clone();
        let spec = hub(&config, 32).unwrap_or_else(|error| panic!("{pointer} = {value}: {error}"));
        let same = spec.layers == usual.layers && spec.ropes == usual.ropes && spec.head == usual.head;
        assert!(!same, "{pointer} = {value} changed nothing");
    }
}

pub(super) fn deepseek() -> Value {
    json!({
        "architectures": ["DeepseekV3ForCausalLM"], "attention_bias": false, "first_k_dense_replace": 1,
        "hidden_act": "silu", "hidden_size": 8, "intermediate_size": 16, "kv_lora_rank": 4,
        "max_position_embeddings": 64, "moe_intermediate_size": 4, "moe_layer_freq": 1, "n_group": 2,
        "n_routed_experts": 8, "n_shared_experts": 1, "norm_topk_prob": true, "num_attention_heads": 2,
        "num_experts_per_tok": 2, "num_hidden_layers": 2, "num_key_value_heads": 2, "q_lora_rank": 6,
        "qk_nope_head_dim": 4, "qk_rope_head_dim": 2, "rms_norm_eps": 1e-6, "rope_scaling": {
            "type": "yarn", "factor": 4.0, "mscale": 1.0, "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 16
        },
        "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "tie_word_embeddings": false,
        "topk_group": 1, "topk_method": "noaux_tc", "v_head_dim": 4, "vocab_size": 32
    })
}

#[test]
fn deepseek_refusals() {
    all_refused(
        &deepseek(),
        &[
            ("/scoring_func", json!("softplus"), "scoring_func softplus sigmoid"),
            ("/scoring_func", json!("softmax"), "scoring_func softmax sigmoid"),
            ("/topk_method", json!("greedy"), "topk_method greedy noaux_tc"),
            ("/hidden_act", json!("relu"), "hidden_act relu silu"),
            ("/attention_bias", json!(true), "attention_bias true false"),
            ("/moe_layer_freq", json!(2), "moe_layer_freq"),
            ("/num_key_value_heads", json!(1), "num_key_value_heads"),
            ("/qk_head_dim", json!(9), "qk_head_dim"),
            ("/partial_rotary_factor", json!(0.5), "partial_rotary_factor"),
            ("/rope_scaling/type", json!("longrope"), "rope_scaling.type longrope yarn linear"),
            ("/rope_scaling/rope_type", json!("linear"), "rope_type contradicts"),
            ("/rope_scaling/high_freq_factor", json!(4.0), "high_freq_factor unknown"),
            ("/rope_scaling/factor", json!("four"), "rope_scaling.factor"),
            ("/rope_scaling", json!({"type": "linear"}), "rope_scaling.factor"),
            ("/n_group", json!(3), "groups"),
            ("/n_group", json!(8), "groups 1"),
            ("/n_group", json!(0), "groups"),
            ("/topk_group", json!(3), "groups"),
            ("/num_experts_per_tok", json!(9), "experts"),
            ("/num_experts_per_tok", json!(0), "experts"),
            ("/num_experts_per_tok", json!(5), "groups"),
            ("/n_routed_experts", json!(0), "experts"),
            ("/n_routed_experts", json!(1_000_000_000), "experts"),
            ("/routed_scaling_factor", json!(-1.0), "factor"),
            ("/qk_rope_head_dim", json!(3), "rope"),
            ("/kv_lora_rank", json!(0), "latent"),
            ("/v_head_dim", json!(100_000_000), "latent"),
            ("/layer_types", json!(["full_attention", "sliding_attention"]), "layer_types sliding_attention"),
            ("/mlp_layer_types", json!(["dense", "spare"]), "mlp_layer_types spare"),
            ("/mlp_layer_types", json!(["dense"]), "mlp_layer_types 1"),
            ("/quantization_config", json!({"quant_method": "awq"}), "quant_method awq fp8"),
            ("/vocab_size", json!(33), "vocab_size 33"),
        ],
    );
    let mut sparse = deepseek();
    for (key, value) in [
        ("architectures", json!(["DeepseekV32ForCausalLM"])),
        ("index_n_heads", json!(2)),
        ("index_head_dim", json!(4)),
        ("index_topk", json!(3)),
    ] {
        sparse[key] = value;
    }
    all_refused(
        &sparse,
        &[
            ("/index_topk", json!(0), "indexer"),
            ("/index_topk", Value::Null, "index_topk missing"),
            ("/index_head_dim", json!(1), "indexer"),
            ("/q_lora_rank", Value::Null, "indexer"),
            ("/layer_types", json!(["full_attention", "full_attention"]), "layer_types indexed_attention"),
            ("/indexer_rope_interleave", json!(true), "indexer_rope_interleave"),
        ],
    );
    let mut two = deepseek();
    for (key, value) in [
        ("architectures", json!(["DeepseekV2ForCausalLM"])),
        ("scoring_func", json!("softmax")),
        ("topk_method", json!("group_limited_greedy")),
        ("norm_topk_prob", json!(false)),
    ] {
        two[key] = value;
    }
    all_refused(
        &two,
        &[
            ("/norm_topk_prob", json!(true), "norm_topk_prob"),
            ("/topk_method", json!("noaux_tc"), "topk_method noaux_tc greedy"),
            ("/n_group", Value::Null, "n_group missing"),
            ("/scoring_func", json!("sigmoid"), "scoring_func"),
        ],
    );
}

#[test]
fn deepseek_keys_that_matter() {
    all_matter(
        &deepseek(),
        &[
            ("/rope_interleave", json!(false)),
            ("/rope_scaling/mscale_all_dim", json!(0.5)),
            ("/rope_scaling/mscale_all_dim", json!(0.0)),
            ("/rope_scaling/beta_fast", json!(2.0)),
            ("/rope_scaling/truncate", json!(false)),
            ("/rope_scaling", Value::Null),
            ("/norm_topk_prob", json!(false)),
            ("/n_group", json!(4)),
            ("/n_shared_experts", json!(2)),
            ("/n_shared_experts", Value::Null),
            ("/first_k_dense_replace", json!(0)),
            ("/mlp_layer_types", json!(["sparse", "dense"])),
            ("/q_lora_rank", Value::Null),
            ("/rms_norm_eps", json!(1e-5)),
        ],
    );
}

pub(super) fn gpt_oss() -> Value {
    json!({
        "architectures": ["GptOssForCausalLM"], "attention_bias": true, "experts_per_token": 2, "head_dim": 4,
        "hidden_act": "silu", "hidden_size": 8, "intermediate_size": 32,
        "layer_types": ["sliding_attention", "full_attention"], "max_position_embeddings": 64,
        "num_attention_heads": 2, "num_experts_per_tok": 2, "num_hidden_layers": 2, "num_key_value_heads": 1,
        "num_local_experts": 4, "rms_norm_eps": 1e-5, "rope_scaling": {
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "truncate": false
        },
        "rope_theta": 150000, "sliding_window": 8, "swiglu_limit": 7.0, "tie_word_embeddings": false,
        "vocab_size": 32
    })
}

#[test]
fn gpt_oss_refusals() {
    all_refused(
        &gpt_oss(),
        &[
            ("/experts_per_token", json!(3), "experts_per_token"),
            ("/num_local_experts", Value::Null, "num_local_experts missing"),
            ("/num_local_experts", json!(1), "experts"),
            ("/sliding_window", Value::Null, "sliding_window"),
            ("/sliding_window", json!(0), "window"),
            ("/hidden_act", json!("gelu"), "hidden_act gelu"),
            ("/layer_types", json!(["sliding_attention"]), "layer_types"),
            ("/layer_types", json!(["sliding_attention", "chunked_attention"]), "chunked_attention"),
            ("/layer_types", json!(["sliding_attention", 1]), "layer_types"),
            ("/swiglu_limit", json!(0.0), "clamp"),
            ("/rope_scaling/rope_type", json!("dynamic"), "rope_type dynamic"),
            ("/quantization_config", json!({"quant_method": "bitsandbytes"}), "quant_method"),
        ],
    );
    all_matter(
        &gpt_oss(),
        &[
            ("/attention_bias", json!(false)),
            ("/swiglu_limit", json!(5.0)),
            ("/swiglu_alpha", json!(1.5)),
            ("/rope_scaling/truncate", json!(true)),
            ("/layer_types", json!(["full_attention", "sliding_attention"])),
            ("/sliding_window", json!(9)),
            ("/rope_theta", json!(10000)),
        ],
    );
    let mut silent = gpt_oss();
    silent["rope_scaling"].as_object_mut().unwrap().remove("truncate");
    let notices = hub(&silent, 32).unwrap().notices;
    assert!(notices.iter().any(|notice| notice.contains("truncate = true")), "{notices:?}");
}

pub(super) fn qwen3_moe() -> Value {
    json!({
        "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": false, "decoder_sparse_step": 1, "head_dim": 4,
        "hidden_act": "silu", "hidden_size": 8, "intermediate_size": 16, "max_position_embeddings": 64,
        "mlp_only_layers": [], "moe_intermediate_size": 4, "norm_topk_prob": true, "num_attention_heads": 2,
        "num_experts": 4, "num_experts_per_tok": 2, "num_hidden_layers": 2, "num_key_value_heads": 1,
        "rms_norm_eps": 1e-6, "rope_scaling": null, "rope_theta": 1e6, "sliding_window": null,
        "tie_word_embeddings": false, "use_sliding_window": false, "vocab_size": 32
    })
}

#[test]
fn qwen_refusals() {
    all_refused(
        &qwen3_moe(),
        &[
            ("/norm_topk_prob", Value::Null, "norm_topk_prob missing"),
            ("/use_sliding_window", json!(true), "use_sliding_window"),
            ("/decoder_sparse_step", json!(0), "decoder_sparse_step"),
            ("/num_experts", Value::Null, "num_experts missing"),
            ("/num_experts_per_tok", json!(5), "experts"),
            ("/mlp_only_layers", json!("all"), "mlp_only_layers"),
            ("/rope_scaling", json!({"rope_type": "llama3", "factor": 8.0}), "rope_type llama3"),
            ("/rope_scaling", json!({"mrope_section": [1, 1, 1]}), "mrope_section 2"),
            ("/partial_rotary_factor", json!(0.5), "partial_rotary_factor"),
            ("/use_qk_norm", json!(false), "use_qk_norm"),
            ("/mlp_bias", json!(true), "mlp_bias"),
            ("/hidden_act", json!("gelu"), "hidden_act"),
        ],
    );
    all_matter(
        &qwen3_moe(),
        &[
            ("/norm_topk_prob", json!(false)),
            ("/decoder_sparse_step", json!(2)),
            ("/mlp_only_layers", json!([1])),
            ("/attention_bias", json!(true)),
            ("/tie_word_embeddings", json!(true)),
        ],
    );
    let mut dense = qwen3_moe();
    dense["architectures"] = json!(["Qwen3ForCausalLM"]);
    all_refused(
        &dense,
        &[
            ("/layer_types", json!(["full_attention", "sliding_attention"]), "layer_types sliding_window"),
            ("/layer_types", json!(["full_attention", "linear_attention"]), "linear_attention"),
        ],
    );
    dense["use_sliding_window"] = json!(true);
    dense["sliding_window"] = json!(8);
    all_matter(
        &dense,
        &[("/max_window_layers", json!(1)), ("/layer_types", json!(["full_attention", "sliding_attention"]))],
    );
}

pub(super) fn hybrid() -> Value {
    json!({
        "architectures": ["Qwen3_5MoeForCausalLM"], "attn_output_gate": true, "attention_bias": false,
        "full_attention_interval": 2, "head_dim": 8, "hidden_act": "silu", "hidden_size": 8,
        "linear_conv_kernel_dim": 4, "linear_key_head_dim": 4, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "linear_value_head_dim": 4, "max_position_embeddings": 64, "moe_intermediate_size": 4,
        "num_attention_heads": 2, "num_experts": 4, "num_experts_per_tok": 2, "num_hidden_layers": 2,
        "num_key_value_heads": 1, "rms_norm_eps": 1e-6, "shared_expert_intermediate_size": 4,
        "tie_word_embeddings": false, "vocab_size": 32,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.25}
    })
}

#[test]
fn hybrid_refusals() {
    all_refused(
        &hybrid(),
        &[
            ("/attn_output_gate", json!(false), "attn_output_gate"),
            ("/linear_num_value_heads", json!(3), "multiple"),
            ("/linear_conv_kernel_dim", json!(0), "delta"),
            ("/linear_key_head_dim", json!(0), "delta"),
            ("/full_attention_interval", json!(0), "full_attention_interval"),
            ("/layer_types", json!(["linear_attention", "sliding_attention"]), "sliding_attention"),
            ("/norm_topk_prob", json!(false), "norm_topk_prob"),
            ("/mlp_only_layers", json!([0]), "mlp_only_layers"),
            ("/rope_parameters/partial_rotary_factor", json!(2.0), "partial_rotary_factor"),
            ("/rope_parameters/rope_type", json!("proportional"), "proportional"),
            ("/shared_expert_intermediate_size", Value::Null, "shared_expert_intermediate_size"),
        ],
    );
    all_matter(
        &hybrid(),
        &[
            ("/rope_parameters/partial_rotary_factor", json!(0.5)),
            ("/layer_types", json!(["full_attention", "linear_attention"])),
            ("/attention_bias", json!(true)),
        ],
    );
}

pub(super) fn gemma3() -> Value {
    json!({
        "architectures": ["Gemma3ForCausalLM"], "attention_bias": false, "head_dim": 4,
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 8, "intermediate_size": 16,
        "max_position_embeddings": 64, "num_attention_heads": 2, "num_hidden_layers": 3, "num_key_value_heads": 1,
        "query_pre_attn_scalar": 4, "rms_norm_eps": 1e-6, "rope_local_base_freq": 10000,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "rope_theta": 1e6, "sliding_window": 8,
        "sliding_window_pattern": 3, "vocab_size": 32
    })
}

#[test]
fn gemma_refusals() {
    all_refused(
        &gemma3(),
        &[
            ("/use_bidirectional_attention", json!(true), "use_bidirectional_attention"),
            ("/attention_bias", json!(true), "attention_bias"),
            ("/hidden_activation", json!("gelu"), "hidden_activation gelu gelu_pytorch_tanh"),
            ("/sliding_window_pattern", json!(0), "sliding_window_pattern"),
            ("/sliding_window", Value::Null, "sliding_window"),
            ("/query_pre_attn_scalar", json!(0), "query_pre_attn_scalar"),
            ("/final_logit_softcapping", json!(-1.0), "final_logit_softcapping"),
            ("/rope_scaling/rope_type", json!("proportional"), "proportional"),
            ("/rope_parameters", json!({"rope_type": "default", "rope_theta": 1e6}), "rope_parameters"),
        ],
    );
    all_matter(
        &gemma3(),
        &[
            ("/query_pre_attn_scalar", json!(5)),
            ("/attn_logit_softcapping", json!(50.0)),
            ("/final_logit_softcapping", json!(30.0)),
            ("/rope_local_base_freq", json!(20000)),
            ("/rope_scaling", Value::Null),
            ("/sliding_window_pattern", json!(2)),
            ("/layer_types", json!(["full_attention", "sliding_attention", "full_attention"])),
            ("/rope_parameters", json!({"sliding_attention": {"rope_type": "default", "rope_theta": 5e5}})),
        ],
    );
}

#[test]
fn a_bias_the_configuration_denies_is_a_contradiction() {
    let config = qwen3_moe();
    let shown = [
        super::tensor("model.embed_tokens.weight", &[32, 8]),
        super::tensor("model.layers.1.self_attn.q_proj.bias", &[8]),
    ];
    let keys = crate::Metadata::from_json(&config);
    let message = super::described(super::Dialect::Hub, &keys, &shown).unwrap_err().to_string();
    assert!(message.contains("model.layers.1.self_attn.q_proj.bias"), "{message}");
}

#[test]
fn a_missing_expert_is_named() {
    let keys = crate::Metadata::from_json(&qwen3_moe());
    let crowd = super::with_crowd(&[super::tensor("model.embed_tokens.weight", &[32, 8])]);
    let header = super::Header { dialect: super::Dialect::Hub, keys: &keys, tensors: &crowd };
    let (family, spec) = super::unbound(&header, None).unwrap();
    let mut names = std::collections::BTreeMap::new();
    for need in spec.needs() {
        for run in (family.places)(super::Dialect::Hub, &spec, &need).remove(0) {
            names.insert(run.name.clone(), super::tensor(&run.name, &run.shape));
        }
    }
    let gone = "model.layers.1.mlp.experts.3.up_proj.weight";
    assert!(names.remove(gone).is_some());
    let tensors: Vec<_> = names.into_values().collect();
    let header = super::Header { dialect: super::Dialect::Hub, keys: &keys, tensors: &tensors };
    let message = super::describe_header(&header).unwrap_err().to_string();
    assert!(message.contains(gone) && message.contains("missing"), "{message}");
}
