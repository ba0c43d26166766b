//! Where a needed tensor's rows may lie in a file, as each family says it.

use super::{Dialect, names};
use crate::spec::{
    GatedDeltaNet, KeyUpLayout, LatentAttention, Mixer, ModelSpec, Need, Role, ValueHeadOrder,
};

/// Consecutive rows of a needed tensor, taken from one stored tensor. Outer dimensions of the stored tensor are
/// flattened to rows; rows of a vector (or of experts' biases) are single numbers.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// The stored tensor.
    pub(super) name: String,
    /// The shape it must have, dimensions of 1 aside. MXFP4 pairs: the shape of the numbers, not of their bytes.
    pub(super) shape: Vec<usize>,
    /// First row taken.
    pub(super) first: usize,
    /// Rows taken.
    pub(super) rows: usize,
    /// Distance between two.
    pub(super) stride: usize,
}

impl Run {
    /// The whole of a stored tensor.
    pub(super) fn whole(name: impl Into<String>, need: &Need) -> Run {
        Run { name: name.into(), shape: need.shape.clone(), first: 0, rows: need.rows(), stride: 1 }
    }

    /// Rows `first .. first + rows` of a tensor of this shape.
    pub(super) fn rows(name: impl Into<String>, shape: &[usize], first: usize, rows: usize) -> Run {
        Run { name: name.into(), shape: shape.to_vec(), first, rows, stride: 1 }
    }
}

/// Alternatives in order of preference, each the runs that make up the tensor.
pub(super) type Places = Vec<Vec<Run>>;

/// Where most families keep a tensor: whole, under the common name.
pub(super) fn usual(dialect: Dialect, need: &Need) -> Places {
    let name = match dialect {
        Dialect::Gguf => names::gguf(need.role, need.layer),
        Dialect::Hub => names::hub(need.role, need.layer),
    };
    vec![vec![Run::whole(name, need)]]
}

/// Rows of GGUF's `attn_qkv`, which holds query, key and value one after the other. `rows` are theirs.
pub(super) fn fused_qkv(need: &Need, hidden: usize, rows: [usize; 3]) -> Option<Vec<Run>> {
    let [queries, keys, values] = rows;
    let (first, suffix) = match need.role {
        Role::Query => (0, "weight"),
        Role::Key => (queries, "weight"),
        Role::Value => (queries + keys, "weight"),
        Role::QueryBias => (0, "bias"),
        Role::KeyBias => (queries, "bias"),
        Role::ValueBias => (queries + keys, "bias"),
        _ => return None,
    };
    let all = queries + keys + values;
    let shape: &[usize] = if suffix == "weight" { &[all, hidden] } else { &[all] };
    Some(vec![Run::rows(names::gguf_fused_qkv(need.layer?, suffix), shape, first, need.rows())])
}

/// Where a needed tensor lies in the layouts that families share: whole; rows of a fused one; one tensor per expert.
pub(super) fn common(dialect: Dialect, spec: &ModelSpec, need: &Need) -> Places {
    let mut places = Places::new();
    let layer = need.layer.and_then(|layer| spec.layer(layer));
    let mixer = layer.map(|layer| &layer.mixer);
    match (dialect, need.role, mixer) {
        (Dialect::Hub, Role::LatentKeyUp | Role::LatentValueUp, Some(Mixer::Latent(latent))) => {
            return vec![latent_up(names::hub(need.role, need.layer), need.role, latent)];
        }
        (Dialect::Gguf, Role::LatentKeyUp | Role::LatentValueUp, Some(Mixer::Latent(latent)))
            if latent.key_up == KeyUpLayout::Expanding =>
        {
            let name = format!("blk.{}.attn_kv_b.weight", need.layer.unwrap_or_default());
            return vec![latent_up(name, need.role, latent)];
        }
        // a file may leave a copy of the model's own norm out
        (_, Role::NextFinalNorm, _) => {
            let trunk = Need { role: Role::FinalNorm, layer: None, ..need.clone() };
            return [usual(dialect, need), usual(dialect, &trunk)].concat();
        }
        (Dialect::Hub, Role::Head, _) => {
            places.push(vec![Run::whole("language_model.lm_head.weight", need)]);
        }
        (Dialect::Hub, Role::ExpertGate | Role::ExpertUp | Role::ExpertDown, _) => {
            return hub_experts(need);
        }
        (Dialect::Gguf, Role::ExpertGate | Role::ExpertUp, _) => {
            places.extend(usual(dialect, need));
            let name = format!("blk.{}.ffn_gate_up_exps.weight", need.layer.unwrap_or_default());
            places.push(expert_halves(name, need));
            return places;
        }
        (_, _, Some(Mixer::DeltaNet(delta))) if delta.value_order == ValueHeadOrder::Grouped => {
            places.extend(delta_packed(dialect, need, spec.hidden, delta));
        }
        _ => {}
    }
    places.splice(0..0, usual(dialect, need));
    if let (Dialect::Gguf, Some(Mixer::Attention(attention))) = (dialect, mixer) {
        let queries = attention.heads * attention.key_dim * if attention.output_gate { 2 } else { 1 };
        let rows =
            [queries, attention.kv_heads * attention.key_dim, attention.kv_heads * attention.value_dim];
        places.extend(fused_qkv(need, spec.hidden, rows));
    }
    places
}

