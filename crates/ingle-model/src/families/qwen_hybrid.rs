//! Qwen3-Next and Qwen3.5, dense and of experts: three layers of gated delta net to one of gated attention that turns a
//! quarter of each head. Checkpoints store norm weights as `w` of `1 + w`, except the one inside the delta net; GGUF files
//! store `1 + w`. GGUF files of Qwen3.5 order value heads so that head `g` belongs to key head `g mod key_heads`.

use super::base::{Base, Defaults, Rest};
use super::grouped::{Heads, Usual};
use super::keys::{Keys, SILU};
use super::layers::{self, FULL, Kind, LINEAR};
use super::place::{self, Places, Run};
use super::rope::{self, Table};
use super::{Dialect, Family, Header, qwen_moe};
use crate::error::{Error, Result};
use crate::spec::{
    Activation, Attention, AxisLayout, DecayForm, Dense, FeedForward, GatedDeltaNet, LayerNorms, LayerSpec,
    Mixer, MixtureOfExperts, ModelSpec, Need, NextTokenBlock, Norm, NormKind, Role, SharedExpert,
    ValueHeadOrder,
};

pub(super) const FAMILY: Family = Family {
    gguf: &["qwen3next", "qwen35", "qwen35moe"],
    hub: &[
        "Qwen3NextForCausalLM",
        "Qwen3_5ForCausalLM",
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5MoeForCausalLM",
        "Qwen3_5MoeForConditionalGeneration",
    ],
    describe,
    places,
};

/// The three networks.
#[derive(Clone, Copy, PartialEq)]
enum Member {
    Next,
    Dense,
    Experts,
}

fn describe(header: &Header, architecture: &str) -> Result<ModelSpec> {
    let keys = &Keys::new(header, architecture);
    let member = match architecture {
        "qwen3next" | "Qwen3NextForCausalLM" => Member::Next,
        "qwen35moe" | "Qwen3_5MoeForCausalLM" | "Qwen3_5MoeForConditionalGeneration" => Member::Experts,
        _ => Member::Dense,
    };
    let base = Base::read(keys, Defaults { context: None, epsilon: 1e-6, tied: false })?;
    let heads = Heads::read(keys, &base, Usual { width: Some(256), ..Usual::default() })?;
    let dims = rotated(keys, heads.key_dim)?;
    let table =
        Table { axes: AxisLayout::Interleaved, ..Table::usual(keys.dialect, dims, base.context, 10_000.0) };
    let rope = rope::read(keys, &table)?.rope;
    let weight_offset = if keys.dialect == Dialect::Hub { 1.0 } else { 0.0 };
    let norm = Norm { kind: NormKind::Rms, epsilon: base.epsilon, weight_offset };
    let biases = match keys.dialect {
        Dialect::Gguf => false,
        Dialect::Hub => {
            keys.must_be("attn_output_gate", true)?;
            keys.must_be("mlp_bias", false)?;
            keys.activation("hidden_act", "silu", SILU)?;
            keys.flag("attention_bias")?.unwrap_or(false)
        }
    };
    let delta = delta(keys, member, base.epsilon)?;
    let blocks = feed_forward(keys, member, base.layers)?;
    let kinds = kinds(keys, base.layers)?;
    let attention = |layer: usize| {
        Mixer::Attention(Attention {
            qk_norm: Some(norm),
            qkv_bias: biases,
            output_bias: biases,
            output_gate: true,
            ..heads.attention(layer)
        })
    };
    let layers = blocks.into_iter().enumerate().map(|(layer, feed_forward)| LayerSpec {
        mixer: if kinds[layer] == Kind::Full { attention(layer) } else { Mixer::DeltaNet(delta.clone()) },
        feed_forward,
        norms: LayerNorms::before(norm),
        token_block: None,
        output_scale: false,
    });
    let layers: Vec<LayerSpec> = layers.collect();
    // a block that predicts a further token is built like the last layer with attention
    let last = layers.iter().rev().find(|layer| matches!(layer.mixer, Mixer::Attention(_)));
    let block = last.map(|last| NextTokenBlock { layer: last.clone(), norm });
    let next_token = block.into_iter().cycle().take(further_blocks(keys, &base)?).collect();
    let rest = Rest {
        embedding_scale: 1.0,
        layers,
        ropes: vec![rope],
        final_norm: norm,
        head_soft_cap: None,
        next_token,
    };
    Ok(base.spec(keys, architecture, rest))
}

