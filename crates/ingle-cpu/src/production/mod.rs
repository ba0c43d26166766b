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
mod join;
mod latent;
mod layer;
mod load;
mod load_experts;
mod load_latent;
mod measure;
mod norm;
mod paged;
mod plain;
mod rotation;
mod seam;
mod state;
mod token_block;

use crate::Cpu;
use crate::matrix::{Needs, View};
use crate::sequences::{Placed, Sequences};
use cache::LayerCache;
use embedding::EmbeddingBlock;
use head::HeadBlock;
use ingle_model::executor::{Batch, CachedState, Executor, ExecutorError, Hidden, SequenceId, StepOutput};
use ingle_model::spec::{KvFormat, ModelSpec};
use ingle_model::{Format, Source};
use join::JoinBlock;
pub use latent::LatentTimes;
use layer::{Layer, Scratch, Step};
pub use load::Progress;
use load::Shared;
use norm::NormWeight;
use rotation::Rotation;
use seam::{Seam, keep_rows};
use state::{State, earlier};
use std::collections::HashSet;
use std::sync::Arc;
use token_block::LayerInputsBlock;

/// Runs a network as fast as the processor allows.
pub struct Production {
    spec: ModelSpec,
    source: Arc<Source>,
    cpu: Arc<Cpu>,
    embedding: EmbeddingBlock,
    join: Option<JoinBlock>,
    layer_inputs: Option<LayerInputsBlock>,
    layers: Vec<Layer>,
    final_norm: Option<NormWeight>,
    head: Option<Arc<HeadBlock>>,
    rotations: Vec<Rotation>,
    sequences: Sequences<Vec<LayerCache>>,
    kv_format: KvFormat,
    scratch: Scratch,
    rows: Rows,
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
        load::load(spec, source, Arc::new(cpu), Shared::default(), progress)
    }

    /// The same with routed experts in no more than `expert_memory` bytes, but always as many as a token uses: those
    /// chosen last are held, the others read from the file when they are chosen. Results are the same.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_paged(
        spec: ModelSpec,
        source: Arc<Source>,
        cpu: Cpu,
        expert_memory: u64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Production, ExecutorError> {
        let expert_share = Some(expert_memory as f64 / spec.expert_bytes().max(1) as f64);
        load::load(spec, source, Arc::new(cpu), Shared { expert_share, head: None }, progress)
    }

    /// Routed experts of all layers that are held in memory at most, and how many there are.
    pub fn experts_held(&self) -> (usize, usize) {
        let experts = self.layers.iter().filter_map(Layer::experts);
        experts.fold((0, 0), |(held, all), block| (held + block.held(), all + block.spec.experts))
    }

    /// Keeps keys and values of sequences that are opened from now on in this format. Latent rows and recurrent states
    /// have one format only.
    pub fn keep_kv_as(&mut self, format: KvFormat) {
        self.kv_format = format;
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

    fn empty_caches(&self) -> Vec<LayerCache> {
        self.layers.iter().map(|layer| layer.cache(self.kv_format)).collect()
    }

    /// All packed weights of its own.
    fn weights(&self) -> impl Iterator<Item = View<'_>> {
        // a further-token block uses its model's
        let head = self.head.iter().filter(|_| self.join.is_none()).map(|head| head.projection.matrix.view());
        let join = self.join.iter().map(|join| join.matrix.view());
        let inputs = self.layer_inputs.iter().map(|inputs| inputs.projection.view());
        self.layers.iter().flat_map(Layer::weights).chain(head).chain(inputs).chain(join)
    }

    /// Takes a step's rows through the network.
    fn run(&mut self, batch: &Batch, rows: &Rows, output: &mut StepOutput) -> Result<(), ExecutorError> {
        // rows of the embedding, and experts where not all are held, are read from the file
        self.source.check()?;
        for slice in &rows.placed {
            for kv in &mut self.sequences.get_mut(slice.sequence)?.kv {
                kv.grow(slice.first..slice.end()).map_err(no_memory)?;
            }
        }
        let cpu = &self.cpu;
        self.scratch.resize(rows.tokens.len(), self.spec.hidden);
        let Scratch { x, activations, tokens, spare, .. } = &mut self.scratch;
        self.embedding.run(cpu, &self.source, (&rows.tokens, &rows.positions), spare, x)?;
        if let Some(join) = &self.join {
            join.run(cpu, batch.beside, x, spare, activations);
        }
        if let Some(inputs) = &self.layer_inputs {
            inputs.run(cpu, &self.source, &rows.tokens, x, activations, tokens)?;
        }
        for rotation in &mut self.rotations {
            rotation.prepare(cpu, &rows.positions);
        }
        output.hidden.clear();
        let keeps_all = batch.hidden == Hidden::All;
        if keeps_all {
            output.hidden.push(self.scratch.x.clone());
        }
        let (rotations, hidden) = (&self.rotations, self.spec.hidden);
        let mut step = Step { cpu, placed: &rows.placed, rotations, rows: rows.tokens.len(), hidden };
        let mut arriving = None;
        for (index, layer) in self.layers.iter().enumerate() {
            // from the last mixer on, rows that nobody asks for are of no use
            let parts = batch.hidden == Hidden::None && layer.parts_rows() && index + 1 == self.layers.len();
            let wanted = parts.then_some(&rows.wanted[..]);
            let (sequences, scratch) = (&mut self.sequences, &mut self.scratch);
            arriving = layer.run(&step, index, arriving, wanted, sequences, scratch)?;
            if let Some(wanted) = wanted {
                step.rows = wanted.len();
            }
            if keeps_all {
                let seam = Seam { join: arriving.take(), norm: None };
                seam.cross(&step, scratch, Needs::default());
                output.hidden.push(scratch.x.clone());
            }
        }
        let seam = Seam { join: arriving, norm: self.final_norm.as_ref() };
        let needs = self.head.as_ref().map_or(Needs::default(), |head| head.projection.matrix.needs());
        let scratch = &mut self.scratch;
        if batch.hidden == Hidden::None {
            if step.rows != rows.wanted.len() {
                keep_rows(scratch, hidden, &rows.wanted);
                step.rows = rows.wanted.len();
            }
            seam.cross(&step, scratch, needs);
        } else {
            seam.cross(&step, scratch, Needs::default());
            output.hidden.push(scratch.normed.clone());
            keep_rows(scratch, hidden, &rows.wanted);
            scratch.activations.prepare(cpu, &scratch.normed, rows.wanted.len(), hidden, needs);
        }
        output.logits.resize(rows.wanted.len() * self.spec.vocabulary, 0.0);
        if let Some(head) = &self.head {
            head.run(cpu, &scratch.activations, &mut output.logits);
        }
        Ok(())
    }
}

