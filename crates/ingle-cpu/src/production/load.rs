//! From bound tensors to packed weights.

use super::layer::Layer;
use super::rotation::Rotation;
use super::{Production, Scratch};
use crate::Cpu;
use crate::attention::cache::CacheShape;
use crate::matrix::Matrix;
use crate::sequences::Sequences;
use ingle_model::executor::ExecutorError;
use ingle_model::format::dequantise;
use ingle_model::spec::{Attention, FeedForward, Mixer, ModelSpec, Norm, NormKind, Role, TensorSpec};
use ingle_model::{Error, Source};
use std::sync::Arc;

/// How far loading has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the file packed so far.
    pub done: u64,
    /// Bytes of the file to pack.
    pub total: u64,
}

pub(super) fn load(
    spec: ModelSpec,
    source: Arc<Source>,
    cpu: Cpu,
    progress: &mut dyn FnMut(Progress),
) -> Result<Production, ExecutorError> {
    let total = spec.weight_bytes();
    let mut loader = Loader { spec: &spec, source: &source, cpu: &cpu, progress, done: 0, total };
    // the largest matrix first, while little else is resident: its file pages and its packed copy are there together
    let head = loader.matrix(if spec.head.tied { Role::Embedding } else { Role::Head }, None)?;
    let layers = (0..spec.layers.len()).map(|index| loader.layer(index)).collect::<Result<Vec<_>, _>>()?;
    let norm = Some(spec.final_norm);
    let final_norm = loader.norm(norm, Role::FinalNorm, None)?.unwrap_or_default();
    let head_bias = loader.vector(spec.head.bias, Role::HeadBias, None)?;
    let embedding = loader.tensor(Role::Embedding, None)?.clone();
    source.expect_scattered_reads(&embedding.stored);
    loader.report(total);
    let rotations = spec.ropes.iter().map(Rotation::new).collect();
    let (sequences, scratch) = (Sequences::default(), Scratch::default());
    Ok(Production {
        embedding,
        layers,
        final_norm,
        head,
        head_bias,
        rotations,
        sequences,
        scratch,
        source,
        cpu,
        spec,
    })
}

pub(super) fn unsupported(block: &str) -> ExecutorError {
    ExecutorError::Unsupported { executor: "processor", what: format!("it has {block}") }
}

struct Loader<'a> {
    spec: &'a ModelSpec,
    source: &'a Source,
    cpu: &'a Cpu,
    progress: &'a mut dyn FnMut(Progress),
    done: u64,
    total: u64,
}

impl Loader<'_> {
    fn tensor(&self, role: Role, layer: Option<usize>) -> Result<&TensorSpec, ExecutorError> {
        let missing =
            || Error::tensor(format!("{role:?}"), format!("of layer {layer:?} is not bound to a file"));
        Ok(self.spec.tensor(role, layer).ok_or_else(missing)?)
    }

    fn report(&mut self, done: u64) {
        self.done = done.min(self.total);
        (self.progress)(Progress { done: self.done, total: self.total });
    }

    /// Packs a matrix and gives its file pages back.
    fn matrix(&mut self, role: Role, layer: Option<usize>) -> Result<Matrix, ExecutorError> {
        let stored = self.tensor(role, layer)?.stored.clone();
        let [rows, columns] = stored.shape[..] else {
            return Err(Error::tensor(&stored.name, "must have two dimensions").into());
        };
        let bytes = self.source.bytes(&stored);
        let packed = Matrix::pack(stored.format, rows, columns, bytes, self.cpu);
        let packed =
            packed.map_err(|error| Error::tensor(&stored.name, format!("cannot be packed: {error}")))?;
        self.source.release(&stored);
        self.report(self.done + stored.bytes as u64);
        Ok(packed)
    }

    /// A bias or another short tensor in 32-bit floats, if the network has it.
    fn vector(
        &mut self,
        present: bool,
        role: Role,
        layer: Option<usize>,
    ) -> Result<Option<Vec<f32>>, ExecutorError> {
        if !present {
            return Ok(None);
        }
        let stored = &self.tensor(role, layer)?.stored;
        let mut values = vec![0.0; stored.shape.iter().product()];
        dequantise(stored.format, self.source.bytes(stored), &mut values)?;
        Ok(Some(values))
    }

    /// A norm's weight with its offset added.
    fn norm(
        &mut self,
        norm: Option<Norm>,
        role: Role,
        layer: Option<usize>,
    ) -> Result<Option<Vec<f32>>, ExecutorError> {
        let Some(norm) = norm else { return Ok(None) };
        if norm.kind != NormKind::Rms {
            return Err(unsupported("another norm than RMS"));
        }
        let mut weight = self.vector(true, role, layer)?.unwrap_or_default();
        weight.iter_mut().for_each(|weight| *weight += norm.weight_offset);
        Ok(Some(weight))
    }

    fn layer(&mut self, index: usize) -> Result<Layer, ExecutorError> {
        let spec = &self.spec.layers[index];
        let attention: &Attention = match (&spec.mixer, &spec.feed_forward) {
            (Mixer::Latent(_), _) => return Err(unsupported("latent attention")),
            (Mixer::DeltaNet(_), _) => return Err(unsupported("a gated delta net")),
            (_, FeedForward::Experts(_)) => return Err(unsupported("a mixture of experts")),
            (Mixer::Attention(attention), FeedForward::Dense(_)) if attention.output_gate => {
                return Err(unsupported("gated attention output"));
            }
            (Mixer::Attention(attention), FeedForward::Dense(_)) => attention,
        };
        let at = Some(index);
        let (qkv_bias, qk_norm) = (attention.qkv_bias, attention.qk_norm);
        Ok(Layer {
            norms: [
                self.norm(spec.norms.before_mixer, Role::MixerNorm, at)?,
                self.norm(spec.norms.after_mixer, Role::MixerPostNorm, at)?,
                self.norm(spec.norms.before_feed_forward, Role::FeedForwardNorm, at)?,
                self.norm(spec.norms.after_feed_forward, Role::FeedForwardPostNorm, at)?,
            ],
            query: self.matrix(Role::Query, at)?,
            key: self.matrix(Role::Key, at)?,
            value: self.matrix(Role::Value, at)?,
            output: self.matrix(Role::Output, at)?,
            query_bias: self.vector(qkv_bias, Role::QueryBias, at)?,
            key_bias: self.vector(qkv_bias, Role::KeyBias, at)?,
            value_bias: self.vector(qkv_bias, Role::ValueBias, at)?,
            output_bias: self.vector(attention.output_bias, Role::OutputBias, at)?,
            query_norm: self.norm(qk_norm, Role::QueryNorm, at)?,
            key_norm: self.norm(qk_norm, Role::KeyNorm, at)?,
            sinks: self.vector(attention.sinks, Role::Sinks, at)?.unwrap_or_default(),
            gate: self.matrix(Role::Gate, at)?,
            up: self.matrix(Role::Up, at)?,
            down: self.matrix(Role::Down, at)?,
            cache: CacheShape {
                kv_heads: attention.kv_heads,
                key_dim: attention.key_dim,
                value_dim: attention.value_dim,
            },
        })
    }
}
