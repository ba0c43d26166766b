//! Multi-head latent attention between its projections, with or without the indexer of sparse attention.
#![allow(unsafe_code)] // threads write disjoint parts of one slice

use super::cache::LayerCache;
use super::layer::{self, Step};
use super::norm::NormWeight;
use super::seam::Seam;
use crate::Cpu;
use crate::attention::latent::cache::LatentKv;
use crate::attention::latent::index::{Choice, choose};
use crate::attention::latent::up::LatentUp;
use crate::attention::latent::{Work, absorbed, attend};
use crate::matrix::{Activations, Matrix, Needs, Product, multiply};
use crate::pool::Shares;
use crate::sequences::Sequences;
use half::f16;
use ingle_model::executor::ExecutorError;
use ingle_model::spec::{LatentAttention, Norm, NormKind, SparseIndexer};
use std::time::{Duration, Instant};

/// Packed weights of a latent attention mixer.
pub(super) struct LatentBlock {
    pub(super) spec: LatentAttention,
    pub(super) query: QueryPath,
    pub(super) latent: Matrix,
    pub(super) latent_norm: NormWeight,
    pub(super) up: LatentUp,
    pub(super) output: Matrix,
    pub(super) indexer: Option<IndexerBlock>,
}

/// From a normed row to queries.
pub(super) enum QueryPath {
    /// One matrix.
    Direct(Matrix),
    /// Through a normed row of low rank, which the indexer's queries start from too.
    Ranked { down: Matrix, norm: NormWeight, up: Matrix },
}

/// Packed weights of the indexer.
pub(super) struct IndexerBlock {
    pub(super) spec: SparseIndexer,
    pub(super) query: Matrix,
    pub(super) key: Matrix,
    pub(super) key_norm: Vec<f32>,
    /// Of a layer norm; empty otherwise.
    pub(super) key_norm_bias: Vec<f32>,
    pub(super) weights: Matrix,
}

/// Memory of a step, and where its time went.
#[derive(Default)]
pub(super) struct Scratch {
    query_latents: Vec<f32>,
    queries: Vec<f32>,
    rows: Vec<f32>,
    half_rows: Vec<f16>,
    index_queries: Vec<f32>,
    index_keys: Vec<f32>,
    half_index_keys: Vec<f16>,
    index_weights: Vec<f32>,
    scores: Vec<f32>,
    chosen: Vec<Vec<u32>>,
    attended: Vec<f32>,
    absorbed: absorbed::Scratch,
    pub(super) times: LatentTimes,
}

/// Time that steps spent in the parts of latent attention that depend on the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatentTimes {
    /// Scoring positions and choosing among them.
    pub indexer: Duration,
    /// Attending to them.
    pub attention: Duration,
}

impl LatentBlock {
    /// An empty cache.
    pub(super) fn cache(&self) -> LatentKv {
        let index_width = self.spec.indexer.as_ref().map_or(0, |indexer| indexer.head_dim);
        LatentKv::new(self.spec.kv_rank + self.spec.rope_dim, index_width)
    }

