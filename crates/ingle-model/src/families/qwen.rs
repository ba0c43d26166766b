//! Qwen2, Qwen2.5 and Qwen3, dense: grouped-query attention with rotated halves, SwiGLU, RMS norms before each block.
//! Qwen2 has biases on query, key and value; Qwen3 has none and norms each query and key head before rotation.

use super::place::{self, Places};
use super::{Dialect, Family, Header};
use crate::error::{Error, Result};
use crate::metadata::Metadata;
use crate::spec::{
    Activation, Attention, Dense, FeedForward, Head, LayerNorms, LayerSpec, Mixer, ModelSpec, Need, Norm,
    Pairing, Rope, RopeScaling, Yarn,
};

pub(super) const FAMILY: Family =
    Family { gguf: &["qwen2", "qwen3"], hub: &["Qwen2ForCausalLM", "Qwen3ForCausalLM"], describe, places };

fn places(dialect: Dialect, spec: &ModelSpec, need: &Need) -> Places {
    let mut places = place::usual(dialect, need);
    let mixer = need.layer.map(|layer| &spec.layers[layer].mixer);
    if let (Dialect::Gguf, Some(Mixer::Attention(attention))) = (dialect, mixer) {
        let keys = attention.kv_heads * attention.key_dim;
        let values = attention.kv_heads * attention.value_dim;
        let rows = [attention.heads * attention.key_dim, keys, values];
        places.extend(place::fused_qkv(need, spec.hidden, rows));
    }
    places
}

/// What the two spellings are reduced to.
struct Dimensions {
    name: Option<String>,
    hidden: usize,
    vocabulary: usize,
    context: usize,
    heads: Vec<usize>,
    kv_heads: Vec<usize>,
    key_dim: usize,
    value_dim: usize,
    inner: Vec<usize>,
    windows: Vec<Option<usize>>,
    epsilon: f32,
    rope: Rope,
    tied: bool,
    head_bias: bool,
    qk_norm: bool,
    qkv_bias: bool,
    output_bias: bool,
}

fn describe(header: &Header, architecture: &str) -> Result<ModelSpec> {
    let dimensions = match header.dialect {
        Dialect::Gguf => from_gguf(header, architecture)?,
        Dialect::Hub => from_hub(header, architecture)?,
    };
    let Dimensions { name, hidden, vocabulary, context, rope, tied, head_bias, .. } = dimensions;
    let norm = Norm::rms(dimensions.epsilon);
    let layers = (0..dimensions.heads.len()).map(|layer| LayerSpec {
        mixer: Mixer::Attention(Attention {
            heads: dimensions.heads[layer],
            kv_heads: dimensions.kv_heads[layer],
            key_dim: dimensions.key_dim,
            value_dim: dimensions.value_dim,
            scale: 1.0 / (dimensions.key_dim as f32).sqrt(),
            rope: Some(0),
            window: dimensions.windows[layer],
            qk_norm: dimensions.qk_norm.then_some(norm),
            qkv_bias: dimensions.qkv_bias,
            output_bias: dimensions.output_bias,
            sinks: false,
            soft_cap: None,
            output_gate: false,
        }),
        feed_forward: FeedForward::Dense(Dense {
            inner: dimensions.inner[layer],
            activation: Activation::Silu,
        }),
        norms: LayerNorms::before(norm),
    });
    Ok(ModelSpec {
        architecture: architecture.to_owned(),
        name,
        hidden,
        vocabulary,
        context,
        embedding_scale: 1.0,
        layers: layers.collect(),
        ropes: vec![rope],
        final_norm: norm,
        head: Head { tied, bias: head_bias, soft_cap: None },
        next_token: Vec::new(),
        tensors: Vec::new(),
        unused: Vec::new(),
    })
}

/// A layer has several tensors, so more layers than tensors is a lie; refused before anything is sized by it.
fn plausible_layers(header: &Header, key: &str, layers: usize) -> Result<usize> {
    if layers == 0 || layers > header.tensors.len() {
        let what = format!("says {layers} layers, but the file has {} tensors", header.tensors.len());
        return Err(Error::metadata(key, what));
    }
    Ok(layers)
}

/// Columns and rows of the embedding matrix.
fn embedding_rows(header: &Header, name: &str) -> Result<usize> {
    let embedding = header.tensors.iter().find(|tensor| tensor.name == name);
    match embedding.map(|tensor| &tensor.shape[..]) {
        Some([rows, _]) => Ok(*rows),
        Some(_) => Err(Error::tensor(name, "must have two dimensions")),
        None => Err(Error::tensor(name, "is missing from the file, and the network needs it")),
    }
}

