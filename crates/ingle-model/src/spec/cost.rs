//! What a step costs: bytes read and operations done, counted from the same description the executors run.

use super::{FeedForward, KeyValues, Mixer, ModelSpec, Role, TensorSpec, Visibility};

/// The smallest thing that can be placed on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The token table, and what else is made of a token before the first layer.
    Embedding,
    /// A layer's mixer, its norms, its token block and its KV.
    Mixer(usize),
    /// A layer's dense feed-forward.
    Dense(usize),
    /// A layer's routed experts.
    Experts(usize),
    /// A layer's router and shared expert, which every token uses.
    Shared(usize),
    /// The final norm and the head.
    Head,
}

/// One step's work: `tokens` rows go through together, of which `logits` reach the head; each row sees `context`
/// earlier positions on average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Rows in the step.
    pub tokens: u64,
    /// Rows that want logits.
    pub logits: u64,
    /// Sequences the rows belong to; rows of one sequence share its KV.
    pub sequences: u64,
    /// Positions before each row.
    pub context: u64,
}

impl Load {
    /// One sequence, one token, as in plain decoding.
    pub fn decode(context: u64) -> Load {
        Load { tokens: 1, logits: 1, sequences: 1, context }
    }
}

/// Bytes and operations of a part in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Weight bytes read.
    pub weight_bytes: f64,
    /// Cached bytes read.
    pub kv_bytes: f64,
    /// Multiplications and additions, two per multiply-add.
    pub operations: f64,
    /// Of these, the ones with weights of a quantised format, which a kernel does with 8-bit integers.
    pub integer_operations: f64,
    /// Those with cached keys and values of plain attention, which a kernel does with 16-bit integers.
    pub word_operations: f64,
}

impl std::ops::Add for Cost {
    type Output = Cost;
    fn add(self, other: Cost) -> Cost {
        Cost {
            weight_bytes: self.weight_bytes + other.weight_bytes,
            kv_bytes: self.kv_bytes + other.kv_bytes,
            operations: self.operations + other.operations,
            integer_operations: self.integer_operations + other.integer_operations,
            word_operations: self.word_operations + other.word_operations,
        }
    }
}

impl std::ops::Mul<f64> for Cost {
    type Output = Cost;
    fn mul(self, factor: f64) -> Cost {
        Cost {
            weight_bytes: self.weight_bytes * factor,
            kv_bytes: self.kv_bytes * factor,
            operations: self.operations * factor,
            integer_operations: self.integer_operations * factor,
            word_operations: self.word_operations * factor,
        }
    }
}

/// A tensor as counting sees it.
struct Weights {
    elements: f64,
    bytes: f64,
    role: Role,
    /// Stored in blocks of integers.
    quantised: bool,
}

/// What a layer keeps of the positions it has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvSpec {
    /// What is kept, and how it grows.
    pub kind: KvKind,
    /// Values per position ([`KvKind::Recurrent`]: in all).
    pub values: usize,
    /// Keys and values of heads that they are parted into, per position; 0 for other kinds.
    pub rows: usize,
}

impl KvSpec {
    /// Bytes of a position ([`KvKind::Recurrent`]: of the state).
    fn bytes(&self, kv: KvBytes) -> f64 {
        let values = self.values as f64;
        match self.kind {
            KvKind::Full | KvKind::Window(_) => values * kv.values + self.rows as f64 * kv.row,
            KvKind::Latent => values * kv.latent,
            KvKind::Indexer => values * kv.indexer,
            KvKind::Recurrent => values * kv.state,
        }
    }
}

/// Kinds of cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvKind {
    /// Keys and values of every position.
    Full,
    /// Keys and values of the last `n` positions.
    Window(usize),
    /// Latent rows of every position.
    Latent,
    /// Indexer keys of every position.
    Indexer,
    /// A state whose size does not depend on the context.
    Recurrent,
}

/// How an executor keeps keys and values of attention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KvFormat {
    /// 16-bit integers, with a 16-bit scale per row (one head's key or value of one position).
    #[default]
    Bits16,
    /// 8-bit integers, with an 8-bit factor per 32 of them and a 16-bit scale per row.
    Bits8,
    /// 4-bit integers, likewise.
    Bits4,
}

