//! Configurations as published: parameters counted from them are the published ones, and the numbers that no tensor
//! shows are right.

use super::hub;
use crate::spec::*;
use serde_json::{Value, json};

fn attention(spec: &ModelSpec, layer: usize) -> &Attention {
    match &spec.layers[layer].mixer {
        Mixer::Attention(attention) => attention,
        other => panic!("{other:?}"),
    }
}

fn latent(spec: &ModelSpec, layer: usize) -> &LatentAttention {
    match &spec.layers[layer].mixer {
        Mixer::Latent(latent) => latent,
        other => panic!("{other:?}"),
    }
}

fn experts(spec: &ModelSpec, layer: usize) -> &MixtureOfExperts {
    match &spec.layers[layer].feed_forward {
        FeedForward::Experts(moe) => moe,
        other => panic!("{other:?}"),
    }
}

fn close(a: f32, b: f64) {
    assert!((f64::from(a) / b - 1.0).abs() < 1e-5, "{a} against {b}");
}

#[test]
fn gpt_oss_20b() {
    let layer_types: Vec<_> =
        (0..24).map(|i| if i % 2 == 0 { "sliding_attention" } else { "full_attention" }).collect();
    let config = json!({
        "architectures": ["GptOssForCausalLM"], "attention_bias": true, "attention_dropout": 0.0,
        "experts_per_token": 4, "head_dim": 64, "hidden_act": "silu", "hidden_size": 2880,
        "initial_context_length": 4096, "intermediate_size": 2880, "layer_types": layer_types,
        "max_position_embeddings": 131072, "num_attention_heads": 64, "num_experts_per_tok": 4,
        "num_hidden_layers": 24, "num_key_value_heads": 8, "num_local_experts": 32, "rms_norm_eps": 1e-5,
        "rope_scaling": {
            "beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "original_max_position_embeddings": 4096,
            "rope_type": "yarn", "truncate": false
        },
        "rope_theta": 150000, "sliding_window": 128, "swiglu_limit": 7.0, "tie_word_embeddings": false,
        "vocab_size": 201088, "quantization_config": {"quant_method": "mxfp4"}
    });
    let spec = hub(&config, 201_088).unwrap();
    assert_eq!(spec.parameters(), 20_914_757_184);
    assert_eq!(spec.notices, Vec::<String>::new());
    assert_eq!(attention(&spec, 0).window, Some(128));
    assert_eq!(attention(&spec, 23).window, None);
    assert!(attention(&spec, 0).sinks && attention(&spec, 1).output_bias);
    close(spec.ropes[0].magnitude, 1.346_573_6);
    let RopeScaling::Yarn(yarn) = &spec.ropes[0].scaling else { panic!() };
    assert!(!yarn.truncate && yarn.original_context == 4096.0);
    let moe = experts(&spec, 0);
    assert_eq!(moe.activation, Activation::ClampedSwiglu { alpha: 1.702, limit: 7.0 });
    assert!(moe.expert_bias && moe.gating.router_bias);
    assert_eq!(moe.gating.scoring, Scoring::SoftmaxOfSelected);
}

fn deepseek_v3() -> Value {
    json!({
        "architectures": ["DeepseekV3ForCausalLM"], "attention_bias": false, "ep_size": 1,
        "first_k_dense_replace": 3, "hidden_act": "silu", "hidden_size": 7168, "intermediate_size": 18432,
        "kv_lora_rank": 512, "max_position_embeddings": 163840, "moe_intermediate_size": 2048, "moe_layer_freq": 1,
        "n_group": 8, "n_routed_experts": 256, "n_shared_experts": 1, "norm_topk_prob": true,
        "num_attention_heads": 128, "num_experts_per_tok": 8, "num_hidden_layers": 61, "num_key_value_heads": 128,
        "num_nextn_predict_layers": 1, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
        "quantization_config": {
            "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]
        },
        "rms_norm_eps": 1e-6,
        "rope_scaling": {
            "beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 4096, "type": "yarn"
        },
        "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "tie_word_embeddings": false,
        "topk_group": 4, "topk_method": "noaux_tc", "v_head_dim": 128, "vocab_size": 129280
    })
}