/// Values of a head that turn.
fn rotated(keys: &Keys, width: usize) -> Result<usize> {
    match keys.dialect {
        Dialect::Gguf => keys.required("rope.dimension_count"),
        Dialect::Hub => {
            let share = keys.or_assume("partial_rotary_factor", rope::hub_rotated_share(keys)?, 0.25);
            if !(share > 0.0 && share <= 1.0) {
                return Err(keys.refused("partial_rotary_factor", share, "a share of 1"));
            }
            Ok((width as f64 * share) as usize)
        }
    }
}

/// Blocks that predict further tokens: as stated, or as many as there are (Qwen3-Next does not say).
fn further_blocks(keys: &Keys, base: &Base) -> Result<usize> {
    if keys.dialect == Dialect::Gguf {
        return Ok(base.next_token);
    }
    let number = |name: &str| name.strip_prefix("mtp.layers.")?.split('.').next()?.parse::<usize>().ok();
    let there = keys.tensor_names().filter_map(number).max().map_or(0, |last| last.saturating_add(1));
    Ok(keys.count("mtp_num_hidden_layers")?.unwrap_or(there).min(there).min(base.layers))
}

/// Which layers are attention. GGUF files without a key for it show it by their tensors.
fn kinds(keys: &Keys, layers: usize) -> Result<Vec<Kind>> {
    let interval = keys.count("full_attention_interval")?;
    match keys.dialect {
        Dialect::Gguf => {
            let key = "attention.recurrent_layers";
            if let Some(flags) = keys.flags(key)? {
                if flags.len() < layers {
                    let what = format!("holds {} flags, and there are {layers} layers", flags.len());
                    return Err(Error::metadata(keys.full(key), what));
                }
                let kind = |&recurrent: &bool| if recurrent { Kind::Linear } else { Kind::Full };
                return Ok(flags[..layers].iter().map(kind).collect());
            }
            match interval {
                Some(interval) => {
                    layers::every(keys, "full_attention_interval", interval, layers, Kind::Linear)
                }
                None => {
                    let recurrent = |layer: usize| keys.has(&format!("blk.{layer}.ssm_out.weight"));
                    let kind = |layer: usize| if recurrent(layer) { Kind::Linear } else { Kind::Full };
                    Ok((0..layers).map(kind).collect())
                }
            }
        }
        Dialect::Hub => match layers::named(keys, "layer_types", layers, &[FULL, LINEAR])? {
            Some(kinds) => Ok(kinds),
            None => {
                let interval = keys.or_assume("full_attention_interval", interval, 4);
                layers::every(keys, "full_attention_interval", interval, layers, Kind::Linear)
            }
        },
    }
}

fn delta(keys: &Keys, member: Member, epsilon: f32) -> Result<GatedDeltaNet> {
    let output_norm = Norm::rms(epsilon);
    match keys.dialect {
        Dialect::Gguf => {
            let value_heads = keys.required("ssm.time_step_rank")?;
            let inner = keys.required("ssm.inner_size")?;
            if value_heads == 0 || inner % value_heads != 0 {
                let what = format!("is {inner}, which is not a multiple of the {value_heads} value heads");
                return Err(Error::metadata(keys.full("ssm.inner_size"), what));
            }
            Ok(GatedDeltaNet {
                key_heads: keys.required("ssm.group_count")?,
                key_dim: keys.required("ssm.state_size")?,
                value_heads,
                value_dim: inner / value_heads,
                convolution: keys.required("ssm.conv_kernel")?,
                value_order: match member {
                    Member::Next => ValueHeadOrder::Grouped,
                    Member::Dense | Member::Experts => ValueHeadOrder::Interleaved,
                },
                decay: DecayForm::NegativeRate,
                output_norm,
            })
        }
        Dialect::Hub => Ok(GatedDeltaNet {
            key_heads: keys.required("linear_num_key_heads")?,
            key_dim: keys.required("linear_key_head_dim")?,
            value_heads: keys.required("linear_num_value_heads")?,
            value_dim: keys.required("linear_value_head_dim")?,
            convolution: keys.required("linear_conv_kernel_dim")?,
            value_order: ValueHeadOrder::Grouped,
            decay: DecayForm::LogRate,
            output_norm,
        }),
    }
}

