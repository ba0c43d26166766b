//! The scalar reference executor: exactly dequantised weights, 32-bit activations and cache, one thread, no fusion.
//!
//! It is the slowest and plainest executor, written to be read beside the network's definition; every other one is
//! judged against it. Weights are dequantised row by row from the mapped file, so it needs little memory of its own.

mod attention;
mod cache;
mod delta_net;
mod experts;
mod latent;
mod layer_inputs;
mod ops;

use crate::sequences::{Placed, Sequences};
use cache::LayerCache;
use ingle_model::executor::{Batch, CachedState, Executor, ExecutorError, Hidden, SequenceId, StepOutput};
use ingle_model::spec::{Activation, FeedForward, Mixer, ModelSpec, Norm, NormKind, Role, TensorSpec};
use ingle_model::{Error, Source};
#[cfg(test)]
pub(crate) use ops::activate_plain;
use std::ops::Range;
use std::sync::Arc;

/// Runs a network in plain 32-bit arithmetic.
pub struct Reference {
    spec: ModelSpec,
    source: Arc<Source>,
    rotations: Vec<ops::Rotation>,
    sequences: Sequences<Vec<LayerCache>>,
}

impl Reference {
    /// Takes a network whose tensors are bound to `source`.
    pub fn load(spec: ModelSpec, source: Arc<Source>) -> Result<Reference, ExecutorError> {
        let rotations = spec.ropes.iter().map(ops::Rotation::new).collect();
        Ok(Reference { spec, source, rotations, sequences: Sequences::default() })
    }

    fn tensor(&self, role: Role, layer: Option<usize>) -> Result<&TensorSpec, ExecutorError> {
        let missing =
            || Error::tensor(format!("{role:?}"), format!("of layer {layer:?} is not bound to a file"));
        Ok(self.spec.tensor(role, layer).ok_or_else(missing)?)
    }

    /// A whole tensor, dequantised: norms and biases.
    fn values(&self, role: Role, layer: Option<usize>) -> Result<Vec<f32>, ExecutorError> {
        Ok(self.source.values(self.tensor(role, layer)?)?)
    }

    /// `y = x W^T (+ bias)`: `x [rows, columns]` to `y [rows, outputs]`.
    fn project(
        &self,
        x: &[f32],
        role: Role,
        bias: Option<Role>,
        layer: Option<usize>,
    ) -> Result<Vec<f32>, ExecutorError> {
        let rows = self.tensor(role, layer)?.rows();
        self.project_rows(x, role, bias, layer, 0..rows)
    }

    /// The same with some of the matrix's (and the bias's) rows: one expert of a stack.
    fn project_rows(
        &self,
        x: &[f32],
        role: Role,
        bias: Option<Role>,
        layer: Option<usize>,
        range: Range<usize>,
    ) -> Result<Vec<f32>, ExecutorError> {
        let tensor = self.tensor(role, layer)?;
        let (outputs, columns) = (range.len(), tensor.columns());
        let bias = bias.map(|bias| self.values(bias, layer)).transpose()?;
        let rows = x.len() / columns;
        let mut y = vec![0.0; rows * outputs];
        let mut weights = vec![0.0; columns];
        for (output, matrix_row) in range.enumerate() {
            self.source.row(tensor, matrix_row, &mut weights)?;
            let offset = bias.as_ref().map_or(0.0, |bias| bias[matrix_row]);
            for row in 0..rows {
                y[row * outputs + output] = ops::dot(&weights, &x[row * columns..][..columns]) + offset;
            }
        }
        Ok(y)
    }

    /// Normed copy of `x`, row by row of the weight's length; the identity when there is no norm.
    fn normed(
        &self,
        x: &[f32],
        norm: Option<Norm>,
        role: Role,
        layer: Option<usize>,
    ) -> Result<Vec<f32>, ExecutorError> {
        let mut y = x.to_vec();
        if let Some(norm) = norm {
            let mut weight = match norm.kind {
                NormKind::Bare => vec![1.0; self.spec.norm_width(role, layer)],
                NormKind::Rms | NormKind::Layer => self.values(role, layer)?,
            };
            weight.iter_mut().for_each(|weight| *weight += norm.weight_offset);
            match norm.kind {
                NormKind::Rms | NormKind::Bare => {
                    y.chunks_exact_mut(weight.len()).for_each(|row| ops::rms_norm(row, &weight, norm.epsilon))
                }
                NormKind::Layer => {
                    let bias = self.values(role.norm_bias().unwrap_or(role), layer)?;
                    y.chunks_exact_mut(weight.len())
                        .for_each(|row| ops::layer_norm(row, &weight, &bias, norm.epsilon));
                }
            }
        }
        Ok(y)
    }

