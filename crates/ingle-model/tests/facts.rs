//! The counting in `ModelSpec` against independently recomputed totals of published models
//! (`fixtures/models.toml`: parameters, active parameters, KV bytes per token).

use ingle_model::spec::*;
use toml::Value;

/// Total, active and KV figures are rounded to the digits the table prints.
const BILLIONTHS: f64 = 0.0006;

#[test]
fn parameters_and_kv_bytes_equal_the_recomputed_totals() {
    let text = include_str!("fixtures/models.toml");
    let facts: toml::Table = toml::from_str(text).unwrap();
    let mut checked = 0;
    for row in facts["model"].as_array().unwrap() {
        let id = row["id"].as_str().unwrap();
        let Some(total) = number(row, "params_total_recomputed_b") else { continue };
        let spec = network(row);
        let omitted = spec.needs().iter().filter(|need| left_out(need)).map(Need::elements).sum::<u64>();
        let billions = |count: u64| (count - omitted) as f64 / 1e9;
        assert_close(id, "parameters", billions(spec.parameters()), total);
        let active = number(row, "params_active_recomputed_b").unwrap();
        assert_close(
            id,
            "active parameters",
            spec.active_parameters() as f64 / 1e9 - omitted_active(&spec),
            active,
        );

        // the table counts 16-bit caches, 8-bit indexer keys, and leaves the recurrent state out
        let bytes = KvBytes { values: 2.0, row: 0.0, latent: 2.0, indexer: 1.0, state: 0.0 };
        let full = number(row, "kv_bytes_full").unwrap();
        let window = number(row, "kv_bytes_window").unwrap();
        let one = spec.kv_bytes(1, bytes);
        assert_eq!(one, full + window, "{id}: KV bytes of the first token");
        let long = 1_000_000;
        let sliding = number(row, "sliding_window").unwrap_or(0.0);
        assert_eq!(
            spec.kv_bytes(long, bytes),
            full * long as f64 + window * sliding,
            "{id}: KV bytes at {long}"
        );
        checked += 1;
    }
    assert_eq!(checked, 51, "rows with recomputed totals");
}

#[test]
fn a_decode_step_reads_every_active_weight_once_and_does_two_operations_with_each() {
    let text = include_str!("fixtures/models.toml");
    let facts: toml::Table = toml::from_str(text).unwrap();
    let rows = facts["model"].as_array().unwrap();
    let row = |id: &str| rows.iter().find(|row| row["id"].as_str() == Some(id)).unwrap();

    let dense = network(row("Qwen3-0.6B"));
    let cost = dense.step_cost(&Load::decode(0), KvBytes::F16);
    let one_row = dense.hidden as f64 * 2.0;
    assert_eq!(
        cost.weight_bytes,
        dense.parameters() as f64 * 2.0 + one_row,
        "tied: head once, one row looked up"
    );
    let attention = 2.0 * 28.0 * 16.0 * 256.0;
    assert_eq!(cost.operations, dense.parameters() as f64 * 2.0 + attention);
    assert_eq!(cost.kv_bytes, 0.0);
    let deep = dense.step_cost(&Load::decode(1000), KvBytes::F16);
    assert_eq!(deep.kv_bytes, 114_688.0 * 1000.0);

    let moe = network(row("Qwen3-30B-A3B"));
    let one = moe.step_cost(&Load::decode(0), KvBytes::F16).weight_bytes;
    let embedding = (moe.vocabulary * moe.hidden) as f64 * 2.0;
    let expected = moe.active_parameters() as f64 * 2.0 - embedding + moe.hidden as f64 * 2.0;
    assert!((one / expected - 1.0).abs() < 1e-9, "{one} against {expected}");
    let many = Load { tokens: 512, logits: 1, sequences: 1, context: 0 };
    let all = moe.step_cost(&many, KvBytes::F16).weight_bytes;
    assert!(all > 0.99 * (moe.parameters() as f64 * 2.0 - embedding), "512 tokens touch nearly every expert");
}

