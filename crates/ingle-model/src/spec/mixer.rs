//! Mixers: the blocks that carry information between positions.

use super::Norm;
use std::ops::Range;

/// How a layer mixes positions.
#[derive(Clone, Debug, PartialEq)]
pub enum Mixer {
    /// Grouped-query attention and its variants.
    Attention(Attention),
    /// Multi-head latent attention (DeepSeek).
    Latent(LatentAttention),
    /// Gated delta net: linear attention with a recurrent state.
    DeltaNet(GatedDeltaNet),
}

/// Which way a position looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Visibility {
    /// At itself and what is before it.
    #[default]
    Causal,
    /// At the whole sequence, before and after: encoders. Such a sequence goes through in one step.
    Both,
}

/// Grouped-query attention: query head `h` reads KV head `h / (heads / kv_heads)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a query and key head.
    pub key_dim: usize,
    /// Width of a value head.
    pub value_dim: usize,
    /// Multiplies `q . k`.
    pub scale: f32,
    /// Rotary table, as an index into the spec's; `None` rotates nothing.
    pub rope: Option<usize>,
    /// Which way a position looks.
    pub visibility: Visibility,
    /// Key at `p0` is seen from `p1` only when `|p1 - p0| < window`.
    pub window: Option<usize>,
    /// Norm of each query and key head before rotation, one weight shared by all heads.
    pub qk_norm: Option<Norm>,
    /// Norm of each value head.
    pub value_norm: Option<Norm>,
    /// Where keys and values come from.
    pub key_values: KeyValues,
    /// Query, key and value projections have a bias.
    pub qkv_bias: bool,
    /// The output projection has a bias.
    pub output_bias: bool,
    /// One extra logit per head joins the softmax's maximum and denominator; it carries no value.
    pub sinks: bool,
    /// `cap * tanh(scores / cap)` before the mask.
    pub soft_cap: Option<f32>,
    /// The query projection gives `[query | gate]` per head; the heads' output is multiplied by `sigmoid(gate)`.
    pub output_gate: bool,
}

/// Where a layer's keys and values come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyValues {
    /// Keys and values have a projection each.
    #[default]
    Projected,
    /// One projection gives both: values are its rows as they are, keys the same rows normed and rotated.
    Joint,
    /// They are those that an earlier layer has cached: this one projects queries only, and caches nothing.
    OfLayer(usize),
}

impl Attention {
    /// The layer, of this one and those before it, in whose cache its keys and values are.
    pub fn cached_by(&self, layer: usize) -> usize {
        match self.key_values {
            KeyValues::Projected | KeyValues::Joint => layer,
            KeyValues::OfLayer(earlier) => earlier,
        }
    }

    /// Positions that the one at `position` sees in a sequence of `length` positions.
    pub fn seen(&self, position: usize, length: usize) -> Range<usize> {
        let window = self.window.unwrap_or(usize::MAX);
        let end = match self.visibility {
            Visibility::Causal => position + 1,
            Visibility::Both => length.min(position.saturating_add(window)),
        };
        (position + 1).saturating_sub(window)..end
    }
}

/// Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434): keys and values are expanded from one cached
/// latent row of `kv_rank` values plus `rope_dim` rotated values shared by all heads.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentAttention {
    /// Query heads.
    pub heads: usize,
    /// Rank of the query's low-rank projection; `None` projects directly.
    pub query_rank: Option<usize>,
    /// Width of the cached latent.
    pub kv_rank: usize,
    /// Unrotated width of a query or key head.
    pub nope_dim: usize,
    /// Rotated width of a query or key head.
    pub rope_dim: usize,
    /// Width of a value head.
    pub value_dim: usize,
    /// Multiplies `q . k`, context extension included.
    pub scale: f32,
    /// Rotary table, as an index into the spec's.
    pub rope: usize,
    /// Norm of the two low-rank rows; its epsilon is not the layers'.
    pub rank_norm: Norm,
    /// How the file holds the projection from latent to keys.
    pub key_up: KeyUpLayout,
    /// Sparse attention's position selector (DeepSeek-V3.2).
    pub indexer: Option<SparseIndexer>,
}

/// Which of the two uses of the latent-to-key projection its stored rows suit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUpLayout {
    /// `[heads, nope_dim, kv_rank]`: a row expands the latent to one value of a key (checkpoints).
    Expanding,
    /// `[heads, kv_rank, nope_dim]`: a row takes a query to one value in latent space (GGUF `attn_k_b`).
    Absorbing,
}

/// The lightning indexer: scores every cached position cheaply and keeps the best `top_k`.
/// `score(t, s) = sum_h w_h(t) * relu(q_h(t) . k(s))`, one key row per position shared by all heads.
#[derive(Clone, Debug, PartialEq)]
pub struct SparseIndexer {
    /// Scoring heads.
    pub heads: usize,
    /// Width of a head, laid out `[rope | nope]`.
    pub head_dim: usize,
    /// Positions attended to; ties go to the lower position.
    pub top_k: usize,
    /// Rotary table (half-split pairing), as an index into the spec's.
    pub rope: usize,
    /// Norm of the key row: a layer norm with bias.
    pub key_norm: Norm,
}

/// Gated delta net (Qwen3-Next): a causal depthwise convolution, then per value head a state `S [key_dim, value_dim]`
/// with `S = decay * S + k (beta * (v - S^T k))^T` and output `S^T q`.
#[derive(Clone, Debug, PartialEq)]
pub struct GatedDeltaNet {
    /// Query and key heads.
    pub key_heads: usize,
    /// Width of a query and key head.
    pub key_dim: usize,
    /// Value heads, a multiple of `key_heads`.
    pub value_heads: usize,
    /// Width of a value head.
    pub value_dim: usize,
    /// Taps of the causal convolution.
    pub convolution: usize,
    /// Which key head a value head belongs to.
    pub value_order: ValueHeadOrder,
    /// How the file holds the decay rate.
    pub decay: DecayForm,
    /// Norm of each value head's output, before the gate.
    pub output_norm: Norm,
}

/// The stored form of a value head's decay: `decay = exp(-rate * softplus(alpha + time bias))`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecayForm {
    /// `ln(rate)` (checkpoints, `A_log`).
    LogRate,
    /// `-rate` (GGUF, `ssm_a`).
    NegativeRate,
}

/// Which key head serves value head `v`, with `r = value_heads / key_heads`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueHeadOrder {
    /// Key head `v / r` (checkpoints).
    Grouped,
    /// Key head `v % key_heads` (GGUF conversions of Qwen3.5).
    Interleaved,
}
