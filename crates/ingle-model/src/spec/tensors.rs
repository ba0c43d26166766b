//! The tensors a network needs, derived from its description, and where a file keeps them.

use super::{Attention, FeedForward, GatedDeltaNet, LatentAttention, LayerSpec, Mixer, ModelSpec, NormKind};
use crate::source::TensorInfo;

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // the names are the documentation; shapes are in `needs`
pub enum Role {
    Embedding,
    FinalNorm,
    Head,
    HeadBias,
    // norms of a layer
    MixerNorm,
    MixerPostNorm,
    FeedForwardNorm,
    FeedForwardPostNorm,
    // attention
    Query,
    Key,
    Value,
    QueryBias,
    KeyBias,
    ValueBias,
    QueryNorm,
    KeyNorm,
    Output,
    OutputBias,
    Sinks,
    // latent attention
    QueryDown,
    QueryDownNorm,
    QueryUp,
    LatentDown,
    LatentNorm,
    LatentKeyUp,
    LatentValueUp,
    // sparse indexer
    IndexQuery,
    IndexKey,
    IndexKeyNorm,
    IndexKeyNormBias,
    IndexWeights,
    // gated delta net
    DeltaQueryKeyValue,
    DeltaGate,
    DeltaBeta,
    DeltaAlpha,
    DeltaConvolution,
    DeltaTimeBias,
    DeltaDecay,
    DeltaNorm,
    DeltaOutput,
    // dense feed-forward
    Gate,
    Up,
    Down,
    // experts
    Router,
    RouterBias,
    SelectionBias,
    ExpertGate,
    ExpertUp,
    ExpertDown,
    ExpertGateBias,
    ExpertUpBias,
    ExpertDownBias,
    SharedGate,
    SharedUp,
    SharedDown,
    SharedRouter,
}

impl Role {
    /// True for tensors of which a token uses only the chosen experts' share.
    pub fn is_routed_expert(self) -> bool {
        use Role::*;
        matches!(self, ExpertGate | ExpertUp | ExpertDown | ExpertGateBias | ExpertUpBias | ExpertDownBias)
    }
}

/// A tensor the network needs: `[rows, columns]` computes `rows` values from `columns`; stacks of experts or heads
/// put their count first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// What it is for.
    pub role: Role,
    /// Which layer, `None` for the embedding and the head.
    pub layer: Option<usize>,
    /// Outermost first.
    pub shape: Vec<usize>,
}

impl Need {
    /// Number of values.
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|&size| size as u64).product()
    }
}

/// A needed tensor found in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// What it is for.
    pub role: Role,
    /// Which layer.
    pub layer: Option<usize>,
    /// Name, shape, format and place. A row range of a fused tensor keeps the fused tensor's name.
    pub stored: TensorInfo,
}

impl ModelSpec {
    /// Every tensor the forward pass needs, in the order it meets them.
    pub fn needs(&self) -> Vec<Need> {
        let global = |role, shape: &[usize]| Need { role, layer: None, shape: shape.to_vec() };
        let mut needs = vec![global(Role::Embedding, &[self.vocabulary, self.hidden])];
        for (index, layer) in self.layers.iter().enumerate() {
            let shapes = layer_needs(layer, self.hidden);
            needs.extend(shapes.into_iter().map(|(role, shape)| Need { role, layer: Some(index), shape }));
        }
        needs.push(global(Role::FinalNorm, &[self.hidden]));
        if !self.head.tied {
            needs.push(global(Role::Head, &[self.vocabulary, self.hidden]));
        }
        if self.head.bias {
            needs.push(global(Role::HeadBias, &[self.vocabulary]));
        }
        needs
    }
}

type Shapes = Vec<(Role, Vec<usize>)>;

fn layer_needs(layer: &LayerSpec, hidden: usize) -> Shapes {
    let mut shapes = Shapes::new();
    let norms = &layer.norms;
    if norms.before_mixer.is_some() {
        shapes.push((Role::MixerNorm, vec![hidden]));
    }
    match &layer.mixer {
        Mixer::Attention(attention) => attention_needs(attention, hidden, &mut shapes),
        Mixer::Latent(latent) => latent_needs(latent, hidden, &mut shapes),
        Mixer::DeltaNet(delta) => delta_needs(delta, hidden, &mut shapes),
    }
    for (norm, role) in [
        (norms.after_mixer, Role::MixerPostNorm),
        (norms.before_feed_forward, Role::FeedForwardNorm),
        (norms.after_feed_forward, Role::FeedForwardPostNorm),
    ] {
        if norm.is_some() {
            shapes.push((role, vec![hidden]));
        }
    }
    feed_forward_needs(&layer.feed_forward, hidden, &mut shapes);
    shapes
}

