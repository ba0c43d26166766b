//! A network in words and as JSON: layers that are alike are told once.

use crate::figures::grouped;
use ingle_model::spec::{
    Activation, Attention, FeedForward, Head, KeyValues, LatentAttention, LayerSpec, Mixer, ModelSpec,
    NormKind, Pairing, PlainActivation, PooledRow, Pooling, Rope, RopeScaling, Scoring, SparseIndexer,
    Visibility,
};
use serde_json::{Value, json};

/// Label and value of each line.
pub(super) fn lines(spec: &ModelSpec) -> Vec<(String, String)> {
    let mut lines = vec![
        ("width".to_owned(), grouped(spec.hidden as u64)),
        ("vocabulary".to_owned(), format!("{} rows", grouped(spec.vocabulary as u64))),
        ("context".to_owned(), format!("{} tokens", grouped(spec.context as u64))),
    ];
    for (layer, numbers) in alike(spec) {
        lines.push((format!("layers {}", ranges(&numbers)), mixer(&layer.mixer)));
        lines.push((String::new(), feed_forward(&layer.feed_forward)));
    }
    for (index, rope) in spec.ropes.iter().enumerate() {
        let used = if spec.ropes.len() > 1 { rope_users(spec, index) } else { String::new() };
        lines.push(("rope".to_owned(), rope_words(rope) + &used));
    }
    let layer_norm = || Some(spec.layers.first()?.norms.all().next()?.0);
    if let Some(norm) = spec.final_norm.or_else(layer_norm) {
        let kind = match norm.kind {
            NormKind::Rms => "RMS",
            NormKind::Layer => "layer",
            NormKind::Bare => "RMS without a weight",
        };
        lines.push(("norm".to_owned(), format!("{kind}, epsilon {:e}", norm.epsilon)));
    }
    let head = spec.head.map(head_words).unwrap_or_else(|| "none: it makes embeddings, not text".into());
    lines.push(("head".to_owned(), head));
    if let Some(pooling) = &spec.pooling {
        lines.push(("embeddings".to_owned(), pooling_words(pooling, spec.hidden)));
    }
    if spec.embedding.scale != 1.0 {
        lines.push(("embedding scale".to_owned(), spec.embedding.scale.to_string()));
    }
    if let Some(positions) = spec.embedding.positions {
        lines.push(("positions".to_owned(), format!("{} learned", grouped(positions as u64))));
    }
    if let Some(inputs) = spec.embedding.layer_inputs {
        let words =
            format!("{} values of {} tokens for each layer", inputs.width, grouped(inputs.rows as u64));
        lines.push(("layer inputs".to_owned(), words));
    }
    if !spec.next_token.is_empty() {
        let blocks = if spec.next_token.len() == 1 { "prediction block" } else { "prediction blocks" };
        let there =
            if spec.next_token_tensors.is_empty() { "not in these files" } else { "for `ingle serve --mtp`" };
        let words = format!("{} {blocks} (MTP), {there}", spec.next_token.len());
        lines.push(("further tokens".to_owned(), words));
    }
    lines
}

/// The network for programs.
pub(super) fn json(spec: &ModelSpec) -> Value {
    let layers = alike(spec).into_iter().map(|(layer, numbers)| {
        let mut group = json!({
            "layers": numbers, "mixer": mixer(&layer.mixer), "feed_forward": feed_forward(&layer.feed_forward),
        });
        if let Mixer::Attention(attention) = &layer.mixer {
            group["heads"] = json!(attention.heads);
            group["kv_heads"] = json!(attention.kv_heads);
            group["key_dim"] = json!(attention.key_dim);
            group["value_dim"] = json!(attention.value_dim);
            group["window"] = json!(attention.window);
        }
        match &layer.feed_forward {
            FeedForward::Dense(dense) => group["inner"] = json!(dense.inner),
            FeedForward::Plain(plain) => group["inner"] = json!(plain.inner),
            FeedForward::Experts(moe) => {
                group["inner"] = json!(moe.inner);
                group["experts"] = json!(moe.experts);
                group["experts_used"] = json!(moe.used);
                group["shared_inner"] = json!(moe.shared.map(|shared| shared.inner));
            }
        }
        group
    });
    let embeddings = spec.pooling.as_ref().map(|pooling| {
        json!({
            "width": pooling.width(spec.hidden), "row": row_word(pooling.row), "projections": pooling.projections,
            "normalised": pooling.normalise, "longest": pooling.longest,
        })
    });
    json!({
        "embeddings": embeddings, "head": spec.head.is_some(),
        "width": spec.hidden, "vocabulary": spec.vocabulary, "context": spec.context,
        "layers": spec.layers.len(), "groups": layers.collect::<Vec<_>>(),
        "rope": spec.ropes.iter().map(rope_words).collect::<Vec<_>>(), "tied_head": spec.head.is_some_and(|head| head.tied),
    })
}

