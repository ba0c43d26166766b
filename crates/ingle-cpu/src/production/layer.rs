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
use super::seam::{Join, Seam, keep_rows};
use super::token_block::{self, TokenBlockWeights};
use crate::Cpu;
use crate::matrix::{Activations, Matrix, View};
use crate::sequences::{Placed, Sequences};
use ingle_model::executor::ExecutorError;
use ingle_model::spec::KvFormat;

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
#[derive(Clone, Copy)]
pub(super) struct Step<'a> {
    pub(super) cpu: &'a Cpu,
    /// The slices' rows and positions.
    pub(super) placed: &'a [Placed],
    /// Rotary tables, prepared for the step's rows.
    pub(super) rotations: &'a [Rotation],
    /// Rows in the step.
    pub(super) rows: usize,
    /// Width of a row of the residual stream.
    pub(super) hidden: usize,
}

/// Memory of a step, reused by the next one; it grows to the largest step seen. A block crosses the seam before it, which
/// fills `normed` and `activations`, and writes `block_out`.
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
    /// Rows of tables, one per thread.
    pub(super) spare: Vec<f32>,
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
        let mixer = match &self.mixer {
            MixerBlock::Latent(latent) => latent.up.bytes() as u64,
            MixerBlock::Attention(_) | MixerBlock::DeltaNet(_) => 0,
        };
        mixer + self.experts().map_or(0, ExpertsBlock::slot_bytes)
    }

    /// The layer's mixture of experts, where it has one.
    pub(super) fn experts(&self) -> Option<&ExpertsBlock> {
        match &self.feed_forward {
            FeedForwardBlock::Experts(experts) => Some(experts),
            FeedForwardBlock::Dense(_) | FeedForwardBlock::Plain(_) => None,
        }
    }

    /// An empty cache for the layer's mixer; `format` is that of keys and values.
    pub(super) fn cache(&self, format: KvFormat) -> LayerCache {
        match &self.mixer {
            MixerBlock::Attention(attention) => attention.cache(format),
            MixerBlock::DeltaNet(delta) => LayerCache::DeltaNet(delta.cache()),
            MixerBlock::Latent(latent) => LayerCache::Latent(latent.cache()),
        }
    }

    /// From what the layer before has on its way into the residual stream, `arriving`, to what this one has:
    /// `x = joined(x + after(mixer(before(x))))`, then the same with the feed-forward, then the token block and the factor
    /// on the output, where there are any. `index` finds the layer's caches and inputs.
    ///
    /// Where `wanted` names rows, only these go through what follows the mixer, and only they are left in `scratch`.
    pub(super) fn run<'a>(
        &'a self,
        step: &Step,
        index: usize,
        arriving: Option<Join<'a>>,
        wanted: Option<&[usize]>,
        sequences: &mut Sequences<Vec<LayerCache>>,
        scratch: &mut Scratch,
    ) -> Result<Option<Join<'a>>, ExecutorError> {
        let seam = Seam { join: arriving, norm: self.before_mixer.as_ref() };
        let bias = match &self.mixer {
            MixerBlock::Attention(attention) => attention.run(step, index, &seam, sequences, scratch)?,
            MixerBlock::DeltaNet(delta) => delta.run(step, index, &seam, sequences, scratch)?,
            MixerBlock::Latent(latent) => latent.run(step, index, &seam, sequences, scratch)?,
        };
        let mut step = *step;
        if let Some(wanted) = wanted {
            keep_rows(scratch, step.hidden, wanted);
            step.rows = wanted.len();
        }
        if step.rows == 0 {
            return Ok(None);
        }
        let joined = self.joined_mixer.as_ref();
        let join = Join { bias, after: self.after_mixer.as_ref(), joined, scale: None };
        let seam = Seam { join: Some(join), norm: self.before_feed_forward.as_ref() };
        let bias = match &self.feed_forward {
            FeedForwardBlock::Dense(dense) => dense.run(&step, &seam, scratch),
            FeedForwardBlock::Experts(experts) => experts.run(&step, &seam, scratch)?,
            FeedForwardBlock::Plain(plain) => plain.run(&step, &seam, scratch),
        };
        let joined = self.joined_feed_forward.as_ref();
        let mut join = Join { bias, after: self.after_feed_forward.as_ref(), joined, scale: None };
        if let Some(block) = &self.token_block {
            let seam = Seam { join: Some(join), norm: None };
            join = block.run(&step, index, &seam, scratch);
        }
        Ok(Some(Join { scale: self.output_scale, ..join }))
    }

    /// Whether the layer's rows may part after the mixer: nothing after it is kept by the step's rows.
    pub(super) fn parts_rows(&self) -> bool {
        self.token_block.is_none()
    }
}
