//! gpt-oss: grouped-query attention with biases, a sink per head and windows on every other layer; experts of clamped
//! SwiGLU chosen by raw logits. YaRN with a ramp that does not end on whole pairs.

use super::base::{Base, Defaults, Rest};
use super::grouped::{Heads, Usual};
use super::keys::{Keys, SILU};
use super::layers::{self, FULL, Kind, SLIDING};
use super::place::{self, Places, Run};
use super::rope::{self, Table};
use super::{Dialect, Family, Header, names};
use crate::error::{Error, Result};
use crate::spec::{
    Activation, Attention, FeedForward, Gating, LayerNorms, LayerSpec, Mixer, MixtureOfExperts, ModelSpec,
    Need, Norm, Role, RopeScaling, Scoring,
};

pub(super) const FAMILY: Family =
    Family { gguf: &["gpt-oss"], hub: &["GptOssForCausalLM"], describe, places };

/// Slope and clamp of the activation, where the file does not state them.
const ALPHA: f32 = 1.702;
const LIMIT: f32 = 7.0;

fn describe(header: &Header, architecture: &str) -> Result<ModelSpec> {
    let keys = &Keys::new(header, architecture);
    let base = Base::read(keys, Defaults { context: None, epsilon: 1e-5, tied: false })?;
    let heads = Heads::read(keys, &base, Usual { width: Some(64), ..Usual::default() })?;
    // GGUF files do not say where YaRN's ramp ends; the released checkpoints end it between pairs
    let usual = Table::usual(keys.dialect, heads.key_dim, base.context, 150_000.0);
    let table = Table { truncate: keys.dialect == Dialect::Hub, ..usual };
    let rope = rope::read(keys, &table)?.rope;
    if let (Dialect::Hub, RopeScaling::Yarn(yarn)) = (keys.dialect, &rope.scaling) {
        keys.or_assume("rope_scaling.truncate", truncate(keys)?, yarn.truncate);
    }
    let (kinds, window) = windows(keys, base.layers)?;
    let experts = experts(keys)?;
    let biases = keys.dialect == Dialect::Gguf || keys.flag("attention_bias")?.unwrap_or(true);
    if keys.dialect == Dialect::Hub {
        keys.activation("hidden_act", "silu", SILU)?; // its sigmoid is inside the clamped SwiGLU
    }
    let norm = Norm::rms(base.epsilon);
    let layer = |layer: usize| LayerSpec {
        mixer: Mixer::Attention(Attention {
            window: (kinds[layer] == Kind::Sliding).then_some(window),
            qkv_bias: biases,
            output_bias: biases,
            sinks: true,
            ..heads.attention(layer)
        }),
        feed_forward: FeedForward::Experts(experts.clone()),
        norms: LayerNorms::before(norm),
        token_block: None,
        output_scale: false,
    };
    let layers = (0..base.layers).map(layer).collect();
    let rest = Rest {
        embedding_scale: 1.0,
        layers,
        ropes: vec![rope],
        final_norm: norm,
        head_soft_cap: None,
        next_token: Vec::new(),
    };
    Ok(base.spec(keys, architecture, rest))
}

fn truncate(keys: &Keys) -> Result<Option<bool>> {
    match keys.flag("rope_scaling.truncate")? {
        Some(stated) => Ok(Some(stated)),
        None => keys.flag("rope_parameters.truncate"),
    }
}

/// Which layers are windowed, and the window. Even layers are, unless the file says otherwise.
fn windows(keys: &Keys, layers: usize) -> Result<(Vec<Kind>, usize)> {
    let alternating = || layers::every(keys, "sliding_window", 2, layers, Kind::Sliding);
    match keys.dialect {
        Dialect::Gguf => {
            Ok((layers::gguf_windowed(keys, layers, || 2)?, keys.required("attention.sliding_window")?))
        }
        Dialect::Hub => {
            let kinds = match layers::named(keys, "layer_types", layers, &[FULL, SLIDING])? {
                Some(kinds) => kinds,
                None => alternating()?,
            };
            Ok((kinds, keys.required("sliding_window")?))
        }
    }
}

fn experts(keys: &Keys) -> Result<MixtureOfExperts> {
    let (experts, used, inner) = match keys.dialect {
        Dialect::Gguf => {
            let gating = keys.count("expert_gating_func")?;
            if let Some(other) = gating.filter(|gating| ![0, 3].contains(gating)) {
                return Err(keys.refused("expert_gating_func", other, "3 (softmax over the chosen)"));
            }
            ("expert_count", keys.required("expert_used_count")?, "expert_feed_forward_length")
        }
        Dialect::Hub => {
            let used = keys.required("num_experts_per_tok")?;
            if let Some(other) = keys.count("experts_per_token")?.filter(|&other| other != used) {
                let what = format!("is {other}, and num_experts_per_tok is {used}");
                return Err(Error::metadata("experts_per_token", what));
            }
            ("num_local_experts", used, "intermediate_size")
        }
    };
    let stated = |name: &str, usual: f32| -> Result<f32> {
        Ok(keys.float(name)?.filter(|_| keys.dialect == Dialect::Hub).map_or(usual, |number| number as f32))
    };
    Ok(MixtureOfExperts {
        experts: keys.required(experts)?,
        used,
        inner: keys.required(inner)?,
        activation: Activation::ClampedSwiglu {
            alpha: stated("swiglu_alpha", ALPHA)?,
            limit: stated("swiglu_limit", LIMIT)?,
        },
        gating: Gating {
            scoring: Scoring::SoftmaxOfSelected,
            router_bias: true,
            selection_bias: false,
            groups: None,
            expert_scale: false,
            normalise: false,
            scale: 1.0,
        },
        expert_bias: true,
        shared: None,
        apart: None,
    })
}

fn places(dialect: Dialect, spec: &ModelSpec, need: &Need) -> Places {
    let layer = need.layer.unwrap_or_default();
    let one = |name: String| vec![vec![Run::whole(name, need)]];
    match (dialect, need.role) {
        (Dialect::Gguf, Role::FeedForwardNorm) => one(format!("blk.{layer}.post_attention_norm.weight")),
        (Dialect::Hub, Role::Router) => one(format!("model.layers.{layer}.mlp.router.weight")),
        (Dialect::Hub, Role::RouterBias) => one(format!("model.layers.{layer}.mlp.router.bias")),
        (Dialect::Hub, Role::ExpertDown) => one(names::hub(need.role, need.layer)),
        (Dialect::Hub, Role::ExpertGate | Role::ExpertGateBias) => vec![vec![every_other(need, 0)]],
        (Dialect::Hub, Role::ExpertUp | Role::ExpertUpBias) => vec![vec![every_other(need, 1)]],
        _ => place::common(dialect, spec, need),
    }
}

/// The checkpoint's stack holds gate and up rows in turn.
fn every_other(need: &Need, first: usize) -> Run {
    let mut shape = need.shape.clone();
    if let Some(rows) = shape.get_mut(1) {
        *rows *= 2;
    }
    Run { name: names::hub(need.role, need.layer), shape, first, rows: need.rows(), stride: 2 }
}
