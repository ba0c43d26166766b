//! Gemma 2 and 3: norms around both blocks, embeddings times `sqrt(hidden)`, gated tanh-GELU, windows on most layers.
//! Gemma 2 caps scores and logits softly; Gemma 3 norms query and key heads and turns windowed layers with a base of
//! their own, which no context extension touches. Checkpoints store norm weights as `w` of `1 + w`, GGUF files as `1 + w`.
//!
//! GGUF files name neither the attention's scale nor (mostly) the window pattern. Both are known for the released
//! shapes; for others the rule of the files' writer is taken and told.

use super::base::{Base, Defaults, Rest};
use super::grouped::{Heads, Usual};
use super::keys::{GELU_TANH, Keys};
use super::layers::{self, FULL, Kind, SLIDING};
use super::place::{self, Places, Run};
use super::rope::{self, Table};
use super::{Dialect, Family, Header};
use crate::error::{Error, Result};
use crate::spec::{
    Activation, Attention, Dense, FeedForward, LayerNorms, LayerSpec, Mixer, ModelSpec, Need, Norm, NormKind,
    Role, Rope, Visibility,
};

pub(super) const FAMILY: Family = Family {
    gguf: &["gemma2", "gemma3", "gemma-embedding"],
    hub: &["Gemma2ForCausalLM", "Gemma3ForCausalLM", "Gemma3ForConditionalGeneration", "Gemma3TextModel"],
    describe,
    places,
};

/// The two generations.
#[derive(Clone, Copy, PartialEq)]
enum Generation {
    Two,
    Three,
}

/// Layers of the released models: 2B, 9B, 27B.
const TWO: [usize; 3] = [26, 42, 46];
/// Layers of the released models: 270M, EmbeddingGemma, 1B, 4B, 12B, 27B.
const THREE: [usize; 6] = [18, 24, 26, 34, 48, 62];

fn describe(header: &Header, architecture: &str) -> Result<ModelSpec> {
    let keys = &Keys::new(header, architecture);
    let two = architecture == "gemma2" || architecture.starts_with("Gemma2");
    let generation = if two { Generation::Two } else { Generation::Three };
    let defaults = match generation {
        Generation::Two => Defaults { context: Some(8192), epsilon: 1e-6, tied: true },
        Generation::Three => Defaults { context: Some(131_072), epsilon: 1e-6, tied: true },
    };
    let base = Base::read(keys, defaults)?;
    let heads = Heads::read(keys, &base, Usual { heads: Some((8, 4)), width: Some(256) })?;
    let (scale, kinds, window, inner) = match keys.dialect {
        Dialect::Gguf => from_gguf(keys, generation, &base, &heads)?,
        Dialect::Hub => from_hub(keys, generation, base.layers)?,
    };
    if keys.dialect == Dialect::Hub && architecture != "Gemma3TextModel" {
        keys.must_be("use_bidirectional_attention", false)?; // such a network makes no text
    }
    let both_ways = match keys.dialect {
        Dialect::Gguf => architecture == "gemma-embedding",
        Dialect::Hub => keys.flag("use_bidirectional_attention")?.unwrap_or(false),
    };
    let visibility = if both_ways { Visibility::Both } else { Visibility::Causal };
    // of a window that reaches both ways, half lies on either side
    let window = window.map(|window| if both_ways { window / 2 + 1 } else { window });
    if architecture == "gemma-embedding" && !keys.has("dense_2.weight") {
        keys.notice(
            "the file leaves out the two matrices (dense_2, dense_3) that the published model multiplies a text's \
             vector by: embeddings made with it are not those of the published model; use a file that has them, or \
             the original folder",
        );
    }
    let usual_cap = |cap: f64| (generation == Generation::Two).then_some(cap);
    let score_cap = soft_cap(keys, "attn_logit_softcapping", usual_cap(50.0))?;
    let head_cap = soft_cap(keys, "final_logit_softcapping", usual_cap(30.0))?;
    let weight_offset = if keys.dialect == Dialect::Hub { 1.0 } else { 0.0 };
    let norm = Norm { kind: NormKind::Rms, epsilon: base.epsilon, weight_offset };
    let ropes = ropes(keys, generation, heads.key_dim, base.context)?;
    let layer = |layer: usize| LayerSpec {
        mixer: Mixer::Attention(Attention {
            scale,
            rope: Some(if kinds[layer] == Kind::Sliding { ropes.len() - 1 } else { 0 }),
            visibility,
            window: window.filter(|_| kinds[layer] == Kind::Sliding),
            qk_norm: (generation == Generation::Three).then_some(norm),
            soft_cap: score_cap,
            ..heads.attention(layer)
        }),
        feed_forward: FeedForward::Dense(Dense { inner: inner[layer], activation: Activation::GeluTanh }),
        norms: LayerNorms::around(norm),
        token_block: None,
        output_scale: false,
    };
    let layers = (0..base.layers).map(layer).collect();
    let rest = Rest {
        embedding_scale: (base.hidden as f32).sqrt(),
        layers,
        ropes,
        final_norm: norm,
        head_soft_cap: head_cap,
        next_token: Vec::new(),
    };
    Ok(base.spec(keys, architecture, rest))
}

/// Scale, kinds of layers, window, inner widths.
type Rules = (f32, Vec<Kind>, Option<usize>, Vec<usize>);

