//! From bound tensors to packed weights.

use super::attention::{AttentionBlock, OwnKeyValues};
use super::delta_net::DeltaBlock;
use super::dense::DenseBlock;
use super::embedding::EmbeddingBlock;
use super::head::HeadBlock;
use super::join::JoinBlock;
use super::layer::{FeedForwardBlock, Layer, MixerBlock, Projection};
use super::norm::NormWeight;
use super::plain::PlainBlock;
use super::rotation::Rotation;
use super::token_block::{LayerInputsBlock, TokenBlockWeights};
use super::{Production, Rows, Scratch};
use crate::Cpu;
use crate::matrix::{Matrix, PackError, StoredRows};
use crate::sequences::Sequences;
use ingle_model::executor::ExecutorError;
use ingle_model::spec::{
    Activation, Attention, DecayForm, FeedForward, GatedDeltaNet, Head, KeyValues, KvFormat, Mixer,
    ModelSpec, Norm, NormKind, Role, TensorSpec, TokenBlock,
};
use ingle_model::{Error, Source};
use std::ops::Range;
use std::sync::Arc;

/// How far loading has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the file packed so far.
    pub done: u64,
    /// Bytes of the file to pack.
    pub total: u64,
}

/// What another network gives of its own, and how much of the experts is held.
#[derive(Default)]
pub(super) struct Shared {
    /// The part of the experts that is held; `None` for all of them.
    pub(super) expert_share: Option<f64>,
    /// A head that is packed already.
    pub(super) head: Option<Arc<HeadBlock>>,
}

pub(super) fn load(
    spec: ModelSpec,
    source: Arc<Source>,
    cpu: Arc<Cpu>,
    shared: Shared,
    progress: &mut dyn FnMut(Progress),
) -> Result<Production, ExecutorError> {
    let total = spec.weight_bytes();
    let Shared { expert_share, head } = shared;
    let mut loader =
        Loader { spec: &spec, source: &source, cpu: &cpu, expert_share, progress, done: 0, total };
    // the largest matrix first, while little else is resident: its file pages and its packed copy are there together
    let head = match (head, spec.head) {
        (Some(head), _) => Some(head),
        (None, head) => head.map(|head| loader.head(head)).transpose()?.map(Arc::new),
    };
    let join = spec.embedding.joined.map(|norm| loader.join(norm)).transpose()?;
    let layers = (0..spec.layers.len()).map(|index| loader.layer(index)).collect::<Result<Vec<_>, _>>()?;
    let final_norm = spec.final_norm.map(|norm| loader.norm(norm, Role::FinalNorm, None)).transpose()?;
    let embedding = loader.embedding()?;
    let layer_inputs = loader.layer_inputs()?;
    loader.report(total);
    // What is packed is gone already, but reading brings in pages around what is read.
    source.release_all();
    let rotations = spec.ropes.iter().map(Rotation::new).collect();
    let (sequences, scratch) = (Sequences::default(), Scratch::default());
    Ok(Production {
        embedding,
        join,
        layer_inputs,
        layers,
        final_norm,
        head,
        rotations,
        sequences,
        kv_format: KvFormat::default(),
        scratch,
        rows: Rows::default(),
        source,
        cpu,
        spec,
    })
}

pub(super) fn unsupported(block: &str) -> ExecutorError {
    ExecutorError::Unsupported { executor: "processor", what: format!("it has {block}") }
}

pub(super) fn cannot_pack(tensor: &TensorSpec, error: PackError) -> ExecutorError {
    if let PackError::Source(error) = error {
        return error.into();
    }
    let name = tensor.pieces.first().map_or("", |piece| &piece.stored.name);
    Error::tensor(name, format!("cannot be packed: {error}")).into()
}

/// The rows of a bound tensor, each read once: the file is asked for what comes next, and gets its pages back.
pub(super) struct TensorRows<'a> {
    pub(super) source: &'a Source,
    pub(super) tensor: &'a TensorSpec,
    /// Whether what follows in the file is needed next.
    pub(super) in_order: bool,
}

