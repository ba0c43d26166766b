//! DeepSeek-V2, V2-Lite, V3, R1, V3.1 and V3.2 (and Kimi-K2, the same network): latent attention, dense blocks first and
//! experts with a shared one after; V3.2 selects positions with an indexer.
//!
//! With YaRN by a factor `f`, sine and cosine are multiplied by `g(mscale) / g(mscale_all_dim)` and scores by
//! `g(mscale_all_dim)^2`, where `g(m) = 0.1 m ln(f) + 1`. The norms of the low-rank rows have an epsilon of their own.

use super::base::{Base, Defaults, Rest};
use super::keys::{Keys, SILU};
use super::place::{self, Places, Run};
use super::rope::{self, Table, growth};
use super::{Dialect, Family, Header, layers};
use crate::error::{Error, Result};
use crate::spec::{
    Activation, Dense, ExpertGroups, FeedForward, Gating, GroupScore, KeyUpLayout, LatentAttention,
    LayerNorms, LayerSpec, Mixer, MixtureOfExperts, ModelSpec, Need, NextTokenBlock, Norm, NormKind, Pairing,
    Role, Rope, RopeScaling, Scoring, SharedExpert, SparseIndexer,
};

pub(super) const FAMILY: Family = Family {
    gguf: &["deepseek2", "deepseek32"],
    hub: &["DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM", "DeepseekV32ForCausalLM"],
    describe,
    places,
};

/// Epsilon of the norms inside latent attention, whatever the layers' is.
const RANK_EPSILON: f32 = 1e-6;

#[derive(Clone, Copy, PartialEq)]
enum Generation {
    /// Not said: GGUF files of V2 and V3 have one architecture.
    Either,
    Two,
    Three,
    ThreeTwo,
}

fn describe(header: &Header, architecture: &str) -> Result<ModelSpec> {
    let keys = &Keys::new(header, architecture);
    let generation = match architecture {
        "deepseek2" => Generation::Either,
        "DeepseekV2ForCausalLM" => Generation::Two,
        "DeepseekV3ForCausalLM" => Generation::Three,
        _ => Generation::ThreeTwo,
    };
    let base = Base::read(keys, Defaults { context: None, epsilon: 1e-6, tied: false })?;
    let mut latent = match keys.dialect {
        Dialect::Gguf => gguf_latent(keys)?,
        Dialect::Hub => hub_latent(keys)?,
    };
    let (rope, scale) = turned(keys, &latent, base.context)?;
    latent.scale = scale;
    let mut ropes = vec![rope];
    if generation == Generation::ThreeTwo {
        ropes.push(Rope { pairing: Pairing::Halves, ..ropes[0].clone() });
        latent.indexer = Some(indexer(keys)?);
    }
    let blocks = match keys.dialect {
        Dialect::Gguf => gguf_blocks(keys, generation, &base)?,
        Dialect::Hub => hub_blocks(keys, generation, base.layers)?,
    };
    let norm = Norm::rms(base.epsilon);
    let layer = |feed_forward: FeedForward| LayerSpec {
        mixer: Mixer::Latent(latent.clone()),
        feed_forward,
        norms: LayerNorms::before(norm),
        token_block: None,
        output_scale: false,
    };
    let layers: Vec<LayerSpec> = blocks.into_iter().map(layer).collect();
    let further = further_blocks(keys, &base)?;
    let next_token = layers.last().map(|last| NextTokenBlock { layer: last.clone(), norm });
    let rest = Rest {
        embedding_scale: 1.0,
        next_token: next_token.into_iter().cycle().take(further).collect(),
        layers,
        ropes,
        final_norm: norm,
        head_soft_cap: None,
    };
    Ok(base.spec(keys, architecture, rest))
}

