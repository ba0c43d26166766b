//! BERT encoders (arXiv:1810.04805), as MiniLM, BGE, E5 and GTE are made of: learned positions, attention both ways,
//! a feed-forward without a gate, and norms after each block has joined the residual stream. No head is described: the
//! pooler and the heads of its training tasks play no part in embeddings.

use super::keys::Keys;
use super::place::{self, Places, Run};
use super::{Dialect, Family, Header};
use crate::error::{Error, Result};
use crate::spec::{
    Attention, Embedding, FeedForward, KeyValues, LayerNorms, LayerSpec, Mixer, ModelSpec, Need, Norm, Plain,
    PlainActivation, Role, Visibility,
};

pub(super) const FAMILY: Family = Family {
    gguf: &["bert"],
    hub: &["BertModel", "BertForMaskedLM", "BertForPreTraining"],
    describe,
    places,
};

/// Activations under their names.
const ACTIVATIONS: &[(&str, PlainActivation)] = &[
    ("gelu", PlainActivation::GeluErf),
    ("gelu_new", PlainActivation::GeluTanh),
    ("gelu_pytorch_tanh", PlainActivation::GeluTanh),
    ("relu", PlainActivation::Relu),
];

/// What the two spellings are reduced to.
struct Sizes {
    name: Option<String>,
    hidden: usize,
    layers: usize,
    heads: usize,
    inner: usize,
    context: usize,
    epsilon: f64,
    activation: PlainActivation,
    /// Names of the three tables.
    tables: [String; 3],
}

fn describe(header: &Header, architecture: &str) -> Result<ModelSpec> {
    let keys = &Keys::new(header, architecture);
    let sizes = match keys.dialect {
        Dialect::Gguf => from_gguf(keys)?,
        Dialect::Hub => from_hub(keys)?,
    };
    let Sizes { name, hidden, layers, heads, inner, context, epsilon, activation, tables } = sizes;
    if layers > keys.tensor_count() {
        let what = format!("says {layers} layers, but the file has {} tensors", keys.tensor_count());
        return Err(Error::metadata("number of layers", what));
    }
    if heads == 0 || !hidden.is_multiple_of(heads) {
        let what = format!("is {heads}, and the width {hidden} is no multiple of it");
        return Err(Error::metadata("number of heads", what));
    }
    let [words, positions, types] = &tables;
    let rows = |name: &str| match keys.tensor(name).map(|tensor| &tensor.shape[..]) {
        Some([rows, _]) => Ok(*rows),
        Some(_) => Err(Error::tensor(name, "must have two dimensions")),
        None => Err(Error::tensor(name, "is missing from the file, and the network needs it")),
    };
    let norm = Norm::layer(epsilon as f32);
    let width = hidden / heads;
    let layer = LayerSpec {
        mixer: Mixer::Attention(Attention {
            heads,
            kv_heads: heads,
            key_dim: width,
            value_dim: width,
            scale: 1.0 / (width as f32).sqrt(),
            rope: None,
            visibility: Visibility::Both,
            window: None,
            qk_norm: None,
            value_norm: None,
            key_values: KeyValues::Projected,
            qkv_bias: true,
            output_bias: true,
            sinks: false,
            soft_cap: None,
            output_gate: false,
        }),
        feed_forward: FeedForward::Plain(Plain { inner, activation }),
        norms: LayerNorms::joined(norm),
        token_block: None,
        output_scale: false,
    };
    let positions = rows(positions)?;
    Ok(ModelSpec {
        architecture: architecture.to_owned(),
        name,
        hidden,
        vocabulary: rows(words)?,
        context: context.min(positions),
        embedding: Embedding {
            positions: Some(positions),
            token_types: keys.has(types).then(|| rows(types)).transpose()?,
            norm: Some(norm),
            ..Embedding::PLAIN
        },
        ropes: Vec::new(),
        layers: vec![layer; layers],
        final_norm: None,
        head: None,
        pooling: None,
        next_token: Vec::new(),
        tensors: Vec::new(),
        next_token_tensors: Vec::new(),
        unused: Vec::new(),
        notices: keys.notices(),
    })
}

