//! Multi-head latent attention in plain arithmetic, expanded as the definition has it (DeepSeek-V2, arXiv:2405.04434,
//! section 2.1): what is cached per position is the normed latent `c` and one rotated key part `r` for all heads; head
//! `h` has the key `[K_h c | r]` and the value `V_h c`.
//!
//! With an indexer (DeepSeek-V3.2) a row sees only the positions with the best scores
//! `sum_h w_h * relu(q_h . k)`, ties to the lower position.

use super::{Reference, ops};
use crate::attention::select::top_positions;
use crate::sequences::Placed;
use ingle_model::executor::ExecutorError;
use ingle_model::spec::{KeyUpLayout, LatentAttention, Role, SparseIndexer};

/// One layer of one sequence.
#[derive(Clone, Default)]
pub(super) struct LatentCache {
    /// `[positions, kv_rank + rope_dim]`.
    pub(super) latents: Vec<f32>,
    /// `[positions, indexer head_dim]`.
    pub(super) index_keys: Vec<f32>,
}

/// The indexer's view of a step's rows.
struct Index {
    /// `[rows, heads * head_dim]`, rotated.
    queries: Vec<f32>,
    /// `[rows, head_dim]`, normed and rotated.
    keys: Vec<f32>,
    /// `[rows, heads]`, scaled.
    weights: Vec<f32>,
}

impl Reference {
    pub(super) fn latent(
        &mut self,
        x: &[f32],
        latent: &LatentAttention,
        layer: usize,
        placed: &[Placed],
    ) -> Result<Vec<f32>, ExecutorError> {
        let at = Some(layer);
        let query_latent = match latent.query_rank {
            Some(_) => {
                let down = self.project(x, Role::QueryDown, None, at)?;
                self.normed(&down, Some(latent.rank_norm), Role::QueryDownNorm, at)?
            }
            None => x.to_vec(),
        };
        let query_role = if latent.query_rank.is_some() { Role::QueryUp } else { Role::Query };
        let mut queries = self.project(&query_latent, query_role, None, at)?;
        let mut rows = self.project(x, Role::LatentDown, None, at)?;
        let norm = self.values(Role::LatentNorm, at)?;
        let (width, rank) = (latent.kv_rank + latent.rope_dim, latent.kv_rank);
        for row in rows.chunks_exact_mut(width) {
            ops::rms_norm(&mut row[..rank], &norm, latent.rank_norm.epsilon);
        }
        let mut index = match &latent.indexer {
            Some(indexer) => Some(self.index(x, &query_latent, indexer, layer)?),
            None => None,
        };
        let head = latent.nope_dim + latent.rope_dim;
        for slice in placed {
            for row in slice.rows.clone() {
                let position = slice.position(row);
                let rotation = &self.rotations[latent.rope];
                for query in
                    queries[row * latent.heads * head..][..latent.heads * head].chunks_exact_mut(head)
                {
                    rotation.turn(&mut query[latent.nope_dim..], position);
                }
                rotation.turn(&mut rows[row * width + rank..(row + 1) * width], position);
                if let (Some(index), Some(indexer)) = (&mut index, &latent.indexer) {
                    let rotation = &self.rotations[indexer.rope];
                    let all = indexer.heads * indexer.head_dim;
                    let heads = index.queries[row * all..][..all].chunks_exact_mut(indexer.head_dim);
                    heads.for_each(|head| rotation.turn(head, position));
                    let key = &mut index.keys[row * indexer.head_dim..][..indexer.head_dim];
                    rotation.turn(key, position);
                }
            }
        }
        let key_up = self.values(Role::LatentKeyUp, at)?;
        let value_up = self.values(Role::LatentValueUp, at)?;
        let mut out = vec![0.0; x.len() / self.spec.hidden * latent.heads * latent.value_dim];
        for slice in placed {
            let cache = self.sequences.get_mut(slice.sequence)?.kv[layer].latent();
            cache.latents.truncate(slice.first * width); // a failed step may have left rows behind
            cache.latents.extend_from_slice(&rows[slice.rows.start * width..slice.rows.end * width]);
            if let (Some(index), Some(indexer)) = (&index, &latent.indexer) {
                let width = indexer.head_dim;
                cache.index_keys.truncate(slice.first * width);
                let keys = &index.keys[slice.rows.start * width..slice.rows.end * width];
                cache.index_keys.extend_from_slice(keys);
            }
            let expanded = Expanded::new(latent, &key_up, &value_up, &cache.latents);
            for row in slice.rows.clone() {
                let seen = slice.position(row) + 1;
                let positions = match (&index, &latent.indexer) {
                    (Some(index), Some(indexer)) => select(indexer, index, row, &cache.index_keys, seen),
                    _ => (0..seen as u32).collect(),
                };
                for at_head in 0..latent.heads {
                    let query = &queries[(row * latent.heads + at_head) * head..][..head];
                    let out = &mut out[(row * latent.heads + at_head) * latent.value_dim..];
                    expanded.attend(query, at_head, &positions, &mut out[..latent.value_dim]);
                }
            }
        }
        self.project(&out, Role::Output, None, at)
    }

