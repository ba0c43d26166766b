//! Gemma 4: norms around both blocks with weights stored as they are used; query, key and value heads normed, scores not
//! divided by anything; windows on most layers, full ones with wider heads, of which only the first pairs turn. By
//! configuration: values taken from the keys' projection on full layers; the last layers attending to what earlier ones
//! cached; a part of every token's own row given to each layer; experts beside the dense feed-forward.
//!
//! Checkpoints only. GGUF files keep which pairs turn in a tensor (`rope_freqs.weight`) instead of the header, and a
//! description is made from the header alone.

use super::base::{Base, Defaults, Rest};
use super::grouped::{Heads, Usual};
use super::keys::{GELU_TANH, Keys};
use super::layers::{self, FULL, Kind, SLIDING};
use super::place::{self, Places, Run};
use super::{Dialect, Family, Header, gemma};
use crate::error::{Error, Result};
use crate::spec::{
    Activation, Apart, Attention, Dense, FeedForward, Gating, KeyValues, LayerInputs, LayerNorms, LayerSpec,
    Mixer, MixtureOfExperts, ModelSpec, Need, Norm, Pairing, Role, Rope, RopeScaling, Scoring, SharedExpert,
    TokenBlock,
};

pub(super) const FAMILY: Family =
    Family { gguf: &[], hub: &["Gemma4ForConditionalGeneration", "Gemma4ForCausalLM"], describe, places };

/// `general.architecture` of the GGUF files that are not read.
pub(super) const GGUF: &str = "gemma4";

fn describe(header: &Header, architecture: &str) -> Result<ModelSpec> {
    let keys = &Keys::new(header, architecture);
    let base = Base::read(keys, Defaults { context: Some(131_072), epsilon: 1e-6, tied: true })?;
    // "vision" lets the parts of an image see each other; a text is read from left to right
    keys.one_of("use_bidirectional_attention", &[("vision", ())])?;
    let activation = keys.activation("hidden_activation", "gelu_pytorch_tanh", GELU_TANH)?;
    let network = Network {
        heads: heads(keys, &base)?,
        window: window(keys)?,
        joint: keys.flag("attention_k_eq_v")?.unwrap_or(false),
        bias: keys.flag("attention_bias")?.unwrap_or(false),
        wide: keys.flag("use_double_wide_mlp")?.unwrap_or(false),
        inner: keys.or_assume("intermediate_size", keys.count("intermediate_size")?, 9216),
        experts: experts(keys, &base, activation)?,
        norm: Norm::rms(base.epsilon),
        activation,
    };
    let inputs = layer_inputs(keys, &base)?;
    let mut ropes = Vec::new();
    let mut layers = Vec::new();
    for layer in 0..base.layers {
        layers.push(LayerSpec {
            mixer: Mixer::Attention(network.attention(keys, layer, &mut ropes)?),
            feed_forward: network.feed_forward(layer),
            norms: LayerNorms::around(network.norm),
            token_block: inputs.map(|inputs| TokenBlock {
                width: inputs.width,
                activation,
                norm: network.norm,
            }),
            output_scale: true,
        });
    }
    let rest = Rest {
        embedding_scale: (base.hidden as f32).sqrt(),
        layers,
        ropes: ropes.into_iter().map(|(_, rope)| rope).collect(),
        final_norm: network.norm,
        head_soft_cap: gemma::soft_cap(keys, "final_logit_softcapping", None)?,
        next_token: Vec::new(),
    };
    let mut spec = base.spec(keys, architecture, rest);
    spec.embedding.layer_inputs = inputs;
    Ok(spec)
}

/// What the layers are made from.
struct Network {
    heads: LayerHeads,
    window: usize,
    /// Full layers take values from the keys' projection.
    joint: bool,
    bias: bool,
    /// Layers that attend to earlier ones' keys and values are twice as wide inside.
    wide: bool,
    inner: usize,
    experts: Option<MixtureOfExperts>,
    norm: Norm,
    activation: Activation,
}