fn from_gguf(keys: &Keys, generation: Generation, base: &Base, heads: &Heads) -> Result<Rules> {
    let share = base.hidden / heads.heads.first().copied().filter(|&heads| heads > 0).unwrap_or(1);
    let (released, largest, interval): (&[usize], usize, usize) = match generation {
        Generation::Two => (&TWO, 46, 2),
        Generation::Three => (&THREE, 62, 6),
    };
    let known = released.contains(&base.layers);
    // the largest model of each generation scales by the residual stream's share of a head, the others by its width
    let divisor = if base.layers == largest { share } else { heads.key_dim };
    let scale = match keys.float("attention.scale")? {
        Some(stated) => stated as f32,
        None => {
            if !known {
                keys.notice(format!(
                    "the file does not say by what attention scores are divided; sqrt({divisor}) is taken, the width of \
                     a head, as other programs do with such files (a checkpoint's query_pre_attn_scalar may differ)"
                ));
            }
            1.0 / (divisor as f32).sqrt()
        }
    };
    let window = match (keys.count("attention.sliding_window")?, generation) {
        (None, Generation::Two) => Some(keys.or_assume("attention.sliding_window", None, 4096)),
        (stated, _) => stated.filter(|&window| window > 0),
    };
    let kinds = layers::gguf_windowed(keys, base.layers, || {
        if !known && window.is_some() {
            keys.notice(format!(
                "the file does not say which layers see a window only; one in {interval} is taken to see all, as in the \
                 released models"
            ));
        }
        interval
    })?;
    let inner = keys.per_layer("feed_forward_length", base.layers)?;
    let inner = keys.outer().required(&keys.full("feed_forward_length"), inner)?;
    // a file without a window has full layers only, all turned by the one base
    let kinds = if window.is_some() { kinds } else { vec![Kind::Full; base.layers] };
    Ok((scale, kinds, window, inner))
}

fn from_hub(keys: &Keys, generation: Generation, layers: usize) -> Result<Rules> {
    keys.must_be("attention_bias", false)?;
    keys.activation("hidden_activation", "gelu_pytorch_tanh", GELU_TANH)?;
    let divisor = keys.or_assume("query_pre_attn_scalar", keys.float("query_pre_attn_scalar")?, 256.0);
    if !(divisor.is_finite() && divisor > 0.0) {
        return Err(Error::metadata(keys.full("query_pre_attn_scalar"), "must be a positive number"));
    }
    let kinds = match layers::named(keys, "layer_types", layers, &[FULL, SLIDING])? {
        Some(kinds) => kinds,
        None if generation == Generation::Two => {
            layers::every(keys, "layer_types", 2, layers, Kind::Sliding)?
        }
        None => {
            let mut interval = keys.count("sliding_window_pattern")?;
            if interval.is_none() {
                interval = keys.count("_sliding_window_pattern")?;
            }
            let interval = keys.or_assume("sliding_window_pattern", interval, 6);
            layers::every(keys, "sliding_window_pattern", interval, layers, Kind::Sliding)?
        }
    };
    let window = keys.count("sliding_window")?;
    let window = match window {
        None if keys.is_null("sliding_window") => None,
        stated => Some(keys.or_assume("sliding_window", stated, 4096)),
    };
    if window.is_none() && kinds.contains(&Kind::Sliding) {
        return Err(Error::metadata(
            keys.full("sliding_window"),
            "is null, and some layers see a window only",
        ));
    }
    let inner = keys.or_assume("intermediate_size", keys.count("intermediate_size")?, 9216);
    Ok(((1.0 / divisor.sqrt()) as f32, kinds, window, vec![inner; layers]))
}

/// A soft cap: `null` says none, and where nothing is said the generation's own holds.
pub(super) fn soft_cap(keys: &Keys, name: &str, usual: Option<f64>) -> Result<Option<f32>> {
    let stated = keys.float(name)?;
    let cap = match usual {
        Some(usual) if !keys.is_null(name) => Some(keys.or_assume(name, stated, usual)),
        _ => stated,
    };
    match cap {
        Some(cap) if !(cap.is_finite() && cap > 0.0) => Err(Error::metadata(
            keys.full(name),
            format!("is {cap}; it must be a positive number, or absent"),
        )),
        cap => Ok(cap.map(|cap| cap as f32)),
    }
}

/// The table of full layers and, from Gemma 3 on, that of windowed ones.
fn ropes(keys: &Keys, generation: Generation, dims: usize, context: usize) -> Result<Vec<Rope>> {
    if generation == Generation::Two {
        return Ok(vec![rope::read(keys, &Table::usual(keys.dialect, dims, context, 10_000.0))?.rope]);
    }
    let full = Table::usual(keys.dialect, dims, context, 1_000_000.0);
    let (full, base) = match keys.dialect {
        Dialect::Gguf => {
            keys.required_float("rope.freq_base")?;
            (full, "rope.freq_base_swa")
        }
        Dialect::Hub => {
            if keys.get("rope_parameters.rope_type").is_some()
                || keys.get("rope_parameters.rope_theta").is_some()
            {
                let what = "holds one set of settings; Gemma 3 needs one for full_attention and one for \
                            sliding_attention";
                return Err(Error::metadata(keys.full("rope_parameters"), what));
            }
            (Table { layer_type: Some("full_attention"), ..full }, "rope_local_base_freq")
        }
    };
    let windowed = Table {
        base: (base, 10_000.0),
        layer_type: Some("sliding_attention"),
        extended: false,
        ..Table::usual(keys.dialect, dims, context, 10_000.0)
    };
    Ok(vec![rope::read(keys, &full)?.rope, rope::read(keys, &windowed)?.rope])
}

fn places(dialect: Dialect, spec: &ModelSpec, need: &Need) -> Places {
    let name = match (dialect, need.role) {
        (Dialect::Hub, Role::MixerPostNorm) => "post_attention_layernorm",
        (Dialect::Hub, Role::FeedForwardNorm) => "pre_feedforward_layernorm",
        _ => return place::common(dialect, spec, need),
    };
    vec![vec![Run::whole(format!("model.layers.{}.{name}.weight", need.layer.unwrap_or_default()), need)]]
}
