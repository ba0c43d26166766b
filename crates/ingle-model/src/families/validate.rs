//! Numbers that no network can have, refused before anything is sized or divided by them.

use crate::error::{Error, Result};
use crate::spec::{
    Activation, Attention, Dense, ExpertGroups, FeedForward, GatedDeltaNet, GroupScore, KeyValues,
    LatentAttention, LayerInputs, LayerSpec, Mixer, MixtureOfExperts, ModelSpec, Norm, Plain, Rope,
    RopeScaling, SparseIndexer,
};

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
    for rows in [spec.embedding.positions, spec.embedding.token_types].into_iter().flatten() {
        within("rows of positions or token types", rows)?;
    }
    let outside = [spec.embedding.norm, spec.final_norm].into_iter().flatten();
    outside.into_iter().try_for_each(norm_is_sane).map_err(|what| Error::metadata("the network", what))?;
    if let Some(inputs) = &spec.embedding.layer_inputs {
        within("width of layers' inputs", inputs.width.saturating_mul(spec.layers.len()))?;
        within("rows of layers' inputs", inputs.rows)?;
        if inputs.rows < spec.vocabulary {
            let what = format!("are {}, and there are {} tokens", inputs.rows, spec.vocabulary);
            return Err(Error::metadata("rows of layers' inputs", what));
        }
        [inputs.table_scale, inputs.projection_scale, inputs.scale]
            .into_iter()
            .try_for_each(positive)
            .and(norm_is_sane(inputs.norm))
            .map_err(|what| Error::metadata("layers' inputs", what))?;
    }
    for &width in spec.pooling.iter().flat_map(|pooling| &pooling.projections) {
        within("width of an embedding", width)?;
    }
    for rope in &spec.ropes {
        within("rotary dimensions", rope.dims)?;
        let scaling: &[f64] = match &rope.scaling {
            RopeScaling::Linear { factor } | RopeScaling::Leading { factor, .. } => &[*factor],
            RopeScaling::Yarn(yarn) => &[yarn.factor, yarn.original_context, yarn.beta_fast, yarn.beta_slow],
            RopeScaling::None | RopeScaling::Divisors(_) => &[],
        };
        let positive = |number: &f64| number.is_finite() && *number > 0.0;
        let sane = rope.dims.is_multiple_of(2)
            && rope.base.is_finite()
            && rope.base > 1.0
            && rope.magnitude.is_finite()
            && scaling.iter().all(positive);
        if !sane {
            let what = format!(
                "is impossible: {} dimensions, base {}, scaling {:?}",
                rope.dims, rope.base, rope.scaling
            );
            return Err(Error::metadata("rope", what));
        }
    }
    let further = spec.next_token.iter().map(|block| &block.layer);
    for (index, layer) in spec.layers.iter().chain(further).enumerate() {
        let wrong = |what: String| Error::metadata(format!("layer {index}"), what);
        layer.norms.all().try_for_each(|(norm, _)| norm_is_sane(norm)).map_err(wrong)?;
        token_block_is_sane(layer, spec.embedding.layer_inputs.as_ref()).map_err(wrong)?;
        match &layer.mixer {
            Mixer::Attention(attention) => attention_is_sane(attention, &spec.ropes)
                .and_then(|()| key_values_are_there(attention, index, &spec.layers)),
            Mixer::Latent(latent) => latent_is_sane(latent, &spec.ropes),
            Mixer::DeltaNet(delta) => delta_is_sane(delta),
        }
        .map_err(wrong)?;
        match &layer.feed_forward {
            FeedForward::Dense(Dense { inner, .. }) | FeedForward::Plain(Plain { inner, .. }) => {
                within("feed-forward width", *inner)?;
            }
            FeedForward::Experts(moe) => experts_are_sane(moe).map_err(wrong)?,
        }
    }
    if let Some(cap) = spec.head.and_then(|head| head.soft_cap) {
        positive(cap).map_err(|what| Error::metadata("head's soft cap", what))?;
    }
    positive(spec.embedding.scale).map_err(|what| Error::metadata("embedding scale", what))
}

fn positive(number: f32) -> Result<(), String> {
    if number.is_finite() && number > 0.0 { Ok(()) } else { Err(format!("is {number}; it must be positive")) }
}

/// Heads and their widths: no published network has any above a few thousand.
fn small(size: usize) -> bool {
    (1..=1 << 16).contains(&size)
}

fn norm_is_sane(norm: Norm) -> Result<(), String> {
    let Norm { epsilon, .. } = norm;
    if (0.0..1.0).contains(&epsilon) {
        return Ok(());
    }
    Err(format!("has a norm with epsilon {epsilon}; it must be a small positive number"))
}