#[test]
fn deepseek_v3_r1_and_v3_2() {
    let spec = hub(&deepseek_v3(), 129_280).unwrap();
    assert_eq!(spec.parameters(), 671_026_419_200);
    assert_eq!(spec.notices, Vec::<String>::new());
    close(latent(&spec, 0).scale, 0.135_234);
    assert_eq!((spec.ropes[0].magnitude, spec.ropes[0].pairing), (1.0, Pairing::Neighbours));
    assert!(matches!(spec.layers[2].feed_forward, FeedForward::Dense(Dense { inner: 18432, .. })));
    let gating = &experts(&spec, 3).gating;
    assert_eq!(gating.groups, Some(ExpertGroups { count: 8, used: 4, score: GroupScore::TwoBest }));
    assert!(gating.normalise && gating.selection_bias && gating.scale == 2.5);
    assert_eq!(latent(&spec, 5).rank_norm.epsilon, 1e-6);

    let mut config = deepseek_v3();
    config["architectures"] = json!(["DeepseekV32ForCausalLM"]);
    config["index_head_dim"] = json!(128);
    config["index_n_heads"] = json!(64);
    config["index_topk"] = json!(2048);
    let spec = hub(&config, 129_280).unwrap();
    let indexer = latent(&spec, 60).indexer.as_ref().unwrap();
    assert_eq!((indexer.heads, indexer.head_dim, indexer.top_k), (64, 128, 2048));
    assert_eq!(spec.ropes[indexer.rope].pairing, Pairing::Halves);
    assert_eq!(spec.ropes[indexer.rope].frequencies(), spec.ropes[0].frequencies());
}

#[test]
fn deepseek_v3_says_what_its_class_supplies() {
    let mut config = deepseek_v3();
    for key in ["n_group", "topk_group", "routed_scaling_factor"] {
        config.as_object_mut().unwrap().remove(key);
    }
    let spec = hub(&config, 129_280).unwrap();
    assert_eq!(experts(&spec, 3).gating.groups.unwrap().used, 4);
    let [notice] = &spec.notices[..] else { panic!("{:?}", spec.notices) };
    for said in ["n_group = 8", "topk_group = 4", "routed_scaling_factor = 2.5"] {
        assert!(notice.contains(said), "{notice}");
    }
}

#[test]
fn a_block_that_predicts_further_tokens_is_found_and_costs_nothing() {
    let mut config = deepseek_v3();
    config["num_hidden_layers"] = json!(4);
    let without = hub(&config, 129_280).unwrap();
    assert!(without.next_token.is_empty(), "not in the file");
    let joined = super::tensor("model.layers.4.eh_proj.weight", &[7168, 2 * 7168]);
    let shared = super::tensor("model.layers.4.shared_head.head.weight", &[129_280, 7168]);
    let embedding = super::tensor("model.embed_tokens.weight", &[129_280, 7168]);
    let keys = crate::Metadata::from_json(&config);
    let spec = super::described(super::Dialect::Hub, &keys, &[embedding, joined, shared]).unwrap();
    assert_eq!(spec.next_token.len(), 1);
    assert_eq!(spec.next_token_tensors.len(), spec.next_token_needs().len());
    assert_eq!(spec.unused, Vec::<String>::new());
    assert_eq!(spec.parameters(), without.parameters());
    assert_eq!(spec.weight_bytes(), without.weight_bytes());
    // one more layer, the matrix that joins its two inputs, and three norms
    let own: u64 = spec.next_token_needs().iter().map(Need::elements).sum();
    let tensors = [
        super::tensor("model.embed_tokens.weight", &[129_280, 7168]),
        super::tensor("model.layers.4.eh_proj.weight", &[7168, 2 * 7168]),
    ];
    config["num_nextn_predict_layers"] = json!(0);
    let keys = crate::Metadata::from_json(&config);
    let silent = super::described(super::Dialect::Hub, &keys, &tensors).unwrap();
    assert!(
        silent.next_token.is_empty(),
        "there without a word in the configuration: no error, and not used"
    );
    let last = spec.needs().into_iter().filter(|need| need.layer == Some(3)).map(|need| need.elements());
    assert_eq!(own, last.sum::<u64>() + 2 * 7168 * 7168 + 3 * 7168);
}

