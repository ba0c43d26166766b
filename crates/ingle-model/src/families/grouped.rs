//! Heads of grouped-query attention, from both spellings.

use super::Dialect;
use super::base::Base;
use super::keys::Keys;
use crate::error::Result;
use crate::spec::{Attention, KeyValues, Visibility};

/// Numbers of heads per layer, and their widths.
pub(super) struct Heads {
    pub(super) heads: Vec<usize>,
    pub(super) kv_heads: Vec<usize>,
    pub(super) key_dim: usize,
    pub(super) value_dim: usize,
}

impl Heads {
    /// `usual`: heads, KV heads and head width that the family's configuration class supplies. Without them the width is
    /// the residual stream's share of a head. What is supplied wrongly does not fit the tensors, and binding says so.
    pub(super) fn read(keys: &Keys, base: &Base, usual: Usual) -> Result<Heads> {
        match keys.dialect {
            Dialect::Gguf => Heads::from_gguf(keys, base),
            Dialect::Hub => Heads::from_hub(keys, base, usual),
        }
    }

    fn from_gguf(keys: &Keys, base: &Base) -> Result<Heads> {
        let key = "attention.head_count";
        let heads = keys.outer().required(&keys.full(key), keys.per_layer(key, base.layers)?)?;
        let kv_heads = keys.per_layer("attention.head_count_kv", base.layers)?;
        let share = base.hidden / heads.iter().copied().find(|&heads| heads > 0).unwrap_or(1);
        Ok(Heads {
            kv_heads: kv_heads.unwrap_or_else(|| heads.clone()),
            heads,
            key_dim: keys.count("attention.key_length")?.unwrap_or(share),
            value_dim: keys.count("attention.value_length")?.unwrap_or(share),
        })
    }

    fn from_hub(keys: &Keys, base: &Base, usual: Usual) -> Result<Heads> {
        let heads = keys.count("num_attention_heads")?;
        let heads = match usual.heads {
            Some((usual, _)) => keys.or_assume("num_attention_heads", heads, usual),
            None => keys.required("num_attention_heads")?,
        };
        let kv_heads = keys.count("num_key_value_heads")?;
        let kv_heads = match usual.heads {
            Some((_, usual)) => keys.or_assume("num_key_value_heads", kv_heads, usual),
            None => kv_heads.unwrap_or(heads),
        };
        let width = keys.count("head_dim")?;
        let width = match usual.width {
            Some(usual) if !keys.is_null("head_dim") => keys.or_assume("head_dim", width, usual),
            _ => width.unwrap_or(base.hidden.checked_div(heads).unwrap_or(0)),
        };
        Ok(Heads {
            heads: vec![heads; base.layers],
            kv_heads: vec![kv_heads; base.layers],
            key_dim: width,
            value_dim: width,
        })
    }

    /// Plain attention of a layer: scale `1/sqrt(key_dim)`, the first rotary table, nothing else.
    pub(super) fn attention(&self, layer: usize) -> Attention {
        Attention {
            heads: self.heads[layer],
            kv_heads: self.kv_heads[layer],
            key_dim: self.key_dim,
            value_dim: self.value_dim,
            scale: 1.0 / (self.key_dim as f32).sqrt(),
            rope: Some(0),
            visibility: Visibility::Causal,
            window: None,
            qk_norm: None,
            value_norm: None,
            key_values: KeyValues::Projected,
            qkv_bias: false,
            output_bias: false,
            sinks: false,
            soft_cap: None,
            output_gate: false,
        }
    }
}

/// What a family's configuration class supplies where `config.json` is silent.
#[derive(Clone, Copy, Default)]
pub(super) struct Usual {
    /// Heads and KV heads.
    pub(super) heads: Option<(usize, usize)>,
    /// Width of a head.
    pub(super) width: Option<usize>,
}