fn feed_forward(keys: &Keys, member: Member, layers: usize) -> Result<Vec<FeedForward>> {
    match (keys.dialect, member) {
        (Dialect::Gguf, Member::Dense) => {
            let key = "feed_forward_length";
            let inner = keys.outer().required(&keys.full(key), keys.per_layer(key, layers)?)?;
            Ok(inner.into_iter().map(dense).collect())
        }
        (Dialect::Hub, Member::Dense) => Ok(vec![dense(keys.required("intermediate_size")?); layers]),
        (Dialect::Gguf, _) => {
            qwen_moe::softmax_gating_only(keys)?;
            let moe = MixtureOfExperts {
                experts: keys.required("expert_count")?,
                used: keys.required("expert_used_count")?,
                inner: keys.required("expert_feed_forward_length")?,
                ..experts(keys.required("expert_shared_feed_forward_length")?)
            };
            Ok(vec![FeedForward::Experts(moe); layers])
        }
        (Dialect::Hub, Member::Next) => qwen_moe::from_hub(keys, layers, true),
        (Dialect::Hub, Member::Experts) => {
            keys.must_be("norm_topk_prob", true)?;
            if keys.integers("mlp_only_layers")?.is_some_and(|plain| !plain.is_empty()) {
                return Err(keys.refused("mlp_only_layers", "not empty", "an empty list"));
            }
            let moe = MixtureOfExperts {
                experts: keys.required("num_experts")?,
                used: keys.required("num_experts_per_tok")?,
                inner: keys.required("moe_intermediate_size")?,
                ..experts(keys.required("shared_expert_intermediate_size")?)
            };
            Ok(vec![FeedForward::Experts(moe); layers])
        }
    }
}

fn dense(inner: usize) -> FeedForward {
    FeedForward::Dense(Dense { inner, activation: Activation::Silu })
}

/// Experts by normalised softmax beside a gated shared one; their sizes still to be filled in.
fn experts(shared: usize) -> MixtureOfExperts {
    MixtureOfExperts {
        experts: 0,
        used: 0,
        inner: 0,
        activation: Activation::Silu,
        gating: qwen_moe::softmax(true, 1.0),
        expert_bias: false,
        shared: Some(SharedExpert { inner: shared, gated: true }),
        apart: None,
    }
}

fn places(dialect: Dialect, spec: &ModelSpec, need: &Need) -> Places {
    let layer = need.layer.unwrap_or_default();
    let one = |name: String| vec![vec![Run::whole(name, need)]];
    let further = layer.checked_sub(spec.layers.len()).filter(|_| need.layer.is_some());
    match (dialect, need.role, further) {
        (Dialect::Gguf, Role::FeedForwardNorm, _) => one(format!("blk.{layer}.post_attention_norm.weight")),
        (Dialect::Hub, Role::NextEmbeddingNorm, _) => one("mtp.pre_fc_norm_embedding.weight".into()),
        (Dialect::Hub, Role::NextHiddenNorm, _) => one("mtp.pre_fc_norm_hidden.weight".into()),
        (Dialect::Hub, Role::NextJoin, _) => one("mtp.fc.weight".into()),
        (Dialect::Hub, Role::NextFinalNorm, _) => one("mtp.norm.weight".into()),
        (Dialect::Hub, _, Some(block)) => {
            let mut places = place::common(dialect, spec, need);
            let (usual, here) = (format!("model.layers.{layer}."), format!("mtp.layers.{block}."));
            for run in places.iter_mut().flatten() {
                run.name = run.name.replacen(&usual, &here, 1);
            }
            places
        }
        _ => place::common(dialect, spec, need),
    }
}
