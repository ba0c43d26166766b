//! One layer: a mixer and a feed-forward, each between its norms and the residual stream.

use super::attention::AttentionBlock;
use super::cache::LayerCache;
use super::delta_net::DeltaBlock;
use super::dense::DenseBlock;
use super::experts::ExpertsBlock;
use super::latent::LatentBlock;
use super::norm::NormWeight;
use super::plain::PlainBlock;
use super::rotation::Rotation;
use super::token_block::{self, TokenBlockWeights};
use crate::Cpu;
use crate::matrix::{Activations, Matrix, Product, View, multiply};
use crate::sequences::{Placed, Sequences};
use ingle_model::executor::ExecutorError;

/// A layer's packed weights.
pub(super) struct Layer {
    pub(super) before_mixer: Option<NormWeight>,
    pub(super) mixer: MixerBlock,
    pub(super) after_mixer: Option<NormWeight>,
    pub(super) joined_mixer: Option<NormWeight>,
    pub(super) before_feed_forward: Option<NormWeight>,
    pub(super) feed_forward: FeedForwardBlock,
    pub(super) after_feed_forward: Option<NormWeight>,
    pub(super) joined_feed_forward: Option<NormWeight>,
    pub(super) token_block: Option<TokenBlockWeights>,
    pub(super) output_scale: Option<f32>,
}

/// Packed weights of a mixer.
#[allow(clippy::large_enum_variant)] // one per layer
pub(super) enum MixerBlock {
    Attention(AttentionBlock),
    DeltaNet(DeltaBlock),
    Latent(LatentBlock),
}

/// Packed weights of a feed-forward.
pub(super) enum FeedForwardBlock {
    Dense(Box<DenseBlock>),
    Experts(Box<ExpertsBlock>),
    Plain(Box<PlainBlock>),
}

/// What every block of a step works with.
pub(super) struct Step<'a> {
    pub(super) cpu: &'a Cpu,
    /// The slices' rows and positions.
    pub(super) placed: &'a [Placed],
    /// Rotary tables, prepared for the step's rows.
    pub(super) rotations: &'a [Rotation],
    /// Rows in the step.
    pub(super) rows: usize,
}

/// Memory of a step, reused by the next one; it grows to the largest step seen. A block reads `normed` and writes
/// `block_out`.
#[derive(Default)]
pub(super) struct Scratch {
    /// The residual stream, `[rows, hidden]`.
    pub(super) x: Vec<f32>,
    pub(super) normed: Vec<f32>,
    pub(super) block_out: Vec<f32>,
    pub(super) activations: Activations,
    pub(super) attention: super::attention::Scratch,
    pub(super) delta_net: super::delta_net::Scratch,
    pub(super) latent: super::latent::Scratch,
    pub(super) dense: super::dense::Scratch,
    pub(super) experts: super::experts::Scratch,
    pub(super) plain: super::plain::Scratch,
    pub(super) tokens: token_block::Scratch,
}

impl Scratch {
    pub(super) fn resize(&mut self, rows: usize, hidden: usize) {
        for buffer in [&mut self.x, &mut self.normed, &mut self.block_out] {
            buffer.resize(rows * hidden, 0.0);
        }
    }
}

/// A matrix, and a bias where the network has one.
pub(super) struct Projection {
    pub(super) matrix: Matrix,
    pub(super) bias: Option<Vec<f32>>,
}

impl Projection {
    /// Adds the bias to rows that the matrix made.
    pub(super) fn add_bias(&self, cpu: &Cpu, rows: &mut [f32]) {
        if let Some(bias) = &self.bias {
            rows.chunks_exact_mut(bias.len()).for_each(|row| cpu.kernels.add(row, bias));
        }
    }

    /// `out = x W^T + bias` for `rows` rows.
    pub(super) fn apply(
        &self,
        cpu: &Cpu,
        x: &[f32],
        rows: usize,
        activations: &mut Activations,
        out: &mut [f32],
    ) {
        activations.prepare(cpu, x, rows, self.matrix.columns(), self.matrix.needs());
        multiply(cpu, activations, &mut [Product::new(&self.matrix, out)]);
        self.add_bias(cpu, out);
    }
}