impl KvFormat {
    /// All of them.
    pub const ALL: [KvFormat; 3] = [KvFormat::Bits16, KvFormat::Bits8, KvFormat::Bits4];

    /// By its name, or what other programs call the format that is as large.
    pub fn parse(name: &str) -> Option<KvFormat> {
        match name.to_ascii_lowercase().as_str() {
            "16bit" | "16" | "f16" => Some(KvFormat::Bits16),
            "8bit" | "8" | "q8" | "q8_0" => Some(KvFormat::Bits8),
            "4bit" | "4" | "q4" | "q4_0" => Some(KvFormat::Bits4),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            KvFormat::Bits16 => "16bit",
            KvFormat::Bits8 => "8bit",
            KvFormat::Bits4 => "4bit",
        }
    }
}

/// Bytes per cached value, by kind of cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KvBytes {
    /// Keys and values.
    pub values: f64,
    /// What each of their rows takes besides.
    pub row: f64,
    /// Latent rows.
    pub latent: f64,
    /// Indexer keys.
    pub indexer: f64,
    /// Recurrent state.
    pub state: f64,
}

impl KvBytes {
    /// Caches in 16-bit floats with a 32-bit recurrent state.
    pub const F16: KvBytes = KvBytes { values: 2.0, row: 0.0, latent: 2.0, indexer: 2.0, state: 4.0 };

    /// Everything in 32-bit floats.
    pub const F32: KvBytes = KvBytes { values: 4.0, row: 0.0, latent: 4.0, indexer: 4.0, state: 4.0 };

    /// Keys and values in a format, all else as in [`F16`](Self::F16).
    pub fn of(format: KvFormat) -> KvBytes {
        let values = match format {
            KvFormat::Bits16 => 2.0,
            KvFormat::Bits8 => 1.0 + 1.0 / 32.0,
            KvFormat::Bits4 => 0.5 + 1.0 / 32.0,
        };
        KvBytes { values, row: 2.0, ..KvBytes::F16 }
    }
}

impl Mixer {
    /// What this mixer caches.
    pub fn kv(&self) -> Vec<KvSpec> {
        match self {
            Mixer::Attention(attention) if matches!(attention.key_values, KeyValues::OfLayer(_)) => {
                Vec::new()
            }
            _ => self.cached(),
        }
    }

    /// What this mixer works with of earlier positions, in its own cache or an earlier layer's.
    fn cached(&self) -> Vec<KvSpec> {
        match self {
            Mixer::Attention(attention) => {
                let kind = match (attention.visibility, attention.window) {
                    (Visibility::Causal, Some(window)) => KvKind::Window(window),
                    _ => KvKind::Full,
                };
                let values = attention.kv_heads * (attention.key_dim + attention.value_dim);
                vec![KvSpec { kind, values, rows: 2 * attention.kv_heads }]
            }
            Mixer::Latent(latent) => {
                let values = latent.kv_rank + latent.rope_dim;
                let mut kv = vec![KvSpec { kind: KvKind::Latent, values, rows: 0 }];
                let keys = latent.indexer.as_ref().map(|indexer| indexer.head_dim);
                kv.extend(keys.map(|values| KvSpec { kind: KvKind::Indexer, values, rows: 0 }));
                kv
            }
            Mixer::DeltaNet(delta) => {
                let values = delta.value_heads * delta.value_dim;
                let mixed = 2 * delta.key_heads * delta.key_dim + values;
                let state = values * delta.key_dim + mixed * (delta.convolution.saturating_sub(1));
                vec![KvSpec { kind: KvKind::Recurrent, values: state, rows: 0 }]
            }
        }
    }