/// Blocks that predict further tokens, as far as they are in the file.
fn further_blocks(keys: &Keys, base: &Base) -> Result<usize> {
    if keys.dialect == Dialect::Gguf {
        return Ok(base.next_token);
    }
    let stated = match keys.count("num_nextn_predict_layers")? {
        Some(stated) => stated,
        None => keys.count("num_mtp_layers")?.unwrap_or(0),
    };
    let there = |block: &usize| keys.has_hub(&format!("model.layers.{}.eh_proj.weight", base.layers + block));
    Ok((0..stated.min(base.layers)).take_while(there).count())
}

fn gguf_latent(keys: &Keys) -> Result<LatentAttention> {
    if let Some(scale) = keys.float("attention.temperature_scale")?.filter(|&scale| scale != 0.0) {
        return Err(keys.refused("attention.temperature_scale", scale, "no temperature by position"));
    }
    let rope_dim = keys.required("rope.dimension_count")?;
    // older files describe attention as it is after expansion, newer ones keep these widths under names of their own
    let own_widths = keys.get("attention.key_length_mla").is_some();
    let (key, value) = match own_widths {
        true => ("attention.key_length_mla", "attention.value_length_mla"),
        false => ("attention.key_length", "attention.value_length"),
    };
    let width = keys.required(key)?;
    let nope_dim = width.checked_sub(rope_dim).filter(|&dim| dim > 0).ok_or_else(|| {
        let what = format!("is {width}, which leaves nothing beside {rope_dim} turned values");
        Error::metadata(keys.full(key), what)
    })?;
    let direct = keys.has("blk.0.attn_q.weight"); // the lite models
    let rank = keys.count("attention.q_lora_rank")?.filter(|&rank| rank > 0 && !direct);
    if rank.is_none() && !direct {
        let what = "is missing, and so is `blk.0.attn_q.weight`, which stands for it in the lite models";
        return Err(Error::metadata(keys.full("attention.q_lora_rank"), what));
    }
    Ok(LatentAttention {
        heads: keys.required("attention.head_count")?,
        query_rank: rank,
        kv_rank: keys.required("attention.kv_lora_rank")?,
        nope_dim,
        rope_dim,
        value_dim: keys.required(value)?,
        scale: 1.0,
        rope: 0,
        rank_norm: Norm::rms(RANK_EPSILON),
        key_up: match keys.has("blk.0.attn_k_b.weight") {
            true => KeyUpLayout::Absorbing,
            false => KeyUpLayout::Expanding,
        },
        indexer: None,
    })
}

fn hub_latent(keys: &Keys) -> Result<LatentAttention> {
    keys.must_be("attention_bias", false)?;
    keys.must_be("mlp_bias", false)?;
    keys.activation("hidden_act", "silu", SILU)?;
    let heads = keys.required("num_attention_heads")?;
    if let Some(other) = keys.count("num_key_value_heads")?.filter(|&other| other != heads) {
        return Err(keys.refused("num_key_value_heads", other, &format!("{heads}, one for every head")));
    }
    let (nope_dim, rope_dim) = (keys.required("qk_nope_head_dim")?, keys.required("qk_rope_head_dim")?);
    let sum = nope_dim.saturating_add(rope_dim);
    if let Some(other) = keys.count("qk_head_dim")?.filter(|&other| other != sum) {
        let what = format!("is {other}, but qk_nope_head_dim and qk_rope_head_dim add up to {sum}");
        return Err(Error::metadata(keys.full("qk_head_dim"), what));
    }
    let query_rank = keys.count("q_lora_rank")?;
    if query_rank.is_none() && !keys.is_null("q_lora_rank") {
        return Err(Error::metadata(keys.full("q_lora_rank"), "is missing; it must be a number or null"));
    }
    Ok(LatentAttention {
        heads,
        query_rank,
        kv_rank: keys.required("kv_lora_rank")?,
        nope_dim,
        rope_dim,
        value_dim: keys.required("v_head_dim")?,
        scale: 1.0,
        rope: 0,
        rank_norm: Norm::rms(RANK_EPSILON),
        key_up: KeyUpLayout::Expanding,
        indexer: None,
    })
}

