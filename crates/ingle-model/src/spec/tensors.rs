//! The tensors a network needs, derived from its description, and where a file keeps them.

use super::{
    Apart, Attention, FeedForward, GatedDeltaNet, KeyUpLayout, KeyValues, LatentAttention, LayerSpec, Mixer,
    ModelSpec, Norm, NormKind,
};
use crate::source::TensorInfo;

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // the names are the documentation; shapes are in `needs`
pub enum Role {
    Embedding,
    PositionEmbedding,
    TokenTypeEmbedding,
    EmbeddingNorm,
    EmbeddingNormBias,
    /// `[rows, layers * width]`, looked into
    LayerInputTable,
    LayerInputProjection,
    LayerInputNorm,
    FinalNorm,
    FinalNormBias,
    /// Of the pooled row, by number.
    PooledProjection(u8),
    Head,
    HeadBias,
    // norms of a layer
    MixerNorm,
    MixerPostNorm,
    MixerJoinedNorm,
    FeedForwardNorm,
    FeedForwardPostNorm,
    FeedForwardJoinedNorm,
    MixerNormBias,
    MixerPostNormBias,
    MixerJoinedNormBias,
    FeedForwardNormBias,
    FeedForwardPostNormBias,
    FeedForwardJoinedNormBias,
    // attention
    Query,
    Key,
    Value,
    QueryBias,
    KeyBias,
    ValueBias,
    QueryNorm,
    KeyNorm,
    ValueNorm,
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
    UpBias,
    DownBias,
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
    ExpertScale,
    // norms of routed experts that stand apart
    RouterNorm,
    RoutedNorm,
    RoutedPostNorm,
    SharedPostNorm,
    // token block
    TokenGate,
    TokenOutput,
    TokenNorm,
    /// One number.
    OutputScale,
    // blocks that predict further tokens
    NextEmbeddingNorm,
    NextHiddenNorm,
    NextJoin,
    NextFinalNorm,
}

impl Role {
    /// True for tensors of which a token uses only the chosen experts' share.
    pub fn is_routed_expert(self) -> bool {
        use Role::*;
        matches!(self, ExpertGate | ExpertUp | ExpertDown) || self.is_expert_bias()
    }

    /// True for tables of which a token uses a row.
    pub fn is_table(self) -> bool {
        use Role::*;
        matches!(self, Embedding | PositionEmbedding | TokenTypeEmbedding | LayerInputTable)
    }

    /// The bias that a layer norm has beside its weight.
    pub fn norm_bias(self) -> Option<Role> {
        use Role::*;
        Some(match self {
            EmbeddingNorm => EmbeddingNormBias,
            FinalNorm => FinalNormBias,
            MixerNorm => MixerNormBias,
            MixerPostNorm => MixerPostNormBias,
            MixerJoinedNorm => MixerJoinedNormBias,
            FeedForwardNorm => FeedForwardNormBias,
            FeedForwardPostNorm => FeedForwardPostNormBias,
            FeedForwardJoinedNorm => FeedForwardJoinedNormBias,
            IndexKeyNorm => IndexKeyNormBias,
            _ => return None,
        })
    }

    /// True for the biases of routed experts, `[experts, values]`.
    pub fn is_expert_bias(self) -> bool {
        matches!(self, Role::ExpertGateBias | Role::ExpertUpBias | Role::ExpertDownBias)
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

    /// Columns of a row: the last dimension of a matrix, 1 for norms and biases, whose rows are single numbers.
    pub fn columns(&self) -> usize {
        columns(self.role, &self.shape)
    }

    /// Rows, outer dimensions flattened.
    pub fn rows(&self) -> usize {
        let elements = self.shape.iter().fold(1usize, |product, &size| product.saturating_mul(size));
        elements / self.columns().max(1)
    }
}

/// A needed tensor found in a file: its rows, gathered from one or more stored tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// What it is for.
    pub role: Role,
    /// Which layer.
    pub layer: Option<usize>,
    /// As in [`Need::shape`].
    pub shape: Vec<usize>,
    /// Where its rows lie, first to last.
    pub pieces: Vec<Piece>,
}

/// Consecutive rows of a needed tensor: every `stride`-th row of a stored one, from `first` on. A stored tensor's outer
/// dimensions are flattened to rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// The tensor that holds them, whole.
    pub stored: TensorInfo,
    /// How its bytes become numbers.
    pub encoding: Encoding,
    /// The first row taken.
    pub first: usize,
    /// Rows taken.
    pub rows: usize,
    /// Distance from one to the next.
    pub stride: usize,
    /// Rows of the stored tensor in all.
    pub stored_rows: usize,
}