fn attention_needs(attention: &Attention, hidden: usize, shapes: &mut Shapes) {
    let queries = attention.heads * attention.key_dim * if attention.output_gate { 2 } else { 1 };
    let keys = attention.kv_heads * attention.key_dim;
    let values = attention.kv_heads * attention.value_dim;
    for (role, bias, rows) in [
        (Role::Query, Role::QueryBias, queries),
        (Role::Key, Role::KeyBias, keys),
        (Role::Value, Role::ValueBias, values),
    ] {
        shapes.push((role, vec![rows, hidden]));
        if attention.qkv_bias {
            shapes.push((bias, vec![rows]));
        }
    }
    if attention.qk_norm.is_some() {
        shapes.push((Role::QueryNorm, vec![attention.key_dim]));
        shapes.push((Role::KeyNorm, vec![attention.key_dim]));
    }
    if attention.sinks {
        shapes.push((Role::Sinks, vec![attention.heads]));
    }
    shapes.push((Role::Output, vec![hidden, attention.heads * attention.value_dim]));
    if attention.output_bias {
        shapes.push((Role::OutputBias, vec![hidden]));
    }
}

fn latent_needs(latent: &LatentAttention, hidden: usize, shapes: &mut Shapes) {
    let query_rows = latent.heads * (latent.nope_dim + latent.rope_dim);
    match latent.query_rank {
        Some(rank) => {
            shapes.push((Role::QueryDown, vec![rank, hidden]));
            shapes.push((Role::QueryDownNorm, vec![rank]));
            shapes.push((Role::QueryUp, vec![query_rows, rank]));
        }
        None => shapes.push((Role::Query, vec![query_rows, hidden])),
    }
    shapes.push((Role::LatentDown, vec![latent.kv_rank + latent.rope_dim, hidden]));
    shapes.push((Role::LatentNorm, vec![latent.kv_rank]));
    shapes.push((Role::LatentKeyUp, vec![latent.heads, latent.nope_dim, latent.kv_rank]));
    shapes.push((Role::LatentValueUp, vec![latent.heads, latent.value_dim, latent.kv_rank]));
    shapes.push((Role::Output, vec![hidden, latent.heads * latent.value_dim]));
    if let Some(indexer) = &latent.indexer {
        let query_width = latent.query_rank.unwrap_or(hidden);
        shapes.push((Role::IndexQuery, vec![indexer.heads * indexer.head_dim, query_width]));
        shapes.push((Role::IndexKey, vec![indexer.head_dim, hidden]));
        shapes.push((Role::IndexKeyNorm, vec![indexer.head_dim]));
        if indexer.key_norm.kind == NormKind::Layer {
            shapes.push((Role::IndexKeyNormBias, vec![indexer.head_dim]));
        }
        shapes.push((Role::IndexWeights, vec![indexer.heads, hidden]));
    }
}

fn delta_needs(delta: &GatedDeltaNet, hidden: usize, shapes: &mut Shapes) {
    let values = delta.value_heads * delta.value_dim;
    let mixed = 2 * delta.key_heads * delta.key_dim + values;
    shapes.push((Role::DeltaQueryKeyValue, vec![mixed, hidden]));
    shapes.push((Role::DeltaGate, vec![values, hidden]));
    shapes.push((Role::DeltaBeta, vec![delta.value_heads, hidden]));
    shapes.push((Role::DeltaAlpha, vec![delta.value_heads, hidden]));
    shapes.push((Role::DeltaConvolution, vec![mixed, delta.convolution]));
    shapes.push((Role::DeltaTimeBias, vec![delta.value_heads]));
    shapes.push((Role::DeltaDecay, vec![delta.value_heads]));
    shapes.push((Role::DeltaNorm, vec![delta.value_dim]));
    shapes.push((Role::DeltaOutput, vec![hidden, values]));
}

fn feed_forward_needs(feed_forward: &FeedForward, hidden: usize, shapes: &mut Shapes) {
    match feed_forward {
        FeedForward::Dense(dense) => {
            shapes.push((Role::Gate, vec![dense.inner, hidden]));
            shapes.push((Role::Up, vec![dense.inner, hidden]));
            shapes.push((Role::Down, vec![hidden, dense.inner]));
        }
        FeedForward::Experts(moe) => {
            shapes.push((Role::Router, vec![moe.experts, hidden]));
            if moe.gating.router_bias {
                shapes.push((Role::RouterBias, vec![moe.experts]));
            }
            if moe.gating.selection_bias {
                shapes.push((Role::SelectionBias, vec![moe.experts]));
            }
            for (role, bias, rows, columns) in [
                (Role::ExpertGate, Role::ExpertGateBias, moe.inner, hidden),
                (Role::ExpertUp, Role::ExpertUpBias, moe.inner, hidden),
                (Role::ExpertDown, Role::ExpertDownBias, hidden, moe.inner),
            ] {
                shapes.push((role, vec![moe.experts, rows, columns]));
                if moe.expert_bias {
                    shapes.push((bias, vec![moe.experts, rows]));
                }
            }
            if let Some(shared) = moe.shared {
                shapes.push((Role::SharedGate, vec![shared.inner, hidden]));
                shapes.push((Role::SharedUp, vec![shared.inner, hidden]));
                shapes.push((Role::SharedDown, vec![hidden, shared.inner]));
                if shared.gated {
                    shapes.push((Role::SharedRouter, vec![hidden]));
                }
            }
        }
    }
}