/// The rotary table, and what scores are multiplied by.
fn turned(keys: &Keys, latent: &LatentAttention, context: usize) -> Result<(Rope, f32)> {
    let width = latent.nope_dim.saturating_add(latent.rope_dim) as f64;
    let neighbours = keys.dialect == Dialect::Gguf || keys.flag("rope_interleave")?.unwrap_or(true);
    let table = Table {
        pairing: if neighbours { Pairing::Neighbours } else { Pairing::Halves },
        ..Table::usual(keys.dialect, latent.rope_dim, context, 10_000.0)
    };
    if keys.dialect == Dialect::Hub
        && let Some(share) = keys.float("partial_rotary_factor")?.filter(|&share| share != 1.0)
    {
        return Err(keys.refused("partial_rotary_factor", share, "1"));
    }
    let rope::Read { mut rope, mut scale_all } = rope::read(keys, &table)?;
    if let (Dialect::Gguf, RopeScaling::Yarn(yarn)) = (keys.dialect, &rope.scaling) {
        let key = "rope.scaling.attn_factor";
        if let Some(other) = keys.float(key)?.filter(|&other| other != 1.0) {
            return Err(keys.refused(key, other, "1"));
        }
        let stated = keys.float("rope.scaling.yarn_log_multiplier")?;
        match stated {
            // the file holds mscale_all_dim only, which equals mscale in every released model
            Some(_) => rope.magnitude = 1.0,
            None => {
                rope.magnitude = growth(yarn.factor, 1.0) as f32;
                keys.notice(
                    "the file does not say how YaRN changes the attention's scale (yarn_log_multiplier); the scale is \
                     left as it is",
                );
            }
        }
        scale_all = stated.map(|stated| stated / 0.1).filter(|&m| m != 0.0);
    }
    let factor = match &rope.scaling {
        RopeScaling::Yarn(yarn) => yarn.factor,
        RopeScaling::Linear { factor } | RopeScaling::Leading { factor, .. } => *factor,
        RopeScaling::None | RopeScaling::Divisors(_) => 1.0,
    };
    let grown = scale_all.map_or(1.0, |all| growth(factor, all));
    Ok((rope, (grown * grown / width.sqrt()) as f32))
}

fn indexer(keys: &Keys) -> Result<SparseIndexer> {
    keys.must_be("indexer_rope_interleave", false)?;
    let [heads, head_dim, top_k] = match keys.dialect {
        Dialect::Gguf => {
            ["attention.indexer.head_count", "attention.indexer.key_length", "attention.indexer.top_k"]
        }
        Dialect::Hub => ["index_n_heads", "index_head_dim", "index_topk"],
    };
    let key_norm = Norm { kind: NormKind::Layer, epsilon: 1e-6, weight_offset: 0.0 };
    Ok(SparseIndexer {
        heads: keys.required(heads)?,
        head_dim: keys.required(head_dim)?,
        top_k: keys.required(top_k)?,
        rope: 1,
        key_norm,
    })
}

fn dense(inner: usize) -> FeedForward {
    FeedForward::Dense(Dense { inner, activation: Activation::Silu })
}

/// Layers, experts, experts used and scoring of a published model whose GGUF files may have been written before there
/// were keys for its groups, and then groups and groups used.
struct Published(usize, usize, usize, Scoring, usize, usize);

const PUBLISHED: [Published; 2] = [
    Published(61, 256, 8, Scoring::Sigmoid, 8, 4), // V3, R1, V3.1
    Published(60, 160, 6, Scoring::Softmax, 8, 3), // V2, V2.5
];