    fn index(
        &self,
        x: &[f32],
        query_latent: &[f32],
        indexer: &SparseIndexer,
        layer: usize,
    ) -> Result<Index, ExecutorError> {
        let at = Some(layer);
        let queries = self.project(query_latent, Role::IndexQuery, None, at)?;
        let keys = self.project(x, Role::IndexKey, None, at)?;
        let keys = self.normed(&keys, Some(indexer.key_norm), Role::IndexKeyNorm, at)?;
        let mut weights = self.project(x, Role::IndexWeights, None, at)?;
        let scale = 1.0 / ((indexer.heads * indexer.head_dim) as f32).sqrt();
        weights.iter_mut().for_each(|weight| *weight *= scale);
        Ok(Index { queries, keys, weights })
    }
}

/// The positions a row attends to, ascending.
fn select(indexer: &SparseIndexer, index: &Index, row: usize, keys: &[f32], seen: usize) -> Vec<u32> {
    let width = indexer.head_dim;
    let queries = &index.queries[row * indexer.heads * width..][..indexer.heads * width];
    let weights = &index.weights[row * indexer.heads..][..indexer.heads];
    let score = |key: &[f32]| {
        let heads = queries.chunks_exact(width).zip(weights);
        heads.map(|(query, weight)| weight * ops::dot(query, key).max(0.0)).sum()
    };
    let scores: Vec<f32> = keys.chunks_exact(width).take(seen).map(score).collect();
    let mut positions = Vec::new();
    top_positions(&scores, indexer.top_k, &mut positions);
    positions
}

/// Keys and values of every head at every cached position.
struct Expanded<'a> {
    latent: &'a LatentAttention,
    /// `[heads, positions, nope_dim]`.
    keys: Vec<f32>,
    /// `[heads, positions, value_dim]`.
    values: Vec<f32>,
    /// `[positions, kv_rank + rope_dim]`.
    latents: &'a [f32],
}

impl<'a> Expanded<'a> {
    fn new(
        latent: &'a LatentAttention,
        key_up: &[f32],
        value_up: &[f32],
        latents: &'a [f32],
    ) -> Expanded<'a> {
        let LatentAttention { heads, kv_rank, nope_dim, value_dim, rope_dim, .. } = *latent;
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for head in 0..heads {
            let key_up = &key_up[head * nope_dim * kv_rank..][..nope_dim * kv_rank];
            let value_up = &value_up[head * value_dim * kv_rank..][..value_dim * kv_rank];
            for row in latents.chunks_exact(kv_rank + rope_dim) {
                let c = &row[..kv_rank];
                keys.extend((0..nope_dim).map(|d| match latent.key_up {
                    KeyUpLayout::Expanding => ops::dot(&key_up[d * kv_rank..][..kv_rank], c),
                    KeyUpLayout::Absorbing => (0..kv_rank).map(|r| key_up[r * nope_dim + d] * c[r]).sum(),
                }));
                values.extend(value_up.chunks_exact(kv_rank).map(|row| ops::dot(row, c)));
            }
        }
        Expanded { latent, keys, values, latents }
    }

    fn attend(&self, query: &[f32], head: usize, positions: &[u32], out: &mut [f32]) {
        let LatentAttention { kv_rank, nope_dim, value_dim, rope_dim, scale, .. } = *self.latent;
        let width = kv_rank + rope_dim;
        let all = self.latents.len() / width;
        let (nope, rope) = query.split_at(nope_dim);
        let score = |&position: &u32| {
            let position = position as usize;
            let key = &self.keys[(head * all + position) * nope_dim..][..nope_dim];
            let turned = &self.latents[position * width + kv_rank..][..rope_dim];
            scale * (ops::dot(nope, key) + ops::dot(rope, turned))
        };
        let mut scores: Vec<f32> = positions.iter().map(score).collect();
        ops::softmax(&mut scores, None);
        for (&position, weight) in positions.iter().zip(scores) {
            let value = &self.values[(head * all + position as usize) * value_dim..][..value_dim];
            out.iter_mut().zip(value).for_each(|(out, value)| *out += weight * value);
        }
    }
}
