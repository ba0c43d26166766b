//! A network, described completely and as data.
//!
//! A [`ModelSpec`] is built from a file's header alone, before any weight is read. Executors interpret it, the loader
//! places what it lists, the planner counts from it, `ingle show` prints it. No executor knows a family's name.

mod cost;
mod embedding;
mod feed_forward;
mod limit;
mod mixer;
mod next_token;
mod rope;
mod tensors;
mod unused;

pub use cost::{Cost, KvBytes, KvFormat, KvKind, KvSpec, Load, Part};
pub use embedding::{Embedding, LayerInputs, PooledRow, Pooling};
pub use feed_forward::{
    Activation, Apart, Dense, ExpertGroups, FeedForward, Gating, GroupScore, MixtureOfExperts, Plain,
    PlainActivation, Scoring, SharedExpert,
};
pub use limit::{Bound, LeastTime, Rates};
pub use mixer::{
    Attention, DecayForm, GatedDeltaNet, KeyUpLayout, KeyValues, LatentAttention, Mixer, SparseIndexer,
    ValueHeadOrder, Visibility,
};
pub use next_token::NextTokenBlock;
pub use rope::{AxisLayout, AxisSections, Pairing, Rope, RopeScaling, Yarn};
pub use tensors::{Encoding, Need, Piece, Role, TensorSpec};

/// A complete description of one network.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// The architecture as the file spells it (`qwen3`, `Qwen3ForCausalLM`).
    pub architecture: String,
    /// The model's own name, where the file gives one.
    pub name: Option<String>,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Rows of the embedding, which may exceed the tokenizer's vocabulary.
    pub vocabulary: usize,
    /// Context length the model was made for, in tokens.
    pub context: usize,
    /// From token ids to the first layer's input.
    pub embedding: Embedding,
    /// Rotary tables; mixers refer to them by index.
    pub ropes: Vec<Rope>,
    /// The layers, first to last.
    pub layers: Vec<LayerSpec>,
    /// Applied to the residual stream after the last layer.
    pub final_norm: Option<Norm>,
    /// How hidden rows become logits; encoders and embedding models have none.
    pub head: Option<Head>,
    /// How hidden rows become one vector for a whole text, for models made for that.
    pub pooling: Option<Pooling>,
    /// Trailing blocks that predict further tokens (MTP); not part of the plain forward pass.
    pub next_token: Vec<NextTokenBlock>,
    /// Where each tensor of the network lies; empty while no file is bound.
    pub tensors: Vec<TensorSpec>,
    /// Where the tensors of the further-token blocks lie; empty where the file leaves any of them out.
    pub next_token_tensors: Vec<TensorSpec>,
    /// Tensors of the file that this description does not use.
    pub unused: Vec<String>,
    /// What people must know about how the file was understood: values it leaves out and where they were taken from.
    pub notices: Vec<String>,
}

/// One layer: `x = joined(x + after(mixer(before(x))))`, then the same with the feed-forward; then, where the layer has
/// them, `x = x + norm(out(activation(gate x, input)))` of the token block and `x = output_scale * x`.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerSpec {
    /// Mixes information between positions.
    pub mixer: Mixer,
    /// Works on each position alone.
    pub feed_forward: FeedForward,
    /// Norms and where they sit.
    pub norms: LayerNorms,
    /// What the layer makes of its own input of each token.
    pub token_block: Option<TokenBlock>,
    /// The layer's output is multiplied by a stored number.
    pub output_scale: bool,
}

impl LayerSpec {
    /// A layer of a mixer and a feed-forward only.
    pub fn new(mixer: Mixer, feed_forward: FeedForward, norms: LayerNorms) -> LayerSpec {
        LayerSpec { mixer, feed_forward, norms, token_block: None, output_scale: false }
    }
}

/// A gated block whose gate reads the residual stream, and whose other factor is the layer's part of the
/// [`LayerInputs`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenBlock {
    /// Width of the layer's part.
    pub width: usize,
    /// How the gate and the layer's part combine.
    pub activation: Activation,
    /// On the block's output, before it joins the residual stream.
    pub norm: Norm,
}

/// The norms around a layer's two blocks; an absent one is the identity.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LayerNorms {
    /// On the mixer's input.
    pub before_mixer: Option<Norm>,
    /// On the mixer's output, before it joins the residual stream.
    pub after_mixer: Option<Norm>,
    /// On the feed-forward's input.
    pub before_feed_forward: Option<Norm>,
    /// On the residual stream, once the mixer's output has joined it (BERT).
    pub joined_mixer: Option<Norm>,
    /// On the feed-forward's output, before it joins the residual stream.
    pub after_feed_forward: Option<Norm>,
    /// On the residual stream, once the feed-forward's output has joined it (BERT).
    pub joined_feed_forward: Option<Norm>,
}

impl LayerNorms {
    /// The common arrangement: one norm before each block.
    pub fn before(norm: Norm) -> LayerNorms {
        LayerNorms { before_mixer: Some(norm), before_feed_forward: Some(norm), ..LayerNorms::default() }
    }