#[test]
fn deepseek_v2_lite() {
    let config = json!({
        "architectures": ["DeepseekV2ForCausalLM"], "attention_bias": false, "first_k_dense_replace": 1,
        "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 10944, "kv_lora_rank": 512,
        "max_position_embeddings": 163840, "moe_intermediate_size": 1408, "moe_layer_freq": 1, "n_group": 1,
        "n_routed_experts": 64, "n_shared_experts": 2, "norm_topk_prob": false, "num_attention_heads": 16,
        "num_experts_per_tok": 6, "num_hidden_layers": 27, "num_key_value_heads": 16, "q_lora_rank": null,
        "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "rms_norm_eps": 1e-6,
        "rope_scaling": {
            "beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707,
            "original_max_position_embeddings": 4096, "type": "yarn"
        },
        "rope_theta": 10000, "routed_scaling_factor": 1.0, "scoring_func": "softmax", "tie_word_embeddings": false,
        "topk_group": 1, "topk_method": "greedy", "v_head_dim": 128, "vocab_size": 102400
    });
    let spec = hub(&config, 102_400).unwrap();
    assert_eq!(spec.parameters(), 15_706_484_224);
    assert_eq!(spec.notices, Vec::<String>::new());
    assert_eq!(latent(&spec, 0).query_rank, None);
    let grown = 0.1 * 0.707 * 40f64.ln() + 1.0;
    close(latent(&spec, 0).scale, grown * grown / 192f64.sqrt());
    let moe = experts(&spec, 1);
    assert_eq!((moe.gating.scoring, moe.gating.groups), (Scoring::Softmax, None));
    assert!(!moe.gating.selection_bias && !moe.gating.normalise);
    assert_eq!(moe.shared, Some(SharedExpert { inner: 2816, gated: false }));
}

#[test]
fn qwen3_30b_a3b() {
    let config = json!({
        "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": false, "decoder_sparse_step": 1, "head_dim": 128,
        "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 6144, "max_position_embeddings": 40960,
        "max_window_layers": 48, "mlp_only_layers": [], "moe_intermediate_size": 768, "norm_topk_prob": true,
        "num_attention_heads": 32, "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48,
        "num_key_value_heads": 4, "rms_norm_eps": 1e-6, "rope_scaling": null, "rope_theta": 1e6,
        "sliding_window": null, "tie_word_embeddings": false, "use_sliding_window": false, "vocab_size": 151936
    });
    let spec = hub(&config, 151_936).unwrap();
    assert_eq!(spec.parameters(), 30_532_122_624);
    assert_eq!(spec.notices, Vec::<String>::new());
    assert!(experts(&spec, 0).gating.normalise);
}

#[test]
fn qwen3_next_80b_a3b() {
    let config = json!({
        "architectures": ["Qwen3NextForCausalLM"], "attention_bias": false, "decoder_sparse_step": 1,
        "full_attention_interval": 4, "head_dim": 256, "hidden_act": "silu", "hidden_size": 2048,
        "intermediate_size": 5120, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_num_key_heads": 16,
        "linear_num_value_heads": 32, "linear_value_head_dim": 128, "max_position_embeddings": 262144,
        "mlp_only_layers": [], "moe_intermediate_size": 512, "norm_topk_prob": true, "num_attention_heads": 16,
        "num_experts": 512, "num_experts_per_tok": 10, "num_hidden_layers": 48, "num_key_value_heads": 2,
        "partial_rotary_factor": 0.25, "rms_norm_eps": 1e-6, "rope_scaling": null, "rope_theta": 1e7,
        "shared_expert_intermediate_size": 512, "tie_word_embeddings": false, "vocab_size": 151936
    });
    let spec = hub(&config, 151_936).unwrap();
    assert_eq!(spec.parameters(), 79_674_391_296);
    assert_eq!(spec.notices, Vec::<String>::new());
    assert_eq!(spec.ropes[0].dims, 64);
    assert!(matches!(spec.layers[2].mixer, Mixer::DeltaNet(_)));
    let attention = attention(&spec, 3);
    assert!(attention.output_gate && attention.qk_norm.unwrap().weight_offset == 1.0);
    let Mixer::DeltaNet(delta) = &spec.layers[0].mixer else { panic!() };
    assert_eq!((delta.output_norm.weight_offset, delta.decay), (0.0, DecayForm::LogRate));
}