fn from_gguf(header: &Header, architecture: &str) -> Result<Dimensions> {
    let keys = header.keys;
    let key = |name: &str| format!("{architecture}.{name}");
    let required = |name: &str| keys.required(&key(name), keys.count(&key(name))?);
    let has = |name: &str| header.tensors.iter().any(|tensor| tensor.name == name);

    let layers = plausible_layers(header, &key("block_count"), required("block_count")?)?;
    let hidden = required("embedding_length")?;
    let per_layer = |name: &str| keys.count_per_layer(&key(name), layers);
    let heads_key = key("attention.head_count");
    let heads = keys.required(&heads_key, per_layer("attention.head_count")?)?;
    let kv_heads = per_layer("attention.head_count_kv")?.unwrap_or_else(|| heads.clone());
    let default_dim = hidden / heads.first().copied().filter(|&heads| heads > 0).unwrap_or(1);
    let key_dim = keys.count(&key("attention.key_length"))?.unwrap_or(default_dim);
    let context = required("context_length")?;
    let epsilon_key = key("attention.layer_norm_rms_epsilon");
    let inner_key = key("feed_forward_length");
    Ok(Dimensions {
        name: keys.string("general.name")?.map(str::to_owned),
        hidden,
        vocabulary: embedding_rows(header, "token_embd.weight")?,
        context,
        kv_heads,
        key_dim,
        value_dim: keys.count(&key("attention.value_length"))?.unwrap_or(default_dim),
        inner: keys.required(&inner_key, per_layer("feed_forward_length")?)?,
        windows: vec![None; layers],
        epsilon: keys.required(&epsilon_key, keys.float(&epsilon_key)?)? as f32,
        rope: gguf_rope(keys, architecture, key_dim, context)?,
        tied: !has("output.weight"),
        head_bias: has("output.bias"),
        qk_norm: has("blk.0.attn_q_norm.weight"),
        qkv_bias: has("blk.0.attn_q.bias") || has("blk.0.attn_qkv.bias"),
        output_bias: has("blk.0.attn_output.bias"),
        heads,
    })
}

/// Rotary table from GGUF keys: halves, with linear or YaRN context extension.
fn gguf_rope(keys: &Metadata, architecture: &str, key_dim: usize, context: usize) -> Result<Rope> {
    let key = |name: &str| format!("{architecture}.rope.{name}");
    let float = |name: &str| keys.float(&key(name));
    let base = float("freq_base")?.unwrap_or(10_000.0);
    let dims = keys.count(&key("dimension_count"))?.unwrap_or(key_dim);
    let factor = match float("scaling.factor")? {
        Some(factor) => Some(factor),
        None => float("scale_linear")?,
    };
    let kind = keys.string(&key("scaling.type"))?.unwrap_or("linear");
    let attention_factor = float("scaling.attn_factor")?.unwrap_or(1.0) as f32;
    let mut rope = Rope { magnitude: attention_factor, ..Rope::plain(dims, base, Pairing::Halves) };
    match (kind, factor) {
        ("none", _) | (_, None | Some(0.0 | 1.0)) => {}
        ("linear", Some(factor)) => rope.scaling = RopeScaling::Linear { factor },
        ("yarn", Some(factor)) => {
            let original = keys.count(&key("scaling.original_context_length"))?.unwrap_or(context);
            let yarn = yarn(factor, original as f64);
            rope.magnitude *= yarn.magnitude();
            rope.scaling = RopeScaling::Yarn(yarn);
        }
        (other, _) => {
            let what = format!("is `{other}`; known are none, linear and yarn");
            return Err(Error::metadata(key("scaling.type"), what));
        }
    }
    Ok(rope)
}

fn yarn(factor: f64, original_context: f64) -> Yarn {
    Yarn { factor, original_context, beta_fast: 32.0, beta_slow: 1.0, truncate: true }
}