impl Network {
    fn attention(
        &self,
        keys: &Keys,
        layer: usize,
        ropes: &mut Vec<((Kind, usize), Rope)>,
    ) -> Result<Attention> {
        let LayerHeads { heads, kinds, kv_heads, widths, own } = &self.heads;
        let (kind, width) = (kinds[layer], widths[layer]);
        let key_values = if layer >= *own {
            KeyValues::OfLayer(self.heads.source(keys, layer)?)
        } else if self.joint && kind == Kind::Full {
            let values = format!("model.layers.{layer}.self_attn.v_proj.weight");
            if keys.has_hub(&values) {
                return Err(contradiction(keys, "attention_k_eq_v", true, &values));
            }
            KeyValues::Joint
        } else {
            KeyValues::Projected
        };
        let rope = match ropes.iter().position(|(of, _)| *of == (kind, width)) {
            Some(rope) => rope,
            None => {
                ropes.push(((kind, width), rope(keys, kind, width)?));
                ropes.len() - 1
            }
        };
        Ok(Attention {
            kv_heads: kv_heads[layer],
            key_dim: width,
            value_dim: width,
            scale: 1.0,
            rope: Some(rope),
            window: (kind == Kind::Sliding).then_some(self.window),
            qk_norm: Some(self.norm),
            value_norm: Some(Norm::bare(self.norm.epsilon)),
            key_values,
            qkv_bias: self.bias,
            output_bias: self.bias,
            ..heads.attention(layer)
        })
    }

    fn feed_forward(&self, layer: usize) -> FeedForward {
        let doubled = self.wide && layer >= self.heads.own;
        let inner = if doubled { self.inner.saturating_mul(2) } else { self.inner };
        match &self.experts {
            None => FeedForward::Dense(Dense { inner, activation: self.activation }),
            Some(experts) => {
                let shared = Some(SharedExpert { inner, gated: false });
                FeedForward::Experts(MixtureOfExperts { shared, ..experts.clone() })
            }
        }
    }
}

/// Kinds of layers, and their heads.
struct LayerHeads {
    heads: Heads,
    kinds: Vec<Kind>,
    kv_heads: Vec<usize>,
    widths: Vec<usize>,
    /// Layers with keys and values of their own; those after them have none.
    own: usize,
}

impl LayerHeads {
    /// The layer whose keys and values a layer without its own attends to: the last of its kind that has some.
    fn source(&self, keys: &Keys, layer: usize) -> Result<usize> {
        let kind = self.kinds[layer];
        self.kinds[..self.own].iter().rposition(|&earlier| earlier == kind).ok_or_else(|| {
            let what = format!(
                "leaves {} layers with keys and values of their own, and none of them is of layer {layer}'s kind",
                self.own
            );
            Error::metadata(keys.full("num_kv_shared_layers"), what)
        })
    }
}

fn heads(keys: &Keys, base: &Base) -> Result<LayerHeads> {
    let layers = base.layers;
    let mut kinds = match layers::named(keys, "layer_types", layers, &[FULL, SLIDING])? {
        Some(kinds) => kinds,
        None => {
            let interval = keys.or_assume("layer_types", None, 6); // one full layer in six
            layers::every(keys, "layer_types", interval, layers, Kind::Sliding)?
        }
    };
    if let Some(last) = kinds.last_mut().filter(|last| **last != Kind::Full) {
        *last = Kind::Full;
        keys.notice("the last layer sees everything, whatever `layer_types` says: the family has it so");
    }
    let shared = keys.count("num_kv_shared_layers")?.unwrap_or(0);
    let own = layers.checked_sub(shared).filter(|&own| own > 0).ok_or_else(|| {
        let what = format!("is {shared}, and there are {layers} layers, of which some must have their own");
        Error::metadata(keys.full("num_kv_shared_layers"), what)
    })?;
    let heads = Heads::read(keys, base, Usual { heads: Some((8, 4)), width: Some(256) })?;
    let (mut kv_heads, mut widths) = (heads.kv_heads.clone(), vec![heads.key_dim; layers]);
    if keys.under("per_layer_config").next().is_some() {
        override_layers(keys, &mut kv_heads, &mut widths)?;
    } else if kinds.contains(&Kind::Full) {
        let width = keys.or_assume("global_head_dim", keys.count("global_head_dim")?, 512);
        // said of networks with a joint projection only
        let joint = keys.flag("attention_k_eq_v")?.unwrap_or(false);
        let stated = keys.count("num_global_key_value_heads")?.filter(|_| joint);
        for layer in (0..layers).filter(|&layer| kinds[layer] == Kind::Full) {
            widths[layer] = width;
            kv_heads[layer] = stated.unwrap_or(kv_heads[layer]);
        }
    }
    Ok(LayerHeads { heads, kinds, kv_heads, widths, own })
}