/// Rows of the joint projection from the latent, which holds per head the key's rows and then the value's.
fn latent_up(name: String, role: Role, latent: &LatentAttention) -> Vec<Run> {
    let LatentAttention { heads, nope_dim, value_dim, kv_rank, .. } = *latent;
    let both = nope_dim + value_dim;
    let (offset, rows) = if role == Role::LatentKeyUp { (0, nope_dim) } else { (nope_dim, value_dim) };
    let shape = [heads * both, kv_rank];
    (0..heads).map(|head| Run::rows(name.clone(), &shape, head * both + offset, rows)).collect()
}

/// Hub checkpoints keep experts one by one, or stacked with the gate's rows before the up rows.
fn hub_experts(need: &Need) -> Places {
    let (experts, shape) = match need.shape.split_first() {
        Some((&experts, shape)) => (experts, shape),
        None => return Places::new(),
    };
    let part = match need.role {
        Role::ExpertGate => "gate_proj",
        Role::ExpertUp => "up_proj",
        _ => "down_proj",
    };
    let layer = need.layer.unwrap_or_default();
    let one = |expert: usize| {
        let name = format!("model.layers.{layer}.mlp.experts.{expert}.{part}.weight");
        Run::rows(name, shape, 0, need.rows() / experts.max(1))
    };
    let stacked = names::hub(need.role, need.layer);
    let stacked = match need.role {
        Role::ExpertDown => vec![Run::whole(stacked, need)],
        _ => expert_halves(stacked, need),
    };
    vec![(0..experts).map(one).collect(), stacked]
}

/// Rows of a stack that holds per expert the gate's rows and then the up rows.
pub(super) fn expert_halves(name: String, need: &Need) -> Vec<Run> {
    let &[experts, inner, width] = &need.shape[..] else { return Vec::new() };
    let shape = [experts, 2 * inner, width];
    let offset = if need.role == Role::ExpertUp { inner } else { 0 };
    let run = |expert: usize| Run::rows(name.clone(), &shape, 2 * inner * expert + offset, inner);
    (0..experts).map(run).collect()
}

/// Rows of projections packed by key head: `[query | key | values | gates]`, and `[betas | alphas]`.
fn delta_packed(dialect: Dialect, need: &Need, hidden: usize, delta: &GatedDeltaNet) -> Places {
    let GatedDeltaNet { key_heads, key_dim, value_heads, value_dim, .. } = *delta;
    let layer = need.layer.unwrap_or_default();
    let (both, pairs) = match dialect {
        Dialect::Hub => (
            format!("model.layers.{layer}.linear_attn.in_proj_qkvz.weight"),
            format!("model.layers.{layer}.linear_attn.in_proj_ba.weight"),
        ),
        Dialect::Gguf => (format!("blk.{layer}.ssm_in.weight"), format!("blk.{layer}.ssm_ba.weight")),
    };
    let share = value_heads / key_heads.max(1); // value heads of a key head
    let values = share * value_dim;
    // parts of a key head's rows, in their order there, as (first, rows)
    let parts = |name: &str, per_head: usize, parts: &[(usize, usize)]| -> Vec<Run> {
        let shape = [key_heads * per_head, hidden];
        let runs = parts.iter().flat_map(|&(first, rows)| {
            (0..key_heads).map(move |head| Run::rows(name, &shape, head * per_head + first, rows))
        });
        runs.collect()
    };
    let wide = 2 * key_dim + 2 * values;
    let runs = match need.role {
        Role::DeltaQueryKeyValue => {
            parts(&both, wide, &[(0, key_dim), (key_dim, key_dim), (2 * key_dim, values)])
        }
        Role::DeltaGate => parts(&both, wide, &[(2 * key_dim + values, values)]),
        Role::DeltaBeta => parts(&pairs, 2 * share, &[(0, share)]),
        Role::DeltaAlpha => parts(&pairs, 2 * share, &[(share, share)]),
        _ => return Places::new(),
    };
    vec![runs]
}
