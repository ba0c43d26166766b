//! The production executor: packed weights, integer dot products, 16-bit cache, every step in few parallel regions.

mod attention;
mod cache;
mod delta_net;
mod dense;
mod embedding;
mod experts;
#[cfg(test)]
mod experts_tests;
mod head;
mod latent;
mod layer;
mod load;
mod load_experts;
mod load_latent;
mod measure;
mod norm;
mod plain;
mod rotation;
mod token_block;

use crate::Cpu;
use crate::matrix::View;
use crate::sequences::Sequences;
use cache::LayerCache;
use embedding::EmbeddingBlock;
use head::HeadBlock;
use ingle_model::executor::{Batch, Executor, ExecutorError, Hidden, SequenceId, StepOutput};
use ingle_model::spec::ModelSpec;
use ingle_model::{Format, Source};
pub use latent::LatentTimes;
use layer::{Layer, Scratch, Step};
pub use load::Progress;
use norm::NormWeight;
use rotation::Rotation;
use std::sync::Arc;
use token_block::LayerInputsBlock;

/// Runs a network as fast as the processor allows.
pub struct Production {
    spec: ModelSpec,
    source: Arc<Source>,
    cpu: Cpu,
    embedding: EmbeddingBlock,
    layer_inputs: Option<LayerInputsBlock>,
    layers: Vec<Layer>,
    final_norm: Option<NormWeight>,
    head: Option<HeadBlock>,
    rotations: Vec<Rotation>,
    sequences: Sequences<Vec<LayerCache>>,
    scratch: Scratch,
    /// Normed rows that want logits.
    picked: Vec<f32>,
}

impl Production {
    /// Packs the weights of a network whose tensors are bound to `source`; pages of the file that were packed are
    /// given back to the system. `progress` hears of bytes packed.
    ///
    /// # Errors
    /// A network with a block this executor does not compute, a damaged tensor, or not enough memory.
    pub fn load(
        spec: ModelSpec,
        source: Arc<Source>,
        cpu: Cpu,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Production, ExecutorError> {
        load::load(spec, source, cpu, progress)
    }

    /// The processor it runs on.
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// Formats of weights without a kernel of their own: correct, but several times slower.
    pub fn generic_formats(&self) -> Vec<Format> {
        let mut formats = Vec::new();
        for weights in self.weights().filter(View::is_generic) {
            if !formats.contains(&weights.format()) {
                formats.push(weights.format());
            }
        }
        formats
    }

    /// All packed weights.
    fn weights(&self) -> impl Iterator<Item = View<'_>> {
        let head = self.head.iter().map(|head| head.projection.matrix.view());
        let inputs = self.layer_inputs.iter().map(|inputs| inputs.projection.view());
        self.layers.iter().flat_map(Layer::weights).chain(head).chain(inputs)
    }

    /// Logits of the rows that want them, from normed rows.
    fn logits(&mut self, batch: &Batch, output: &mut StepOutput) {
        let hidden = self.spec.hidden;
        let Scratch { normed, activations, .. } = &mut self.scratch;
        let picked = &mut self.picked;
        let rows = batch.logit_rows();
        picked.clear();
        for &row in &rows {
            picked.extend_from_slice(&normed[row * hidden..][..hidden]);
        }
        output.logits.resize(rows.len() * self.spec.vocabulary, 0.0);
        if let Some(head) = self.head.as_ref().filter(|_| !rows.is_empty()) {
            head.run(&self.cpu, picked, rows.len(), activations, &mut output.logits);
        }
    }
}

impl Executor for Production {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn open(&mut self, context: usize) -> Result<SequenceId, ExecutorError> {
        let kv = self.layers.iter().map(Layer::cache).collect();
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
            let mut length = length;
            // a layer that has to go further back takes the others with it
            loop {
                let earlier = sequence.kv.iter().fold(length, |length, cache| cache.earlier(length));
                if earlier == length {
                    break;
                }
                length = earlier;
            }
            sequence.length = length;
            sequence.kv.iter_mut().for_each(|kv| kv.shrink(length));
        }
        Ok(sequence.length)
    }

    fn step(&mut self, batch: &Batch, output: &mut StepOutput) -> Result<(), ExecutorError> {
        let placed = self.sequences.check(batch, &self.spec)?;
        for slice in &placed {
            for kv in &mut self.sequences.get_mut(slice.sequence)?.kv {
                kv.grow(slice.first..slice.end()).map_err(no_memory)?;
            }
        }
        output.hidden.clear();
        self.scratch.resize(batch.rows(), self.spec.hidden);
        let x = &mut self.scratch.x;
        self.embedding.run(&self.cpu, &self.source, batch, &placed, self.spec.hidden, x)?;
        if let Some(inputs) = &self.layer_inputs {
            let Scratch { x, activations, tokens, .. } = &mut self.scratch;
            inputs.run(&self.cpu, &self.source, batch, x, activations, tokens)?;
        }
        for rotation in &mut self.rotations {
            rotation.prepare(placed.iter().flat_map(|slice| slice.first..slice.end()));
        }
        if batch.hidden == Hidden::All {
            output.hidden.push(self.scratch.x.clone());
        }
        let (cpu, rows, rotations) = (&self.cpu, batch.rows(), &self.rotations);
        let step = Step { cpu, placed: &placed, rotations, rows };
        for (index, layer) in self.layers.iter().enumerate() {
            layer.run(&step, index, &mut self.sequences, &mut self.scratch)?;
            if batch.hidden == Hidden::All {
                output.hidden.push(self.scratch.x.clone());
            }
        }
        let Scratch { x, normed, .. } = &mut self.scratch;
        match &self.final_norm {
            Some(norm) => norm.apply(&self.cpu, x, normed),
            None => normed.copy_from_slice(x),
        }
        if batch.hidden != Hidden::None {
            output.hidden.push(normed.clone());
        }
        self.logits(batch, output);
        for slice in placed {
            self.sequences.get_mut(slice.sequence)?.length = slice.end();
        }
        Ok(())
    }

    fn weight_bytes(&self) -> u64 {
        let weights: u64 = self.weights().map(|weights| weights.bytes() as u64).sum();
        weights + self.layers.iter().map(Layer::other_bytes).sum::<u64>()
    }

    fn kv_bytes(&self) -> u64 {
        self.sequences.iter().flat_map(|sequence| &sequence.kv).map(LayerCache::bytes).sum()
    }
}

fn no_memory(error: crate::buffer::OutOfMemory) -> ExecutorError {
    ExecutorError::Memory { what: error.to_string() }
}
