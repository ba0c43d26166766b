//! Qwen2-MoE and Qwen3-MoE: Qwen's attention, and experts chosen by softmax over all of them. Qwen2-MoE adds a gated
//! shared expert.

use super::keys::Keys;
use super::{Dialect, Family, Header, place, qwen};
use crate::error::{Error, Result};
use crate::spec::{
    Activation, Dense, FeedForward, Gating, MixtureOfExperts, ModelSpec, Scoring, SharedExpert,
};

pub(super) const FAMILY: Family = Family {
    gguf: &["qwen2moe", "qwen3moe"],
    hub: &["Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM"],
    describe,
    places: place::common,
};

fn describe(header: &Header, architecture: &str) -> Result<ModelSpec> {
    let keys = &Keys::new(header, architecture);
    let third = architecture.to_ascii_lowercase().starts_with("qwen3");
    let trunk = qwen::trunk(keys, third, None, false)?;
    let layers = trunk.base.layers;
    let blocks = match keys.dialect {
        Dialect::Gguf => vec![FeedForward::Experts(from_gguf(keys, third)?); layers],
        Dialect::Hub => from_hub(keys, layers, !third)?,
    };
    let blocks = blocks.into_iter().enumerate().map(|(layer, block)| trunk.layer(layer, block)).collect();
    Ok(trunk.spec(keys, architecture, blocks))
}

fn from_gguf(keys: &Keys, third: bool) -> Result<MixtureOfExperts> {
    softmax_gating_only(keys)?;
    let used = keys.required("expert_used_count")?;
    let inner = match keys.count("expert_feed_forward_length")? {
        Some(inner) => inner,
        None => keys.required("feed_forward_length")?.checked_div(used).unwrap_or(0),
    };
    let shared = match third {
        true => None,
        false => {
            Some(SharedExpert { inner: keys.required("expert_shared_feed_forward_length")?, gated: true })
        }
    };
    let scale = keys.float("expert_weights_scale")?.filter(|&scale| scale != 0.0).unwrap_or(1.0);
    let gating = softmax(third, scale as f32);
    Ok(MixtureOfExperts {
        experts: keys.required("expert_count")?,
        used,
        inner,
        activation: Activation::Silu,
        gating,
        expert_bias: false,
        shared,
        apart: None,
    })
}

/// GGUF files of these families choose by softmax over all experts.
pub(super) fn softmax_gating_only(keys: &Keys) -> Result<()> {
    match keys.count("expert_gating_func")?.filter(|gating| ![0, 1].contains(gating)) {
        Some(other) => Err(keys.refused("expert_gating_func", other, "1 (softmax)")),
        None => Ok(()),
    }
}

/// Softmax over all experts.
pub(super) fn softmax(normalise: bool, scale: f32) -> Gating {
    Gating {
        scoring: Scoring::Softmax,
        router_bias: false,
        selection_bias: false,
        groups: None,
        expert_scale: false,
        normalise,
        scale,
    }
}

/// Feed-forward blocks of a checkpoint: experts in every `decoder_sparse_step`-th layer except the `mlp_only_layers`.
pub(super) fn from_hub(keys: &Keys, layers: usize, shared: bool) -> Result<Vec<FeedForward>> {
    let experts = match keys.count("num_experts")? {
        Some(experts) => experts,
        None if keys.get("num_local_experts").is_some() => keys.required("num_local_experts")?,
        None => keys.required("num_experts")?,
    };
    let shared = match shared {
        true => Some(SharedExpert { inner: keys.required("shared_expert_intermediate_size")?, gated: true }),
        false => None,
    };
    let normalise = keys.flag("norm_topk_prob")?;
    let normalise = keys.outer().required(&keys.full("norm_topk_prob"), normalise)?;
    let moe = MixtureOfExperts {
        experts,
        used: keys.required("num_experts_per_tok")?,
        inner: keys.required("moe_intermediate_size")?,
        activation: Activation::Silu,
        gating: softmax(normalise, 1.0),
        expert_bias: false,
        shared,
        apart: None,
    };
    let step = keys.count("decoder_sparse_step")?.unwrap_or(1);
    if step == 0 {
        return Err(Error::metadata(keys.full("decoder_sparse_step"), "is 0; it must be at least 1"));
    }
    let plain = keys.integers("mlp_only_layers")?.unwrap_or_default();
    let mut blocks = Vec::new();
    for layer in 0..layers {
        let sparse = (layer + 1).is_multiple_of(step) && !plain.contains(&(layer as i64));
        blocks.push(match sparse {
            true => FeedForward::Experts(moe.clone()),
            false => FeedForward::Dense(Dense {
                inner: keys.required("intermediate_size")?,
                activation: Activation::Silu,
            }),
        });
    }
    Ok(blocks)
}