/// What a step's rows are. Memory to reuse.
#[derive(Default)]
struct Rows {
    placed: Vec<Placed>,
    tokens: Vec<u32>,
    positions: Vec<usize>,
    /// Those that want logits.
    wanted: Vec<usize>,
}

impl Rows {
    /// Those of a batch that was checked; `placed` is filled.
    fn fill(&mut self, batch: &Batch) {
        let Rows { placed, tokens, positions, wanted } = self;
        tokens.clear();
        tokens.extend(batch.slices.iter().flat_map(|slice| slice.tokens));
        positions.clear();
        positions.extend(placed.iter().flat_map(|slice| slice.first..slice.end()));
        wanted.clear();
        wanted.extend(batch.logit_rows());
    }
}

impl Executor for Production {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn open(&mut self, context: usize) -> Result<SequenceId, ExecutorError> {
        let kv = self.empty_caches();
        Ok(self.sequences.open(context, kv))
    }

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
            let length = earlier(&sequence.kv, length);
            sequence.length = length;
            sequence.kv.iter_mut().for_each(|kv| kv.shrink(length));
        }
        Ok(sequence.length)
    }

    fn step(&mut self, batch: &Batch, output: &mut StepOutput) -> Result<(), ExecutorError> {
        let mut rows = std::mem::take(&mut self.rows);
        let mut done = self.sequences.check(batch, &self.spec, &mut rows.placed);
        if done.is_ok() {
            rows.fill(batch);
            done = self.run(batch, &rows, output);
        }
        if done.is_ok() {
            for slice in &rows.placed {
                self.sequences.get_mut(slice.sequence)?.length = slice.end();
            }
        }
        self.rows = rows;
        done
    }

    fn state(&self, sequence: SequenceId, length: usize) -> Result<Box<dyn CachedState>, ExecutorError> {
        let held = self.sequences.get(sequence).ok_or(ExecutorError::Sequence(sequence.0))?;
        let mut layers = held.kv.clone();
        // a step that failed may have left more room than positions, or a state of no length at all
        let length = earlier(&layers, length.min(held.length));
        layers.iter_mut().for_each(|kv| kv.shrink(length));
        Ok(Box::new(State { length, layers }))
    }

    fn empty_state(&self) -> Result<Box<dyn CachedState>, ExecutorError> {
        Ok(Box::new(State { length: 0, layers: self.empty_caches() }))
    }

    fn resume(&mut self, state: Box<dyn CachedState>, context: usize) -> Result<SequenceId, ExecutorError> {
        let State { length, layers } = State::of(state, self.layers.len())?;
        if length > context {
            return Err(ExecutorError::Context { context, wanted: length });
        }
        let sequence = self.sequences.open(context, layers);
        self.sequences.get_mut(sequence)?.length = length;
        Ok(sequence)
    }

    fn next_token(&self) -> Result<Option<Box<dyn Executor>>, ExecutorError> {
        let Some(network) = self.spec.next_token_network() else { return Ok(None) };
        let (held, all) = self.experts_held();
        let expert_share = (held < all).then_some(held as f64 / all as f64);
        let shared = Shared { expert_share, head: self.head.clone() };
        let mut block = load::load(network, self.source.clone(), self.cpu.clone(), shared, &mut |_| {})?;
        block.keep_kv_as(self.kv_format);
        Ok(Some(Box::new(block)))
    }

    fn weight_bytes(&self) -> u64 {
        let weights: u64 = self.weights().map(|weights| weights.bytes() as u64).sum();
        weights + self.layers.iter().map(Layer::other_bytes).sum::<u64>()
    }

    fn kv_bytes(&self) -> u64 {
        let layers = self.sequences.iter().flat_map(|sequence| &sequence.kv);
        let mut counted = HashSet::new();
        let buffers = layers.flat_map(LayerCache::buffers);
        buffers
            .filter(|&buffer| counted.insert(std::ptr::from_ref(buffer)))
            .map(|buffer| buffer.bytes().len() as u64)
            .sum()
    }
}

fn no_memory(error: crate::buffer::OutOfMemory) -> ExecutorError {
    ExecutorError::Memory { what: error.to_string() }
}