    fn embed(&self, batch: &Batch, placed: &[Placed]) -> Result<Vec<f32>, ExecutorError> {
        let spec = self.spec.embedding;
        let embedding = self.tensor(Role::Embedding, None)?;
        let mut x = vec![0.0; batch.rows() * self.spec.hidden];
        let tokens = batch.slices.iter().flat_map(|slice| slice.tokens);
        for (row, &token) in x.chunks_exact_mut(self.spec.hidden).zip(tokens) {
            self.source.row(embedding, token as usize, row)?;
            row.iter_mut().for_each(|value| *value *= spec.scale);
        }
        let mut table_row = vec![0.0; self.spec.hidden];
        if spec.positions.is_some() {
            let table = self.tensor(Role::PositionEmbedding, None)?;
            let positions = placed.iter().flat_map(|slice| slice.first..slice.end());
            for (row, position) in x.chunks_exact_mut(self.spec.hidden).zip(positions) {
                self.source.row(table, position, &mut table_row)?;
                ops::add(row, &table_row);
            }
        }
        if spec.token_types.is_some() {
            self.source.row(self.tensor(Role::TokenTypeEmbedding, None)?, 0, &mut table_row)?;
            x.chunks_exact_mut(self.spec.hidden).for_each(|row| ops::add(row, &table_row));
        }
        let x = self.normed(&x, spec.norm, Role::EmbeddingNorm, None)?;
        let Some(norm) = spec.joined else { return Ok(x) };
        let x = self.normed(&x, Some(norm), Role::NextEmbeddingNorm, None)?;
        let beside = self.normed(batch.beside, Some(norm), Role::NextHiddenNorm, None)?;
        let rows = x.chunks_exact(self.spec.hidden).zip(beside.chunks_exact(self.spec.hidden));
        let both: Vec<f32> = rows.flat_map(|(x, beside)| x.iter().chain(beside)).copied().collect();
        self.project(&both, Role::NextJoin, None, None)
    }

    fn mix(&mut self, x: &[f32], layer: usize, placed: &[Placed]) -> Result<Vec<f32>, ExecutorError> {
        match self.spec.layers[layer].mixer.clone() {
            Mixer::Attention(attention) => self.attention(x, &attention, layer, placed),
            Mixer::Latent(latent) => self.latent(x, &latent, layer, placed),
            Mixer::DeltaNet(delta) => self.delta_net(x, &delta, layer, placed),
        }
    }

    /// `x` is the normed residual stream, `stream` what it was before.
    fn feed_forward(&self, x: &[f32], stream: &[f32], layer: usize) -> Result<Vec<f32>, ExecutorError> {
        match &self.spec.layers[layer].feed_forward {
            FeedForward::Dense(dense) => {
                self.gated(x, [Role::Gate, Role::Up, Role::Down], dense.activation, layer)
            }
            FeedForward::Plain(plain) => {
                let at = Some(layer);
                let mut inner = self.project(x, Role::Up, Some(Role::UpBias), at)?;
                inner.iter_mut().for_each(|value| *value = ops::activate_plain(plain.activation, *value));
                self.project(&inner, Role::Down, Some(Role::DownBias), at)
            }
            FeedForward::Experts(moe) => self.experts(x, stream, moe, layer),
        }
    }

    /// `down(activation(gate x, up x))`.
    fn gated(
        &self,
        x: &[f32],
        [gate, up, down]: [Role; 3],
        activation: Activation,
        layer: usize,
    ) -> Result<Vec<f32>, ExecutorError> {
        let mut gate = self.project(x, gate, None, Some(layer))?;
        let up = self.project(x, up, None, Some(layer))?;
        for (gate, up) in gate.iter_mut().zip(&up) {
            *gate = ops::activate(activation, *gate, *up);
        }
        self.project(&gate, down, None, Some(layer))
    }

    fn head(&self, x: &[f32]) -> Result<Vec<f32>, ExecutorError> {
        let Some(head) = self.spec.head else { return Ok(Vec::new()) };
        let role = if head.tied { Role::Embedding } else { Role::Head };
        let bias = head.bias.then_some(Role::HeadBias);
        let mut logits = self.project(x, role, bias, None)?;
        if let Some(cap) = head.soft_cap {
            logits.iter_mut().for_each(|logit| *logit = cap * (*logit / cap).tanh());
        }
        Ok(logits)
    }
}

impl Executor for Reference {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn open(&mut self, context: usize) -> Result<SequenceId, ExecutorError> {
        let kv = self.spec.layers.iter().map(|layer| LayerCache::new(&layer.mixer)).collect();
        Ok(self.sequences.open(context, kv))
    }