fn attention_is_sane(attention: &Attention, ropes: &[Rope]) -> Result<(), String> {
    let Attention { heads, kv_heads, key_dim, value_dim, .. } = *attention;
    if ![heads, kv_heads, key_dim, value_dim].into_iter().all(small) {
        return Err(format!(
            "has impossible attention sizes: {heads} heads, {kv_heads} KV heads, widths {key_dim} and {value_dim}"
        ));
    }
    if !heads.is_multiple_of(kv_heads) {
        return Err(format!("has {heads} heads, which is not a multiple of its {kv_heads} KV heads"));
    }
    let rotated = match attention.rope {
        Some(rope) => ropes.get(rope).ok_or("names a rotary table that is not there")?.dims,
        None => 0,
    };
    if rotated > key_dim {
        return Err(format!("rotates {rotated} values of heads that are {key_dim} wide"));
    }
    [attention.qk_norm, attention.value_norm].into_iter().flatten().try_for_each(norm_is_sane)?;
    if attention.key_values == KeyValues::Joint && key_dim != value_dim {
        return Err(format!("takes values {value_dim} wide from the projection of keys {key_dim} wide"));
    }
    if attention.window == Some(0) {
        return Err("has a window of no positions".into());
    }
    if attention.output_gate && key_dim != value_dim {
        return Err(format!("gates outputs {value_dim} wide with gates {key_dim} wide"));
    }
    positive(attention.soft_cap.unwrap_or(1.0)).map_err(|what| format!("has a soft cap that {what}"))?;
    positive(attention.scale).map_err(|what| format!("has a scale that {what}"))
}

/// Keys and values of an earlier layer must be its own, and such as this layer reads.
fn key_values_are_there(attention: &Attention, index: usize, layers: &[LayerSpec]) -> Result<(), String> {
    let KeyValues::OfLayer(earlier) = attention.key_values else { return Ok(()) };
    let wrong = || format!("attends to what layer {earlier} caches, which has no such keys and values");
    let Some(Mixer::Attention(source)) = layers[..index.min(layers.len())].get(earlier).map(|l| &l.mixer)
    else {
        return Err(wrong());
    };
    let read = |attention: &Attention| {
        let Attention { kv_heads, key_dim, value_dim, window, visibility, .. } = *attention;
        (kv_heads, key_dim, value_dim, window, visibility)
    };
    match source.key_values {
        KeyValues::Projected | KeyValues::Joint if read(source) == read(attention) => Ok(()),
        _ => Err(wrong()),
    }
}

fn token_block_is_sane(layer: &LayerSpec, inputs: Option<&LayerInputs>) -> Result<(), String> {
    let Some(block) = &layer.token_block else { return Ok(()) };
    norm_is_sane(block.norm)?;
    match inputs.map(|inputs| inputs.width) {
        Some(width) if width == block.width => Ok(()),
        width => {
            Err(format!("reads inputs {} wide, and those of the layers are {width:?} wide", block.width))
        }
    }
}

fn latent_is_sane(latent: &LatentAttention, ropes: &[Rope]) -> Result<(), String> {
    let LatentAttention { heads, query_rank, kv_rank, nope_dim, rope_dim, value_dim, .. } = *latent;
    let sizes = [heads, query_rank.unwrap_or(1), kv_rank, nope_dim, rope_dim, value_dim];
    if !sizes.into_iter().all(small) {
        return Err(format!(
            "has impossible latent attention: {heads} heads, ranks {query_rank:?} and {kv_rank}, widths {nope_dim}, \
             {rope_dim} and {value_dim}"
        ));
    }
    let rotated = ropes.get(latent.rope).ok_or("names a rotary table that is not there")?.dims;
    if rotated != rope_dim {
        return Err(format!("rotates {rotated} values where {rope_dim} are kept for it"));
    }
    norm_is_sane(latent.rank_norm)?;
    positive(latent.scale).map_err(|what| format!("has a scale that {what}"))?;
    let Some(indexer) = &latent.indexer else { return Ok(()) };
    let SparseIndexer { heads, head_dim, top_k, .. } = *indexer;
    if ![heads, head_dim].into_iter().all(small) || top_k == 0 {
        return Err(format!("has an impossible indexer: {heads} heads of {head_dim}, best {top_k}"));
    }
    let rotated = ropes.get(indexer.rope).ok_or("names a rotary table that is not there")?.dims;
    if rotated > head_dim {
        return Err(format!("rotates {rotated} values of indexer heads that are {head_dim} wide"));
    }
    if query_rank.is_none() {
        return Err("has an indexer, whose queries come from a low-rank query, but no such rank".into());
    }
    norm_is_sane(indexer.key_norm)
}