fn from_gguf(keys: &Keys) -> Result<Sizes> {
    keys.must_be("attention.causal", false)?;
    Ok(Sizes {
        name: keys.outer().string("general.name")?.map(str::to_owned),
        hidden: keys.required("embedding_length")?,
        layers: keys.required("block_count")?,
        heads: keys.required("attention.head_count")?,
        inner: keys.required("feed_forward_length")?,
        context: keys.required("context_length")?,
        epsilon: keys.required_float("attention.layer_norm_epsilon")?,
        // the files do not say; every published one has the exact form
        activation: PlainActivation::GeluErf,
        tables: ["token_embd", "position_embd", "token_types"].map(|table| format!("{table}.weight")),
    })
}

fn from_hub(keys: &Keys) -> Result<Sizes> {
    keys.must_be("is_decoder", false)?;
    keys.must_be("add_cross_attention", false)?;
    keys.one_of("position_embedding_type", &[("absolute", ())])?;
    let prefix = if keys.has("bert.embeddings.word_embeddings.weight") { "bert." } else { "" };
    let table = |name: &str| format!("{prefix}embeddings.{name}_embeddings.weight");
    let activation = match keys.one_of("hidden_act", ACTIVATIONS)? {
        Some(activation) => activation,
        None => {
            keys.or_assume("hidden_act", None, "gelu");
            PlainActivation::GeluErf
        }
    };
    Ok(Sizes {
        name: keys.outer().string("_name_or_path")?.filter(|name| !name.is_empty()).map(str::to_owned),
        hidden: keys.required("hidden_size")?,
        layers: keys.required("num_hidden_layers")?,
        heads: keys.required("num_attention_heads")?,
        inner: keys.required("intermediate_size")?,
        context: keys.required("max_position_embeddings")?,
        epsilon: keys.or_assume("layer_norm_eps", keys.float("layer_norm_eps")?, 1e-12),
        activation,
        tables: [table("word"), table("position"), table("token_type")],
    })
}

fn places(dialect: Dialect, spec: &ModelSpec, need: &Need) -> Places {
    if dialect == Dialect::Gguf {
        return place::common(dialect, spec, need);
    }
    let Some(name) = hub_name(need.role, need.layer) else { return place::common(dialect, spec, need) };
    // very old checkpoints call a norm's weight gamma and its bias beta
    let old = match name.strip_suffix("LayerNorm.weight") {
        Some(stem) => Some(format!("{stem}LayerNorm.gamma")),
        None => name.strip_suffix("LayerNorm.bias").map(|stem| format!("{stem}LayerNorm.beta")),
    };
    let names = [Some(name), old].into_iter().flatten();
    let spellings = names.flat_map(|name| [name.clone(), format!("bert.{name}")]);
    spellings.map(|name| vec![Run::whole(name, need)]).collect()
}