    /// Shares nothing: it is the plainest executor.
    fn fork(
        &mut self,
        sequence: SequenceId,
        length: usize,
        context: usize,
    ) -> Result<(SequenceId, usize), ExecutorError> {
        let parent = self.sequences.get_mut(sequence)?;
        let (held, kv) = (parent.length, parent.kv.clone());
        let fork = self.sequences.open(context, kv);
        self.sequences.get_mut(fork)?.length = held;
        let length = self.truncate(fork, length.min(context))?;
        Ok((fork, length))
    }

    fn close(&mut self, sequence: SequenceId) {
        self.sequences.close(sequence);
    }

    fn length(&self, sequence: SequenceId) -> usize {
        self.sequences.get(sequence).map_or(0, |sequence| sequence.length)
    }

    fn truncate(&mut self, sequence: SequenceId, length: usize) -> Result<usize, ExecutorError> {
        let sequence = self.sequences.get_mut(sequence)?;
        if length < sequence.length {
            let length = sequence.kv.iter().fold(length, |length, cache| cache.earlier(length));
            sequence.length = length;
            for (cache, layer) in sequence.kv.iter_mut().zip(&self.spec.layers) {
                cache.truncate(length, &layer.mixer);
            }
        }
        Ok(sequence.length)
    }

    fn step(&mut self, batch: &Batch, output: &mut StepOutput) -> Result<(), ExecutorError> {
        self.source.check()?;
        let mut placed = Vec::new();
        self.sequences.check(batch, &self.spec, &mut placed)?;
        output.hidden.clear();
        let mut x = self.embed(batch, &placed)?;
        if batch.hidden == Hidden::All {
            output.hidden.push(x.clone());
        }
        let inputs = self.layer_inputs(batch, &x)?;
        for layer in 0..self.spec.layers.len() {
            let norms = self.spec.layers[layer].norms;
            let normed = self.normed(&x, norms.before_mixer, Role::MixerNorm, Some(layer))?;
            let mixed = self.mix(&normed, layer, &placed)?;
            let mixed = self.normed(&mixed, norms.after_mixer, Role::MixerPostNorm, Some(layer))?;
            ops::add(&mut x, &mixed);
            x = self.normed(&x, norms.joined_mixer, Role::MixerJoinedNorm, Some(layer))?;
            let normed = self.normed(&x, norms.before_feed_forward, Role::FeedForwardNorm, Some(layer))?;
            let transformed = self.feed_forward(&normed, &x, layer)?;
            let transformed =
                self.normed(&transformed, norms.after_feed_forward, Role::FeedForwardPostNorm, Some(layer))?;
            ops::add(&mut x, &transformed);
            x = self.normed(&x, norms.joined_feed_forward, Role::FeedForwardJoinedNorm, Some(layer))?;
            if let (Some(block), Some(input)) = (&self.spec.layers[layer].token_block, inputs.get(layer)) {
                let made = self.token_block(&x, block, input, layer)?;
                ops::add(&mut x, &made);
            }
            if self.spec.layers[layer].output_scale {
                let scale = self.values(Role::OutputScale, Some(layer))?[0];
                x.iter_mut().for_each(|value| *value *= scale);
            }
            if batch.hidden == Hidden::All {
                output.hidden.push(x.clone());
            }
        }
        let x = self.normed(&x, self.spec.final_norm, Role::FinalNorm, None)?;
        let hidden = self.spec.hidden;
        let wanted: Vec<f32> =
            batch.logit_rows().flat_map(|row| &x[row * hidden..][..hidden]).copied().collect();
        output.logits = self.head(&wanted)?;
        if batch.hidden != Hidden::None {
            output.hidden.push(x);
        }
        for slice in placed {
            self.sequences.get_mut(slice.sequence)?.length = slice.end();
        }
        Ok(())
    }

    fn state(&self, _: SequenceId, _: usize) -> Result<Box<dyn CachedState>, ExecutorError> {
        Err(not_written_down())
    }

    fn empty_state(&self) -> Result<Box<dyn CachedState>, ExecutorError> {
        Err(not_written_down())
    }

    fn resume(&mut self, _: Box<dyn CachedState>, _: usize) -> Result<SequenceId, ExecutorError> {
        Err(not_written_down())
    }

    fn next_token(&self) -> Result<Option<Box<dyn Executor>>, ExecutorError> {
        let Some(network) = self.spec.next_token_network() else { return Ok(None) };
        Ok(Some(Box::new(Reference::load(network, self.source.clone())?)))
    }

    fn weight_bytes(&self) -> u64 {
        self.spec.weight_bytes()
    }

    fn kv_bytes(&self) -> u64 {
        self.sequences.iter().flat_map(|sequence| &sequence.kv).map(LayerCache::bytes).sum()
    }
}

/// What it caches would take several times the room of what it is compared with.
fn not_written_down() -> ExecutorError {
    ExecutorError::Unsupported { executor: "reference", what: "its caches are not written to disk".into() }
}