fn delta_is_sane(delta: &GatedDeltaNet) -> Result<(), String> {
    let GatedDeltaNet { key_heads, key_dim, value_heads, value_dim, convolution, .. } = *delta;
    let sizes = [key_heads, key_dim, value_heads, value_dim];
    if !sizes.into_iter().all(small) || !(1..=1024).contains(&convolution) {
        return Err(format!(
            "has an impossible delta net: {key_heads} key heads of {key_dim}, {value_heads} value heads of {value_dim}, a \
             convolution over {convolution}"
        ));
    }
    if !value_heads.is_multiple_of(key_heads) {
        return Err(format!(
            "has {value_heads} value heads, which is not a multiple of its {key_heads} key heads"
        ));
    }
    norm_is_sane(delta.output_norm)
}

fn experts_are_sane(moe: &MixtureOfExperts) -> Result<(), String> {
    let MixtureOfExperts { experts, used, inner, .. } = *moe;
    if !small(experts) || inner == 0 || inner > LARGEST {
        return Err(format!("has impossible experts: {experts} of width {inner}"));
    }
    if used == 0 || used > experts {
        return Err(format!("uses {used} of {experts} experts per token"));
    }
    if let Some(groups) = moe.gating.groups {
        let ExpertGroups { count, used: kept, score } = groups;
        if count == 0 || !experts.is_multiple_of(count) {
            return Err(format!("has {experts} experts, which {count} groups do not divide"));
        }
        let size = experts / count;
        if kept == 0 || kept > count || kept * size < used {
            return Err(format!(
                "keeps {kept} of {count} groups of {size} experts, and needs {used} experts from them"
            ));
        }
        if score == GroupScore::TwoBest && size < 2 {
            return Err(format!("ranks groups by two experts, and they have {size}"));
        }
    }
    if let Some(shared) = moe.shared.filter(|shared| shared.inner == 0 || shared.inner > LARGEST) {
        return Err(format!("has an impossible shared expert of width {}", shared.inner));
    }
    if let Some(apart) = &moe.apart {
        apart.norms().into_iter().try_for_each(|(norm, _)| norm_is_sane(norm))?;
        positive(apart.router_scale).map_err(|what| format!("has a factor on its router that {what}"))?;
        if moe.shared.is_none() {
            return Err("has experts apart from a shared one that is not there".into());
        }
    }
    if let Activation::ClampedSwiglu { alpha, limit } = moe.activation {
        positive(alpha)
            .and(positive(limit))
            .map_err(|what| format!("has an activation whose clamp {what}"))?;
    }
    positive(moe.gating.scale).map_err(|what| format!("has a factor on its experts that {what}"))
}