/// How the bytes of a stored tensor become numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Encoding {
    /// As its format says.
    Plain,
    /// Every block of `[rows, columns]` weights is multiplied by one number of `scales`; blocks at the edges may be
    /// partial (fp8 checkpoints, `weight_scale_inv`).
    BlockScaled {
        /// One number per block.
        scales: TensorInfo,
        /// Rows and columns of a block.
        block: [usize; 2],
    },
    /// MXFP4 in two tensors (gpt-oss checkpoints, `_blocks` and `_scales`): the stored one holds 16 bytes per block of
    /// 32 weights, low nibbles the even ones.
    SplitMxfp4 {
        /// One exponent byte per block.
        scales: TensorInfo,
    },
}

impl TensorSpec {
    /// Rows, outer dimensions flattened. A vector counts as rows of one column.
    pub fn rows(&self) -> usize {
        self.pieces.iter().map(|piece| piece.rows).sum()
    }

    /// Columns of a row: see [`Need::columns`].
    pub fn columns(&self) -> usize {
        columns(self.role, &self.shape)
    }

    /// Bytes in the file, scales included.
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(Piece::bytes).sum()
    }
}

impl Piece {
    /// Bytes in the file, its share of the scales included.
    pub fn bytes(&self) -> u64 {
        let scales = match &self.encoding {
            Encoding::Plain => 0,
            Encoding::BlockScaled { scales, .. } | Encoding::SplitMxfp4 { scales } => scales.bytes,
        };
        let whole = (self.stored.bytes + scales) as u128;
        (whole * self.rows as u128 / self.stored_rows.max(1) as u128) as u64
    }
}

fn columns(role: Role, shape: &[usize]) -> usize {
    match shape {
        [] | [_] => 1,
        [.., _] if role.is_expert_bias() => 1,
        [.., last] => *last,
    }
}

impl ModelSpec {
    /// Every tensor the forward pass needs, in the order it meets them.
    pub fn needs(&self) -> Vec<Need> {
        let global = |role, shape: &[usize]| Need { role, layer: None, shape: shape.to_vec() };
        let norm = |norm: Option<Norm>, role| {
            let roles = norm.map(|norm| norm_roles(norm, role)).unwrap_or_default();
            roles.into_iter().map(|role| global(role, &[self.hidden]))
        };
        let mut needs = vec![global(Role::Embedding, &[self.vocabulary, self.hidden])];
        let tables = [
            (self.embedding.positions, Role::PositionEmbedding),
            (self.embedding.token_types, Role::TokenTypeEmbedding),
        ];
        needs.extend(tables.into_iter().filter_map(|(rows, role)| Some(global(role, &[rows?, self.hidden]))));
        needs.extend(norm(self.embedding.norm, Role::EmbeddingNorm));
        if let Some(inputs) = &self.embedding.layer_inputs {
            let width = self.layers.len() * inputs.width;
            needs.push(global(Role::LayerInputTable, &[inputs.rows, width]));
            needs.push(global(Role::LayerInputProjection, &[width, self.hidden]));
            let roles = norm_roles(inputs.norm, Role::LayerInputNorm).into_iter();
            needs.extend(roles.map(|role| global(role, &[inputs.width])));
        }
        if self.embedding.joined.is_some() {
            needs.extend(join_needs(self.hidden).into_iter().map(|(role, shape)| global(role, &shape)));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let shapes = layer_needs(layer, self.hidden);
            needs.extend(shapes.into_iter().map(|(role, shape)| Need { role, layer: Some(index), shape }));
        }
        needs.extend(norm(self.final_norm, Role::FinalNorm));
        if self.head.is_some_and(|head| !head.tied) {
            needs.push(global(Role::Head, &[self.vocabulary, self.hidden]));
        }
        if self.head.is_some_and(|head| head.bias) {
            needs.push(global(Role::HeadBias, &[self.vocabulary]));
        }
        let mut columns = self.hidden;
        let projections = self.pooling.iter().flat_map(|pooling| &pooling.projections);
        for (number, &rows) in (0..=u8::MAX).zip(projections) {
            needs.push(global(Role::PooledProjection(number), &[rows, columns]));
            columns = rows;
        }
        needs
    }
}