fn from_hub(header: &Header, architecture: &str) -> Result<Dimensions> {
    let keys = header.keys;
    let required = |name: &str| keys.required(name, keys.count(name)?);
    let has = |name: &str| header.tensors.iter().any(|tensor| tensor.name == name);
    let layers = plausible_layers(header, "num_hidden_layers", required("num_hidden_layers")?)?;
    let hidden = required("hidden_size")?;
    let heads = required("num_attention_heads")?;
    let key_dim = match keys.count("head_dim")? {
        Some(dim) => dim,
        None => hidden.checked_div(heads).unwrap_or(0),
    };
    let activation = keys.string("hidden_act")?.unwrap_or("silu");
    if activation != "silu" {
        return Err(Error::metadata("hidden_act", format!("is `{activation}`; this family uses silu")));
    }
    let context = required("max_position_embeddings")?;
    let vocabulary = embedding_rows(header, "model.embed_tokens.weight")?;
    if let Some(stated) = keys.count("vocab_size")?.filter(|&stated| stated != vocabulary) {
        let what = format!("says {stated}, but `model.embed_tokens.weight` has {vocabulary} rows");
        return Err(Error::metadata("vocab_size", what));
    }
    Ok(Dimensions {
        name: keys.string("_name_or_path")?.filter(|name| !name.is_empty()).map(str::to_owned),
        hidden,
        vocabulary,
        context,
        heads: vec![heads; layers],
        kv_heads: vec![keys.count("num_key_value_heads")?.unwrap_or(heads); layers],
        key_dim,
        value_dim: key_dim,
        inner: vec![required("intermediate_size")?; layers],
        windows: hub_windows(keys, layers)?,
        epsilon: keys.float("rms_norm_eps")?.unwrap_or(1e-6) as f32,
        rope: hub_rope(keys, key_dim, context)?,
        tied: keys.flag("tie_word_embeddings")?.unwrap_or(false),
        head_bias: false,
        qk_norm: architecture.starts_with("Qwen3"),
        qkv_bias: has("model.layers.0.self_attn.q_proj.bias"),
        output_bias: has("model.layers.0.self_attn.o_proj.bias"),
    })
}

/// `layer_types` wins; else layers from `max_window_layers` on are windowed when `use_sliding_window` is set.
fn hub_windows(keys: &Metadata, layers: usize) -> Result<Vec<Option<usize>>> {
    let in_use = keys.flag("use_sliding_window")?.unwrap_or(false);
    let Some(window) = keys.count("sliding_window")?.filter(|_| in_use) else {
        return Ok(vec![None; layers]);
    };
    if let Some(types) = keys.strings("layer_types")? {
        if types.len() != layers {
            return Err(Error::metadata("layer_types", format!("must name {layers} layers")));
        }
        return Ok(types.iter().map(|kind| (kind == "sliding_attention").then_some(window)).collect());
    }
    let first = keys.count("max_window_layers")?.unwrap_or(layers);
    Ok((0..layers).map(|layer| (layer >= first).then_some(window)).collect())
}

/// Rotary table from `rope_theta` and `rope_scaling`, or from the newer `rope_parameters` that holds both.
fn hub_rope(keys: &Metadata, key_dim: usize, context: usize) -> Result<Rope> {
    let float = |name: &str| -> Result<Option<f64>> {
        let newer = keys.float(&format!("rope_parameters.{name}"))?;
        Ok(newer.or(keys.float(&format!("rope_scaling.{name}"))?))
    };
    let text = |name: &str| -> Result<Option<&str>> {
        let newer = keys.string(&format!("rope_parameters.{name}"))?;
        Ok(newer.or(keys.string(&format!("rope_scaling.{name}"))?))
    };
    let base = match float("rope_theta")? {
        Some(base) => base,
        None => keys.float("rope_theta")?.unwrap_or(10_000.0),
    };
    let mut rope = Rope::plain(key_dim, base, Pairing::Halves);
    let kind = text("rope_type")?.or(text("type")?).unwrap_or("default");
    let factor = || -> Result<f64> { keys.required("rope_scaling.factor", float("factor")?) };
    match kind {
        "default" => {}
        "linear" => rope.scaling = RopeScaling::Linear { factor: factor()? },
        "yarn" => {
            let original = float("original_max_position_embeddings")?.unwrap_or(context as f64);
            let mut yarn = yarn(factor()?, original);
            yarn.beta_fast = float("beta_fast")?.unwrap_or(yarn.beta_fast);
            yarn.beta_slow = float("beta_slow")?.unwrap_or(yarn.beta_slow);
            rope.magnitude = match float("attention_factor")? {
                Some(stated) => stated as f32,
                None => yarn.magnitude(),
            };
            rope.scaling = RopeScaling::Yarn(yarn);
        }
        other => {
            let what = format!("is `{other}`; known are default, linear and yarn");
            return Err(Error::metadata("rope_scaling.rope_type", what));
        }
    }
    Ok(rope)
}