    pub(super) fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        let query = match &self.query {
            QueryPath::Direct(matrix) => [Some(matrix), None],
            QueryPath::Ranked { down, up, .. } => [Some(down), Some(up)],
        };
        let indexer =
            self.indexer.iter().flat_map(|indexer| [&indexer.query, &indexer.key, &indexer.weights]);
        query.into_iter().flatten().chain([&self.latent, &self.output]).chain(indexer)
    }

    /// Across the seam to `block_out`; the step's rows and indexer keys join the caches of layer `index`.
    pub(super) fn run(
        &self,
        step: &Step,
        index: usize,
        seam: &Seam,
        sequences: &mut Sequences<Vec<LayerCache>>,
        scratch: &mut layer::Scratch,
    ) -> Result<Option<&[f32]>, ExecutorError> {
        self.project(step, seam, scratch);
        self.finish_rows(step, &mut scratch.latent);
        self.store(step, index, sequences, &scratch.latent)?;

        let (cpu, rows) = (step.cpu, step.rows);
        let layer::Scratch { latent: own, activations, block_out, .. } = scratch;
        own.attended.resize(rows * self.output.columns(), 0.0);
        for placed in step.placed {
            let kv = &*sequences.get_mut(placed.sequence)?.kv[index].latent()?;
            let start = Instant::now();
            let mut chosen: &[Vec<u32>] = &[];
            if let Some(indexer) = &self.indexer {
                own.chosen.resize_with(rows.max(own.chosen.len()), Vec::new);
                let Scratch { index_queries: queries, index_weights: weights, .. } = own;
                let choice = Choice { spec: &indexer.spec, kv, placed, queries, weights };
                choose(cpu, &choice, &mut own.scores, &mut own.chosen);
                chosen = &own.chosen;
            }
            let chosen_at = Instant::now();
            let work = Work { spec: &self.spec, up: &self.up, kv, placed, queries: &own.queries, chosen };
            attend(cpu, &work, &mut own.absorbed, &mut own.attended);
            own.times.indexer += chosen_at - start;
            own.times.attention += chosen_at.elapsed();
        }
        activations.prepare(cpu, &own.attended, rows, self.output.columns(), self.output.needs());
        multiply(cpu, activations, &mut [Product::new(&self.output, block_out)]);
        Ok(None)
    }

    /// Everything that is made of the step's rows alone, in two regions: what is made of the normed row, then what is
    /// made of the query's low-rank row.
    fn project(&self, step: &Step, seam: &Seam, scratch: &mut layer::Scratch) {
        let (cpu, rows) = (step.cpu, step.rows);
        let (first, second) = match &self.query {
            QueryPath::Direct(matrix) => (matrix, None),
            QueryPath::Ranked { down, norm, up } => (down, Some((norm, up))),
        };
        let mut needs = first.needs() | self.latent.needs();
        if let Some(indexer) = &self.indexer {
            needs |= indexer.key.needs() | indexer.weights.needs();
            needs |= if second.is_none() { indexer.query.needs() } else { Needs::default() };
        }
        seam.cross(step, scratch, needs);

        let layer::Scratch { activations, latent: own, .. } = scratch;
        own.rows.resize(rows * self.latent.rows(), 0.0);
        let first_out = if second.is_some() { &mut own.query_latents } else { &mut own.queries };
        first_out.resize(rows * first.rows(), 0.0);
        let products = [Product::new(first, first_out), Product::new(&self.latent, &mut own.rows)];
        let Some(indexer) = &self.indexer else {
            let mut products = products;
            multiply(cpu, activations, &mut products);
            return self.project_queries(cpu, rows, second, activations, own);
        };
        own.index_keys.resize(rows * indexer.key.rows(), 0.0);
        own.index_weights.resize(rows * indexer.weights.rows(), 0.0);
        own.index_queries.resize(rows * indexer.query.rows(), 0.0);
        let [queries, latents] = products;
        let keys = Product::new(&indexer.key, &mut own.index_keys);
        let weights = Product::new(&indexer.weights, &mut own.index_weights);
        if second.is_some() {
            multiply(cpu, activations, &mut [queries, latents, keys, weights]);
            return self.project_queries(cpu, rows, second, activations, own);
        }
        let index_queries = Product::new(&indexer.query, &mut own.index_queries);
        multiply(cpu, activations, &mut [queries, latents, keys, weights, index_queries]);
    }

    /// Queries, the indexer's too, of the normed low-rank rows, if that is their way.
    fn project_queries(
        &self,
        cpu: &Cpu,
        rows: usize,
        ranked: Option<(&NormWeight, &Matrix)>,
        activations: &mut Activations,
        own: &mut Scratch,
    ) {
        let Some((norm, up)) = ranked else { return };
        let Scratch { query_latents, queries, index_queries, .. } = own;
        let indexer = self.indexer.as_ref().map(|indexer| &indexer.query);
        let needs = indexer.map_or(up.needs(), |indexer| up.needs() | indexer.needs());
        activations.prepare_rows(cpu, query_latents, rows, up.columns(), needs, &|_, row| {
            norm.apply_in_place(cpu, row);
        });
        queries.resize(rows * up.rows(), 0.0);
        let queries = Product::new(up, queries);
        match indexer {
            Some(indexer) => {
                multiply(cpu, activations, &mut [queries, Product::new(indexer, index_queries)]);
            }
            None => multiply(cpu, activations, &mut [queries]),
        }
    }

    /// Of every row, in one region: norms latents and indexer keys, rotates what is rotated, scales the indexer's
    /// weights, and makes what the cache keeps.
    fn finish_rows(&self, step: &Step, own: &mut Scratch) {
        let (cpu, rows) = (step.cpu, step.rows);
        let LatentAttention { heads, nope_dim, rope_dim, kv_rank, rope, .. } = self.spec;
        let rotation = &step.rotations[rope];
        own.half_rows.resize(own.rows.len(), f16::ZERO);
        own.half_index_keys.resize(own.index_keys.len(), f16::ZERO);
        let (query_row, row_values) = (heads * (nope_dim + rope_dim), kv_rank + rope_dim);
        let (queries, latents) = (Shares::new(&mut own.queries), Shares::new(&mut own.rows));
        let half_rows = Shares::new(&mut own.half_rows);
        let index_queries = Shares::new(&mut own.index_queries);
        let index_keys = Shares::new(&mut own.index_keys);
        let index_weights = Shares::new(&mut own.index_weights);
        let half_index_keys = Shares::new(&mut own.half_index_keys);
        cpu.pool.for_chunks(rows, 2, &|_, range| {
            for row in range {
                let part = |width: usize| row * width..(row + 1) * width;
                // SAFETY: in this function, each row belongs to one task.
                let (queries, values, halves) = unsafe {
                    (
                        queries.range(part(query_row)),
                        latents.range(part(row_values)),
                        half_rows.range(part(row_values)),
                    )
                };
                for head in queries.chunks_exact_mut(nope_dim + rope_dim) {
                    rotation.turn(&mut head[nope_dim..], row);
                }
                let (latent, key) = values.split_at_mut(kv_rank);
                self.latent_norm.apply_in_place(cpu, latent);
                rotation.turn(key, row);
                cpu.kernels.to_f16(values, halves);

                let Some(indexer) = &self.indexer else { continue };
                let rotation = &step.rotations[indexer.spec.rope];
                let SparseIndexer { heads, head_dim, .. } = indexer.spec;
                // SAFETY: as above.
                let (queries, key, weights, halves) = unsafe {
                    (
                        index_queries.range(part(heads * head_dim)),
                        index_keys.range(part(head_dim)),
                        index_weights.range(part(heads)),
                        half_index_keys.range(part(head_dim)),
                    )
                };
                queries.chunks_exact_mut(head_dim).for_each(|head| rotation.turn(head, row));
                indexer.norm_key(cpu, key);
                rotation.turn(key, row);
                cpu.kernels.to_f16(key, halves);
                cpu.kernels.scale(weights, 1.0 / (heads as f32 * head_dim as f32).sqrt());
            }
        });
    }

    /// Puts the step's rows and indexer keys into the sequences' caches.
    fn store(
        &self,
        step: &Step,
        index: usize,
        sequences: &mut Sequences<Vec<LayerCache>>,
        own: &Scratch,
    ) -> Result<(), ExecutorError> {
        let width = self.latent.rows();
        for placed in step.placed {
            let kv = sequences.get_mut(placed.sequence)?.kv[index].latent()?;
            for row in placed.rows.clone() {
                kv.store_row(placed.position(row), &own.half_rows[row * width..][..width]);
                if let Some(indexer) = &self.indexer {
                    let key = indexer.spec.head_dim;
                    kv.store_index_key(placed.position(row), &own.half_index_keys[row * key..][..key]);
                }
            }
        }
        Ok(())
    }
}

impl IndexerBlock {
    fn norm_key(&self, cpu: &Cpu, key: &mut [f32]) {
        let Norm { kind, epsilon, .. } = self.spec.key_norm;
        if kind == NormKind::Rms {
            return cpu.kernels.rms_norm_in_place(key, &self.key_norm, epsilon);
        }
        let count = key.len() as f32;
        let mean = key.iter().sum::<f32>() / count;
        let variance = key.iter().map(|value| (value - mean) * (value - mean)).sum::<f32>() / count;
        let factor = 1.0 / (variance + epsilon).sqrt();
        for ((value, weight), bias) in key.iter_mut().zip(&self.key_norm).zip(&self.key_norm_bias) {
            *value = (*value - mean) * factor * weight + bias;
        }
    }
}