fn gguf_blocks(keys: &Keys, generation: Generation, base: &Base) -> Result<Vec<FeedForward>> {
    let leading = keys.count("leading_dense_block_count")?.unwrap_or(0);
    let experts = keys.count("expert_count")?.unwrap_or(0);
    let widths = keys.per_layer("feed_forward_length", base.layers)?;
    let width = |layer: usize| {
        let widths = keys.outer().required(&keys.full("feed_forward_length"), widths.as_ref())?;
        Ok(dense(widths[layer]))
    };
    if experts == 0 {
        return (0..base.layers).map(width).collect();
    }
    let selection_bias = keys.has(&format!("blk.{leading}.exp_probs_b.bias"));
    let key = "expert_gating_func";
    let scoring = match keys.count(key)? {
        Some(2) => Scoring::Sigmoid,
        Some(0 | 1) | None if selection_bias => {
            let what = "must be 2 (sigmoid), as there are selection biases (`exp_probs_b`)";
            return Err(Error::metadata(keys.full(key), what));
        }
        None if generation == Generation::ThreeTwo => {
            return Err(Error::metadata(keys.full(key), "is missing; the file cannot be used without it"));
        }
        Some(0 | 1) | None => Scoring::Softmax,
        Some(other) => return Err(keys.refused(key, other, "1 (softmax), 2 (sigmoid)")),
    };
    let used = keys.required("expert_used_count")?;
    let score = match scoring {
        Scoring::Sigmoid => GroupScore::TwoBest,
        _ => GroupScore::Best,
    };
    let groups = match keys.count("expert_group_count")? {
        Some(0 | 1) => None,
        Some(count) => Some(ExpertGroups { count, used: keys.required("expert_group_used_count")?, score }),
        None => {
            let shape = (base.layers, experts, used, scoring);
            let published = PUBLISHED.iter().find(|known| (known.0, known.1, known.2, known.3) == shape);
            published.map(|&Published(.., count, used)| {
                keys.notice(format!(
                    "the file does not say that experts are chosen within groups; {used} of {count} groups are taken, as \
                     in the published model of this shape"
                ));
                ExpertGroups { count, used, score }
            })
        }
    };
    let inner = keys.required("expert_feed_forward_length")?;
    let shared = keys.count("expert_shared_count")?.filter(|&count| count > 0);
    if shared.is_none() && keys.has(&format!("blk.{leading}.ffn_gate_shexp.weight")) {
        let what = "is missing or 0, but the file has shared experts (`ffn_gate_shexp`)";
        return Err(Error::metadata(keys.full("expert_shared_count"), what));
    }
    let scale = keys.float("expert_weights_scale")?.filter(|&scale| scale != 0.0).unwrap_or(1.0);
    let moe = FeedForward::Experts(MixtureOfExperts {
        experts,
        used,
        inner,
        activation: Activation::Silu,
        gating: Gating {
            scoring,
            router_bias: false,
            selection_bias,
            groups,
            expert_scale: false,
            normalise: keys.flag("expert_weights_norm")?.unwrap_or(false),
            scale: scale as f32,
        },
        expert_bias: false,
        shared: shared.map(|count| SharedExpert { inner: inner.saturating_mul(count), gated: false }),
        apart: None,
    });
    (0..base.layers).map(|layer| if layer < leading { width(layer) } else { Ok(moe.clone()) }).collect()
}

fn hub_blocks(keys: &Keys, generation: Generation, layers: usize) -> Result<Vec<FeedForward>> {
    let two = generation == Generation::Two;
    if let Some(other) = keys.count("moe_layer_freq")?.filter(|&other| other != 1) {
        return Err(keys.refused("moe_layer_freq", other, "1"));
    }
    if generation == Generation::ThreeTwo {
        layers::named(keys, "layer_types", layers, &[("indexed_attention", ())])?;
    } else {
        layers::named(keys, "layer_types", layers, &[layers::FULL])?;
    }
    let sparse = match layers::named(keys, "mlp_layer_types", layers, &[("dense", false), ("sparse", true)])?
    {
        Some(sparse) => sparse,
        None => {
            let usual = if two { 0 } else { 3 };
            let first = keys.or_assume("first_k_dense_replace", keys.count("first_k_dense_replace")?, usual);
            (0..layers).map(|layer| layer >= first).collect()
        }
    };
    let moe = if sparse.contains(&true) { Some(hub_experts(keys, two)?) } else { None };
    let block = |sparse: bool| match &moe {
        Some(moe) if sparse => Ok(FeedForward::Experts(moe.clone())),
        _ => keys.required("intermediate_size").map(dense),
    };
    sparse.into_iter().map(block).collect()
}