    /// Multiply-adds of one row against `context` cached positions, the row itself included.
    fn context_operations(&self, context: f64) -> f64 {
        match self {
            Mixer::Attention(attention) => {
                let seen = attention.window.map_or(context, |window| context.min(window as f64));
                seen * (attention.heads * (attention.key_dim + attention.value_dim)) as f64
            }
            Mixer::Latent(latent) => {
                let per_position = latent.heads * (2 * latent.kv_rank + latent.rope_dim);
                match &latent.indexer {
                    Some(indexer) => {
                        let seen = context.min(indexer.top_k as f64);
                        seen * per_position as f64 + context * (indexer.heads * indexer.head_dim) as f64
                    }
                    None => context * per_position as f64,
                }
            }
            Mixer::DeltaNet(delta) => {
                (delta.value_heads * delta.value_dim * delta.key_dim * 3) as f64
                    + ((2 * delta.key_heads * delta.key_dim + delta.value_heads * delta.value_dim)
                        * delta.convolution) as f64
            }
        }
    }

    /// Cached bytes one row's attention reads at `context` positions.
    fn context_bytes(&self, context: f64, bytes: KvBytes) -> f64 {
        let top_k = match self {
            Mixer::Latent(latent) => latent.indexer.as_ref().map(|indexer| indexer.top_k as f64),
            _ => None,
        };
        let latent_seen = top_k.map_or(context, |top_k| context.min(top_k));
        self.cached()
            .iter()
            .map(|kv| match kv.kind {
                KvKind::Full | KvKind::Indexer => context * kv.bytes(bytes),
                KvKind::Window(window) => context.min(window as f64) * kv.bytes(bytes),
                KvKind::Latent => latent_seen * kv.bytes(bytes),
                KvKind::Recurrent => kv.bytes(bytes),
            })
            .sum()
    }
}

impl ModelSpec {
    /// Every part, in the order a step walks them.
    pub fn parts(&self) -> Vec<Part> {
        let mut parts = vec![Part::Embedding];
        for (index, layer) in self.layers.iter().enumerate() {
            parts.push(Part::Mixer(index));
            match layer.feed_forward {
                FeedForward::Dense(_) | FeedForward::Plain(_) => parts.push(Part::Dense(index)),
                FeedForward::Experts(_) => parts.extend([Part::Shared(index), Part::Experts(index)]),
            }
        }
        parts.push(Part::Head);
        parts
    }

    /// The part a tensor belongs to.
    pub fn part_of(role: Role, layer: Option<usize>) -> Part {
        use Role::*;
        let Some(layer) = layer else {
            return match role {
                EmbeddingNorm | EmbeddingNormBias | LayerInputProjection | LayerInputNorm
                | NextEmbeddingNorm | NextHiddenNorm | NextJoin => Part::Embedding,
                role if role.is_table() => Part::Embedding,
                _ => Part::Head,
            };
        };
        match role {
            Gate | Up | Down | UpBias | DownBias => Part::Dense(layer),
            Router | RouterBias | SelectionBias | SharedGate | SharedUp | SharedDown | SharedRouter
            | ExpertScale => Part::Shared(layer),
            role if role.is_routed_expert() => Part::Experts(layer),
            // the norms around a feed-forward are a few kilobytes; they travel with the layer's mixer
            _ => Part::Mixer(layer),
        }
    }

    /// Bytes and operations of one part in one step. Weight bytes are those of the bound tensors as executors keep them;
    /// without a bound file every weight counts as 16 bits.
    pub fn cost(&self, part: Part, load: &Load, kv: KvBytes) -> Cost {
        let rows = load.tokens as f64;
        let mut cost = Cost::default();
        for Weights { elements, bytes, role, quantised } in self.weights_of(part) {
            let used = self.share_used(part, role, load);
            cost.weight_bytes += bytes * used;
            let rows_through = match part {
                Part::Embedding if role.is_table() => 0.0,
                Part::Head => load.logits as f64,
                Part::Experts(layer) => match &self.layers[layer].feed_forward {
                    FeedForward::Experts(moe) => rows * moe.used as f64 / moe.experts as f64,
                    _ => rows,
                },
                _ => rows,
            };
            let operations = 2.0 * elements * rows_through;
            cost.operations += operations;
            cost.integer_operations += if quantised { operations } else { 0.0 };
        }
        if let Part::Mixer(layer) = part {
            let mixer = &self.layers[layer].mixer;
            let context = load.context as f64;
            let operations = 2.0 * rows * mixer.context_operations(context + 1.0);
            cost.operations += operations;
            cost.word_operations += if matches!(mixer, Mixer::Attention(_)) { operations } else { 0.0 };
            cost.kv_bytes += load.sequences as f64 * mixer.context_bytes(context, kv);
        }
        cost
    }