fn hub_name(role: Role, layer: Option<usize>) -> Option<String> {
    use Role::*;
    let name = match role {
        Embedding => "word_embeddings.weight",
        PositionEmbedding => "position_embeddings.weight",
        TokenTypeEmbedding => "token_type_embeddings.weight",
        EmbeddingNorm => "LayerNorm.weight",
        EmbeddingNormBias => "LayerNorm.bias",
        Query => "attention.self.query.weight",
        QueryBias => "attention.self.query.bias",
        Key => "attention.self.key.weight",
        KeyBias => "attention.self.key.bias",
        Value => "attention.self.value.weight",
        ValueBias => "attention.self.value.bias",
        Output => "attention.output.dense.weight",
        OutputBias => "attention.output.dense.bias",
        MixerJoinedNorm => "attention.output.LayerNorm.weight",
        MixerJoinedNormBias => "attention.output.LayerNorm.bias",
        Up => "intermediate.dense.weight",
        UpBias => "intermediate.dense.bias",
        Down => "output.dense.weight",
        DownBias => "output.dense.bias",
        FeedForwardJoinedNorm => "output.LayerNorm.weight",
        FeedForwardJoinedNormBias => "output.LayerNorm.bias",
        _ => return None,
    };
    Some(match layer {
        None => format!("embeddings.{name}"),
        Some(layer) => format!("encoder.layer.{layer}.{name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Dialect, Header, describe_header};
    use crate::Format;
    use crate::error::Result;
    use crate::metadata::Metadata;
    use crate::source::TensorInfo;
    use crate::spec::ModelSpec;
    use serde_json::{Value, json};

    /// A checkpoint with one layer, its tensors renamed, one key changed.
    fn described(rename: impl Fn(&str) -> String, key: &str, value: Value) -> Result<ModelSpec> {
        let mut config = json!({
            "architectures": ["BertModel"], "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 12, "max_position_embeddings": 16, "layer_norm_eps": 1e-12, "hidden_act": "gelu",
            "vocab_size": 20, "type_vocab_size": 2, "position_embedding_type": "absolute"
        });
        config[key] = value;
        let mut tensors: Vec<(String, Vec<usize>)> = vec![
            ("embeddings.word_embeddings.weight".into(), vec![20, 8]),
            ("embeddings.position_embeddings.weight".into(), vec![16, 8]),
            ("embeddings.token_type_embeddings.weight".into(), vec![2, 8]),
            ("embeddings.position_ids".into(), vec![1, 16]),
            ("pooler.dense.weight".into(), vec![8, 8]),
        ];
        for (stem, rows, columns) in [
            ("attention.self.query", 8, 8),
            ("attention.self.key", 8, 8),
            ("attention.self.value", 8, 8),
            ("attention.output.dense", 8, 8),
            ("intermediate.dense", 12, 8),
            ("output.dense", 8, 12),
        ] {
            tensors.push((format!("encoder.layer.0.{stem}.weight"), vec![rows, columns]));
            tensors.push((format!("encoder.layer.0.{stem}.bias"), vec![rows]));
        }
        for stem in ["embeddings", "encoder.layer.0.attention.output", "encoder.layer.0.output"] {
            tensors.push((format!("{stem}.LayerNorm.weight"), vec![8]));
            tensors.push((format!("{stem}.LayerNorm.bias"), vec![8]));
        }
        let tensor = |(name, shape): (String, Vec<usize>)| TensorInfo {
            name: rename(&name),
            bytes: shape.iter().product::<usize>() * 4,
            shape,
            format: Format::F32,
            file: 0,
            offset: 0,
        };
        let tensors: Vec<TensorInfo> = tensors.into_iter().map(tensor).collect();
        let keys = Metadata::from_json(&config);
        describe_header(&Header { dialect: Dialect::Hub, keys: &keys, tensors: &tensors })
    }

    #[test]
    fn names_with_a_prefix_and_old_names_of_norms_are_found() {
        let plain = described(str::to_owned, "hidden_act", json!("gelu")).unwrap();
        assert!(plain.looks_ahead() && plain.head.is_none() && plain.unused.is_empty());
        let prefixed = described(|name| format!("bert.{name}"), "hidden_act", json!("gelu")).unwrap();
        assert_eq!(prefixed.layers, plain.layers);
        assert_eq!(prefixed.unused, Vec::<String>::new());
        let old = |name: &str| {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        };
        described(old, "hidden_act", json!("gelu")).unwrap();
    }

    #[test]
    fn what_would_be_another_network_is_refused_by_name() {
        for (key, value, said) in [
            ("hidden_act", json!("silu"), "silu"),
            ("position_embedding_type", json!("relative_key"), "relative_key"),
            ("is_decoder", json!(true), "is_decoder"),
            ("num_attention_heads", json!(3), "no multiple"),
            ("num_attention_heads", json!(0), "heads"),
            ("num_hidden_layers", json!(1_000_000), "layers"),
            ("num_hidden_layers", json!(2), "encoder.layer.1"),
            ("intermediate_size", json!(13), "intermediate.dense"),
            ("architectures", json!(["MPNetModel"]), "MPNetModel"),
            ("architectures", json!(["BertForSequenceClassification"]), "BertForSequenceClassification"),
        ] {
            let message = described(str::to_owned, key, value).unwrap_err().to_string();
            assert!(message.contains(said), "{key}: {message}");
        }
    }
}