#[test]
fn exact_counts_of_models_whose_publisher_states_them() {
    let text = include_str!("fixtures/models.toml");
    let facts: toml::Table = toml::from_str(text).unwrap();
    let rows = facts["model"].as_array().unwrap();
    for (id, parameters) in [
        ("Qwen2.5-0.5B", 494_032_768),
        ("Qwen3-0.6B", 596_049_920),
        ("Qwen3-4B", 4_022_468_096),
        ("Gemma-3-1B", 999_885_952),
        ("Llama-2-7B", 6_738_415_616),
        ("Llama-3.1-8B", 8_030_261_248),
        ("gpt-oss-20b", 20_914_757_184),
        ("DeepSeek-V3", 671_026_419_200),
    ] {
        let row = rows.iter().find(|row| row["id"].as_str() == Some(id)).unwrap();
        assert_eq!(network(row).parameters(), parameters, "{id}");
    }
}

/// Of these the table has no recomputed totals, only the published ones, to a tenth of a billion: all parameters, and those
/// without the tables that are only looked into. Both count towers for images and sound, about half a billion in each
/// of the two models, and the unused projections of layers without keys and values of their own.
#[test]
fn layers_inputs_and_layers_without_keys_and_values_are_counted() {
    let text = include_str!("fixtures/models.toml");
    let facts: toml::Table = toml::from_str(text).unwrap();
    let rows = facts["model"].as_array().unwrap();
    for id in ["Gemma-4-E2B", "Gemma-4-E4B"] {
        let row = rows.iter().find(|row| row["id"].as_str() == Some(id)).unwrap();
        let spec = network(row);
        let total = number(row, "params_total_b").unwrap();
        let ours = spec.parameters() as f64 / 1e9;
        assert!((0.4..0.6).contains(&(total - ours)), "{id}: {ours} billion parameters, published {total}");
        let embedding = (spec.vocabulary * spec.hidden) as f64 / 1e9;
        let active = number(row, "params_active_b").unwrap();
        let ours = spec.active_parameters() as f64 / 1e9 - embedding;
        assert!(
            (0.4..0.6).contains(&(active - ours)),
            "{id}: {ours} billion active parameters, published {active}"
        );

        let (full, window) = (number(row, "kv_bytes_full").unwrap(), number(row, "kv_bytes_window").unwrap());
        assert_eq!(spec.kv_bytes(1, KvBytes::F16), full + window, "{id}");
        assert_eq!(spec.kv_bytes(100_000, KvBytes::F16), full * 1e5 + window * 512.0, "{id}");
        // layers that cache nothing read all the same
        let read = spec.step_cost(&Load::decode(100), KvBytes::F16).kv_bytes;
        assert!(read > 100.0 * (full + window), "{id}: {read}");
        let one = spec.step_cost(&Load::decode(0), KvBytes::F16).weight_bytes;
        let all = spec.parameters() as f64 * 2.0;
        let table = (262_144 * spec.layers.len() * 256) as f64 * 2.0;
        let looked_up = (spec.hidden + spec.layers.len() * 256) as f64 * 2.0;
        assert_eq!(one, all - table + looked_up, "{id}");
    }
}

/// The table counts matrices only, and without DeepSeek-V3.2's indexer.
fn left_out(need: &Need) -> bool {
    let name = format!("{:?}", need.role);
    need.shape.len() == 1 || name.starts_with("Index") || name.ends_with("Bias")
}

/// Active share, in billions, of what the table leaves out.
fn omitted_active(spec: &ModelSpec) -> f64 {
    let needs = spec.needs();
    let omitted = needs.iter().filter(|need| left_out(need));
    let active = omitted.map(|need| match need.layer.map(|layer| &spec.layers[layer].feed_forward) {
        Some(FeedForward::Experts(moe)) if need.role.is_routed_expert() => {
            need.elements() as f64 * moe.used as f64 / moe.experts as f64
        }
        _ => need.elements() as f64,
    });
    active.sum::<f64>() / 1e9
}

