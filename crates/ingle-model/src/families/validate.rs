//! Numbers that no network can have, refused before anything is sized or divided by them.

use crate::error::{Error, Result};
use crate::spec::{Attention, FeedForward, Mixer, ModelSpec, RopeScaling};

/// Larger than any dimension of a published network by orders of magnitude, small enough that products of a few
/// dimensions fit 64 bits.
const LARGEST: usize = 1 << 24;

/// Checks what the executors and the cost model rely on.
pub(super) fn validate(spec: &ModelSpec) -> Result<()> {
    within("embedding width", spec.hidden)?;
    within("vocabulary", spec.vocabulary)?;
    if spec.context == 0 {
        return Err(Error::metadata("context length", "must not be zero"));
    }
    for rope in &spec.ropes {
        within("rotary dimensions", rope.dims)?;
        let divisor = match &rope.scaling {
            RopeScaling::Linear { factor } => *factor,
            RopeScaling::Yarn(yarn) => yarn.factor.min(yarn.original_context),
            RopeScaling::None | RopeScaling::Divisors(_) => 1.0,
        };
        let sane = rope.dims.is_multiple_of(2) && rope.base.is_finite() && rope.base > 1.0 && divisor > 0.0;
        if !sane {
            let what = format!("is impossible: {} dimensions, base {}", rope.dims, rope.base);
            return Err(Error::metadata("rope", what));
        }
    }
    for (index, layer) in spec.layers.iter().enumerate() {
        let wrong = |what: String| Error::metadata(format!("layer {index}"), what);
        if let Mixer::Attention(attention) = &layer.mixer {
            let dims = attention.rope.map_or(0, |rope| spec.ropes[rope].dims);
            attention_is_sane(attention, dims).map_err(wrong)?;
        }
        if let FeedForward::Dense(dense) = &layer.feed_forward {
            within("feed-forward width", dense.inner)?;
        }
    }
    Ok(())
}

fn attention_is_sane(attention: &Attention, rotated: usize) -> Result<(), String> {
    let Attention { heads, kv_heads, key_dim, value_dim, .. } = *attention;
    let in_range = |size: usize| (1..=1 << 16).contains(&size);
    if ![heads, kv_heads, key_dim, value_dim].into_iter().all(in_range) {
        return Err(format!(
            "has impossible attention sizes: {heads} heads, {kv_heads} KV heads, widths {key_dim} and {value_dim}"
        ));
    }
    if !heads.is_multiple_of(kv_heads) {
        return Err(format!("has {heads} heads, which is not a multiple of its {kv_heads} KV heads"));
    }
    if rotated > key_dim {
        return Err(format!("rotates {rotated} values of heads that are {key_dim} wide"));
    }
    if attention.window == Some(0) {
        return Err("has a window of no positions".into());
    }
    Ok(())
}

fn within(name: &str, size: usize) -> Result<()> {
    if size == 0 || size > LARGEST {
        return Err(Error::metadata(name, format!("is {size}; it must be between 1 and {LARGEST}")));
    }
    Ok(())
}