    /// Bytes and operations of a whole step.
    pub fn step_cost(&self, load: &Load, kv: KvBytes) -> Cost {
        self.parts().into_iter().map(|part| self.cost(part, load, kv)).fold(Cost::default(), |a, b| a + b)
    }

    /// Cache bytes of one sequence at a context length.
    pub fn kv_bytes(&self, context: u64, kv: KvBytes) -> f64 {
        let context = context as f64;
        self.layers
            .iter()
            .flat_map(|layer| layer.mixer.kv())
            .map(|spec| match spec.kind {
                KvKind::Full | KvKind::Latent | KvKind::Indexer => context * spec.bytes(kv),
                KvKind::Window(window) => context.min(window as f64) * spec.bytes(kv),
                KvKind::Recurrent => spec.bytes(kv),
            })
            .sum()
    }

    /// Bytes of the routed experts among [`resident_bytes`](Self::resident_bytes).
    pub fn expert_bytes(&self) -> u64 {
        let experts = [Role::ExpertGate, Role::ExpertUp, Role::ExpertDown];
        let routed = self.tensors.iter().filter(|tensor| experts.contains(&tensor.role));
        routed.map(TensorSpec::raw_bytes).sum()
    }

    /// Bytes of all tensors the network uses as an executor keeps them: stored bytes, except where a file's encoding has
    /// no block format of its own (fp8 with block scales). The table of layers' inputs stays in the file.
    pub fn resident_bytes(&self) -> u64 {
        let kept = self.tensors.iter().filter(|tensor| tensor.role != Role::LayerInputTable);
        kept.map(TensorSpec::raw_bytes).sum()
    }

    /// Stored bytes of all tensors the network uses.
    pub fn weight_bytes(&self) -> u64 {
        self.tensors.iter().map(TensorSpec::bytes).sum()
    }

    /// A part's tensors. A tied head reads the embedding.
    fn weights_of(&self, part: Part) -> Vec<Weights> {
        let tied = self.head.is_some_and(|head| head.tied);
        let belongs = |role: Role, layer: Option<usize>| {
            Self::part_of(role, layer) == part || (part == Part::Head && tied && role == Role::Embedding)
        };
        if self.tensors.is_empty() {
            let needs = self.needs().into_iter().filter(|need| belongs(need.role, need.layer));
            let weights = needs.map(|need| {
                let elements = need.elements() as f64;
                Weights { elements, bytes: elements * 2.0, role: need.role, quantised: false }
            });
            return weights.collect();
        }
        let bound = self.tensors.iter().filter(|tensor| belongs(tensor.role, tensor.layer));
        let weights = bound.map(|tensor| Weights {
            elements: tensor.shape.iter().map(|&size| size as f64).product(),
            bytes: tensor.raw_bytes() as f64,
            role: tensor.role,
            quantised: tensor.raw_format().block_len() > 1,
        });
        weights.collect()
    }

    /// Share of a tensor's bytes that a step reads: looked-up rows of the embedding, touched experts, else all.
    fn share_used(&self, part: Part, role: Role, load: &Load) -> f64 {
        match part {
            Part::Embedding if role.is_table() => (load.tokens as f64 / self.vocabulary as f64).min(1.0),
            Part::Head if load.logits == 0 => 0.0,
            Part::Experts(layer) if role.is_routed_expert() => match &self.layers[layer].feed_forward {
                // expected share of distinct experts when each token picks `used` uniformly
                FeedForward::Experts(moe) => {
                    let missed = 1.0 - moe.used as f64 / moe.experts as f64;
                    1.0 - missed.powf(load.tokens as f64)
                }
                _ => 1.0,
            },
            _ => 1.0,
        }
    }
}