#[test]
fn qwen3_5_with_its_text_network_nested() {
    let config = json!({
        "architectures": ["Qwen3_5MoeForConditionalGeneration"], "tie_word_embeddings": false,
        "text_config": {
            "attn_output_gate": true, "attention_bias": false, "full_attention_interval": 4, "head_dim": 256,
            "hidden_act": "silu", "hidden_size": 2048, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
            "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_value_head_dim": 128,
            "max_position_embeddings": 262144, "moe_intermediate_size": 512, "num_attention_heads": 16,
            "num_experts": 256, "num_experts_per_tok": 8, "num_hidden_layers": 40, "num_key_value_heads": 2,
            "rms_norm_eps": 1e-6, "shared_expert_intermediate_size": 512, "vocab_size": 248320,
            "rope_parameters": {
                "mrope_interleaved": true, "mrope_section": [11, 11, 10], "rope_type": "default",
                "rope_theta": 10000000, "partial_rotary_factor": 0.25
            }
        }
    });
    let spec = hub(&config, 248_320).unwrap();
    let billions = spec.parameters() as f64 / 1e9;
    assert!((billions - 34.66).abs() < 0.001, "{billions}");
    assert_eq!((spec.ropes[0].base, spec.ropes[0].dims), (1e7, 64));
    let sections = spec.ropes[0].sections.as_ref().unwrap();
    assert_eq!((sections.pairs, sections.layout), ([11, 11, 10], AxisLayout::Interleaved));
    assert!(experts(&spec, 0).shared.unwrap().gated);
}

/// Published with only what differs from the library's own numbers.
#[test]
fn gemma_3_4b_leaves_most_out() {
    let config = json!({
        "architectures": ["Gemma3ForConditionalGeneration"], "mm_tokens_per_image": 256,
        "text_config": {
            "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024
        }
    });
    let spec = hub(&config, 262_208).unwrap();
    assert_eq!(spec.parameters(), 3_880_263_168);
    let [notice] = &spec.notices[..] else { panic!("{:?}", spec.notices) };
    assert!(notice.contains("text_config.num_attention_heads = 8"), "{notice}");
    assert!(spec.head.unwrap().tied);
    assert_eq!(attention(&spec, 4).window, Some(1024));
    assert_eq!(attention(&spec, 5).window, None);
    let (windowed, full) = (attention(&spec, 4).rope.unwrap(), attention(&spec, 5).rope.unwrap());
    assert_eq!((spec.ropes[windowed].base, &spec.ropes[windowed].scaling), (10_000.0, &RopeScaling::None));
    assert_eq!(spec.ropes[full].base, 1e6);
    assert_eq!(spec.ropes[full].scaling, RopeScaling::Linear { factor: 8.0 });
    close(attention(&spec, 0).scale, 1.0 / 16.0);
    assert_eq!(spec.embedding.scale, 2560f32.sqrt());
    assert_eq!(spec.final_norm.unwrap().weight_offset, 1.0);
}

#[test]
fn gemma_3_27b_and_gemma_2_9b() {
    let config = json!({
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": {
            "head_dim": 128, "hidden_size": 5376, "intermediate_size": 21504, "model_type": "gemma3_text",
            "num_attention_heads": 32, "num_hidden_layers": 62, "num_key_value_heads": 16,
            "query_pre_attn_scalar": 168, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1024
        }
    });
    let spec = hub(&config, 262_208).unwrap();
    close(attention(&spec, 0).scale, 1.0 / 168f64.sqrt());

    let config = json!({
        "architectures": ["Gemma2ForCausalLM"], "attention_bias": false, "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0, "head_dim": 256, "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 3584, "intermediate_size": 14336,
        "max_position_embeddings": 8192, "num_attention_heads": 16, "num_hidden_layers": 42,
        "num_key_value_heads": 8, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "sliding_window": 4096, "sliding_window_size": 4096, "vocab_size": 256000
    });
    let spec = hub(&config, 256_000).unwrap();
    assert_eq!(spec.parameters(), 9_241_705_984);
    assert_eq!(spec.notices, Vec::<String>::new());
    assert_eq!((attention(&spec, 0).window, attention(&spec, 1).window), (Some(4096), None));
    assert_eq!((attention(&spec, 0).soft_cap, spec.head.unwrap().soft_cap), (Some(50.0), Some(30.0)));

    let mut without = config;
    without["final_logit_softcapping"] = Value::Null;
    assert_eq!(hub(&without, 256_000).unwrap().head.unwrap().soft_cap, None, "null says none");
    without.as_object_mut().unwrap().remove("final_logit_softcapping");
    assert_eq!(
        hub(&without, 256_000).unwrap().head.unwrap().soft_cap,
        Some(30.0),
        "missing says the family's own"
    );
}
