//! Numbers that no network can have, refused before anything is sized or divided by them.

use crate::error::{Error, Result};
use crate::spec::{Attention, FeedForward, LayerNorms, Mixer, ModelSpec, Norm, RopeScaling};

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
        let scaling: &[f64] = match &rope.scaling {
            RopeScaling::Linear { factor } => &[*factor],
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
    for (index, layer) in spec.layers.iter().enumerate() {
        let wrong = |what: String| Error::metadata(format!("layer {index}"), what);
        let LayerNorms { before_mixer, after_mixer, before_feed_forward, after_feed_forward } = layer.norms;
        let around =
            [before_mixer, after_mixer, before_feed_forward, after_feed_forward, Some(spec.final_norm)];
        around.into_iter().flatten().try_for_each(norm_is_sane).map_err(wrong)?;
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

fn norm_is_sane(norm: Norm) -> Result<(), String> {
    let Norm { epsilon, .. } = norm;
    if (0.0..1.0).contains(&epsilon) {
        return Ok(());
    }
    Err(format!("has a norm with epsilon {epsilon}; it must be a small positive number"))
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
    if let Some(norm) = attention.qk_norm {
        norm_is_sane(norm)?;
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
            format: crate::Format::F32,
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
    fn weights_with_scales_of_their_own_are_refused_and_other_tensors_are_listed() {
        let with = |name| described_with("hidden_act", json!("silu"), Some(name));
        let scale = "model.layers.0.self_attn.q_proj.weight_scale";
        let message = with(scale).unwrap_err().to_string();
        assert!(message.contains(scale), "{message}");
        assert_eq!(with("score.weight").unwrap().unused, ["score.weight"]);
    }
}