/// The weight of a norm and its bias, as far as it has them.
fn norm_roles(norm: Norm, weight: Role) -> Vec<Role> {
    match norm.kind {
        NormKind::Bare => Vec::new(),
        NormKind::Rms => vec![weight],
        NormKind::Layer => [weight].into_iter().chain(weight.norm_bias()).collect(),
    }
}

pub(super) type Shapes = Vec<(Role, Vec<usize>)>;

/// What joins rows of another network to the embeddings.
pub(super) fn join_needs(hidden: usize) -> Shapes {
    vec![
        (Role::NextEmbeddingNorm, vec![hidden]),
        (Role::NextHiddenNorm, vec![hidden]),
        (Role::NextJoin, vec![hidden, 2 * hidden]),
    ]
}

pub(super) fn layer_needs(layer: &LayerSpec, hidden: usize) -> Shapes {
    let mut shapes = Shapes::new();
    for (norm, role) in layer.norms.all() {
        shapes.extend(norm_roles(norm, role).into_iter().map(|role| (role, vec![hidden])));
    }
    match &layer.mixer {
        Mixer::Attention(attention) => attention_needs(attention, hidden, &mut shapes),
        Mixer::Latent(latent) => latent_needs(latent, hidden, &mut shapes),
        Mixer::DeltaNet(delta) => delta_needs(delta, hidden, &mut shapes),
    }
    feed_forward_needs(&layer.feed_forward, hidden, &mut shapes);
    if let Some(block) = &layer.token_block {
        shapes.push((Role::TokenGate, vec![block.width, hidden]));
        shapes.push((Role::TokenOutput, vec![hidden, block.width]));
        shapes.extend(norm_roles(block.norm, Role::TokenNorm).into_iter().map(|role| (role, vec![hidden])));
    }
    if layer.output_scale {
        shapes.push((Role::OutputScale, vec![1]));
    }
    shapes
}

fn attention_needs(attention: &Attention, hidden: usize, shapes: &mut Shapes) {
    let queries = attention.heads * attention.key_dim * if attention.output_gate { 2 } else { 1 };
    let keys = attention.kv_heads * attention.key_dim;
    let values = attention.kv_heads * attention.value_dim;
    let projections = [
        (Role::Query, Role::QueryBias, queries),
        (Role::Key, Role::KeyBias, keys),
        (Role::Value, Role::ValueBias, values),
    ];
    let own = match attention.key_values {
        KeyValues::Projected => 3,
        KeyValues::Joint => 2,
        KeyValues::OfLayer(_) => 1,
    };
    for (role, bias, rows) in projections.into_iter().take(own) {
        shapes.push((role, vec![rows, hidden]));
        if attention.qkv_bias {
            shapes.push((bias, vec![rows]));
        }
    }
    let head_norms = [
        (attention.qk_norm, Role::QueryNorm, attention.key_dim),
        (attention.qk_norm.filter(|_| own > 1), Role::KeyNorm, attention.key_dim),
        (attention.value_norm.filter(|_| own > 1), Role::ValueNorm, attention.value_dim),
    ];
    for (norm, role, width) in head_norms {
        let roles = norm.map(|norm| norm_roles(norm, role)).unwrap_or_default();
        shapes.extend(roles.into_iter().map(|role| (role, vec![width])));
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
    let key_up = match latent.key_up {
        KeyUpLayout::Expanding => [latent.heads, latent.nope_dim, latent.kv_rank],
        KeyUpLayout::Absorbing => [latent.heads, latent.kv_rank, latent.nope_dim],
    };
    shapes.push((Role::LatentKeyUp, key_up.to_vec()));
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
        FeedForward::Plain(plain) => {
            shapes.push((Role::Up, vec![plain.inner, hidden]));
            shapes.push((Role::UpBias, vec![plain.inner]));
            shapes.push((Role::Down, vec![hidden, plain.inner]));
            shapes.push((Role::DownBias, vec![hidden]));
        }
        FeedForward::Experts(moe) => {
            shapes.push((Role::Router, vec![moe.experts, hidden]));
            if moe.gating.router_bias {
                shapes.push((Role::RouterBias, vec![moe.experts]));
            }
            if moe.gating.selection_bias {
                shapes.push((Role::SelectionBias, vec![moe.experts]));
            }
            if moe.gating.expert_scale {
                shapes.push((Role::ExpertScale, vec![moe.experts]));
            }
            for (norm, role) in moe.apart.iter().flat_map(Apart::norms) {
                shapes.extend(norm_roles(norm, role).into_iter().map(|role| (role, vec![hidden])));
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
