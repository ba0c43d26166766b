//! Feed-forward blocks: dense, and mixture of experts with every gating rule in use.

use super::{Norm, Role};

/// How a layer transforms each position.
#[derive(Clone, Debug, PartialEq)]
pub enum FeedForward {
    /// One gated network.
    Dense(Dense),
    /// One network without a gate.
    Plain(Plain),
    /// A router that picks some of many.
    Experts(MixtureOfExperts),
}

/// `down(activation(gate x, up x))`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    /// Inner width.
    pub inner: usize,
    /// How gate and up combine.
    pub activation: Activation,
}

/// `down(activation(up x + bias)) + bias`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plain {
    /// Inner width.
    pub inner: usize,
    /// What happens between the two projections.
    pub activation: PlainActivation,
}

/// Activations of a single value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainActivation {
    /// `x * (1 + erf(x / sqrt(2))) / 2`.
    GeluErf,
    /// The tanh form of GELU.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
}

/// How the gate and up rows combine, element by element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `silu(gate) * up`.
    Silu,
    /// `gelu(gate) * up` with the tanh form of GELU.
    GeluTanh,
    /// gpt-oss: `g = min(g, limit)`, `u = clamp(u, -limit, limit)`, `g * sigmoid(alpha * g) * (u + 1)`.
    ClampedSwiglu {
        /// Slope inside the sigmoid.
        alpha: f32,
        /// Clamp.
        limit: f32,
    },
}

/// Routed experts, optionally beside a shared one.
#[derive(Clone, Debug, PartialEq)]
pub struct MixtureOfExperts {
    /// Experts to choose from.
    pub experts: usize,
    /// Experts used per token.
    pub used: usize,
    /// Inner width of one expert.
    pub inner: usize,
    /// How gate and up combine.
    pub activation: Activation,
    /// How experts are chosen and weighted.
    pub gating: Gating,
    /// Experts' projections have biases.
    pub expert_bias: bool,
    /// A network every token uses.
    pub shared: Option<SharedExpert>,
    /// The routed experts stand apart from the shared one.
    pub apart: Option<Apart>,
}

/// Routed experts beside a shared one rather than with it (Gemma 4): they and the router read the layer's residual stream
/// `x` through norms of their own, the shared expert reads the feed-forward's usual input `h`, and both outputs are
/// normed before they are added: `after_shared(shared(h)) + after_routed(routed(before_routed(x)))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Apart {
    /// On the router's input.
    pub router: Norm,
    /// Router logits are multiplied by this.
    pub router_scale: f32,
    /// On the routed experts' input.
    pub before_routed: Norm,
    /// On the sum of the routed experts' outputs.
    pub after_routed: Norm,
    /// On the shared expert's output.
    pub after_shared: Norm,
}

impl Apart {
    /// Each norm with the role of its weight.
    pub fn norms(&self) -> [(Norm, Role); 4] {
        [
            (self.router, Role::RouterNorm),
            (self.before_routed, Role::RoutedNorm),
            (self.after_routed, Role::RoutedPostNorm),
            (self.after_shared, Role::SharedPostNorm),
        ]
    }
}

/// The router's rule. Selection uses `scores + selection bias`; weights are the unbiased scores of the selected.
#[derive(Clone, Debug, PartialEq)]
pub struct Gating {
    /// From router logits to scores.
    pub scoring: Scoring,
    /// The router's projection has a bias.
    pub router_bias: bool,
    /// A stored bias takes part in the selection only.
    pub selection_bias: bool,
    /// Selection in two stages, groups first.
    pub groups: Option<ExpertGroups>,
    /// Weights are divided by their sum.
    pub normalise: bool,
    /// Weights are then multiplied by a stored number of their expert.
    pub expert_scale: bool,
    /// Weights are multiplied by this last.
    pub scale: f32,
}

/// From router logits to scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scoring {
    /// Softmax over all experts.
    Softmax,
    /// Sigmoid of each.
    Sigmoid,
    /// Raw logits select; softmax over the selected gives the weights.
    SoftmaxOfSelected,
    /// `sqrt(softplus(logit))`.
    SqrtSoftplus,
}

/// Consecutive groups of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertGroups {
    /// Number of groups.
    pub count: usize,
    /// Groups that stay in the choice.
    pub used: usize,
    /// What ranks a group.
    pub score: GroupScore,
}

/// What ranks a group of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupScore {
    /// Sum of its two best selection scores (DeepSeek-V3).
    TwoBest,
    /// Its best selection score (DeepSeek-V2).
    Best,
}

/// An expert every token uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedExpert {
    /// Inner width.
    pub inner: usize,
    /// Its output is multiplied by `sigmoid(w . x)`.
    pub gated: bool,
}