fn hub_experts(keys: &Keys, two: bool) -> Result<MixtureOfExperts> {
    #[derive(Clone, Copy, PartialEq)]
    enum Method {
        Biased,
        Greedy,
        GroupLimited,
    }
    let aliases = ["n_routed_experts", "num_local_experts", "num_experts"];
    let name = aliases.into_iter().find(|name| keys.get(name).is_some()).unwrap_or(aliases[0]);
    let method = match two {
        true => {
            let known = [("greedy", Method::Greedy), ("group_limited_greedy", Method::GroupLimited)];
            keys.one_of("scoring_func", &[("softmax", ())])?;
            keys.must_be("norm_topk_prob", false)?;
            let method = keys.one_of("topk_method", &known)?;
            if method.is_none() {
                keys.or_assume("topk_method", None, "greedy");
            }
            method.unwrap_or(Method::Greedy)
        }
        false => {
            keys.one_of("scoring_func", &[("sigmoid", ())])?;
            keys.one_of("topk_method", &[("noaux_tc", ())])?;
            Method::Biased
        }
    };
    let groups = match method {
        Method::Greedy => None,
        Method::GroupLimited => Some(ExpertGroups {
            count: keys.required("n_group")?,
            used: keys.required("topk_group")?,
            score: GroupScore::Best,
        }),
        Method::Biased => Some(ExpertGroups {
            count: keys.or_assume("n_group", keys.count("n_group")?, 8),
            used: keys.or_assume("topk_group", keys.count("topk_group")?, 4),
            score: GroupScore::TwoBest,
        }),
    };
    let inner = keys.required("moe_intermediate_size")?;
    let usual = if two { 1.0 } else { 2.5 };
    let shared = match keys.is_null("n_shared_experts") {
        true => 0,
        false => keys.or_assume("n_shared_experts", keys.count("n_shared_experts")?, if two { 2 } else { 1 }),
    };
    Ok(MixtureOfExperts {
        experts: keys.required(name)?,
        used: keys.required("num_experts_per_tok")?,
        inner,
        activation: Activation::Silu,
        gating: Gating {
            scoring: if two { Scoring::Softmax } else { Scoring::Sigmoid },
            router_bias: false,
            selection_bias: !two,
            groups: groups.filter(|groups| groups.count != 1),
            expert_scale: false,
            normalise: if two {
                false
            } else {
                keys.or_assume("norm_topk_prob", keys.flag("norm_topk_prob")?, true)
            },
            scale: keys.or_assume("routed_scaling_factor", keys.float("routed_scaling_factor")?, usual)
                as f32,
        },
        expert_bias: false,
        shared: (shared > 0).then(|| SharedExpert { inner: inner.saturating_mul(shared), gated: false }),
        apart: None,
    })
}

fn places(dialect: Dialect, spec: &ModelSpec, need: &Need) -> Places {
    let name = match (dialect, need.role) {
        (Dialect::Hub, Role::SharedGate) => "gate_proj",
        (Dialect::Hub, Role::SharedUp) => "up_proj",
        (Dialect::Hub, Role::SharedDown) => "down_proj",
        _ => return place::common(dialect, spec, need),
    };
    let layer = need.layer.unwrap_or_default();
    vec![vec![Run::whole(format!("model.layers.{layer}.mlp.shared_experts.{name}.weight"), need)]]
}