fn head_words(head: Head) -> String {
    let mut words = vec![if head.tied { "the embedding (tied)" } else { "its own matrix" }.to_owned()];
    if head.bias {
        words.push("bias".into());
    }
    words.extend(head.soft_cap.map(|cap| format!("soft cap {cap}")));
    words.join(", ")
}

fn pooling_words(pooling: &Pooling, hidden: usize) -> String {
    let mut words =
        vec![format!("{} values", grouped(pooling.width(hidden) as u64)), row_word(pooling.row).into()];
    if !pooling.projections.is_empty() {
        let widths: Vec<String> = pooling.projections.iter().map(usize::to_string).collect();
        words.push(format!("projected to {}", widths.join(", then ")));
    }
    if pooling.normalise {
        words.push("normalised".into());
    }
    words.extend(
        pooling.longest.map(|longest| format!("texts of at most {} tokens", grouped(longest as u64))),
    );
    words.join(", ")
}

fn row_word(row: PooledRow) -> &'static str {
    match row {
        PooledRow::Mean => "the mean of all tokens",
        PooledRow::First => "the first token",
        PooledRow::Last => "the last token",
    }
}

/// Whom a rotary table serves, where there are several: layers, their indexers, or nobody (a network whose layers all have
/// a window still describes the rotation of layers without one).
fn rope_users(spec: &ModelSpec, index: usize) -> String {
    let numbers = |serves: &dyn Fn(&Mixer) -> bool| -> Vec<usize> {
        let served = spec.layers.iter().enumerate().filter(|(_, layer)| serves(&layer.mixer));
        served.map(|(number, _)| number).collect()
    };
    let layers = numbers(&|mixer| match mixer {
        Mixer::Attention(attention) => attention.rope == Some(index),
        Mixer::Latent(latent) => latent.rope == index,
        Mixer::DeltaNet(_) => false,
    });
    let indexers = numbers(&|mixer| match mixer {
        Mixer::Latent(latent) => latent.indexer.as_ref().is_some_and(|indexer| indexer.rope == index),
        Mixer::Attention(_) | Mixer::DeltaNet(_) => false,
    });
    match (layers.is_empty(), indexers.is_empty()) {
        (false, _) => format!(", for layers {}", ranges(&layers)),
        (true, false) => ", for the indexer".into(),
        (true, true) => ", not used by any layer".into(),
    }
}

/// Layers that are the same, with their numbers, in order of first appearance.
fn alike(spec: &ModelSpec) -> Vec<(&LayerSpec, Vec<usize>)> {
    let mut groups: Vec<(&LayerSpec, Vec<usize>)> = Vec::new();
    for (number, layer) in spec.layers.iter().enumerate() {
        match groups.iter_mut().find(|(first, _)| *first == layer) {
            Some((_, numbers)) => numbers.push(number),
            None => groups.push((layer, vec![number])),
        }
    }
    groups
}

