//! Qwen2, Qwen2.5 and Qwen3, dense, and the text networks of Qwen2-VL, Qwen2.5-VL and Qwen3-VL: grouped-query attention
//! with rotated halves, SwiGLU, RMS norms before each block. Qwen2 has biases on query, key and value; Qwen3 norms each
//! query and key head before rotation.

use super::base::{Base, Defaults, Rest};
use super::grouped::{Heads, Usual};
use super::keys::{Keys, SILU};
use super::layers::{self, FULL, Kind, SLIDING};
use super::place;
use super::rope::{self, Table};
use super::{Dialect, Family, Header};
use crate::error::{Error, Result};
use crate::spec::{
    Activation, Attention, AxisLayout, Dense, FeedForward, LayerNorms, LayerSpec, Mixer, ModelSpec, Norm,
    Rope,
};

pub(super) const FAMILY: Family = Family {
    gguf: &["qwen2", "qwen3", "qwen2vl", "qwen3vl"],
    hub: &[
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
        "Qwen3Model",
        "Qwen2VLForConditionalGeneration",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen3VLForConditionalGeneration",
    ],
    describe,
    places: place::common,
};

/// What dense networks and those of experts share.
pub(super) struct Trunk {
    pub(super) base: Base,
    pub(super) norm: Norm,
    pub(super) rope: Rope,
    heads: Heads,
    windows: Vec<Option<usize>>,
    qk_norm: bool,
    qkv_bias: bool,
    output_bias: bool,
}

/// Reads all but the feed-forward blocks. `third`: Qwen3 and later.
pub(super) fn trunk(keys: &Keys, third: bool, width: Option<usize>, windows: bool) -> Result<Trunk> {
    let base = Base::read(keys, Defaults { context: None, epsilon: 1e-6, tied: false })?;
    let heads = Heads::read(keys, &base, Usual { width, ..Usual::default() })?;
    let axes = if third { AxisLayout::Interleaved } else { AxisLayout::Chunked };
    let dims = match keys.dialect {
        Dialect::Gguf => keys.count("rope.dimension_count")?.unwrap_or(heads.key_dim),
        Dialect::Hub => {
            if let Some(share) = rope::hub_rotated_share(keys)?.filter(|&share| share != 1.0) {
                return Err(keys.refused("partial_rotary_factor", share, "1"));
            }
            heads.key_dim
        }
    };
    let table = Table { axes, ..Table::usual(keys.dialect, dims, base.context, 10_000.0) };
    let rope = rope::read(keys, &table)?.rope;
    let (qk_norm, qkv_bias, output_bias) = match keys.dialect {
        Dialect::Gguf => (
            third,
            keys.has("blk.0.attn_q.bias") || keys.has("blk.0.attn_qkv.bias"),
            keys.has("blk.0.attn_output.bias"),
        ),
        Dialect::Hub => {
            keys.activation("hidden_act", "silu", SILU)?;
            keys.must_be("use_qk_norm", third)?;
            keys.must_be("mlp_bias", false)?;
            if third {
                let biases = keys.flag("attention_bias")?.unwrap_or(false);
                (true, biases, biases)
            } else {
                keys.must_be("attention_bias", true)?;
                (false, keys.flag("qkv_bias")?.unwrap_or(true), false)
            }
        }
    };
    let windows = match keys.dialect {
        Dialect::Gguf => gguf_windows(keys, base.layers)?,
        Dialect::Hub if windows => hub_windows(keys, base.layers)?,
        Dialect::Hub => {
            keys.must_be("use_sliding_window", false)?;
            vec![None; base.layers]
        }
    };
    let norm = Norm::rms(base.epsilon);
    Ok(Trunk { base, norm, rope, heads, windows, qk_norm, qkv_bias, output_bias })
}

impl Trunk {
    /// A layer around its feed-forward block.
    pub(super) fn layer(&self, layer: usize, feed_forward: FeedForward) -> LayerSpec {
        LayerSpec {
            mixer: Mixer::Attention(Attention {
                window: self.windows[layer],
                qk_norm: self.qk_norm.then_some(self.norm),
                qkv_bias: self.qkv_bias,
                output_bias: self.output_bias,
                ..self.heads.attention(layer)
            }),
            feed_forward,
            norms: LayerNorms::before(self.norm),
            token_block: None,
            output_scale: false,
        }
    }

    /// The finished description.
    pub(super) fn spec(self, keys: &Keys, architecture: &str, layers: Vec<LayerSpec>) -> ModelSpec {
        let rest = Rest {
            embedding_scale: 1.0,
            layers,
            ropes: vec![self.rope],
            final_norm: self.norm,
            head_soft_cap: None,
            next_token: Vec::new(),
        };
        self.base.spec(keys, architecture, rest)
    }
}

fn describe(header: &Header, architecture: &str) -> Result<ModelSpec> {
    let keys = &Keys::new(header, architecture);
    let third = architecture.to_ascii_lowercase().starts_with("qwen3");
    let trunk = trunk(keys, third, third.then_some(128), true)?;
    let layers = trunk.base.layers;
    let inner = match keys.dialect {
        Dialect::Gguf => {
            let key = "feed_forward_length";
            keys.outer().required(&keys.full(key), keys.per_layer(key, layers)?)?
        }
        Dialect::Hub => vec![keys.required("intermediate_size")?; layers],
    };
    let dense = |inner: usize| FeedForward::Dense(Dense { inner, activation: Activation::Silu });
    let layers = (0..layers).map(|layer| trunk.layer(layer, dense(inner[layer]))).collect();
    Ok(trunk.spec(keys, architecture, layers))
}

/// The files' writer drops windows, which no released model uses; a file that names one means something unknown here.
fn gguf_windows(keys: &Keys, layers: usize) -> Result<Vec<Option<usize>>> {
    match keys.count("attention.sliding_window")?.filter(|&window| window > 0) {
        Some(window) => Err(keys.refused("attention.sliding_window", window, "no window")),
        None => Ok(vec![None; layers]),
    }
}

/// `layer_types` wins; else layers from `max_window_layers` on are windowed. Nothing is where `use_sliding_window` is
/// not set.
fn hub_windows(keys: &Keys, layers: usize) -> Result<Vec<Option<usize>>> {
    let named = layers::named(keys, "layer_types", layers, &[FULL, SLIDING])?;
    let in_use = keys.flag("use_sliding_window")?.unwrap_or(false);
    let window = keys.count("sliding_window")?.filter(|_| in_use);
    match (named, window) {
        (Some(kinds), None) if kinds.contains(&Kind::Sliding) => {
            let what =
                "names windowed layers, but use_sliding_window is not set or sliding_window is missing";
            Err(Error::metadata(keys.full("layer_types"), what))
        }
        (Some(kinds), window) => {
            Ok(kinds.into_iter().map(|kind| window.filter(|_| kind == Kind::Sliding)).collect())
        }
        (None, None) if in_use && !keys.is_null("sliding_window") => {
            let what = "is missing, and use_sliding_window asks for it";
            Err(Error::metadata(keys.full("sliding_window"), what))
        }
        (None, None) => Ok(vec![None; layers]),
        (None, window) => {
            let first = keys.or_assume("max_window_layers", keys.count("max_window_layers")?, 28);
            Ok((0..layers).map(|layer| window.filter(|_| layer >= first)).collect())
        }
    }
}