/// `per_layer_config`: settings of single layers by their number.
fn override_layers(keys: &Keys, kv_heads: &mut [usize], widths: &mut [usize]) -> Result<()> {
    for setting in keys.under("per_layer_config") {
        let key = format!("per_layer_config.{setting}");
        let (number, name) = setting.split_once('.').unwrap_or((setting, ""));
        let layer = number.parse().ok().filter(|&layer: &usize| layer < widths.len());
        let Some(layer) = layer else {
            let what = format!("must be of a layer from 0 to {}", widths.len().saturating_sub(1));
            return Err(Error::metadata(keys.full(&key), what));
        };
        match name {
            "head_dim" => widths[layer] = keys.required(&key)?,
            "num_key_value_heads" => kv_heads[layer] = keys.required(&key)?,
            _ => {
                let what = "is a setting unknown here; known are head_dim, num_key_value_heads";
                return Err(Error::metadata(keys.full(&key), what));
            }
        }
    }
    Ok(())
}

fn window(keys: &Keys) -> Result<usize> {
    Ok(keys.or_assume("sliding_window", keys.count("sliding_window")?, 512))
}

/// The rotary table of a kind of layer, for heads this wide.
fn rope(keys: &Keys, kind: Kind, width: usize) -> Result<Rope> {
    let (name, usual_base) = match kind {
        Kind::Full => ("full_attention", 1_000_000.0),
        Kind::Sliding | Kind::Linear => ("sliding_attention", 10_000.0),
    };
    let group = format!("rope_parameters.{name}");
    let stated = keys.under("rope_parameters").next().is_some();
    if let Some(strange) = keys.under(&group).find(|setting| !ROPE_SETTINGS.contains(setting)) {
        let what = format!("is a rope setting unknown here; known are {}", ROPE_SETTINGS.join(", "));
        return Err(Error::metadata(keys.full(&format!("{group}.{strange}")), what));
    }
    let key = |setting: &str| format!("{group}.{setting}");
    let base = match stated {
        true => keys.required_float(&key("rope_theta"))?,
        false => keys.or_assume(&key("rope_theta"), None, usual_base),
    };
    let mut rope = Rope::plain(width, base, Pairing::Halves);
    let leading = match keys.one_of(&key("rope_type"), &[("default", false), ("proportional", true)])? {
        Some(leading) => leading,
        None => !stated && kind == Kind::Full,
    };
    let share = keys.float(&key("partial_rotary_factor"))?;
    if leading {
        let share = if stated {
            share.unwrap_or(1.0)
        } else {
            keys.or_assume(&key("partial_rotary_factor"), None, 0.25)
        };
        if !(share > 0.0 && share <= 1.0) {
            return Err(keys.refused(&key("partial_rotary_factor"), share, "more than 0, up to 1"));
        }
        let pairs = (share * width as f64 / 2.0) as usize;
        rope.scaling = RopeScaling::Leading { pairs, factor: keys.float(&key("factor"))?.unwrap_or(1.0) };
    }
    for (setting, value) in [("partial_rotary_factor", share), ("factor", keys.float(&key("factor"))?)] {
        if let Some(value) = value.filter(|&value| value != 1.0 && !leading) {
            return Err(keys.refused(&key(setting), value, "1, or rope_type proportional"));
        }
    }
    Ok(rope)
}