/// `0-2, 4, 6-9`.
fn ranges(numbers: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let words = ranges.iter().map(|&(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") });
    words.collect::<Vec<_>>().join(", ")
}

fn mixer(mixer: &Mixer) -> String {
    match mixer {
        Mixer::Attention(attention) => attention_words(attention),
        Mixer::Latent(latent) => latent_words(latent),
        Mixer::DeltaNet(delta) => format!(
            "gated delta net, {} key heads of {}, {} value heads of {}, convolution over {}",
            delta.key_heads, delta.key_dim, delta.value_heads, delta.value_dim, delta.convolution
        ),
    }
}

fn latent_words(latent: &LatentAttention) -> String {
    let LatentAttention { heads, nope_dim, rope_dim, value_dim, kv_rank, .. } = latent;
    let mut words = format!(
        "latent attention, {heads} heads, {nope_dim}+{rope_dim}/{value_dim} wide, KV rank {kv_rank}, "
    );
    words += &latent.query_rank.map_or("full-rank queries".to_owned(), |rank| format!("query rank {rank}"));
    if let Some(indexer) = &latent.indexer {
        let SparseIndexer { heads, head_dim, top_k, .. } = indexer;
        words += &format!(
            ", sparse: the best {} positions by {heads} heads {head_dim} wide",
            grouped(*top_k as u64)
        );
    }
    words
}

fn attention_words(attention: &Attention) -> String {
    let Attention { heads, kv_heads, key_dim, value_dim, .. } = attention;
    let width = if key_dim == value_dim { key_dim.to_string() } else { format!("{key_dim}/{value_dim}") };
    let mut words = format!("attention, {heads} query heads, {kv_heads} KV heads, {width} wide");
    if attention.visibility == Visibility::Both {
        words += ", looking both ways";
    }
    if let Some(window) = attention.window {
        words += &format!(", window {window}");
    }
    let traits = [
        (attention.qk_norm.is_some(), "QK-norm"),
        (attention.value_norm.is_some(), "value norm"),
        (attention.qkv_bias, "QKV bias"),
        (attention.output_bias, "output bias"),
        (attention.sinks, "sinks"),
        (attention.output_gate, "output gate"),
        (attention.soft_cap.is_some(), "soft cap"),
        (attention.rope.is_none(), "no rope"),
    ];
    for (_, name) in traits.iter().filter(|(there, _)| *there) {
        words += &format!(", {name}");
    }
    match attention.key_values {
        KeyValues::Projected => {}
        KeyValues::Joint => words += ", values from the keys' projection",
        KeyValues::OfLayer(layer) => words += &format!(", keys and values of layer {layer}"),
    }
    words
}

fn feed_forward(block: &FeedForward) -> String {
    let activation = |activation: Activation| match activation {
        Activation::Silu => "SiLU",
        Activation::GeluTanh => "GELU",
        Activation::ClampedSwiglu { .. } => "clamped SwiGLU",
    };
    match block {
        FeedForward::Dense(dense) => format!(
            "dense feed-forward, {} wide, gated {}",
            grouped(dense.inner as u64),
            activation(dense.activation)
        ),
        FeedForward::Plain(plain) => {
            let activation = match plain.activation {
                PlainActivation::GeluErf => "GELU",
                PlainActivation::GeluTanh => "GELU (tanh form)",
                PlainActivation::Relu => "ReLU",
            };
            format!("feed-forward, {} wide, {activation}, not gated", grouped(plain.inner as u64))
        }
        FeedForward::Experts(moe) => {
            let groups =
                moe.gating.groups.map(|groups| format!(" from {} of {} groups", groups.used, groups.count));
            let scoring = match moe.gating.scoring {
                Scoring::Softmax => "softmax",
                Scoring::Sigmoid => "sigmoid",
                Scoring::SoftmaxOfSelected => "softmax of the chosen",
                Scoring::SqrtSoftplus => "square root of softplus",
            };
            let shared = moe.shared.map(|shared| {
                let gated = if shared.gated { "gated " } else { "" };
                let gated = if moe.apart.is_some() { "separate " } else { gated };
                format!(", {gated}shared expert {} wide", grouped(shared.inner as u64))
            });
            format!(
                "{} experts, {} per token{}, {} wide, gated {}, by {scoring}{}",
                moe.experts,
                moe.used,
                groups.unwrap_or_default(),
                grouped(moe.inner as u64),
                activation(moe.activation),
                shared.unwrap_or_default()
            )
        }
    }
}

fn rope_words(rope: &Rope) -> String {
    let scaling = match &rope.scaling {
        RopeScaling::None => String::new(),
        RopeScaling::Linear { factor } => format!(", linear scaling by {factor}"),
        RopeScaling::Yarn(yarn) => {
            format!(", YaRN scaling by {} from {} tokens", yarn.factor, yarn.original_context)
        }
        RopeScaling::Leading { pairs, factor } => {
            let slower = if *factor == 1.0 { String::new() } else { format!(", divided by {factor}") };
            format!(", the first {pairs} pairs of {} only{slower}", rope.dims / 2)
        }
        RopeScaling::Divisors(_) => ", scaled by stored divisors".into(),
    };
    let pairs = match rope.pairing {
        Pairing::Halves => "",
        Pairing::Neighbours => " in neighbouring pairs",
    };
    format!("{} values per head{pairs}, base {}{scaling}", rope.dims, rope.base)
}

#[cfg(test)]
mod tests {
    #[test]
    fn ranges_are_short() {
        assert_eq!(super::ranges(&[0, 1, 2, 4, 6, 7]), "0-2, 4, 6-7");
        assert_eq!(super::ranges(&[5]), "5");
    }
}
