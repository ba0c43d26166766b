//! The scalar reference executor: exactly dequantised weights, 32-bit activations and cache, one thread, no fusion.
//!
//! It is the slowest and plainest executor, written to be read beside the network's definition; every other one is
//! judged against it. Weights are dequantised row by row from the mapped file, so it needs little memory of its own.

mod attention;
mod ops;

use crate::sequences::Sequences;
use attention::LayerCache;
use ingle_model::executor::{Batch, Executor, ExecutorError, SequenceId, StepOutput};
use ingle_model::spec::{FeedForward, Mixer, ModelSpec, Norm, Role, TensorSpec};
use ingle_model::{Error, Source};
pub(crate) use ops::activate;
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
        for layer in &spec.layers {
            match (&layer.mixer, &layer.feed_forward) {
                (Mixer::Attention(_), FeedForward::Dense(_)) => {}
                (Mixer::Latent(_), _) => return Err(unsupported("latent attention")),
                (Mixer::DeltaNet(_), _) => return Err(unsupported("a gated delta net")),
                (_, FeedForward::Experts(_)) => return Err(unsupported("a mixture of experts")),
            }
        }
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
        let tensor = self.tensor(role, layer)?;
        let (outputs, columns) = (tensor.rows(), tensor.columns());
        let bias = bias.map(|bias| self.values(bias, layer)).transpose()?;
        let rows = x.len() / columns;
        let mut y = vec![0.0; rows * outputs];
        let mut weights = vec![0.0; columns];
        for output in 0..outputs {
            self.source.row(tensor, output, &mut weights)?;
            let offset = bias.as_ref().map_or(0.0, |bias| bias[output]);
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
            let mut weight = self.values(role, layer)?;
            weight.iter_mut().for_each(|weight| *weight += norm.weight_offset);
            for row in y.chunks_exact_mut(weight.len()) {
                ops::rms_norm(row, &weight, norm.epsilon);
            }
        }
        Ok(y)
    }

    fn embed(&self, batch: &Batch) -> Result<Vec<f32>, ExecutorError> {
        let embedding = self.tensor(Role::Embedding, None)?;
        let mut x = vec![0.0; batch.rows() * self.spec.hidden];
        let tokens = batch.slices.iter().flat_map(|slice| slice.tokens);
        for (row, &token) in x.chunks_exact_mut(self.spec.hidden).zip(tokens) {
            self.source.row(embedding, token as usize, row)?;
            row.iter_mut().for_each(|value| *value *= self.spec.embedding_scale);
        }
        Ok(x)
    }

    fn feed_forward(&self, x: &[f32], layer: usize) -> Result<Vec<f32>, ExecutorError> {
        let FeedForward::Dense(dense) = self.spec.layers[layer].feed_forward.clone() else {
            return Err(unsupported("a mixture of experts"));
        };
        let mut gate = self.project(x, Role::Gate, None, Some(layer))?;
        let up = self.project(x, Role::Up, None, Some(layer))?;
        for (gate, up) in gate.iter_mut().zip(&up) {
            *gate = ops::activate(dense.activation, *gate, *up);
        }
        self.project(&gate, Role::Down, None, Some(layer))
    }

    fn head(&self, x: &[f32]) -> Result<Vec<f32>, ExecutorError> {
        let role = if self.spec.head.tied { Role::Embedding } else { Role::Head };
        let bias = self.spec.head.bias.then_some(Role::HeadBias);
        let mut logits = self.project(x, role, bias, None)?;
        if let Some(cap) = self.spec.head.soft_cap {
            logits.iter_mut().for_each(|logit| *logit = cap * (*logit / cap).tanh());
        }
        Ok(logits)
    }
}

fn unsupported(block: &str) -> ExecutorError {
    ExecutorError::Unsupported { executor: "reference", what: format!("it has {block}") }
}

impl Executor for Reference {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn open(&mut self, context: usize) -> Result<SequenceId, ExecutorError> {
        let kv = self.spec.layers.iter().map(|_| LayerCache::default()).collect();
        Ok(self.sequences.open(context, kv))
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
            sequence.length = length;
            for (cache, layer) in sequence.kv.iter_mut().zip(&self.spec.layers) {
                cache.truncate(length, &layer.mixer);
            }
        }
        Ok(sequence.length)
    }

    fn step(&mut self, batch: &Batch, output: &mut StepOutput) -> Result<(), ExecutorError> {
        let placed = self.sequences.check(batch, self.spec.vocabulary)?;
        output.hidden.clear();
        let mut x = self.embed(batch)?;
        if batch.hidden {
            output.hidden.push(x.clone());
        }
        for layer in 0..self.spec.layers.len() {
            let norms = self.spec.layers[layer].norms;
            let normed = self.normed(&x, norms.before_mixer, Role::MixerNorm, Some(layer))?;
            let mixed = self.attend(&normed, layer, &placed)?;
            let mixed = self.normed(&mixed, norms.after_mixer, Role::MixerPostNorm, Some(layer))?;
            ops::add(&mut x, &mixed);
            let normed = self.normed(&x, norms.before_feed_forward, Role::FeedForwardNorm, Some(layer))?;
            let transformed = self.feed_forward(&normed, layer)?;
            let transformed =
                self.normed(&transformed, norms.after_feed_forward, Role::FeedForwardPostNorm, Some(layer))?;
            ops::add(&mut x, &transformed);
            if batch.hidden {
                output.hidden.push(x.clone());
            }
        }
        let x = self.normed(&x, Some(self.spec.final_norm), Role::FinalNorm, None)?;
        let hidden = self.spec.hidden;
        let wanted: Vec<f32> =
            batch.logit_rows().iter().flat_map(|&row| &x[row * hidden..][..hidden]).copied().collect();
        output.logits = self.head(&wanted)?;
        if batch.hidden {
            output.hidden.push(x);
        }
        for slice in placed {
            self.sequences.get_mut(slice.sequence)?.length = slice.end();
        }
        Ok(())
    }

    fn weight_bytes(&self) -> u64 {
        self.spec.weight_bytes()
    }

    fn kv_bytes(&self) -> u64 {
        self.sequences.iter().flat_map(|sequence| &sequence.kv).map(LayerCache::bytes).sum()
    }
}