fn assert_close(id: &str, what: &str, ours: f64, table: f64) {
    assert!((ours - table).abs() < BILLIONTHS, "{id}: {what} {ours:.4}, the table says {table:.4}");
}

fn number(row: &Value, key: &str) -> Option<f64> {
    row.get(key)?.as_float().or(row.get(key)?.as_integer().map(|integer| integer as f64))
}

fn count(row: &Value, key: &str) -> usize {
    row.get(key).and_then(Value::as_integer).unwrap_or_else(|| panic!("{key} in {row:?}")) as usize
}

/// The network of a row of the table: what the row says, and of the family what the row leaves out.
fn network(row: &Value) -> ModelSpec {
    let id = row["id"].as_str().unwrap();
    let family = row["family"].as_str().unwrap();
    let gemma = family == "gemma";
    let norm = Norm::rms(1e-6);
    let hidden = count(row, "hidden");
    let inputs = of_tokens(id, norm);
    let layers = (0..count(row, "layers")).map(|layer| LayerSpec {
        mixer: mixer(row, id, family, layer, norm),
        feed_forward: feed_forward(row, family, layer),
        norms: if gemma { LayerNorms::around(norm) } else { LayerNorms::before(norm) },
        token_block: inputs.map(|(_, block)| block),
        output_scale: id.starts_with("Gemma-4"),
    });
    ModelSpec {
        architecture: family.into(),
        name: Some(id.into()),
        hidden,
        vocabulary: count(row, "vocab"),
        context: count(row, "context"),
        embedding: Embedding { layer_inputs: inputs.map(|(inputs, _)| inputs), ..Embedding::PLAIN },
        ropes: vec![Rope::plain(64, 1e4, Pairing::Halves)],
        layers: layers.collect(),
        final_norm: Some(norm),
        head: Some(Head { tied: row["tied_embeddings"].as_bool().unwrap(), bias: false, soft_cap: None }),
        pooling: None,
        next_token: vec![],
        next_token_tensors: vec![],
        notices: vec![],
        tensors: vec![],
        unused: vec![],
    }
}

fn mixer(row: &Value, id: &str, family: &str, layer: usize, norm: Norm) -> Mixer {
    let every = row.get("full_attention_every").and_then(Value::as_integer).unwrap_or(1) as usize;
    let full = layer % every == every - 1;
    if let Some(linear) = row.get("linear").filter(|_| !full) {
        return Mixer::DeltaNet(GatedDeltaNet {
            decay: DecayForm::LogRate,
            key_heads: count(linear, "num_key_heads"),
            key_dim: count(linear, "key_head_dim"),
            value_heads: count(linear, "num_value_heads"),
            value_dim: count(linear, "value_head_dim"),
            convolution: count(linear, "conv_kernel"),
            value_order: ValueHeadOrder::Grouped,
            output_norm: norm,
        });
    }
    let heads = count(row, "heads");
    if let Some(mla) = row.get("mla") {
        let indexer = row.get("dsa").map(|dsa| SparseIndexer {
            heads: count(dsa, "index_n_heads"),
            head_dim: count(dsa, "index_head_dim"),
            top_k: count(dsa, "index_topk"),
            rope: 0,
            key_norm: Norm { kind: NormKind::Layer, ..norm },
        });
        return Mixer::Latent(LatentAttention {
            key_up: KeyUpLayout::Expanding,
            heads,
            query_rank: Some(count(mla, "q_lora_rank")),
            kv_rank: count(mla, "kv_lora_rank"),
            nope_dim: count(mla, "qk_nope_head_dim"),
            rope_dim: count(mla, "qk_rope_head_dim"),
            value_dim: count(mla, "v_head_dim"),
            scale: 1.0,
            rope: 0,
            rank_norm: norm,
            indexer,
        });
    }
    // Gemma 4's full layers have heads of their own; without per-layer inputs, one projection for keys and values
    let fourth = id.starts_with("Gemma-4");
    let other = |key| row.get(key).and_then(Value::as_integer).filter(|_| full && fourth).map(|n| n as usize);
    let head_dim = other("global_head_dim").unwrap_or_else(|| count(row, "head_dim"));
    let key_values = match own_key_values(id, row) {
        Some(own) if layer >= own => {
            KeyValues::OfLayer((0..own).rfind(|earlier| (earlier % every == every - 1) == full).unwrap())
        }
        None if fourth && full => KeyValues::Joint,
        _ => KeyValues::Projected,
    };
    let window = row.get("sliding_window").and_then(Value::as_integer).filter(|_| !full);
    let hybrid = row.get("linear").is_some();
    let oss = family == "gpt-oss";
    Mixer::Attention(Attention {
        heads,
        kv_heads: other("global_kv_heads").unwrap_or_else(|| count(row, "kv_heads")),
        key_dim: head_dim,
        value_dim: head_dim,
        scale: 1.0,
        rope: Some(0),
        visibility: Visibility::Causal,
        window: window.map(|window| window as usize),
        qk_norm: (id.starts_with("Qwen3") || id.starts_with("Gemma-3") || fourth).then_some(norm),
        value_norm: fourth.then_some(Norm::bare(1e-6)),
        key_values,
        qkv_bias: id.starts_with("Qwen2") || oss,
        output_bias: oss,
        sinks: oss,
        soft_cap: None,
        output_gate: hybrid,
    })
}