impl Layer {
    /// All weights, for counting.
    pub(super) fn weights(&self) -> Vec<View<'_>> {
        let mut weights: Vec<View<'_>> = match &self.mixer {
            MixerBlock::Attention(attention) => attention.matrices().map(Matrix::view).collect(),
            MixerBlock::Latent(latent) => latent.matrices().map(Matrix::view).collect(),
            MixerBlock::DeltaNet(delta) => delta.matrices().map(Matrix::view).collect(),
        };
        match &self.feed_forward {
            FeedForwardBlock::Dense(dense) => weights.extend(dense.matrices().map(Matrix::view)),
            FeedForwardBlock::Plain(plain) => weights.extend(plain.matrices().map(Matrix::view)),
            FeedForwardBlock::Experts(experts) => weights.extend(experts.weights()),
        }
        let block = self.token_block.iter().flat_map(TokenBlockWeights::matrices);
        weights.extend(block.map(Matrix::view));
        weights
    }

    /// Resident bytes of weights that are not among [`weights`](Self::weights).
    pub(super) fn other_bytes(&self) -> u64 {
        match &self.mixer {
            MixerBlock::Latent(latent) => latent.up.bytes() as u64,
            MixerBlock::Attention(_) | MixerBlock::DeltaNet(_) => 0,
        }
    }

    /// An empty cache for the layer's mixer.
    pub(super) fn cache(&self) -> LayerCache {
        match &self.mixer {
            MixerBlock::Attention(attention) => attention.cache(),
            MixerBlock::DeltaNet(delta) => LayerCache::DeltaNet(delta.cache()),
            MixerBlock::Latent(latent) => LayerCache::Latent(latent.cache()),
        }
    }

    /// `x = joined(x + after(mixer(before(x))))`, then the same with the feed-forward, then the token block and
    /// the factor on the output, where there are any. `index` finds the layer's caches and inputs.
    pub(super) fn run(
        &self,
        step: &Step,
        index: usize,
        sequences: &mut Sequences<Vec<LayerCache>>,
        scratch: &mut Scratch,
    ) -> Result<(), ExecutorError> {
        begin(step.cpu, &self.before_mixer, scratch);
        match &self.mixer {
            MixerBlock::Attention(attention) => attention.run(step, index, sequences, scratch)?,
            MixerBlock::DeltaNet(delta) => delta.run(step, index, sequences, scratch)?,
            MixerBlock::Latent(latent) => latent.run(step, index, sequences, scratch)?,
        }
        join(step.cpu, &self.after_mixer, &self.joined_mixer, scratch);
        begin(step.cpu, &self.before_feed_forward, scratch);
        match &self.feed_forward {
            FeedForwardBlock::Dense(dense) => dense.run(step, scratch),
            FeedForwardBlock::Experts(experts) => experts.run(step, scratch),
            FeedForwardBlock::Plain(plain) => plain.run(step, scratch),
        }
        join(step.cpu, &self.after_feed_forward, &self.joined_feed_forward, scratch);
        if let Some(block) = &self.token_block {
            block.run(step, index, scratch);
        }
        if let Some(scale) = self.output_scale {
            step.cpu.kernels.scale(&mut scratch.x, scale);
        }
        Ok(())
    }
}

/// `normed = norm(x)`, or a copy where the layer has no such norm.
fn begin(cpu: &Cpu, norm: &Option<NormWeight>, scratch: &mut Scratch) {
    match norm {
        Some(norm) => norm.apply(cpu, &scratch.x, &mut scratch.normed),
        None => scratch.normed.copy_from_slice(&scratch.x),
    }
}

/// `x = joined(x + after(block_out))`.
fn join(cpu: &Cpu, after: &Option<NormWeight>, joined: &Option<NormWeight>, scratch: &mut Scratch) {
    if let Some(norm) = after {
        norm.apply_in_place(cpu, &mut scratch.block_out);
    }
    cpu.kernels.add(&mut scratch.x, &scratch.block_out);
    if let Some(norm) = joined {
        norm.apply_in_place(cpu, &mut scratch.x);
    }
}