    /// Norms before and after each block.
    pub fn around(norm: Norm) -> LayerNorms {
        LayerNorms {
            before_mixer: Some(norm),
            after_mixer: Some(norm),
            before_feed_forward: Some(norm),
            after_feed_forward: Some(norm),
            ..LayerNorms::default()
        }
    }

    /// Norms on the residual stream after each block has joined it.
    pub fn joined(norm: Norm) -> LayerNorms {
        LayerNorms { joined_mixer: Some(norm), joined_feed_forward: Some(norm), ..LayerNorms::default() }
    }

    /// Each norm with the role of its weight, in the order a step meets them.
    pub fn all(&self) -> impl Iterator<Item = (Norm, Role)> + use<> {
        let norms = [
            (self.before_mixer, Role::MixerNorm),
            (self.after_mixer, Role::MixerPostNorm),
            (self.joined_mixer, Role::MixerJoinedNorm),
            (self.before_feed_forward, Role::FeedForwardNorm),
            (self.after_feed_forward, Role::FeedForwardPostNorm),
            (self.joined_feed_forward, Role::FeedForwardJoinedNorm),
        ];
        norms.into_iter().filter_map(|(norm, role)| Some((norm?, role)))
    }
}

/// A normalisation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// What is computed.
    pub kind: NormKind,
    /// Added to the mean square (or variance).
    pub epsilon: f32,
    /// Added to the stored weight before use: 1 where a file stores `w` and the network uses `1 + w`.
    pub weight_offset: f32,
}

impl Norm {
    /// Plain RMS norm.
    pub fn rms(epsilon: f32) -> Norm {
        Norm { kind: NormKind::Rms, epsilon, weight_offset: 0.0 }
    }

    /// Layer norm with a bias.
    pub fn layer(epsilon: f32) -> Norm {
        Norm { kind: NormKind::Layer, epsilon, weight_offset: 0.0 }
    }

    /// RMS norm without a weight.
    pub fn bare(epsilon: f32) -> Norm {
        Norm { kind: NormKind::Bare, epsilon, weight_offset: 0.0 }
    }
}

/// Kinds of normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `x * w / sqrt(mean(x^2) + epsilon)`.
    Rms,
    /// `(x - mean) * w / sqrt(variance + epsilon) + b`.
    Layer,
    /// `x / sqrt(mean(x^2) + epsilon)`: nothing is stored.
    Bare,
}

/// From the normed hidden row to logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Head {
    /// The embedding matrix serves as the head.
    pub tied: bool,
    /// A bias is added to the logits.
    pub bias: bool,
    /// `cap * tanh(logits / cap)`.
    pub soft_cap: Option<f32>,
}

impl ModelSpec {
    /// Whether positions look at what comes after them, so that a sequence has to go through in one step.
    pub fn looks_ahead(&self) -> bool {
        let ahead = |layer: &LayerSpec| matches!(&layer.mixer, Mixer::Attention(attention) if attention.visibility == Visibility::Both);
        self.layers.iter().any(ahead)
    }

    /// Parameters of the network, MTP blocks not counted.
    pub fn parameters(&self) -> u64 {
        self.needs().iter().map(Need::elements).sum()
    }

    /// Parameters that one token's forward pass uses: of the routed experts only the chosen ones. A table that is
    /// only looked into (an untied embedding) counts whole, as published "active" figures count it; of the table of
    /// layers' inputs, which is most of some models, a row counts.
    pub fn active_parameters(&self) -> u64 {
        self.needs()
            .iter()
            .map(|need| {
                let elements = need.elements();
                let routed = need.role.is_routed_expert();
                match need.layer.map(|layer| &self.layers[layer].feed_forward) {
                    Some(FeedForward::Experts(moe)) if routed => {
                        elements / moe.experts as u64 * moe.used as u64
                    }
                    _ if need.role == Role::LayerInputTable => need.columns() as u64,
                    _ => elements,
                }
            })
            .sum()
    }

    /// Width of the rows that a norm of this role acts on: one without a weight does not show it.
    pub fn norm_width(&self, role: Role, layer: Option<usize>) -> usize {
        let mixer = layer.and_then(|layer| self.layer(layer)).map(|layer| &layer.mixer);
        match (role, mixer, &self.embedding.layer_inputs) {
            (Role::QueryNorm | Role::KeyNorm, Some(Mixer::Attention(attention)), _) => attention.key_dim,
            (Role::ValueNorm, Some(Mixer::Attention(attention)), _) => attention.value_dim,
            (Role::LayerInputNorm, _, Some(inputs)) => inputs.width,
            _ => self.hidden,
        }
    }

    /// The bound tensor of a role, if the network has one.
    pub fn tensor(&self, role: Role, layer: Option<usize>) -> Option<&TensorSpec> {
        self.tensors.iter().find(|tensor| tensor.role == role && tensor.layer == layer)
    }
}