impl StoredRows for TensorRows<'_> {
    fn read<'a>(&'a self, rows: Range<usize>, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], PackError> {
        if self.in_order {
            self.source.read_ahead(self.tensor, rows.clone());
        }
        Ok(self.source.raw_rows(self.tensor, rows, buffer)?)
    }

    fn done(&self, rows: Range<usize>) {
        self.source.release_rows(self.tensor, rows);
    }
}

pub(super) struct Loader<'a> {
    pub(super) spec: &'a ModelSpec,
    pub(super) source: &'a Arc<Source>,
    pub(super) cpu: &'a Cpu,
    /// The part of the experts that is held; `None` for all of them.
    pub(super) expert_share: Option<f64>,
    progress: &'a mut dyn FnMut(Progress),
    pub(super) done: u64,
    total: u64,
}

impl Loader<'_> {
    pub(super) fn tensor(&self, role: Role, layer: Option<usize>) -> Result<&TensorSpec, ExecutorError> {
        let missing =
            || Error::tensor(format!("{role:?}"), format!("of layer {layer:?} is not bound to a file"));
        Ok(self.spec.tensor(role, layer).ok_or_else(missing)?)
    }

    pub(super) fn report(&mut self, done: u64) {
        self.done = done.min(self.total);
        (self.progress)(Progress { done: self.done, total: self.total });
    }

    /// Packs a matrix and gives its file pages back.
    pub(super) fn matrix(&mut self, role: Role, layer: Option<usize>) -> Result<Matrix, ExecutorError> {
        let tensor = self.tensor(role, layer)?.clone();
        let rows = TensorRows { source: self.source, tensor: &tensor, in_order: true };
        let packed = Matrix::read(tensor.raw_format(), tensor.rows(), tensor.columns(), &rows, self.cpu);
        let packed = packed.map_err(|error| cannot_pack(&tensor, error))?;
        // what lay between rows, and scales of their own
        self.source.release_tensor(&tensor);
        self.report(self.done + tensor.bytes());
        Ok(packed)
    }

    /// A norm, a bias or another short tensor, in 32-bit floats.
    pub(super) fn vector(&mut self, role: Role, layer: Option<usize>) -> Result<Vec<f32>, ExecutorError> {
        Ok(self.source.values(self.tensor(role, layer)?)?)
    }

    /// A matrix with its bias, where the network has one.
    fn projection(
        &mut self,
        matrix: Role,
        bias: Option<Role>,
        layer: Option<usize>,
    ) -> Result<Projection, ExecutorError> {
        let matrix = self.matrix(matrix, layer)?;
        let bias = bias.map(|bias| self.vector(bias, layer)).transpose()?;
        Ok(Projection { matrix, bias })
    }

    /// A norm's weight with its offset added.
    pub(super) fn norm(
        &mut self,
        norm: Norm,
        role: Role,
        layer: Option<usize>,
    ) -> Result<NormWeight, ExecutorError> {
        let mut weight = match norm.kind {
            NormKind::Bare => vec![1.0; self.spec.norm_width(role, layer)],
            NormKind::Rms | NormKind::Layer => self.vector(role, layer)?,
        };
        weight.iter_mut().for_each(|weight| *weight += norm.weight_offset);
        let bias = match norm.kind {
            NormKind::Rms | NormKind::Bare => None,
            NormKind::Layer => Some(self.vector(role.norm_bias().unwrap_or(role), layer)?),
        };
        Ok(NormWeight { weight, bias, epsilon: norm.epsilon })
    }

    fn layer(&mut self, index: usize) -> Result<Layer, ExecutorError> {
        let spec = &self.spec.layers[index];
        let at = Some(index);
        let mut norm = |norm: Option<Norm>, role| norm.map(|norm| self.norm(norm, role, at)).transpose();
        Ok(Layer {
            before_mixer: norm(spec.norms.before_mixer, Role::MixerNorm)?,
            after_mixer: norm(spec.norms.after_mixer, Role::MixerPostNorm)?,
            joined_mixer: norm(spec.norms.joined_mixer, Role::MixerJoinedNorm)?,
            before_feed_forward: norm(spec.norms.before_feed_forward, Role::FeedForwardNorm)?,
            after_feed_forward: norm(spec.norms.after_feed_forward, Role::FeedForwardPostNorm)?,
            joined_feed_forward: norm(spec.norms.joined_feed_forward, Role::FeedForwardJoinedNorm)?,
            token_block: spec.token_block.map(|block| self.token_block(block, index)).transpose()?,
            output_scale: match spec.output_scale {
                true => self.vector(Role::OutputScale, at)?.first().copied(),
                false => None,
            },
            mixer: match &spec.mixer {
                Mixer::Attention(attention) => MixerBlock::Attention(self.attention(attention, index)?),
                Mixer::DeltaNet(delta) => MixerBlock::DeltaNet(self.delta_net(delta, index)?),
                Mixer::Latent(latent) => MixerBlock::Latent(self.latent(latent, index)?),
            },
            feed_forward: match &spec.feed_forward {
                FeedForward::Dense(dense) => {
                    let roles = [Role::Gate, Role::Up, Role::Down];
                    FeedForwardBlock::Dense(Box::new(self.dense(dense.activation, roles, index)?))
                }
                FeedForward::Experts(experts) => {
                    FeedForwardBlock::Experts(Box::new(self.experts(experts, index)?))
                }
                FeedForward::Plain(plain) => FeedForwardBlock::Plain(Box::new(PlainBlock {
                    activation: plain.activation,
                    up: self.projection(Role::Up, Some(Role::UpBias), at)?,
                    down: self.projection(Role::Down, Some(Role::DownBias), at)?,
                })),
            },
        })
    }

    pub(super) fn dense(
        &mut self,
        activation: Activation,
        [gate, up, down]: [Role; 3],
        index: usize,
    ) -> Result<DenseBlock, ExecutorError> {
        let mut matrix = |role| self.matrix(role, Some(index));
        Ok(DenseBlock { activation, gate: matrix(gate)?, up: matrix(up)?, down: matrix(down)? })
    }

    fn head(&mut self, head: Head) -> Result<HeadBlock, ExecutorError> {
        let matrix = if head.tied { Role::Embedding } else { Role::Head };
        let projection = self.projection(matrix, head.bias.then_some(Role::HeadBias), None)?;
        Ok(HeadBlock { projection, soft_cap: head.soft_cap })
    }

    fn join(&mut self, norm: Norm) -> Result<JoinBlock, ExecutorError> {
        Ok(JoinBlock {
            embedding: self.norm(norm, Role::NextEmbeddingNorm, None)?,
            hidden: self.norm(norm, Role::NextHiddenNorm, None)?,
            matrix: self.matrix(Role::NextJoin, None)?,
        })
    }

    fn embedding(&mut self) -> Result<EmbeddingBlock, ExecutorError> {
        let spec = self.spec.embedding;
        let tokens = self.tensor(Role::Embedding, None)?.clone();
        tokens.pieces.iter().for_each(|piece| self.source.expect_scattered_reads(&piece.stored));
        let mut positions = None;
        if spec.positions.is_some() {
            positions = Some(self.tensor(Role::PositionEmbedding, None)?.clone());
        }
        let mut token_type = None;
        if spec.token_types.is_some() {
            let mut row = vec![0.0; self.spec.hidden];
            self.source.row(self.tensor(Role::TokenTypeEmbedding, None)?, 0, &mut row)?;
            token_type = Some(row);
        }
        let norm = spec.norm.map(|norm| self.norm(norm, Role::EmbeddingNorm, None)).transpose()?;
        Ok(EmbeddingBlock { scale: spec.scale, tokens, positions, token_type, norm })
    }

    fn attention(&mut self, attention: &Attention, index: usize) -> Result<AttentionBlock, ExecutorError> {
        if attention.output_gate && attention.key_dim != attention.value_dim {
            return Err(unsupported("gated attention output with keys and values of different widths"));
        }
        let at = Some(index);
        let qkv_bias = |role| attention.qkv_bias.then_some(role);
        let mut head_norm = |norm: Option<Norm>, role| norm.map(|norm| self.norm(norm, role, at)).transpose();
        let query_norm = head_norm(attention.qk_norm, Role::QueryNorm)?;
        let mut own = None;
        if !matches!(attention.key_values, KeyValues::OfLayer(_)) {
            own = Some(OwnKeyValues {
                key_norm: head_norm(attention.qk_norm, Role::KeyNorm)?,
                value_norm: head_norm(attention.value_norm, Role::ValueNorm)?,
                key: self.projection(Role::Key, qkv_bias(Role::KeyBias), at)?,
                value: match attention.key_values {
                    KeyValues::Projected => {
                        Some(self.projection(Role::Value, qkv_bias(Role::ValueBias), at)?)
                    }
                    KeyValues::Joint | KeyValues::OfLayer(_) => None,
                },
            });
        }
        Ok(AttentionBlock {
            spec: attention.clone(),
            query_norm,
            own,
            sinks: if attention.sinks { self.vector(Role::Sinks, at)? } else { Vec::new() },
            query: self.projection(Role::Query, qkv_bias(Role::QueryBias), at)?,
            output: self.projection(Role::Output, attention.output_bias.then_some(Role::OutputBias), at)?,
        })
    }

    /// What is made of tokens for every layer, where the network has that.
    fn layer_inputs(&mut self) -> Result<Option<LayerInputsBlock>, ExecutorError> {
        let Some(spec) = self.spec.embedding.layer_inputs else { return Ok(None) };
        let table = self.tensor(Role::LayerInputTable, None)?.clone();
        table.pieces.iter().for_each(|piece| self.source.expect_scattered_reads(&piece.stored));
        let projection = self.matrix(Role::LayerInputProjection, None)?;
        let norm = self.norm(spec.norm, Role::LayerInputNorm, None)?;
        Ok(Some(LayerInputsBlock { spec, table, projection, norm }))
    }

    fn token_block(&mut self, block: TokenBlock, index: usize) -> Result<TokenBlockWeights, ExecutorError> {
        let at = Some(index);
        Ok(TokenBlockWeights {
            activation: block.activation,
            gate: self.matrix(Role::TokenGate, at)?,
            output: self.matrix(Role::TokenOutput, at)?,
            norm: self.norm(block.norm, Role::TokenNorm, at)?,
        })
    }

    fn delta_net(&mut self, delta: &GatedDeltaNet, index: usize) -> Result<DeltaBlock, ExecutorError> {
        let at = Some(index);
        // stored channel by channel, used tap by tap
        let stored = self.vector(Role::DeltaConvolution, at)?;
        let taps = delta.convolution;
        let convolution = (0..taps).flat_map(|tap| stored.iter().skip(tap).step_by(taps)).copied().collect();
        let rate = |stored: f32| match delta.decay {
            DecayForm::LogRate => stored.exp(),
            DecayForm::NegativeRate => -stored,
        };
        Ok(DeltaBlock {
            spec: delta.clone(),
            mixed: self.matrix(Role::DeltaQueryKeyValue, at)?,
            gate: self.matrix(Role::DeltaGate, at)?,
            beta: self.matrix(Role::DeltaBeta, at)?,
            alpha: self.matrix(Role::DeltaAlpha, at)?,
            output: self.matrix(Role::DeltaOutput, at)?,
            convolution,
            time_bias: self.vector(Role::DeltaTimeBias, at)?,
            rates: self.vector(Role::DeltaDecay, at)?.into_iter().map(rate).collect(),
            norm: self.norm(delta.output_norm, Role::DeltaNorm, at)?,
        })
    }
}