fn within(name: &str, size: usize) -> Result<()> {
    if size == 0 || size > LARGEST {
        return Err(Error::metadata(name, format!("is {size}; it must be between 1 and {LARGEST}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::{Dialect, Header, describe_header};
    use crate::metadata::Metadata;
    use crate::source::TensorInfo;
    use serde_json::{Value, json};

    /// A one-layer checkpoint's configuration with one value changed, described.
    fn described(key: &str, value: Value) -> Result<ModelSpec> {
        described_with(key, value, None)
    }

    /// The same with one tensor more in the file.
    fn described_with(key: &str, value: Value, extra: Option<&str>) -> Result<ModelSpec> {
        described_of(key, value, extra, crate::Format::F32)
    }

    /// The same with the matrix `up_proj` in another format.
    fn described_of(key: &str, value: Value, extra: Option<&str>, up: crate::Format) -> Result<ModelSpec> {
        let mut config = json!({
            "architectures": ["Qwen3ForCausalLM"], "hidden_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "intermediate_size": 16,
            "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 1e4, "tie_word_embeddings": true
        });
        config[key] = value;
        let matrices: [(&str, &[usize]); 12] = [
            ("model.embed_tokens.weight", &[32, 8]),
            ("model.norm.weight", &[8]),
            ("model.layers.0.input_layernorm.weight", &[8]),
            ("model.layers.0.post_attention_layernorm.weight", &[8]),
            ("model.layers.0.self_attn.q_proj.weight", &[8, 8]),
            ("model.layers.0.self_attn.k_proj.weight", &[4, 8]),
            ("model.layers.0.self_attn.v_proj.weight", &[4, 8]),
            ("model.layers.0.self_attn.o_proj.weight", &[8, 8]),
            ("model.layers.0.self_attn.q_norm.weight", &[4]),
            ("model.layers.0.self_attn.k_norm.weight", &[4]),
            ("model.layers.0.mlp.gate_proj.weight", &[16, 8]),
            ("model.layers.0.mlp.up_proj.weight", &[16, 8]),
        ];
        let tensor = |(name, shape): (&str, &[usize])| TensorInfo {
            name: name.to_owned(),
            shape: shape.to_vec(),
            format: if name.contains("up_proj") { up } else { crate::Format::F32 },
            file: 0,
            offset: 0,
            bytes: shape.iter().product::<usize>() * 4,
        };
        let down = ("model.layers.0.mlp.down_proj.weight", &[8, 16][..]);
        let extra = extra.map(|name| (name, &[1][..]));
        let tensors: Vec<TensorInfo> = matrices.into_iter().chain([down]).chain(extra).map(tensor).collect();
        let keys = Metadata::from_json(&config);
        describe_header(&Header { dialect: Dialect::Hub, keys: &keys, tensors: &tensors })
    }

    #[test]
    fn impossible_numbers_are_refused_by_name() {
        described("hidden_act", json!("silu")).unwrap();
        let yarn = |factor: Value| json!({"rope_type": "yarn", "factor": factor});
        for (key, value, named) in [
            ("num_attention_heads", json!(0), "heads"),
            ("num_key_value_heads", json!(3), "multiple"),
            ("num_key_value_heads", json!(0), "heads"),
            ("num_hidden_layers", json!(1_000_000_000), "num_hidden_layers"),
            ("num_hidden_layers", json!(0), "num_hidden_layers"),
            ("hidden_size", json!(0), "width"),
            ("hidden_size", json!(-8), "hidden_size"),
            ("head_dim", json!(3), "rope"),
            ("rms_norm_eps", json!(-1.0), "epsilon"),
            ("rope_theta", json!(0.0), "rope"),
            ("max_position_embeddings", json!(0), "context"),
            ("intermediate_size", json!("wide"), "intermediate_size"),
            ("rope_scaling", yarn(json!(0.0)), "rope"),
            ("rope_scaling", yarn(json!(-4.0)), "rope"),
            ("rope_scaling", json!({"rope_type": "spiral"}), "spiral"),
            ("rope_scaling", json!({"factor": 4.0}), "rope_scaling.rope_type"),
            ("rope_scaling", json!("yarn"), "must be an object"),
            ("rope_scaling", json!([]), "must be an object"),
            ("rope_parameters", json!(4.0), "rope_parameters"),
            ("hidden_act", json!("relu"), "relu"),
            ("rms_norm_eps", json!(1e30), "epsilon"),
            ("vocab_size", json!(31), "vocab_size"),
            ("architectures", json!(["MambaForCausalLM"]), "MambaForCausalLM"),
            ("architectures", json!([]), "architectures"),
            ("tie_word_embeddings", json!(false), "lm_head.weight"),
            ("intermediate_size", json!(17), "gate_proj"),
        ] {
            let message = described(key, value.clone()).unwrap_err().to_string();
            assert!(message.contains(named), "{key} = {value}: {message}");
        }
    }

    #[test]
    fn fp8_without_its_scales_and_integers_are_refused() {
        let fp8 = json!({"quant_method": "fp8", "weight_block_size": [128, 128]});
        let refused = |key, value, format| described_of(key, value, None, format).unwrap_err().to_string();
        let message = refused("quantization_config", fp8, crate::Format::F8_E4M3);
        assert!(message.contains("up_proj.weight_scale_inv` is missing"), "{message}");
        let message = refused("hidden_act", json!("silu"), crate::Format::I16);
        assert!(message.contains("up_proj.weight") && message.contains("I16"), "{message}");
    }

    #[test]
    fn layers_that_the_configuration_does_not_count_are_refused() {
        let name = "model.layers.1.mlp.up_proj.weight";
        let message = described_with("hidden_act", json!("silu"), Some(name)).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("num_hidden_layers"), "{message}");
    }

    #[test]
    fn weights_with_scales_of_their_own_are_refused_and_other_tensors_are_listed() {
        let with = |name| described_with("hidden_act", json!("silu"), Some(name));
        let scale = "model.layers.0.self_attn.q_proj.weight_scale";
        let message = with(scale).unwrap_err().to_string();
        assert!(message.contains(scale), "{message}");
        assert_eq!(with("score.weight").unwrap().unused, ["score.weight"]);
    }
}