fn feed_forward(row: &Value, family: &str, layer: usize) -> FeedForward {
    let leading = row.get("leading_dense_layers").and_then(Value::as_integer).unwrap_or(0) as usize;
    let (activation, norm) = (Activation::Silu, Norm::rms(1e-6));
    let Some(inner) = row.get("moe_ffn").filter(|_| layer >= leading) else {
        // of Gemma 4 the E2B doubles it where it has no keys and values of its own
        let id = row["id"].as_str().unwrap();
        let doubled = id == "Gemma-4-E2B" && own_key_values(id, row).is_some_and(|own| layer >= own);
        return FeedForward::Dense(Dense {
            inner: count(row, "ffn") * if doubled { 2 } else { 1 },
            activation,
        });
    };
    let inner = inner.as_integer().unwrap() as usize;
    let shared = row.get("experts_shared").map(|shared| {
        let gated = row.get("shared_ffn").is_some() && family != "gemma";
        let width = row.get("shared_ffn").and_then(Value::as_integer).map_or(inner, |width| width as usize);
        SharedExpert { inner: width * shared.as_integer().unwrap() as usize, gated }
    });
    let oss = family == "gpt-oss";
    FeedForward::Experts(MixtureOfExperts {
        experts: count(row, "experts"),
        used: count(row, "experts_active"),
        inner,
        activation,
        gating: Gating {
            scoring: Scoring::Softmax,
            router_bias: oss,
            selection_bias: leading > 0,
            groups: None,
            normalise: true,
            expert_scale: family == "gemma",
            scale: 1.0,
        },
        expert_bias: oss,
        shared,
        apart: (family == "gemma").then_some(Apart {
            router: norm,
            router_scale: 1.0,
            before_routed: norm,
            after_routed: norm,
            after_shared: norm,
        }),
    })
}

/// Layers of Gemma 4's small models that have keys and values of their own, as the table's notes say.
fn own_key_values(id: &str, row: &Value) -> Option<usize> {
    let without = match id {
        "Gemma-4-E2B" => 20,
        "Gemma-4-E4B" => 18,
        _ => return None,
    };
    assert!(row["note"].as_str().unwrap().contains(&format!("last {without} layers share KV")));
    Some(count(row, "layers") - without)
}

/// What Gemma 4's small models give each layer of a token.
fn of_tokens(id: &str, norm: Norm) -> Option<(LayerInputs, TokenBlock)> {
    if !["Gemma-4-E2B", "Gemma-4-E4B"].contains(&id) {
        return None;
    }
    let (rows, width) = (262_144, 256);
    let inputs = LayerInputs { rows, width, table_scale: 16.0, projection_scale: 1.0, norm, scale: 0.5 };
    Some((inputs, TokenBlock { width, activation: Activation::GeluTanh, norm }))
}