/// Settings of a rotary table whose meaning is known here.
const ROPE_SETTINGS: &[&str] = &["rope_type", "rope_theta", "partial_rotary_factor", "factor"];

/// What the layers get of every token, where the network has such a table.
fn layer_inputs(keys: &Keys, base: &Base) -> Result<Option<LayerInputs>> {
    let key = "hidden_size_per_layer_input";
    let width = match keys.is_null(key) {
        true => 0,
        false => keys.or_assume(key, keys.count(key)?, 256),
    };
    let table = "model.embed_tokens_per_layer.weight";
    if width == 0 {
        return if keys.has_hub(table) { Err(contradiction(keys, key, 0, table)) } else { Ok(None) };
    }
    let rows = keys.count("vocab_size_per_layer_input")?;
    Ok(Some(LayerInputs {
        rows: keys.or_assume("vocab_size_per_layer_input", rows, 262_144),
        width,
        table_scale: (width as f32).sqrt(),
        projection_scale: 1.0 / (base.hidden as f32).sqrt(),
        norm: Norm::rms(base.epsilon),
        scale: std::f32::consts::FRAC_1_SQRT_2,
    }))
}

/// Experts beside the dense feed-forward, which is theirs as the expert that every token uses.
fn experts(keys: &Keys, base: &Base, activation: Activation) -> Result<Option<MixtureOfExperts>> {
    if !keys.flag("enable_moe_block")?.unwrap_or(false) {
        let router = "model.layers.0.router.proj.weight";
        let there = keys.has_hub(router);
        return if there { Err(contradiction(keys, "enable_moe_block", false, router)) } else { Ok(None) };
    }
    let norm = Norm::rms(base.epsilon);
    Ok(Some(MixtureOfExperts {
        experts: keys.required("num_experts")?,
        used: keys.required("top_k_experts")?,
        inner: keys.required("moe_intermediate_size")?,
        activation,
        gating: Gating {
            scoring: Scoring::Softmax,
            router_bias: false,
            selection_bias: false,
            groups: None,
            normalise: true,
            expert_scale: true,
            scale: 1.0,
        },
        expert_bias: false,
        shared: None,
        apart: Some(Apart {
            router: norm,
            router_scale: 1.0 / (base.hidden as f32).sqrt(),
            before_routed: norm,
            after_routed: norm,
            after_shared: norm,
        }),
    }))
}

/// A setting that a tensor of the file belies.
fn contradiction(keys: &Keys, key: &str, value: impl std::fmt::Display, tensor: &str) -> Error {
    let what = format!("is {value}, but the file has `{tensor}`, which such a network does not have");
    Error::metadata(keys.full(key), what)
}

fn places(dialect: Dialect, spec: &ModelSpec, need: &Need) -> Places {
    let layer = format!("model.layers.{}", need.layer.unwrap_or_default());
    let name = match need.role {
        Role::MixerPostNorm => "post_attention_layernorm.weight",
        Role::FeedForwardNorm => "pre_feedforward_layernorm.weight",
        Role::SharedGate => "mlp.gate_proj.weight",
        Role::SharedUp => "mlp.up_proj.weight",
        Role::SharedDown => "mlp.down_proj.weight",
        Role::Router => "router.proj.weight",
        Role::ExpertDown => "experts.down_proj",
        Role::ExpertGate | Role::ExpertUp => {
            return vec![place::expert_halves(format!("{layer}.experts.gate_up_proj"), need)];
        }
        _ => return place::common(dialect, spec, need),
    };
    vec![vec![Run::whole(format!("{layer}.{name}"), need)]]
}
